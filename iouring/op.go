// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package iouring

// Op is one read or write of a batch.
type Op struct {
	Write bool   // otherwise a read
	Off   int64  // where in the file, bytes; for O_DIRECT a multiple of 4096
	Buf   []byte // what to write, or where to read to; for O_DIRECT 4096-aligned in address and length; owned by the batch until it returns
	Err   error  // the result; set by whoever performs the batch, nil for success
}
