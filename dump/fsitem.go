// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package dump

import (
	"bytes"

	"scoutfs/format"
)

// fsItem prints an item of fs_root or of a log tree.
func (p *printer) fsItem(it *item) {
	flag := '-'
	if it.flags&format.ItemFlagDeletion != 0 {
		flag = 'd'
	}
	p.f("    %s %d %c\n", it.key, it.seq, flag)
	if p.ref(it) || flag == 'd' {
		return
	}
	if decode := p.fsDecoder(&it.key); decode == nil || !decode(it) {
		p.bad(it.blkno, "item %s with a value of %d bytes is not known", it.key, len(it.val))
	}
}

// fsDecoder is what prints an item of the key's zone and type; it returns false
// for a value that it does not understand.
func (p *printer) fsDecoder(k *format.Key) func(*item) bool {
	switch k.Zone {
	case format.ZoneInodeIndex:
		return p.indexItem
	case format.ZoneOrphan:
		return p.orphanItem
	case format.ZoneQuota:
		return p.quotaItem
	case format.ZoneTotl:
		return p.totlItem
	case format.ZoneXattrIndex:
		return p.xattrIndexItem
	case format.ZoneFS:
		switch k.Type {
		case format.TypeInode:
			return p.inodeItem
		case format.TypeXattr:
			return p.xattrItem
		case format.TypeDirent, format.TypeReaddir, format.TypeBackref:
			return p.direntItem
		case format.TypeSymlink:
			return p.symlinkItem
		case format.TypeExtent:
			return p.dataExtentItem
		}
	}
	return nil
}

func (p *printer) indexItem(it *item) bool {
	p.f("      index: major %d ino %d\n", it.key.Second, it.key.Third)
	return true
}

func (p *printer) orphanItem(it *item) bool {
	p.f("      orphan: ino %d\n", it.key.Second)
	return true
}

func (p *printer) quotaItem(it *item) bool {
	r, ok := format.Load[format.QuotaRule](it.val)
	if !ok {
		return false
	}
	p.f("    quota rule: hash 0x%016x coll_nr %d\n      [%d", it.key.Second, it.key.Third, r.Prio)
	for i := range r.NameVal {
		p.f(" %d,%d,%d", r.NameVal[i], r.NameSource[i], r.NameFlags[i])
	}
	p.f(" %d %d %d]\n", r.Op, r.Limit, r.RuleFlags)
	return true
}

func (p *printer) totlItem(it *item) bool {
	t, ok := format.Load[format.Totl](it.val)
	if !ok {
		return false
	}
	p.f("    xattr totl: %d.%d.%d = %d, %d\n", it.key.First, it.key.Second, it.key.Third, int64(t.Total), int64(t.Count))
	return true
}

// xattrIndexItem prints no newline, as the original.
func (p *printer) xattrIndexItem(it *item) bool {
	major, minor, ino, id := it.key.XattrIndex()
	p.f("    xattr indx: major %d minor %d ino %d xid %d", major, minor, ino, id)
	return true
}

func (p *printer) inodeItem(it *item) bool {
	in, ok := format.LoadInode(it.val, format.MaxVersion)
	if !ok {
		return false
	}
	p.f("    inode: ino %d size %d version %d proj %d nlink %d\n", it.key.First, in.Size, in.Version, in.Proj, in.Nlink)
	p.f("      uid %d gid %d mode 0%o rdev 0x%x flags 0x%x\n", in.UID, in.GID, in.Mode, in.Rdev, in.Flags)
	p.f("      next_readdir_pos %d meta_seq %d data_seq %d data_version %d\n", in.NextReaddirPos, in.MetaSeq, in.DataSeq, in.DataVersion)
	p.f("      atime %d.%08d ctime %d.%08d\n", in.Atime.Sec, in.Atime.Nsec, in.Ctime.Sec, in.Ctime.Nsec)
	p.f("      mtime %d.%08d\n", in.Mtime.Sec, in.Mtime.Nsec)
	return true
}

func (p *printer) xattrItem(it *item) bool {
	k := &it.key
	p.f("    xattr: ino %d name_hash %08x id %d part %d\n", k.First, k.Second, k.Third, k.Fourth)
	if k.Fourth != 0 {
		return true
	}
	h, name, _, ok := format.ParseXattr(it.val)
	if ok {
		p.f("      name_len %d val_len %d name %s\n", h.NameLen, h.ValLen, printable(name))
	}
	return ok
}

func (p *printer) direntItem(it *item) bool {
	d, name, ok := format.ParseDirent(it.val)
	if ok {
		p.f("    dirent: dir %d hash %016x pos %d type %d ino %d\n", it.key.First, d.Hash, d.Pos, d.Type, d.Ino)
		p.f("      name %s\n", printable(name))
	}
	return ok
}

func (p *printer) symlinkItem(it *item) bool {
	target, _, _ := bytes.Cut(it.val, []byte{0})
	p.f("    symlink: ino %d nr %d\n      target %s\n", it.key.First, it.key.Second, printable(target))
	return true
}

func (p *printer) dataExtentItem(it *item) bool {
	e, ok := format.Load[format.Extent](it.val)
	if ok {
		p.f("    extent: ino %d iblock %d len %d blkno %d flags %d\n", it.key.First, it.key.Second-it.key.Third+1, it.key.Third, e.Blkno, e.Flags)
	}
	return ok
}

// printable is b, cut to the length of a name, with dots for what is not ASCII
// text.
func printable(b []byte) []byte {
	out := bytes.Clone(b[:min(len(b), format.MaxNameLen)])
	for i, c := range out {
		if c < ' ' || c > '~' {
			out[i] = '.'
		}
	}
	return out
}
