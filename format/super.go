// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package format

// Inet is a network address. Only its first 8 bytes carry meaning for IPv4;
// the rest may hold garbage on volumes that the original wrote.
type Inet struct {
	Family uint16 // InetNone or InetV4
	Port   uint16
	Addr   uint32 // 127.0.0.1 is 0x7f000001
	_      [24]byte
}

// Address families of [Inet].
const (
	InetNone = 0
	InetV4   = 1
	InetV6   = 2 // defined, never used
)

// QuorumConfig is the table of slots of the super block.
type QuorumConfig struct {
	Version uint64 // 1 at mkfs, +1 for each change
	Slots   [QuorumSlots]Inet
}

// Super flags.
const SuperFlagMeta = 1 // set on the metadata device only

// VolOptDataAllocZoneBlocks is the bit and index of the only volume option.
const VolOptDataAllocZoneBlocks = 0

// VolumeOptions are persistent options; Set bit n says that Values[n] holds.
type VolumeOptions struct {
	SetBits uint64
	Values  [64]uint64
}

// Super is the used part of the super block at small block 16 of both devices.
// Only the metadata device's is updated after mkfs. Source: spec format 3.20.
type Super struct {
	Hdr             BlockHeader
	ID              uint64 // unused, 0
	FmtVers         uint64 // 1 or 2
	Flags           uint64 // SuperFlagMeta
	UUID            [16]byte
	Seq             uint64 // greatest of the volume's sequence numbers handed out
	NextIno         Ino
	InodeCount      uint64 // without the deltas of log trees
	TotalMetaBlocks uint64 // 64 KiB, reserved ones included
	TotalDataBlocks uint64 // 4 KiB, reserved ones included
	Quorum          QuorumConfig
	MetaAlloc       [2]AllocRoot
	DataAlloc       AllocRoot
	ServerMetaAvail [2]AllocList
	ServerMetaFreed [2]AllocList
	FSRoot          BtreeRoot
	LogsRoot        BtreeRoot
	LogMerge        BtreeRoot
	MountedClients  BtreeRoot
	SrchRoot        BtreeRoot
	VolOpt          VolumeOptions
}

// Quorum events. Source: spec cluster 2.3.
const (
	QuorumBegin = iota
	QuorumTerm
	QuorumElect
	QuorumFence
	QuorumStop
	QuorumEnd
	QuorumEvents
)

// QuorumEvent is one of the six records of a quorum block.
type QuorumEvent struct {
	WriteNr uint64
	Rid     Rid
	Term    Term
	Ts      Timespec // of a monotonic clock, for people only
}

// QuorumBlock is the used part of the 4 KiB block of a quorum slot.
type QuorumBlock struct {
	Hdr     BlockHeader
	WriteNr uint64
	Events  [QuorumEvents]QuorumEvent
}

// MountedClient is the value of a mounted client item.
type MountedClient struct {
	Addr  Inet
	Flags uint8 // MountedClientQuorum
	_     [7]byte
}

// MountedClientQuorum marks a mount that has a quorum slot.
const MountedClientQuorum = 1
