// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package format

// Magic says what kind of block a header belongs to.
type Magic uint32

// Kinds of blocks.
const (
	MagicSuper      Magic = 0x103c428b // 4 KiB
	MagicQuorum     Magic = 0xbc310868 // 4 KiB
	MagicBtree      Magic = 0xe597f96d // 64 KiB, as are all below
	MagicAllocList  Magic = 0x8a93ac83
	MagicBloom      Magic = 0x31995604
	MagicSrchBlock  Magic = 0x897e4a7d
	MagicSrchParent Magic = 0xb23a2a05
)

// String names the kind for messages.
func (m Magic) String() string {
	switch m {
	case MagicSuper:
		return "super"
	case MagicQuorum:
		return "quorum"
	case MagicBtree:
		return "btree"
	case MagicAllocList:
		return "alloc list"
	case MagicBloom:
		return "bloom"
	case MagicSrchBlock:
		return "srch"
	case MagicSrchParent:
		return "srch parent"
	}
	return "unknown"
}

// BlockHeader starts every super, quorum and large block.
// Source: spec format 2.1.
type BlockHeader struct {
	CRC   uint32 // of bytes 4..end of the block, see [Checksum]
	Magic Magic
	Fsid  uint64 // the volume's
	Seq   uint64 // random for each written version of a large block; +1 for each super write
	Blkno Blkno  // the block's own, in its own unit
}

// BlockRef names one version of one large block. A zero Blkno is the null
// reference. It is valid only if the block's header has the same Seq and Blkno.
type BlockRef struct {
	Blkno Blkno
	Seq   uint64
}

// IsNull reports whether r refers to nothing.
func (r BlockRef) IsNull() bool { return r.Blkno == 0 }

// BtreeRoot refers to a btree. Height 0 is an empty tree with a null Ref; the
// root block of a tree of height h has level h-1.
type BtreeRoot struct {
	Ref    BlockRef
	Height uint8
	_      [7]byte
}

// BtreeBlock is the header of a btree block. An array of NrItems [BtreeItem]
// follows it; values lie at the block's end; leaves end in a hash table.
// Source: spec format 5.2.
type BtreeBlock struct {
	Hdr            BlockHeader
	ItemRoot       uint16 // AVL offset of the root item, 0 if there are no items
	NrItems        uint16
	TotalItemBytes uint16 // sum of 56 + value length rounded up to 8
	MidFreeLen     uint16 // bytes between the item array and the lowest value allocated
	Level          uint8
	_              [7]byte
}

// AvlNode links an item in the tree that orders a block's items. Offsets count
// from byte 32 of the block; 0 is null. Height of a leaf is 1.
type AvlNode struct {
	Parent, Left, Right uint16
	Height              uint8
	_                   [1]byte
}

// BtreeItem is one slot of a btree block's item array.
type BtreeItem struct {
	Node   AvlNode
	Key    Key
	Seq    uint64 // version; only fs and log trees
	ValOff uint16 // from the block's start, multiple of 8; 0 without a value
	ValLen uint16 // 0..MaxValue
	Flags  uint8  // ItemFlagDeletion
	_      [3]byte
}

// Geometry of btree blocks. Source: spec format 5.2 to 5.5.
const (
	ItemFlagDeletion = 1

	BtreeHdrSize    = 48
	BtreeItemSize   = 56
	AvlBase         = 32    // AVL offsets count from here
	AvlFirst        = 16    // AVL offset of item 0
	BtreeHashNr     = 1512  // u16 buckets of a leaf
	BtreeHashOff    = 62512 // where they start; also the end of a leaf's values
	BtreeParentEnd  = LargeSize
	BtreeLeafEnd    = BtreeHashOff
	BtreeParentFree = BtreeParentEnd - BtreeHdrSize // 65488
	BtreeLeafFree   = BtreeLeafEnd - BtreeHdrSize   // 62464
	BtreeLowWater   = BtreeParentFree / 4           // 16372
	BtreeSplitPct   = 80                            // of BtreeParentFree; above it a full block splits, below it compacts
	BtreeJoinAll    = 32744                         // a sibling with at most so many item bytes is emptied
	BtreeParentRoom = BtreeItemSize + 16
	MaxParentItems  = 909
	MaxLeafItems    = 1115
)

// AllocList is the head of a chain of list blocks.
type AllocList struct {
	Ref     BlockRef
	TotalNr uint64 // entries in all blocks
	FirstNr uint32 // entries in the first block
	Flags   uint32 // AllocFlagLow
}

// AllocFlagLow marks an allocator whose failure is real ENOSPC.
const AllocFlagLow = 1

// AllocListNr is how many entries a list block holds.
const AllocListNr = 8185

// AllocListBlock is a whole list block. Live entries are
// Blknos[Start:Start+Nr]; everything else in the array is stale.
type AllocListBlock struct {
	Hdr    BlockHeader
	Next   BlockRef
	Start  uint32
	Nr     uint32
	Blknos [AllocListNr]uint64
}

// AllocRoot is a tree of free extents. Each extent is two items, by position
// and by size; see [KeyFreeBlkno] and [KeyFreeOrder].
type AllocRoot struct {
	TotalLen uint64 // blocks in all extents
	Flags    uint32 // AllocFlagLow
	_        [4]byte
	Root     BtreeRoot
}

// BloomBits is the number of bits of a bloom block.
const BloomBits = 523968

// BloomBlock tells which locks' items a log tree may contain.
// Bit n is bit n%8 of Bits[n/8].
type BloomBlock struct {
	Hdr      BlockHeader
	TotalSet uint64 // number of bits that are set
	Bits     [BloomBits / 8]byte
}
