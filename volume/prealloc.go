// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package volume

import "scoutfs/format"

// policy is how many blocks are allocated when a write needs one.
type policy struct {
	blocks  uint64 // P, at least 1
	regions bool   // data_prealloc_contig_only is 0
}

// request is what to ask of the allocator for a block: the run of logical
// blocks [start, start+want), which covers the block, and the flags that the
// blocks get that are not written now.
type request struct {
	start, want uint64
	flags       uint8
}

// plan decides what to allocate for block b, which has no blocks. w knows the
// extents from the start of b's region on and one behind b; online is the
// inode's count. Source: spec filesystem 4.2.
func (p policy) plan(w *window, b, online uint64) request {
	r := request{start: b, want: 1, flags: format.ExtentUnwritten}
	e := w.at(b)
	switch {
	case e.Flags&format.ExtentOffline != 0:
		r.want = e.end() - b
		r.flags |= format.ExtentOffline
	case !p.regions:
		if b > 1 && b == online {
			r.want = min(e.end()-b, p.blocks, b)
		}
	default:
		p.planRegion(&r, w, b, online)
	}
	r.want = min(r.want, p.blocks)
	return r
}

// planRegion wants the region around b, as far as it is empty.
func (p policy) planRegion(r *request, w *window, b, online uint64) {
	s := b - b%p.blocks
	r.start, r.want = s, p.blocks
	i := w.find(s)
	if i < len(w.cur) && w.cur[i].Iblock < b {
		r.start, r.want = b, s+p.blocks-b
		i = w.find(b)
	}
	if i < len(w.cur) && w.cur[i].Iblock > r.start && w.cur[i].Iblock < r.start+r.want {
		r.want = w.cur[i].Iblock - r.start
	}
	r.want = max(1, min(r.want, online))
}

// place is where the n blocks that were really allocated go: they start at
// start, or later so that they just cover b.
func (r request) place(b, n uint64) uint64 {
	if r.start+n <= b {
		return b - n + 1
	}
	return r.start
}

// apply maps n blocks at blkno for block b of w as r planned, b as written and
// the others as preallocated.
func (r request) apply(w *window, b uint64, blkno format.Blkno, n uint64) error {
	start := r.place(b, n)
	if n > 1 {
		if err := w.set(Extent{Iblock: start, Blocks: n, Blkno: blkno, Flags: r.flags}); err != nil {
			return err
		}
	}
	return w.set(Extent{Iblock: b, Blocks: 1, Blkno: blkno + format.Blkno(b-start)})
}
