// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package volume

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"syscall"
	"time"

	"scoutfs/btree"
	"scoutfs/format"
)

// scanLoop scans for orphans every orphan_scan_delay_ms, 20 percent more or less.
func (v *Volume) scanLoop(ctx context.Context) {
	for {
		d := v.tun.OrphanScanDelay.Load()
		if d <= 0 {
			d = defaultOrphanScanDelay
		}
		t := time.NewTimer(time.Duration(d - d/5 + rand.Int64N(2*d/5+1)))
		select {
		case <-t.C:
		case <-v.orphans.resched:
			t.Stop()
			continue
		case <-ctx.Done():
			t.Stop()
			return
		}
		if err := v.ScanOrphans(ctx); err != nil && ctx.Err() == nil {
			v.log.Warn("volume: scan for orphans", "error", err)
		}
	}
}

// RescheduleScan makes a changed Tunables.OrphanScanDelay count from now.
func (v *Volume) RescheduleScan() { poke(v.orphans.resched) }

// ScanOrphans deletes inodes without a link that no mount uses: those that a
// crash left, and those that were in use elsewhere when their last name went.
// It finds orphan items in the merged tree and in finalized log trees, so also
// those of mounts that died and were reclaimed; items in log trees that living mounts
// still write are theirs to delete. Source: spec filesystem 2.7.
func (v *Volume) ScanOrphans(ctx context.Context) error {
	v.m.scans.Add(1)
	c := &Caller{Cancel: ctx.Done()}
	inos, err := v.committedOrphans(c)
	if err != nil {
		v.m.scanError.Add(1)
		return err
	}
	if len(inos) == 0 {
		v.m.scanEmpty.Add(1)
		return nil
	}
	var fail error
	var bits [16]uint64
	known := format.MaxKeyU64
	for _, ino := range inos {
		v.m.scanItem.Add(1)
		if v.refs.used(ino) {
			v.m.scanCached.Add(1)
			continue
		}
		if grp := group(ino); grp != known {
			if bits, err = v.service.OpenInoMap(c, grp); err != nil {
				v.m.scanError.Add(1)
				return err
			}
			known = grp
		}
		if n := ino % format.LockGroup; bits[n/64]>>(n%64)&1 != 0 {
			v.m.scanMapSet.Add(1)
			continue
		}
		v.m.scanAttempts.Add(1)
		if err := v.tryDelete(c, ino); err != nil && err != syscall.EAGAIN {
			v.m.scanError.Add(1)
			fail = err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return fail
}

// readCommitted runs fn with the current roots, again with newer ones when
// blocks turn out to be stale. EIO if the same roots are stale twice.
// Source: spec filesystem 1.10.
func (v *Volume) readCommitted(c *Caller, fn func(r *format.NetRoots) error) error {
	var prev format.NetRoots
	for {
		r, err := v.service.GetRoots(c)
		if err != nil {
			return err
		}
		err = fn(&r)
		if !isStale(err) {
			return err
		}
		if r == prev {
			return errors.Join(syscall.EIO, err)
		}
		prev = r
	}
}

func isStale(err error) bool {
	var stale *format.StaleError
	return errors.As(err, &stale)
}

// committedOrphans returns the inodes whose orphan items are committed and not
// deleted since, ascending.
func (v *Volume) committedOrphans(c *Caller) (inos []format.Ino, err error) {
	err = v.readCommitted(c, func(r *format.NetRoots) error {
		found := orphanSet{live: map[format.Ino]uint64{}, dead: map[format.Ino]uint64{}}
		if err := v.walkOrphans(&r.FSRoot, &found); err != nil {
			return err
		}
		trees, err := v.logTrees(&r.LogsRoot)
		if err != nil {
			return err
		}
		for i := range trees {
			if trees[i].Flags&format.LogTreesFinalized != 0 {
				if err := v.walkOrphans(&trees[i].ItemRoot, &found); err != nil {
					return err
				}
			}
		}
		inos = found.list()
		for i := range trees {
			if trees[i].Flags&format.LogTreesFinalized == 0 {
				if inos, err = v.dropDeleted(&trees[i].ItemRoot, inos); err != nil {
					return err
				}
			}
		}
		return nil
	})
	return inos, err
}

// orphanSet is the newest orphan item and deletion of each inode, by seq.
type orphanSet struct{ live, dead map[format.Ino]uint64 }

func (s *orphanSet) list() []format.Ino {
	var inos []format.Ino
	for ino, seq := range s.live {
		if s.dead[ino] <= seq {
			inos = append(inos, ino)
		}
	}
	slices.Sort(inos)
	return inos
}

// walkOrphans adds the orphan items of a tree.
func (v *Volume) walkOrphans(root *format.BtreeRoot, s *orphanSet) error {
	from, to := format.KeyOrphan(0), format.KeyOrphan(format.Ino(format.MaxKeyU64))
	return btree.Walk(v.cache, root, &from, &to, func(it *btree.Item) error {
		m := s.live
		if it.Deletion() {
			m = s.dead
		}
		ino := format.Ino(it.Key.Second)
		m[ino] = max(m[ino], it.Seq)
		return nil
	})
}

// dropDeleted leaves out the inodes whose orphan items a log tree deletes.
func (v *Volume) dropDeleted(root *format.BtreeRoot, inos []format.Ino) ([]format.Ino, error) {
	var fail error
	inos = slices.DeleteFunc(inos, func(ino format.Ino) bool {
		key := format.KeyOrphan(ino)
		it, err := btree.Lookup(v.cache, root, &key, nil)
		if err != nil && !notFound(err) && fail == nil {
			fail = err
		}
		return err == nil && it.Deletion()
	})
	return inos, fail
}

// logTrees reads all log trees items.
func (v *Volume) logTrees(root *format.BtreeRoot) (trees []format.LogTrees, err error) {
	from := format.Key{Zone: format.ZoneLogTrees}
	to := format.KeyMax
	to.Zone = format.ZoneLogTrees
	err = btree.Walk(v.cache, root, &from, &to, func(it *btree.Item) error {
		lt, ok := format.Load[format.LogTrees](it.Val)
		if !ok {
			return corrupt("log trees item %v of %d bytes", it.Key, len(it.Val))
		}
		trees = append(trees, lt)
		return nil
	})
	return trees, err
}
