// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package check

import (
	"encoding/binary"
	"fmt"
	"slices"

	"scoutfs/format"
)

// node is a btree block whose items can be used.
type node struct {
	buf   []byte // the whole block
	hdr   format.BtreeBlock
	order []uint16 // item numbers in ascending key order
	keys  []format.Key
}

// item returns item number i. Its value is nil if it cannot be where the item says.
func (n *node) item(i int) (it format.BtreeItem, val []byte) {
	it, _ = format.Load[format.BtreeItem](n.buf[format.BtreeHdrSize+i*format.BtreeItemSize:])
	if it.ValLen == 0 {
		return it, []byte{}
	}
	off, end := int(it.ValOff), int(it.ValOff)+int(it.ValLen)
	if off < format.BtreeHdrSize || off%8 != 0 || end > valuesEnd(n.hdr.Level) {
		return it, nil
	}
	return it, n.buf[off:end]
}

func valuesEnd(level uint8) int {
	if level == 0 {
		return format.BtreeLeafEnd
	}
	return format.BtreeParentEnd
}

// problems are the first finding of each rule in one block, and how many more
// there are.
type problems struct {
	first map[int]problem
}

type problem struct {
	key  *format.Key
	msg  string
	more int
}

func (p *problems) add(rule int, key *format.Key, msg string, args ...any) {
	if p.first == nil {
		p.first = map[int]problem{}
	}
	if old, ok := p.first[rule]; ok {
		old.more++
		p.first[rule] = old
		return
	}
	if key != nil {
		k := *key
		key = &k
	}
	p.first[rule] = problem{key: key, msg: fmt.Sprintf(msg, args...)}
}

func (p *problems) report(c *checker, structure string, b format.Blkno) {
	for rule, one := range p.first {
		msg := one.msg
		if one.more > 0 {
			msg += fmt.Sprintf(" (and %d more in this block)", one.more)
		}
		c.err(rule, place{structure: structure, block: b, key: one.key}, "%s", msg)
	}
}

// parseNode checks what can be known of a block from its own bytes: rules 8,
// 9, 10. It returns nil if the items cannot be used; ok is false if some cannot.
func parseNode(buf []byte, level int, p *problems) (n *node, ok bool) {
	h, _ := format.Load[format.BtreeBlock](buf)
	if int(h.Level) != level {
		p.add(8, nil, "level %d, but level %d belongs here", h.Level, level)
		return nil, false
	}
	end := valuesEnd(h.Level)
	if format.BtreeHdrSize+int(h.NrItems)*format.BtreeItemSize > end {
		p.add(8, nil, "%d items do not fit", h.NrItems)
		return nil, false
	}
	n = &node{buf: buf, hdr: h, keys: make([]format.Key, h.NrItems)}
	ok = n.checkItems(p)
	n.checkOrder(p)
	if level == 0 {
		n.checkHash(p)
	}
	return n, ok
}

// gapEnd is the lowest offset at which a value may lie.
func (n *node) gapEnd() int {
	return format.BtreeHdrSize + int(n.hdr.NrItems)*format.BtreeItemSize + int(n.hdr.MidFreeLen)
}

// checkItems checks items, values and sums. Rules 8 and 9. It returns false if
// a value cannot be used.
func (n *node) checkItems(p *problems) bool {
	ok := true
	if n.hdr.MidFreeLen%8 != 0 || n.gapEnd() > valuesEnd(n.hdr.Level) {
		p.add(9, nil, "free gap of %d bytes after %d items", n.hdr.MidFreeLen, n.hdr.NrItems)
	}
	var used [format.LargeSize / 8]bool
	total := 0
	for i := range n.keys {
		it, val := n.item(i)
		n.keys[i] = it.Key
		total += format.BtreeItemSize + (int(it.ValLen)+7)/8*8
		if n.badPadding(i) {
			p.add(8, &it.Key, "item %d has padding that is not zero", i)
		}
		switch {
		case it.ValLen == 0 && it.ValOff != 0:
			p.add(9, &it.Key, "item %d has offset %d for no value", i, it.ValOff)
		case it.ValLen == 0:
		case val == nil || it.ValLen > format.MaxValue || int(it.ValOff) < n.gapEnd():
			p.add(9, &it.Key, "item %d has a value at %d of %d bytes", i, it.ValOff, it.ValLen)
			ok = ok && val != nil
		case n.overlaps(&used, &it):
			p.add(9, &it.Key, "item %d has a value at %d of %d bytes that overlaps another", i, it.ValOff, it.ValLen)
		}
	}
	if total != int(n.hdr.TotalItemBytes) {
		p.add(9, nil, "total_item_bytes is %d, the items have %d", n.hdr.TotalItemBytes, total)
	}
	return ok
}

func (n *node) badPadding(i int) bool {
	b := n.buf[format.BtreeHdrSize+i*format.BtreeItemSize:]
	return b[7] != 0 || [5]byte(b[35:]) != [5]byte{} || [3]byte(b[53:]) != [3]byte{}
}

// overlaps marks the rounded space of a value and reports whether a part was
// marked already.
func (n *node) overlaps(used *[format.LargeSize / 8]bool, it *format.BtreeItem) bool {
	first, last := int(it.ValOff)/8, (int(it.ValOff)+int(it.ValLen)+7)/8
	if last*8 > valuesEnd(n.hdr.Level) {
		return true
	}
	for i := first; i < last; i++ {
		if used[i] {
			return true
		}
		used[i] = true
	}
	return false
}

// avlCheck walks the AVL tree of a block.
type avlCheck struct {
	n     *node
	p     *problems
	seen  []bool
	order []uint16
	quirk bool
}

// checkOrder walks the AVL tree, which gives the order of items. Rule 8. If the
// tree is broken the order is found by sorting.
func (n *node) checkOrder(p *problems) {
	w := avlCheck{n: n, p: p, seen: make([]bool, len(n.keys)), order: make([]uint16, 0, len(n.keys))}
	w.quirk = len(n.keys) == 2 && n.hdr.Hdr.Seq == 1 && n.mkfsHeights()
	_, ok := w.visit(n.hdr.ItemRoot, 0)
	if ok && len(w.order) != len(n.keys) {
		p.add(8, nil, "the AVL tree links %d of %d items", len(w.order), len(n.keys))
		ok = false
	}
	if !ok {
		w.order = w.order[:0]
		for i := range n.keys {
			w.order = append(w.order, uint16(i))
		}
		slices.SortStableFunc(w.order, func(a, b uint16) int { return n.keys[a].Compare(&n.keys[b]) })
	}
	n.order = w.order
	for i := 1; i < len(n.order); i++ {
		prev, cur := &n.keys[n.order[i-1]], &n.keys[n.order[i]]
		if !prev.Less(cur) {
			p.add(8, cur, "the key follows %v", prev)
			ok = false
		}
	}
	if !ok {
		slices.SortStableFunc(n.order, func(a, b uint16) int { return n.keys[a].Compare(&n.keys[b]) })
	}
}

// mkfsHeights reports whether two items have the heights that mkfs of the
// original stores: 0 for the root and 1 for its left child.
func (n *node) mkfsHeights() bool {
	return n.hdr.ItemRoot == format.AvlFirst+format.BtreeItemSize && n.avl(n.hdr.ItemRoot).Height == 0 &&
		n.avl(n.hdr.ItemRoot).Left == format.AvlFirst && n.avl(format.AvlFirst).Height == 1
}

func (n *node) avl(slot uint16) format.AvlNode {
	nd, _ := format.Load[format.AvlNode](n.buf[format.AvlBase+int(slot):])
	return nd
}

// visit checks the subtree at an AVL offset and returns its true height, or
// false if it cannot be walked. Each item is visited once, so that damage bounds
// the depth by the number of items.
func (w *avlCheck) visit(slot, parent uint16) (height int, ok bool) {
	if slot == 0 {
		return 0, true
	}
	i := int(slot-format.AvlFirst) / format.BtreeItemSize
	if slot < format.AvlFirst || (slot-format.AvlFirst)%format.BtreeItemSize != 0 || i >= len(w.n.keys) {
		w.p.add(8, nil, "AVL link %d leads to no item", slot)
		return 0, false
	}
	if w.seen[i] {
		w.p.add(8, &w.n.keys[i], "the AVL tree links item %d twice", i)
		return 0, false
	}
	w.seen[i] = true
	nd := w.n.avl(slot)
	if nd.Parent != parent {
		w.p.add(8, &w.n.keys[i], "item %d has AVL parent %d instead of %d", i, nd.Parent, parent)
	}
	left, ok1 := w.visit(nd.Left, slot)
	w.order = append(w.order, uint16(i))
	right, ok2 := w.visit(nd.Right, slot)
	height = 1 + max(left, right)
	if !ok1 || !ok2 {
		return height, false
	}
	if left-right > 1 || right-left > 1 {
		w.p.add(8, &w.n.keys[i], "item %d has AVL subtrees of heights %d and %d", i, left, right)
	}
	if int(nd.Height) != height && !w.quirk {
		w.p.add(8, &w.n.keys[i], "item %d has AVL height %d instead of %d", i, nd.Height, height)
	}
	return height, true
}

// checkHash checks that a lookup through the hash table finds every item and
// that nothing else is in it. Rule 10.
func (n *node) checkHash(p *problems) {
	var table [format.BtreeHashNr]uint16
	full := 0
	for i := range table {
		table[i] = binary.LittleEndian.Uint16(n.buf[format.BtreeHashOff+2*i:])
		if table[i] != 0 {
			full++
		}
	}
	if full != len(n.keys) {
		p.add(10, nil, "the hash table has %d entries for %d items", full, len(n.keys))
	}
	for i := range n.keys {
		want := uint16(format.BtreeHdrSize + i*format.BtreeItemSize)
		at := int(n.keys[i].Hash32() % format.BtreeHashNr)
		for range format.BtreeHashNr {
			if table[at] == want || table[at] == 0 {
				break
			}
			at = (at + 1) % format.BtreeHashNr
		}
		if table[at] != want {
			p.add(10, &n.keys[i], "the hash table does not find item %d", i)
		}
	}
}
