// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

// Package btree reads and changes the copy-on-write btrees that hold all of a
// volume's items: 32 byte keys, values of up to 896 bytes, in 64 KiB blocks.
//
// Inside a block items are a dense unsorted array that an AVL tree orders.
// Leaves have a hash table as well, and exact lookups use only that. Values are
// allocated downwards from the block's end and abandoned when they change, until
// the block is compacted. Source: spec format 5.
//
//	0    32     48                                      62512   65536
//	| hdr | btree | items, 56 bytes each -> | free | values | hash |   leaf
//	| hdr | btree | items, 56 bytes each -> | free |        values |   parent
//
// An AVL offset, which is what this package calls a slot, counts bytes from 32
// and is 0 for null; item i has slot 16+56*i. A slot names an item only until
// the next deletion in the block, which moves the last item into the gap.
//
// A parent has one item for each child: the value is the child's reference, the
// key is the greatest that the child may hold. The last key of the parents on
// the right edge of a complete tree is [format.KeyMax].
//
// Changes walk from the root and make each block on the way dirty, so that an
// error anywhere leaves a valid tree behind. Blocks are verified when the cache
// reads them ([VerifyBlock]); after that the code trusts offsets and counts, and
// checks only what one block cannot tell: levels and the ranges of children.
//
// The package keeps no state and takes no lock. Readers may use a root while a
// transaction makes newer versions of the tree, because blocks that a committed
// root can reach never change.
package btree
