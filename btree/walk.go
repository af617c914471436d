// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package btree

import (
	"fmt"

	"scoutfs/block"
	"scoutfs/format"
)

// maxBatch is how many leaves Walk reads ahead at most: 1 MiB.
const maxBatch = 16

// walker is one Walk.
type walker struct {
	c    *block.Cache
	root *format.BtreeRoot
	to   *format.Key
	fn   func(*Item) error
	item Item

	// The leaves to read next, with the bound of each, and how many there may
	// be. A walk starts with one and doubles, so that short ones read little.
	refs  [maxBatch]format.BlockRef
	his   [maxBatch]format.Key
	batch int
}

// Walk calls fn for the items with keys in from..to, inclusive, in ascending
// order, until fn returns an error, which Walk then returns as it is. The Item
// and its value are only valid in fn, which must not change the tree. Several
// leaves at once are read from the device and pinned.
func Walk(c *block.Cache, root *format.BtreeRoot, from, to *format.Key, fn func(*Item) error) error {
	if empty, err := checkRoot(c, root); empty || err != nil {
		return err
	}
	w := walker{c: c, root: root, to: to, fn: fn, batch: 1}
	for key := *from; !to.Less(&key); {
		nr, err := w.gather(&key)
		if err != nil {
			return err
		}
		if nr == 0 {
			return nil
		}
		if err := w.leaves(&key, nr); err != nil {
			return err
		}
		hi := &w.his[nr-1]
		if !hi.Less(to) {
			return nil
		}
		key = hi.Inc()
		w.batch = min(2*w.batch, maxBatch)
	}
	return nil
}

// gather fills refs and his from the level 1 block that covers key. None means
// that the tree ends before key.
func (w *walker) gather(key *format.Key) (int, error) {
	if w.root.Height == 1 {
		w.refs[0], w.his[0] = w.root.Ref, format.KeyMax
		return 1, nil
	}
	ref := w.root.Ref
	for level := int(w.root.Height) - 1; ; level-- {
		b, err := readNode(w.c, ref, level)
		if err != nil {
			return 0, err
		}
		n := nodeOf(b)
		slot := n.ge(key)
		switch {
		case slot == 0 && level == int(w.root.Height)-1:
			b.Release()
			return 0, nil
		case slot == 0:
			b.Release()
			return 0, corrupt(w.c, ref, "no child for key %v", *key)
		case level == 1:
			nr := w.collect(n, slot)
			b.Release()
			return nr, nil
		}
		ref = *n.child(slot)
		b.Release()
	}
}

// collect takes up to batch children from slot on, none that starts after to.
func (w *walker) collect(n *node, slot uint16) (nr int) {
	for nr < w.batch && slot != 0 {
		w.refs[nr], w.his[nr] = *n.child(slot), n.item(slot).Key
		nr++
		if !w.his[nr-1].Less(w.to) {
			break
		}
		slot = n.next(slot)
	}
	return nr
}

// leaves reads the gathered leaves and calls fn for their items from key on.
func (w *walker) leaves(key *format.Key, nr int) error {
	var blocks [maxBatch]*block.Block
	if err := w.c.ReadBatch(w.refs[:nr], Kind, blocks[:nr]); err != nil {
		return fmt.Errorf("btree: read %d blocks from %d: %w", nr, w.refs[0].Blkno, err)
	}
	defer func() {
		for _, b := range blocks[:nr] {
			b.Release()
		}
	}()
	s := span{lo: *key}
	for i, b := range blocks[:nr] {
		s.hi = w.his[i]
		if err := w.leaf(b, &s); err != nil {
			return err
		}
		s.lo = s.hi.Inc()
	}
	return nil
}

// leaf calls fn for the items of a leaf from s.lo to w.to.
func (w *walker) leaf(b *block.Block, s *span) error {
	n := nodeOf(b)
	if level := n.hdr().Level; level != 0 {
		return corrupt(w.c, b.Ref(), "level %d instead of 0", level)
	}
	if last := n.last(); last != 0 && s.hi.Less(&n.item(last).Key) {
		return corrupt(w.c, b.Ref(), "key %v beyond %v", n.item(last).Key, s.hi)
	}
	for slot := n.ge(&s.lo); slot != 0; slot = n.next(slot) {
		n.view(slot, &w.item)
		if w.to.Less(&w.item.Key) {
			return nil
		}
		if err := w.fn(&w.item); err != nil {
			return err
		}
	}
	return nil
}

// Blocks calls fn for every block of the tree, parents before their children
// and these in ascending order, until fn returns an error. It reads the parents
// but not the leaves.
func Blocks(c *block.Cache, root *format.BtreeRoot, fn func(ref format.BlockRef, level int) error) error {
	if empty, err := checkRoot(c, root); empty || err != nil {
		return err
	}
	return visitBlocks(c, root.Ref, int(root.Height)-1, fn)
}

func visitBlocks(c *block.Cache, ref format.BlockRef, level int, fn func(format.BlockRef, int) error) error {
	if err := fn(ref, level); err != nil || level == 0 {
		return err
	}
	b, err := readNode(c, ref, level)
	if err != nil {
		return err
	}
	defer b.Release()
	n := nodeOf(b)
	for slot := n.first(); slot != 0; slot = n.next(slot) {
		if err := visitBlocks(c, *n.child(slot), level-1, fn); err != nil {
			return err
		}
	}
	return nil
}
