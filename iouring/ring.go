// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package iouring

import (
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	maxTries  = 8   // of one operation through the ring before it is done without
	maxStalls = 100 // of a ring that takes nothing before it is given up
)

// ring is one kernel ring with the batch that is running on it. Only who
// borrowed it uses it; the atomics are also changed by the pool.
type ring struct {
	*queues
	hooks  *hooks
	files  atomic.Uint64 // bit n: file n of the pool is in the ring's table
	nbufs  atomic.Int32  // buffers below this index are in the ring's table
	tables bool
	broken bool // not to be used again

	slots []slot
	free  []uint16 // indexes of slots that are not used
	again []uint16 // slots whose operation must be submitted once more
	queue uint32   // tail of the submission queue

	// The batch. Operations from next on have no slot yet.
	ops  []Op
	next int
	file *File
	sync int // -1, or the flags of a sync, which is then the only operation
	bufs []bufRange

	scratch [1]Op // the batch of a sync
}

// slot is one operation that is under way.
type slot struct {
	op    int // index
	done  int // bytes transferred
	tries int
}

// hooks let tests stand between a ring and the kernel.
type hooks struct {
	enter  func(q *queues, submit, wait uint32) (int, syscall.Errno)
	result func(res int32) int32
}

func newRing(entries int, h *hooks) (*ring, error) {
	q, _, err := openQueues(entries)
	if err != nil {
		return nil, err
	}
	n := len(q.sqes)
	r := &ring{queues: q, hooks: h, slots: make([]slot, n), free: make([]uint16, n), again: make([]uint16, 0, n), queue: q.sqTail.Load()}
	for i := range r.free {
		r.free[i] = uint16(i)
	}
	return r, nil
}

// run performs a batch. It returns when nothing of it is under way any more.
func (r *ring) run(f *File, bufs []bufRange, ops []Op, sync int) {
	r.file, r.bufs, r.ops, r.next, r.sync = f, bufs, ops, 0, sync
	for stalls := 0; r.next < len(r.ops) || r.outstanding() > 0; {
		r.fill()
		n, errno := r.submit()
		reaped := r.reap()
		if n > 0 || reaped > 0 || errno == 0 || errno == unix.EINTR {
			stalls = 0
			continue
		}
		stalls++
		if errno != unix.EAGAIN && errno != unix.EBUSY || stalls > maxStalls {
			r.abandon()
			break
		}
		time.Sleep(time.Millisecond)
	}
	r.ops, r.file, r.bufs = nil, nil, nil
}

// outstanding is how many operations have a slot.
func (r *ring) outstanding() int { return len(r.slots) - len(r.free) }

// queued is how many entries the kernel has not taken yet.
func (r *ring) queued() uint32 { return r.queue - r.sqHead.Load() }

// fill queues what must be repeated and as much new as there are slots.
func (r *ring) fill() {
	for _, s := range r.again {
		r.push(s)
	}
	r.again = r.again[:0]
	for r.next < len(r.ops) && len(r.free) > 0 {
		last := len(r.free) - 1
		s := r.free[last]
		r.free = r.free[:last]
		r.slots[s] = slot{op: r.next}
		r.next++
		r.push(s)
	}
	r.sqTail.Store(r.queue)
}

// push queues the rest of a slot's operation.
func (r *ring) push(s uint16) {
	e := &r.sqes[r.queue&uint32(len(r.sqes)-1)]
	r.queue++
	*e = sqe{fd: int32(r.file.fd), userData: uint64(s)}
	if r.files.Load()>>r.file.slot&1 != 0 {
		e.fd, e.flags = int32(r.file.slot), sqeFixedFile
	}
	if r.sync >= 0 {
		e.opcode, e.opFlags = opFsync, uint32(r.sync)
		return
	}
	sl := &r.slots[s]
	op := &r.ops[sl.op]
	rest := op.Buf[sl.done:]
	e.off, e.len = uint64(op.Off)+uint64(sl.done), uint32(min(len(rest), maxTransfer))
	e.addr = uint64(address(rest))
	i := findBuf(r.bufs, op.Buf)
	fixed := i >= 0 && i < int(r.nbufs.Load())
	if fixed {
		e.bufIndex = uint16(i)
	}
	e.opcode = opcode(op.Write, fixed)
}

func opcode(write, fixed bool) uint8 {
	switch {
	case write && fixed:
		return opWriteFixed
	case write:
		return opWrite
	case fixed:
		return opReadFixed
	}
	return opRead
}

// submit hands what is queued to the kernel and waits: for everything if the
// whole batch is under way, else until half of the ring is free.
func (r *ring) submit() (int, syscall.Errno) {
	wait := uint32(r.outstanding())
	if r.next < len(r.ops) {
		wait = max(wait/2, 1)
	}
	return r.callEnter(r.queued(), wait)
}

func (r *ring) callEnter(submit, wait uint32) (int, syscall.Errno) {
	if r.hooks != nil && r.hooks.enter != nil {
		return r.hooks.enter(r.queues, submit, wait)
	}
	return r.enter(submit, wait)
}

// reap takes all completions that are there. What overflowed is in the kernel and comes
// with the next call of enter, which always asks for events.
func (r *ring) reap() int {
	head, tail := r.cqHead.Load(), r.cqTail.Load()
	n := int(tail - head)
	for ; head != tail; head++ {
		c := &r.cqes[head&uint32(len(r.cqes)-1)]
		s, res := uint16(c.userData), c.res
		if r.hooks != nil && r.hooks.result != nil {
			res = r.hooks.result(res)
		}
		r.complete(s, res)
	}
	r.cqHead.Store(head)
	return n
}

// complete judges one completion.
func (r *ring) complete(s uint16, res int32) {
	sl := &r.slots[s]
	op := &r.ops[sl.op]
	errno := syscall.Errno(0)
	if res < 0 {
		errno = syscall.Errno(-res)
	}
	switch {
	case errno == unix.EAGAIN || errno == unix.EINTR:
		r.repeat(s)
		return
	case errno != 0:
		op.Err = errno
	case r.sync >= 0:
	default:
		sl.done += int(res)
		switch {
		case sl.done >= len(op.Buf):
		case res == 0 || sl.done%sectorSize != 0: // let pread tell whether it is the end
			op.Err = plain(r.file.fd, op, sl.done)
		default:
			r.repeat(s)
			return
		}
	}
	r.free = append(r.free, s)
}

// repeat submits a slot's operation again, or does it without the ring if that
// was tried often enough. Progress renews the tries.
func (r *ring) repeat(s uint16) {
	sl := &r.slots[s]
	if sl.tries++; sl.tries < maxTries || r.progressed(sl) {
		r.again = append(r.again, s)
		return
	}
	r.withoutRing(s)
	r.free = append(r.free, s)
}

// progressed reports whether so many tries have each moved a sector at least.
func (r *ring) progressed(sl *slot) bool { return sl.done >= sl.tries*sectorSize }

// withoutRing does the rest of a slot's operation by a plain call.
func (r *ring) withoutRing(s uint16) {
	sl := &r.slots[s]
	op := &r.ops[sl.op]
	if r.sync >= 0 {
		op.Err = plainSync(r.file.fd, r.sync)
		return
	}
	op.Err = plain(r.file.fd, op, sl.done)
}

// abandon finishes the batch without submitting anything more, for a kernel
// that refuses. What the kernel has already must still be waited for, since it
// uses the buffers.
func (r *ring) abandon() {
	r.broken = true
	head := r.sqHead.Load()
	for at := head; at != r.queue; at++ {
		r.again = append(r.again, uint16(r.sqes[at&uint32(len(r.sqes)-1)].userData))
	}
	r.queue = head
	r.sqTail.Store(head)
	for r.outstanding() > len(r.again) {
		_, errno := r.callEnter(0, 1)
		if r.reap() == 0 && errno != 0 {
			time.Sleep(time.Millisecond)
		}
	}
	for _, s := range r.again {
		r.withoutRing(s)
		r.free = append(r.free, s)
	}
	r.again = r.again[:0]
	for ; r.next < len(r.ops); r.next++ {
		op := &r.ops[r.next]
		op.Err = plain(r.file.fd, op, 0)
	}
}
