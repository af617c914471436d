// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package lock

import (
	"scoutfs/format"
	"scoutfs/internal/invariants"
)

// word is the part of a lock that users of a granted lock change without its
// mutex: who uses it, and whether more may enter.
//
//	bits 0-1    mode that the lock is held in
//	bit  2      gate: a revocation waits; only users that gateMode serves enter
//	bits 3-4    gateMode: what the revocation will leave
//	bit  5      slow: Release must look after the revocation
//	bit  6      dead: the lock was forgotten, look it up again
//	bits 7-25   users that read, 26-44 that write, 45-63 that write only
//
// The counters change at any time; everything else only under Lock.mu.
type word uint64

const (
	gateBit       word = 1 << 2
	gateModeShift      = 3
	slowBit       word = 1 << 5
	deadBit       word = 1 << 6
	usersShift         = 7
	usersBits          = 19
	usersMask          = 1<<usersBits - 1
	modeMask      word = 3
)

func (w word) mode() format.LockMode     { return format.LockMode(w & modeMask) }
func (w word) gateMode() format.LockMode { return format.LockMode(w >> gateModeShift & 3) }

// one is a single user of the mode, which is not NULL.
func one(mode format.LockMode) word { return 1 << (usersShift + usersBits*(uint(mode)-1)) }

// users counts the users of the mode.
func (w word) users(mode format.LockMode) uint64 {
	return uint64(w>>(usersShift+usersBits*(uint(mode)-1))) & usersMask
}

// idle reports that nobody uses the lock.
func (w word) idle() bool { return w>>usersShift == 0 }

// admits reports whether a new user may enter now.
func (w word) admits(mode format.LockMode) bool {
	if w&(gateBit|deadBit) == 0 {
		return serves(w.mode(), mode)
	}
	return w&deadBit == 0 && serves(w.mode(), mode) && serves(w.gateMode(), mode)
}

// fits reports whether all present users can stay when the lock is reduced to
// the mode, which is NULL or READ.
func (w word) fits(mode format.LockMode) bool {
	if mode == format.LockRead {
		return w.users(format.LockWrite) == 0 && w.users(format.LockWriteOnly) == 0
	}
	return w.idle()
}

func (w word) withMode(mode format.LockMode) word { return w&^modeMask | word(mode) }

func (w word) withGate(mode format.LockMode) word {
	return w&^(3<<gateModeShift) | gateBit | slowBit | word(mode)<<gateModeShift
}

func (w word) withoutGate() word { return w &^ (gateBit | slowBit | 3<<gateModeShift) }

// enter adds a user if the lock admits it.
func (l *Lock) enter(mode format.LockMode) bool {
	for {
		w := word(l.state.Load())
		if !w.admits(mode) {
			return false
		}
		if l.swap(w, w+one(mode)) {
			l.entered(w, mode)
			return true
		}
	}
}

// enterGated is enter for those that a gate does not hold back.
func (l *Lock) enterGated(mode format.LockMode) bool {
	for {
		w := word(l.state.Load())
		if w&deadBit != 0 || !serves(w.mode(), mode) {
			return false
		}
		if l.swap(w, w+one(mode)) {
			l.entered(w, mode)
			return true
		}
	}
}

func (l *Lock) entered(before word, mode format.LockMode) {
	invariants.Check(before.users(mode) < usersMask, "lock %v: too many users", l.Start)
	l.acquired.Add(1)
}

// leave removes a user and reports whether the slow path is needed.
func (l *Lock) leave(mode format.LockMode) bool {
	for {
		w := word(l.state.Load())
		invariants.Check(w.users(mode) > 0, "lock %v: released but not held", l.Start)
		if l.swap(w, w-one(mode)) {
			return w&slowBit != 0
		}
	}
}

// change applies f to the word until it takes effect; f must be pure.
func (l *Lock) change(f func(word) word) word {
	for {
		w := word(l.state.Load())
		if n := f(w); l.swap(w, n) {
			return n
		}
	}
}

func (l *Lock) swap(old, new word) bool { return l.state.CompareAndSwap(uint64(old), uint64(new)) }
