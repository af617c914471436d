// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package btree

import (
	"fmt"

	"scoutfs/block"
	"scoutfs/format"
)

// span is an inclusive range of keys that a block may hold.
type span struct{ lo, hi format.Key }

// corrupt returns the error for a block whose bytes do not fit its place in
// the tree.
func corrupt(c *block.Cache, ref format.BlockRef, msg string, args ...any) error {
	return &format.CorruptError{Device: c.Device().Name(), Blkno: ref.Blkno, Reason: "btree: " + fmt.Sprintf(msg, args...)}
}

// readNode returns the pinned block of ref, which has the level.
func readNode(c *block.Cache, ref format.BlockRef, level int) (*block.Block, error) {
	b, err := c.Read(ref, Kind)
	if err != nil {
		return nil, fmt.Errorf("btree: read block %d: %w", ref.Blkno, err)
	}
	if got := int(nodeOf(b).hdr().Level); got != level {
		b.Release()
		return nil, corrupt(c, ref, "level %d instead of %d", got, level)
	}
	return b, nil
}

// checkRoot reports whether the tree has no block.
func checkRoot(c *block.Cache, root *format.BtreeRoot) (empty bool, err error) {
	if root.Height > format.MaxHeight || (root.Height == 0) != root.Ref.IsNull() {
		return false, corrupt(c, root.Ref, "root of height %d", root.Height)
	}
	return root.Height == 0, nil
}

// findLeaf returns the pinned leaf that covers key and narrows s to what the
// leaf may hold; s may be nil. If the whole tree ends before key the
// leaf is nil and s stays whole. The root must not be empty.
func findLeaf(c *block.Cache, root *format.BtreeRoot, key *format.Key, s *span) (*block.Block, error) {
	ref := root.Ref
	top := int(root.Height) - 1
	for level := top; ; level-- {
		b, err := readNode(c, ref, level)
		if err != nil {
			return nil, err
		}
		if level == 0 {
			return b, nil
		}
		n := nodeOf(b)
		slot := n.ge(key)
		if slot == 0 {
			b.Release()
			if level == top {
				return nil, nil
			}
			return nil, corrupt(c, ref, "no child for key %v", *key)
		}
		if s != nil {
			n.narrow(slot, s)
		}
		ref = *n.child(slot)
		b.Release()
	}
}

// narrow reduces a parent's span to that of one child.
func (n *node) narrow(slot uint16, s *span) {
	s.hi = n.item(slot).Key
	if p := n.prev(slot); p != 0 {
		s.lo = n.item(p).Key.Inc()
	}
}

// load makes an Item of a leaf's item with its value appended to buf[:0].
func (n *node) load(slot uint16, buf []byte) Item {
	it := n.item(slot)
	return Item{Key: it.Key, Seq: it.Seq, Flags: it.Flags, Val: append(buf[:0], n.val(it)...)}
}

// view makes an Item whose value shares the leaf's memory.
func (n *node) view(slot uint16, out *Item) {
	it := n.item(slot)
	*out = Item{Key: it.Key, Seq: it.Seq, Flags: it.Flags, Val: n.val(it)}
}

// Lookup returns the item with the key, its value appended to buf[:0], which
// may be nil. It does not allocate if buf is large enough. It fails with
// [ErrNotFound], or as Cache.Read does.
func Lookup(c *block.Cache, root *format.BtreeRoot, key *format.Key, buf []byte) (Item, error) {
	if empty, err := checkRoot(c, root); empty || err != nil {
		return Item{}, orNotFound(err)
	}
	b, err := findLeaf(c, root, key, nil)
	if err != nil {
		return Item{}, err
	}
	if b == nil {
		return Item{}, corrupt(c, root.Ref, "no child for key %v", *key)
	}
	defer b.Release()
	n := nodeOf(b)
	slot := n.find(key)
	if slot == 0 {
		return Item{}, ErrNotFound
	}
	return n.load(slot, buf), nil
}

func orNotFound(err error) error {
	if err == nil {
		return ErrNotFound
	}
	return err
}

// Next returns the item with the smallest key that is not less than key, with
// buf and errors as Lookup.
func Next(c *block.Cache, root *format.BtreeRoot, key *format.Key, buf []byte) (Item, error) {
	if empty, err := checkRoot(c, root); empty || err != nil {
		return Item{}, orNotFound(err)
	}
	for from := *key; ; {
		s := span{hi: format.KeyMax}
		b, err := findLeaf(c, root, &from, &s)
		if b == nil {
			return Item{}, orNotFound(err)
		}
		n := nodeOf(b)
		if slot := n.ge(&from); slot != 0 {
			it := n.load(slot, buf)
			b.Release()
			return it, nil
		}
		b.Release()
		if s.hi == format.KeyMax {
			return Item{}, ErrNotFound
		}
		from = s.hi.Inc()
	}
}

// Prev returns the item with the greatest key that is not greater than key,
// with buf and errors as Lookup.
func Prev(c *block.Cache, root *format.BtreeRoot, key *format.Key, buf []byte) (Item, error) {
	if empty, err := checkRoot(c, root); empty || err != nil {
		return Item{}, orNotFound(err)
	}
	for from := *key; ; {
		s := span{hi: format.KeyMax}
		b, err := findLeaf(c, root, &from, &s)
		if err != nil {
			return Item{}, err
		}
		if b == nil { // key is beyond a tree that is part of another
			if from, err = lastKey(c, root); err != nil {
				return Item{}, err
			}
			continue
		}
		n := nodeOf(b)
		if slot := n.le(&from); slot != 0 {
			it := n.load(slot, buf)
			b.Release()
			return it, nil
		}
		b.Release()
		if s.lo == (format.Key{}) {
			return Item{}, ErrNotFound
		}
		from = s.lo.Dec()
	}
}

// lastKey returns the last key of the root block of a tree with parents.
func lastKey(c *block.Cache, root *format.BtreeRoot) (format.Key, error) {
	b, err := readNode(c, root.Ref, int(root.Height)-1)
	if err != nil {
		return format.Key{}, err
	}
	defer b.Release()
	n := nodeOf(b)
	return n.item(n.last()).Key, nil
}

// ReadLeaf calls fn for every item of the leaf that covers key, in ascending
// order, and returns the range of keys that the leaf covers: nothing else in the
// tree has a key in it. The Item and its value are only valid in fn, which must
// not change the tree. An empty tree covers all keys, without a call.
func ReadLeaf(c *block.Cache, root *format.BtreeRoot, key *format.Key, fn func(*Item)) (start, end format.Key, err error) {
	s := span{hi: format.KeyMax}
	if empty, err := checkRoot(c, root); empty || err != nil {
		return s.lo, s.hi, err
	}
	b, err := findLeaf(c, root, key, &s)
	if err != nil {
		return format.Key{}, format.Key{}, err
	}
	if b == nil {
		return format.Key{}, format.Key{}, corrupt(c, root.Ref, "no child for key %v", *key)
	}
	defer b.Release()
	n := nodeOf(b)
	if err := n.checkSpan(c, b.Ref(), &s); err != nil {
		return format.Key{}, format.Key{}, err
	}
	var it Item
	for slot := n.first(); slot != 0; slot = n.next(slot) {
		n.view(slot, &it)
		fn(&it)
	}
	return s.lo, s.hi, nil
}

// checkSpan checks that all keys of the block are in s.
func (n *node) checkSpan(c *block.Cache, ref format.BlockRef, s *span) error {
	first, last := n.first(), n.last()
	if first == 0 {
		return nil
	}
	if lo, hi := &n.item(first).Key, &n.item(last).Key; lo.Less(&s.lo) || s.hi.Less(hi) {
		return corrupt(c, ref, "keys %v to %v instead of %v to %v", *lo, *hi, s.lo, s.hi)
	}
	return nil
}
