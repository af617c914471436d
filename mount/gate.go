// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package mount

import (
	"fmt"
	"sync/atomic"
	"syscall"

	"scoutfs/block"
)

// errShut is what I/O of a mount returns after a forced unmount. It matches
// syscall.ENOLINK.
var errShut = fmt.Errorf("mount: forced unmount: %w", syscall.ENOLINK)

// gate is a device that can be shut: afterwards nothing reaches the device.
// What was already submitted is waited for by Close.
type gate struct {
	block.Device
	shut atomic.Bool
}

// Do refuses all operations once the gate is shut.
func (g *gate) Do(ops []block.Op) error {
	if !g.shut.Load() {
		return g.Device.Do(ops)
	}
	for i := range ops {
		ops[i].Err = errShut
	}
	return errShut
}

// Flush fails once the gate is shut.
func (g *gate) Flush() error {
	if g.shut.Load() {
		return errShut
	}
	return g.Device.Flush()
}

// Resize takes over the size that the device has now, in bytes, for a server
// that is asked to use it.
func (g *gate) Resize() (int64, error) {
	if r, ok := g.Device.(block.Resizer); ok {
		return r.Resize()
	}
	return g.Device.Size(), nil
}

// FlushFailures implements block.FlushCounter for the device's users.
func (g *gate) FlushFailures() uint64 {
	if c, ok := g.Device.(block.FlushCounter); ok {
		return c.FlushFailures()
	}
	return 0
}
