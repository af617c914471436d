// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package btree_test

import (
	"errors"
	"testing"

	"scoutfs/btree"
	"scoutfs/format"
)

// from returns a function that returns the items one by one.
func from(items []btree.Item) func() (*btree.Item, bool) {
	i := 0
	return func() (*btree.Item, bool) {
		if i++; i > len(items) {
			return nil, false
		}
		return &items[i-1], true
	}
}

// merge is what MergeItems does with one item.
func (m *model) merge(it btree.Item) {
	i, found := m.search(&it.Key)
	switch {
	case it.Deletion():
		m.remove(&it.Key)
		return
	case found && it.Key.Zone == format.ZoneTotl:
		old, _ := format.Load[format.Totl]((*m)[i].Val)
		delta, _ := format.Load[format.Totl](it.Val)
		old.Total += delta.Total
		old.Count += delta.Count
		if old == (format.Totl{}) {
			m.remove(&it.Key)
			return
		}
		it.Val = append([]byte{}, format.Bytes(&old)...)
	}
	m.put(it)
}

func TestMergeModel(t *testing.T) {
	r := &modelRun{env: newEnv(t), rng: newRand(t), p: profile{keys: 6000, maxVal: 300}}
	for round := range 40 {
		var batch model
		deletes := 20 + 60*(round/10%2)
		for range r.rng.IntN(3000) {
			it := btree.Item{Key: *r.randKey(), Seq: uint64(round + 1)}
			if it.Val = r.randVal(&it.Key); it.Key.Zone == format.ZoneTotl {
				it.Val = format.Bytes(&format.Totl{Total: uint64(r.rng.IntN(3)) - 1, Count: uint64(r.rng.IntN(3)) - 1})
			} else if r.rng.IntN(100) < deletes {
				it.Flags, it.Val = format.ItemFlagDeletion, nil
			}
			batch.put(it)
		}
		_, done, err := r.tx.MergeItems(&r.root, btree.MergeOptions{}, from(batch))
		if r.must(err); !done {
			t.Fatal("merge stopped")
		}
		for _, it := range batch {
			r.m.merge(it)
		}
		r.compare()
		r.commit()
	}
}

// TestMergeEmptiesLeaf: a merge leaves an empty leaf, and the tree stays usable.
func TestMergeEmptiesLeaf(t *testing.T) {
	e := newEnv(t)
	e.must(e.tx.Insert(&e.root, key(1), value(1, 10)))
	gone := []btree.Item{{Key: *key(1), Seq: 2, Flags: format.ItemFlagDeletion}, {Key: *key(2), Seq: 2, Flags: format.ItemFlagDeletion}}
	_, done, err := e.tx.MergeItems(&e.root, btree.MergeOptions{}, from(gone))
	if e.must(err); !done || e.root.Height != 1 {
		t.Fatalf("done %v, height %d", done, e.root.Height)
	}
	e.commit()
	e.reopen()
	if got := e.check(); len(got) != 0 {
		t.Fatalf("items %v", got)
	}
	_, err = btree.Lookup(e.cache, &e.root, key(1), nil)
	wantErr(t, err, btree.ErrNotFound)
	_, err = btree.Next(e.cache, &e.root, key(0), nil)
	wantErr(t, err, btree.ErrNotFound)
	_, err = btree.Prev(e.cache, &e.root, key(5), nil)
	wantErr(t, err, btree.ErrNotFound)
	wantErr(t, e.tx.Delete(&e.root, key(1)), btree.ErrNotFound)
	e.must(e.tx.Insert(&e.root, key(7), nil))
	e.must(e.tx.Delete(&e.root, key(7)))
	if e.root.Height != 0 {
		t.Fatalf("height %d", e.root.Height)
	}
	e.check()
}

func TestMergeStops(t *testing.T) {
	e := filled(t, 2000, 100)
	leaves := 0
	stop := func() bool { leaves++; return leaves > 3 }
	var items []btree.Item
	for n := 1; n <= 2000; n++ {
		items = append(items, btree.Item{Key: *key(n), Seq: 9, Val: value(n, 50)})
	}
	remain, done, err := e.tx.MergeItems(&e.root, btree.MergeOptions{Stop: stop}, from(items))
	if e.must(err); done || remain == (format.Key{}) {
		t.Fatalf("done %v, remain %v", done, remain)
	}
	for _, it := range e.check() {
		if merged := it.Seq == 9; merged != it.Key.Less(&remain) {
			t.Fatalf("%v has seq %d, remain is %v", it.Key, it.Seq, remain)
		}
	}
}

// tall returns a committed tree of height 3.
func tall(t *testing.T) (*env, int) {
	e := newEnv(t)
	n := e.putLong(0, 31000)
	e.commit()
	if e.root.Height != 3 {
		t.Fatalf("height %d", e.root.Height)
	}
	return e, n
}

// TestSubtree merges into a part of a tall tree until the part is too empty,
// splices it in, and balances the path, as log merging does.
func TestSubtree(t *testing.T) {
	e, n := tall(t)
	sub, end, part, err := btree.Subtree(e.cache, &e.root, key(0))
	if e.must(err); !part || sub.Height != 2 || end == format.KeyMax {
		t.Fatalf("subtree %+v to %v, part %v", sub, end, part)
	}
	e.must(btree.Check(e.cache, &sub, btree.CheckOptions{Subtree: true}))
	wantErr(t, lastErr(btree.Next(e.cache, &sub, key(n), nil)), btree.ErrNotFound)
	it, err := btree.Prev(e.cache, &sub, &format.KeyMax, nil)
	if e.must(err); it.Key != end {
		t.Fatalf("last item %v, bound %v", it.Key, end)
	}
	_, err = btree.Lookup(e.cache, &sub, key(n), nil)
	var ce *format.CorruptError
	if !errors.As(err, &ce) {
		t.Fatalf("lookup beyond a subtree: %v", err)
	}

	var items []btree.Item
	for i := range int(end.First) + 1 {
		items = append(items, btree.Item{Key: *key(i), Seq: 3, Flags: format.ItemFlagDeletion})
	}
	remain, done, err := e.tx.MergeItems(&sub, btree.MergeOptions{Subtree: true}, from(items))
	if e.must(err); done || sub.Height != 2 {
		t.Fatalf("done %v, height %d", done, sub.Height)
	}
	e.must(btree.Check(e.cache, &sub, btree.CheckOptions{Subtree: true}))
	e.must(e.tx.Splice(&e.root, key(0), &sub))
	got := e.check()
	if got[0].Key != remain || len(got) != n-int(remain.First) {
		t.Fatalf("%d items from %v, remain %v", len(got), got[0].Key, remain)
	}
	e.must(e.tx.Rebalance(&e.root, &remain))
	e.check()
	e.must(btree.Check(e.cache, &e.root, btree.CheckOptions{Warn: func(ref format.BlockRef, reason string) {
		t.Errorf("after balancing: block %d: %s", ref.Blkno, reason)
	}}))
}

func lastErr(_ btree.Item, err error) error { return err }

func TestSpliceRejects(t *testing.T) {
	e, _ := tall(t)
	left, _, _, err := btree.Subtree(e.cache, &e.root, key(0))
	e.must(err)
	var ce *format.CorruptError
	if err := e.tx.Splice(&e.root, &format.KeyMax, &left); !errors.As(err, &ce) {
		t.Fatalf("splice of another range: %v", err)
	}
	left.Height = 1
	if err := e.tx.Splice(&e.root, key(0), &left); !errors.As(err, &ce) {
		t.Fatalf("splice of another height: %v", err)
	}
	_, _, err = e.tx.MergeItems(&e.root, btree.MergeOptions{Subtree: true}, from(nil))
	wantErr(t, err, btree.ErrInvalid)
	e.check()
}

func TestFreeTree(t *testing.T) {
	for name, build := range map[string]func() *env{
		"empty":    func() *env { return newEnv(t) },
		"height 1": func() *env { return filled(t, 100, 100) },
		"height 2": func() *env { return filled(t, 3000, 100) },
		"height 3": func() *env { e, _ := tall(t); return e },
	} {
		e := build()
		var at format.Key
		for budget := 3; ; budget = 1 + budget*7%100 {
			budget = max(budget, int(e.root.Height))
			before := len(e.alloc.live)
			done, err := e.tx.FreeTree(&e.root, &at, budget)
			e.must(err)
			freed := before - len(e.alloc.live)
			if freed > budget || freed == 0 && before > 0 {
				t.Fatalf("%s: %d blocks freed with a budget of %d", name, freed, budget)
			}
			if done {
				break
			}
			for _, blkno := range e.alloc.freed { // may be overwritten after the commit
				e.rewrite(make([]byte, format.LargeSize), blkno)
			}
			e.commit()
			e.reopen()
		}
		if len(e.alloc.live) != 0 {
			t.Errorf("%s: %d blocks are left", name, len(e.alloc.live))
		}
	}
}
