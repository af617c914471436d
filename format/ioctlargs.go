// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package format

import "encoding/binary"

// Fields named Ptr are addresses in the memory of the ioctl's caller.

// IocReleaseArgs makes a range of a file offline. Offset and Length are bytes and
// multiples of 4096.
type IocReleaseArgs struct {
	Offset      uint64
	Length      uint64
	DataVersion uint64
}

// IocStageArgs writes the contents of an offline range.
type IocStageArgs struct {
	DataVersion uint64
	BufPtr      uint64
	Offset      uint64
	Length      int32
	_           [4]byte
}

// IocDataWaitingArgs asks for tasks of this mount that wait for offline data.
type IocDataWaitingArgs struct {
	Flags       uint64 // 0
	AfterIno    Ino
	AfterIblock uint64
	EntsPtr     uint64 // of [IocDataWaitingEntry], written
	EntsNr      uint16
	_           [6]byte
}

// IocDataWaitingEntry is where tasks wait and for what.
type IocDataWaitingEntry struct {
	Ino    Ino
	Iblock uint64
	Op     uint8 // IocDataWaitRead | ...
	_      [7]byte
}

// Operations that wait for offline data.
const (
	IocDataWaitRead       = 1
	IocDataWaitWrite      = 2
	IocDataWaitChangeSize = 4
)

// IocSetattrMoreArgs sets attributes when a file is restored.
type IocSetattrMoreArgs struct {
	DataVersion uint64
	Size        uint64
	Flags       uint64 // IocSetattrMoreOffline
	CtimeSec    uint64
	CtimeNsec   uint32
	CrtimeNsec  uint32
	CrtimeSec   uint64
}

// IocSetattrMoreOffline makes the whole size offline.
const IocSetattrMoreOffline = 1

// IocSearchXattrsArgs asks for inodes with a srch xattr.
type IocSearchXattrsArgs struct {
	NextIno     Ino
	LastIno     Ino
	NamePtr     uint64
	InodesPtr   uint64 // of inode numbers, written
	OutputFlags uint64 // IocSearchXattrsEnd
	NrInodes    uint64
	NameBytes   uint16
	_           [6]byte
}

// IocSearchXattrsEnd says that the search went up to LastIno.
const IocSearchXattrsEnd = 1

// IocDataWaitErrArgs ends the waiting of tasks with an error.
type IocDataWaitErrArgs struct {
	Ino         Ino
	DataVersion uint64 // ignored
	Offset      uint64
	Count       uint64
	Op          uint64
	Err         int64 // -4095 .. -1
}

// IocMoveBlocksArgs moves extents between files.
type IocMoveBlocksArgs struct {
	FromFd      uint64
	FromOff     uint64
	Len         uint64
	ToOff       uint64
	DataVersion uint64
	Flags       uint64 // IocMoveBlocksStage
}

// IocMoveBlocksStage moves into an offline range.
const IocMoveBlocksStage = 1

// IocReadXattrTotalsArgs asks for totals from a name on.
type IocReadXattrTotalsArgs struct {
	PosName     [3]uint64
	TotalsPtr   uint64 // of [IocXattrTotal], written
	TotalsBytes uint64
}

// IocXattrTotal is one total.
type IocXattrTotal struct {
	Name  [3]uint64
	Total uint64
	Count uint64
}

// IocGetAllocatedInosArgs asks for inode numbers of one group that own items.
type IocGetAllocatedInosArgs struct {
	StartIno  Ino
	InosPtr   uint64 // of inode numbers, written
	InosBytes uint64
}

// IocGetQuotaRulesArgs asks for quota rules.
type IocGetQuotaRulesArgs struct {
	Iterator [2]uint64 // 0 at the start, opaque
	RulesPtr uint64    // of [QuotaRule], written
	RulesNr  uint64
}

// IocReadXattrIndexArgs asks for inodes in the order of the xattr index.
type IocReadXattrIndexArgs struct {
	Flags      uint64 // ignored
	First      IocXattrIndexEntry
	Last       IocXattrIndexEntry // inclusive
	EntriesPtr uint64             // of [IocXattrIndexEntry], written
	EntriesNr  uint64
}

// IocXattrIndexEntry is an inode's place in the xattr index; Major sorts first.
type IocXattrIndexEntry struct {
	Minor uint64
	Ino   Ino
	Major uint8
	_     [7]byte
}

// IocPunchOfflineArgs removes offline extents. Offset and Len are bytes.
type IocPunchOfflineArgs struct {
	Offset      uint64
	Len         uint64
	DataVersion uint64
	Flags       uint64 // 0
}

// IocInjectTotlDeltaArgs adds to a total; for tests and repair.
type IocInjectTotlDeltaArgs struct {
	Name  [3]uint64
	Total int64
	Count int64
}

// IoctlInfo is one line of [Ioctls].
type IoctlInfo struct {
	Nr   IoctlNr
	Name string // as in the specification
	In   bool   // the argument is read
	Out  bool   // the argument is written
}

// Ioctls is the table of all ioctls with what is really transferred, in the
// order of their numbers from 1.
var Ioctls = [...]IoctlInfo{
	{IocWalkInodes, "WALK_INODES", true, false},
	{IocInoPath, "INO_PATH", true, false},
	{IocRelease, "RELEASE", true, false},
	{IocStage, "STAGE", true, false},
	{IocStatMore, "STAT_MORE", false, true},
	{IocDataWaiting, "DATA_WAITING", true, false},
	{IocSetattrMore, "SETATTR_MORE", true, false},
	{IocListxattrHidden, "LISTXATTR_HIDDEN", true, true},
	{IocSearchXattrs, "SEARCH_XATTRS", true, true},
	{IocStatfsMore, "STATFS_MORE", false, true},
	{IocDataWaitErr, "DATA_WAIT_ERR", true, false},
	{IocAllocDetail, "ALLOC_DETAIL", true, false},
	{IocMoveBlocks, "MOVE_BLOCKS", true, false},
	{IocResizeDevices, "RESIZE_DEVICES", true, false},
	{IocReadXattrTotals, "READ_XATTR_TOTALS", true, false},
	{IocGetAllocatedInos, "GET_ALLOCATED_INOS", true, false},
	{IocGetReferringEntries, "GET_REFERRING_ENTRIES", true, false},
	{IocGetAttrX, "GET_ATTR_X", true, true},
	{IocSetAttrX, "SET_ATTR_X", true, false},
	{IocGetQuotaRules, "GET_QUOTA_RULES", true, true},
	{IocAddQuotaRule, "ADD_QUOTA_RULE", true, false},
	{IocDelQuotaRule, "DEL_QUOTA_RULE", true, false},
	{IocReadXattrIndex, "READ_XATTR_INDEX", true, false},
	{IocPunchOffline, "PUNCH_OFFLINE", true, false},
	{IocInjectTotlDelta, "INJECT_TOTL_DELTA", true, false},
}

// ReferringEntry is a directory entry that refers to an inode.
type ReferringEntry struct {
	DirIno Ino
	DirPos uint64
	Ino    Ino
	Last   bool  // none follows
	DType  uint8 // DT_ value, see [DirentDT]
	Name   []byte
}

const (
	referringName  = IocReferringNameOff
	referringAlign = 16
)

// ReferringEntryBytes is the space that an entry takes.
func ReferringEntryBytes(nameLen int) int {
	return (referringName + nameLen + 1 + referringAlign - 1) &^ (referringAlign - 1)
}

// AppendReferringEntry appends an entry, its padding zero. The name has 1 to
// 255 bytes.
func AppendReferringEntry(b []byte, e *ReferringEntry) []byte {
	n := ReferringEntryBytes(len(e.Name))
	b = binary.LittleEndian.AppendUint64(b, uint64(e.DirIno))
	b = binary.LittleEndian.AppendUint64(b, e.DirPos)
	b = binary.LittleEndian.AppendUint64(b, uint64(e.Ino))
	b = binary.LittleEndian.AppendUint16(b, uint16(n))
	var flags uint8
	if e.Last {
		flags = IocReferringLast
	}
	b = append(b, flags, e.DType, uint8(len(e.Name)))
	b = append(b, e.Name...)
	var pad [referringAlign]byte
	return append(b, pad[:n-referringName-len(e.Name)]...)
}

// ParseReferringEntry decodes the entry at the start of b and returns what
// follows it. The name shares memory with b. ok is false if b does not start
// with an entry.
func ParseReferringEntry(b []byte) (e ReferringEntry, rest []byte, ok bool) {
	if len(b) < referringName {
		return e, nil, false
	}
	size, nameLen := int(binary.LittleEndian.Uint16(b[24:])), int(b[28])
	if size < referringName+nameLen+1 || size > len(b) {
		return e, nil, false
	}
	e = ReferringEntry{
		DirIno: Ino(binary.LittleEndian.Uint64(b)),
		DirPos: binary.LittleEndian.Uint64(b[8:]),
		Ino:    Ino(binary.LittleEndian.Uint64(b[16:])),
		Last:   b[26]&IocReferringLast != 0,
		DType:  b[27],
		Name:   b[referringName:][:nameLen],
	}
	return e, b[size:], true
}
