// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package iouring

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Compile-time proof of the sizes that the kernel expects.
const (
	_ = -(unsafe.Sizeof(sqe{}) ^ 64)
	_ = -(unsafe.Sizeof(cqe{}) ^ 16)
	_ = -(unsafe.Sizeof(params{}) ^ 120)
	_ = -(unsafe.Sizeof(rsrcRegister{}) ^ 32)
	_ = -(unsafe.Sizeof(rsrcUpdate{}) ^ 32)
	_ = -(unsafe.Sizeof(filesUpdate{}) ^ 16)
	_ = -(unsafe.Sizeof(cloneBuffers{}) ^ 32)
	_ = -(unsafe.Sizeof(probe{}) ^ (16 + 8*probeOps))
)

// queues is a kernel ring: its descriptor and the memory shared with the
// kernel.
type queues struct {
	fd      int
	ringMem []byte
	sqeMem  []byte

	sqHead, sqTail, sqFlags *atomic.Uint32
	cqHead, cqTail          *atomic.Uint32
	sqes                    []sqe
	cqes                    []cqe
}

// setupFlags are tried in this order.
var setupFlags = []uint32{setupClamp | setupSubmitAll | setupCoopTaskrun, setupClamp | setupSubmitAll, setupClamp}

// openQueues makes a ring with so many submission entries, a power of two.
func openQueues(entries int) (q *queues, flags uint32, err error) {
	var p params
	fd := -1
	for _, flags = range setupFlags {
		p = params{flags: flags}
		r, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, uintptr(entries), uintptr(unsafe.Pointer(&p)), 0)
		if errno == 0 {
			fd = int(r)
			break
		}
		if err = errno; errno != unix.EINVAL {
			break
		}
	}
	if fd < 0 {
		return nil, 0, fmt.Errorf("iouring: setup: %w", err)
	}
	q = &queues{fd: fd}
	if p.features&(featSingleMmap|featNoDrop) != featSingleMmap|featNoDrop {
		q.close()
		return nil, 0, fmt.Errorf("iouring: kernel is too old, features %x: %w", p.features, unix.ENOSYS)
	}
	if err := q.mapMemory(&p); err != nil {
		q.close()
		return nil, 0, fmt.Errorf("iouring: map ring: %w", err)
	}
	return q, flags, nil
}

func (q *queues) mapMemory(p *params) (err error) {
	size := max(p.sqOff.array+4*p.sqEntries, p.cqOff.cqes+uint32(unsafe.Sizeof(cqe{}))*p.cqEntries)
	const prot, flags = unix.PROT_READ | unix.PROT_WRITE, unix.MAP_SHARED | unix.MAP_POPULATE
	if q.ringMem, err = unix.Mmap(q.fd, mapSQRing, int(size), prot, flags); err != nil {
		return err
	}
	if q.sqeMem, err = unix.Mmap(q.fd, mapSQEs, int(p.sqEntries)*int(unsafe.Sizeof(sqe{})), prot, flags); err != nil {
		return err
	}
	q.sqHead, q.sqTail = q.word(p.sqOff.head), q.word(p.sqOff.tail)
	q.sqFlags = q.word(p.sqOff.flags)
	q.cqHead, q.cqTail = q.word(p.cqOff.head), q.word(p.cqOff.tail)
	q.sqes = unsafe.Slice((*sqe)(unsafe.Pointer(&q.sqeMem[0])), p.sqEntries)
	q.cqes = unsafe.Slice((*cqe)(unsafe.Pointer(&q.ringMem[p.cqOff.cqes])), p.cqEntries)
	array := unsafe.Slice((*uint32)(unsafe.Pointer(&q.ringMem[p.sqOff.array])), p.sqEntries)
	for i := range array {
		array[i] = uint32(i) // entry i is always sqes[i]
	}
	return nil
}

func (q *queues) word(off uint32) *atomic.Uint32 {
	return (*atomic.Uint32)(unsafe.Pointer(&q.ringMem[off]))
}

// close gives everything back. The kernel ends the ring a little later.
func (q *queues) close() {
	for _, mem := range [][]byte{q.sqeMem, q.ringMem} {
		if mem != nil {
			_ = unix.Munmap(mem) // cannot fail for a whole mapping
		}
	}
	_ = unix.Close(q.fd) // a ring has nothing to report
}

// enter submits and waits, in one system call.
func (q *queues) enter(submit, wait uint32) (int, syscall.Errno) {
	n, _, errno := unix.Syscall6(unix.SYS_IO_URING_ENTER, uintptr(q.fd), uintptr(submit), uintptr(wait), enterGetEvents, 0, 0)
	return int(n), errno
}

func (q *queues) register(op int, arg unsafe.Pointer, n int) error {
	_, _, errno := unix.Syscall6(unix.SYS_IO_URING_REGISTER, uintptr(q.fd), uintptr(op), uintptr(arg), uintptr(n), 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// makeTables gives the ring an empty table of files and one of buffers.
func (q *queues) makeTables(files, bufs int) error {
	r := rsrcRegister{nr: uint32(files), flags: rsrcSparse}
	if err := q.register(registerFiles2, unsafe.Pointer(&r), int(unsafe.Sizeof(r))); err != nil {
		return fmt.Errorf("iouring: register table of files: %w", err)
	}
	r = rsrcRegister{nr: uint32(bufs), flags: rsrcSparse}
	if err := q.register(registerBuffers2, unsafe.Pointer(&r), int(unsafe.Sizeof(r))); err != nil {
		return fmt.Errorf("iouring: register table of buffers: %w", err)
	}
	return nil
}

// setFile puts a descriptor, or -1 for none, into the table of files.
func (q *queues) setFile(slot, fd int) error {
	v := int32(fd)
	u := filesUpdate{offset: uint32(slot), fds: uint64(uintptr(unsafe.Pointer(&v)))}
	err := q.register(registerFilesUpdate, unsafe.Pointer(&u), 1)
	runtime.KeepAlive(&v)
	if err != nil {
		return fmt.Errorf("iouring: register file: %w", err)
	}
	return nil
}

// setBuffer puts memory into the table of buffers, which pins it.
func (q *queues) setBuffer(index int, mem []byte) error {
	v := unix.Iovec{Base: unsafe.SliceData(mem)}
	v.SetLen(len(mem))
	u := rsrcUpdate{offset: uint32(index), data: uint64(uintptr(unsafe.Pointer(&v))), nr: 1}
	err := q.register(registerBuffersUpdate, unsafe.Pointer(&u), int(unsafe.Sizeof(u)))
	runtime.KeepAlive(&v)
	if err != nil {
		return fmt.Errorf("iouring: register buffer of %d bytes: %w", len(mem), err)
	}
	return nil
}

// cloneFrom copies entries of src's table of buffers. It pins nothing anew.
func (q *queues) cloneFrom(src *queues, from, n int) error {
	c := cloneBuffers{srcFD: uint32(src.fd), flags: cloneDstReplace, srcOff: uint32(from), dstOff: uint32(from), nr: uint32(n)}
	if err := q.register(registerCloneBuffers, unsafe.Pointer(&c), 1); err != nil {
		return fmt.Errorf("iouring: clone buffers: %w", err)
	}
	return nil
}

// supported tells which operations the kernel has.
func (q *queues) supported(op uint8) bool {
	var p probe
	if err := q.register(registerProbe, unsafe.Pointer(&p), probeOps); err != nil {
		return false
	}
	return int(op) < int(p.opsLen) && p.ops[op].flags&probeSupported != 0
}

// address is where b starts.
func address(b []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(b))) }
