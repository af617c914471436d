// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package btree

import (
	"errors"

	"scoutfs/block"
	"scoutfs/format"
	"scoutfs/internal/invariants"
)

// CheckOptions say what [Check] looks at. All functions may be nil.
type CheckOptions struct {
	// Subtree: the root is a block of a taller tree, so that its last key need
	// not be format.KeyMax and it may have a single child.
	Subtree bool
	// Block is called for every block, before its children. An error ends Check.
	Block func(ref format.BlockRef, level int) error
	// Item is called for every item of a leaf, in ascending order. The Item is
	// only valid in the call. An error ends Check.
	Item func(it *Item) error
	// Warn is called for what is allowed but unusual: blocks below the low-water
	// mark and empty leaves, except roots.
	Warn func(ref format.BlockRef, reason string)
}

// Check reads a whole tree and returns the first violation of what writers must
// guarantee, as a *format.CorruptError, or the first error of a read or of a
// function of o. Source: spec format 5.7, 12.3 points 8 to 12.
func Check(c *block.Cache, root *format.BtreeRoot, o CheckOptions) error {
	if empty, err := checkRoot(c, root); empty || err != nil {
		return err
	}
	k := checker{c: c, o: o, top: int(root.Height) - 1}
	return k.visit(root.Ref, k.top, span{hi: format.KeyMax})
}

// checker is one Check.
type checker struct {
	c   *block.Cache
	o   CheckOptions
	top int // level of the root
}

// visit checks the block of ref and all below it.
func (k *checker) visit(ref format.BlockRef, level int, s span) error {
	if k.o.Block != nil {
		if err := k.o.Block(ref, level); err != nil {
			return err
		}
	}
	b, err := readNode(k.c, ref, level)
	if err != nil {
		return err
	}
	defer b.Release()
	n := nodeOf(b)
	if err := VerifyBlock(n[:]); err != nil { // it may be dirty
		return corrupt(k.c, ref, "%v", err)
	}
	if err := n.checkSpan(k.c, ref, &s); err != nil {
		return err
	}
	if reason := n.strict(); reason != "" {
		return corrupt(k.c, ref, "%s", reason)
	}
	k.warn(ref, n, level)
	if level == 0 {
		return k.items(n)
	}
	return k.children(ref, n, level, s)
}

// children checks the keys of a parent and visits its children.
func (k *checker) children(ref format.BlockRef, n *node, level int, s span) error {
	whole := !k.o.Subtree || level < k.top
	if whole && n.nr() < 2 {
		return corrupt(k.c, ref, "parent with a single child")
	}
	if last := n.item(n.last()).Key; s.hi == format.KeyMax && !k.o.Subtree && last != format.KeyMax {
		return corrupt(k.c, ref, "last key %v on the right edge", last)
	}
	for slot := n.first(); slot != 0; slot = n.next(slot) {
		child := s
		n.narrow(slot, &child)
		if err := k.visit(*n.child(slot), level-1, child); err != nil {
			return err
		}
	}
	return nil
}

// items calls the caller's function for a leaf's items.
func (k *checker) items(n *node) error {
	if k.o.Item == nil {
		return nil
	}
	var it Item
	for slot := n.first(); slot != 0; slot = n.next(slot) {
		n.view(slot, &it)
		if err := k.o.Item(&it); err != nil {
			return err
		}
	}
	return nil
}

// warn reports blocks that are emptier than changes leave them.
func (k *checker) warn(ref format.BlockRef, n *node, level int) {
	if k.o.Warn == nil || level == k.top {
		return
	}
	switch {
	case n.nr() == 0:
		k.o.Warn(ref, "empty leaf")
	case int(n.hdr().TotalItemBytes) < format.BtreeLowWater:
		k.o.Warn(ref, "block below the low-water mark")
	}
}

// strict returns what is wrong with a valid block that readers tolerate but
// writers must not write, or "".
func (n *node) strict() string {
	if n.hasQuirk() && n.hdr().Hdr.Seq != 1 {
		return "tree heights of mkfs in a block with another seq"
	}
	for i := range n.nr() {
		slot := slotOf(i)
		it := n.item(slot)
		pad := format.AvlBase + int(slot) + format.BtreeItemSize - 3
		switch {
		case [3]byte(n[pad:]) != [3]byte{} || n[format.AvlBase+int(slot)+7] != 0:
			return "item padding is not zero"
		case it.ValLen == 0 && it.ValOff != 0:
			return "offset of an empty value is not zero"
		case it.Flags&^format.ItemFlagDeletion != 0:
			return "unknown item flags"
		case it.Flags != 0 && it.ValLen != 0:
			return "deletion item with a value"
		case !n.isLeaf() && it.Flags != 0:
			return "parent item with flags"
		}
	}
	return ""
}

// changed checks, in invariant builds, the blocks on the way to key after a
// change there. In trees of several blocks it does so for one
// change in 16, to keep such builds usable.
func (t *Tx) changed(root *format.BtreeRoot, key *format.Key) {
	if !invariants.Enabled {
		return
	}
	t.changes++
	if root.Height > 1 && t.changes%16 != 0 {
		return
	}
	if err := t.checkPath(root, key); err != nil {
		var ce *format.CorruptError
		invariants.Check(!errors.As(err, &ce), "btree: after a change at %v: %v", *key, err)
	}
}

// checkPath is [Check] for the dirty blocks from the root to key.
func (t *Tx) checkPath(root *format.BtreeRoot, key *format.Key) error {
	s := span{hi: format.KeyMax}
	ref := root.Ref
	for level := int(root.Height) - 1; level >= 0; level-- {
		b, err := readNode(t.Cache, ref, level)
		if err != nil || !t.Writer.IsDirty(b) {
			if b != nil {
				b.Release()
			}
			return err
		}
		n := nodeOf(b)
		err = VerifyBlock(n[:])
		if err != nil {
			err = corrupt(t.Cache, ref, "%v", err)
		} else {
			err = n.checkSpan(t.Cache, ref, &s)
		}
		if err == nil && level > 0 {
			slot := n.ge(key)
			n.narrow(slot, &s)
			ref = *n.child(slot)
		}
		b.Release()
		if err != nil {
			return err
		}
	}
	return nil
}
