// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

// Package alloc gives out and takes back blocks: the lists of single metadata
// blocks that one transaction uses, the trees of free extents between which
// space moves, and the data space of a mount.
//
// Units: metadata blocks are 64 KiB, data blocks 4 KiB; lengths and totals
// count blocks. A list is a chain of list blocks, newest first; a tree holds
// every free extent twice, by position and by size class:
//
//	AllocList head -> | next | start | nr | blknos[8185] | -> | ... | -> nil
//	                            '-- live: blknos[start:start+nr]
//	AllocRoot -> btree: zone 36 {last block, length}   zone 40 {^order, last block, length}
//
// Metadata flows from a tree into lists ([FillList]), through transactions
// ([Pair]), and back ([SpliceList], [DrainList]). Data moves between trees
// ([MoveExtents]) and is cut up by [Data].
//
// A freed block is never given out again by the same transaction, and whoever
// commits must not drain a list before the transaction that filled it is
// durable: that is what keeps every block of the last written super intact.
//
// Failures: each function leaves list, tree and heads consistent with each
// other when it returns an error, so that the caller can store them as they
// are, except for a [BrokenError]. Work is measured by the room that the
// transaction's allocator has left; what does not fit is refused with
// [ErrAgain] before anything changed, or done in part and reported as such.
//
// Nothing here locks: one transaction's lists and trees belong to one caller.
package alloc

import (
	"errors"
	"fmt"
	"math"
	"syscall"

	"scoutfs/btree"
	"scoutfs/format"
)

// errnoError is a sentinel that reads as text and matches an errno.
type errnoError struct {
	text  string
	errno syscall.Errno
}

func (e *errnoError) Error() string        { return e.text }
func (e *errnoError) Is(target error) bool { return target == e.errno }

// ErrNoSpace says that there is no free block left to take. It matches
// syscall.ENOSPC.
var ErrNoSpace error = &errnoError{"no free blocks", syscall.ENOSPC}

// ErrAgain says that the transaction has too little room left for the change,
// or that only a part of it was done: commit and repeat. It matches
// syscall.ENOBUFS.
var ErrAgain error = &errnoError{"no room left in this transaction", syscall.ENOBUFS}

// BrokenError says that a change failed half way and could not be taken back:
// the trees in memory contradict each other. The transaction must be
// discarded unwritten. It matches syscall.EIO.
type BrokenError struct {
	Cause error // why the change failed
	Undo  error // why taking it back failed; may be nil
}

// Error names both failures.
func (e *BrokenError) Error() string {
	if e.Undo == nil {
		return fmt.Sprintf("alloc: transaction must be discarded: %v", e.Cause)
	}
	return fmt.Sprintf("alloc: transaction must be discarded: %v (undo: %v)", e.Cause, e.Undo)
}

// Unwrap returns the first failure.
func (e *BrokenError) Unwrap() error { return e.Cause }

// Is makes errors.Is(err, syscall.EIO) true.
func (e *BrokenError) Is(target error) bool { return target == syscall.EIO }

// IsBroken reports whether err tells to discard the transaction.
func IsBroken(err error) bool {
	var b *BrokenError
	return errors.As(err, &b)
}

// Roomer is an allocator that knows how many more blocks it can give out and
// take back in its transaction. An allocator without it is unlimited.
type Roomer interface {
	Room() (avail, freed int)
}

// Blocks that changes of free-extent trees may use.
// Source: spec format 6.6, cluster 10.2.
const (
	extentBlocks = 15 // worst case for each level and one more
	moveReserve  = 50 // left over by moves for the rest of the commit
)

// ExtentCost is the most blocks that one change of root's tree allocates or
// frees.
func ExtentCost(root *format.AllocRoot) int {
	return extentBlocks * (1 + int(root.Root.Height))
}

// roomOf is the smaller of the allocator's two rooms.
func roomOf(a btree.Allocator) int {
	r, ok := a.(Roomer)
	if !ok {
		return math.MaxInt32
	}
	avail, freed := r.Room()
	return min(avail, freed)
}

// NeedRoom returns ErrAgain if a has less than n blocks of room.
func NeedRoom(a btree.Allocator, n int) error {
	if roomOf(a) < n {
		return ErrAgain
	}
	return nil
}
