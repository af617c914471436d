// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package server

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"scoutfs/format"
	"scoutfs/internal/invariants"
	"scoutfs/rpc"
)

// brokenLinks has the mounts whose connections broke and that may come back.
type brokenLinks struct {
	mu     sync.Mutex
	rids   map[format.Rid]netip.AddrPort // +checklocks:mu
	kicked chan struct{}                 // of capacity 1
}

func (b *brokenLinks) init() {
	b.rids = make(map[format.Rid]netip.AddrPort)
	b.kicked = make(chan struct{}, 1)
}

func (b *brokenLinks) add(rid format.Rid, addr netip.AddrPort) {
	b.mu.Lock()
	b.rids[rid] = addr
	b.mu.Unlock()
	select {
	case b.kicked <- struct{}{}:
	default:
	}
}

// take empties the set. The caller puts back who is to be looked at again.
func (b *brokenLinks) take() map[format.Rid]netip.AddrPort {
	b.mu.Lock()
	defer b.mu.Unlock()
	m := b.rids
	b.rids = make(map[format.Rid]netip.AddrPort)
	return m
}

func (b *brokenLinks) putBack(rid format.Rid, addr netip.AddrPort) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := b.rids[rid]; !ok {
		b.rids[rid] = addr
	}
}

// linkBroke is called when the connection of a mount broke. It may come back,
// unless it is known to be dead.
func (s *Server) linkBroke(rid format.Rid, addr netip.AddrPort) { s.links.add(rid, addr) }

// lost is called when a mount's connection broke and did not come back.
func (s *Server) lost(rid format.Rid, addr netip.AddrPort) {
	invariants.Check(rid != 0, "server: connection without a mount was lost")
	s.fence(Request{Rid: rid, Addr: addr.Addr(), Reason: ReasonReconnect})
}

// gone is called when the connection of a mount has ended that had left. What
// it asked for after its farewell goes too.
func (s *Server) gone(rid format.Rid) {
	s.locks.remove(rid)
	s.opens.remove(rid)
}

// fence asks for a mount to be fenced. One that the volume does not know has
// left, or was fenced and reclaimed before: nobody has to do it again.
func (s *Server) fence(q Request) {
	if s.knows(q.Rid) {
		s.o.Fences.add(q)
		return
	}
	s.gone(q.Rid)
}

// proofLoop looks for mounts that are known to be dead, so that nobody has to
// wait until their time to come back has passed: at once when a connection
// breaks, and then again and again, because the proof may appear a little later
// than the connection ends.
func (s *Server) proofLoop() {
	if s.o.Fences.o.Proof == nil {
		return
	}
	for {
		changed := s.o.Fences.Changed()
		began := time.Now()
		var again <-chan time.Time
		if s.prove() {
			// Never more than a part of the time, however many there are.
			again = time.After(max(proofPoll, 4*time.Since(began)))
		}
		select {
		case <-s.ctx.Done():
			return
		case <-s.links.kicked:
		case <-changed:
		case <-again:
		}
	}
}

// prove fences the mounts that are known to be dead. left is true if others
// have not come back.
func (s *Server) prove() (left bool) {
	left = s.o.Fences.prove()
	if s.recovery.prove() {
		left = true
	}
	net := s.net()
	for rid, addr := range s.links.take() {
		switch {
		case net == nil || !net.Waiting(rid): // it is back, or lost, or has left
		case s.o.Fences.proven(rid):
			s.lost(rid, addr)
		default:
			s.links.putBack(rid, addr)
			left = true
		}
	}
	return left
}

// doubts has the mounts whose first greeting was refused since its commit
// failed. The item may be there all the same, and if the mount gave up nobody
// else would ever remove it.
type doubts struct {
	mu   sync.Mutex
	last map[format.Rid]time.Time // +checklocks:mu; when it tried last
}

// touch notes that a mount tries again.
func (d *doubts) touch(rid format.Rid) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.last[rid]; ok {
		d.last[rid] = time.Now()
	}
}

// doubt makes sure that a mount that was refused is fenced and reclaimed if it
// neither tries again nor gets in.
func (s *Server) doubt(rid format.Rid, addr netip.AddrPort) {
	if !s.knows(rid) || s.ctx.Err() != nil {
		return
	}
	s.doubts.mu.Lock()
	defer s.doubts.mu.Unlock()
	_, watched := s.doubts.last[rid]
	s.doubts.last[rid] = time.Now()
	if !watched {
		s.wg.Go(func() { s.awaitDoubtful(rid, addr) })
	}
}

func (s *Server) awaitDoubtful(rid format.Rid, addr netip.AddrPort) {
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-time.After(s.o.ReconnectWindow):
		}
		s.doubts.mu.Lock()
		over := time.Since(s.doubts.last[rid]) >= s.o.ReconnectWindow
		if over {
			delete(s.doubts.last, rid)
		}
		s.doubts.mu.Unlock()
		if over {
			break
		}
	}
	if !s.connected(rid) {
		s.lost(rid, addr)
	}
}

// connected reports whether the mount has a connection, or may come back.
func (s *Server) connected(rid format.Rid) bool {
	s.peers.RLock()
	l := s.locals[rid]
	s.peers.RUnlock()
	if net := s.net(); l == nil && net != nil {
		return slices.ContainsFunc(net.Clients(), func(c rpc.ClientInfo) bool { return c.Rid == rid })
	}
	return l != nil
}
