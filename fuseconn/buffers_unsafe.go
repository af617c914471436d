// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package fuseconn

import (
	"encoding/binary"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	page          = 4096
	inHeaderSize  = 40 // fuse_in_header
	writeInSize   = 40 // fuse_write_in
	outHeaderSize = 16 // fuse_out_header
)

// buffers hold one request and its reply. They are mapped memory, touched
// only as far as requests need, and laid out so that the data of a WRITE and
// of the answer to a READ start at a page boundary.
type buffers struct {
	mem     []byte
	in, out []byte
	unique  atomic.Uint64 // of the request that is being handled, 0 if none
}

func newBuffers() *buffers {
	const half = page + MaxWrite + page
	mem, err := unix.Mmap(-1, 0, 2*half, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		mem = make([]byte, 2*half) // works, only unaligned
	}
	return &buffers{
		mem: mem,
		in:  mem[page-inHeaderSize-writeInSize : half],
		out: mem[half+page-outHeaderSize : 2*half],
	}
}

func (b *buffers) free() {
	_ = unix.Munmap(b.mem)
	b.mem, b.in, b.out = nil, nil, nil
}

type outHeader struct {
	length uint32
	err    int32
	unique uint64
}

// errorReply turns a reply into one that only says errno.
func errorReply(reply []byte, errno unix.Errno) []byte {
	h := (*outHeader)(unsafe.Pointer(unsafe.SliceData(reply)))
	h.length = outHeaderSize
	h.err = -int32(errno)
	return reply[:outHeaderSize]
}

// unique is the identity of a request, 0 if it is too short to have one.
func unique(in []byte) uint64 {
	if len(in) < inHeaderSize {
		return 0
	}
	return binary.LittleEndian.Uint64(in[8:])
}

// interrupt makes an INTERRUPT request for another one.
func interrupt(unique uint64) []byte {
	const opInterrupt = 36
	b := make([]byte, inHeaderSize+8)
	binary.LittleEndian.PutUint32(b[0:], uint32(len(b)))
	binary.LittleEndian.PutUint32(b[4:], opInterrupt)
	binary.LittleEndian.PutUint64(b[inHeaderSize:], unique)
	return b
}
