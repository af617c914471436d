// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package iouring

import "fmt"

// Features is what the kernel's io_uring can do here.
type Features struct {
	CoopTaskrun  bool // completions do not interrupt running code
	Tables       bool // sparse tables of files and buffers
	CloneBuffers bool // rings can share a registration of buffers
}

// String names the features for a log line.
func (f Features) String() string {
	return fmt.Sprintf("coop_taskrun=%t tables=%t clone_buffers=%t", f.CoopTaskrun, f.Tables, f.CloneBuffers)
}

// Probe tries what the kernel can do. The error matches ErrUnsupported if
// there is no usable io_uring, and says why.
func Probe() (Features, error) {
	q, flags, err := openQueues(1)
	if err != nil {
		return Features{}, fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	defer q.close()
	if !q.supported(opRead) || !q.supported(opWrite) || !q.supported(opFsync) {
		return Features{}, fmt.Errorf("%w: kernel has no read or write operation", ErrUnsupported)
	}
	f := Features{CoopTaskrun: flags&setupCoopTaskrun != 0, Tables: q.makeTables(1, 1) == nil}
	if !f.Tables {
		return f, nil
	}
	if src, _, err := openQueues(1); err == nil {
		f.CloneBuffers = src.makeTables(1, 1) == nil && q.cloneFrom(src, 0, 1) == nil
		src.close()
	}
	return f, nil
}
