// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package format

// SrchEntry says that the xattr id of ino, whose name has the hash, was
// created or deleted. Two equal ones cancel.
type SrchEntry struct {
	Hash uint64
	Ino  Ino
	ID   uint64
}

// SrchFile is a radix tree of srch blocks.
type SrchFile struct {
	First, Last SrchEntry
	Ref         BlockRef
	Blocks      uint64 // data blocks, numbered densely from 0
	Entries     uint64
	Height      uint8 // 0 empty, 1 a single data block
	_           [7]byte
}

// Geometry of srch files. Source: spec format 8.
const (
	SrchParentRefs   = 4094
	SrchHdrSize      = 112
	SrchMaxStart     = 65398 // last offset at which an entry may start
	SrchRotateBlocks = 16    // a log file of so many blocks is rotated
)

// SrchParent is a whole block of references of a srch file.
type SrchParent struct {
	Hdr  BlockHeader
	Refs [SrchParentRefs]BlockRef
}

// SrchBlock is the header of a srch data block.
type SrchBlock struct {
	Hdr               BlockHeader
	First, Last, Tail SrchEntry // smallest, greatest, last appended
	EntryNr           uint32
	EntryBytes        uint32 // of the encoded entries after this header
}

// SrchInput is one file of a compaction and how far it was read.
type SrchInput struct {
	File SrchFile
	Blk  uint64
	Pos  uint64
}

// SrchCompact is the value of a pending or busy compaction item.
type SrchCompact struct {
	MetaAvail AllocList
	MetaFreed AllocList
	ID        uint64
	Nr        uint8 // inputs used, 0..4
	Flags     uint8 // SrchCompactLog ...
	_         [6]byte
	Out       SrchFile
	In        [4]SrchInput
}

// Flags of [SrchCompact]. Exactly one of the first three is the phase.
const (
	SrchCompactLog    = 1
	SrchCompactSorted = 2
	SrchCompactDelete = 4
	SrchCompactDone   = 16
	SrchCompactError  = 32
)

// LogTrees is the value of a log trees item: what one mount writes its
// transactions into. Also the payload of GET_LOG_TREES and COMMIT_LOG_TREES.
type LogTrees struct {
	MetaAvail           AllocList
	MetaFreed           AllocList
	ItemRoot            BtreeRoot
	BloomRef            BlockRef
	DataAvail           AllocRoot
	DataFreed           AllocRoot
	SrchFile            SrchFile
	DataAllocZoneBlocks uint64
	DataAllocZones      [16]uint64 // one bit a zone
	InodeCountDelta     uint64     // two's complement
	GetTransSeq         uint64     // > CommitTransSeq while a transaction is open
	CommitTransSeq      uint64
	MaxItemSeq          uint64
	FinalizeSeq         uint64
	Rid                 Rid
	Nr                  uint64
	Flags               uint64 // LogTreesFinalized
}

// LogTreesFinalized marks a log tree that nobody writes any more.
const LogTreesFinalized = 1

// MergeStatus is the value of the log merge status item.
type MergeStatus struct {
	NextRangeKey Key
	NrRequests   uint64
	NrComplete   uint64
	Seq          uint64
}

// MergeRange is a range of keys that still has to be merged.
type MergeRange struct {
	Start, End Key
}

// MergeRequest is a piece of a merge that a mount works on.
type MergeRequest struct {
	MetaAvail AllocList
	MetaFreed AllocList
	LogsRoot  BtreeRoot
	Root      BtreeRoot
	Start     Key
	End       Key
	InputSeq  uint64
	Rid       Rid
	Seq       uint64
	Flags     uint64 // MergeRequestSubtree
}

// MergeRequestSubtree says that Root is a level 1 block of a taller tree.
const MergeRequestSubtree = 1

// MergeComplete is the result of a [MergeRequest].
type MergeComplete struct {
	MetaAvail AllocList
	MetaFreed AllocList
	Root      BtreeRoot
	Start     Key
	End       Key
	Remain    Key
	Rid       Rid
	Seq       uint64
	Flags     uint64 // MergeCompleteError, MergeCompleteRemain
}

// Flags of [MergeComplete].
const (
	MergeCompleteError  = 1
	MergeCompleteRemain = 2
)

// MergeFreeing is a dead log tree whose blocks are being freed left to right.
type MergeFreeing struct {
	Root BtreeRoot
	Key  Key // of the first part that is not freed yet
	Seq  uint64
}

// Totl is the value of a total: absolute in fs_root, a difference in log trees.
type Totl struct {
	Total uint64
	Count uint64
}

// QuotaRule is the value of a quota rule item (version 2).
type QuotaRule struct {
	NameVal    [3]uint64
	Limit      uint64
	Prio       uint8
	Op         uint8
	RuleFlags  uint8
	NameSource [3]uint8
	NameFlags  [3]uint8
	_          [7]byte
}

// Extent is the value of a data extent item.
type Extent struct {
	Blkno Blkno // first block on the data device, 0 without blocks
	Flags uint8 // ExtentOffline, ExtentUnwritten
	_     [7]byte
}

// Flags of [Extent].
const (
	ExtentOffline   = 1 // contents archived elsewhere
	ExtentUnwritten = 2 // preallocated, reads as zeros
)

// Inode is the value of an inode item. Version 1 stores the first 160 bytes.
type Inode struct {
	Size           uint64 // bytes; directories: of all names; symlinks: with the NUL
	MetaSeq        uint64
	DataSeq        uint64
	DataVersion    uint64
	OnlineBlocks   uint64
	OfflineBlocks  uint64
	NextReaddirPos uint64
	NextXattrID    uint64
	Version        uint64
	Nlink          uint32
	UID            uint32
	GID            uint32
	Mode           uint32
	Rdev           uint32 // major<<20 | minor
	Flags          uint32 // InodeTruncate, InodeRetention
	Atime          Timespec
	Ctime          Timespec
	Mtime          Timespec
	Crtime         Timespec
	Proj           uint64 // version 2
}

// Flags of [Inode].
const (
	InodeTruncate  = 1 // extents past Size are still to be removed
	InodeRetention = 2 // version 2
)

// Sizes of the two versions of an inode item's value.
const (
	InodeSizeV1 = 160
	InodeSizeV2 = 168
)

// InodeSize is the native length of inode items of a format version.
func InodeSize(vers uint64) int {
	if vers < 2 {
		return InodeSizeV1
	}
	return InodeSizeV2
}

// LoadInode decodes an inode item's value of a volume of the given version.
// ok is false if the length is not one that the version allows.
func LoadInode(b []byte, vers uint64) (in Inode, ok bool) {
	if len(b) != InodeSizeV1 && (len(b) != InodeSizeV2 || vers < 2) {
		return in, false
	}
	copy(Bytes(&in), b)
	return in, true
}

// DirentHdr starts the value of the three items of a directory entry; the
// name follows without terminator.
type DirentHdr struct {
	Ino  Ino
	Hash uint64
	Pos  uint64
	Type uint8 // DirentFifo ...
	_    [7]byte
}

// DirentHdrSize is where the name starts.
const DirentHdrSize = 32

// Types of directory entries. They are not the DT_ values of POSIX.
const (
	DirentFifo = iota
	DirentChr
	DirentDir
	DirentBlk
	DirentReg
	DirentLnk
	DirentSock
	DirentWhiteout
)

// DirentType is the entry type of an inode's mode.
func DirentType(mode uint32) uint8 {
	switch mode & 0o170000 {
	case 0o010000:
		return DirentFifo
	case 0o020000:
		return DirentChr
	case 0o040000:
		return DirentDir
	case 0o060000:
		return DirentBlk
	case 0o120000:
		return DirentLnk
	case 0o140000:
		return DirentSock
	}
	return DirentReg
}

// DirentDT converts an entry type to the DT_ value that readdir reports.
func DirentDT(t uint8) uint8 {
	if t < DirentWhiteout {
		return [...]uint8{1, 2, 4, 6, 8, 10, 12}[t]
	}
	return 0
}

// AppendDirent appends the value of an entry's items to b.
// The name must have 1 to 255 bytes.
func AppendDirent(b []byte, d DirentHdr, name string) []byte {
	b = append(b, Bytes(&d)...)
	return append(b, name...)
}

// ParseDirent splits the value of an entry's item. The name shares memory
// with b. ok is false if the name's length is not 1 to 255.
func ParseDirent(b []byte) (d DirentHdr, name []byte, ok bool) {
	if len(b) <= DirentHdrSize || len(b) > DirentHdrSize+MaxNameLen {
		return d, nil, false
	}
	d, ok = Load[DirentHdr](b)
	return d, b[DirentHdrSize:], ok
}

// XattrHdr starts part 0 of an xattr; name and value follow.
type XattrHdr struct {
	ValLen  uint16
	NameLen uint8
	_       [5]byte
}

// XattrHdrSize is where the name starts.
const XattrHdrSize = 8

// XattrParts is the number of items of an xattr with such lengths, 1..74.
func XattrParts(nameLen, valLen int) int {
	return (XattrHdrSize + nameLen + valLen + MaxValue - 1) / MaxValue
}

// ParseXattr splits part 0 of an xattr. Name and val share memory with b; val
// is only what fits in part 0. ok is false if the lengths contradict b.
func ParseXattr(b []byte) (h XattrHdr, name, val []byte, ok bool) {
	h, ok = Load[XattrHdr](b)
	if !ok || h.NameLen == 0 {
		return h, nil, nil, false
	}
	total := XattrHdrSize + int(h.NameLen) + int(h.ValLen)
	if len(b) != min(total, MaxValue) {
		return h, nil, nil, false
	}
	n := XattrHdrSize + int(h.NameLen)
	return h, b[XattrHdrSize:n], b[n:], true
}
