// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

// Package txn is a mount's view of the volume's items: a cache of items under
// cluster locks, reads of the forest behind it, and the one open transaction
// that operations change and commits make durable.
//
// Units: budgets and sizes are bytes; metadata blocks are 64 KiB, data blocks 4
// KiB; a seq is a number of the volume's global counter.
//
//	Lookup, Next --> item cache -- miss --> roots from the server, one leaf of fs_root and
//	                    ^  |                of each log tree whose bloom filter matches
//	Begin, Tx ----------'  |
//	commit: drain operations -> bloom bits, dirty items -> log tree, copy on write
//	        -> one batch of writes, flush of both devices -> COMMIT_LOG_TREES
//	        -> items are clean -> GET_LOG_TREES -> operations come in again
//
// # Item cache
//
// The cache is a set of key ranges ("pages") that do not overlap. A page has all
// items that exist in its range, so that a miss inside of it is an answer. Items
// are packed in frames of 4 to 32 KiB outside of the Go heap: a cached item costs
// 42 bytes and its value, and no pointer. Pages come from reads, grow and split,
// and are evicted by a clock when the budget is exceeded, unless they have dirty
// items. Pages never reach over the range of the lock that they were read under.
//
// Guard against old versions: a counter, the barrier, rises when a commit
// completes and before its items become clean and thus evictable. A read that
// began before is thrown away. Source: spec filesystem 1.8.
//
// # Transactions
//
// An operation is a [Tx]: it holds the transaction open, its changes are visible
// at once, and [Tx.Undo] takes all of them back. Freed data blocks are kept
// aside until [Tx.Done], so that nothing an undo has to do can fail.
//
// Operations cannot be let in before the answer to the GET_LOG_TREES that
// follows a commit. What they write carries the transaction's seq, not only in
// the item but inside of values and keys (meta_seq, data_seq and their
// indexes), and the next seq is known only from that answer. With the old seq,
// items of the next transaction would (1) equal those that the commit wrote to a
// tree which that same GET may finalize, so that two trees have different
// versions of one key with one seq, and (2) appear in the index at or below
// the stable seq that GET_LAST_SEQ promises to be complete. Nor can GET be
// sent before COMMIT is answered: it would return the open transaction. So
// operations wait for two round trips, one batch of writes and one flush;
// reads do not wait, nor do those who wait for durability, who go on with the
// answer to COMMIT.
//
// The steps of a commit are repeated for ever, with a pause, but each only
// until it succeeded: items are not written to the log tree again because a
// flush failed, since differences of totals would be added twice. What ends a
// commit otherwise is only [Engine.Abort].
//
// A device may lose what a failed flush did not bring to its medium and report
// success for the next one. Metadata blocks are therefore written again after
// such a failure. File data was written by others who have forgotten it: the
// commit goes on, but [Engine.Sync] reports the loss.
//
// # Locking
//
// A cluster lock must be held as each method says; this package does not
// acquire any. Mutexes, in order:
//
//	space.mu             held over I/O by commits and by allocations of data
//	  itemCache.mu
//	    page.mu
//	      itemCache.dirtyMu
//	gate.mu, Engine.bloomMu: leaves
//	forest.fetch         a token, held while the server is asked for roots
//
// Items are dirtied only by holders, so a commit, which runs while there are
// none, reads dirty pages without their mutexes.
package txn
