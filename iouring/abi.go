// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package iouring

import "structs"

// Opcodes, flags and register calls of the kernel's interface that are used.
const (
	opNop        = 0
	opFsync      = 3
	opReadFixed  = 4
	opWriteFixed = 5
	opRead       = 22
	opWrite      = 23

	sqeFixedFile  = 1 << 0
	fsyncDatasync = 1 << 0

	setupClamp       = 1 << 4
	setupSubmitAll   = 1 << 7
	setupCoopTaskrun = 1 << 8

	featSingleMmap = 1 << 0
	featNoDrop     = 1 << 1

	enterGetEvents = 1 << 0

	mapSQRing = 0
	mapSQEs   = 0x10000000

	registerFilesUpdate   = 6
	registerProbe         = 8
	registerFiles2        = 13
	registerBuffers2      = 15
	registerBuffersUpdate = 16
	registerCloneBuffers  = 30

	rsrcSparse      = 1 << 0
	cloneDstReplace = 1 << 1
	probeSupported  = 1 << 0
)

// sqe is a submission queue entry.
type sqe struct {
	_        structs.HostLayout
	opcode   uint8
	flags    uint8
	ioprio   uint16
	fd       int32 // or index of a registered file
	off      uint64
	addr     uint64
	len      uint32
	opFlags  uint32
	userData uint64 // here: index of a slot
	bufIndex uint16 // of a registered buffer
	_        uint16
	_        int32
	_        [2]uint64
}

// cqe is a completion queue entry.
type cqe struct {
	_        structs.HostLayout
	userData uint64
	res      int32
	flags    uint32
}

// sqOffsets and cqOffsets say where the parts of the rings are in the mapping.
type sqOffsets struct {
	head, tail, mask, entries, flags, dropped, array, _ uint32
	_                                                   uint64
}

type cqOffsets struct {
	head, tail, mask, entries, overflow, cqes, flags, _ uint32
	_                                                   uint64
}

// params is the argument of io_uring_setup.
type params struct {
	_          structs.HostLayout
	sqEntries  uint32
	cqEntries  uint32
	flags      uint32
	threadCPU  uint32
	threadIdle uint32
	features   uint32
	wqFD       uint32
	_          [3]uint32
	sqOff      sqOffsets
	cqOff      cqOffsets
}

// rsrcRegister makes a table of files or buffers.
type rsrcRegister struct {
	_     structs.HostLayout
	nr    uint32
	flags uint32
	_     uint64
	data  uint64
	tags  uint64
}

// filesUpdate replaces entries of the table of files.
type filesUpdate struct {
	_      structs.HostLayout
	offset uint32
	_      uint32
	fds    uint64 // address of int32 values
}

// rsrcUpdate replaces entries of the table of buffers.
type rsrcUpdate struct {
	_      structs.HostLayout
	offset uint32
	_      uint32
	data   uint64 // address of iovecs
	tags   uint64
	nr     uint32
	_      uint32
}

// cloneBuffers copies entries of another ring's table of buffers.
type cloneBuffers struct {
	_      structs.HostLayout
	srcFD  uint32
	flags  uint32
	srcOff uint32
	dstOff uint32
	nr     uint32
	_      [3]uint32
}

// probe tells which operations the kernel has.
type probe struct {
	_      structs.HostLayout
	lastOp uint8
	opsLen uint8
	_      uint16
	_      [3]uint32
	ops    [probeOps]probeOp
}

type probeOp struct {
	op    uint8
	_     uint8
	flags uint16
	_     uint32
}

const probeOps = 64
