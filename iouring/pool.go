// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package iouring

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

const (
	maxFiles   = 64   // registered with a pool; others are used by descriptor
	maxBuffers = 1024 // registered with a pool; others are used by address
)

// ErrUnsupported says that io_uring cannot be used here: an old kernel,
// a sysctl or a seccomp filter. It matches errors.ErrUnsupported.
var ErrUnsupported = fmt.Errorf("iouring: not available: %w", errors.ErrUnsupported)

// Options say how a pool works. The zero value is the default.
type Options struct {
	Rings   int // most rings at once; default 4 for each processor, 8 to 64 in all
	Entries int // operations of one ring under way at once, a power of two; default 128

	hooks *hooks
}

func (o Options) withDefaults() Options {
	if o.Rings <= 0 {
		o.Rings = min(max(4*runtime.GOMAXPROCS(0), 8), 64)
	}
	if o.Entries <= 0 {
		o.Entries = 128
	}
	return o
}

// Metrics is what a pool has done and holds.
type Metrics struct {
	Batches uint64 // calls of Do and Sync that went through a ring
	Ops     uint64 // operations of these
	Direct  uint64 // single operations done by plain calls because all rings were lent
	Waits   uint64 // batches that waited for a ring
	Rings   int    // open now
	Buffers int    // slabs registered with every ring
	Unfixed int    // slabs that could not be registered
	Pinned  int64  // bytes of registered slabs
	Cloning bool   // rings share one registration of the slabs
}

// Pool lends private rings to callers, who run their batches themselves. All
// methods may be called by many goroutines, Close last.
type Pool struct {
	o     Options
	bufs  atomic.Pointer[[]bufRange] // sorted by address
	stats struct{ batches, ops, direct, waits atomic.Uint64 }

	mu      sync.Mutex
	freed   sync.Cond     // a ring came back, or the number of rings fell
	rings   []*ring       // all, lent or not; guarded by mu
	idle    []*ring       // last in, first out, so that few rings stay warm; guarded by mu
	files   [maxFiles]int // descriptor, or -1; guarded by mu
	slabs   [][]byte      // index is that in the tables; guarded by mu
	unfixed int           // guarded by mu
	clone   bool          // the kernel can clone tables of buffers; guarded by mu
	master  *ring         // holds the registration that others clone, does no I/O; nil without clone; guarded by mu
	closed  bool          // guarded by mu
}

// File is a descriptor that a pool works on.
type File struct {
	p    *Pool
	fd   int
	slot uint // in the tables; maxFiles if it is not registered
}

// bufRange is a registered slab.
type bufRange struct {
	start, end uintptr
	index      int
}

// NewPool returns a pool with one ring. The error matches ErrUnsupported if
// there cannot be any.
func NewPool(o Options) (*Pool, error) {
	p := &Pool{o: o.withDefaults()}
	p.freed.L = &p.mu
	for i := range p.files {
		p.files[i] = -1
	}
	p.bufs.Store(new([]bufRange))
	p.mu.Lock()
	defer p.mu.Unlock()
	r, err := p.openLocked()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	if !r.supported(opRead) || !r.supported(opWrite) || !r.supported(opFsync) {
		r.close()
		return nil, fmt.Errorf("%w: kernel has no read or write operation", ErrUnsupported)
	}
	p.idle = append(p.idle, r)
	return p, nil
}

// openLocked makes one more ring with all files and buffers in its tables.
func (p *Pool) openLocked() (*ring, error) {
	r, err := newRing(p.o.Entries, p.o.hooks)
	if err != nil {
		return nil, err
	}
	r.tables = r.makeTables(maxFiles, maxBuffers) == nil
	for slot, fd := range p.files {
		p.setFileLocked(r, slot, fd)
	}
	p.setBuffersLocked(r)
	p.rings = append(p.rings, r)
	return r, nil
}

// setFileLocked brings one entry of the ring's table of files up to date. A ring
// that cannot have it uses the descriptor instead.
func (p *Pool) setFileLocked(r *ring, slot, fd int) {
	bit := uint64(1) << slot
	if !r.tables || fd < 0 && r.files.Load()&bit == 0 {
		return
	}
	if fd < 0 {
		r.files.And(^bit)
	}
	if err := r.setFile(slot, fd); err == nil && fd >= 0 {
		r.files.Or(bit)
	}
}

// setBuffersLocked brings the ring's table of buffers up to date.
func (p *Pool) setBuffersLocked(r *ring) {
	have := int(r.nbufs.Load())
	if !r.tables || have == len(p.slabs) {
		return
	}
	if p.master != nil {
		if r.cloneFrom(p.master.queues, have, len(p.slabs)-have) == nil {
			r.nbufs.Store(int32(len(p.slabs)))
		}
		return
	}
	for i := have; i < len(p.slabs); i++ {
		if r.setBuffer(i, p.slabs[i]) != nil {
			return
		}
		r.nbufs.Store(int32(i + 1))
	}
}

// AddFile makes fd usable with the pool and registers it with all rings. fd
// stays the caller's, who closes it after [File.Remove].
func (p *Pool) AddFile(fd int) *File {
	p.mu.Lock()
	defer p.mu.Unlock()
	f := &File{p: p, fd: fd, slot: maxFiles}
	i := slices.Index(p.files[:], -1)
	if i < 0 {
		return f
	}
	f.slot = uint(i)
	p.files[i] = fd
	for _, r := range p.rings {
		p.setFileLocked(r, i, fd)
	}
	return f
}

// Remove takes the file out of all rings. No batch may be running on it.
func (f *File) Remove() {
	p := f.p
	p.mu.Lock()
	defer p.mu.Unlock()
	if f.slot == maxFiles || p.closed {
		return
	}
	p.files[f.slot] = -1
	for _, r := range p.rings {
		p.setFileLocked(r, int(f.slot), -1)
	}
}

// AddBuffer registers memory with all rings, present and future, so that
// batches whose buffers lie in it need no page lookups. It pins the memory,
// which must stay mapped until Close. An error means that it is used
// without registration, which is slower but right.
func (p *Pool) AddBuffer(mem []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.registerLocked(mem); err != nil {
		p.unfixed++
		return err
	}
	p.slabs = append(p.slabs, mem)
	for _, r := range p.rings {
		p.setBuffersLocked(r)
	}
	ranges := append(slices.Clone(*p.bufs.Load()), bufRange{address(mem), address(mem) + uintptr(len(mem)), len(p.slabs) - 1})
	slices.SortFunc(ranges, func(x, y bufRange) int {
		if x.start < y.start {
			return -1
		}
		return 1
	})
	p.bufs.Store(&ranges)
	return nil
}

// registerLocked registers mem with the master if rings can clone from it.
func (p *Pool) registerLocked(mem []byte) error {
	if len(p.slabs) == maxBuffers {
		return fmt.Errorf("iouring: table of %d buffers is full: %w", maxBuffers, unix.ENOSPC)
	}
	if len(p.slabs) == 0 {
		p.tryCloneLocked()
	}
	if p.master == nil {
		return nil // each ring registers on its own
	}
	return p.master.setBuffer(len(p.slabs), mem)
}

// tryCloneLocked makes the master, if the kernel can clone.
func (p *Pool) tryCloneLocked() {
	if p.master != nil || !p.rings[0].tables {
		return
	}
	m, err := newRing(1, nil)
	if err != nil {
		return
	}
	m.tables = m.makeTables(1, maxBuffers) == nil
	p.clone = m.tables && p.rings[0].cloneFrom(m.queues, 0, 1) == nil // of an empty entry
	if !p.clone {
		m.close()
		return
	}
	p.master = m
}

// findBuf is the index of the registered slab that holds all of b, or -1.
func findBuf(bufs []bufRange, b []byte) int {
	at := address(b)
	lo, hi := 0, len(bufs)
	for lo < hi {
		if mid := int(uint(lo+hi) >> 1); bufs[mid].start <= at {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo == 0 || at+uintptr(len(b)) > bufs[lo-1].end {
		return -1
	}
	return bufs[lo-1].index
}

// Do performs the operations of a batch on the file and returns when all are
// complete. It sets every Err, to nil, a bare errno, io.ErrUnexpectedEOF or
// io.ErrShortWrite, and returns the first that is not nil. One that fails does
// not keep the others from being done. It allocates nothing.
//
// While all rings are lent a single operation is done by a plain call, and a
// larger batch waits for a ring.
func (f *File) Do(ops []Op) error {
	if len(ops) == 0 {
		return nil
	}
	for i := range ops {
		ops[i].Err = nil
	}
	if r := f.p.borrow(len(ops) == 1); r != nil {
		f.p.stats.ops.Add(uint64(len(ops)))
		r.run(f, *f.p.bufs.Load(), ops, -1)
		f.p.giveBack(r)
	} else {
		for i := range ops {
			_ = Plain(f.fd, &ops[i]) // in the operation
		}
	}
	for i := range ops {
		if ops[i].Err != nil {
			return ops[i].Err
		}
	}
	return nil
}

// Sync makes the file's data durable; with dataOnly, as fdatasync does.
func (f *File) Sync(dataOnly bool) error {
	flags := 0
	if dataOnly {
		flags = fsyncDatasync
	}
	r := f.p.borrow(true)
	if r == nil {
		return plainSync(f.fd, flags)
	}
	f.p.stats.ops.Add(1)
	r.scratch[0].Err = nil
	r.run(f, nil, r.scratch[:], flags)
	err := r.scratch[0].Err
	f.p.giveBack(r)
	return err
}

// borrow returns a ring; nil if there is none and the caller would rather do
// without than wait, or if there will never be one.
func (p *Pool) borrow(impatient bool) *ring {
	p.mu.Lock()
	defer p.mu.Unlock()
	for waited := false; ; waited = true {
		if n := len(p.idle); n > 0 {
			r := p.idle[n-1]
			p.idle = p.idle[:n-1]
			p.stats.batches.Add(1)
			return r
		}
		if len(p.rings) < p.o.Rings && !p.closed {
			if r, err := p.openLocked(); err == nil {
				p.stats.batches.Add(1)
				return r
			}
		}
		if impatient || len(p.rings) == 0 || p.closed {
			p.stats.direct.Add(1)
			return nil
		}
		if !waited {
			p.stats.waits.Add(1)
		}
		p.freed.Wait()
	}
}

// giveBack ends the loan of a ring.
func (p *Pool) giveBack(r *ring) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r.broken || p.closed {
		p.rings = slices.DeleteFunc(p.rings, func(x *ring) bool { return x == r })
		r.close()
	} else {
		p.idle = append(p.idle, r)
	}
	p.freed.Signal()
}

// Close closes all rings. Rings that are lent are closed when they come back.
func (p *Pool) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, r := range p.idle {
		p.rings = slices.DeleteFunc(p.rings, func(x *ring) bool { return x == r })
		r.close()
	}
	p.idle = nil
	if p.master != nil {
		p.master.close()
		p.master = nil
	}
	p.freed.Broadcast()
}

// Metrics returns a snapshot.
func (p *Pool) Metrics() Metrics {
	s := &p.stats
	m := Metrics{Batches: s.batches.Load(), Ops: s.ops.Load(), Direct: s.direct.Load(), Waits: s.waits.Load()}
	p.mu.Lock()
	defer p.mu.Unlock()
	m.Rings, m.Buffers, m.Unfixed, m.Cloning = len(p.rings), len(p.slabs), p.unfixed, p.clone
	for _, s := range p.slabs {
		m.Pinned += int64(len(s))
	}
	return m
}
