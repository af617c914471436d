// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package server

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"syscall"

	"scoutfs/format"
	"scoutfs/quorum"
)

// greet makes a mount known, or refuses it, before its greeting is answered.
// Source: spec cluster 4.4.
func (s *Server) greet(rid format.Rid, flags uint64, addr netip.AddrPort, first bool) error {
	if rid == 0 || rid == ^format.Rid(0) {
		return fmt.Errorf("server: greeting of rid %s: %w", ridString(rid), syscall.EINVAL)
	}
	if first {
		s.doubts.touch(rid)
		if err := s.addMounted(rid, flags, addr); err != nil {
			s.doubt(rid, addr)
			return err
		}
		s.farewell.kick()
	} else if err := s.knownOrLeaving(rid, flags); err != nil {
		return err
	}
	return nil
}

// knownOrLeaving refuses a mount that comes from another server but has no
// item: it was reclaimed, so it must not write any more. One that is leaving
// only wants to hear that it may.
func (s *Server) knownOrLeaving(rid format.Rid, flags uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if flags&format.NetGreetingFarewell != 0 {
		return nil
	}
	return s.checkMountedLocked(rid)
}

// addMounted inserts the mount's item.
func (s *Server) addMounted(rid format.Rid, flags uint64, addr netip.AddrPort) error {
	mc := format.MountedClient{Addr: inetOf(addr)}
	if flags&format.NetGreetingQuorum != 0 {
		mc.Flags = format.MountedClientQuorum
	}
	return s.update(s.ctx, func(h *hold) error {
		if _, ok := s.mounted[rid]; ok {
			return nil
		}
		key := format.KeyMountedClient(rid)
		if err := h.Force(&s.super.MountedClients, &key, format.Bytes(&mc)); err != nil {
			return fmt.Errorf("server: mounted client %s: %w", ridString(rid), err)
		}
		s.putMountedLocked(rid, mc)
		return nil
	})
}

func (s *Server) putMountedLocked(rid format.Rid, mc format.MountedClient) {
	s.mounted[rid] = mc
	s.known.Store(rid, struct{}{})
	s.count.mounts.Store(int64(len(s.mounted)))
}

func (s *Server) deleteMountedLocked(rid format.Rid) {
	delete(s.mounted, rid)
	s.known.Delete(rid)
	s.count.mounts.Store(int64(len(s.mounted)))
}

// knows reports whether the mount has an item. It does not block.
func (s *Server) knows(rid format.Rid) bool {
	_, ok := s.known.Load(rid)
	return ok
}

// attach is called when requests can be sent to a mount that is new to this
// server. Only now is its greeting over: whoever wants to know which inodes are
// open must ask it too.
func (s *Server) attach(rid format.Rid, _ netip.AddrPort) {
	s.opens.add(rid)
	if !s.knows(rid) {
		s.opens.remove(rid) // it is leaving, or was reclaimed just now
	}
	s.recovery.greeted(rid)
	if s.recovery.wants(rid, pendingLocks) {
		s.locks.recover(rid, format.Key{})
	}
}

// farewells holds the mounts that want to leave.
type farewells struct {
	mu     sync.Mutex
	queue  []leaver      // +checklocks:mu
	kicked chan struct{} // of capacity 1
}

// leaver is a FAREWELL that is not answered yet.
type leaver struct {
	rid   format.Rid
	reply func(resp []byte, err error)
}

func (f *farewells) init() { f.kicked = make(chan struct{}, 1) }

// kick makes the worker look at the queue again.
func (f *farewells) kick() {
	select {
	case f.kicked <- struct{}{}:
	default:
	}
}

// add queues a farewell.
func (f *farewells) add(l leaver) {
	f.mu.Lock()
	f.queue = append(f.queue, l)
	f.mu.Unlock()
	f.kick()
}

// farewellLoop lets mounts leave.
func (s *Server) farewellLoop() {
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-s.farewell.kicked:
		}
		if err := s.letGo(s.pickLeavers()); err != nil {
			s.fail(err)
			return
		}
	}
}

// letGo reclaims what leaving mounts had and then answers them: the mount that
// the server belongs to last, because that ends the server.
func (s *Server) letGo(leave []leaver) error {
	if len(leave) == 0 {
		return nil
	}
	rids := make([]format.Rid, len(leave))
	for i, l := range leave {
		rids[i] = l.rid
	}
	if err := s.reclaim(s.ctx, rids...); err != nil {
		return fmt.Errorf("server: farewell of %d mounts: %w", len(rids), err)
	}
	slices.SortStableFunc(leave, func(a, b leaver) int {
		return cmp.Compare(boolInt(a.rid == s.o.Rid), boolInt(b.rid == s.o.Rid))
	})
	for _, l := range leave {
		s.recovery.finish(l.rid, pendingAll)
		s.o.Log.Info("mount has left", "rid", ridString(l.rid))
		l.reply(nil, nil)
	}
	return nil
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// pickLeavers takes those from the queue that may leave now. The last members
// that make a majority stay until everybody else has left and all of them want
// to. Source: spec cluster 4.8.
func (s *Server) pickLeavers() (leave []leaver) {
	members, others, mounted := s.countMounted()
	f := &s.farewell
	f.mu.Lock()
	defer f.mu.Unlock()
	var stay, queued []leaver
	for _, l := range f.queue {
		mc, ok := mounted[l.rid]
		switch {
		case s.recovery.wants(l.rid, pendingLocks):
			stay = append(stay, l) // looked at again when its recovery ends
		case !ok:
			leave = append(leave, l)
		case mc.Flags&format.MountedClientQuorum == 0:
			leave = append(leave, l)
			if !contains(leave[:len(leave)-1], l.rid) {
				others--
			}
		default:
			queued = append(queued, l)
		}
	}
	leaving := distinct(queued)
	for _, l := range queued {
		if contains(leave, l.rid) {
			leave = append(leave, l)
			continue
		}
		if members > s.votesNeeded() || leaving == members && others == 0 {
			leave = append(leave, l)
			members--
			leaving--
			continue
		}
		stay = append(stay, l)
	}
	f.queue = stay
	return leave
}

func contains(list []leaver, rid format.Rid) bool {
	for _, l := range list {
		if l.rid == rid {
			return true
		}
	}
	return false
}

// distinct counts the mounts in the list.
func distinct(list []leaver) (n int) {
	for i, l := range list {
		if !contains(list[:i], l.rid) {
			n++
		}
	}
	return n
}

// countMounted counts quorum members and other mounts.
func (s *Server) countMounted() (members, others int, all map[format.Rid]format.MountedClient) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all = make(map[format.Rid]format.MountedClient, len(s.mounted))
	for rid, mc := range s.mounted {
		all[rid] = mc
		if mc.Flags&format.MountedClientQuorum != 0 {
			members++
		} else {
			others++
		}
	}
	return members, others, all
}

// votesNeeded is how many members win an election.
func (s *Server) votesNeeded() int {
	n := 0
	for slot := range format.QuorumSlots {
		if _, ok := quorum.SlotAddr(&s.o.Super.Quorum, slot); ok {
			n++
		}
	}
	return quorum.VotesNeeded(n)
}
