// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

// Package iouring does batches of reads and writes through private io_uring
// rings.
//
// There is no central reaper. A caller borrows a ring from the [Pool], fills it
// with its batch, submits all and waits for all in one system call, and gives
// the ring back; waking another thread for each request would cost more than the
// request. A batch that is longer than a ring keeps the ring at least half full:
//
//	File.Do --> borrow --> fill --> io_uring_enter --> reap --+--> give back
//	                        ^                                 |
//	                        +----- more, short, EAGAIN -------+
//
// Files and memory are registered with all rings: [Pool.AddFile],
// [Pool.AddBuffer]. An operation whose buffer lies in registered memory uses
// the registration by itself. Registered memory is pinned. Where the kernel can clone
// a table of buffers (6.13), one ring that does no I/O holds the registration and
// the others share it; else each ring registers by itself. Whatever
// cannot be registered works by address and descriptor.
//
// A kernel that refuses a ring at some point never loses an operation: what is under
// way is waited for, since the kernel uses the buffers, and the rest is done
// by pread and pwrite.
//
// Units: offsets and lengths are bytes. Errors of operations are bare, so that the
// caller can add which device they come from.
//
// Lock order: Pool.mu only. It is held while rings are made and tables changed,
// never while operations run.
package iouring
