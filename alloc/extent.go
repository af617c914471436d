// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package alloc

import (
	"errors"
	"fmt"

	"scoutfs/btree"
	"scoutfs/format"
)

// extent is n > 0 blocks from start.
type extent struct {
	start format.Blkno
	n     uint64
}

func (e extent) end() format.Blkno { return e.start + format.Blkno(e.n) }

// edit is one change of a tree of free extents, which either happens as a
// whole or is taken back.
type edit struct {
	t    *btree.Tx
	root *format.AllocRoot
	done []step
}

// step is one btree change of an edit.
type step struct {
	key format.Key
	del bool
}

// begin refuses the edit if the transaction might lack room for it.
func begin(t *btree.Tx, root *format.AllocRoot) (*edit, error) {
	if err := NeedRoom(t.Alloc, ExtentCost(root)); err != nil {
		return nil, err
	}
	return &edit{t: t, root: root, done: make([]step, 0, 6)}, nil
}

// insert adds both items of x. New extents are added before old ones are
// removed, so that a tree of one extent does not lose its only block.
func (e *edit) insert(x extent) error {
	return e.both(x, false)
}

// remove deletes both items of x.
func (e *edit) remove(x extent) error {
	return e.both(x, true)
}

func (e *edit) both(x extent, del bool) error {
	for _, key := range [2]format.Key{format.KeyFreeBlkno(x.start, x.n), format.KeyFreeOrder(x.start, x.n)} {
		s := step{key: key, del: del}
		if err := e.apply(s); err != nil {
			return e.undo(e.explain(x, err))
		}
		e.done = append(e.done, s)
	}
	return nil
}

func (e *edit) apply(s step) error {
	if s.del {
		return e.t.Delete(&e.root.Root, &s.key)
	}
	return e.t.Insert(&e.root.Root, &s.key, nil)
}

// explain turns a missing or doubled item into what it is: corruption.
func (e *edit) explain(x extent, err error) error {
	if errors.Is(err, btree.ErrNotFound) || errors.Is(err, btree.ErrExist) {
		return corrupt(e.t.Cache, x.start, "free extent of %d blocks: its two items disagree: %v", x.n, err)
	}
	return err
}

func (e *edit) undo(cause error) error {
	for i := len(e.done) - 1; i >= 0; i-- {
		s := e.done[i]
		s.del = !s.del
		if err := e.apply(s); err != nil {
			return &BrokenError{Cause: cause, Undo: err}
		}
	}
	return cause
}

// find returns the first extent that ends at or after blkno.
func find(t *btree.Tx, root *format.AllocRoot, blkno format.Blkno) (x extent, ok bool, err error) {
	from := format.Key{Zone: format.ZoneFreeBlkno, First: uint64(blkno)}
	return lookup(t, root, &from, format.ZoneFreeBlkno)
}

// largest returns the first extent of the greatest size class.
func largest(t *btree.Tx, root *format.AllocRoot) (x extent, ok bool, err error) {
	from := format.Key{Zone: format.ZoneFreeOrder}
	return lookup(t, root, &from, format.ZoneFreeOrder)
}

func lookup(t *btree.Tx, root *format.AllocRoot, from *format.Key, zone uint8) (x extent, ok bool, err error) {
	it, err := btree.Next(t.Cache, &root.Root, from, nil)
	if errors.Is(err, btree.ErrNotFound) {
		return x, false, nil
	}
	if err != nil {
		return x, false, err
	}
	if it.Key.Zone != zone {
		return x, false, nil
	}
	x, err = parseExtent(&it.Key)
	if err != nil {
		return x, false, corrupt(t.Cache, x.start, "%v", err)
	}
	return x, true, nil
}

// parseExtent decodes a free extent's key and checks it.
func parseExtent(k *format.Key) (x extent, err error) {
	x.start, x.n = k.FreeExtent()
	last := uint64(x.start) + x.n - 1
	switch {
	case x.n == 0 || x.start < format.FirstMetaBlkno || last < uint64(x.start):
		return x, fmt.Errorf("free extent from %d of %d blocks", x.start, x.n)
	case k.Zone == format.ZoneFreeOrder && k.First != ^format.FreeOrder(x.n):
		return x, fmt.Errorf("free extent from %d of %d blocks in class %d", x.start, x.n, ^k.First)
	}
	return x, nil
}

// WalkExtents calls fn for each free extent in ascending order of position. It
// returns fn's error at once. fn must not change the tree.
func WalkExtents(t *btree.Tx, root *format.AllocRoot, fn func(start format.Blkno, n uint64) error) error {
	from, to := format.Key{Zone: format.ZoneFreeBlkno}, format.Key{Zone: format.ZoneFreeOrder}
	return btree.Walk(t.Cache, &root.Root, &from, &to, func(it *btree.Item) error {
		if it.Key.Zone != format.ZoneFreeBlkno {
			return nil
		}
		x, err := parseExtent(&it.Key)
		if err != nil {
			return corrupt(t.Cache, x.start, "%v", err)
		}
		return fn(x.start, x.n)
	})
}

// InsertExtent adds n free blocks from start on and merges them with free
// neighbours. Nothing happens if n is 0. It returns ErrAgain if the
// transaction may lack room, a CorruptError if a block is free already, and
// changes nothing then. Source: spec format 6.1.
func InsertExtent(t *btree.Tx, root *format.AllocRoot, start format.Blkno, n uint64) error {
	if n == 0 {
		return nil
	}
	x := extent{start, n}
	if start < format.FirstMetaBlkno || x.end() < start {
		return corrupt(t.Cache, start, "extent of %d blocks to be freed", n)
	}
	e, err := begin(t, root)
	if err != nil {
		return fmt.Errorf("alloc: insert extent: %w", err)
	}
	left, hasLeft, right, hasRight, err := neighbours(t, root, x)
	if err != nil {
		return fmt.Errorf("alloc: insert extent: %w", err)
	}
	merged := x
	if hasLeft {
		merged = extent{left.start, left.n + merged.n}
	}
	if hasRight {
		merged.n += right.n
	}
	err = e.insert(merged)
	if err == nil && hasLeft {
		err = e.remove(left)
	}
	if err == nil && hasRight {
		err = e.remove(right)
	}
	if err != nil {
		return fmt.Errorf("alloc: insert extent: %w", err)
	}
	root.TotalLen += n
	return nil
}

// neighbours finds the free extents that touch x and refuses those that
// overlap it.
func neighbours(t *btree.Tx, root *format.AllocRoot, x extent) (left extent, hasLeft bool, right extent, hasRight bool, err error) {
	if root.Root.Ref.IsNull() {
		return
	}
	at, ok, err := find(t, root, x.start-1)
	if err != nil || !ok {
		return
	}
	if at.end() == x.start {
		left, hasLeft = at, true
		at, ok, err = find(t, root, x.start)
		if err != nil || !ok {
			return
		}
	}
	if at.start < x.end() {
		err = corrupt(t.Cache, x.start, "extent of %d blocks overlaps the free extent from %d of %d", x.n, at.start, at.n)
	} else if at.start == x.end() {
		right, hasRight = at, true
	}
	return
}

// replace takes part, which lies in x, out of the tree.
func replace(t *btree.Tx, root *format.AllocRoot, x, part extent) error {
	if root.TotalLen < part.n {
		return corrupt(t.Cache, part.start, "tree with %d blocks in all has a free extent of %d", root.TotalLen, x.n)
	}
	e, err := begin(t, root)
	if err != nil {
		return err
	}
	if part.start > x.start {
		err = e.insert(extent{x.start, uint64(part.start - x.start)})
	}
	if err == nil && part.end() < x.end() {
		err = e.insert(extent{part.end(), uint64(x.end() - part.end())})
	}
	if err == nil {
		err = e.remove(x)
	}
	if err != nil {
		return err
	}
	root.TotalLen -= part.n
	return nil
}

// RemoveExtent takes n blocks from start on out of the tree. They must lie in
// one free extent, else it returns a CorruptError. It returns ErrAgain if the
// transaction may lack room. On error nothing has changed.
func RemoveExtent(t *btree.Tx, root *format.AllocRoot, start format.Blkno, n uint64) error {
	part := extent{start, n}
	if n == 0 {
		return nil
	}
	x, ok, err := find(t, root, part.end()-1)
	if err == nil && (!ok || x.start > start) {
		err = corrupt(t.Cache, start, "%d blocks are not free", n)
	}
	if err == nil {
		err = replace(t, root, x, part)
	}
	if err != nil {
		return fmt.Errorf("alloc: remove extent: %w", err)
	}
	return nil
}

// TakeExtent takes at most want blocks: the front of the first extent of the
// greatest size class. It returns ErrNoSpace if the tree is empty, ErrAgain if
// the transaction may lack room. On error nothing has changed.
// Source: spec format 6.1.
func TakeExtent(t *btree.Tx, root *format.AllocRoot, want uint64) (start format.Blkno, n uint64, err error) {
	x, ok, err := largest(t, root)
	if err == nil && !ok {
		err = ErrNoSpace
		if root.TotalLen != 0 {
			err = corrupt(t.Cache, root.Root.Ref.Blkno, "tree with %d blocks in all has no extent", root.TotalLen)
		}
	}
	if err != nil {
		return 0, 0, fmt.Errorf("alloc: take extent: %w", err)
	}
	part := extent{x.start, min(x.n, want)}
	if part.n == 0 {
		return 0, 0, nil
	}
	if err := replace(t, root, x, part); err != nil {
		return 0, 0, fmt.Errorf("alloc: take extent: %w", err)
	}
	return part.start, part.n, nil
}
