// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package format

// IoctlNr is the number of an ioctl of the archive interface. It holds the
// size of the argument and the direction of its copy; the ones marked lie
// about the direction. Source: spec interfaces 1.1.
type IoctlNr uint32

// The ioctls.
const (
	IocWalkInodes          IoctlNr = 0x4048e801
	IocInoPath             IoctlNr = 0x4028e802
	IocRelease             IoctlNr = 0x4018e803
	IocStage               IoctlNr = 0x4020e804
	IocStatMore            IoctlNr = 0x8038e805
	IocDataWaiting         IoctlNr = 0x4028e806
	IocSetattrMore         IoctlNr = 0x4030e807
	IocListxattrHidden     IoctlNr = 0xc018e808
	IocSearchXattrs        IoctlNr = 0x4038e809 // writes its argument back
	IocStatfsMore          IoctlNr = 0x8030e80a
	IocDataWaitErr         IoctlNr = 0x4030e80b
	IocAllocDetail         IoctlNr = 0x4010e80c
	IocMoveBlocks          IoctlNr = 0x4030e80d
	IocResizeDevices       IoctlNr = 0x4010e80e
	IocReadXattrTotals     IoctlNr = 0x4028e80f
	IocGetAllocatedInos    IoctlNr = 0x4018e810
	IocGetReferringEntries IoctlNr = 0x4028e811
	IocGetAttrX            IoctlNr = 0x4068e812 // writes its argument back
	IocSetAttrX            IoctlNr = 0x4068e813
	IocGetQuotaRules       IoctlNr = 0x8020e814 // reads its argument
	IocAddQuotaRule        IoctlNr = 0x4030e815
	IocDelQuotaRule        IoctlNr = 0x4030e816
	IocReadXattrIndex      IoctlNr = 0x8048e817 // reads its argument
	IocPunchOffline        IoctlNr = 0x4020e818
	IocInjectTotlDelta     IoctlNr = 0x4028e819
)

// Size is the length of the argument, in bytes.
func (n IoctlNr) Size() int { return int(n >> 16 & 0x3fff) }

// IocWalkEntry is an entry of an inode index.
type IocWalkEntry struct {
	Major uint64
	Ino   Ino
	Minor uint32 // 0
	_     [4]byte
}

// IocWalkInodesArgs is the argument of IocWalkInodes.
type IocWalkInodesArgs struct {
	First, Last IocWalkEntry
	EntriesPtr  uint64 // array of IocWalkEntry
	NrEntries   uint32
	Index       uint8 // 0 meta_seq, 1 data_seq
	_           [11]byte
}

// IocInoPathArgs is the argument of IocInoPath.
type IocInoPathArgs struct {
	Ino         Ino
	DirIno      Ino
	DirPos      uint64
	ResultPtr   uint64 // IocInoPathResult and the path
	ResultBytes uint16
	_           [6]byte
}

// IocInoPathResult precedes a path, which ends with a NUL.
type IocInoPathResult struct {
	DirIno    Ino
	DirPos    uint64
	PathBytes uint16 // with the NUL
	_         [6]byte
}

// IocStatMoreResult is the result of IocStatMore.
type IocStatMoreResult struct {
	MetaSeq       uint64
	DataSeq       uint64
	DataVersion   uint64
	OnlineBlocks  uint64
	OfflineBlocks uint64
	CrtimeSec     uint64
	CrtimeNsec    uint32
	_             [4]byte
}

// IocListxattrHiddenArgs is the argument of IocListxattrHidden; the positions
// are updated.
type IocListxattrHiddenArgs struct {
	IDPos    uint64
	BufPtr   uint64
	BufBytes uint32
	HashPos  uint32
}

// IocStatfsMoreResult is the result of IocStatfsMore.
type IocStatfsMoreResult struct {
	Fsid               uint64
	Rid                Rid
	CommittedSeq       uint64
	TotalMetaBlocks    uint64
	TotalDataBlocks    uint64
	ReservedMetaBlocks uint64
}

// IocAllocDetailArgs is the argument of IocAllocDetail.
type IocAllocDetailArgs struct {
	EntriesPtr uint64 // array of IocAllocDetailEntry
	EntriesNr  uint64
}

// IocAllocDetailEntry describes one allocator.
type IocAllocDetailEntry struct {
	ID     uint64
	Blocks uint64
	Type   uint8 // 0
	Bits   uint8 // IocAllocMeta, IocAllocAvail
	_      [6]byte
}

// Bits of [IocAllocDetailEntry].
const (
	IocAllocMeta  = 1
	IocAllocAvail = 2
)

// IocGetReferringArgs is the argument of IocGetReferringEntries.
type IocGetReferringArgs struct {
	Ino          Ino
	DirIno       Ino
	DirPos       uint64
	EntriesPtr   uint64
	EntriesBytes uint64
}

// IocReferringEntry starts an entry of the result of IocGetReferringEntries.
// The name follows at byte 29, NUL terminated; EntryBytes is a multiple of 16.
type IocReferringEntry struct {
	DirIno     Ino
	DirPos     uint64
	Ino        Ino
	EntryBytes uint16
	Flags      uint8 // IocReferringLast
	DType      uint8
	NameLen    uint8
	_          [3]byte // the name starts at the first of these
}

// Facts of [IocReferringEntry].
const (
	IocReferringNameOff = 29
	IocReferringLast    = 1
)

// IocAttrX is the argument of IocGetAttrX and IocSetAttrX.
type IocAttrX struct {
	Mask          uint64 // IocAttrMetaSeq ...
	Flags         uint64
	MetaSeq       uint64
	DataSeq       uint64
	DataVersion   uint64
	OnlineBlocks  uint64
	OfflineBlocks uint64
	CtimeSec      uint64
	CtimeNsec     uint32
	CrtimeNsec    uint32
	CrtimeSec     uint64
	Size          uint64
	Bits          uint64 // 1: retention
	ProjectID     uint64
}

// Bits of IocAttrX.Mask.
const (
	IocAttrMetaSeq = 1 << iota
	IocAttrDataSeq
	IocAttrDataVersion
	IocAttrOnlineBlocks
	IocAttrOfflineBlocks
	IocAttrCtime
	IocAttrCrtime
	IocAttrSize
	IocAttrBits
	IocAttrProjectID
	IocAttrAll = 1<<10 - 1
)
