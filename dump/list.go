// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package dump

import (
	"fmt"

	"scoutfs/format"
)

// list prints a chain of list blocks.
func (p *printer) list(name string, ref format.BlockRef) {
	if ref.IsNull() {
		return
	}
	seen := p.newBitmap()
	for !ref.IsNull() {
		if uint64(ref.Blkno) < p.blocks && seen.set(ref.Blkno) {
			p.bad(ref.Blkno, "%s: the chain comes back to this block", name)
			return
		}
		if !p.read(name+" alloc_list_block", ref.Blkno, p.buf) {
			return
		}
		p.f("%s alloc_list_block blkno %d\n", name, ref.Blkno)
		h, _ := format.Load[format.BlockHeader](p.buf)
		p.header(&h)
		if !p.check(p.buf, format.MagicAllocList, ref) {
			return
		}
		ref = p.listBlock(ref.Blkno)
	}
}

// listBlock prints the contents of the list block in p.buf and returns its
// reference to the next.
func (p *printer) listBlock(blkno format.Blkno) format.BlockRef {
	l, _ := format.Load[format.AllocListBlock](p.buf)
	p.f("  next blkno %d seq %d start %d nr %d\n", l.Next.Blkno, l.Next.Seq, l.Start, l.Nr)
	if l.Start > format.AllocListNr || l.Nr > format.AllocListNr-l.Start {
		p.bad(blkno, "entries %d + %d in a block of %d", l.Start, l.Nr, format.AllocListNr)
		return l.Next
	}
	p.f("  exts: ")
	line := wrapper{p: p, col: 8, indent: 8}
	live := l.Blknos[l.Start:][:l.Nr]
	for len(live) > 0 {
		n := 1
		for n < len(live) && live[n] == live[0]+uint64(n) {
			n++
		}
		line.word(fmt.Sprintf("%d,%d ", live[0], n))
		live = live[n:]
	}
	p.f("\n")
	return l.Next
}
