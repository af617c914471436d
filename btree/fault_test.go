// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package btree_test

import (
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"scoutfs/block"
	"scoutfs/btree"
	"scoutfs/format"
	"scoutfs/internal/invariants"
	"scoutfs/internal/simdisk"
)

var errAlloc = errors.New("allocator refuses")

// clone returns the committed state of e in a world of its own, with an empty
// cache. e must have no dirty blocks.
func (e *env) clone() *env {
	c := &env{t: e.t, disk: e.disk.Clone(), root: e.root}
	c.alloc = &arena{
		t: e.t, next: e.alloc.next, live: maps.Clone(e.alloc.live),
		pool: slices.Clone(e.alloc.pool), freed: slices.Clone(e.alloc.freed),
	}
	c.reopen()
	return c
}

// change is one operation of a fault test.
type change struct {
	name string
	do   func(e *env) error
}

// failEach runs the operation with the first, second, third ... call of the
// allocator failing, and the same for reads of the device, each time on a fresh
// clone. A failed one must leave all items as they were, lose no block and use none
// twice, and must succeed when it is repeated. failures is the number of calls
// that were made to fail, from the k-th on.
func failEach(t *testing.T, e *env, c change, failures int) (faults int) {
	t.Helper()
	before := e.check()
	good := e.clone()
	if err := c.do(good); err != nil {
		t.Fatalf("%s without faults: %v", c.name, err)
	}
	after := good.check()
	for _, arm := range []func(e *env, k int) (hit func() bool){armAlloc(failures), armRead(failures)} {
		for k := 1; ; k++ {
			f := e.clone()
			hit := arm(f, k)
			err := c.do(f)
			f.alloc.fail = nil
			f.disk.SetFault(nil)
			if !hit() {
				break
			}
			faults++
			checkFailed(t, f, c, err, before, after)
		}
	}
	return faults
}

// checkFailed judges the state after an operation with a fault.
func checkFailed(t *testing.T, f *env, c change, err error, before, after []btree.Item) {
	t.Helper()
	if err == nil {
		t.Fatalf("%s: a fault was swallowed", c.name)
	}
	if !errors.Is(err, errAlloc) && !errors.Is(err, simdisk.ErrInjected) {
		t.Fatalf("%s: error %v", c.name, err)
	}
	items, err := f.tryCheck()
	if err != nil {
		t.Fatalf("%s: after a fault: %v", c.name, err)
	}
	sameItems(t, before, items)
	if err := c.do(f); err != nil {
		t.Fatalf("%s: repeated: %v", c.name, err)
	}
	sameItems(t, after, f.check())
	f.commit()
	f.reopen()
	sameItems(t, after, f.check())
}

// armAlloc makes some calls of the allocator fail, from the k-th on.
func armAlloc(failures int) func(e *env, k int) func() bool {
	return func(e *env, k int) func() bool {
		hit := false
		e.alloc.calls = 0
		e.alloc.fail = func(call int) error {
			if call < k || call >= k+failures {
				return nil
			}
			hit = true
			return errAlloc
		}
		return func() bool { return hit }
	}
}

// armRead makes some reads of the device fail, from the k-th on.
func armRead(failures int) func(e *env, k int) func() bool {
	return func(e *env, k int) func() bool {
		reads, hit := 0, false
		e.disk.SetFault(func(op simdisk.FaultOp) error {
			if reads++; reads < k || reads >= k+failures {
				return nil
			}
			hit = true
			return simdisk.ErrInjected
		})
		return func() bool { return hit }
	}
}

// TestFaults runs random operations and repeats those that change the number of
// blocks, and some others, with every fault there can be.
func TestFaults(t *testing.T) {
	rng := newRand(t)
	e := newEnv(t)
	faults, shapes := 0, 0
	ops := 3000
	if invariants.Enabled { // everything is slower then
		ops = 1500
	}
	for i := range ops {
		growing := i%1500 < 800
		c := randomChange(rng, growing, e)
		probe := e.clone()
		if err := c.do(probe); err != nil {
			t.Fatal(err)
		}
		reshaped := len(probe.alloc.live) != len(e.alloc.live)
		if reshaped {
			shapes++
		}
		if reshaped || rng.IntN(200) == 0 {
			faults += failEach(t, e, c, 1)
			faults += failEach(t, e, c, 2)
		}
		e.must(c.do(e))
		e.commit()
	}
	e.check()
	t.Logf("%d operations changed the number of blocks, %d faults", shapes, faults)
	if shapes < 5 || faults < 100 {
		t.Fatalf("only %d operations changed the number of blocks, %d faults", shapes, faults)
	}
}

// randomChange is an operation that cannot fail by itself.
func randomChange(rng *rand.Rand, growing bool, e *env) change {
	n := rng.IntN(800)
	if it, err := btree.Next(e.cache, &e.root, key(n), nil); err == nil && !growing {
		n = int(it.Key.First)
	}
	val := value(n, 400+rng.IntN(497))
	_, err := btree.Lookup(e.cache, &e.root, key(n), nil)
	exists := err == nil
	switch {
	case exists && (!growing || rng.IntN(8) == 0):
		return change{"delete", func(e *env) error { return e.tx.Delete(&e.root, key(n)) }}
	case exists && rng.IntN(2) == 0:
		return change{"update", func(e *env) error { return e.tx.Update(&e.root, key(n), val) }}
	case !exists && growing && rng.IntN(2) == 0:
		return change{"insert", func(e *env) error { return e.tx.Insert(&e.root, key(n), val) }}
	case growing:
		return change{"force", func(e *env) error { return e.tx.Force(&e.root, key(n), val) }}
	}
	return change{"rebalance", func(e *env) error { return e.tx.Rebalance(&e.root, key(n)) }}
}

// TestFaultsTall is about what the small trees of TestFaults do not have: it
// grows a tree to height 3 and shrinks it again, with faults in the operations
// that split and join the parents.
func TestFaultsTall(t *testing.T) {
	e := newEnv(t)
	n := e.putLong(0, 30000)
	for e.root.Height == 2 {
		e.commit()
		insert := change{"insert", func(e *env) error { return e.tx.Insert(&e.root, key(n), value(n, 896)) }}
		probe := e.clone()
		if e.must(insert.do(probe)); probe.root.Height == 3 {
			if faults := failEach(t, e, insert, 1); faults < 5 {
				t.Fatalf("the split of the root block met %d faults", faults)
			}
		}
		e.must(insert.do(e))
		n++
	}
	e.commit()
	deletes := 0
	for probe := e.clone(); probe.root.Height == 3; deletes++ {
		probe.must(probe.tx.Delete(&probe.root, key(deletes)))
	}
	for i := range deletes - 1 {
		e.must(e.tx.Delete(&e.root, key(i)))
	}
	e.commit()
	shrink := change{"delete", func(e *env) error { return e.tx.Delete(&e.root, key(deletes-1)) }}
	if faults := failEach(t, e, shrink, 1); faults < 5 {
		t.Fatalf("the join of the parents met %d faults", faults)
	}
	if !invariants.Enabled {
		failEach(t, e, shrink, 2)
	}
}

// putLong writes items with values of 896 bytes, which makes wide parents
// cheaply, and returns to.
func (e *env) putLong(from, to int) int {
	n := from
	_, err := e.tx.PutItems(&e.root, func() (*btree.Item, bool) {
		n++
		return &btree.Item{Key: *key(n - 1), Val: value(n-1, 896)}, n-1 < to
	})
	e.must(err)
	return to
}

// TestFaultsBulk makes each allocation and read of the bulk writes fail: then
// exactly the items before the last one that was taken are in the tree.
func TestFaultsBulk(t *testing.T) {
	var items []btree.Item
	for n := 1; n < 900; n += 2 {
		items = append(items, btree.Item{Key: *key(n), Seq: 5, Val: value(n, 300)})
	}
	e := filled(t, 1000, 100)
	before := model(e.check())
	for name, bulk := range map[string]func(e *env, next func() (*btree.Item, bool)) error{
		"put": func(e *env, next func() (*btree.Item, bool)) error {
			_, err := e.tx.PutItems(&e.root, next)
			return err
		},
		"merge": func(e *env, next func() (*btree.Item, bool)) error {
			_, _, err := e.tx.MergeItems(&e.root, btree.MergeOptions{}, next)
			return err
		},
	} {
		for _, arm := range []func(e *env, k int) func() bool{armAlloc(1), armRead(1)} {
			for k := 1; ; k++ {
				f, taken := e.clone(), 0
				next := from(items)
				hit := arm(f, k)
				err := bulk(f, func() (*btree.Item, bool) { taken++; return next() })
				if f.alloc.fail = nil; !hit() {
					f.must(err)
					break
				}
				f.disk.SetFault(nil)
				if err == nil {
					t.Fatalf("%s: fault %d was swallowed", name, k)
				}
				want := slices.Clone(before)
				for _, it := range items[:taken-1] {
					want.put(it)
				}
				sameItems(t, want, f.check())
			}
		}
	}
}

// TestCrash cuts the power at each write of a commit. The tree that was
// committed before must be whole whatever reached the disk.
func TestCrash(t *testing.T) {
	rng := newRand(t)
	e := filled(t, 2000, 100)
	e.must(e.disk.Flush())
	for round := range 5 {
		want, old := e.check(), e.root
		for range 100 {
			n := 1 + rng.IntN(2500)
			if err := e.tx.Delete(&e.root, key(n)); err != nil {
				e.must(e.tx.Insert(&e.root, key(n), value(n, 300)))
			}
		}
		crashes := 0
		check := func(simdisk.FaultOp) {
			if crashes++; crashes%4 != 0 {
				return
			}
			cache := block.NewCache(e.disk.Crash(rng, 50), block.CacheOptions{Fsid: testFsid, Budget: 1 << 20})
			var got []btree.Item
			e.must(btree.Check(cache, &old, btree.CheckOptions{Item: func(it *btree.Item) error {
				got = append(got, cloneItem(it))
				return nil
			}}))
			sameItems(t, want, got)
		}
		e.disk.OnWrite(check)
		e.commit()
		e.disk.OnWrite(nil)
		e.must(e.disk.Flush())
		if crashes < 8 {
			t.Fatalf("round %d: %d writes", round, crashes)
		}
	}
}

// TestSpareIsUsed checks that a block that could not be given back is not lost.
func TestSpareIsUsed(t *testing.T) {
	e := newEnv(t)
	e.must(e.tx.Insert(&e.root, key(1), nil))
	e.commit()
	armAlloc(2)(e, 2) // the copy's block is allocated, then nothing can be freed
	wantErr(t, e.tx.Insert(&e.root, key(2), nil), errAlloc)
	if len(e.tx.Spare()) != 1 {
		t.Fatalf("spare blocks %v", e.tx.Spare())
	}
	e.check()
	e.alloc.fail = nil
	e.must(e.tx.Insert(&e.root, key(2), nil))
	if len(e.tx.Spare()) != 0 {
		t.Fatalf("spare blocks %v", e.tx.Spare())
	}
	e.check()
}

// TestDirtyThenUpdate checks the promise of Dirty: an update of the same length
// cannot fail, whatever happened to the leaf since.
func TestDirtyThenUpdate(t *testing.T) {
	e := newEnv(t)
	for n := range 400 {
		e.must(e.tx.Insert(&e.root, key(n), value(n, 100)))
	}
	e.commit()
	e.reopen()
	e.must(e.tx.Dirty(&e.root, key(300)))
	for n := 1000; ; n++ { // fills the leaf until it would have to be split
		armAlloc(1000)(e, 1)
		err := e.tx.Insert(&e.root, key(n), value(n, 100))
		if err != nil {
			wantErr(t, err, errAlloc)
			break
		}
	}
	e.disk.SetFault(func(simdisk.FaultOp) error { return simdisk.ErrInjected })
	for i := range 3 {
		e.must(e.tx.Update(&e.root, key(300), value(i, 100)))
	}
	wantErr(t, e.tx.Update(&e.root, key(300), value(0, 200)), errAlloc)
	it, err := btree.Lookup(e.cache, &e.root, key(300), nil)
	e.must(err)
	if !equalItem(&it, &btree.Item{Key: *key(300), Val: value(2, 100)}) {
		t.Fatalf("value %v", it.Val)
	}
	e.disk.SetFault(nil)
	e.check()
}

// TestCorruptTrees checks what one block's bytes cannot tell: children of the
// wrong level, out of their range, of the wrong version.
func TestCorruptTrees(t *testing.T) {
	e := newEnv(t)
	for n := range 1000 {
		e.must(e.tx.Insert(&e.root, key(n), value(n, 100)))
	}
	e.commit()
	isCorrupt := func(err error) bool { var ce *format.CorruptError; return errors.As(err, &ce) }
	isStale := func(err error) bool { var se *format.StaleError; return errors.As(err, &se) }
	for _, test := range []struct {
		name   string
		root   format.BtreeRoot
		expect func(error) bool
	}{
		{"too tall", format.BtreeRoot{Ref: e.root.Ref, Height: 3}, isCorrupt},
		{"too low", format.BtreeRoot{Ref: e.root.Ref, Height: 1}, isCorrupt},
		{"height 21", format.BtreeRoot{Ref: e.root.Ref, Height: 21}, isCorrupt},
		{"height without block", format.BtreeRoot{Height: 1}, isCorrupt},
		{"block without height", format.BtreeRoot{Ref: e.root.Ref}, isCorrupt},
		{"old seq", format.BtreeRoot{Ref: format.BlockRef{Blkno: e.root.Ref.Blkno, Seq: 77}, Height: 2}, isStale},
		{"beyond the device", format.BtreeRoot{Ref: format.BlockRef{Blkno: 1 << 40}, Height: 2}, isCorrupt},
	} {
		for op, err := range allOps(e, test.root) {
			if !test.expect(err) {
				t.Errorf("%s: %s: error %v", test.name, op, err)
			}
		}
	}
	if got := len(e.alloc.freed); got != 0 {
		t.Fatalf("%d blocks were freed", got)
	}
}

// allOps runs every operation on a tree and returns the errors.
func allOps(e *env, root format.BtreeRoot) map[string]error {
	errs := map[string]error{}
	c, k := e.cache, key(500)
	fresh := func() *format.BtreeRoot { r := root; return &r }
	_, errs["lookup"] = btree.Lookup(c, fresh(), k, nil)
	_, errs["next"] = btree.Next(c, fresh(), k, nil)
	_, errs["prev"] = btree.Prev(c, fresh(), k, nil)
	_, _, errs["leaf"] = btree.ReadLeaf(c, fresh(), k, func(*btree.Item) {})
	errs["walk"] = btree.Walk(c, fresh(), k, k, func(*btree.Item) error { return nil })
	errs["check"] = btree.Check(c, fresh(), btree.CheckOptions{})
	errs["insert"] = e.tx.Insert(fresh(), k, nil)
	errs["update"] = e.tx.Update(fresh(), k, nil)
	errs["force"] = e.tx.Force(fresh(), k, nil)
	errs["delete"] = e.tx.Delete(fresh(), k)
	errs["dirty"] = e.tx.Dirty(fresh(), k)
	errs["rebalance"] = e.tx.Rebalance(fresh(), k)
	once := false
	_, errs["put"] = e.tx.PutItems(fresh(), func() (*btree.Item, bool) {
		once = !once
		return &btree.Item{Key: *k}, once
	})
	return errs
}

// TestStaleChild checks that a leaf that was rewritten under a reader of an old
// root is reported as stale.
func TestStaleChild(t *testing.T) {
	e := newEnv(t)
	for n := range 1000 {
		e.must(e.tx.Insert(&e.root, key(n), value(n, 100)))
	}
	e.commit()
	var leaf format.BlockRef
	e.must(btree.Blocks(e.cache, &e.root, func(ref format.BlockRef, level int) error {
		if level == 0 {
			leaf = ref
		}
		return nil
	}))
	buf := block.AlignedBuf(format.LargeSize)
	defer block.FreeBuf(buf)
	e.must(writeBlock(e.disk, buf, leaf.Blkno))
	e.reopen()
	_, err := btree.Lookup(e.cache, &e.root, key(999), nil)
	var se *format.StaleError
	if !errors.As(err, &se) || se.Ref != leaf {
		t.Fatalf("error %v", err)
	}
	err = btree.Walk(e.cache, &e.root, key(0), &format.KeyMax, func(*btree.Item) error { return nil })
	if !errors.As(err, &se) {
		t.Fatalf("error %v", err)
	}
}
