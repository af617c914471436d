// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package btree

import (
	"syscall"

	"scoutfs/block"
	"scoutfs/format"
)

// Kind describes btree blocks, of all trees and levels, to the block cache.
var Kind = &block.Kind{Magic: format.MagicBtree, Verify: VerifyBlock}

// treeError is a sentinel that stands for one errno.
type treeError struct {
	msg   string
	errno syscall.Errno
}

func (e *treeError) Error() string        { return e.msg }
func (e *treeError) Is(target error) bool { return target == e.errno }

// ErrNotFound says that the tree has no such item. It matches syscall.ENOENT.
var ErrNotFound error = &treeError{"btree: item not found", syscall.ENOENT}

// ErrExist says that the tree has an item with the key already. It matches
// syscall.EEXIST.
var ErrExist error = &treeError{"btree: item exists", syscall.EEXIST}

// ErrInvalid says that a value is longer than [format.MaxValue], or that a
// caller broke another rule. It matches syscall.EINVAL.
var ErrInvalid error = &treeError{"btree: invalid argument", syscall.EINVAL}

// Allocator hands out and takes back metadata blocks of one transaction.
// FreeBlock may be called for blocks of older transactions, whose contents
// must stay on the device until the transaction has committed, and for blocks
// that AllocBlock returned in this one.
type Allocator interface {
	AllocBlock() (format.Blkno, error)
	FreeBlock(format.Blkno) error
}

// Tx is one transaction's way to change trees. It is not safe for concurrent
// use; readers of older roots may run at the same time.
//
// An error leaves the tree as valid as before the call: the change itself is
// then not made, though blocks may have been copied, split, joined or
// compacted. All methods may read blocks from the device, and so block.
// They fail with errors of Cache.Read ([format.CorruptError],
// [format.StaleError], I/O errors), of Alloc, and with what each method says.
type Tx struct {
	Cache  *block.Cache
	Writer *block.Writer
	Alloc  Allocator

	// spare holds blocks allocated in this transaction that nothing refers to
	// and that Alloc refused to take back. The next change offers them again.
	spare []format.Blkno

	changes uint // counted in invariant builds only
}

// Item is one item of a tree. Val's memory belongs to whoever made the Item.
type Item struct {
	Key   format.Key
	Seq   uint64
	Flags uint8 // format.ItemFlagDeletion
	Val   []byte
}

// Deletion reports whether the item says that its key was deleted.
func (it *Item) Deletion() bool { return it.Flags&format.ItemFlagDeletion != 0 }
