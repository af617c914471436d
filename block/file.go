// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package block

import (
	"log/slog"

	"scoutfs/format"
)

// OpenOptions say how a device is opened. The zero value is the default.
type OpenOptions struct {
	ReadOnly bool         // open for reading only; no locks can be taken
	NoRing   bool         // pread and pwrite even if io_uring is there
	Log      *slog.Logger // default: discard
}

// File is a block device or plain file, used with O_DIRECT.
type File struct{ _ int }

// Open opens a device.
func Open(path string, o OpenOptions) (*File, error) { panic("soon") }

func (f *File) Do(ops []Op) error                    { panic("soon") }
func (f *File) Flush() error                         { panic("soon") }
func (f *File) Size() int64                          { panic("soon") }
func (f *File) Name() string                         { panic("soon") }
func (f *File) Close() error                         { panic("soon") }
func (f *File) LockSlot(slot int) error              { panic("soon") }
func (f *File) LockRid(rid format.Rid) error         { panic("soon") }
func (f *File) LockWhole() error                     { panic("soon") }
func (f *File) TestRid(rid format.Rid) (bool, error) { panic("soon") }
func (f *File) TestSlot(slot int) (bool, error)      { panic("soon") }
