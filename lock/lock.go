// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package lock

import (
	"sync"
	"sync/atomic"

	"scoutfs/format"
)

// Lock is a mount's side of one cluster lock. A caller may use it from Acquire
// until Release; its methods may be called by anybody at any time.
type Lock struct {
	Start, End format.Key // what it covers, both included; immutable

	// TxnState belongs to the transaction engine: it remembers for which log
	// tree the bloom bits of this lock are set.
	TxnState atomic.Uint64

	state      atomic.Uint64 // a word
	acquired   atomic.Uint64 // how often it was acquired
	writeSeq   atomic.Uint64
	refreshGen atomic.Uint64
	lastDirty  atomic.Uint64 // greatest transaction seq that dirtied under it

	// mu protects what follows, and all of state but the counters of users.
	mu       sync.Mutex
	waiters  []*waiter // in order of arrival
	request  bool      // one of our requests is not answered yet
	shrink   bool      // that request gives the lock back
	invs     []invalidation
	revoking bool            // current is being worked on
	current  invalidation    // valid while revoking
	old      format.LockMode // mode before current
	grant    *format.NetLock // came while revoking: takes effect afterwards
	open     bool            // page users may still enter under old
	admitted uint64          // page users that entered during revocations
	drained  chan struct{}   // non-nil: closed when all users fit the mode

	swept uint64 // acquired when the idle sweep last passed; guarded by sweeper.mu
	index int    // place in sweeper.ring; guarded by sweeper.mu
}

// invalidation is a request of the server to reduce the lock.
type invalidation struct {
	id  uint64 // as given to HandleInvalidate
	net format.NetLock
}

// waiter is a task that waits in Acquire.
type waiter struct {
	mode format.LockMode
	page bool
	done chan struct{} // closed once err is set, or the task is a user
	err  error
}

// Mode is the mode that the lock is held in, which may change at once unless
// the caller uses it. For page users it is the mode before the revocation that
// goes on.
func (l *Lock) Mode() format.LockMode {
	w := word(l.state.Load())
	if w&slowBit == 0 {
		return w.mode()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.revoking && l.open {
		return l.old
	}
	return l.mode()
}

// mode is the mode that newcomers find.
func (l *Lock) mode() format.LockMode { return word(l.state.Load()).mode() }

// WriteSeq is the sequence number that came with the grant of W or WO. Items
// written under the lock have at least this seq. Source: spec cluster 8.4.
func (l *Lock) WriteSeq() uint64 { return l.writeSeq.Load() }

// RefreshGen changes each time the lock becomes readable again: whatever was
// loaded under another value may be stale. It is never 0 once the lock was
// readable, and no two locks of a mount ever have the same value.
func (l *Lock) RefreshGen() uint64 { return l.refreshGen.Load() }

// LastDirty is the greatest transaction seq with which W or WO was released.
func (l *Lock) LastDirty() uint64 { return l.lastDirty.Load() }

// Admitted counts the page users that entered while the lock was revoked; see
// [Client.CloseAdmission].
func (l *Lock) Admitted() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.admitted
}

// Covers reports whether the key is in the lock's range.
func (l *Lock) Covers(key *format.Key) bool {
	return key.Compare(&l.Start) >= 0 && key.Compare(&l.End) <= 0
}

// unusedLocked reports that the lock can be forgotten.
func (l *Lock) unusedLocked() bool {
	w := word(l.state.Load())
	return w.mode() == format.LockNull && w.idle() && l.quietLocked()
}

// quietLocked reports that nothing is under way for the lock.
func (l *Lock) quietLocked() bool {
	return len(l.waiters) == 0 && !l.request && len(l.invs) == 0 && !l.revoking
}

// removeLocked takes a waiter off the list.
func (l *Lock) removeLocked(w *waiter) {
	for i := range l.waiters {
		if l.waiters[i] == w {
			l.waiters = append(l.waiters[:i], l.waiters[i+1:]...)
			return
		}
	}
}
