// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package lock

import (
	"fmt"
	"maps"
	"slices"
	"syscall"

	"scoutfs/format"
)

// OutKind says what an [Out] is.
type OutKind uint8

// Kinds of [Out].
const (
	Grant      OutKind = iota // the response to request ReqID of Rid
	Invalidate                // a request to Rid; its response goes to InvalidateDone
)

// Out is a message that the server wants to send.
type Out struct {
	Rid   format.Rid
	ReqID uint64 // 0 for Invalidate
	Kind  OutKind
	Lock  format.NetLock
}

// Server decides who holds which lock. It is a state machine without goroutine,
// clock or I/O: methods return the messages that follow from an event. It is not
// safe for concurrent use; the caller serialises the calls and queues the
// messages of one call before it makes the next, so that those of one key are
// never reordered. A message to a mount that is not connected may be dropped: the
// lock stands still until that mount is removed.
//
// Nothing is persistent. A new server learns the grants from the mounts before
// it gives any: StartRecovery, Recovered, FinishRecovery.
type Server struct {
	nextSeq func() uint64
	locks   map[format.Key]*serverLock
	// pending has the mounts whose locks are not known yet, and the first key
	// that the next answer of each may have.
	pending map[format.Rid]format.Key
	count   ServerStats
}

// entry is a mount's part in a lock.
type entry struct {
	rid  format.Rid
	id   uint64 // of its request, 0 if recovered
	mode format.LockMode
	to   format.LockMode // of an invalidated one: what will be left
}

// serverLock is freed when its lists are empty.
type serverLock struct {
	key         format.Key
	requested   []entry // in order of arrival
	granted     []entry // none of them NULL, at most one of a mount
	invalidated []entry // invalidation sent, not answered

	req, inv, rsp, gr uint64 // for server_lock_stats
}

// ServerStats is a snapshot.
type ServerStats struct {
	Locks      int // known now
	Recovering int // mounts whose locks are not known yet

	Requests, Invalidations, Responses, Grants uint64 // so far
	Ignored                                    uint64 // events that made no sense
}

// NewServer returns a server without locks. nextSeq takes the next global
// sequence number; it is called for each grant of W and WO, from within the
// methods.
func NewServer(nextSeq func() uint64) *Server {
	return &Server{
		nextSeq: nextSeq,
		locks:   make(map[format.Key]*serverLock),
		pending: make(map[format.Rid]format.Key),
	}
}

// CheckRequest reports an EINVAL if a LOCK request has a mode that does not
// exist. The connection it came from must be closed.
func CheckRequest(l format.NetLock) error {
	if l.NewMode >= format.LockModes || l.OldMode >= format.LockModes {
		return fmt.Errorf("lock: request %v from mode %d to %d: %w", l.Key, l.OldMode, l.NewMode, syscall.EINVAL)
	}
	return nil
}

// Request takes a LOCK request. One that CheckRequest refuses is ignored.
func (s *Server) Request(rid format.Rid, reqID uint64, l format.NetLock) []Out {
	if CheckRequest(l) != nil {
		s.count.Ignored++
		return nil
	}
	k := s.obtain(l.Key)
	k.requested = append(k.requested, entry{rid: rid, id: reqID, mode: l.NewMode})
	k.req++
	s.count.Requests++
	return s.process(k, nil)
}

// InvalidateDone takes the response to an Invalidate. One that was not asked for
// is ignored: it belongs to a mount that was removed meanwhile.
func (s *Server) InvalidateDone(rid format.Rid, l format.NetLock) []Out {
	k := s.locks[l.Key]
	if k == nil {
		s.count.Ignored++
		return nil
	}
	i := slices.IndexFunc(k.invalidated, func(e entry) bool { return e.rid == rid })
	if i < 0 {
		s.count.Ignored++
		return nil
	}
	e := k.invalidated[i]
	k.invalidated = slices.Delete(k.invalidated, i, i+1)
	if e.to != format.LockNull {
		e.mode, e.to = e.to, format.LockNull
		k.granted = append(k.granted, e)
	}
	k.rsp++
	s.count.Responses++
	return s.process(k, nil)
}

// Remove forgets everything of a mount that left or was fenced.
func (s *Server) Remove(rid format.Rid) []Out {
	var outs []Out
	for _, k := range s.sorted() {
		n := len(k.requested) + len(k.granted) + len(k.invalidated)
		for _, list := range []*[]entry{&k.requested, &k.granted, &k.invalidated} {
			*list = slices.DeleteFunc(*list, func(e entry) bool { return e.rid == rid })
		}
		if n != len(k.requested)+len(k.granted)+len(k.invalidated) {
			outs = s.process(k, outs)
		}
	}
	return outs
}

// StartRecovery makes the server wait for the locks of the mounts before it
// grants anything.
func (s *Server) StartRecovery(rids []format.Rid) {
	for _, rid := range rids {
		s.pending[rid] = format.Key{}
	}
}

// Recovering reports whether the locks of the mount are not all known yet.
func (s *Server) Recovering(rid format.Rid) bool {
	_, ok := s.pending[rid]
	return ok
}

// Recovered takes a LOCK_RECOVER response. The caller has raised the global
// sequence number to each WriteSeq before. It returns the key to ask for next; or
// done and what follows from it, when the answer was empty: then recovery of the
// mount is finished.
//
// An error (EINVAL) means that the mount told nonsense, or holds what another
// mount holds: nothing was recorded, and the mount must be fenced.
func (s *Server) Recovered(rid format.Rid, locks []format.NetLock) (next format.Key, done bool, outs []Out, err error) {
	from, ok := s.pending[rid]
	if !ok {
		return next, false, nil, fmt.Errorf("lock: recovery of %016x: not asked: %w", rid, syscall.EINVAL)
	}
	if len(locks) == 0 {
		return next, true, s.FinishRecovery(rid), nil
	}
	for i := range locks {
		l := &locks[i]
		if err := s.checkRecovered(rid, l, from); err != nil {
			return next, false, nil, err
		}
		from = l.Key.Inc()
	}
	for i := range locks {
		if l := &locks[i]; l.NewMode != format.LockNull {
			k := s.obtain(l.Key)
			k.granted = append(k.granted, entry{rid: rid, mode: l.NewMode})
		}
	}
	s.pending[rid] = from
	return from, false, nil, nil
}

// checkRecovered refuses locks out of order, which includes duplicates.
func (s *Server) checkRecovered(rid format.Rid, l *format.NetLock, from format.Key) error {
	if l.Key.Less(&from) || l.Key == format.KeyMax || l.NewMode >= format.LockModes {
		return fmt.Errorf("lock: recovery of %016x: %v mode %d after %v: %w", rid, l.Key, l.NewMode, from, syscall.EINVAL)
	}
	k := s.locks[l.Key]
	if k == nil {
		return nil
	}
	for _, g := range k.granted {
		if g.rid == rid || !compatible(g.mode, l.NewMode, false) {
			return fmt.Errorf("lock: recovery of %016x: %v mode %s: %016x holds %s: %w",
				rid, l.Key, l.NewMode, g.rid, g.mode, syscall.EINVAL)
		}
	}
	return nil
}

// FinishRecovery ends the wait for a mount; its locks are known, or it was
// fenced and removed. After the last one all queued requests are looked at.
func (s *Server) FinishRecovery(rid format.Rid) []Out {
	if _, ok := s.pending[rid]; !ok {
		return nil
	}
	delete(s.pending, rid)
	if len(s.pending) > 0 {
		return nil
	}
	var outs []Out
	for _, k := range s.sorted() {
		outs = s.process(k, outs)
	}
	return outs
}

// MaxWriteSeq is the greatest WriteSeq of the locks.
func MaxWriteSeq(locks []format.NetLock) uint64 {
	var n uint64
	for i := range locks {
		n = max(n, locks[i].WriteSeq)
	}
	return n
}

func (s *Server) obtain(key format.Key) *serverLock {
	k := s.locks[key]
	if k == nil {
		k = &serverLock{key: key}
		s.locks[key] = k
	}
	return k
}

// sorted returns the locks in key order, so that equal histories give equal
// messages.
func (s *Server) sorted() []*serverLock {
	return slices.SortedFunc(maps.Values(s.locks), func(a, b *serverLock) int { return a.key.Compare(&b.key) })
}

// process grants what can be granted, strictly in order, and asks for what
// stands in the way. It frees the lock if nothing is left.
// Source: spec cluster 7.3.
func (s *Server) process(k *serverLock, outs []Out) []Out {
	for len(k.requested) > 0 && len(k.invalidated) == 0 && len(s.pending) == 0 {
		r := k.requested[0]
		if outs = s.invalidate(k, &r, outs); len(k.invalidated) > 0 {
			break
		}
		k.requested = slices.Delete(k.requested, 0, 1)
		outs = append(outs, s.grant(k, r))
	}
	if len(k.requested) == 0 && len(k.invalidated) == 0 && len(k.granted) == 0 {
		delete(s.locks, k.key)
	}
	return outs
}

// invalidate moves the grants that the request conflicts with to the
// invalidated ones.
func (s *Server) invalidate(k *serverLock, r *entry, outs []Out) []Out {
	left := k.granted[:0]
	for _, g := range k.granted {
		if compatible(g.mode, r.mode, g.rid == r.rid) {
			left = append(left, g)
			continue
		}
		g.to = target(g.mode, r.mode)
		k.invalidated = append(k.invalidated, g)
		k.inv++
		s.count.Invalidations++
		outs = append(outs, Out{Rid: g.rid, Kind: Invalidate,
			Lock: format.NetLock{Key: k.key, OldMode: g.mode, NewMode: g.to}})
	}
	k.granted = left
	return outs
}

// grant gives the lock to the request, which conflicts with no grant.
func (s *Server) grant(k *serverLock, r entry) Out {
	old := format.LockNull
	if i := slices.IndexFunc(k.granted, func(g entry) bool { return g.rid == r.rid }); i >= 0 {
		old = k.granted[i].mode
		k.granted = slices.Delete(k.granted, i, i+1)
	}
	var seq uint64
	if canWrite(r.mode) {
		seq = s.nextSeq()
	}
	if r.mode != format.LockNull {
		k.granted = append(k.granted, r)
	}
	k.gr++
	s.count.Grants++
	return Out{Rid: r.rid, ReqID: r.id, Kind: Grant,
		Lock: format.NetLock{Key: k.key, WriteSeq: seq, OldMode: old, NewMode: r.mode}}
}
