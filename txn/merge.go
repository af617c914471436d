// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package txn

import (
	"sync"

	"scoutfs/block"
	"scoutfs/btree"
	"scoutfs/format"
)

// merge collects the leaves of several trees around one key: for each key
// the item with the greatest seq, the first one seen if they are equal. What is
// outside of the range that all leaves cover is of no use.
type merge struct {
	start, end pkey
	items      []item // merged so far, in key order, deletions included
	run        []item // of the leaf being read
	out        []item // scratch
	vals       []byte // memory of the values
}

var merges = sync.Pool{New: func() any { return new(merge) }}

func newMerge(start, end pkey) *merge {
	m := merges.Get().(*merge)
	m.reset(start, end)
	return m
}

// free gives the memory up, also that of the items that result returned.
func (m *merge) free() { merges.Put(m) }

func (m *merge) reset(start, end pkey) {
	m.start, m.end = start, end
	m.items, m.run, m.vals = m.items[:0], m.run[:0], m.vals[:0]
}

// leaf adds the leaf of a tree that covers key.
func (m *merge) leaf(c *block.Cache, root *format.BtreeRoot, key *format.Key) error {
	m.run = m.run[:0]
	start, end, err := btree.ReadLeaf(c, root, key, m.add)
	if err != nil {
		return err
	}
	m.start = maxKey(m.start, packKey(&start))
	m.end = minKey(m.end, packKey(&end))
	m.join()
	return nil
}

// add takes an item of a leaf if it is still in range.
func (m *merge) add(it *btree.Item) {
	k := packKey(&it.Key)
	if k.less(&m.start) || m.end.less(&k) {
		return
	}
	x := item{key: k, seq: it.Seq}
	if it.Deletion() {
		x.flags = itemDeletion
	} else {
		at := len(m.vals)
		m.vals = append(m.vals, it.Val...)
		x.val = m.vals[at:len(m.vals):len(m.vals)]
	}
	m.run = append(m.run, x)
}

// join merges the run into the items.
func (m *merge) join() {
	if len(m.items) == 0 {
		m.items, m.run = m.run, m.items
		return
	}
	out, a, b := m.out[:0], m.items, m.run
	for len(a) > 0 && len(b) > 0 {
		switch d := a[0].key.compare(&b[0].key); {
		case d < 0:
			out, a = append(out, a[0]), a[1:]
		case d > 0:
			out, b = append(out, b[0]), b[1:]
		default:
			if a[0].seq >= b[0].seq {
				out = append(out, a[0])
			} else {
				out = append(out, b[0])
			}
			a, b = a[1:], b[1:]
		}
	}
	out = append(append(out, a...), b...)
	m.items, m.out = out, m.items
}

// result returns the range that is known now and the items that exist in it.
func (m *merge) result() (start, end pkey, items []item) {
	items = m.items[:0]
	for i := range m.items {
		it := &m.items[i]
		if it.flags&itemDeletion == 0 && !it.key.less(&m.start) && !m.end.less(&it.key) {
			items = append(items, *it)
		}
	}
	return m.start, m.end, items
}
