// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package check

import (
	"scoutfs/format"
)

// inodeCheck is what is known of the inode whose items are coming. They come by
// type: inode, xattrs, entries by name, entries by position, backrefs, symlink
// parts, extents.
type inodeCheck struct {
	any  bool
	have bool // it has an inode item
	lost bool // that it has none was found
	ino  format.Ino
	in   format.Inode
	at   place

	backrefs uint64
	parent   format.Ino // of the first backref
	dir      dirCheck
	x        xattrCheck

	symNext  uint64 // part
	symBytes uint64
	symLast  int  // bytes of the last part
	symNUL   bool // a part so far ended in NUL
	symBad   bool

	extEnd          uint64 // first block behind the last extent
	ext             format.Extent
	extLen          uint64
	online, offline uint64

	indexes []xattrIndex
	entries []format.SrchEntry
}

const (
	modeType    = 0o170000
	modeDir     = 0o040000
	modeReg     = 0o100000
	modeSymlink = 0o120000
)

func (n *inodeCheck) is(mode uint32) bool { return n.have && n.in.Mode&modeType == mode }

// beginInode takes from the arrays what belongs to an inode.
func (f *fsCheck) beginInode(ino format.Ino) {
	names := f.cur.x.names[:0]
	entries := f.cur.dir.entries[:0]
	f.cur = inodeCheck{any: true, ino: ino, at: place{structure: inodeName(ino)}}
	f.cur.x.names, f.cur.dir.entries = names, entries
	f.cur.indexes = f.indexes.upTo(ino, f.lostXattrIndex)
	f.cur.entries = f.entries.upTo(ino, f.lostEntry)
}

// inodeItem takes an item of zone 16.
func (f *fsCheck) inodeItem(key *format.Key, val []byte) {
	n := &f.cur
	p := place{structure: n.at.structure, key: key}
	if key.Type != format.TypeInode && !n.have && !n.lost {
		f.absent(Error, 27, p, "item of an inode that has no inode item")
		n.lost = true
	}
	switch key.Type {
	case format.TypeInode:
		in, ok := format.LoadInode(val, format.MaxVersion)
		if ok { // else rule 13
			n.have, n.in = true, in
			f.inode(p)
		}
	case format.TypeXattr:
		f.xattrPart(p, key, val)
	case format.TypeDirent:
		f.dirent(p, key, val)
	case format.TypeReaddir:
		f.readdir(p, key, val)
	case format.TypeBackref:
		f.backref(p, key, val)
	case format.TypeSymlink:
		f.symlinkPart(p, key, val)
	case format.TypeExtent:
		f.extent(p, key, val)
	}
}

// inode checks an inode item on its own. Rules 25, 31, 32, 39.
func (f *fsCheck) inode(p place) {
	n := &f.cur
	f.inodes++
	if n.ino >= f.c.super.NextIno {
		f.c.err(39, p, "the super's next_ino is %d", f.c.super.NextIno)
	}
	if f.c.super.FmtVers < 2 && (n.in.Flags&format.InodeRetention != 0 || n.in.Proj != 0) {
		f.c.err(39, p, "retention or a project in a volume of format version 1")
	}
	if n.ino == format.RootIno {
		f.root = true
		if !n.is(modeDir) {
			f.c.err(25, p, "the root has mode %o and is no directory", n.in.Mode)
		}
	}
	f.checkIndex(p, "meta_seq", n.in.MetaSeq, true, f.metaSeqs.upTo(n.ino, f.lostIndex("meta_seq")))
	f.checkIndex(p, "data_seq", n.in.DataSeq, n.is(modeReg), f.dataSeqs.upTo(n.ino, f.lostIndex("data_seq")))
	orphan := len(f.orphans.upTo(n.ino, f.lostOrphan)) > 0
	switch {
	case orphan && n.in.Nlink > 0:
		f.absent(Error, 31, p, "orphan item, but nlink is %d", n.in.Nlink)
	case !orphan && n.in.Nlink == 0:
		f.absent(Warning, 31, p, "nlink is 0, but there is no orphan item")
	}
}

// checkIndex checks an inode's items of one index. Rule 32.
func (f *fsCheck) checkIndex(p place, field string, seq uint64, want bool, items []indexItem) {
	found := false
	for _, x := range items {
		if want && x.seq == seq {
			found = true
			continue
		}
		f.absent(Error, 32, p, "index item at %s %d, the inode has %d", field, x.seq, seq)
	}
	if want && !found {
		f.absent(Error, 32, p, "no index item at %s %d", field, seq)
	}
}

// symlinkPart checks a part of a target. Rule 30.
func (f *fsCheck) symlinkPart(p place, key *format.Key, val []byte) {
	n := &f.cur
	full := n.symNext == 0 || n.symLast == format.MaxValue
	if key.Second != n.symNext || !full || n.symNUL {
		n.symBad = true
	}
	for i, b := range val {
		if b == 0 && (i != len(val)-1 || n.symNUL) {
			n.symBad = true
		}
	}
	n.symNUL = len(val) > 0 && val[len(val)-1] == 0
	n.symNext, n.symLast = key.Second+1, len(val)
	n.symBytes += uint64(len(val))
	if n.have && !n.is(modeSymlink) && full && n.symBytes == uint64(len(val)) {
		f.c.err(30, p, "part of a symlink's target, but the mode is %o", n.in.Mode)
	}
}

// endInode checks what needs all items of an inode.
func (f *fsCheck) endInode() {
	n := &f.cur
	if !n.any {
		return
	}
	f.endXattr()
	f.endTags()
	f.endDir()
	if !n.have {
		return
	}
	f.endLinks()
	if n.is(modeSymlink) && (n.symBad || !n.symNUL || n.symBytes != n.in.Size || n.in.Size > format.MaxSymlink) {
		f.absent(Error, 30, n.at, "the target's parts are not dense, not %d bytes, or do not end in the only NUL", n.in.Size)
	}
	if n.online != n.in.OnlineBlocks || n.offline != n.in.OfflineBlocks {
		f.absent(Error, 33, n.at, "%d online and %d offline blocks, the extents have %d and %d",
			n.in.OnlineBlocks, n.in.OfflineBlocks, n.online, n.offline)
	}
}

// extent checks a data extent. Rule 33.
func (f *fsCheck) extent(p place, key *format.Key, val []byte) {
	n, c := &f.cur, f.c
	e, ok := format.Load[format.Extent](val)
	if !ok {
		return // rule 13
	}
	last, count := key.Second, key.Third
	if count == 0 || last > format.MaxIblock || count > last+1 {
		c.err(33, p, "%d blocks that end with block %d", count, last)
		return
	}
	start := last - count + 1
	if n.have && !n.is(modeReg) && n.extLen == 0 {
		c.err(33, p, "extent of an inode with mode %o", n.in.Mode)
	}
	if n.extLen > 0 && start < n.extEnd {
		c.err(33, p, "starts at block %d, but the extent before ends at %d", start, n.extEnd-1)
	}
	if n.extLen > 0 && start == n.extEnd && e.Flags == n.ext.Flags && f.contiguous(&e) {
		c.warn(33, p, "could be merged with the extent before")
	}
	n.extEnd, n.ext, n.extLen = last+1, e, count
	f.extentBlocks(p, &e, count)
}

// contiguous reports whether an extent's blocks follow those of the one before.
func (f *fsCheck) contiguous(e *format.Extent) bool {
	prev := &f.cur.ext
	if e.Blkno == 0 || prev.Blkno == 0 {
		return e.Blkno == prev.Blkno
	}
	return uint64(e.Blkno) == uint64(prev.Blkno)+f.cur.extLen
}

// extentBlocks checks the value of an extent and counts its blocks.
func (f *fsCheck) extentBlocks(p place, e *format.Extent, count uint64) {
	n, c := &f.cur, f.c
	total := c.super.TotalDataBlocks
	switch {
	case e.Flags&^(format.ExtentOffline|format.ExtentUnwritten) != 0, e.Blkno == 0 && e.Flags != format.ExtentOffline:
		c.err(33, p, "block %d with flags %#x", e.Blkno, e.Flags)
	case e.Blkno != 0 && e.Flags == format.ExtentOffline:
		c.odd(33, p, "mapped, offline and not unwritten, as direct writes of the original leave it")
	}
	switch {
	case e.Blkno != 0 && e.Flags&format.ExtentUnwritten == 0:
		n.online += count
	case e.Flags&format.ExtentOffline != 0:
		n.offline += count
	}
	if e.Blkno == 0 {
		return
	}
	if e.Blkno < format.FirstDataBlkno || uint64(e.Blkno) >= total || count > total-uint64(e.Blkno) {
		c.err(33, p, "%d data blocks from %d on are outside of blocks %d to %d", count, e.Blkno, format.FirstDataBlkno, total-1)
		return
	}
	c.addData(uint64(e.Blkno), count, 0, n.ino)
}
