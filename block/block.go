// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package block

import (
	"sync/atomic"

	"scoutfs/format"
	"scoutfs/internal/invariants"
)

// Block is one version of one metadata block in memory. Whoever gets one from
// a [Cache] or [Writer] has it pinned and must Release it.
type Block struct {
	c    *Cache
	ref  format.BlockRef
	kind *Kind
	buf  []byte

	refs  atomic.Int32 // one of the index, one of every holder; at 0 the frame is free
	used  atomic.Bool  // found in the index since the clock's hand passed
	owner atomic.Pointer[Writer]

	ready  atomic.Bool   // loaded is closed
	loaded chan struct{} // nil for blocks that were made here
	err    error         // valid after loaded is closed

	slot int // in the clock's ring, guarded by its mutex; -1 outside
}

// Bytes is the block's 64 KiB. They are valid while the block is pinned. Only
// the owner of the writer in which the block is dirty may change them.
func (b *Block) Bytes() []byte {
	if invariants.Enabled {
		invariants.Check(b.refs.Load() > 0, "Bytes of block %d after its release", b.ref.Blkno)
	}
	return b.buf
}

// Ref names the block's version.
func (b *Block) Ref() format.BlockRef { return b.ref }

// Blkno is the block's number, in units of 64 KiB.
func (b *Block) Blkno() format.Blkno { return b.ref.Blkno }

// Retain pins the block once more. The caller must have it pinned already.
func (b *Block) Retain() {
	n := b.refs.Add(1)
	invariants.Check(n > 1, "Retain of block %d that is not pinned", b.ref.Blkno)
}

// Release gives up one pin.
func (b *Block) Release() {
	n := b.refs.Add(-1)
	invariants.Check(n >= 0, "Release of block %d that is not pinned", b.ref.Blkno)
	if n == 0 {
		b.free()
		return
	}
	if n == 1 && b.c.overBudget() && b.owner.Load() == nil {
		b.c.shrink()
	}
}

// free gives the frame back. Nobody refers to the block any more.
func (b *Block) free() {
	buf := b.buf
	b.buf = nil
	b.c.frames.put(buf)
}

// newBlock returns a block with the references of the index and of the caller.
func newBlock(c *Cache, ref format.BlockRef, k *Kind) *Block {
	b := &Block{c: c, ref: ref, kind: k, buf: c.alloc(), slot: -1}
	b.refs.Store(2)
	return b
}

// newLoading returns a block whose contents are still to be read.
func newLoading(c *Cache, ref format.BlockRef, k *Kind) *Block {
	b := newBlock(c, ref, k)
	b.loaded = make(chan struct{})
	return b
}
