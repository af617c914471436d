// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package lock

import (
	"slices"
	"sync"

	"scoutfs/format"
)

// recovery keeps the locks in key order while a new server asks for them. A
// lock that is made later has no grant: the server gives none before all
// mounts have told it what they hold.
type recovery struct {
	mu    sync.Mutex
	locks []*Lock // +checklocks:mu
}

// Recover returns what the mount holds, at most format.NetLockRecoverMax locks
// in key order and none before the key. An empty answer ends the recovery. The
// mode of a lock that is being revoked is the one before: its cache is not clean
// yet. It does not block. Source: spec cluster 7.8.
func (c *Client) Recover(from format.Key) []format.NetLock {
	c.count.recovers.Add(1)
	r := &c.recovery
	r.mu.Lock()
	defer r.mu.Unlock()
	if from == (format.Key{}) || r.locks == nil {
		r.locks = c.all()
		slices.SortFunc(r.locks, func(a, b *Lock) int { return a.Start.Compare(&b.Start) })
	}
	i, _ := slices.BinarySearchFunc(r.locks, from, func(l *Lock, k format.Key) int { return l.Start.Compare(&k) })
	var out []format.NetLock
	for _, lk := range r.locks[i:] {
		if len(out) == format.NetLockRecoverMax {
			return out
		}
		if l, ok := lk.report(); ok {
			out = append(out, l)
		}
	}
	if len(out) == 0 {
		r.locks = nil
	}
	return out
}

// report is the lock as recovery tells it; ok is false if there is no grant.
func (l *Lock) report() (format.NetLock, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	mode := l.mode()
	if l.revoking {
		mode = l.old
	}
	return format.NetLock{Key: l.Start, WriteSeq: l.writeSeq.Load(), OldMode: mode, NewMode: mode}, mode != format.LockNull
}
