// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package btree_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sort"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"scoutfs/btree"
	"scoutfs/format"
)

// model is a second, simple implementation: a sorted slice.
type model []btree.Item

func (m model) search(k *format.Key) (i int, found bool) {
	i = sort.Search(len(m), func(i int) bool { return !m[i].Key.Less(k) })
	return i, i < len(m) && m[i].Key == *k
}

func (m *model) put(it btree.Item) {
	i, found := m.search(&it.Key)
	if found {
		(*m)[i] = it
	} else {
		*m = slices.Insert(*m, i, it)
	}
}

func (m *model) setValue(k *format.Key, val []byte) {
	it := btree.Item{Key: *k, Val: val}
	if i, found := m.search(k); found {
		it = (*m)[i]
		it.Val = val
	}
	m.put(it)
}

func (m *model) remove(k *format.Key) {
	if i, found := m.search(k); found {
		*m = slices.Delete(*m, i, i+1)
	}
}

// profile is the mix of a random test.
type profile struct {
	keys     int // size of the key space
	maxVal   int // longest value
	ops      int
	deletes  int // percent
	sweep    int // one in so many operations deletes a whole range
	everyOps int // the whole tree is checked after so many operations
}

func TestModel(t *testing.T) {
	for name, p := range map[string]profile{
		"small":   {keys: 200, maxVal: 40, ops: 1500, deletes: 45, sweep: 300, everyOps: 1},
		"long":    {keys: 1500, maxVal: 896, ops: 6000, deletes: 40, sweep: 700, everyOps: 50},
		"wide":    {keys: 20000, maxVal: 120, ops: 12000, deletes: 25, sweep: 3000, everyOps: 400},
		"empty":   {keys: 6000, maxVal: 0, ops: 10000, deletes: 35, sweep: 2000, everyOps: 400},
		"shrinks": {keys: 3000, maxVal: 500, ops: 9000, deletes: 55, sweep: 500, everyOps: 100},
	} {
		t.Run(name, func(t *testing.T) {
			r := &modelRun{env: newEnv(t), rng: newRand(t), p: p}
			for i := range p.ops {
				r.step()
				if i%p.everyOps == 0 {
					r.compare()
				}
			}
			r.compare()
			for len(r.m) > 0 {
				r.delete(&r.m[r.rng.IntN(len(r.m))].Key)
			}
			r.compare()
			if r.root != (format.BtreeRoot{}) {
				t.Fatalf("root %+v of an empty tree", r.root)
			}
		})
	}
}

// modelRun is a tree and its model under random operations.
type modelRun struct {
	*env
	rng *rand.Rand
	p   profile
	m   model
	buf [format.MaxValue]byte
}

// randKey returns a key of the key space, often one that exists.
func (r *modelRun) randKey() *format.Key {
	if len(r.m) > 0 && r.rng.IntN(2) == 0 {
		k := r.m[r.rng.IntN(len(r.m))].Key
		return &k
	}
	n := r.rng.IntN(r.p.keys)
	k := format.KeyExtent(format.Ino(n%37), uint64(n), uint64(n%5))
	if n%11 == 0 {
		k = format.KeyTotl(uint64(n%3), 0, uint64(n))
	}
	return &k
}

// randVal returns a value that fits the key: totals are always 16 bytes.
func (r *modelRun) randVal(k *format.Key) []byte {
	size := r.rng.IntN(r.p.maxVal + 1)
	if k.Zone == format.ZoneTotl {
		size = format.Size[format.Totl]()
	}
	v := make([]byte, size)
	for i := range v {
		v[i] = byte(r.rng.Uint32())
	}
	return v
}

func (r *modelRun) step() {
	r.t.Helper()
	k := r.randKey()
	if r.rng.IntN(r.p.sweep) == 0 {
		r.sweep(k)
	}
	if r.rng.IntN(100) < r.p.deletes {
		r.delete(k)
		return
	}
	i, exists := r.m.search(k)
	val := r.randVal(k)
	if exists && r.m[i].Deletion() { // only PutItems may meet these
		r.read(k)
		return
	}
	switch r.rng.IntN(12) {
	case 0, 1, 2:
		r.outcome(r.tx.Insert(&r.root, k, val), exists, btree.ErrExist)
		if !exists {
			r.m.setValue(k, val)
		}
	case 3, 4:
		r.outcome(r.tx.Update(&r.root, k, val), !exists, btree.ErrNotFound)
		if exists {
			r.m.setValue(k, val)
		}
	case 5:
		r.must(r.tx.Force(&r.root, k, val))
		r.m.setValue(k, val)
	case 6:
		r.must(r.tx.Rebalance(&r.root, k))
	case 7:
		r.outcome(r.tx.Dirty(&r.root, k), !exists, btree.ErrNotFound)
	case 8:
		r.putItems()
	case 9:
		r.commitSometimes()
	default:
		r.read(k)
	}
}

// outcome checks that an operation failed exactly if it had to.
func (r *modelRun) outcome(err error, fails bool, want error) {
	r.t.Helper()
	if fails != (err != nil) || fails && !errors.Is(err, want) {
		r.t.Fatalf("error %v, expected one: %v (%v)", err, fails, want)
	}
}

func (r *modelRun) delete(k *format.Key) {
	r.t.Helper()
	_, exists := r.m.search(k)
	r.outcome(r.tx.Delete(&r.root, k), !exists, btree.ErrNotFound)
	r.m.remove(k)
}

// sweep deletes a run of neighbours, so that blocks become empty and join.
func (r *modelRun) sweep(from *format.Key) {
	r.t.Helper()
	i, _ := r.m.search(from)
	for n := r.rng.IntN(1 + len(r.m)/2); n > 0 && i < len(r.m); n-- {
		k := r.m[i].Key
		r.delete(&k)
	}
}

func (r *modelRun) commitSometimes() {
	switch r.rng.IntN(20) {
	case 0:
		r.commit()
		r.reopen()
	case 1, 2:
		r.commit()
	}
}

// putItems writes a run of sorted items with seqs, deletions and totals.
func (r *modelRun) putItems() {
	r.t.Helper()
	var items []btree.Item
	for range r.rng.IntN(60) {
		it := btree.Item{Key: *r.randKey(), Seq: r.rng.Uint64N(1000)}
		if it.Val = r.randVal(&it.Key); it.Key.Zone != format.ZoneTotl && r.rng.IntN(4) == 0 {
			it.Flags, it.Val = format.ItemFlagDeletion, nil
		}
		items = append(items, it)
	}
	slices.SortStableFunc(items, func(a, b btree.Item) int { return a.Key.Compare(&b.Key) })
	i, wantMax := 0, uint64(0)
	got, err := r.tx.PutItems(&r.root, func() (*btree.Item, bool) {
		if i++; i > len(items) {
			return nil, false
		}
		return &items[i-1], true
	})
	r.must(err)
	for _, it := range items {
		wantMax = max(wantMax, it.Seq)
		r.m.apply(it)
	}
	if got != wantMax {
		r.t.Fatalf("greatest seq %d, want %d", got, wantMax)
	}
}

// apply is what PutItems does with one item.
func (m *model) apply(it btree.Item) {
	i, found := m.search(&it.Key)
	if found && it.Key.Zone == format.ZoneTotl {
		old, _ := format.Load[format.Totl]((*m)[i].Val)
		delta, _ := format.Load[format.Totl](it.Val)
		old.Total += delta.Total
		old.Count += delta.Count
		it.Val = append([]byte{}, format.Bytes(&old)...)
		it.Seq = max(it.Seq, (*m)[i].Seq)
	}
	m.put(it)
}

// read compares every kind of read at a key.
func (r *modelRun) read(k *format.Key) {
	r.t.Helper()
	i, found := r.m.search(k)
	got, err := btree.Lookup(r.cache, &r.root, k, r.buf[:])
	r.same("lookup", got, err, i, found)
	got, err = btree.Next(r.cache, &r.root, k, r.buf[:])
	r.same("next", got, err, i, i < len(r.m))
	got, err = btree.Prev(r.cache, &r.root, k, r.buf[:])
	if !found {
		i--
	}
	r.same("prev", got, err, i, i >= 0)
	if r.rng.IntN(10) == 0 {
		r.walk(k)
		r.readLeaf(k)
	}
}

func (r *modelRun) same(op string, got btree.Item, err error, i int, found bool) {
	r.t.Helper()
	if !found {
		wantErr(r.t, err, btree.ErrNotFound)
		return
	}
	r.must(err)
	if !equalItem(&r.m[i], &got) {
		r.t.Fatalf("%s (-want +got):\n%s", op, cmp.Diff(r.m[i], got, itemCmp))
	}
}

func equalItem(a, b *btree.Item) bool {
	return a.Key == b.Key && a.Seq == b.Seq && a.Flags == b.Flags && bytes.Equal(a.Val, b.Val)
}

// sameItems compares long lists quickly and shows only the first difference.
func sameItems(t testing.TB, want, got []btree.Item) {
	t.Helper()
	for i := range min(len(want), len(got)) {
		if !equalItem(&want[i], &got[i]) {
			t.Fatalf("item %d (-want +got):\n%s", i, cmp.Diff(want[i], got[i], itemCmp))
		}
	}
	if len(want) != len(got) {
		t.Fatalf("%d items, want %d", len(got), len(want))
	}
}

var itemCmp = cmp.Options{cmpopts.EquateEmpty(), cmp.Comparer(func(a, b format.Key) bool { return a == b })}

var errStop = errors.New("stop")

// walk compares a range, or a part of it.
func (r *modelRun) walk(from *format.Key) {
	r.t.Helper()
	to := r.randKey()
	i, _ := r.m.search(from)
	limit := r.rng.IntN(len(r.m) + 2)
	n := 0
	err := btree.Walk(r.cache, &r.root, from, to, func(it *btree.Item) error {
		if i == len(r.m) || !equalItem(&r.m[i], it) {
			return fmt.Errorf("walk comes to %v", it.Key)
		}
		i++
		if n++; n == limit {
			return errStop
		}
		return nil
	})
	if n == limit && n > 0 {
		wantErr(r.t, err, errStop)
		return
	}
	r.must(err)
	if i < len(r.m) && !to.Less(&r.m[i].Key) && !to.Less(from) {
		r.t.Fatalf("walk from %v to %v ends before %v", *from, *to, r.m[i].Key)
	}
}

// readLeaf checks that a leaf is all that the model has in its range.
func (r *modelRun) readLeaf(k *format.Key) {
	r.t.Helper()
	var got []btree.Item
	start, end, err := btree.ReadLeaf(r.cache, &r.root, k, func(it *btree.Item) { got = append(got, cloneItem(it)) })
	r.must(err)
	if k.Less(&start) || end.Less(k) {
		r.t.Fatalf("leaf of %v covers %v to %v", *k, start, end)
	}
	lo, _ := r.m.search(&start)
	hi, found := r.m.search(&end)
	if found {
		hi++
	}
	sameItems(r.t, r.m[lo:hi], got)
}

// compare checks the whole tree against the model.
func (r *modelRun) compare() {
	r.t.Helper()
	got := r.check()
	sameItems(r.t, r.m, got)
}
