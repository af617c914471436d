// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package alloc

import (
	"errors"
	"fmt"

	"scoutfs/btree"
	"scoutfs/format"
	"scoutfs/internal/invariants"
)

// dataChunk is the least request that is served directly from the tree, and
// the length of the extent that smaller ones are cut from, in 4 KiB blocks.
// Source: spec format 6.6.
const dataChunk = 2048

// Data is the data space of a mount's transaction: a tree of extents to
// allocate from and one of those freed. Small requests are cut from an extent
// held in memory. It belongs to one transaction at a time and is not safe for
// concurrent use. Source: spec filesystem 4.2.
type Data struct {
	avail, freed format.AllocRoot
	cached       extent   // out of avail's tree, no part of it is in use
	back         []extent // taken back in this transaction, not yet in avail's tree
	backLen      uint64
}

// NewData starts the first transaction with the given trees.
func NewData(avail, freed format.AllocRoot) *Data { return &Data{avail: avail, freed: freed} }

// Reset starts the next transaction with the given trees. [Data.Return] must
// have been called for the one before.
func (d *Data) Reset(avail, freed format.AllocRoot) {
	invariants.Check(d.cached.n == 0 && d.backLen == 0, "alloc: data extents not returned before reset")
	*d = Data{avail: avail, freed: freed, back: d.back[:0]}
}

// Roots are the current trees, to be stored at commit after [Data.Return].
func (d *Data) Roots() (avail, freed format.AllocRoot) { return d.avail, d.freed }

// TotalAvail is how many blocks can be allocated, the cached ones included.
func (d *Data) TotalAvail() uint64 { return d.avail.TotalLen + d.cached.n + d.backLen }

// Low reports whether running out of blocks is final.
func (d *Data) Low() bool { return d.avail.Flags&format.AllocFlagLow != 0 }

// Alloc allocates between 1 and want blocks. It returns ErrAgain if a commit
// may bring more, ErrNoSpace if not; nothing has changed then. want must not
// be 0.
func (d *Data) Alloc(t *btree.Tx, want uint64) (format.Blkno, uint64, error) {
	if last := d.avail.TotalLen == 0 && d.cached.n > 0; want >= dataChunk && !last {
		return d.take(t, want)
	}
	if d.cached.n == 0 {
		start, n, err := d.take(t, dataChunk)
		if err != nil {
			return 0, 0, err
		}
		d.cached = extent{start, n}
	}
	n := min(want, d.cached.n)
	start := d.cached.start
	d.cached = extent{start + format.Blkno(n), d.cached.n - n}
	return start, n, nil
}

// take takes at most want blocks from what was taken back or the tree.
func (d *Data) take(t *btree.Tx, want uint64) (format.Blkno, uint64, error) {
	if d.avail.TotalLen == 0 && len(d.back) > 0 {
		return d.takeBack(want)
	}
	start, n, err := TakeExtent(t, &d.avail, want)
	if errors.Is(err, ErrNoSpace) && !d.Low() {
		err = ErrAgain
	}
	if err != nil {
		return 0, 0, fmt.Errorf("alloc: data blocks: %w", err)
	}
	return start, n, nil
}

func (d *Data) takeBack(want uint64) (format.Blkno, uint64, error) {
	x := &d.back[len(d.back)-1]
	n := min(want, x.n)
	start := x.start
	*x = extent{start + format.Blkno(n), x.n - n}
	if x.n == 0 {
		d.back = d.back[:len(d.back)-1]
	}
	d.backLen -= n
	return start, n, nil
}

// Unalloc takes back an allocation of this transaction that was not used. It
// needs no room and cannot fail.
func (d *Data) Unalloc(start format.Blkno, n uint64) {
	x := extent{start, n}
	switch {
	case n == 0:
	case d.cached.n > 0 && x.end() == d.cached.start:
		d.cached = extent{start, n + d.cached.n}
	case len(d.back) > 0 && d.back[len(d.back)-1].end() == start:
		d.back[len(d.back)-1].n += n
		d.backLen += n
	default:
		d.back = append(d.back, x)
		d.backLen += n
	}
}

// Free notes that the blocks are not used any more once this transaction is
// committed. They are not allocated again before that. It returns ErrAgain if
// the transaction may lack room.
func (d *Data) Free(t *btree.Tx, start format.Blkno, n uint64) error {
	return InsertExtent(t, &d.freed, start, n)
}

// Unfree takes back a Free of this transaction. Unlike [Data.Unalloc] it
// changes a tree and can fail.
func (d *Data) Unfree(t *btree.Tx, start format.Blkno, n uint64) error {
	return RemoveExtent(t, &d.freed, start, n)
}

// Return puts what is held in memory back in the tree, before a commit. It
// returns ErrAgain if the transaction's room does not suffice. Repeat it after
// any error; what was put back stays.
func (d *Data) Return(t *btree.Tx) error {
	for len(d.back) > 0 {
		x := d.back[len(d.back)-1]
		if err := InsertExtent(t, &d.avail, x.start, x.n); err != nil {
			return fmt.Errorf("alloc: return data blocks: %w", err)
		}
		d.back = d.back[:len(d.back)-1]
		d.backLen -= x.n
	}
	if err := InsertExtent(t, &d.avail, d.cached.start, d.cached.n); err != nil {
		return fmt.Errorf("alloc: return data blocks: %w", err)
	}
	d.cached = extent{}
	return nil
}
