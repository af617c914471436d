// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package server

// These tests look inside, because no request makes such items yet.

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"scoutfs/alloc"
	"scoutfs/block"
	"scoutfs/btree"
	"scoutfs/format"
	"scoutfs/internal/simdisk"
	"scoutfs/mkfs"
)

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func startFresh(t *testing.T) *Server {
	meta := simdisk.New(20000<<format.LargeShift, simdisk.Options{Name: "meta"})
	data := simdisk.New(1<<32, simdisk.Options{Name: "data"})
	sup, err := mkfs.Format(meta, data, mkfs.Options{
		Slots: map[int]netip.AddrPort{0: netip.MustParseAddrPort("127.0.0.1:7000")}, AllowSmall: true})
	check(t, err)
	s, err := Start(t.Context(), Options{Meta: meta, Data: data, Super: sup, Rid: 1, Term: 1, CacheBudget: 32 << 20})
	check(t, err)
	t.Cleanup(s.Stop)
	return s
}

// lists makes a pair of lists for an item of a mount.
func lists(h *hold) (avail, freed format.AllocList, err error) {
	if err = alloc.FillList(&h.Tx, &avail, h.s.metaAvailLocked(), 10, 10); err != nil {
		return avail, freed, err
	}
	err = alloc.FillList(&h.Tx, &freed, h.s.metaAvailLocked(), 5, 5)
	return avail, freed, err
}

// free is the free metadata that statfs counts.
func free(t *testing.T, s *Server) uint64 {
	t.Helper()
	st, err := s.statfs(context.Background())
	check(t, err)
	return st.FreeMeta
}

// TestReclaimSrch makes the compaction of a dead mount pending again, with all
// that it has reached.
func TestReclaimSrch(t *testing.T) {
	s := startFresh(t)
	var want []format.SrchCompact
	check(t, s.update(t.Context(), func(h *hold) error {
		for id := range uint64(3) {
			c := format.SrchCompact{ID: 100 + id, Nr: 1, Flags: format.SrchCompactSorted}
			var err error
			if c.MetaAvail, c.MetaFreed, err = lists(h); err != nil {
				return err
			}
			c.In[0].Pos = 7
			rid := uint64(5 + id%2) // the second is another mount's
			key := srchKey(format.TypeSrchBusy, rid, c.ID)
			if err := h.Insert(&s.super.SrchRoot, &key, format.Bytes(&c)); err != nil {
				return err
			}
			want = append(want, c)
		}
		return nil
	}))
	before := free(t, s)
	check(t, s.reclaim(t.Context(), 5))
	for i, key := range []format.Key{
		srchKey(format.TypeSrchPend, 100, 0), srchKey(format.TypeSrchBusy, 6, 101), srchKey(format.TypeSrchPend, 102, 0),
	} {
		it, err := btree.Lookup(s.cache, &s.Super().SrchRoot, &key, nil)
		check(t, err)
		if c, _ := format.Load[format.SrchCompact](it.Val); c != want[i] {
			t.Errorf("%v: %+v", key, c)
		}
	}
	if n := countItems(t, s.cache, &s.Super().SrchRoot); n != 3 {
		t.Errorf("%d items", n)
	}
	// A few list blocks moved, no entry was lost.
	if after := free(t, s); after+10 < before {
		t.Errorf("%d blocks are free, %d were", after, before)
	}
}

func countItems(t *testing.T, c *block.Cache, root *format.BtreeRoot) (n int) {
	t.Helper()
	var from format.Key
	check(t, btree.Walk(c, root, &from, &format.KeyMax, func(*btree.Item) error {
		n++
		return nil
	}))
	return n
}

// TestReclaimMerge turns the merge requests of a dead mount into ranges.
func TestReclaimMerge(t *testing.T) {
	s := startFresh(t)
	status := format.MergeStatus{NrRequests: 3, NrComplete: 1, Seq: 50}
	skey := format.Key{Zone: format.ZoneMergeStatus}
	start := func(i uint64) format.Key { return format.KeyInode(format.Ino(1000 * i)) }
	check(t, s.update(t.Context(), func(h *hold) error {
		if err := h.Insert(&s.super.LogMerge, &skey, format.Bytes(&status)); err != nil {
			return err
		}
		for i := range uint64(3) {
			req := format.MergeRequest{Start: start(i), End: start(i + 1), Rid: format.Rid(5 + i%2), Seq: 60 + i}
			var err error
			if req.MetaAvail, req.MetaFreed, err = lists(h); err != nil {
				return err
			}
			key := format.Key{Zone: format.ZoneMergeRequest, First: uint64(req.Rid), Second: req.Seq}
			if err := h.Insert(&s.super.LogMerge, &key, format.Bytes(&req)); err != nil {
				return err
			}
		}
		return nil
	}))
	before := free(t, s)
	check(t, s.reclaim(t.Context(), 5))
	root := &s.Super().LogMerge
	for _, i := range []uint64{0, 2} {
		key := start(i)
		key.Zone = format.ZoneMergeRange
		it, err := btree.Lookup(s.cache, root, &key, nil)
		check(t, err)
		if r, _ := format.Load[format.MergeRange](it.Val); r != (format.MergeRange{Start: start(i), End: start(i + 1)}) {
			t.Errorf("range %+v", r)
		}
	}
	it, err := btree.Lookup(s.cache, root, &skey, nil)
	check(t, err)
	if st, _ := format.Load[format.MergeStatus](it.Val); st != (format.MergeStatus{NrRequests: 1, NrComplete: 1, Seq: 50}) {
		t.Errorf("status %+v", st)
	}
	if n := countItems(t, s.cache, root); n != 4 {
		t.Errorf("%d items", n)
	}
	if after := free(t, s); after+10 < before {
		t.Errorf("%d blocks are free, %d were", after, before)
	}
}

// TestReclaimOrphans makes a server find an open log tree of nobody.
func TestReclaimOrphans(t *testing.T) {
	s := startFresh(t)
	check(t, s.greet(5, 0, netip.AddrPort{}, true))
	_, err := s.getLogTrees(t.Context(), 5)
	check(t, err)
	check(t, s.update(t.Context(), func(h *hold) error {
		key := format.KeyMountedClient(5)
		return h.Delete(&s.super.MountedClients, &key)
	}))
	s.Stop()
	o := s.o
	o.Term, o.Fences, o.Cache = 2, nil, nil
	s, err = Start(t.Context(), o)
	check(t, err)
	defer s.Stop()
	for {
		var final bool
		check(t, walkLogTrees(s.cache, &s.Super().LogsRoot, func(lt *format.LogTrees) error {
			final = lt.Flags&format.LogTreesFinalized != 0
			return nil
		}))
		if final {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// TestGreetingIsOverWhenAttached asks which inodes are open while a mount that
// the last server knew has greeted, but cannot be asked yet.
func TestGreetingIsOverWhenAttached(t *testing.T) {
	s := startFresh(t)
	s.mu.Lock()
	s.putMountedLocked(7, format.MountedClient{})
	s.mu.Unlock()
	s.recovery.start(map[format.Rid]format.MountedClient{7: {}})
	check(t, s.greet(7, 0, netip.AddrPort{}, false))
	s.opens.request(8, format.NetOpenInoMapArgs{Group: 1}, func([]byte, error) { t.Error("answered without mount 7") })
	asked := func() int {
		s.opens.mu.Lock()
		defer s.opens.mu.Unlock()
		return len(s.opens.asks)
	}
	if asked() != 0 {
		t.Error("asked while mount 7 cannot be")
	}
	s.attach(7, netip.AddrPort{})
	if asked() != 1 {
		t.Error("not asked when mount 7 can be")
	}
}

// TestLostAfterReclaim loses the connection of mounts that the volume does not
// know any more: nobody has to fence them.
func TestLostAfterReclaim(t *testing.T) {
	s := startFresh(t)
	s.attach(7, netip.AddrPort{})
	s.lost(7, netip.AddrPort{})
	if l := s.Fences().List(); len(l) != 0 {
		t.Errorf("requests %+v", l)
	}
	s.opens.mu.Lock()
	defer s.opens.mu.Unlock()
	if len(s.opens.clients) != 0 {
		t.Error("it is still asked for open inodes")
	}
}
