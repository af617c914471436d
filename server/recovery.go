// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package server

import (
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"scoutfs/format"
)

// pending is what a new server waits for from a mount.
type pending uint8

const (
	pendingGreeting pending = 1 << iota
	pendingLocks
	pendingAll = pendingGreeting | pendingLocks
)

// recovery tracks the mounts that the last server knew until each has
// reconnected and told its locks, or was fenced and reclaimed.
// Source: spec cluster 1.6, 7.8.
type recovery struct {
	s *Server

	mu   sync.Mutex
	rids map[format.Rid]*recovering // +checklocks:mu
	over chan struct{}              // +checklocks:mu; closed when nothing is pending any more; nil if nothing is
}

type recovering struct {
	what pending
	addr netip.Addr // as at the mount's first greeting
}

func (r *recovery) init(s *Server) {
	r.s = s
	r.rids = make(map[format.Rid]*recovering)
}

// start waits for all mounts that are known.
func (r *recovery) start(mounted map[format.Rid]format.MountedClient) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for rid, mc := range mounted {
		r.rids[rid] = &recovering{what: pendingAll, addr: addrOf(&mc.Addr)}
	}
	if len(r.rids) == 0 {
		return
	}
	r.s.locks.startRecovery(slices.Sorted(maps.Keys(r.rids)))
	r.over = make(chan struct{})
	over := r.over
	r.s.wg.Go(func() { r.await(over) })
}

// await asks for those to be fenced that do not come back in time.
func (r *recovery) await(over <-chan struct{}) {
	limit := time.NewTimer(recoveryTimeout)
	defer limit.Stop()
	select {
	case <-limit.C:
	case <-over:
		return
	case <-r.s.ctx.Done():
		return
	}
	for rid, p := range r.snapshot() {
		r.s.fence(Request{Rid: rid, Addr: p.addr, Reason: ReasonRecovery})
	}
}

// prove asks for those to be fenced at once that are known to be dead. left is
// true if others have not come back yet.
func (r *recovery) prove() (left bool) {
	for rid, p := range r.snapshot() {
		switch {
		case rid == r.s.o.Rid || p.what&pendingGreeting == 0:
		case r.s.o.Fences.proven(rid):
			r.s.fence(Request{Rid: rid, Addr: p.addr, Reason: ReasonRecovery})
		default:
			left = true
		}
	}
	return left
}

func (r *recovery) snapshot() map[format.Rid]recovering {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := make(map[format.Rid]recovering, len(r.rids))
	for rid, p := range r.rids {
		m[rid] = *p
	}
	return m
}

// wants reports whether what is still expected from the mount.
func (r *recovery) wants(rid format.Rid, what pending) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.rids[rid]
	return p != nil && p.what&what != 0
}

// addr is the address of the host of a mount that is still pending.
func (r *recovery) addr(rid format.Rid) netip.Addr { return r.snapshot()[rid].addr }

// greeting reports whether any mount has not come back yet.
func (r *recovery) greeting() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.rids {
		if p.what&pendingGreeting != 0 {
			return true
		}
	}
	return false
}

func (r *recovery) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.rids)
}

func (r *recovery) greeted(rid format.Rid) { r.finish(rid, pendingGreeting) }

// finish notes that what is not expected from the mount any more, and lets
// those go on who waited for it.
func (r *recovery) finish(rid format.Rid, what pending) {
	r.mu.Lock()
	p := r.rids[rid]
	if p == nil {
		r.mu.Unlock()
		return
	}
	p.what &^= what
	if p.what == 0 {
		delete(r.rids, rid)
	}
	over := len(r.rids) == 0
	if over {
		close(r.over)
		r.over = nil
	}
	r.mu.Unlock()
	if what&pendingLocks != 0 {
		r.s.locks.finishRecovery(rid)
		r.s.farewell.kick()
	}
	if !r.greeting() {
		r.s.opens.release()
	}
	if over {
		r.s.o.Log.Info("recovery of mounts is complete")
	}
}
