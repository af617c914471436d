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

// A request is read into two pieces: what comes before the data of a WRITE, and
// the rest. A reply is written from two: the header, and the rest, which is the
// data of a READ. So data always begins where its buffer begins.
const (
	headSize  = inHeaderSize + writeInSize
	smallSize = 16 << 10 // requests other than WRITE up to this length are in one piece
)

// buffers hold one request and its reply. The two big ones are either given by
// Options.Buffer, or mapped memory that is touched only as far as requests need.
type buffers struct {
	head   []byte // smallSize
	in     []byte // MaxWrite
	header [outHeaderSize]byte
	out    []byte        // MaxWrite
	unique atomic.Uint64 // of the request that is being handled, 0 if none
	given  func([]byte)  // gives back in and out; nil: they are mapped

	ins  [2][]byte // the pieces of the request
	outs [2][]byte // room for the reply
}

// newBuffers makes buffers, whose big ones come from give if it is not nil.
func newBuffers(give func(n int) []byte, back func([]byte)) *buffers {
	b := &buffers{head: make([]byte, smallSize)}
	if give != nil {
		b.in, b.out, b.given = give(MaxWrite), give(MaxWrite), back
	} else {
		b.in, b.out = mapped(MaxWrite), mapped(MaxWrite)
	}
	b.outs = [2][]byte{b.header[:], b.out}
	return b
}

func mapped(n int) []byte {
	mem, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		return make([]byte, n) // works, only unaligned
	}
	return mem
}

func (b *buffers) free() {
	for _, mem := range [][]byte{b.in, b.out} {
		if b.given != nil {
			b.given(mem)
		} else {
			_ = unix.Munmap(mem) // refuses memory that is not mapped
		}
	}
	b.in, b.out = nil, nil
}

// read reads one request and returns its length.
func (b *buffers) read(fd int) (int, error) {
	b.ins = [2][]byte{b.head[:headSize], b.in}
	return unix.Readv(fd, b.ins[:])
}

// request is the request of n bytes that was read last, in pieces.
func (b *buffers) request(n int) [][]byte {
	const opWrite = 16
	switch {
	case n <= headSize:
		b.ins[0] = b.head[:n]
		return b.ins[:1]
	case n <= smallSize && binary.LittleEndian.Uint32(b.head[4:]) != opWrite:
		copy(b.head[headSize:n], b.in)
		b.ins[0] = b.head[:n]
		return b.ins[:1]
	}
	b.ins = [2][]byte{b.head[:headSize], b.in[:n-headSize]}
	return b.ins[:]
}

// write writes the first n bytes of the reply.
func (b *buffers) write(fd, n int) error {
	if n <= outHeaderSize {
		_, err := unix.Write(fd, b.header[:n])
		return err
	}
	pieces := [2][]byte{b.header[:], b.out[:n-outHeaderSize]}
	_, err := unix.Writev(fd, pieces[:])
	return err
}

// fail turns the reply into one that only says errno, and returns its length.
func (b *buffers) fail(errno unix.Errno) int {
	h := (*outHeader)(unsafe.Pointer(&b.header))
	h.length = outHeaderSize
	h.err = -int32(errno)
	return outHeaderSize
}

type outHeader struct {
	length uint32
	err    int32
	unique uint64
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
