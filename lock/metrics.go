// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package lock

import (
	"fmt"
	"io"
	"slices"
	"sync/atomic"

	"scoutfs/format"
)

// counters of a client; they only grow.
type counters struct {
	allocs, frees, retired, waits, errors, again atomic.Uint64
	requests, grants                             atomic.Uint64
	invRequests, invResponses, invWork           atomic.Uint64
	shrinks, recovers                            atomic.Uint64
}

// ClientMetrics is a snapshot. The counters have the names of spec interfaces
// 4.3, without the prefix "lock_".
type ClientMetrics struct {
	Locks     int64 // known now
	Shrinking int64 // of them, being given back

	Alloc, Free        uint64
	Lock, Unlock       uint64 // users that came and went
	Wait, Error        uint64
	NonblockEagain     uint64
	GrantRequest       uint64 // sent
	GrantResponse      uint64 // received
	InvalidateRequest  uint64 // received
	InvalidateResponse uint64 // sent
	InvalidateWork     uint64
	ShrinkAttempted    uint64
	RecoverRequest     uint64
}

// Metrics returns a snapshot. It looks at every lock.
func (c *Client) Metrics() ClientMetrics {
	m := ClientMetrics{
		Locks: c.nr.Load(), Shrinking: c.shrinking.Load(),
		Alloc: c.count.allocs.Load(), Free: c.count.frees.Load(), Lock: c.count.retired.Load(),
		Wait: c.count.waits.Load(), Error: c.count.errors.Load(), NonblockEagain: c.count.again.Load(),
		GrantRequest: c.count.requests.Load(), GrantResponse: c.count.grants.Load(),
		InvalidateRequest: c.count.invRequests.Load(), InvalidateResponse: c.count.invResponses.Load(),
		InvalidateWork: c.count.invWork.Load(), ShrinkAttempted: c.count.shrinks.Load(),
		RecoverRequest: c.count.recovers.Load(),
	}
	var users uint64
	for _, lk := range c.all() {
		w := word(lk.state.Load())
		users += w.users(format.LockRead) + w.users(format.LockWrite) + w.users(format.LockWriteOnly)
		m.Lock += lk.acquired.Load()
	}
	m.Unlock = m.Lock - min(users, m.Lock)
	return m
}

// Dump writes one line a lock, in key order, as the client_locks file of spec
// interfaces 4.4 has it.
func (c *Client) Dump(w io.Writer) error {
	locks := c.all()
	slices.SortFunc(locks, func(a, b *Lock) int { return a.Start.Compare(&b.Start) })
	for _, lk := range locks {
		if _, err := io.WriteString(w, lk.line()); err != nil {
			return err
		}
	}
	return nil
}

func (l *Lock) line() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var waiting [format.LockModes]int
	for _, w := range l.waiters {
		waiting[w.mode]++
	}
	s := word(l.state.Load())
	return fmt.Sprintf("start %v end %v refresh_gen %d mode %d waiters: rd %d wr %d wo %d users: rd %d wr %d wo %d\n",
		l.Start, l.End, l.refreshGen.Load(), s.mode(),
		waiting[format.LockRead], waiting[format.LockWrite], waiting[format.LockWriteOnly],
		s.users(format.LockRead), s.users(format.LockWrite), s.users(format.LockWriteOnly))
}
