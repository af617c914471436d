// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

// Package volume is the file system proper: inodes, names, extended
// attributes, file data, indexes, totals and orphans, as POSIX and archive
// calls in the vocabulary of system calls. It knows nothing of FUSE.
//
// A [Volume] keeps no object for an inode. The truth is in items, which
// [txn.Engine] caches under the cluster locks of [lock.Client]; beside them
// there is only a table of how often the kernel refers to each inode, and a
// fixed number of mutexes that inodes share.
//
// Units: offsets and sizes of files are bytes; a block is 4 KiB; iblock is a
// logical block of a file, blkno one of the data device.
//
// Every operation acquires its cluster locks, opens a transaction's hold,
// takes the mutexes, reads again what it decided on, changes items, and keeps
// or undoes all of it. Lock order, outermost first:
//
//	rename lock (cluster)
//	  inode groups (cluster), ascending by number, at most four
//	    orphans, totals, xattr index (cluster)
//	      inode index (cluster), ascending by type and sequence
//	        hold of the transaction
//	          stripes (mutexes shared by inodes), ascending
//	            tables: references, waiters, inode numbers (leaf mutexes)
//
// A cluster lock is never waited for with a hold, a stripe or a leaf mutex
// held, and a hold never with a stripe held. So a commit waits at most for the
// device, and a revocation at most for a commit.
//
// Source: spec filesystem 2 to 6, 9, 10.
package volume
