// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"scoutfs/alloc"
	"scoutfs/btree"
	"scoutfs/format"
)

// reclaimLoop takes back what fenced mounts had. Source: spec cluster 3.5.
func (s *Server) reclaimLoop() {
	tick := time.NewTicker(reclaimPoll)
	defer tick.Stop()
	if err := s.reclaimOrphans(); err != nil {
		s.fail(fmt.Errorf("server: reclaim log trees without a mount: %w", err))
		return
	}
	for {
		changed := s.o.Fences.Changed()
		for s.reclaimNext() {
		}
		select {
		case <-s.ctx.Done():
			return
		case <-changed:
		case <-tick.C:
		}
	}
}

// reclaimNext reclaims the mount of one answered request. It returns false if
// there is none, or if the server has to stop.
func (s *Server) reclaimNext() bool {
	for _, r := range s.o.Fences.List() {
		if s.ctx.Err() != nil {
			return false
		}
		if r.Error {
			s.fail(fmt.Errorf("server: mount %s could not be fenced (%s)", ridString(r.Rid), r.Reason))
			return false
		}
		if !r.Fenced {
			continue
		}
		s.disconnect(r.Rid)
		if err := s.reclaim(s.ctx, r.Rid); err != nil {
			s.fail(fmt.Errorf("server: reclaim of fenced mount %s: %w", ridString(r.Rid), err))
			return false
		}
		s.o.Log.Info("mount is reclaimed", "rid", ridString(r.Rid))
		s.recovery.finish(r.Rid, pendingAll)
		s.o.Fences.remove(r.Rid)
		s.farewell.kick()
		return true
	}
	return false
}

// reclaimOrphans reclaims open log trees of mounts that have no item: an
// earlier server was interrupted after it had removed that.
func (s *Server) reclaimOrphans() error {
	open := make(map[format.Rid]bool)
	s.mu.Lock()
	err := walkLogTrees(s.cache, &s.super.LogsRoot, func(lt *format.LogTrees) error {
		if _, ok := s.mounted[lt.Rid]; !ok {
			open[lt.Rid] = lt.Flags&format.LogTreesFinalized == 0 // the last of a rid counts
		}
		return nil
	})
	s.mu.Unlock()
	if err != nil {
		return err
	}
	for _, rid := range slices.Sorted(maps.Keys(open)) {
		if !open[rid] {
			continue
		}
		s.o.Log.Warn("log tree belongs to no mount", "rid", ridString(rid))
		if err := s.reclaim(s.ctx, rid); err != nil {
			return err
		}
	}
	return nil
}

// reclaim takes back everything that mounts had, which write nothing any more.
// It can be repeated, also by another server. Their items are removed in one
// commit, so that mounts that may only leave together do.
// Source: spec cluster 3.6.
func (s *Server) reclaim(ctx context.Context, rids ...format.Rid) error {
	for _, rid := range rids {
		s.locks.remove(rid)
	}
	for done := false; !done; {
		err := s.update(ctx, func(h *hold) (err error) {
			done, err = s.reclaimLocked(h, rids)
			return err
		})
		if err != nil {
			return err
		}
	}
	for _, rid := range rids {
		s.opens.remove(rid)
		s.locks.remove(rid) // what it asked for meanwhile
	}
	return nil
}

// reclaimLocked does a hold's worth. done is false if it must be repeated
// after a commit.
func (s *Server) reclaimLocked(h *hold, rids []format.Rid) (done bool, err error) {
	for _, rid := range rids {
		if done, err = s.finalizeLocked(h, rid); err != nil || !done {
			return false, err
		}
		if err := s.releaseSrchLocked(h, rid); err != nil {
			return false, err
		}
		if done, err = s.cancelMergesLocked(h, rid); err != nil || !done {
			return false, err
		}
	}
	for _, rid := range rids {
		key := format.KeyMountedClient(rid)
		if err := h.Delete(&s.super.MountedClients, &key); err != nil && !errors.Is(err, btree.ErrNotFound) {
			return false, fmt.Errorf("server: mounted client %s: %w", ridString(rid), err)
		}
		s.deleteMountedLocked(rid)
	}
	return true, nil
}

// finalizeLocked takes the allocators of the mount's open log tree and marks
// it as final. The item is stored in any case.
func (s *Server) finalizeLocked(h *hold, rid format.Rid) (done bool, err error) {
	lt, exists, err := s.lastLogTreesLocked(rid)
	if err != nil || !exists || lt.Flags&format.LogTreesFinalized != 0 {
		return err == nil, err
	}
	if err := s.dirtyLogTreesLocked(h, &lt, true); err != nil {
		return false, err
	}
	done, err = s.emptyLocked(h, &lt)
	if done && err == nil {
		lt.MetaAvail, lt.MetaFreed = format.AllocList{}, format.AllocList{}
		lt.DataAvail, lt.DataFreed = format.AllocRoot{}, format.AllocRoot{}
		lt.DataAllocZoneBlocks, lt.DataAllocZones = 0, [16]uint64{}
		lt.CommitTransSeq = lt.GetTransSeq
		lt.Flags |= format.LogTreesFinalized
		lt.FinalizeSeq = s.nextSeq()
		s.o.Counters.openLogs.Add(1)
	}
	return done, s.storeLogTreesLocked(h, &lt, err)
}

// emptyLocked moves everything out of the item's allocators and its srch file,
// as far as the hold allows.
func (s *Server) emptyLocked(h *hold, lt *format.LogTrees) (done bool, err error) {
	if err := s.rotateSrchLocked(h, lt); err != nil {
		return false, err
	}
	for _, list := range []*format.AllocList{&lt.MetaFreed, &lt.MetaAvail} {
		if done, err := s.spliceLocked(h, list); err != nil || !done {
			return false, err
		}
	}
	for _, root := range []*format.AllocRoot{&lt.DataAvail, &lt.DataFreed} {
		done, err := s.moveLocked(h, &s.super.DataAlloc, root, alloc.MoveOptions{})
		if err != nil || !done {
			return false, err
		}
	}
	return true, nil
}

// spliceLocked gives the blocks of a list to the server's freed ones.
func (s *Server) spliceLocked(h *hold, list *format.AllocList) (done bool, err error) {
	err = alloc.SpliceList(&h.Tx, s.otherFreedLocked(), list)
	if errors.Is(err, alloc.ErrAgain) {
		return false, nil
	}
	return err == nil, err
}

// srchKey is a compaction item.
func srchKey(typ uint8, second, third uint64) format.Key {
	return format.Key{Zone: format.ZoneSrch, Type: typ, Second: second, Third: third}
}

// releaseSrchLocked makes the compactions that the mount was busy with pending
// again, so that another mount goes on where their last commit ended.
func (s *Server) releaseSrchLocked(h *hold, rid format.Rid) error {
	for {
		from := srchKey(format.TypeSrchBusy, uint64(rid), 0)
		it, err := btree.Next(s.cache, &s.super.SrchRoot, &from, nil)
		if errors.Is(err, btree.ErrNotFound) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("server: srch items of %s: %w", ridString(rid), err)
		}
		k := it.Key
		if k.Zone != format.ZoneSrch || k.Type != format.TypeSrchBusy || k.Second != uint64(rid) {
			return nil
		}
		pending := srchKey(format.TypeSrchPend, k.Third, 0)
		if err := h.Force(&s.super.SrchRoot, &pending, it.Val); err != nil {
			return fmt.Errorf("server: srch items of %s: %w", ridString(rid), err)
		}
		if err := h.Delete(&s.super.SrchRoot, &k); err != nil {
			return s.undoLocked(err, h.Delete(&s.super.SrchRoot, &pending))
		}
	}
}

// undoLocked returns cause if taking a change back succeeded, else that the
// trees are broken.
func (s *Server) undoLocked(cause, undo error) error {
	if undo != nil {
		return &alloc.BrokenError{Cause: cause, Undo: undo}
	}
	return cause
}

// cancelMergesLocked takes back the merge requests that the mount held: each
// becomes a range to be merged again. done is false if the hold was used up.
func (s *Server) cancelMergesLocked(h *hold, rid format.Rid) (done bool, err error) {
	for {
		from := format.Key{Zone: format.ZoneMergeRequest, First: uint64(rid)}
		it, err := btree.Next(s.cache, &s.super.LogMerge, &from, nil)
		if errors.Is(err, btree.ErrNotFound) {
			return true, nil
		}
		if err != nil {
			return false, fmt.Errorf("server: merge requests of %s: %w", ridString(rid), err)
		}
		if it.Key.Zone != format.ZoneMergeRequest || it.Key.First != uint64(rid) {
			return true, nil
		}
		req, err := value[format.MergeRequest](s.cache, &it)
		if err != nil {
			return false, err
		}
		if done, err := s.cancelMergeLocked(h, &it.Key, &req); err != nil || !done {
			return false, err
		}
	}
}

// cancelMergeLocked gives the request's lists back, then turns it into a range.
func (s *Server) cancelMergeLocked(h *hold, key *format.Key, req *format.MergeRequest) (done bool, err error) {
	if err := h.Dirty(&s.super.LogMerge, key); err != nil {
		return false, err
	}
	for _, list := range []*format.AllocList{&req.MetaAvail, &req.MetaFreed} {
		if done, err = s.spliceLocked(h, list); err != nil || !done {
			break
		}
	}
	if serr := h.Update(&s.super.LogMerge, key, format.Bytes(req)); serr != nil {
		return false, &alloc.BrokenError{Cause: serr, Undo: err}
	}
	if err != nil || !done {
		return false, err
	}
	if err := s.requestToRangeLocked(h, key, req); err != nil {
		return false, &alloc.BrokenError{Cause: err}
	}
	return true, nil
}

// requestToRangeLocked replaces the request by the range that it covered.
func (s *Server) requestToRangeLocked(h *hold, key *format.Key, req *format.MergeRequest) error {
	rng := format.MergeRange{Start: req.Start, End: req.End}
	rkey := req.Start
	rkey.Zone = format.ZoneMergeRange
	if err := h.Force(&s.super.LogMerge, &rkey, format.Bytes(&rng)); err != nil {
		return err
	}
	if err := h.Delete(&s.super.LogMerge, key); err != nil {
		return err
	}
	skey := format.Key{Zone: format.ZoneMergeStatus}
	it, err := btree.Lookup(s.cache, &s.super.LogMerge, &skey, nil)
	if err != nil {
		return err
	}
	status, err := value[format.MergeStatus](s.cache, &it)
	if err != nil {
		return err
	}
	if status.NrRequests > 0 {
		status.NrRequests--
	}
	return h.Update(&s.super.LogMerge, &skey, format.Bytes(&status))
}
