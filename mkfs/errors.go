// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package mkfs

import (
	"fmt"
	"syscall"

	"scoutfs/block"
)

// Error says why a volume could not be made on a device. It unwraps to the
// error number that the command ends with.
type Error struct {
	Device string // path; may be empty
	Reason string // one line, without the error's own text
	Err    error
}

// Error is one line: the device, the reason and the underlying error.
func (e *Error) Error() string {
	msg := e.Reason
	if e.Device != "" {
		msg = e.Device + ": " + msg
	}
	if _, plain := e.Err.(syscall.Errno); plain {
		return msg
	}
	return msg + ": " + e.Err.Error()
}

// Unwrap returns what [errors.Is] compares.
func (e *Error) Unwrap() error { return e.Err }

func fail(d block.Device, err error, why string, args ...any) error {
	e := &Error{Reason: fmt.Sprintf(why, args...), Err: err}
	if d != nil {
		e.Device = d.Name()
	}
	return e
}

func invalid(d block.Device, why string, args ...any) error {
	return fail(d, syscall.EINVAL, why, args...)
}
