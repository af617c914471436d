// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package volume

import (
	"encoding/binary"
	"syscall"

	"scoutfs/block"
	"scoutfs/format"
	"scoutfs/lock"
)

// Statfs returns space and inode counts as last committed by all mounts. It
// waits for a server. Source: spec filesystem 6.2.
func (v *Volume) Statfs(c *Caller) (Statfs, error) {
	v.m.statfs.Add(1)
	o := v.start(c)
	defer o.end()
	n, err := v.service.Statfs(&o.wait)
	if err != nil {
		return Statfs{}, err
	}
	s := Statfs{
		Type: format.StatfsMagic, Bsize: format.SmallSize, Frsize: format.SmallSize, Namelen: format.MaxNameLen,
		Blocks: n.TotalMeta*format.SmallPerLarge + n.TotalData,
		Bfree:  n.FreeMeta*format.SmallPerLarge + n.FreeData,
		Files:  n.TotalMeta * format.LargeSize / 2048,
		Inodes: n.InodeCount,
	}
	s.Bavail = s.Bfree
	s.Ffree = s.Files - min(s.Files, n.InodeCount)
	var w [4]uint32
	for i := range w {
		w[i] = binary.LittleEndian.Uint32(n.UUID[4*i:])
	}
	s.Fsid = [2]uint32{w[0] ^ w[1], w[2] ^ w[3]}
	return s, nil
}

// readSuper reads and checks the super block on the metadata device.
func (v *Volume) readSuper() (*format.Super, error) {
	buf := block.AlignedBuf(format.SmallSize)
	defer block.FreeBuf(buf)
	dev := v.cache.Device()
	if err := block.ReadAt(dev, buf, int64(format.SuperBlkno)<<format.SmallShift); err != nil {
		return nil, err
	}
	s, err := format.VerifySuper(buf, dev.Name())
	if err != nil {
		return nil, err
	}
	if s.Hdr.Fsid != v.super.Hdr.Fsid || s.FmtVers != v.vers {
		return nil, syscall.EINVAL
	}
	return s, nil
}

// Metadata blocks that the server keeps for itself, and for each mount.
// Source: spec interfaces 1.11.
const (
	reservedServer = 2 * format.AllocListNr
	reservedMount  = format.AllocListNr + format.AllocListNr + 1028 + 913
)

// StatfsMore returns what statfs has no room for. It waits for a server.
func (v *Volume) StatfsMore(c *Caller) (StatfsMore, error) {
	super, err := v.readSuper()
	if err != nil {
		return StatfsMore{}, err
	}
	seq, err := v.service.GetLastSeq(c)
	if err != nil {
		return StatfsMore{}, err
	}
	s := StatfsMore{
		Fsid: super.Hdr.Fsid, Rid: v.rid, CommittedSeq: seq,
		TotalMetaBlocks: super.TotalMetaBlocks, TotalDataBlocks: super.TotalDataBlocks,
	}
	if v.clients != nil {
		if n, serving := v.clients(); serving {
			s.ReservedMetaBlocks = reservedServer + uint64(max(1, n))*reservedMount
		}
	}
	return s, nil
}

// WalkInodes returns up to limit items of an index, IndexMetaSeq or
// IndexDataSeq, from first to last in order of sequence number and inode. It
// stops at the last sequence number that is stable in the whole cluster.
// After at least one item an error is not reported. EINVAL for other indexes.
// Source: spec filesystem 6.4, interfaces 1.2.
func (v *Volume) WalkInodes(c *Caller, index int, first, last WalkEntry, limit int) ([]WalkEntry, error) {
	var typ uint8
	switch index {
	case IndexMetaSeq:
		typ = format.TypeMetaSeq
	case IndexDataSeq:
		typ = format.TypeDataSeq
	default:
		return nil, syscall.EINVAL
	}
	stable, err := v.service.GetLastSeq(c)
	if err != nil {
		return nil, err
	}
	if last.Major > stable {
		last = WalkEntry{stable, format.Ino(format.MaxKeyU64)}
	}
	o := v.start(c)
	defer o.end()
	key, end := indexKey(typ, first.Major, first.Ino), indexKey(typ, last.Major, last.Ino)
	var out []WalkEntry
	for limit > 0 && !end.Less(&key) {
		next, err := o.walkGroup(&out, typ, key, end, limit)
		if err != nil || len(out) >= limit {
			return swallow(out, err)
		}
		if next, err = v.engine.NextHint(c, &next); err != nil {
			if notFound(err) {
				err = nil
			}
			return swallow(out, err)
		}
		if next.Zone != format.ZoneInodeIndex || next.Type != typ {
			break
		}
		key = next
	}
	return out, nil
}

// swallow drops an error if there are results.
func swallow(out []WalkEntry, err error) ([]WalkEntry, error) {
	if len(out) > 0 {
		err = nil
	}
	return out, err
}

// walkGroup appends the items from key to end that the lock of key covers.
// It returns the key after them.
func (o *op) walkGroup(out *[]WalkEntry, typ uint8, key, end format.Key, limit int) (format.Key, error) {
	lk, err := o.acquire(lock.Index(typ, key.Second), format.LockRead)
	if err != nil {
		return key, err
	}
	defer o.releaseFrom(o.nlocks - 1)
	after := lk.End.Inc()
	for len(*out) < limit {
		o.key, o.last = key, end
		_, err := o.v.engine.Next(&o.wait, lk, &o.key, &o.last, o.buf[:0])
		if notFound(err) {
			break
		}
		if err != nil {
			return key, err
		}
		*out = append(*out, WalkEntry{o.key.Second, format.Ino(o.key.Third)})
		key = o.key.Inc()
		if !lk.Covers(&key) {
			break
		}
	}
	return after, nil
}

// InoPath returns the path of ino by its first entry at or after (dir, pos).
// EPERM without CAP_DAC_READ_SEARCH, ENOENT if there is no such entry,
// ENAMETOOLONG if the path with a NUL has more than limit bytes, ELOOP if
// directories above are being removed. Source: spec filesystem 3.5.
func (v *Volume) InoPath(c *Caller, ino, dir format.Ino, pos uint64, limit int) (Path, error) {
	if !c.Has(CapDacReadSearch) {
		return Path{}, syscall.EPERM
	}
	o := v.start(c)
	defer o.end()
	for range maxRestarts {
		p, err := o.inoPath(ino, dir, pos, limit)
		if err != errAgain {
			return p, err
		}
	}
	v.m.backrefRetries.Add(1)
	return Path{}, syscall.ELOOP
}

// inoPath is one walk to the root. errAgain if a parent has no entry.
func (o *op) inoPath(ino, dir format.Ino, pos uint64, limit int) (p Path, err error) {
	var names []string
	total := 1
	for at := ino; at == ino || at != format.RootIno; {
		d, parent, name, err := o.lockedBackref(at, dir, pos)
		switch {
		case notFound(err) && len(names) == 0:
			return p, syscall.ENOENT
		case notFound(err):
			return p, errAgain
		case err != nil:
			return p, err
		}
		if len(names) == 0 {
			p.DirIno, p.DirPos = parent, d.Pos
		} else {
			total++
		}
		if total += len(name); total > limit {
			return p, syscall.ENAMETOOLONG
		}
		names = append(names, string(name))
		if parent == ino && at != ino {
			return p, errAgain // it was moved while we walked
		}
		at, dir, pos = parent, 0, 0
	}
	p.Path = make([]byte, 0, total)
	for i := len(names) - 1; i >= 0; i-- {
		p.Path = append(p.Path, names[i]...)
		if i > 0 {
			p.Path = append(p.Path, '/')
		}
	}
	return p, nil
}

// lockedBackref is firstBackref under a lock of its own.
func (o *op) lockedBackref(ino, dir format.Ino, pos uint64) (format.DirentHdr, format.Ino, []byte, error) {
	n := o.nlocks
	lk, err := o.lockRead(ino)
	if err != nil {
		return format.DirentHdr{}, 0, nil, err
	}
	defer o.releaseFrom(n)
	return o.firstBackref(lk, ino, dir, pos)
}

// ReferringEntries returns up to limit entries that lead to ino, from (dir,
// pos) on, in order. EPERM without CAP_DAC_READ_SEARCH.
func (v *Volume) ReferringEntries(c *Caller, ino, dir format.Ino, pos uint64, limit int) ([]Referring, error) {
	if !c.Has(CapDacReadSearch) {
		return nil, syscall.EPERM
	}
	o := v.start(c)
	defer o.end()
	lk, err := o.lockRead(ino)
	if err != nil {
		return nil, err
	}
	var out []Referring
	for {
		d, parent, name, err := o.firstBackref(lk, ino, dir, pos)
		if notFound(err) {
			if len(out) > 0 {
				out[len(out)-1].Last = true
			}
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		if len(out) >= limit {
			return out, nil
		}
		out = append(out, Referring{DirIno: parent, DirPos: d.Pos, Ino: ino, Type: format.DirentDT(d.Type), Name: string(name)})
		dir, pos = parent, d.Pos+1
		if pos == 0 {
			dir++
		}
	}
}

// Extents returns up to limit extents of a file that end after block iblock,
// as they are stored, also behind the end of the file.
func (v *Volume) Extents(c *Caller, ino format.Ino, iblock uint64, limit int) ([]Extent, error) {
	o := v.start(c)
	defer o.end()
	lk, err := o.lockRead(ino)
	if err != nil {
		return nil, err
	}
	st := &v.stripes[stripeOf(ino)]
	st.RLock()
	defer st.RUnlock()
	var in format.Inode
	if err := o.readInode(lk, ino, &in); err != nil {
		return nil, err
	}
	var out []Extent
	for len(out) < limit {
		e, err := o.nextExtent(v.engine, lk, ino, iblock)
		if notFound(err) {
			break
		}
		if err != nil {
			return nil, err
		}
		out = append(out, e)
		iblock = e.end()
	}
	return out, nil
}
