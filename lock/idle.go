// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package lock

import (
	"sync"

	"scoutfs/format"
)

// sweepMax bounds how many locks one Acquire looks at for an idle one.
const sweepMax = 128

// sweeper finds locks that were not used for long: a hand goes round the ring
// of all locks and takes those that were not acquired since it last passed.
type sweeper struct {
	mu   sync.Mutex
	ring []*Lock // +checklocks:mu
	hand int     // +checklocks:mu
}

func (s *sweeper) add(lk *Lock) {
	s.mu.Lock()
	defer s.mu.Unlock()
	lk.index = len(s.ring)
	s.ring = append(s.ring, lk)
}

func (s *sweeper) remove(lk *Lock) {
	s.mu.Lock()
	defer s.mu.Unlock()
	last := s.ring[len(s.ring)-1]
	s.ring[lk.index] = last
	last.index = lk.index
	s.ring[len(s.ring)-1] = nil
	s.ring = s.ring[:len(s.ring)-1]
}

// candidate is a lock that seems idle, or nil. Concurrent callers do not wait
// for each other.
func (s *sweeper) candidate() *Lock {
	if !s.mu.TryLock() {
		return nil
	}
	defer s.mu.Unlock()
	for range min(sweepMax, 2*len(s.ring)) {
		if s.hand >= len(s.ring) {
			s.hand = 0
		}
		lk := s.ring[s.hand]
		s.hand++
		n := lk.acquired.Load()
		recent := n != lk.swept
		lk.swept = n
		w := word(lk.state.Load())
		if !recent && w.idle() && w.mode() != format.LockNull && w&slowBit == 0 {
			return lk
		}
	}
	return nil
}

// trim gives back at most one idle lock if there are too many. Each acquire
// does so, which paces the traffic.
func (c *Client) trim() {
	if c.nr.Load()-c.shrinking.Load() <= int64(c.o.IdleCount()) {
		return
	}
	if lk := c.sweeper.candidate(); lk != nil {
		c.count.shrinks.Add(1)
		c.giveBack(lk)
	}
}

// giveBack asks the server for mode NULL if the lock is idle. The server turns
// that into an invalidation of our own grant, and then grants NULL.
func (c *Client) giveBack(lk *Lock) (sent bool) {
	c.with(lk, func(a *actions) {
		w := word(lk.state.Load())
		if w&deadBit != 0 || !w.idle() || w.mode() == format.LockNull || !lk.quietLocked() {
			return
		}
		lk.request, lk.shrink, sent = true, true, true
		c.shrinking.Add(1)
		a.send = &format.NetLock{Key: lk.Start, OldMode: w.mode(), NewMode: format.LockNull}
	})
	return sent
}

// PurgeIdle gives back every idle lock and returns how many those are. It does
// not wait. Source: trigger statfs_lock_purge, spec interfaces 4.4.
func (c *Client) PurgeIdle() int {
	n := 0
	for _, lk := range c.all() {
		if c.giveBack(lk) {
			n++
		}
	}
	return n
}
