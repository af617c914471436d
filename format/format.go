// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

// Package format describes every byte that ScoutFS keeps on disk and sends
// over the wire, in format versions 1 and 2.
//
// All integers are little endian and naturally aligned with explicit padding,
// so on the hosts that we support a native Go struct *is* its encoding. Each
// struct here is such a type; [Load], [Bytes] and [Overlay] convert without
// copying field by field. Byte-packed tails (names, xattrs) have append and
// parse functions.
//
// Units: a metadata block is 64 KiB ("large"), a data, super or quorum block
// is 4 KiB ("small"). A [Blkno] counts blocks of the size of the thing it
// names, from the start of that thing's device. Times are seconds and
// nanoseconds since 1970, signed. Nothing in this package does I/O, blocks, or
// keeps state.
//
//	metadata device                              data device
//	0      64K    68K           128K             0     64K   68K    256K
//	| -    | super | 15 quorum  | 64 KiB blocks  | -   | super | -  | 4 KiB data blocks
//	                              blkno 2 ...                         blkno 64 ...
package format

// Sizes and numbers of blocks.
const (
	SmallShift = 12
	SmallSize  = 1 << SmallShift // data, super and quorum blocks, bytes
	LargeShift = 16
	LargeSize  = 1 << LargeShift // metadata blocks, bytes

	SuperBlkno      Blkno = 16 // small block, both devices
	QuorumBlkno     Blkno = 17 // small block of slot 0, metadata device
	QuorumSlots           = 15
	FirstMetaBlkno  Blkno = 2  // first large block that can be allocated
	FirstDataBlkno  Blkno = 64 // first small block that can be allocated
	MinMetaBlocks         = 1033
	MinDataBlocks         = 65
	SmallPerLarge         = LargeSize / SmallSize
	MinDeviceBytes        = 64 << 30 // below this mkfs wants -A
	StatfsMagic           = 0x554f4353
	MaxNameLen            = 255
	MaxXattrValue         = 65535
	MaxSymlink            = 4096 // with its NUL
	MaxLinks              = 0x7fffffff
	MaxValue              = 896 // of a btree item, bytes
	MaxHeight             = 20
	LockGroup             = 1024 // inode numbers, or index seqs, of one lock
	MaxIblock             = 1<<52 - 1
	MinVersion            = 1
	MaxVersion            = 2
	RootIno         Ino   = 1
	FirstIno        Ino   = 1024 // next_ino at mkfs
	InoBatch              = 10240
	MaxKeyU64             = ^uint64(0)
	FirstReaddirPos       = 2
)

// Blkno is a block number. Zero is the null reference.
type Blkno uint64

// Ino is an inode number. Numbers are never reused.
type Ino uint64

// Rid identifies one mount instance: random, never 0 and never all ones.
type Rid uint64

// Term is an election term of the quorum.
type Term uint64

// Timespec is a point in time, or the zero value.
type Timespec struct {
	Sec  uint64 // two's complement
	Nsec uint32
	_    [4]byte
}
