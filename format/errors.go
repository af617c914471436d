// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package format

import (
	"fmt"
	"syscall"
)

// CorruptError says that bytes on a device or from a peer are not what the
// format allows. It matches syscall.EIO.
type CorruptError struct {
	Device string // path or name, may be empty
	Blkno  Blkno  // in the unit of the structure
	Reason string // one line: structure, key, what was found and expected
}

// Error names device, block and reason in one line.
func (e *CorruptError) Error() string {
	return fmt.Sprintf("corrupt: device %s block %d: %s", e.Device, e.Blkno, e.Reason)
}

// Is makes errors.Is(err, syscall.EIO) true: that is what users see.
func (e *CorruptError) Is(target error) bool { return target == syscall.EIO }

// StaleError says that a reference names a version of a block that is not the
// one on the device: the reference is old, or the block is corrupt. Readers
// that can get newer roots retry. It matches syscall.ESTALE.
type StaleError struct {
	Device string
	Ref    BlockRef
	Reason string
}

// Error names device, block and reason in one line.
func (e *StaleError) Error() string {
	return fmt.Sprintf("stale or corrupt: device %s block %d seq %016x: %s", e.Device, e.Ref.Blkno, e.Ref.Seq, e.Reason)
}

// Is makes errors.Is(err, syscall.ESTALE) true.
func (e *StaleError) Is(target error) bool { return target == syscall.ESTALE }
