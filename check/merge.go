// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package check

import (
	"fmt"
	"slices"

	"scoutfs/block"
	"scoutfs/format"
)

// Names of owners, with a sequence number.
const (
	completionName = "merge completion"
	freeingName    = "merge freeing"
)

// mergeItems are the items of the log_merge tree.
type mergeItems struct {
	status    []mergeItem[format.MergeStatus]
	ranges    []mergeItem[format.MergeRange]
	requests  []mergeItem[format.MergeRequest]
	completes []mergeItem[format.MergeComplete]
	freeings  []mergeItem[format.MergeFreeing]
}

type mergeItem[T any] struct {
	at  place
	val T
}

// mergeState is what reading the filesystem's items needs of the running merge.
type mergeState struct {
	seq uint64 // of the status item, 0 without a merge
	// tops are the blocks of fs_root that a completion replaces, with all below.
	tops map[format.Blkno]string
}

func appendItem[T any](list []mergeItem[T], p place, key *format.Key, v T, ok bool) []mergeItem[T] {
	if !ok {
		return list // rule 13
	}
	k := *key
	p.key = &k
	return append(list, mergeItem[T]{at: p, val: v})
}

// readMergeItems walks the log_merge tree.
func (c *checker) readMergeItems() *mergeItems {
	m := &mergeItems{}
	c.walkItems(&tree{name: "log_merge", kind: treeMerge, root: c.super.LogMerge}, func(p place, key *format.Key, _ uint64, val []byte) {
		switch key.Zone {
		case format.ZoneMergeStatus:
			v, ok := format.Load[format.MergeStatus](val)
			m.status = appendItem(m.status, p, key, v, ok)
		case format.ZoneMergeRange:
			v, ok := format.Load[format.MergeRange](val)
			m.ranges = appendItem(m.ranges, p, key, v, ok)
		case format.ZoneMergeRequest:
			v, ok := format.Load[format.MergeRequest](val)
			m.requests = appendItem(m.requests, p, key, v, ok)
		case format.ZoneMergeComplete:
			v, ok := format.Load[format.MergeComplete](val)
			m.completes = appendItem(m.completes, p, key, v, ok)
		case format.ZoneMergeFreeing:
			v, ok := format.Load[format.MergeFreeing](val)
			m.freeings = appendItem(m.freeings, p, key, v, ok)
		}
	})
	return m
}

// checkMerge checks the running merge and the trees that it owns: rules 18 to
// 20 and 24.
func (c *checker) checkMerge(m *mergeItems) {
	c.merge.tops = map[format.Blkno]string{}
	if len(m.status) > 0 {
		c.merge.seq = m.status[0].val.Seq
	}
	c.checkMergeFields(m)
	c.checkMergeRanges(m)
	for i := range m.requests {
		r := &m.requests[i]
		name := fmt.Sprintf("merge request %d", r.at.key.Second)
		c.checkList(name+" meta_avail", &r.val.MetaAvail)
		c.checkList(name+" meta_freed", &r.val.MetaFreed)
	}
	for i := range m.completes {
		c.checkComplete(&m.completes[i])
	}
	for i := range m.freeings {
		c.checkFreeing(&m.freeings[i])
	}
}

// checkMergeFields checks the items on their own.
func (c *checker) checkMergeFields(m *mergeItems) {
	if len(m.status) > 0 {
		s := &m.status[0]
		c.checkSeq(s.at, "seq", s.val.Seq)
		if s.val.NrRequests != uint64(len(m.requests)) {
			c.err(24, s.at, "nr_requests is %d, there are %d requests", s.val.NrRequests, len(m.requests))
		}
	}
	for _, r := range m.ranges {
		if *r.at.key != format.KeyMergeRange(r.val.Start) {
			c.err(24, r.at, "the key is not that of a range from %v on", r.val.Start)
		}
	}
	for _, r := range m.requests {
		if r.at.key.First != uint64(r.val.Rid) || r.at.key.Second != r.val.Seq {
			c.err(24, r.at, "the value says rid %d seq %d", r.val.Rid, r.val.Seq)
		}
		c.checkSeq(r.at, "seq", r.val.Seq)
		c.checkSeq(r.at, "input_seq", r.val.InputSeq)
	}
	for _, r := range m.completes {
		if r.at.key.First != r.val.Seq {
			c.err(24, r.at, "the value says seq %d", r.val.Seq)
		}
		c.checkSeq(r.at, "seq", r.val.Seq)
	}
	for _, r := range m.freeings {
		if r.at.key.First != r.val.Seq {
			c.err(24, r.at, "the value says seq %d", r.val.Seq)
		}
		c.checkSeq(r.at, "seq", r.val.Seq)
	}
}

// unspliced reports whether a completion is not yet part of fs_root.
func unspliced(m *format.MergeComplete) bool {
	return !m.MetaAvail.Ref.IsNull() || !m.MetaFreed.Ref.IsNull()
}

// checkMergeRanges checks that parts of the merge are disjoint. Rule 24.
func (c *checker) checkMergeRanges(m *mergeItems) {
	type part struct {
		at     place
		lo, hi format.Key
	}
	var parts []part
	for _, r := range m.ranges {
		parts = append(parts, part{r.at, r.val.Start, r.val.End})
	}
	for _, r := range m.requests {
		parts = append(parts, part{r.at, r.val.Start, r.val.End})
	}
	for _, r := range m.completes {
		switch {
		case unspliced(&r.val):
			parts = append(parts, part{r.at, r.val.Start, r.val.End})
		case r.val.Flags&format.MergeCompleteRemain != 0:
			parts = append(parts, part{r.at, r.val.Remain, r.val.End})
		}
	}
	if len(m.status) == 0 && len(m.ranges)+len(m.requests)+len(m.completes) > 0 {
		c.err(24, place{structure: "log_merge", block: c.super.LogMerge.Ref.Blkno}, "%d ranges, %d requests and %d completions without a status item",
			len(m.ranges), len(m.requests), len(m.completes))
	}
	slices.SortFunc(parts, func(a, b part) int { return a.lo.Compare(&b.lo) })
	for i := range parts {
		p := &parts[i]
		if p.hi.Less(&p.lo) {
			c.err(24, p.at, "starts at %v and ends at %v", p.lo, p.hi)
		}
		if i > 0 && !parts[i-1].hi.Less(&p.lo) {
			c.err(24, p.at, "starts at %v, but %v ends at %v", p.lo, parts[i-1].at.key, parts[i-1].hi)
		}
	}
}

// checkComplete walks what a completion owns. Rules 18 and 20.
func (c *checker) checkComplete(m *mergeItem[format.MergeComplete]) {
	if !unspliced(&m.val) {
		return
	}
	name := fmt.Sprintf(completionName+" %d", m.at.key.First)
	c.checkList(name+" meta_avail", &m.val.MetaAvail)
	c.checkList(name+" meta_freed", &m.val.MetaFreed)
	t := &tree{name: name, kind: treeFS, root: m.val.Root}
	if c.super.FSRoot.Height > 0 {
		top, ok := c.findTop(&m.val.Start)
		if !ok {
			c.err(18, m.at, "the block of fs_root on the path to %v cannot be found", m.val.Start)
			c.lost.Store(true)
			return
		}
		if other, dup := c.merge.tops[top.ref.Blkno]; dup {
			c.err(20, m.at, "covers the same block of fs_root, %d, as %s", top.ref.Blkno, other)
		}
		c.merge.tops[top.ref.Blkno] = name
		if c.super.FSRoot.Height > 2 {
			t.lo, t.hi, t.subtree = top.lo, top.hi, true
		}
	}
	c.walk(t)
}

// topLevel is the level of the blocks of fs_root that completions replace.
func (c *checker) topLevel() int { return min(int(c.super.FSRoot.Height)-1, 1) }

// findTop finds the block of fs_root that a completion from a key on replaces.
func (c *checker) findTop(key *format.Key) (top child, ok bool) {
	root := &c.super.FSRoot
	if root.Height > format.MaxHeight {
		return top, false
	}
	top = child{ref: root.Ref, hi: format.KeyMax}
	w := &walker{c: c, t: &tree{name: "fs_root"}}
	for level := int(root.Height) - 1; level > c.topLevel(); level-- {
		n := w.peek(&top, level)
		if n == nil {
			return top, false
		}
		found := false
		for _, ch := range w.children(n, &top, level) {
			if !ch.hi.Less(key) {
				top, found = ch, true
				break
			}
		}
		block.FreeBuf(n.buf)
		if !found {
			return top, false
		}
	}
	return top, true
}

// checkFreeing walks what is left of a dead log tree. Rule 19.
func (c *checker) checkFreeing(m *mergeItem[format.MergeFreeing]) {
	freed := func(hi *format.Key) bool { return hi.Less(&m.val.Key) }
	c.walk(&tree{
		name: fmt.Sprintf(freeingName+" %d", m.at.key.First), kind: treeLog, root: m.val.Root,
		gone: func(hi *format.Key, level int) bool { return level == 0 && freed(hi) },
		soft: func(hi *format.Key, level int) bool { return level > 0 && freed(hi) },
	})
}
