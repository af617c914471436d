// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package txn

import (
	"slices"
	"sort"
)

// chunkPages is how many pages a chunk of the index holds at most.
const chunkPages = 256

// index orders pages by their start in chunks, so that a change moves little
// memory. The start keys are kept apart from the pages: a search touches few
// cache lines.
type index struct {
	firsts []pkey // start of the first page of each chunk
	chunks []*chunk
	nr     int // pages
}

type chunk struct {
	starts []pkey
	pages  []*page
}

// cursor is a position in an index: page j of chunk i. It is good until the
// index changes.
type cursor struct{ i, j int }

// seek returns the position of the last page that starts at or before k; ok is
// false if all pages start behind it.
func (x *index) seek(k *pkey) (at cursor, ok bool) {
	i := lastNotAfter(x.firsts, k)
	if i < 0 {
		return cursor{}, false
	}
	return cursor{i, lastNotAfter(x.chunks[i].starts, k)}, true
}

// lastNotAfter is the index of the last of the sorted keys that is <= k, or -1.
func lastNotAfter(keys []pkey, k *pkey) int {
	lo, hi := 0, len(keys)
	for lo < hi {
		m := int(uint(lo+hi) >> 1)
		if k.less(&keys[m]) {
			hi = m
		} else {
			lo = m + 1
		}
	}
	return lo - 1
}

// find returns the page whose range contains k, or nil.
func (x *index) find(k *pkey) *page {
	at, ok := x.seek(k)
	if !ok {
		return nil
	}
	p := x.page(at)
	if p.end.less(k) {
		return nil
	}
	return p
}

func (x *index) page(at cursor) *page { return x.chunks[at.i].pages[at.j] }

// next moves the position to the following page; ok is false at the end.
func (x *index) next(at cursor) (cursor, bool) {
	if at.j++; at.j < len(x.chunks[at.i].pages) {
		return at, true
	}
	at = cursor{at.i + 1, 0}
	return at, at.i < len(x.chunks)
}

// from returns the position of the first page that ends at or after k.
func (x *index) from(k *pkey) (at cursor, ok bool) {
	if at, ok = x.seek(k); !ok {
		return cursor{}, len(x.chunks) > 0
	}
	if !x.page(at).end.less(k) {
		return at, true
	}
	return x.next(at)
}

// gap is the part of [start, end] around k that no page covers. k must not be
// covered and lie in the range.
func (x *index) gap(k, start, end pkey) (pkey, pkey) {
	at, ok := x.seek(&k)
	if ok {
		start = maxKey(start, x.page(at).end.inc())
		at, ok = x.next(at)
	} else {
		at, ok = cursor{}, len(x.chunks) > 0
	}
	if ok {
		end = minKey(end, x.page(at).start.dec())
	}
	return start, end
}

// add inserts a page, whose range must not be covered.
func (x *index) add(p *page) {
	x.nr++
	if len(x.chunks) == 0 {
		x.chunks = append(x.chunks, newChunk())
		x.firsts = append(x.firsts, p.start)
	}
	i := max(lastNotAfter(x.firsts, &p.start), 0)
	c := x.chunks[i]
	j := lastNotAfter(c.starts, &p.start) + 1
	c.starts = slices.Insert(c.starts, j, p.start)
	c.pages = slices.Insert(c.pages, j, p)
	x.firsts[i] = c.starts[0]
	if len(c.pages) == chunkPages {
		x.divide(i, j)
	}
}

func newChunk() *chunk {
	return &chunk{starts: make([]pkey, 0, chunkPages), pages: make([]*page, 0, chunkPages)}
}

// divide splits the full chunk i. If its last page was just added at j, pages
// are probably being added in order: then little moves.
func (x *index) divide(i, j int) {
	c, half := x.chunks[i], chunkPages/2
	if j == chunkPages-1 {
		half = chunkPages - chunkPages/16
	}
	right := newChunk()
	right.starts = append(right.starts, c.starts[half:]...)
	right.pages = append(right.pages, c.pages[half:]...)
	clear(c.pages[half:])
	c.starts, c.pages = c.starts[:half], c.pages[:half]
	x.chunks = slices.Insert(x.chunks, i+1, right)
	x.firsts = slices.Insert(x.firsts, i+1, right.starts[0])
}

// remove takes out the page at a position. The position then names the page
// that followed, if it is in the same chunk.
func (x *index) remove(at cursor) {
	x.nr--
	c := x.chunks[at.i]
	c.starts = slices.Delete(c.starts, at.j, at.j+1)
	c.pages = slices.Delete(c.pages, at.j, at.j+1)
	if len(c.pages) > 0 {
		x.firsts[at.i] = c.starts[0]
		return
	}
	x.chunks = slices.Delete(x.chunks, at.i, at.i+1)
	x.firsts = slices.Delete(x.firsts, at.i, at.i+1)
}

// sortPages orders pages by their ranges.
func sortPages(pages []*page) {
	sort.Slice(pages, func(i, j int) bool { return pages[i].start.less(&pages[j].start) })
}
