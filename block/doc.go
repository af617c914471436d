// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

// Package block is the way to devices: reading, writing and flushing them in
// batches, locks that tell several openers of one device about each other, the memory
// for device I/O, and a cache of verified metadata blocks.
//
// Units: offsets and lengths are bytes and multiples of 4096; a
// [format.Blkno] here counts 64 KiB metadata blocks.
//
// A [File] is a block device or a plain file, opened with O_DIRECT. Batches go
// through a private io_uring ring (package iouring) where that is faster, and
// through pread and pwrite otherwise. Buffers from [AlignedBuf], and the
// frames of a [Cache], lie in slabs that are registered with the rings, so that the kernel
// need not look up their pages for each operation.
//
// A [Cache] is indexed by block number and seq, since all blocks are written
// copy on write: versions of one block live side by side, and a block in the
// index never changes, except while it is dirty in a [Writer].
//
//	reader --> Cache.Read --> index -- miss --> Device.Do --> header, crc, Verify --> index
//	writer --> Writer.New, Copy --> dirty --> Writer.WriteFlush --> crc, one Device.Do, flush --> clean
//
// Every block has one reference of the index and one of each who pinned it;
// the last to go frees the frame. Eviction is a clock over the index.
//
// Lock order:
//
//	clock.mu
//	  shard.mu
//	frames.mu
//	  freeList.mu
//	    arena.mu
//	      (iouring's)
//	File.mu, for reading over I/O
//
// None is held over device I/O, except File.mu for reading, which keeps Close
// waiting.
package block
