// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package txn

import (
	"sync/atomic"
	"time"
)

// counters is what an engine counts.
type counters struct {
	commits, failures    atomic.Int64
	blocks, dataFlush    atomic.Int64
	lastNs, totalNs      atomic.Int64
	waits, undos         atomic.Int64
	carried              atomic.Int64
	misses, roots, stale atomic.Int64
}

func (c *counters) committed(d time.Duration) {
	c.commits.Add(1)
	c.lastNs.Store(int64(d))
	c.totalNs.Add(int64(d))
}

// Metrics is a snapshot of an engine's counters. Counts are since Open.
type Metrics struct {
	ItemBudget   int64 // bytes that cached items may use
	ItemBytes    int64 // bytes that they use
	ItemPages    int64 // ranges of items
	ItemsEvicted int64 // ranges dropped to keep the budget
	DirtyPages   int64 // ranges with items to be committed
	DirtyBytes   int64 // of these items

	Commits       int64
	CommitFailed  int64         // attempts, and attempts to open a transaction
	DataFlushFail int64         // flushes of the data device that failed
	CommitBlocks  int64         // metadata blocks written, 64 KiB each
	CommitLast    time.Duration // from the last operation's end to durability
	CommitTotal   time.Duration
	HoldWaits     int64  // operations that waited for the next transaction
	Undone        int64  // operations taken back
	CarriedOver   int64  // freed extents and search entries that had to wait for another transaction; a crash loses them
	MetaRoomAvail int64  // metadata blocks that the transaction can allocate
	MetaRoomFreed int64  // and free
	DataAvail     uint64 // data blocks, 4 KiB each

	Misses     int64 // reads of the forest
	Roots      int64 // times that the server was asked for roots
	StaleReads int64 // reads that were repeated with newer roots
}

// Metrics returns a snapshot.
func (e *Engine) Metrics() Metrics {
	c, s, st := e.cache, &e.space, &e.stats
	return Metrics{
		ItemBudget: c.budget, ItemBytes: c.bytes.Load(), ItemPages: c.pages(), ItemsEvicted: c.evicted.Load(),
		DirtyPages: c.dirtyNr.Load(), DirtyBytes: c.dirtyBytes.Load(),
		Commits: st.commits.Load(), CommitFailed: st.failures.Load(), DataFlushFail: st.dataFlush.Load(),
		CommitBlocks: st.blocks.Load(),
		CommitLast:   time.Duration(st.lastNs.Load()), CommitTotal: time.Duration(st.totalNs.Load()),
		HoldWaits: st.waits.Load(), Undone: st.undos.Load(), CarriedOver: st.carried.Load(),
		MetaRoomAvail: s.roomAvail.Load(), MetaRoomFreed: s.roomFreed.Load(), DataAvail: s.dataAvail.Load(),
		Misses: st.misses.Load(), Roots: st.roots.Load(), StaleReads: st.stale.Load(),
	}
}

func (c *itemCache) pages() int64 {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return int64(c.idx.nr)
}
