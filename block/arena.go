// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package block

import (
	"fmt"
	"math/bits"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"scoutfs/format"
	"scoutfs/internal/invariants"
)

const (
	chunkShift   = 20 // a slab is cut into chunks of 1 MiB, a chunk into buffers of one class
	classes      = chunkShift - format.SmallShift + 1
	maxSlab      = 64 << 20 // bytes
	slabPart     = 64       // a new slab is this part of what there is
	keepWhole    = 4        // chunks without a buffer in use that a class keeps
	poisonedByte = 0xCC
)

// arena is the memory of all buffers of the process: slabs that were mapped
// outside of the Go heap, cut into buffers whose sizes are powers of two from
// 4 KiB to 1 MiB. Slabs start at 1 MiB, and each adds a 64th to what there
// is, up to 64 MiB: registered memory is pinned, and so resident, used or not,
// and must follow the budgets of what uses it closely. Slabs are never unmapped, nor is their memory
// given back to the kernel: a ring would go on using the pages that it pinned.
// But a chunk whose buffers are all free goes back to be cut for another class.
// A few of each class stay until another one needs them.
type arena struct {
	classes [classes]freeList

	mu     sync.Mutex
	chunks [][]byte           // not cut; guarded by mu
	total  int                // bytes of all slabs; guarded by mu
	onSlab []func(mem []byte) // called with mu held for every slab; guarded by mu

	slabs atomic.Pointer[[][]byte] // sorted by address
}

// freeList is the chunks that are cut into buffers of one size.
type freeList struct {
	mu     sync.Mutex
	chunks map[uintptr]*chunk // by address; guarded by mu
	usable []*chunk           // those with free buffers; guarded by mu
	whole  int                // how many have no other ones; guarded by mu
	out    map[uintptr]bool   // buffers in use, kept in invariant builds; guarded by mu
}

// chunk is 1 MiB, at a multiple of 1 MiB, that was cut into buffers.
type chunk struct {
	mem  []byte
	free [][]byte // of capacity for all
	slot int      // in usable, if any are free
}

var theArena arena

// AlignedBuf returns a buffer of n bytes for device I/O. Its address is a
// multiple of 4096, and from 64 KiB up of 64 KiB; its memory is not on the Go heap; its contents are
// arbitrary. The caller owns it until [FreeBuf]. Sizes up to 1 MiB are pooled,
// others are mapped for each call. It panics if the kernel has no memory.
func AlignedBuf(n int) []byte {
	if n > 1<<chunkShift {
		return mapAligned(n)
	}
	return theArena.get(classOf(n))[:n]
}

// FreeBuf gives back a buffer that [AlignedBuf] returned, or a shorter slice
// with the same start. Nobody may use its memory any more. nil is allowed.
func FreeBuf(b []byte) {
	if cap(b) == 0 {
		return
	}
	if cap(b) > 1<<chunkShift {
		unmapAligned(b)
		return
	}
	theArena.put(b[:cap(b)])
}

// classOf is the class whose buffers are the smallest that hold n bytes.
func classOf(n int) int {
	if n <= format.SmallSize {
		return 0
	}
	return bits.Len(uint(n-1)) - format.SmallShift
}

func (a *arena) get(class int) []byte {
	l := &a.classes[class]
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.usable) == 0 {
		l.addLocked(a.chunk(l), class)
	}
	c := l.usable[len(l.usable)-1]
	if len(c.free) == cap(c.free) {
		l.whole--
	}
	last := len(c.free) - 1
	b := c.free[last]
	c.free[last] = nil
	c.free = c.free[:last]
	if last == 0 {
		l.usable = l.usable[:len(l.usable)-1]
	}
	if invariants.Enabled {
		if l.out == nil {
			l.out = make(map[uintptr]bool)
		}
		l.out[address(b)] = true
	}
	return b
}

func (a *arena) put(b []byte) {
	size := cap(b)
	class := classOf(size)
	if invariants.Enabled {
		invariants.Check(size == 1<<(class+format.SmallShift) && a.slabOf(b) >= 0, "FreeBuf of a slice of %d bytes that is not a whole buffer", size)
		poison(b)
	}
	if mem := a.classes[class].put(b); mem != nil {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.chunks = append(a.chunks, mem)
	}
}

// put takes a buffer back. If its chunk has no other one in use, and there are
// keepWhole like that already, it gives the chunk up and returns its memory.
func (l *freeList) put(b []byte) []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	if invariants.Enabled {
		invariants.Check(l.out[address(b)], "FreeBuf of a buffer that is not in use")
		delete(l.out, address(b))
	}
	c := l.chunks[address(b)&^(1<<chunkShift-1)]
	c.free = append(c.free, b)
	if len(c.free) == 1 {
		c.slot = len(l.usable)
		l.usable = append(l.usable, c)
	}
	switch {
	case len(c.free) < cap(c.free):
		return nil
	case l.whole < keepWhole:
		l.whole++
		return nil
	}
	return l.dropLocked(c)
}

// dropLocked takes a chunk without a buffer in use out and returns its memory.
func (l *freeList) dropLocked(c *chunk) []byte {
	last := len(l.usable) - 1
	l.usable[c.slot] = l.usable[last]
	l.usable[c.slot].slot = c.slot
	l.usable[last] = nil
	l.usable = l.usable[:last]
	delete(l.chunks, address(c.mem))
	return c.mem
}

// give returns the memory of a chunk without a buffer in use, or nil. It does
// not wait for the mutex.
func (l *freeList) give() []byte {
	if !l.mu.TryLock() {
		return nil
	}
	defer l.mu.Unlock()
	if l.whole == 0 {
		return nil
	}
	for _, c := range l.usable {
		if len(c.free) == cap(c.free) {
			l.whole--
			return l.dropLocked(c)
		}
	}
	return nil
}

// addLocked cuts a chunk into buffers.
func (l *freeList) addLocked(mem []byte, class int) {
	size := 1 << (class + format.SmallShift)
	c := &chunk{mem: mem, free: make([][]byte, 0, len(mem)/size), slot: len(l.usable)}
	for end := len(mem); end > 0; end -= size {
		c.free = append(c.free, mem[end-size:end:end])
	}
	if l.chunks == nil {
		l.chunks = make(map[uintptr]*chunk)
	}
	l.chunks[address(mem)] = c
	l.usable = append(l.usable, c)
	l.whole++
}

// chunk returns 1 MiB that nobody uses, to be cut for a list whose mutex is
// held. What other lists keep whole is taken before the arena grows.
func (a *arena) chunk(list *freeList) []byte {
	if mem := a.spare(); mem != nil {
		return mem
	}
	for i := range a.classes {
		if l := &a.classes[i]; l != list {
			if mem := l.give(); mem != nil {
				return mem
			}
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.chunks) == 0 {
		a.growLocked()
	}
	return a.popLocked()
}

// spare returns a chunk that is not cut, or nil.
func (a *arena) spare() []byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.chunks) == 0 {
		return nil
	}
	return a.popLocked()
}

func (a *arena) popLocked() []byte {
	last := len(a.chunks) - 1
	c := a.chunks[last]
	a.chunks = a.chunks[:last]
	return c
}

// growLocked maps one more slab.
func (a *arena) growLocked() {
	size := min(max(a.total/slabPart, 1<<chunkShift)>>chunkShift<<chunkShift, maxSlab)
	mem := mapAligned(size)
	a.total += size
	for end := size; end > 0; end -= 1 << chunkShift {
		at := end - 1<<chunkShift
		a.chunks = append(a.chunks, mem[at:end:end])
	}
	slabs := append(slices.Clone(a.all()), mem)
	slices.SortFunc(slabs, func(x, y []byte) int {
		if address(x) < address(y) {
			return -1
		}
		return 1
	})
	a.slabs.Store(&slabs)
	for _, fn := range a.onSlab {
		fn(mem)
	}
}

// watch calls fn for every slab there is and, one at a time, for every one that
// is added. fn must not use the arena.
func (a *arena) watch(fn func(mem []byte)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.onSlab = append(a.onSlab, fn)
	for _, s := range a.all() {
		fn(s)
	}
}

func (a *arena) all() [][]byte {
	if p := a.slabs.Load(); p != nil {
		return *p
	}
	return nil
}

// slabOf is the index of the slab that b lies in, or -1.
func (a *arena) slabOf(b []byte) int {
	at := address(b)
	for i, s := range a.all() {
		if start := address(s); at >= start && at-start < uintptr(len(s)) {
			return i
		}
	}
	return -1
}

// bigMaps finds the whole mapping of a buffer that mapAligned returned.
var bigMaps sync.Map // address of the buffer -> []byte

// mapAligned maps n bytes at a multiple of 1 MiB. What alignment wastes is
// address space only.
func mapAligned(n int) []byte {
	size := (n + format.LargeSize - 1) &^ (format.LargeSize - 1)
	whole, err := unix.Mmap(-1, 0, size+1<<chunkShift, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		panic(fmt.Sprintf("block: map %d bytes of buffers: %v", size, err))
	}
	skip := int(-address(whole) & (1<<chunkShift - 1))
	mem := whole[skip : skip+n : skip+size]
	bigMaps.Store(address(mem), whole)
	return mem
}

func unmapAligned(b []byte) {
	whole, ok := bigMaps.LoadAndDelete(address(b))
	invariants.Check(ok, "FreeBuf of a buffer that is not in use")
	if ok {
		_ = unix.Munmap(whole.([]byte)) // cannot fail for a range that was mapped whole
	}
}

// poison fills b so that a use after its release is seen.
func poison(b []byte) {
	for i := range b {
		b[i] = poisonedByte
	}
}
