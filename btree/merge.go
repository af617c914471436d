// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package btree

import (
	"errors"
	"fmt"

	"scoutfs/block"
	"scoutfs/format"
)

// What log merging does with trees: work on a part of the filesystem tree, put
// the result back, free dead log trees. Source: spec format 7.5, 7.6.

// errRemain stops a merge whose root must not change its shape any more.
var errRemain = errors.New("btree: root of a subtree would change its shape")

// Subtree returns the part of a tree that one merge request works on: the level
// 1 block on the way to key as a tree of height 2, and the greatest key that
// it may hold. part is false if the tree is so low that it is returned whole.
func Subtree(c *block.Cache, root *format.BtreeRoot, key *format.Key) (sub format.BtreeRoot, end format.Key, part bool, err error) {
	if root.Height <= 2 {
		_, err := checkRoot(c, root)
		return *root, format.KeyMax, false, err
	}
	if _, err := checkRoot(c, root); err != nil {
		return sub, end, false, err
	}
	s := span{hi: format.KeyMax}
	ref := root.Ref
	for level := int(root.Height) - 1; level > 1; level-- {
		b, err := readNode(c, ref, level)
		if err != nil {
			return sub, end, false, err
		}
		n := nodeOf(b)
		slot := n.ge(key)
		if slot == 0 {
			b.Release()
			return sub, end, false, corrupt(c, ref, "no child for key %v", *key)
		}
		n.narrow(slot, &s)
		ref = *n.child(slot)
		b.Release()
	}
	return format.BtreeRoot{Ref: ref, Height: 2}, s.hi, true, nil
}

// Splice replaces the part of the tree that [Subtree] returned for key by sub.
// The blocks of the old part are not freed: whoever made sub did that.
func (t *Tx) Splice(root *format.BtreeRoot, key *format.Key, sub *format.BtreeRoot) error {
	if root.Height <= 2 {
		*root = *sub
		return nil
	}
	if _, err := checkRoot(t.Cache, root); err != nil {
		return err
	}
	if sub.Height != 2 {
		return corrupt(t.Cache, sub.Ref, "subtree of height %d", sub.Height)
	}
	var par *block.Block
	s := span{hi: format.KeyMax}
	ref := &root.Ref
	for level := int(root.Height) - 1; level > 1; level-- {
		b, err := t.dirty(ref, level, &s)
		if par != nil {
			par.Release()
		}
		if par = b; err != nil {
			return err
		}
		n := nodeOf(b)
		slot := n.ge(key)
		if slot == 0 {
			b.Release()
			return corrupt(t.Cache, b.Ref(), "no child for key %v", *key)
		}
		n.narrow(slot, &s)
		ref = n.child(slot)
	}
	defer par.Release()
	return t.spliceRef(ref, &s, sub.Ref)
}

// spliceRef stores a reference to a level 1 block after a look at the block.
func (t *Tx) spliceRef(ref *format.BlockRef, s *span, sub format.BlockRef) error {
	b, err := readNode(t.Cache, sub, 1)
	if err != nil {
		return err
	}
	defer b.Release()
	n := nodeOf(b)
	if err := n.checkSpan(t.Cache, sub, s); err != nil {
		return err
	}
	if last := n.item(n.last()).Key; last != s.hi {
		return corrupt(t.Cache, sub, "subtree ends at %v instead of %v", last, s.hi)
	}
	*ref = sub
	return nil
}

// MergeOptions say where [Tx.MergeItems] has to stop.
type MergeOptions struct {
	// Subtree: the root is a part of a taller tree, see [Subtree], and must
	// neither be split nor joined.
	Subtree bool
	// Stop is asked before each leaf whether to end, because of the blocks
	// that are dirty or left. nil never ends.
	Stop func() bool
}

// MergeItems applies items of log trees to the filesystem tree, in the order in
// which next returns them, which should be that of ascending keys. Deletion
// items remove; others insert or replace value, seq and flags. Items of zone 12
// are added to an existing one, which is removed if it becomes zero and else gets
// the item's seq. An item's memory must stay valid until the next call of next.
//
// done is false if it had to stop, as o says; remain is then the key of the
// last item that next returned, which was not merged. On an error all
// items before that one are merged. The tree may be left as one empty leaf.
func (t *Tx) MergeItems(root *format.BtreeRoot, o MergeOptions, next func() (it *Item, ok bool)) (remain format.Key, done bool, err error) {
	if o.Subtree && root.Height != 2 {
		return remain, false, fmt.Errorf("btree: subtree of height %d: %w", root.Height, ErrInvalid)
	}
	m := merger{putter: putter{t: t, root: root}, o: o}
	defer m.leave()
	for it, ok := next(); ok; it, ok = next() {
		err := m.merge(it)
		if errors.Is(err, errRemain) {
			return it.Key, false, nil
		}
		if err != nil {
			return it.Key, false, err
		}
	}
	return format.Key{}, true, nil
}

// merger is one MergeItems.
type merger struct {
	putter
	o MergeOptions
}

// merge applies one item.
func (m *merger) merge(it *Item) error {
	isDelta, err := checkItem(it)
	if err != nil {
		return err
	}
	if !m.fits(it) {
		if err := m.seek(it); err != nil {
			return err
		}
	}
	n := nodeOf(m.leaf)
	bucket := home(&it.Key)
	slot := n.findFrom(&it.Key, bucket)
	switch {
	case slot == 0 && it.Deletion():
	case slot == 0:
		n.createAt(bucket, &it.Key, it.Seq, it.Flags, it.Val)
	case it.Deletion():
		n.remove(slot)
	case isDelta:
		return m.total(n, slot, it)
	default:
		n.replace(slot, it)
	}
	return nil
}

// fits reports whether the leaf at hand is right for the item, with room for it
// and not so empty that it has to be joined first.
func (m *merger) fits(it *Item) bool {
	if !m.covers(&it.Key) {
		return false
	}
	n := nodeOf(m.leaf)
	isLow := m.root.Height > 1 && int(n.hdr().TotalItemBytes) < format.BtreeLowWater
	return !isLow && n.makeRoom(len(it.Val))
}

// seek makes leaf the one that covers the item.
func (m *merger) seek(it *Item) (err error) {
	m.leave()
	if m.o.Stop != nil && m.o.Stop() {
		return errRemain
	}
	empty, err := checkRoot(m.t.Cache, m.root)
	if err != nil {
		return err
	}
	m.lo = it.Key
	if empty {
		m.leaf, m.hi, err = m.t.leafFor(m.root, &it.Key, len(it.Val))
		return err
	}
	m.leaf, m.hi, err = m.t.descend(m.root, &it.Key, intent{room: len(it.Val), join: true, fixed: m.o.Subtree})
	return err
}

// total adds a difference to an absolute total.
func (m *merger) total(n *node, slot uint16, it *Item) error {
	old := n.item(slot)
	if err := m.add(n, old, it); err != nil {
		return err
	}
	if *format.Overlay[format.Totl](n.val(old)) == (format.Totl{}) {
		n.remove(slot)
		return nil
	}
	old.Seq = it.Seq
	return nil
}

// FreeTree frees the blocks of a dead tree from left to right, with its leaves
// unread. key says how far that came, the zero key at first, and is moved on.
// At most budget blocks are freed, which must be at least the tree's height; done
// says that none is left. The tree must not be used any more. After an error the
// transaction must be abandoned, because blocks may be lost otherwise.
func (t *Tx) FreeTree(root *format.BtreeRoot, key *format.Key, budget int) (done bool, err error) {
	if empty, err := checkRoot(t.Cache, root); empty || err != nil {
		return err == nil, err
	}
	for budget >= int(root.Height) {
		f := freeing{t: t, root: root, key: key, budget: budget}
		if done, err = f.run(); done || err != nil {
			return done, err
		}
		budget = f.budget
	}
	return false, nil
}

// freeing is FreeTree for the leaves of one level 1 block.
type freeing struct {
	t      *Tx
	root   *format.BtreeRoot
	key    *format.Key
	budget int

	path [format.MaxHeight]format.BlockRef // parents of the leaf at hand, by level
	last [format.MaxHeight]bool            // the way to the leaf leads through the parent's last child
}

func (f *freeing) run() (done bool, err error) {
	if f.root.Height == 1 {
		return true, f.free(f.root.Ref)
	}
	ref := f.root.Ref
	for level := int(f.root.Height) - 1; ; level-- {
		b, err := readNode(f.t.Cache, ref, level)
		if err != nil {
			return false, err
		}
		n := nodeOf(b)
		slot := n.ge(f.key)
		if slot == 0 {
			b.Release()
			return false, corrupt(f.t.Cache, ref, "no child for key %v", *f.key)
		}
		f.path[level], f.last[level] = ref, n.next(slot) == 0
		if level == 1 {
			defer b.Release()
			return f.leaves(n, slot)
		}
		ref = *n.child(slot)
		b.Release()
	}
}

// leaves frees the leaves from slot on while the budget is enough.
func (f *freeing) leaves(n *node, slot uint16) (done bool, err error) {
	for ; slot != 0; slot = n.next(slot) {
		if f.budget < int(f.root.Height) {
			return false, nil
		}
		if err := f.free(*n.child(slot)); err != nil {
			return false, err
		}
		*f.key = n.item(slot).Key.Inc()
	}
	f.last[1] = true
	for level := 1; f.last[level]; level++ {
		if err := f.free(f.path[level]); err != nil {
			return false, err
		}
		if level == int(f.root.Height)-1 {
			return true, nil
		}
	}
	return false, nil
}

func (f *freeing) free(ref format.BlockRef) error {
	f.budget--
	if err := f.t.Alloc.FreeBlock(ref.Blkno); err != nil {
		return fmt.Errorf("btree: free block %d: %w", ref.Blkno, err)
	}
	return nil
}
