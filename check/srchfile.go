// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package check

import (
	"cmp"
	"encoding/binary"
	"slices"

	"scoutfs/block"
	"scoutfs/format"
)

// srchWalk is the walk of one srch file.
type srchWalk struct {
	name    string
	file    format.SrchFile
	sorted  bool
	counted bool // its entries say which xattrs exist
	partial bool // blocks may be freed already, sums mean nothing
	freed   func(level int, first uint64) bool

	c           *checker
	owner       owner
	entries     uint64
	blocks      uint64
	empty       uint64 // data blocks without entries
	whole       bool
	prev        format.SrchEntry // last entry of the data block before
	first, last format.SrchEntry // of all
}

// maxSrchHeight is enough for all block numbers.
const maxSrchHeight = 6

// srchRef is a block of a file and the first data block that it covers.
type srchRef struct {
	ref   format.BlockRef
	first uint64
}

func compareEntries(a, b *format.SrchEntry) int {
	return cmp.Or(cmp.Compare(a.Hash, b.Hash), cmp.Compare(a.Ino, b.Ino), cmp.Compare(a.ID, b.ID))
}

// covers is how many data blocks a block of a level covers.
func covers(level int) uint64 {
	n := uint64(1)
	for range level {
		n *= format.SrchParentRefs
	}
	return n
}

// heightFor is the height of a file of so many blocks.
func heightFor(blocks uint64) int {
	h := 0
	if blocks > 0 {
		h = 1
	}
	for h > 0 && h < maxSrchHeight && covers(h-1) < blocks {
		h++
	}
	return h
}

// checkSrchFile walks a file. Rule 40.
func (c *checker) checkSrchFile(w *srchWalk) {
	f := &w.file
	p := place{structure: w.name, block: f.Ref.Blkno}
	if int(f.Height) != heightFor(f.Blocks) || (f.Height == 0) != f.Ref.IsNull() {
		c.err(40, p, "height %d and block %d for %d data blocks", f.Height, f.Ref.Blkno, f.Blocks)
		c.lost.Store(true)
		if w.counted {
			c.srchLost.Store(true)
		}
		return
	}
	if f.Height == 0 {
		if f.Entries != 0 {
			c.err(40, p, "%d entries but no block", f.Entries)
		}
		return
	}
	w.c, w.owner, w.whole = c, c.ownerID(w.name), true
	w.visit([]srchRef{{ref: f.Ref}}, int(f.Height)-1)
	if w.partial || c.ctx.Err() != nil {
		return
	}
	if !w.whole {
		if w.counted {
			c.srchLost.Store(true)
		}
		return
	}
	if w.entries != f.Entries {
		c.err(40, p, "the file says %d entries, the blocks have %d", f.Entries, w.entries)
	}
	w.checkBounds(p)
}

// checkBounds compares the file's smallest and greatest entry with the blocks'.
func (w *srchWalk) checkBounds(p place) {
	f, c := &w.file, w.c
	switch {
	case f.First == w.first && f.Last == w.last:
	case w.empty > 0:
		c.odd(40, p, "stale bounds of a file with empty blocks")
	case !w.sorted && compareEntries(&f.First, &w.first) >= 0 && compareEntries(&f.Last, &w.last) <= 0:
		c.odd(40, p, "narrow bounds of a log file")
	default:
		c.err(40, p, "the file says entries from %v to %v, the blocks have %v to %v", f.First, f.Last, w.first, w.last)
	}
}

func (w *srchWalk) loses() {
	w.whole = false
	w.c.lost.Store(true)
}

// visit reads blocks of one level and all below them, in order.
func (w *srchWalk) visit(list []srchRef, level int) {
	for len(list) > 0 && w.c.ctx.Err() == nil {
		n := min(len(list), batchBlocks)
		if level > 0 {
			n = 1
		}
		w.visitBatch(list[:n], level)
		list = list[n:]
	}
}

func (w *srchWalk) visitBatch(list []srchRef, level int) {
	var in []srchRef
	var refs []format.BlockRef
	for _, r := range list {
		if w.freed != nil && w.freed(level, r.first) {
			continue
		}
		if !w.c.claim(r.ref.Blkno, w.owner) {
			w.loses()
			continue
		}
		in, refs = append(in, r), append(refs, r.ref)
	}
	magic := format.MagicSrchBlock
	if level > 0 {
		magic = format.MagicSrchParent
	}
	for i, b := range w.c.readBlocks(w.name, refs, magic) {
		switch {
		case b == nil:
			w.loses()
			continue
		case level > 0:
			below := w.children(b, &in[i], level)
			block.FreeBuf(b)
			w.visit(below, level-1)
			continue
		case !w.partial:
			w.dataBlock(b, place{structure: w.name, block: refs[i].Blkno})
		}
		block.FreeBuf(b)
	}
}

// children returns the blocks that a parent must refer to.
func (w *srchWalk) children(b []byte, r *srchRef, level int) (out []srchRef) {
	step := covers(level - 1)
	for i := range format.SrchParentRefs {
		ref := format.BlockRef{Blkno: format.Blkno(binary.LittleEndian.Uint64(b[32+16*i:])), Seq: binary.LittleEndian.Uint64(b[40+16*i:])}
		first := r.first + uint64(i)*step
		p := place{structure: w.name, block: r.ref.Blkno}
		switch {
		case first < w.file.Blocks && ref.IsNull():
			w.c.err(40, p, "reference %d, for data block %d of %d, is null", i, first, w.file.Blocks)
			w.loses()
		case first < w.file.Blocks:
			out = append(out, srchRef{ref: ref, first: first})
		case !ref.IsNull():
			w.c.err(40, p, "reference %d is not null, but there are only %d data blocks", i, w.file.Blocks)
			w.loses()
		}
	}
	return out
}

// dataBlock checks a data block and counts its entries.
func (w *srchWalk) dataBlock(b []byte, p place) {
	h, _ := format.Load[format.SrchBlock](b)
	w.blocks++
	if h.EntryNr == 0 && h.EntryBytes == 0 {
		w.empty++
		w.c.odd(40, p, "data block without entries")
		return
	}
	if h.EntryBytes > format.LargeSize-format.SrchHdrSize {
		w.c.err(40, p, "%d bytes of entries", h.EntryBytes)
		w.loses()
		return
	}
	enc := b[format.SrchHdrSize:][:h.EntryBytes]
	var e, first, last format.SrchEntry
	at, nr := 0, uint32(0)
	for ; nr < h.EntryNr; nr++ {
		n, ok := decodeEntry(enc, at, &e)
		if !ok {
			w.c.err(40, p, "entry %d of %d at offset %d is cut off", nr, h.EntryNr, at)
			w.loses()
			return
		}
		at += n
		if nr == 0 {
			w.checkStart(p, &e)
			first, last = e, e
		} else {
			if w.sorted && compareEntries(&last, &e) >= 0 {
				w.c.err(40, p, "entry %d of a sorted file is not above the one before", nr)
			}
			first, last = minEntry(first, e), maxEntry(last, e)
		}
		if w.counted {
			w.c.srch.add(&e)
		}
	}
	if at != int(h.EntryBytes) {
		w.c.err(40, p, "entry_bytes is %d, the %d entries have %d", h.EntryBytes, h.EntryNr, at)
	}
	if h.First != first || h.Last != last || h.Tail != e {
		w.c.err(40, p, "the header says entries from %v to %v and %v at the end, the block has %v to %v and %v", h.First, h.Last, h.Tail, first, last, e)
	}
	w.count(uint64(h.EntryNr), first, last, e)
}

// checkStart compares the first entry of a block with the block before. Equal ones may be
// split over two blocks.
func (w *srchWalk) checkStart(p place, e *format.SrchEntry) {
	if w.sorted && w.entries > 0 && compareEntries(&w.prev, e) > 0 {
		w.c.err(40, p, "starts below the end of the block before")
	}
}

func (w *srchWalk) count(nr uint64, first, last, tail format.SrchEntry) {
	if w.entries == 0 {
		w.first, w.last = first, last
	}
	w.first, w.last = minEntry(w.first, first), maxEntry(w.last, last)
	w.prev = tail
	w.entries += nr
}

func minEntry(a, b format.SrchEntry) format.SrchEntry {
	if compareEntries(&b, &a) < 0 {
		return b
	}
	return a
}

func maxEntry(a, b format.SrchEntry) format.SrchEntry {
	if compareEntries(&b, &a) > 0 {
		return b
	}
	return a
}

// decodeEntry replaces *e, the entry before, by the one at an offset of the
// entries' bytes. Source: spec format 8.2.
func decodeEntry(enc []byte, at int, e *format.SrchEntry) (n int, ok bool) {
	if at > format.SrchMaxStart || at+2 > len(enc) {
		return 0, false
	}
	lens := binary.LittleEndian.Uint16(enc[at:])
	n = 2
	var diff [3]uint64
	for i := range diff {
		bytes := min(int(lens>>(4*i)&15), 8)
		if at+n+bytes > len(enc) {
			return 0, false
		}
		var z uint64
		for k := range bytes {
			z |= uint64(enc[at+n+k]) << (8 * k)
		}
		n += bytes
		diff[i] = z >> 1
		if z&1 != 0 {
			diff[i] = ^diff[i]
		}
	}
	e.Hash += diff[0]
	e.Ino += format.Ino(diff[1])
	e.ID += diff[2]
	return n, true
}

// entrySet holds entries that were added an odd number of times.
type entrySet struct {
	all   []format.SrchEntry
	limit int
}

func (s *entrySet) add(e *format.SrchEntry) {
	s.all = append(s.all, *e)
	if len(s.all) >= max(s.limit, 1<<20) {
		s.settle()
		s.limit = 2 * len(s.all)
	}
}

// settle sorts the set by inode, hash and id, and cancels pairs.
func (s *entrySet) settle() {
	slices.SortFunc(s.all, func(a, b format.SrchEntry) int {
		return cmp.Or(cmp.Compare(a.Ino, b.Ino), cmp.Compare(a.Hash, b.Hash), cmp.Compare(a.ID, b.ID))
	})
	out := s.all[:0]
	for i := range s.all {
		if n := len(out); n > 0 && out[n-1] == s.all[i] {
			out = out[:n-1]
		} else {
			out = append(out, s.all[i])
		}
	}
	s.all = out
}
