// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package dump

import (
	"encoding/binary"
	"fmt"

	"scoutfs/block"
	"scoutfs/format"
)

func srchEntryText(e *format.SrchEntry) string {
	return fmt.Sprintf("%016x.%d.%d", e.Hash, e.Ino, e.ID)
}

func srchFileText(f *format.SrchFile) string {
	return fmt.Sprintf("f %s l %s blks %d ents %d hei %d blkno %d seq %016x", srchEntryText(&f.First), srchEntryText(&f.Last),
		f.Blocks, f.Entries, f.Height, f.Ref.Blkno, f.Ref.Seq)
}

// maxSrchHeight is enough for 2^64 data blocks.
const maxSrchHeight = 7

// srchFile prints all blocks of a srch file, each parent before its children.
func (p *printer) srchFile(f *format.SrchFile) {
	if f.Ref.IsNull() {
		return
	}
	height := int(f.Height)
	if height == 0 || height > maxSrchHeight {
		p.bad(f.Ref.Blkno, "srch file of height %d", height)
		return
	}
	s := srchPrinter{p: p, seen: p.newBitmap()}
	for range height {
		s.bufs = append(s.bufs, block.AlignedBuf(format.LargeSize))
	}
	defer func() {
		for _, b := range s.bufs {
			block.FreeBuf(b)
		}
	}()
	s.visit(f.Ref, height-1)
}

type srchPrinter struct {
	p    *printer
	seen bitmap
	bufs [][]byte // one of each level
}

func (s *srchPrinter) visit(ref format.BlockRef, level int) {
	p, b := s.p, s.bufs[level]
	what, magic := "srch", format.MagicSrchBlock
	if level > 0 {
		what, magic = "srch parent", format.MagicSrchParent
	}
	if uint64(ref.Blkno) < p.blocks && s.seen.set(ref.Blkno) {
		p.bad(ref.Blkno, "another reference of the same srch file leads to this block")
		return
	}
	if !p.read(what+" block", ref.Blkno, b) {
		return
	}
	p.f("%s block blkno %d\n", what, ref.Blkno)
	h, _ := format.Load[format.BlockHeader](b)
	p.header(&h)
	if !p.check(b, magic, ref) {
		return
	}
	if level == 0 {
		p.srchBlock(b, ref.Blkno)
		return
	}
	refs := make([]format.BlockRef, 0, format.SrchParentRefs)
	for i := range format.SrchParentRefs {
		r, _ := format.Load[format.BlockRef](b[32+16*i:])
		if !r.IsNull() {
			p.f("  [%d]: blkno %d seq %d\n", i, r.Blkno, r.Seq)
			refs = append(refs, r)
		}
	}
	for _, r := range refs {
		s.visit(r, level-1)
	}
}

// srchBlock prints the entries of a data block.
func (p *printer) srchBlock(b []byte, blkno format.Blkno) {
	h, _ := format.Load[format.SrchBlock](b)
	p.f("  first %s last %s tail %s\n", srchEntryText(&h.First), srchEntryText(&h.Last), srchEntryText(&h.Tail))
	p.f("  entry_nr %d entry_bytes %d\n", h.EntryNr, h.EntryBytes)
	var e format.SrchEntry
	off := format.SrchHdrSize
	for i := range h.EntryNr {
		if off > format.SrchMaxStart || off-format.SrchHdrSize >= int(h.EntryBytes) {
			p.bad(blkno, "srch: entry %d of %d would start at byte %d of %d", i, h.EntryNr, off-format.SrchHdrSize, h.EntryBytes)
			return
		}
		n := decodeSrchEntry(b[off:], &e)
		p.f("  [%d]: (%d) %s\n", i, n, srchEntryText(&e))
		off += n
	}
}

// decodeSrchEntry decodes an entry at the start of b into e, which holds the
// one before it, and returns its length. b has at least 26 bytes.
// Source: spec format 8.2.
func decodeSrchEntry(b []byte, e *format.SrchEntry) int {
	counts := binary.LittleEndian.Uint16(b)
	n := 2
	diff := func() uint64 {
		c := min(int(counts&15), 8)
		counts >>= 4
		var raw [8]byte
		copy(raw[:c], b[n:])
		n += c
		z := binary.LittleEndian.Uint64(raw[:])
		if z&1 != 0 {
			return ^(z >> 1)
		}
		return z >> 1
	}
	e.Hash += diff()
	e.Ino += format.Ino(diff())
	e.ID += diff()
	return n
}
