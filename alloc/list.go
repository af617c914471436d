// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package alloc

import (
	"fmt"
	"slices"

	"scoutfs/block"
	"scoutfs/btree"
	"scoutfs/format"
)

// ListKind is the block kind of list blocks.
var ListKind = &block.Kind{Magic: format.MagicAllocList, Verify: verifyList}

// verifyList checks what later code relies on: the live range and that no live
// entry names a reserved block.
func verifyList(b []byte) error {
	if len(b) != format.LargeSize {
		return fmt.Errorf("alloc list: %d bytes", len(b))
	}
	l := format.Overlay[format.AllocListBlock](b)
	if l.Start > format.AllocListNr || l.Nr > format.AllocListNr-l.Start {
		return fmt.Errorf("alloc list: start %d nr %d", l.Start, l.Nr)
	}
	for i, e := range l.Blknos[l.Start : l.Start+l.Nr] {
		if e < uint64(format.FirstMetaBlkno) {
			return fmt.Errorf("alloc list: entry %d is reserved block %d", int(l.Start)+i, e)
		}
	}
	if l.Next.Blkno == 0 && l.Next.Seq != 0 {
		return fmt.Errorf("alloc list: null next with seq %x", l.Next.Seq)
	}
	return nil
}

// overlayList is the list block in b, which must be pinned and verified.
func overlayList(b *block.Block) *format.AllocListBlock {
	return format.Overlay[format.AllocListBlock](b.Bytes())
}

// live returns the live entries. They share the block's memory.
func live(l *format.AllocListBlock) []uint64 { return l.Blknos[l.Start : l.Start+l.Nr] }

// push appends an entry; the block must have room.
func push(l *format.AllocListBlock, blkno format.Blkno) {
	if end := l.Start + l.Nr; end < format.AllocListNr {
		l.Blknos[end] = uint64(blkno)
	} else {
		l.Start--
		l.Blknos[l.Start] = uint64(blkno)
	}
	l.Nr++
}

// popFront drops the first n entries.
func popFront(l *format.AllocListBlock, n int) {
	l.Start += uint32(n)
	l.Nr -= uint32(n)
	if l.Nr == 0 {
		l.Start = 0
	}
}

func corrupt(c *block.Cache, blkno format.Blkno, msg string, args ...any) error {
	return &format.CorruptError{Device: c.Device().Name(), Blkno: blkno, Reason: "alloc: " + fmt.Sprintf(msg, args...)}
}

// checkEntry refuses entries that cannot be blocks of the device.
func checkEntry(c *block.Cache, e uint64) error {
	const limit = (1<<63 - 1) >> format.LargeShift
	if e < uint64(format.FirstMetaBlkno) || e >= limit || !block.Reaches(c.Device(), int64(e+1)<<format.LargeShift) {
		return corrupt(c, format.Blkno(e), "list entry is outside of the device")
	}
	return nil
}

// readHead reads a list's first block and checks it against the head.
func readHead(c *block.Cache, list *format.AllocList) (*block.Block, error) {
	b, err := c.Read(list.Ref, ListKind)
	if err != nil {
		return nil, fmt.Errorf("alloc: read list block %d: %w", list.Ref.Blkno, err)
	}
	l := overlayList(b)
	if l.Nr != list.FirstNr || uint64(l.Nr) > list.TotalNr {
		defer b.Release()
		return nil, corrupt(c, list.Ref.Blkno, "list block has %d entries, its head says %d of %d", l.Nr, list.FirstNr, list.TotalNr)
	}
	return b, nil
}

// whole is a head as it was read, or an empty one if it refers to no block: what
// else such a head holds is arbitrary, and must not get into blocks.
func whole(list format.AllocList) format.AllocList {
	if list.Ref.IsNull() {
		return format.AllocList{Flags: list.Flags}
	}
	return list
}

// dirtyHead makes the first block of list dirty, or a new one if the list is
// empty, and returns it pinned. On error nothing has changed.
func dirtyHead(t *btree.Tx, list *format.AllocList) (*block.Block, error) {
	if list.Ref.IsNull() {
		blkno, err := t.Alloc.AllocBlock()
		if err != nil {
			return nil, err
		}
		b := t.Writer.New(blkno, ListKind)
		*list = format.AllocList{Ref: b.Ref(), Flags: list.Flags}
		return b, nil
	}
	b, err := readHead(t.Cache, list)
	if err != nil || t.Writer.IsDirty(b) {
		return b, err
	}
	defer b.Release()
	if err := NeedRoom(t.Alloc, 2); err != nil {
		return nil, err
	}
	nb, err := CopyBlock(t, b)
	if err != nil {
		return nil, err
	}
	list.Ref = nb.Ref()
	return nb, nil
}

// CopyBlock makes a dirty copy of the clean block b in a new place, frees b's
// place and returns the copy pinned. The caller updates what refers to b. On
// error nothing has changed, except for a BrokenError.
func CopyBlock(t *btree.Tx, b *block.Block) (*block.Block, error) {
	blkno, err := t.Alloc.AllocBlock()
	if err != nil {
		return nil, err
	}
	if err := t.Alloc.FreeBlock(b.Blkno()); err != nil {
		if uerr := t.Alloc.FreeBlock(blkno); uerr != nil {
			return nil, &BrokenError{Cause: err, Undo: uerr}
		}
		return nil, err
	}
	return t.Writer.Copy(b, blkno), nil
}

// FillList fills the first block of list up to target entries with blocks
// from root's tree if it has fewer than low. It stops early, without error, if
// the transaction's room runs low, and returns ErrNoSpace if the tree is empty
// before that. list and root stay consistent in any case.
// Source: spec format 6.4, 6.5; cluster 5.3.
func FillList(t *btree.Tx, list *format.AllocList, root *format.AllocRoot, low, target uint32) error {
	if list.FirstNr >= low {
		return nil
	}
	if roomOf(t.Alloc) < ExtentCost(root)+moveReserve {
		return nil
	}
	b, err := dirtyHead(t, list)
	if err != nil {
		return fmt.Errorf("alloc: fill list: %w", err)
	}
	defer b.Release()
	l := overlayList(b)
	for target = min(target, format.AllocListNr); l.Nr < target; {
		if roomOf(t.Alloc) < ExtentCost(root)+moveReserve {
			return nil
		}
		start, n, err := TakeExtent(t, root, uint64(target-l.Nr))
		if err != nil {
			return fmt.Errorf("alloc: fill list: %w", err)
		}
		for i := range n {
			push(l, start+format.Blkno(i))
		}
		list.FirstNr += uint32(n)
		list.TotalNr += n
	}
	return nil
}

// DrainList moves entries of list into root's tree as merged extents and frees
// the list blocks that it empties. It uses about budget blocks of the
// transaction's room and never its last ones. done is false if entries are
// left. list and root stay consistent in any case. A block must not be drained
// before the transaction that freed it is durable.
// Source: spec format 6.4, cluster 5.3.
func DrainList(t *btree.Tx, root *format.AllocRoot, list *format.AllocList, budget int) (done bool, err error) {
	m := newMeter(t.Alloc, budget)
	for !list.Ref.IsNull() {
		if !m.allows(ExtentCost(root) + 2) {
			return false, nil
		}
		more, err := drainHead(t, root, list, m)
		if err != nil {
			return false, fmt.Errorf("alloc: drain list: %w", err)
		}
		if more {
			return false, nil
		}
		if err := trimHead(t, list); err != nil {
			return false, fmt.Errorf("alloc: drain list: %w", err)
		}
	}
	return true, nil
}

// drainHead moves the entries of the first block. more is true if the room ran
// out before the block was empty. The block is dirty afterwards unless it was
// empty.
func drainHead(t *btree.Tx, root *format.AllocRoot, list *format.AllocList, m *meter) (more bool, err error) {
	if list.FirstNr == 0 {
		return false, nil
	}
	b, err := dirtyHead(t, list)
	if err != nil {
		return false, err
	}
	defer b.Release()
	l := overlayList(b)
	slices.Sort(live(l))
	for l.Nr > 0 {
		if !m.allows(ExtentCost(root) + 2) {
			return true, nil
		}
		es := live(l)
		n := 1
		for n < len(es) && es[n] == es[n-1]+1 {
			n++
		}
		if err := checkEntry(t.Cache, es[n-1]); err != nil {
			return true, err
		}
		if err := InsertExtent(t, root, format.Blkno(es[0]), uint64(n)); err != nil {
			return true, err
		}
		m.progress()
		popFront(l, n)
		list.FirstNr -= uint32(n)
		list.TotalNr -= uint64(n)
	}
	return false, nil
}

// trimHead takes the empty first block off the list and frees it.
func trimHead(t *btree.Tx, list *format.AllocList) error {
	b, err := readHead(t.Cache, list)
	if err != nil {
		return err
	}
	defer b.Release()
	next, err := headAfter(t.Cache, list, b)
	if err != nil {
		return err
	}
	if err := t.Alloc.FreeBlock(b.Blkno()); err != nil {
		return err
	}
	if t.Writer.IsDirty(b) {
		t.Writer.Forget(b)
	}
	*list = next
	return nil
}

// headAfter is the head of list without its first block b.
func headAfter(c *block.Cache, list *format.AllocList, b *block.Block) (format.AllocList, error) {
	l := overlayList(b)
	next := format.AllocList{Ref: l.Next, TotalNr: list.TotalNr - uint64(l.Nr), Flags: list.Flags}
	if next.Ref.IsNull() {
		if next.TotalNr != 0 {
			return next, corrupt(c, b.Blkno(), "list ends but %d entries are missing", next.TotalNr)
		}
		return next, nil
	}
	nb, err := c.Read(next.Ref, ListKind)
	if err != nil {
		return next, fmt.Errorf("alloc: read list block %d: %w", next.Ref.Blkno, err)
	}
	defer nb.Release()
	next.FirstNr = overlayList(nb).Nr
	if uint64(next.FirstNr) > next.TotalNr {
		return next, corrupt(c, nb.Blkno(), "list block has %d entries, the rest of the list only %d", next.FirstNr, next.TotalNr)
	}
	return next, nil
}

// SpliceList puts all entries of src in front of dst and leaves src empty.
// Each block of src is copied, because the last one has to refer to dst.
// Flags stay with their heads. It returns ErrAgain if the room only allowed
// for a part, which then is in dst and no more in src. The heads are
// consistent in any case. Source: spec format 6.4.
func SpliceList(t *btree.Tx, dst, src *format.AllocList) error {
	for !src.Ref.IsNull() {
		// Each block costs one allocation, its old place, and the undoing of both.
		if err := NeedRoom(t.Alloc, 4); err != nil {
			return fmt.Errorf("alloc: splice list: %w", err)
		}
		if err := spliceHead(t, dst, src); err != nil {
			return fmt.Errorf("alloc: splice list: %w", err)
		}
	}
	src.FirstNr, src.TotalNr = 0, 0
	return nil
}

// spliceHead moves the first block of src in front of dst, or frees it if it
// is empty.
func spliceHead(t *btree.Tx, dst, src *format.AllocList) error {
	if src.FirstNr == 0 {
		return trimHead(t, src)
	}
	b, err := readHead(t.Cache, src)
	if err != nil {
		return err
	}
	defer b.Release()
	rest, err := headAfter(t.Cache, src, b)
	if err != nil {
		return err
	}
	nb := b
	if !t.Writer.IsDirty(b) {
		if nb, err = CopyBlock(t, b); err != nil {
			return err
		}
		defer nb.Release()
	}
	l := overlayList(nb)
	*dst = whole(*dst)
	l.Next = dst.Ref
	dst.Ref = nb.Ref()
	dst.FirstNr = l.Nr
	dst.TotalNr += uint64(l.Nr)
	*src = rest
	return nil
}

// WalkList calls fn for each block of list from the first on, with its live
// entries, which are only valid in fn. It returns fn's error at once.
func WalkList(c *block.Cache, list *format.AllocList, fn func(ref format.BlockRef, entries []uint64) error) error {
	at := *list
	// A chain of distinct blocks cannot be longer than the device.
	for left := c.Device().Size() >> format.LargeShift; !at.Ref.IsNull(); left-- {
		if left == 0 {
			return corrupt(c, at.Ref.Blkno, "list has a loop")
		}
		if err := walkBlock(c, &at, fn); err != nil {
			return err
		}
	}
	if at.TotalNr != 0 {
		return corrupt(c, list.Ref.Blkno, "list misses %d entries", at.TotalNr)
	}
	return nil
}

func walkBlock(c *block.Cache, at *format.AllocList, fn func(format.BlockRef, []uint64) error) error {
	b, err := readHead(c, at)
	if err != nil {
		return err
	}
	defer b.Release()
	next, err := headAfter(c, at, b)
	if err != nil {
		return err
	}
	if err := fn(at.Ref, live(overlayList(b))); err != nil {
		return err
	}
	*at = next
	return nil
}
