// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package btree

import (
	"fmt"

	"scoutfs/block"
	"scoutfs/format"
)

// intent is what a walk for a change has to prepare the blocks for.
type intent struct {
	room int  // bytes of value that the leaf must have room for; < 0: no room is needed
	join bool // blocks that are too empty are joined with a sibling

	// fixed: the root is part of a taller tree. It is a parent and stays the
	// root, or the walk fails with errRemain.
	fixed bool
}

// maxRestarts is far more than splits and joins on one path can cause, each of
// which settles its block for the rest of the walk.
const maxRestarts = 8 * format.MaxHeight

// descend returns the pinned dirty leaf that covers key, prepared as w says,
// and the greatest key that it may hold. The root must not be empty.
// Source: spec format 5.6.
func (t *Tx) descend(root *format.BtreeRoot, key *format.Key, w intent) (*block.Block, format.Key, error) {
	t.freeSpare()
	for range maxRestarts {
		d := descent{t: t, root: root, key: *key, intent: w, span: span{hi: format.KeyMax}}
		leaf, err := d.run()
		if leaf != nil || err != nil {
			return leaf, d.hi, err
		}
	}
	return nil, format.Key{}, corrupt(t.Cache, root.Ref, "splits and joins do not end")
}

// descent is one walk from the root to a leaf. Its blocks are pinned and dirty.
type descent struct {
	t    *Tx
	root *format.BtreeRoot
	key  format.Key // a copy, so that callers' keys stay on their stacks
	intent
	span // of cur

	par  *block.Block // nil when cur is the root
	slot uint16       // cur's item in par
	cur  *block.Block
}

// run returns the leaf, or nil if the tree's shape was changed and the walk has
// to start again.
func (d *descent) run() (leaf *block.Block, err error) {
	defer func() { d.release(leaf) }()
	ref := &d.root.Ref
	for level := int(d.root.Height) - 1; ; level-- {
		if d.cur, err = d.t.dirty(ref, level, &d.span); err != nil {
			return nil, err
		}
		if changed, err := d.settle(level); changed || err != nil {
			return nil, err
		}
		if level == 0 {
			return d.cur, nil
		}
		n := nodeOf(d.cur)
		slot := n.ge(&d.key)
		if slot == 0 {
			return nil, corrupt(d.t.Cache, d.cur.Ref(), "no child for key %v", d.key)
		}
		n.narrow(slot, &d.span)
		if d.par != nil {
			d.par.Release()
		}
		d.par, d.slot, d.cur = d.cur, slot, nil
		ref = n.child(slot)
	}
}

// release unpins what the walk holds, except keep.
func (d *descent) release(keep *block.Block) {
	if d.par != nil {
		d.par.Release()
	}
	if d.cur != nil && d.cur != keep {
		d.cur.Release()
	}
}

// settle gives cur the room and the fill that the intent asks for, and reports
// whether it had to change the shape of the tree.
func (d *descent) settle(level int) (changed bool, err error) {
	n := nodeOf(d.cur)
	if d.fixed && d.par == nil && (int(n.hdr().TotalItemBytes) < format.BtreeLowWater || !n.makeRoom(format.Size[format.BlockRef]())) {
		return false, errRemain
	}
	room := d.room
	if level > 0 {
		room = format.Size[format.BlockRef]()
	}
	if d.room >= 0 && !n.makeRoom(room) {
		return true, d.split()
	}
	if d.join && d.par != nil && int(n.hdr().TotalItemBytes) < format.BtreeLowWater {
		return d.joinSibling()
	}
	return false, nil
}

// makeRoom reports whether the block has room for another value of size bytes,
// perhaps after compacting it. If not, it is to be split.
func (n *node) makeRoom(size int) bool {
	if n.hasRoom(size) {
		return true
	}
	if n.isFull() {
		return false
	}
	n.compact()
	return true
}

// dirty returns the block of ref pinned and ready to be changed. If that takes
// a copy, the reference, which lies in a dirty block or in the root, is changed
// to name it. The block has the level and its keys are in s.
func (t *Tx) dirty(ref *format.BlockRef, level int, s *span) (*block.Block, error) {
	old, err := readNode(t.Cache, *ref, level)
	if err != nil || t.Writer.IsDirty(old) {
		return old, err
	}
	defer old.Release()
	if err := nodeOf(old).checkSpan(t.Cache, *ref, s); err != nil {
		return nil, err
	}
	blkno, err := t.alloc()
	if err != nil {
		return nil, err
	}
	if err := t.Alloc.FreeBlock(ref.Blkno); err != nil {
		t.free(blkno)
		return nil, fmt.Errorf("btree: free block %d: %w", ref.Blkno, err)
	}
	b := t.Writer.Copy(old, blkno)
	nodeOf(b).fixQuirk()
	*ref = b.Ref()
	return b, nil
}

// alloc returns a block that nothing refers to.
func (t *Tx) alloc() (format.Blkno, error) {
	if nr := len(t.spare); nr > 0 {
		blkno := t.spare[nr-1]
		t.spare = t.spare[:nr-1]
		return blkno, nil
	}
	blkno, err := t.Alloc.AllocBlock()
	if err != nil {
		return 0, fmt.Errorf("btree: allocate block: %w", err)
	}
	return blkno, nil
}

// free gives back a block that was allocated in this transaction. If the
// allocator does not take it, the next change offers or uses it.
func (t *Tx) free(blkno format.Blkno) {
	if err := t.Alloc.FreeBlock(blkno); err != nil {
		t.spare = append(t.spare, blkno)
	}
}

// freeSpare offers the allocator again what it did not take back.
func (t *Tx) freeSpare() {
	for nr := len(t.spare); nr > 0 && t.Alloc.FreeBlock(t.spare[nr-1]) == nil; nr-- {
		t.spare = t.spare[:nr-1]
	}
}

// newNode returns a pinned, dirty, empty block of the level.
func (t *Tx) newNode(blkno format.Blkno, level uint8) *block.Block {
	b := t.Writer.New(blkno, Kind)
	nodeOf(b).init(level)
	return b
}

// leafFor is descend for an item with a value of size bytes. It gives an
// empty tree its first leaf.
func (t *Tx) leafFor(root *format.BtreeRoot, key *format.Key, size int) (*block.Block, format.Key, error) {
	if size > format.MaxValue {
		return nil, format.Key{}, fmt.Errorf("btree: value of %d bytes: %w", size, ErrInvalid)
	}
	empty, err := checkRoot(t.Cache, root)
	if err != nil {
		return nil, format.Key{}, err
	}
	if !empty {
		return t.descend(root, key, intent{room: size})
	}
	blkno, err := t.alloc()
	if err != nil {
		return nil, format.Key{}, err
	}
	leaf := t.newNode(blkno, 0)
	root.Ref, root.Height = leaf.Ref(), 1
	return leaf, format.KeyMax, nil
}

// Insert adds an item with seq and flags 0. It fails with [ErrExist], and with
// [ErrInvalid] if val is too long. val is copied.
func (t *Tx) Insert(root *format.BtreeRoot, key *format.Key, val []byte) error {
	leaf, _, err := t.leafFor(root, key, len(val))
	if err != nil {
		return err
	}
	defer leaf.Release()
	n := nodeOf(leaf)
	bucket := home(key)
	if n.findFrom(key, bucket) != 0 {
		return ErrExist
	}
	n.createAt(bucket, key, 0, 0, val)
	t.changed(root, key)
	return nil
}

// Force adds an item or, if there is one with the key, gives it the value and
// keeps its seq and flags. It fails with [ErrInvalid] if val is too long. val is
// copied.
func (t *Tx) Force(root *format.BtreeRoot, key *format.Key, val []byte) error {
	leaf, _, err := t.leafFor(root, key, len(val))
	if err != nil {
		return err
	}
	defer leaf.Release()
	n := nodeOf(leaf)
	if slot := n.find(key); slot != 0 {
		n.update(slot, val)
	} else {
		n.create(key, 0, 0, val)
	}
	t.changed(root, key)
	return nil
}

// Update gives an item a value of any length and keeps its seq and flags. It
// fails with [ErrNotFound], and with [ErrInvalid] if val is too long. val is
// copied. After [Tx.Dirty] in the same transaction an Update with a value of the
// old one's length cannot fail.
func (t *Tx) Update(root *format.BtreeRoot, key *format.Key, val []byte) error {
	if empty, err := checkRoot(t.Cache, root); empty || err != nil {
		return orNotFound(err)
	}
	leaf, _, err := t.leafFor(root, key, len(val))
	if err != nil {
		if t.overwrite(root, key, val) {
			return nil
		}
		return err
	}
	defer leaf.Release()
	n := nodeOf(leaf)
	slot := n.find(key)
	if slot == 0 {
		return ErrNotFound
	}
	n.update(slot, val)
	t.changed(root, key)
	return nil
}

// overwrite replaces a value by one that needs the same space, if all blocks on
// the way are dirty already. It allocates nothing.
func (t *Tx) overwrite(root *format.BtreeRoot, key *format.Key, val []byte) bool {
	leaf, err := t.dirtyLeaf(root, key)
	if leaf == nil || err != nil {
		return false
	}
	defer leaf.Release()
	n := nodeOf(leaf)
	slot := n.find(key)
	if slot == 0 {
		return false
	}
	it := n.item(slot)
	if round8(int(it.ValLen)) != round8(len(val)) {
		return false
	}
	it.ValLen = uint16(len(val))
	copy(n.val(it), val)
	return true
}

// dirtyLeaf returns the pinned leaf that covers key, or nil if a block on the
// way to it is not dirty.
func (t *Tx) dirtyLeaf(root *format.BtreeRoot, key *format.Key) (*block.Block, error) {
	ref := root.Ref
	for level := int(root.Height) - 1; ; level-- {
		b, err := readNode(t.Cache, ref, level)
		if err != nil || level == 0 && t.Writer.IsDirty(b) {
			return b, err
		}
		n := nodeOf(b)
		slot := uint16(0)
		if level > 0 && t.Writer.IsDirty(b) {
			slot = n.ge(key)
		}
		if slot == 0 {
			b.Release()
			return nil, nil
		}
		ref = *n.child(slot)
		b.Release()
	}
}

// Delete removes an item. It fails with [ErrNotFound].
func (t *Tx) Delete(root *format.BtreeRoot, key *format.Key) error {
	if empty, err := checkRoot(t.Cache, root); empty || err != nil {
		return orNotFound(err)
	}
	leaf, _, err := t.descend(root, key, intent{join: true})
	if err != nil {
		return err
	}
	defer leaf.Release()
	n := nodeOf(leaf)
	slot := n.find(key)
	if slot == 0 {
		return ErrNotFound
	}
	if root.Height == 1 && n.nr() == 1 {
		return t.freeLast(root, leaf)
	}
	n.remove(slot)
	t.changed(root, key)
	return nil
}

// freeLast empties a tree that is one leaf.
func (t *Tx) freeLast(root *format.BtreeRoot, leaf *block.Block) error {
	if err := t.Alloc.FreeBlock(leaf.Blkno()); err != nil {
		return fmt.Errorf("btree: free block %d: %w", leaf.Blkno(), err)
	}
	t.Writer.Forget(leaf)
	*root = format.BtreeRoot{}
	return nil
}

// Dirty makes all blocks on the way to an item dirty, with room for its value,
// so that a later [Tx.Update] with a value of the same length neither reads nor
// allocates. It fails with [ErrNotFound].
func (t *Tx) Dirty(root *format.BtreeRoot, key *format.Key) error {
	it, err := Lookup(t.Cache, root, key, nil)
	if err != nil {
		return err
	}
	leaf, _, err := t.descend(root, key, intent{room: len(it.Val)})
	if err != nil {
		return err
	}
	leaf.Release()
	t.changed(root, key)
	return nil
}

// Rebalance prepares the blocks on the way to key for the insertion of any
// item: blocks that are too empty are joined with a sibling, those that are too
// full are split. The tree may be empty.
func (t *Tx) Rebalance(root *format.BtreeRoot, key *format.Key) error {
	if empty, err := checkRoot(t.Cache, root); empty || err != nil {
		return err
	}
	leaf, _, err := t.descend(root, key, intent{room: format.MaxValue, join: true})
	if err != nil {
		return err
	}
	leaf.Release()
	t.changed(root, key)
	return nil
}
