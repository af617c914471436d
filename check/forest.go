// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package check

import (
	"scoutfs/block"
	"scoutfs/format"
)

// leafBudget bounds the leaves that are in memory for reading all trees at once.
const leafBudget = 128 << 20

// source is one item tree of the forest, read in key order by a goroutine of
// its own, a batch of leaves ahead.
type source struct {
	c     *checker
	log   *logTree // nil for fs_root
	name  string
	ch    chan []*node
	batch []*node
	node  int // in batch
	pos   int // in batch[node].order

	key  format.Key
	seq  uint64
	del  bool
	val  []byte // valid until the next advance
	any  bool   // key holds the last item returned
	lock format.Key
	bits bool // lock's bits are set in the bloom block
}

// advance goes to the next item; false at the end.
func (s *source) advance() bool {
	for {
		if s.node >= len(s.batch) {
			var ok bool
			if s.batch, ok = <-s.ch; !ok {
				return false
			}
			s.node, s.pos = 0, 0
			continue
		}
		n := s.batch[s.node]
		if s.pos >= len(n.order) {
			block.FreeBuf(n.buf)
			s.node++
			s.pos = 0
			continue
		}
		it, val := n.item(int(n.order[s.pos]))
		s.pos++
		if val == nil || s.any && !s.key.Less(&it.Key) {
			s.c.fsLost.Store(true) // damage that was found already
			continue
		}
		s.key, s.seq, s.del, s.val, s.any = it.Key, it.Seq, it.Flags&format.ItemFlagDeletion != 0, val, true
		if s.log != nil {
			s.checkLogItem(n.hdr.Hdr.Blkno)
		}
		return true
	}
}

// drop waits until the source's goroutine has ended and frees what was not used.
func (s *source) drop() {
	if s.node < len(s.batch) {
		freeLeaves(s.batch[s.node:])
		s.batch = nil
	}
	for leaves := range s.ch {
		freeLeaves(leaves)
	}
}

func freeLeaves(leaves []*node) {
	for _, n := range leaves {
		block.FreeBuf(n.buf)
	}
}

// checkLogItem checks an item against its log tree. Rule 22.
func (s *source) checkLogItem(b format.Blkno) {
	if s.seq > s.log.MaxItemSeq {
		s.c.err(22, place{s.name, b, &s.key}, "item seq %d is above max_item_seq %d", s.seq, s.log.MaxItemSeq)
	}
	if s.log.bloom == nil {
		return // found already
	}
	if lock := lockStart(&s.key); lock != s.lock {
		s.lock, s.bits = lock, s.log.hasBits(&lock)
	}
	if !s.bits {
		s.c.err(22, place{s.name, b, &s.key}, "the bloom block lacks a bit of lock %v", s.lock)
	}
}

// mergeInput reports whether the running merge, or the next, reads the tree.
func (s *source) mergeInput() bool {
	return s.log.finalized() && (s.c.merge.seq == 0 || s.log.FinalizeSeq < s.c.merge.seq)
}

// sources starts reading all item trees.
func (c *checker) sources() []*source {
	batch := min(max(leafBudget/format.LargeSize/3/(len(c.logs)+1), 1), batchBlocks)
	top, seen := c.topLevel(), map[format.Blkno]bool{}
	fs := &tree{name: "fs_root", kind: treeFS, root: c.super.FSRoot, items: true, batch: batch,
		shared: func(ref format.BlockRef, level int) bool {
			if level != top || seen[ref.Blkno] {
				return false
			}
			_, ok := c.merge.tops[ref.Blkno]
			seen[ref.Blkno] = ok
			return ok
		}}
	list := []*source{c.start(fs, nil)}
	for _, l := range c.logs {
		t := &tree{name: l.name + " item_root", kind: treeLog, root: l.ItemRoot, items: true, batch: batch}
		list = append(list, c.start(t, l))
	}
	return list
}

func (c *checker) start(t *tree, log *logTree) *source {
	s := &source{c: c, log: log, name: t.name, ch: make(chan []*node, 1)}
	t.leaves = func(leaves []*node) bool {
		select {
		case s.ch <- append([]*node(nil), leaves...):
			return true
		case <-c.ctx.Done():
			freeLeaves(leaves)
			return false
		}
	}
	go func() {
		defer close(s.ch)
		c.walk(t)
	}()
	return s
}

// sourceHeap is a heap of sources with the smallest key on top.
type sourceHeap []*source

func (h sourceHeap) less(i, j int) bool { return h[i].key.Less(&h[j].key) }

func (h sourceHeap) down(i int) {
	for {
		c := 2*i + 1
		if c >= len(h) {
			return
		}
		if c+1 < len(h) && h.less(c+1, c) {
			c++
		}
		if !h.less(c, i) {
			return
		}
		h[i], h[c] = h[c], h[i]
		i = c
	}
}

// checkForest merges the items of fs_root and of all log trees in key order and
// checks what is current: rules 25 to 39. Source: spec format 7.1, 7.6.
func (c *checker) checkForest() {
	f := newFsCheck(c)
	h := sourceHeap{}
	for _, s := range c.sources() {
		defer s.drop()
		if s.advance() {
			h = append(h, s)
		}
	}
	for i := len(h)/2 - 1; i >= 0; i-- {
		h.down(i)
	}
	var same []*source
	for len(h) > 0 && c.ctx.Err() == nil {
		key := h[0].key
		same = same[:0]
		for len(h) > 0 && h[0].key == key {
			same = append(same, h[0])
			h[0] = h[len(h)-1]
			h = h[:len(h)-1]
			h.down(0)
		}
		f.version(same)
		for _, s := range same {
			if s.advance() {
				h = append(h, s)
				h.up(len(h) - 1)
			}
		}
	}
	if c.ctx.Err() == nil {
		f.finish()
	}
}

func (h sourceHeap) up(i int) {
	for i > 0 && h.less(i, (i-1)/2) {
		h[i], h[(i-1)/2] = h[(i-1)/2], h[i]
		i = (i - 1) / 2
	}
}

// version finds the current version of a key among the trees that have it.
func (f *fsCheck) version(same []*source) {
	if same[0].key.Zone == format.ZoneTotl {
		f.total(same)
		return
	}
	best := same[0]
	for _, s := range same[1:] {
		if s.seq > best.seq {
			best = s
		}
	}
	if !best.del {
		f.item(&best.key, best.val)
	}
}

// total resolves a total from its differences. Source: spec format 7.6.
func (f *fsCheck) total(same []*source) {
	var fs, inp, log format.Totl
	var fsSeq, inpSeq uint64
	haveFS := false
	for _, s := range same {
		v, ok := format.Load[format.Totl](s.val)
		switch {
		case !ok || s.del: // rule 13
		case s.log == nil:
			fs, fsSeq, haveFS = v, s.seq, true
		case s.mergeInput():
			inp.Total += v.Total
			inp.Count += v.Count
			inpSeq = max(inpSeq, s.seq)
		default:
			log.Total += v.Total
			log.Count += v.Count
		}
	}
	sum := fs
	if haveFS && inpSeq > fsSeq || !haveFS && int64(inp.Count) > 0 {
		sum.Total += inp.Total
		sum.Count += inp.Count
	}
	sum.Total += log.Total
	sum.Count += log.Count
	if sum != (format.Totl{}) {
		f.totals[same[0].key] = totals{has: sum}
	}
	f.c.report.Items++
}
