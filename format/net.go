// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package format

// QuorumMsg is an election datagram. Source: spec cluster 2.2.
type QuorumMsg struct {
	Fsid    uint64
	Version uint64 // sent 0, not checked
	Term    Term
	Type    uint8 // QuorumMsgRequestVote ...
	From    uint8 // the sender's slot
	_       [2]byte
	CRC     uint32 // [CRC32C] of the bytes before it
}

// Types of [QuorumMsg]; greater ones are dropped silently.
const (
	QuorumMsgRequestVote = iota
	QuorumMsgVote
	QuorumMsgHeartbeat
	QuorumMsgResignation
	QuorumMsgTypes
)

// NetHeader precedes every message of the TCP stream. Source: spec cluster 4.1.
type NetHeader struct {
	Seq     uint64 // non-zero, +1 for each message queued on the connection
	RecvSeq uint64 // greatest received from the peer
	ID      uint64 // non-zero; a response has its request's
	DataLen uint16 // <= NetMaxData
	Cmd     NetCmd
	Flags   uint8  // NetFlagResponse
	Error   NetErr // of responses; then DataLen is 0
	_       [3]byte
}

// Limits and flags of [NetHeader].
const (
	NetMaxData      = 1100
	NetFlagResponse = 1
)

// NetCmd is the number of a command.
type NetCmd uint8

// The commands. Source: spec cluster 4.2.
const (
	CmdGreeting NetCmd = iota
	CmdAllocInodes
	CmdGetLogTrees
	CmdCommitLogTrees
	CmdSyncLogTrees
	CmdGetRoots
	CmdGetLastSeq
	CmdLock
	CmdLockRecover
	CmdSrchGetCompact
	CmdSrchCommitCompact
	CmdGetLogMerge
	CmdCommitLogMerge
	CmdOpenInoMap
	CmdGetVolopt
	CmdSetVolopt
	CmdClearVolopt
	CmdResizeDevices
	CmdStatfs
	CmdFarewell
	CmdNr
)

var cmdNames = [CmdNr]string{
	"GREETING", "ALLOC_INODES", "GET_LOG_TREES", "COMMIT_LOG_TREES", "SYNC_LOG_TREES", "GET_ROOTS", "GET_LAST_SEQ",
	"LOCK", "LOCK_RECOVER", "SRCH_GET_COMPACT", "SRCH_COMMIT_COMPACT", "GET_LOG_MERGE", "COMMIT_LOG_MERGE",
	"OPEN_INO_MAP", "GET_VOLOPT", "SET_VOLOPT", "CLEAR_VOLOPT", "RESIZE_DEVICES", "STATFS", "FAREWELL",
}

// String names the command as the protocol description does.
func (c NetCmd) String() string {
	if c < CmdNr {
		return cmdNames[c]
	}
	return "UNKNOWN"
}

// NetErr is an error code of a response.
type NetErr uint8

// The error codes. Source: spec cluster 4.3.
const (
	NetOK NetErr = iota
	NetENOENT
	NetENOMEM
	NetEIO
	NetENOSPC
	NetEINVAL
	NetENOLINK
	NetErrNr
)

// NetGreeting is the first message on every socket, in both directions.
type NetGreeting struct {
	Fsid       uint64
	FmtVers    uint64
	ServerTerm uint64 // last known, 0 at first contact
	Rid        Rid
	Flags      uint64 // NetGreetingFarewell, NetGreetingQuorum
}

// Flags of [NetGreeting].
const (
	NetGreetingFarewell = 1
	NetGreetingQuorum   = 2
)

// NetInoRange is the answer to ALLOC_INODES. Nr 0 means that there are no more.
type NetInoRange struct {
	Ino Ino
	Nr  uint64
}

// NetRoots is the answer to GET_ROOTS.
type NetRoots struct {
	FSRoot   BtreeRoot
	LogsRoot BtreeRoot
	SrchRoot BtreeRoot
}

// NetLock is a lock request, grant or invalidation.
type NetLock struct {
	Key      Key // start of the lock's range
	WriteSeq uint64
	OldMode  LockMode
	NewMode  LockMode
	_        [6]byte
}

// LockMode is how a lock may be used.
type LockMode uint8

// Lock modes. Source: spec cluster 7.1.
const (
	LockNull LockMode = iota
	LockRead
	LockWrite
	LockWriteOnly
	LockModes
)

// String names the mode as the status tree does.
func (m LockMode) String() string {
	if m < LockModes {
		return [...]string{"null", "read", "write", "write_only"}[m]
	}
	return "unknown"
}

// NetLockRecoverMax is how many locks one recovery message holds.
const NetLockRecoverMax = 22

// NetLockRecover is the header of a LOCK_RECOVER response; Nr [NetLock] follow.
type NetLockRecover struct {
	Nr uint16
	_  [6]byte
}

// NetOpenInoMapArgs asks which inodes of a group any mount has open.
type NetOpenInoMapArgs struct {
	Group uint64
	ReqID uint64
}

// NetOpenInoMap answers it with a bit for each inode of the group.
type NetOpenInoMap struct {
	Args NetOpenInoMapArgs
	Bits [16]uint64
}

// NetResize asks for larger devices.
type NetResize struct {
	MetaBlocks uint64
	DataBlocks uint64
}

// NetStatfs is the answer to STATFS.
type NetStatfs struct {
	UUID       [16]byte
	FreeMeta   uint64 // 64 KiB blocks
	TotalMeta  uint64
	FreeData   uint64 // 4 KiB blocks
	TotalData  uint64
	InodeCount uint64
}
