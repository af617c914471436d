// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package check_test

import (
	"bytes"

	"scoutfs/check"
	"scoutfs/format"
)

// subEntry is the directory entry "sub", in dirIno at position 2.
func subEntry() format.DirentHdr {
	return format.DirentHdr{Ino: subIno, Hash: format.NameHash("sub"), Pos: 2, Type: format.DirentDir}
}

var fsBreakages = []breakage{
	{rule: 25, name: "root is no directory", want: "inode 1: key 16.1.4.0.0.0: the root has mode 100644", also: []int{28, 29, 30, 32}, do: func(v *vol) {
		v.changeInode(1, func(in *format.Inode) { in.Mode = 0o100644 })
	}},
	{rule: 25, name: "root has a backref", want: "the root has a backref", also: []int{28}, do: func(v *vol) {
		val := format.AppendDirent(nil, format.DirentHdr{Ino: 1, Pos: 7, Type: format.DirentDir}, "x")
		v.setFS(itemMap{format.KeyBackref(1, 1, 7): val})
	}},
	{rule: 25, name: "no root", want: "the root directory has no inode item", also: []int{26, 27, 28, 29, 32}, do: func(v *vol) { v.setFS(itemMap{format.KeyInode(1): nil}) }},
	{rule: 26, name: "inode count", want: "there are 1506 inodes", do: func(v *vol) { v.setSuper(func(s *format.Super) { s.InodeCount++ }) }},
	{rule: 27, name: "no inode", want: "inode 1500: key", do: func(v *vol) { v.setFS(xattrItems(itemMap{}, 1500, 0, "user.lost", "x")) }},
	{rule: 28, name: "items differ", want: "by name and by position differ", do: func(v *vol) {
		d := subEntry()
		d.Type = format.DirentReg
		v.setFS(itemMap{format.KeyReaddir(dirIno, 2): format.AppendDirent(nil, d, "sub")})
	}},
	{rule: 28, name: "backref differs", want: "and the backref of inode 1028 differ", do: func(v *vol) {
		v.setFS(itemMap{format.KeyBackref(subIno, dirIno, 2): format.AppendDirent(nil, subEntry(), "buS")})
	}},
	{rule: 28, name: "no backref", want: "leads to inode 1028, which has no backref", also: []int{29}, do: func(v *vol) { v.setFS(itemMap{format.KeyBackref(subIno, dirIno, 2): nil}) }},
	{rule: 28, name: "no item by position", want: "no item by position", do: func(v *vol) { v.setFS(itemMap{format.KeyReaddir(dirIno, 2): nil}) }},
	{rule: 28, name: "no item by name", want: "no item by name", also: []int{29, 30}, do: func(v *vol) {
		v.setFS(itemMap{format.KeyDirent(dirIno, format.NameHash("sub"), 2): nil})
	}},
	{rule: 28, name: "position", want: "position 2 is not in 2 to 1", do: func(v *vol) { v.changeInode(dirIno, func(in *format.Inode) { in.NextReaddirPos = 2 }) }},
	{rule: 28, name: "name", want: `"a/b" is not allowed`, do: func(v *vol) { v.rename("a/b") }},
	{rule: 28, name: "type", want: "is of type 4", also: []int{29, 30, 32, 33}, do: func(v *vol) { v.changeInode(subIno, func(in *format.Inode) { in.Mode = 0o100644 }) }},
	{rule: 29, name: "nlink", want: "inode 1026: nlink is 5, there are 1 backrefs", do: func(v *vol) { v.changeInode(symIno, func(in *format.Inode) { in.Nlink = 5 }) }},
	{rule: 29, name: "directory's nlink", want: "nlink 4 and 1 subdirectories", do: func(v *vol) { v.changeInode(dirIno, func(in *format.Inode) { in.Nlink = 4 }) }},
	{rule: 29, name: "cycle", want: "not reachable from the root", do: func(v *vol) {
		// "dir" moves from the root into "sub", which it contains.
		old := format.DirentHdr{Ino: dirIno, Hash: format.NameHash("dir"), Pos: 2, Type: format.DirentDir}
		now := old
		now.Pos = 5000
		val := format.AppendDirent(nil, now, "dir")
		v.setFS(itemMap{
			format.KeyDirent(1, old.Hash, 2): nil, format.KeyReaddir(1, 2): nil, format.KeyBackref(dirIno, 1, 2): nil,
			format.KeyDirent(subIno, old.Hash, 5000): val, format.KeyReaddir(subIno, 5000): val, format.KeyBackref(dirIno, subIno, 5000): val,
		})
		v.changeInode(1, func(in *format.Inode) { in.Nlink--; in.Size -= 3 })
		v.changeInode(subIno, func(in *format.Inode) { in.Nlink++; in.Size += 3; in.NextReaddirPos = 5001 })
	}},
	{rule: 30, name: "directory size", want: "directory of size 4, the names have 10 bytes", do: func(v *vol) { v.changeInode(dirIno, func(in *format.Inode) { in.Size = 4 }) }},
	{rule: 30, name: "symlink", want: "only NUL", do: func(v *vol) {
		v.changeFS(format.KeySymlink(symIno, 0), func(val []byte) []byte { return append([]byte{0}, val[1:]...) })
	}},
	{rule: 30, name: "symlink part", want: "not dense", do: func(v *vol) { v.setFS(itemMap{format.KeySymlink(symIno, 1): nil}) }},
	{rule: 31, name: "no orphan", sev: check.Warning, want: "nlink is 0, but there is no orphan item", do: func(v *vol) { v.setFS(itemMap{format.KeyOrphan(orphanIno): nil}) }},
	{rule: 31, name: "orphan", want: "orphan item, but nlink is 1", do: func(v *vol) { v.setFS(itemMap{format.KeyOrphan(symIno): {}}) }},
	{rule: 31, name: "orphan without inode", want: "inode 4000: orphan item, but the inode does not exist", do: func(v *vol) { v.setFS(itemMap{format.KeyOrphan(4000): {}}) }},
	{rule: 32, name: "no index", want: "no index item at meta_seq 10", do: func(v *vol) { v.setFS(itemMap{format.KeyMetaSeq(10, symIno): nil}) }},
	{rule: 32, name: "two indexes", want: "index item at data_seq 11, the inode has 10", do: func(v *vol) { v.setFS(itemMap{format.KeyDataSeq(11, orphanIno): {}}) }},
	{rule: 32, name: "index of a symlink", want: "index item at data_seq 10", do: func(v *vol) { v.setFS(itemMap{format.KeyDataSeq(10, symIno): {}}) }},
	{rule: 32, name: "index without inode", want: "does not exist", do: func(v *vol) { v.setFS(itemMap{format.KeyDataSeq(10, 19000): {}}) }},
	{rule: 33, name: "online", want: "the extents have 0 and 0", do: func(v *vol) { v.changeInode(orphanIno, func(in *format.Inode) { in.OnlineBlocks = 3 }) }},
	{rule: 33, name: "overlap", want: "but the extent before ends at 119", do: func(v *vol) { v.moveExtent(format.KeyExtent(fileIno, 204, 5), format.KeyExtent(fileIno, 122, 5)) }},
	{rule: 33, name: "flags", want: "block 0 with flags 0x2", also: []int{}, do: func(v *vol) {
		v.changeFS(format.KeyExtent(fileIno, 119, 100), func([]byte) []byte { return bytes.Clone(format.Bytes(&format.Extent{Flags: 2})) })
	}},
	{rule: 33, name: "mergeable", sev: check.Warning, want: "could be merged", do: func(v *vol) {
		off := bytes.Clone(format.Bytes(&format.Extent{Flags: format.ExtentOffline}))
		v.setFS(itemMap{format.KeyExtent(fileIno, 119, 100): nil, format.KeyExtent(fileIno, 49, 30): off, format.KeyExtent(fileIno, 119, 70): off})
	}},
	{rule: 33, name: "outside", want: "outside of blocks 64 to", also: []int{21}, do: func(v *vol) {
		v.changeFS(format.KeyExtent(fileIno, 14, 5), func([]byte) []byte {
			return bytes.Clone(format.Bytes(&format.Extent{Blkno: 1 << 50, Flags: format.ExtentUnwritten}))
		})
	}},
	{rule: 33, name: "symlink", want: "extent of an inode with mode 120777", do: func(v *vol) {
		v.setFS(itemMap{format.KeyExtent(symIno, 119, 100): bytes.Clone(format.Bytes(&format.Extent{Flags: format.ExtentOffline}))})
		v.changeInode(symIno, func(in *format.Inode) { in.OfflineBlocks = 100 })
	}},
	{rule: 34, name: "id", want: "next_xattr_id is 2", do: func(v *vol) { v.setFS(xattrItems(itemMap{}, dirIno, 2, "user.late", "x")) }},
	{rule: 34, name: "part", want: "part 1 is missing", do: func(v *vol) { v.setFS(itemMap{format.KeyXattr(fileIno, format.XattrNameHash("user.big"), 0, 1): nil}) }},
	{rule: 34, name: "last part", want: "bytes instead of 2016", do: func(v *vol) { v.setFS(itemMap{format.KeyXattr(fileIno, format.XattrNameHash("user.big"), 0, 2): nil}) }},
	{rule: 34, name: "part size", want: "part of 5 bytes instead of 896", do: func(v *vol) {
		v.setFS(itemMap{format.KeyXattr(fileIno, format.XattrNameHash("user.big"), 0, 1): make([]byte, 5)})
	}},
	{rule: 34, name: "name hash", want: "the hash of the name", do: func(v *vol) {
		val := v.get(v.super().FSRoot, format.KeyXattr(fileIno, format.XattrNameHash("user.small"), 1, 0))
		v.setFS(itemMap{format.KeyXattr(fileIno, format.XattrNameHash("user.small"), 1, 0): nil, format.KeyXattr(fileIno, 5, 1, 0): val})
	}},
	{rule: 34, name: "same name", want: "twice", do: func(v *vol) {
		v.setFS(xattrItems(itemMap{}, symIno, 0, "user.a", "x"))
		v.setFS(xattrItems(itemMap{}, symIno, 1, "user.a", "y"))
		v.changeInode(symIno, func(in *format.Inode) { in.NextXattrID = 2 })
	}},
	{rule: 34, name: "tags", want: "tags of the name", do: func(v *vol) { v.newXattr("scoutfs.nothing.here", "") }},
	{rule: 34, name: "totl value", want: "cannot be parsed", do: func(v *vol) { v.newXattr("scoutfs.totl.x.1.2.3", "12x") }},
	{rule: 35, name: "total", want: "totals: key 12.1.0.2.3.0: total 117 count 2, the xattrs give total 116 count 2", do: func(v *vol) {
		v.setFS(itemMap{format.KeyTotl(1, 2, 3): bytes.Clone(format.Bytes(&format.Totl{Total: 101, Count: 1}))})
	}},
	{rule: 35, name: "no xattr", want: "the xattrs give total 0 count 0", do: func(v *vol) {
		v.setFS(itemMap{format.KeyTotl(9, 9, 9): bytes.Clone(format.Bytes(&format.Totl{Total: 1, Count: 1}))})
	}},
	{rule: 35, name: "no total", want: "total 0 count 0, the xattrs give total 4 count 1", do: func(v *vol) { v.newXattr("scoutfs.totl.x.4.5.6", "4") }},
	{rule: 36, name: "no index", want: "has no index item", do: func(v *vol) { v.setFS(itemMap{format.KeyXattrIndex(7, 1000, fileIno, 4): nil}) }},
	{rule: 36, name: "no xattr", want: "index item, but there is no such xattr", do: func(v *vol) { v.setFS(itemMap{format.KeyXattrIndex(7, 1000, fileIno, 3): {}}) }},
	{rule: 36, name: "no inode", sev: check.Warning, want: "the inode does not exist", do: func(v *vol) { v.setFS(itemMap{format.KeyXattrIndex(7, 1000, 777, 3): {}}) }},
	{rule: 37, name: "no entry", want: "even number of times", do: func(v *vol) { v.newXattr("scoutfs.srch.new", "") }},
	{rule: 38, name: "hash", want: "the hash of the rule is", do: func(v *vol) {
		v.setFS(itemMap{format.KeyQuota(5, 0): bytes.Clone(format.Bytes(&format.QuotaRule{}))})
	}},
	{rule: 38, name: "op", want: "op 7", do: func(v *vol) {
		r := format.QuotaRule{Op: 7}
		v.setFS(itemMap{format.KeyQuota(r.Hash(), 0): bytes.Clone(format.Bytes(&r))})
	}},
	{rule: 39, name: "next_ino", want: "inode 3499: key 16.3499.4.0.0.0: the super's next_ino is 3499", do: func(v *vol) { v.setSuper(func(s *format.Super) { s.NextIno = 3499 }) }},
	{rule: 39, name: "long inode", version: 1, want: "inode of format version 2", do: func(v *vol) {
		v.changeFS(format.KeyInode(symIno), func(val []byte) []byte { return append(bytes.Clone(val), make([]byte, 8)...) })
	}},
	{rule: 39, name: "quota rule", version: 1, want: "does not have such items", do: func(v *vol) {
		r := format.QuotaRule{Op: 1}
		v.setFS(itemMap{format.KeyQuota(r.Hash(), 0): bytes.Clone(format.Bytes(&r))})
	}},
	{rule: 39, name: "retention", version: 1, want: "retention", do: func(v *vol) { v.changeInode(orphanIno, func(in *format.Inode) { in.Flags = format.InodeRetention }) }},
	{rule: 39, name: "indx", version: 1, want: "indx xattr", do: func(v *vol) { v.newXattr("scoutfs.indx.x.1.2", "") }},
}

// newXattr gives the symlink an xattr, without what its tags need.
func (v *vol) newXattr(name, value string) {
	v.setFS(xattrItems(itemMap{}, symIno, 0, name, value))
	v.changeInode(symIno, func(in *format.Inode) { in.NextXattrID = 1 })
}

// rename changes the name of "sub" in all three items.
func (v *vol) rename(name string) {
	d := subEntry()
	set := itemMap{format.KeyDirent(dirIno, d.Hash, 2): nil}
	d.Hash = format.NameHash(name)
	val := format.AppendDirent(nil, d, name)
	set[format.KeyDirent(dirIno, d.Hash, 2)], set[format.KeyReaddir(dirIno, 2)], set[format.KeyBackref(subIno, dirIno, 2)] = val, val, val
	v.setFS(set)
}

func (v *vol) moveExtent(from, to format.Key) {
	val := v.get(v.super().FSRoot, from)
	v.setFS(itemMap{from: nil, to: val})
}

var srchBreakages = []breakage{
	{rule: 37, name: "entry without xattr", sev: check.Warning, want: "but there is no such xattr", do: func(v *vol) {
		v.setFS(itemMap{format.KeyXattr(dirIno, format.XattrNameHash("scoutfs.srch.other"), 0, 0): nil})
	}},
	{rule: 40, name: "entries", want: "the file says 9002 entries, the blocks have 9001", do: func(v *vol) {
		v.changeSrch(func(f *format.SrchFile) { f.Entries++ })
	}},
	{rule: 40, name: "bounds", want: "the file says entries from", do: func(v *vol) { v.changeSrch(func(f *format.SrchFile) { f.Last.Hash++ }) }},
	{rule: 40, name: "height", want: "height 0 and block", do: func(v *vol) { v.changeSrch(func(f *format.SrchFile) { f.Height = 0 }) }},
	{rule: 40, name: "cut off", want: "is cut off", do: func(v *vol) { v.srchBlock(func(b []byte) { b[104+1] ^= 0x40 }) }},
	{rule: 40, name: "entry_bytes", want: "entry_bytes is", do: func(v *vol) { v.srchBlock(func(b []byte) { b[108]++ }) }},
	{rule: 40, name: "tail", want: "the header says", do: func(v *vol) { v.srchBlock(func(b []byte) { b[80]++ }) }},
	{rule: 40, name: "compaction", want: "are no phase", do: func(v *vol) { v.changeCompact(func(c *format.SrchCompact) { c.Flags = 0 }) }},
	{rule: 40, name: "compaction input", want: "is no file of srch_root", do: func(v *vol) { v.changeCompact(func(c *format.SrchCompact) { c.In[0].File.Ref.Seq++ }) }},
}
