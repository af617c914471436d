// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package simdisk

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"sync/atomic"

	"scoutfs/block"
)

var (
	_ block.Device = (*Disk)(nil)
	_ block.Device = (*Opener)(nil)
)

// Opener is one host's way to a disk. It implements [block.Device].
type Opener struct {
	d      *Disk
	name   string
	killed atomic.Bool
	closed atomic.Bool
}

// Opener returns a device over the disk that has its own name and end.
func (d *Disk) Opener(name string) *Opener { return &Opener{d: d, name: name} }

// Kill cuts the opener off: every operation that starts from now on fails with
// ErrKilled and does nothing, as if its host had lost power.
func (o *Opener) Kill() { o.killed.Store(true) }

// Do performs the operations one after the other.
func (o *Opener) Do(ops []block.Op) error {
	o.d.mu.Lock()
	o.d.counters.Batches++
	o.d.mu.Unlock()
	var first error
	for i := range ops {
		op := &ops[i]
		if op.Err = o.one(op); op.Err != nil {
			op.Err = block.OpError(o.name, op, op.Err)
			if first == nil {
				first = op.Err
			}
		}
	}
	return first
}

func (o *Opener) one(op *block.Op) error {
	if err := o.usable(); err != nil {
		return err
	}
	if err := block.CheckOp(op, o.d.size); err != nil {
		return err
	}
	f := FaultOp{Write: op.Write, Off: op.Off, Len: len(op.Buf), Opener: o.name}
	if err := o.d.ask(&f); err != nil {
		return err
	}
	o.d.transfer(op)
	if op.Write {
		o.d.wrote(f)
	}
	return nil
}

// wrote tells the hook.
func (d *Disk) wrote(f FaultOp) {
	d.mu.Lock()
	hook := d.onWrite
	d.mu.Unlock()
	if hook != nil {
		hook(f)
	}
}

// Flush makes durable what all openers have written.
func (o *Opener) Flush() error {
	err := o.usable()
	if err == nil {
		err = o.d.ask(&FaultOp{Flush: true, Opener: o.name})
	}
	if err != nil {
		return fmt.Errorf("block: flush %s: %w", o.name, err)
	}
	o.d.flush()
	return nil
}

func (o *Opener) usable() error {
	if o.killed.Load() {
		return ErrKilled
	}
	if o.closed.Load() {
		return os.ErrClosed
	}
	return nil
}

// Size is the disk's, in bytes.
func (o *Opener) Size() int64 { return o.d.size }

// Name is the opener's.
func (o *Opener) Name() string { return o.name }

// Close ends this opener only; the disk keeps its contents.
func (o *Opener) Close() error {
	if o.closed.Swap(true) {
		return os.ErrClosed
	}
	return nil
}

// Do is [Opener.Do] for the disk's own opener.
func (d *Disk) Do(ops []block.Op) error { return d.self.Do(ops) }

// Flush is [Opener.Flush] for the disk's own opener.
func (d *Disk) Flush() error { return d.self.Flush() }

// Size is the disk's, in bytes.
func (d *Disk) Size() int64 { return d.size }

// Name is the disk's, from its options.
func (d *Disk) Name() string { return d.o.Name }

// Close does nothing, so that a test may close a disk and go on with it.
func (d *Disk) Close() error { return nil }

func sortedKeys[V any](m map[int64]V) []int64 { return slices.Sorted(maps.Keys(m)) }
