// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package btree

import (
	"fmt"

	"scoutfs/format"
)

// VerifyBlock checks all that can be known of a btree block from its own bytes
// alone: counts and bounds, the AVL tree, keys in order, values that do not
// overlap, the hash table. Everything else in this package relies on it, so
// that no bytes make it panic or loop. b is the whole block, 8-byte aligned.
// The header (crc, magic, fsid, seq, blkno) is the cache's business.
//
// What spec format 5.7 says readers must tolerate passes: any occupancy, a gap
// that is recorded smaller than it is, stale bytes, item seqs in any tree, and
// the AVL heights that mkfs stores.
func VerifyBlock(b []byte) error {
	if len(b) != format.LargeSize {
		return fmt.Errorf("block is %d bytes", len(b))
	}
	n := (*node)(b)
	if err := n.verifyHeader(); err != nil {
		return err
	}
	if err := n.verifyItems(); err != nil {
		return err
	}
	if err := n.verifyAvl(); err != nil {
		return err
	}
	if n.isLeaf() {
		return n.verifyHash()
	}
	return nil
}

func (n *node) verifyHeader() error {
	h := n.hdr()
	if h.Level >= format.MaxHeight {
		return fmt.Errorf("level %d", h.Level)
	}
	if h.MidFreeLen%8 != 0 {
		return fmt.Errorf("free gap of %d bytes is not aligned", h.MidFreeLen)
	}
	if top := n.gapEnd(); top > end(h.Level) {
		return fmt.Errorf("%d items and a gap of %d bytes end at %d", h.NrItems, h.MidFreeLen, top)
	}
	if h.Level > 0 && h.NrItems == 0 {
		return fmt.Errorf("parent without items")
	}
	return nil
}

// gapEnd is the lowest offset at which a value may lie.
func (n *node) gapEnd() int {
	h := n.hdr()
	return format.BtreeHdrSize + int(h.NrItems)*format.BtreeItemSize + int(h.MidFreeLen)
}

// verifyItems checks each item but not how they are linked.
func (n *node) verifyItems() error {
	h := n.hdr()
	var used [format.LargeSize / 8 / 64]uint64 // one bit for 8 bytes of values
	total := 0
	for i := range int(h.NrItems) {
		it := n.item(slotOf(i))
		if err := n.verifyItem(i, it); err != nil {
			return err
		}
		if !markUsed(&used, int(it.ValOff)/8, round8(int(it.ValLen))/8) {
			return fmt.Errorf("item %d: value at %d length %d overlaps another", i, it.ValOff, it.ValLen)
		}
		total += itemBytes(int(it.ValLen))
	}
	if total != int(h.TotalItemBytes) {
		return fmt.Errorf("items are %d bytes, header says %d", total, h.TotalItemBytes)
	}
	return nil
}

func (n *node) verifyItem(i int, it *format.BtreeItem) error {
	pad := format.AvlBase + int(slotOf(i)) + itemKeyOff + keyBytes
	if [keyPad]byte(n[pad:]) != [keyPad]byte{} {
		return fmt.Errorf("item %d: key padding is not zero", i)
	}
	level := n.hdr().Level
	if level > 0 && it.ValLen != uint16(format.Size[format.BlockRef]()) {
		return fmt.Errorf("item %d: parent has value of %d bytes", i, it.ValLen)
	}
	if it.ValLen == 0 {
		return nil
	}
	off := int(it.ValOff)
	if it.ValLen > format.MaxValue || off%8 != 0 || off < n.gapEnd() || off+round8(int(it.ValLen)) > end(level) {
		return fmt.Errorf("item %d: value at %d length %d", i, it.ValOff, it.ValLen)
	}
	if level > 0 && format.Overlay[format.BlockRef](n[off:]).Blkno < format.FirstMetaBlkno {
		return fmt.Errorf("item %d: reference to block %d", i, format.Overlay[format.BlockRef](n[off:]).Blkno)
	}
	return nil
}

// markUsed sets count bits from first on and reports whether all were clear.
func markUsed(used *[format.LargeSize / 8 / 64]uint64, first, count int) bool {
	for count > 0 {
		in := min(count, 64-first%64)
		mask := (^uint64(0) >> (64 - in)) << (first % 64)
		if used[first/64]&mask != 0 {
			return false
		}
		used[first/64] |= mask
		first += in
		count -= in
	}
	return true
}

// avlWalk is how far verifyAvl has come.
type avlWalk struct {
	n    *node
	last uint16 // slot of the previous item in order, or 0
	seen int
}

// verifyAvl walks the tree in order. Heights that fall strictly bound the
// depth, and ascending keys keep it from coming to an item twice.
func (n *node) verifyAvl() error {
	h := n.hdr()
	w := avlWalk{n: n}
	height := 0
	if h.ItemRoot != 0 {
		if !n.isSlot(h.ItemRoot) {
			return fmt.Errorf("root offset %d is no item", h.ItemRoot)
		}
		if height = n.height(h.ItemRoot); n.hasQuirk() {
			height = 2
		}
	}
	if height > maxAvlHeight {
		return fmt.Errorf("tree of height %d", height)
	}
	if err := w.visit(h.ItemRoot, 0, height); err != nil {
		return err
	}
	if w.seen != int(h.NrItems) {
		return fmt.Errorf("tree links %d of %d items", w.seen, h.NrItems)
	}
	return nil
}

// maxAvlHeight is more than a balanced tree of 1169 items, which is all that a
// block has space for, can have.
const maxAvlHeight = 16

// isSlot reports whether a link's value is the slot of an item.
func (n *node) isSlot(slot uint16) bool {
	return slot >= format.AvlFirst && (slot-format.AvlFirst)%format.BtreeItemSize == 0 &&
		int(slot-format.AvlFirst)/format.BtreeItemSize < n.nr()
}

// visit checks the subtree at slot, which is 0 or has a height of exactly
// height.
func (w *avlWalk) visit(slot, parent uint16, height int) error {
	if slot == 0 {
		return nil
	}
	n := w.n
	nd := n.avl(slot)
	if nd.Parent != parent {
		return fmt.Errorf("tree node %d has parent %d instead of %d", slot, nd.Parent, parent)
	}
	for _, c := range [2]uint16{nd.Left, nd.Right} {
		if c != 0 && !n.isSlot(c) {
			return fmt.Errorf("tree node %d has child %d", slot, c)
		}
	}
	lh, rh := n.height(nd.Left), n.height(nd.Right)
	if height != 1+max(lh, rh) || lh-rh > 1 || rh-lh > 1 || (lh == 0) != (nd.Left == 0) || (rh == 0) != (nd.Right == 0) {
		return fmt.Errorf("tree node %d has height %d over %d and %d", slot, height, lh, rh)
	}
	if err := w.visit(nd.Left, slot, lh); err != nil {
		return err
	}
	if w.last != 0 && !n.item(w.last).Key.Less(&n.item(slot).Key) {
		return fmt.Errorf("key %v follows %v", n.item(slot).Key, n.item(w.last).Key)
	}
	w.last = slot
	w.seen++
	return w.visit(nd.Right, slot, rh)
}

// verifyHash checks that each item is in the table once, where a lookup for its
// key finds it.
func (n *node) verifyHash() error {
	used, empty := 0, 0
	for i := range format.BtreeHashNr {
		if n.bucket(i) != 0 {
			used++
		} else {
			empty = i
		}
	}
	if used != n.nr() {
		return fmt.Errorf("hash table has %d of %d items", used, n.nr())
	}
	var seen [(format.MaxLeafItems + 63) / 64]uint64
	run := 0 // full buckets before this one
	for i := after(empty); i != empty; i = after(i) {
		off := n.bucket(i)
		if off == 0 {
			run = 0
			continue
		}
		slot := off - format.AvlBase
		if off < format.AvlBase || !n.isSlot(slot) {
			return fmt.Errorf("hash bucket %d is %d, no item", i, off)
		}
		dist := (i - home(&n.item(slot).Key) + format.BtreeHashNr) % format.BtreeHashNr
		nr := int(slot-format.AvlFirst) / format.BtreeItemSize
		if dist > run || seen[nr/64]>>(nr%64)&1 != 0 {
			return fmt.Errorf("hash bucket %d is %d, out of place", i, off)
		}
		seen[nr/64] |= 1 << (nr % 64)
		run++
	}
	return nil
}
