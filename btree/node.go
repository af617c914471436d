// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package btree

import (
	"scoutfs/block"
	"scoutfs/format"
)

// node is the memory of one btree block. Its methods trust the block: it was
// verified, or made by this package.
type node [format.LargeSize]byte

// nodeOf returns the memory of b, valid while b is pinned.
func nodeOf(b *block.Block) *node { return (*node)(b.Bytes()) }

func (n *node) hdr() *format.BtreeBlock { return format.Overlay[format.BtreeBlock](n[:]) }

// item returns the item with the slot, which is not 0.
func (n *node) item(slot uint16) *format.BtreeItem {
	return format.Overlay[format.BtreeItem](n[format.AvlBase+int(slot):])
}

// val returns the item's value. It shares the block's memory.
func (n *node) val(it *format.BtreeItem) []byte {
	if it.ValLen == 0 {
		return nil
	}
	off, end := int(it.ValOff), int(it.ValOff)+int(it.ValLen)
	return n[off:end:end]
}

// child returns the reference that is the value of a parent's item. It shares
// the block's memory.
func (n *node) child(slot uint16) *format.BlockRef {
	return format.Overlay[format.BlockRef](n[n.item(slot).ValOff:])
}

func (n *node) isLeaf() bool { return n.hdr().Level == 0 }
func (n *node) nr() int      { return int(n.hdr().NrItems) }

// slotOf returns the slot of the i-th item of the array.
func slotOf(i int) uint16 { return uint16(format.AvlFirst + i*format.BtreeItemSize) }

// end is the first byte after the values of a block of the level.
func end(level uint8) int {
	if level == 0 {
		return format.BtreeLeafEnd
	}
	return format.BtreeParentEnd
}

// round8 is the space that a value of n bytes takes.
func round8(n int) int { return (n + 7) &^ 7 }

// itemBytes is what an item with a value of n bytes adds to TotalItemBytes.
func itemBytes(n int) int { return format.BtreeItemSize + round8(n) }

// init makes an empty block of zeroed memory after the block header.
func (n *node) init(level uint8) {
	h := n.hdr()
	h.Level = level
	h.MidFreeLen = uint16(end(level) - format.BtreeHdrSize)
}

// hasRoom reports whether an item with a value of size bytes can be created.
func (n *node) hasRoom(size int) bool { return int(n.hdr().MidFreeLen) >= itemBytes(size) }

// isFull reports whether a block without room is to be split, not compacted.
func (n *node) isFull() bool {
	return int(n.hdr().TotalItemBytes)*100/format.BtreeParentFree >= format.BtreeSplitPct
}

// setValue gives the item a copy of val in newly allocated space. The gap must
// be large enough. The old value's space is abandoned.
func (n *node) setValue(it *format.BtreeItem, val []byte) {
	it.ValLen = uint16(len(val))
	it.ValOff = 0
	if len(val) == 0 {
		return
	}
	h := n.hdr()
	h.MidFreeLen -= uint16(round8(len(val)))
	off := format.BtreeHdrSize + int(h.NrItems)*format.BtreeItemSize + int(h.MidFreeLen)
	it.ValOff = uint16(off)
	copy(n[off:], val)
}

// create adds an item. The block must have room and must not have the key.
func (n *node) create(key *format.Key, seq uint64, flags uint8, val []byte) {
	n.createAt(home(key), key, seq, flags, val)
}

// createAt is create with the key's home bucket, which parents do not need.
func (n *node) createAt(bucket int, key *format.Key, seq uint64, flags uint8, val []byte) {
	h := n.hdr()
	slot := slotOf(int(h.NrItems))
	h.NrItems++
	h.MidFreeLen -= format.BtreeItemSize
	it := n.item(slot)
	*it = format.BtreeItem{Seq: seq, Flags: flags}
	n.setKey(it, slot, key)
	n.avlInsert(slot)
	if h.Level == 0 {
		n.hashInsert(slot, bucket)
	}
	n.setValue(it, val)
	h.TotalItemBytes += uint16(itemBytes(len(val)))
}

// setKey stores the key with its padding zero, whatever the caller's memory
// holds there.
func (n *node) setKey(it *format.BtreeItem, slot uint16, key *format.Key) {
	it.Key = *key
	pad := format.AvlBase + int(slot) + itemKeyOff + keyBytes
	clear(n[pad : pad+keyPad])
}

// Where a key lies in an item, and how much of it carries meaning.
const (
	itemKeyOff = 8
	keyBytes   = 27
	keyPad     = 5
)

// update gives the item a new value of any length. The block must have room for
// a whole new item with it.
func (n *node) update(slot uint16, val []byte) {
	it, h := n.item(slot), n.hdr()
	h.TotalItemBytes += uint16(round8(len(val))) - uint16(round8(int(it.ValLen)))
	n.setValue(it, val)
}

// replace gives the item the value, seq and flags of another.
func (n *node) replace(slot uint16, by *Item) {
	n.update(slot, by.Val)
	it := n.item(slot)
	it.Seq, it.Flags = by.Seq, by.Flags
}

// remove deletes the item and moves the array's last one into its slot.
func (n *node) remove(slot uint16) {
	h := n.hdr()
	if h.Level == 0 {
		n.hashDelete(slot)
		if last := slotOf(int(h.NrItems) - 1); slot != last {
			n.hashMove(last, slot)
		}
	}
	n.unlink(slot)
}

// unlink is remove for all but the hash table.
func (n *node) unlink(slot uint16) {
	h, it := n.hdr(), n.item(slot)
	n.avlDelete(slot)
	h.NrItems--
	h.MidFreeLen += format.BtreeItemSize
	h.TotalItemBytes -= uint16(itemBytes(int(it.ValLen)))
	if last := slotOf(int(h.NrItems)); slot != last {
		*it = *n.item(last)
		n.avlMoved(last, slot)
	}
}

// compact packs all values against the block's end, in the order they lie in.
func (n *node) compact() {
	h := n.hdr()
	var at [format.LargeSize / 8]uint16 // slot of the item whose value starts at 8*i
	for i := range int(h.NrItems) {
		if it := n.item(slotOf(i)); it.ValLen > 0 {
			at[it.ValOff/8] = slotOf(i)
		}
	}
	to := end(h.Level)
	for i := len(at) - 1; i >= 0; i-- {
		if at[i] == 0 {
			continue
		}
		it := n.item(at[i])
		to -= round8(int(it.ValLen))
		copy(n[to:], n.val(it))
		it.ValOff = uint16(to)
	}
	h.MidFreeLen = uint16(to - format.BtreeHdrSize - int(h.NrItems)*format.BtreeItemSize)
}

// moveItems moves items from src to n, the smallest first or the greatest
// first, until their bytes reach amount. n must have room. The table of src is
// made anew at the end, which costs less than to maintain it.
func (n *node) moveItems(src *node, amount int, greatest bool) {
	for moved := 0; moved < amount; {
		slot := src.first()
		if greatest {
			slot = src.last()
		}
		it := src.item(slot)
		n.create(&it.Key, it.Seq, it.Flags, src.val(it))
		moved += itemBytes(int(it.ValLen))
		src.unlink(slot)
	}
	if src.isLeaf() {
		src.hashRebuild()
	}
}

// fixQuirk gives a block with the heights that mkfs stores its true ones.
// Source: spec format 5.3.
func (n *node) fixQuirk() {
	if n.hasQuirk() {
		n.avl(n.hdr().ItemRoot).Height = 2
	}
}

// hasQuirk reports whether the block has exactly the shape that mkfs makes: two
// items, the root's stored height 0.
func (n *node) hasQuirk() bool {
	h := n.hdr()
	return h.NrItems == 2 && h.ItemRoot == slotOf(1) && n.avl(slotOf(1)).Height == 0 && n.avl(slotOf(1)).Left == slotOf(0)
}
