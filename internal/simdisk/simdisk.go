// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

// Package simdisk is a disk in memory for tests: it implements [block.Device],
// keeps what was written in a volatile cache until a flush, can be cloned as
// after a power cut, and can be told to fail.
//
// Units: bytes; a sector is 4096 bytes and the unit of atomicity, or 512 bytes
// of it with [Options.Torn].
//
//	write --> pending versions of the sector --Flush--> durable sector
//	                  |                                      |
//	                  +--- Crash: a random subset -----------+--> new Disk
//
// A [Disk] is what several openers share; [Disk.Opener] makes a device of its
// own for each simulated host, which can be cut off from the disk by
// [Opener.Kill]. Disk is itself a Device, the opener with the disk's name.
//
// Lock order: Disk.mu only. Hooks run without it, so they may use the disk.
package simdisk

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"syscall"

	"scoutfs/block"
	"scoutfs/format"
)

const (
	sectorSize = format.SmallSize
	tornSize   = 512

	maxVersions = 8 // of an unflushed sector that are remembered
)

// sector is 4096 bytes. It never changes once it is in a map, so that clones
// share it.
type sector [sectorSize]byte

// ErrKilled is the error of every operation of an opener after its Kill.
var ErrKilled = fmt.Errorf("simdisk: opener was killed: %w", syscall.EIO)

// ErrInjected is an error for fault functions to return. It matches
// syscall.EIO.
var ErrInjected = fmt.Errorf("simdisk: injected fault: %w", syscall.EIO)

// Options say how a disk behaves. The zero value is the default.
type Options struct {
	Name string // for messages; default "sim"
	Torn bool   // Crash may keep a part of a sector, in pieces of 512 bytes
}

// FaultOp is what is about to be done when the fault function is asked.
type FaultOp struct {
	Write  bool   // neither Write nor Flush is a read
	Flush  bool   // Off and Len are 0
	Off    int64  // bytes
	Len    int    // bytes
	N      int64  // counts all operations of the disk, from 1
	Opener string // name of who does it
}

// Counters is what a disk has done.
type Counters struct {
	Ops, Reads, Writes, Flushes int64 // Ops is all, also those that failed
	Batches                     int64 // calls of Do
	BytesRead, BytesWritten     int64
}

// Disk is a simulated disk.
type Disk struct {
	size int64
	o    Options
	self *Opener

	ops atomic.Int64

	mu       sync.Mutex
	durable  map[int64]*sector   // by number; absent is zeros; guarded by mu
	pending  map[int64][]*sector // versions written since the flush, oldest first; guarded by mu
	fault    func(FaultOp) error // guarded by mu
	onWrite  func(FaultOp)       // guarded by mu
	counters Counters            // guarded by mu
}

// New returns a disk of zeros. size is in bytes and a multiple of 4096.
func New(size int64, o Options) *Disk {
	if o.Name == "" {
		o.Name = "sim"
	}
	d := &Disk{size: size, o: o, durable: make(map[int64]*sector), pending: make(map[int64][]*sector)}
	d.self = &Opener{d: d, name: o.Name}
	return d
}

// SetFault makes fn be asked before every read, write and flush; what it
// returns, if not nil, is the result and the operation is not done. nil takes the
// function away.
func (d *Disk) SetFault(fn func(FaultOp) error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fault = fn
}

// OnWrite makes fn be called after every write that was done. It may use the
// disk, to clone it for example. nil takes the function away.
func (d *Disk) OnWrite(fn func(FaultOp)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.onWrite = fn
}

// Counters returns a snapshot of what was done.
func (d *Disk) Counters() Counters {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := d.counters
	c.Ops = d.ops.Load()
	return c
}

// Unflushed is the number of sectors that a crash may lose.
func (d *Disk) Unflushed() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.pending)
}

// Clone returns an independent copy with the same contents, durable and not.
// Hooks and counters are not copied.
func (d *Disk) Clone() *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := d.emptyCopyLocked()
	for n, versions := range d.pending {
		c.pending[n] = append([]*sector(nil), versions...)
	}
	return c
}

// Crash returns a copy as a power cut would leave it. Each sector that was written since
// the last flush has, with a chance of keepPct in 100, one of the versions written
// since, most often the last one; else it has its durable contents. All
// of the copy is durable. The same rng state gives the same copy.
func (d *Disk) Crash(rng *rand.Rand, keepPct int) *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := d.emptyCopyLocked()
	for _, n := range sortedKeys(d.pending) { // map order must not use up rng differently
		versions := d.pending[n]
		if rng.IntN(100) >= keepPct {
			continue
		}
		kept := versions[len(versions)-1]
		if rng.IntN(4) == 0 {
			kept = versions[rng.IntN(len(versions))]
		}
		if d.o.Torn && rng.IntN(8) == 0 {
			kept = tear(rng, d.durable[n], kept)
		}
		c.durable[n] = kept
	}
	return c
}

// emptyCopyLocked copies the durable contents only.
func (d *Disk) emptyCopyLocked() *Disk {
	c := New(d.size, d.o)
	for n, s := range d.durable {
		c.durable[n] = s
	}
	return c
}

// tear mixes pieces of two versions.
func tear(rng *rand.Rand, before, after *sector) *sector {
	mixed := *after
	for at := 0; at < sectorSize; at += tornSize {
		if rng.IntN(2) != 0 {
			continue
		}
		if before == nil {
			clear(mixed[at : at+tornSize])
		} else {
			copy(mixed[at:at+tornSize], before[at:])
		}
	}
	return &mixed
}

// Corrupt inverts n bytes at an offset, in what a read sees and in what
// survives a crash, as decay of the medium would.
func (d *Disk) Corrupt(off int64, n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for at := off; at < off+int64(n); at++ {
		num := at / sectorSize
		var s sector
		if cur := d.currentLocked(num); cur != nil {
			s = *cur
		}
		s[at%sectorSize] ^= 0xff
		d.durable[num] = &s
		delete(d.pending, num)
	}
}

// currentLocked is what a read of the sector sees; nil is zeros.
func (d *Disk) currentLocked(n int64) *sector {
	if v := d.pending[n]; len(v) > 0 {
		return v[len(v)-1]
	}
	return d.durable[n]
}

// transfer does one operation that was checked.
func (d *Disk) transfer(op *block.Op) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if op.Write {
		d.writeLocked(op)
	} else {
		d.readLocked(op)
	}
}

func (d *Disk) readLocked(op *block.Op) {
	d.counters.Reads++
	d.counters.BytesRead += int64(len(op.Buf))
	for at := 0; at < len(op.Buf); at += sectorSize {
		part := op.Buf[at : at+sectorSize]
		if s := d.currentLocked((op.Off + int64(at)) / sectorSize); s != nil {
			copy(part, s[:])
		} else {
			clear(part)
		}
	}
}

func (d *Disk) writeLocked(op *block.Op) {
	d.counters.Writes++
	d.counters.BytesWritten += int64(len(op.Buf))
	fresh := make([]sector, len(op.Buf)/sectorSize)
	for i := range fresh {
		copy(fresh[i][:], op.Buf[i*sectorSize:])
		n := op.Off/sectorSize + int64(i)
		versions := append(d.pending[n], &fresh[i])
		d.pending[n] = versions[max(0, len(versions)-maxVersions):]
	}
}

// flush makes all that is pending durable.
func (d *Disk) flush() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.counters.Flushes++
	for n, versions := range d.pending {
		d.durable[n] = versions[len(versions)-1]
	}
	clear(d.pending)
}

// Drop forgets what was written since the last flush, as a device may that
// reports a failed one. A fault function may call it.
func (d *Disk) Drop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	clear(d.pending)
}

// ask counts an operation and asks the fault function about it.
func (d *Disk) ask(op *FaultOp) error {
	op.N = d.ops.Add(1)
	d.mu.Lock()
	fault := d.fault
	d.mu.Unlock()
	if fault == nil {
		return nil
	}
	return fault(*op)
}
