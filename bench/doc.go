// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

// Package bench measures: jobs in fio's vocabulary over engines from the ring
// up to a mounted directory, a FUSE file system that answers from memory as the
// ceiling of the transport, and the ratios that the project promises.
//
//	device   batches of reads and writes on a file or device   package block
//	btree    one tree on a file                                package btree
//	commit   commits of a mount                                package txn, server
//	volume   system calls without a kernel                     package volume
//	path     system calls on any mounted directory
//	null     what path runs on to know what FUSE alone costs   [NullFS]
//
// An engine makes workers, each of which is driven by a goroutine of its own
// until the job's size or time is used up. A worker times its steps itself, so
// that what prepares a step costs nothing.
//
// Units: sizes are bytes; rates are per second of wall time; CPU times are of
// the whole process, kernel threads that work for it included where the kernel
// counts them so. Nothing here is a test: figures never pass or fail.
package bench
