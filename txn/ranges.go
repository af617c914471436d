// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package txn

import (
	"slices"

	"scoutfs/block"
	"scoutfs/internal/invariants"
)

// evictBatch is how many pages the clock looks at while it holds the index.
const evictBatch = 64

// minClean is how many bytes of clean pages are kept whatever the budget is.
const minClean = 8 * maxFrame

// addEmpty makes [start, end] known to have no items around k, as far as
// nothing is cached there.
func (c *itemCache) addEmpty(k *pkey, start, end pkey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.idx.find(k) == nil {
		start, end = c.idx.gap(*k, start, end)
		c.build(start, end, nil)
	}
}

// addRange adds what was read of [start, end]: all items in it, in key order.
// Parts that are cached already stay as they are. It returns false, having
// done nothing, if a commit completed since barrier was read.
func (c *itemCache) addRange(start, end pkey, items []item, barrier uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.barrier.Load() != barrier {
		return false
	}
	for k := start; ; k = k.inc() {
		if p := c.idx.find(&k); p != nil {
			k = p.end
		} else {
			_, to := c.idx.gap(k, k, end)
			items = items[firstNotBelow(items, &k):]
			next := to.inc()
			n := len(items)
			if to != pkeyMax {
				n = firstNotBelow(items, &next)
			}
			c.build(k, to, items[:n])
			k = to
		}
		if !k.less(&end) {
			return true
		}
	}
}

// firstNotBelow is the index of the first item with a key >= k.
func firstNotBelow(items []item, k *pkey) int {
	lo, hi := 0, len(items)
	for lo < hi {
		m := int(uint(lo+hi) >> 1)
		if items[m].key.less(k) {
			lo = m + 1
		} else {
			hi = m
		}
	}
	return lo
}

// build adds pages for [start, end] with the given items, which become clean
// and persistent. The index is locked.
func (c *itemCache) build(start, end pkey, items []item) {
	for {
		n, size := fit(items)
		p := &page{start: start, end: end, dirtyIdx: -1}
		p.used.Store(true)
		if n < len(items) {
			p.end = items[n].key.dec()
		}
		if n > 0 {
			p.buf, p.low = block.AlignedBuf(size), size
		}
		for i := range items[:n] {
			it := items[i]
			it.flags = itemPersistent
			p.insert(i, &it)
		}
		c.idx.add(p)
		c.bytes.Add(int64(size + pageOverhead))
		if n == len(items) {
			return
		}
		start, items = items[n].key, items[n:]
	}
}

// fit is how many of the items the next page should take, and the size of its
// frame. Frames are filled well: what remains goes to smaller ones.
func fit(items []item) (n, size int) {
	if len(items) == 0 {
		return 0, 0
	}
	total := 0
	for i := range items {
		if total += itemSize(len(items[i].val)) + 2; total > maxFrame {
			break
		}
	}
	size = frameFor(total)
	if size > minFrame && total <= maxFrame && total < size-size/4 {
		size /= 2
	}
	sum := 0
	for n < len(items) {
		next := itemSize(len(items[n].val)) + 2
		if sum+next > size {
			break
		}
		sum += next
		n++
	}
	return n, size
}

// drop forgets everything cached in [start, end], which must be clean.
func (c *itemCache) drop(start, end pkey) {
	for !c.dropSome(start, end) {
	}
}

// dropSome drops some pages and reports whether that was all.
func (c *itemCache) dropSome(start, end pkey) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for range evictBatch {
		at, ok := c.idx.from(&start)
		if !ok {
			return true
		}
		p := c.idx.page(at)
		if end.less(&p.start) {
			return true
		}
		invariants.Check(p.dirty == 0, "dropping dirty items at %v", p.start.unpack())
		if p.dirty > 0 {
			return true // never throw changes away, whatever the caller thinks
		}
		c.free(at)
	}
	return false
}

// free takes a clean page out. The index is locked, so nobody uses it.
func (c *itemCache) free(at cursor) {
	p := c.idx.page(at)
	c.idx.remove(at)
	c.bytes.Add(-int64(len(p.buf) + pageOverhead))
	block.FreeBuf(p.buf)
	p.buf = nil
}

// isDirty reports whether there are dirty items in [start, end].
func (c *itemCache) isDirty(start, end pkey) bool {
	c.dirtyMu.Lock()
	defer c.dirtyMu.Unlock()
	for _, p := range c.dirtyPages {
		if !p.start.less(&start) && !end.less(&p.start) {
			return true // pages do not reach over the ranges of locks
		}
	}
	return false
}

// shrink evicts clean pages until the budget is kept, if that is possible.
func (c *itemCache) shrink() {
	limit := c.limit()
	if c.bytes.Load() <= limit || !c.evicting.CompareAndSwap(false, true) {
		return
	}
	defer c.evicting.Store(false)
	target := limit - limit/32
	for laps := 0; laps < 3 && c.bytes.Load() > target; {
		if c.evictSome(target) {
			laps++
		}
	}
}

// limit is the budget, or more if that would leave next to no room for clean
// pages: operations would wait for ever for pages that are evicted at once.
func (c *itemCache) limit() int64 {
	return max(c.budget, c.dirtyNr.Load()*maxFrame+minClean)
}

// evictSome moves the clock's hand over some pages. It reports whether the
// hand passed the end.
func (c *itemCache) evictSome(target int64) (lap bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	at, ok := c.idx.from(&c.hand)
	for range evictBatch {
		if !ok {
			c.hand = pkeyMin
			return true
		}
		if c.bytes.Load() <= target {
			break
		}
		p := c.idx.page(at)
		chunks := len(c.idx.chunks)
		switch {
		case p.dirty > 0, p.used.Swap(false):
			at, ok = c.idx.next(at)
		default:
			c.free(at)
			c.evicted.Add(1)
			at, ok = c.behind(at, chunks)
		}
	}
	if ok {
		c.hand = c.idx.page(at).start
	}
	if !ok {
		c.hand = pkeyMin
	}
	return !ok
}

// behind turns the position of a removed page into that of the page behind it.
func (c *itemCache) behind(at cursor, chunks int) (cursor, bool) {
	if len(c.idx.chunks) == chunks && at.j == len(c.idx.chunks[at.i].pages) {
		at = cursor{at.i + 1, 0}
	} else if len(c.idx.chunks) < chunks {
		at.j = 0
	}
	return at, at.i < len(c.idx.chunks)
}

// clean follows a commit of everything dirty: items become clean, deletions
// and deltas go. No change may happen meanwhile.
func (c *itemCache) clean() {
	c.barrier.Add(1)
	pages := c.dirtyList()
	for _, p := range pages {
		c.cleanPage(p)
	}
	c.dirtyMu.Lock()
	defer c.dirtyMu.Unlock()
	for _, p := range pages {
		p.dirtyIdx = -1
	}
	c.dirtyPages = nil
	c.dirtyNr.Store(0)
	c.dirtyBytes.Store(0)
}

// dirtyList is the pages with dirty items, in no order.
func (c *itemCache) dirtyList() []*page {
	c.dirtyMu.Lock()
	defer c.dirtyMu.Unlock()
	return slices.Clone(c.dirtyPages)
}

func (c *itemCache) cleanPage(p *page) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	c.bytes.Add(-int64(p.settle()))
}

// dirtyItems returns a function that yields the dirty items in key
// order. No change may happen meanwhile; the items share memory with the cache.
func (c *itemCache) dirtyItems() func() (item, bool) {
	pages := c.dirtyList()
	sortPages(pages)
	pos := 0
	return func() (item, bool) {
		for len(pages) > 0 {
			p := pages[0]
			for ; pos < p.n; pos++ {
				if p.flagsAt(pos)&itemDirty != 0 {
					pos++
					return p.at(pos - 1), true
				}
			}
			pages, pos = pages[1:], 0
		}
		return item{}, false
	}
}
