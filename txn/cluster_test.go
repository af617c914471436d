// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package txn_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"scoutfs/format"
	"scoutfs/lock"
	"scoutfs/txn"
)

// TestTwoMounts lets two mounts change the same items in turn, by stealing each
// other's locks.
func TestTwoMounts(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	c := newCluster(t, newDisks(t))
	rot := 0
	c.server.rotate = func() bool { rot++; return rot%5 == 0 }
	ms := []*mount{c.mount(options{rid: 1}), c.mount(options{rid: 2, budget: 256 << 10})}
	r := rand.New(rand.NewPCG(seed, 3))
	want := map[format.Key]string{}
	for range 150 {
		m := ms[r.IntN(2)]
		key := format.KeyInode(format.Ino(2 + r.Uint64N(2000)/100))
		lk := m.lock(rangeOf(key), format.LockWrite)
		if got := m.get(lk, key); got != valueOr(want, key) {
			t.Fatalf("mount %d: %v is %q, want %q", m.rid, key, got, valueOr(want, key))
		}
		val := fmt.Sprint(r.Uint32())
		index := m.lock(lock.Index(format.TypeMetaSeq, 0), format.LockWriteOnly)
		m.do(func(tx *txn.Tx) error {
			ik := format.KeyMetaSeq(7, format.Ino(r.Uint64N(3)))
			if err := tx.CreateForce(index, &ik, nil, lk); err != nil {
				return err
			}
			if _, ok := want[key]; !ok {
				want[key] = val
				return tx.Create(lk, &key, []byte(val))
			}
			if r.IntN(3) == 0 {
				delete(want, key)
				return tx.Delete(lk, &key)
			}
			want[key] = val
			return tx.Update(lk, &key, []byte(val))
		})
		m.locks.Release(index, format.LockWriteOnly, m.engine.Seq())
		m.locks.Release(lk, format.LockWrite, m.engine.Seq())
	}
	ms[0].closeOnly()
	ms[1].close()
	got := forest(t, c.server)
	for k := range got.items {
		if got.items[k] != valueOr(want, k) {
			t.Errorf("%v is %q, want %q", k, got.items[k], valueOr(want, k))
		}
	}
	if len(got.items) != len(want) {
		t.Errorf("%d items, want %d", len(got.items), len(want))
	}
}

func valueOr(m map[format.Key]string, k format.Key) string {
	if v, ok := m[k]; ok {
		return v
	}
	return "-"
}

// TestConcurrent runs operations, reads, commits and revocations at the same
// time. Each goroutine has inodes of its own in groups that all share.
func TestConcurrent(t *testing.T) {
	c := newCluster(t, newDisks(t))
	ms := []*mount{c.mount(options{rid: 1, budget: 300 << 10}), c.mount(options{rid: 2})}
	var wg sync.WaitGroup
	var undone atomic.Int64
	for g := range 6 {
		wg.Go(func() {
			m := ms[g%2]
			r := rand.New(rand.NewPCG(uint64(g), 4))
			want := map[format.Key]string{}
			for i := range 150 {
				ino := format.Ino(r.Uint64N(3)*1024 + uint64(g)*100 + r.Uint64N(40) + 2)
				if !m.race(t, r, ino, want) {
					undone.Add(1)
				}
				if i%40 == 0 {
					m.sync()
				}
			}
			for k, v := range want {
				lk := m.lock(rangeOf(k), format.LockRead)
				if got := m.get(lk, k); got != v {
					t.Errorf("%v is %q, want %q", k, got, v)
				}
				m.locks.Release(lk, format.LockRead, 0)
			}
		})
	}
	wg.Wait()
	if undone.Load() == 0 {
		t.Error("nothing was undone")
	}
	total := format.Totl{}
	for _, m := range ms {
		m.sync()
	}
	for _, v := range forest(t, c.server).totals {
		total.Total += v.Total
		total.Count += v.Count
	}
	if want := uint64(6*150) - uint64(undone.Load()); total.Count != want {
		t.Errorf("total counts %d, want %d", total.Count, want)
	}
	ms[0].closeOnly()
	ms[1].close()
}

// race sets two items of an inode to the same value and adds to a total, or
// takes all of that back; it returns false then.
func (m *mount) race(t *testing.T, r *rand.Rand, ino format.Ino, want map[format.Key]string) bool {
	keys := []format.Key{format.KeyInode(ino), format.KeyReaddir(ino, 5)}
	lk := m.lock(rangeOf(keys[0]), format.LockWrite)
	totl := m.lock(lock.Totl(), format.LockWriteOnly)
	tx, err := m.engine.Begin(ctx, txn.Allocating)
	if err != nil {
		t.Error(err)
		return false
	}
	val := fmt.Sprint(r.Uint64())
	for _, k := range keys {
		err := tx.Create(lk, &k, []byte(val))
		if errors.Is(err, syscall.EEXIST) {
			err = tx.Update(lk, &k, []byte(val))
		}
		if err != nil {
			t.Error(err)
		}
	}
	tk := format.KeyTotl(0, 0, r.Uint64N(2))
	if err := tx.Delta(totl, &tk, 3, 1); err != nil {
		t.Error(err)
	}
	kept := r.IntN(4) > 0
	if kept {
		tx.Done()
		for _, k := range keys {
			want[k] = val
		}
	} else {
		tx.Undo()
	}
	m.locks.Release(totl, format.LockWriteOnly, m.engine.Seq())
	m.locks.Release(lk, format.LockWrite, m.engine.Seq())
	return kept
}

// TestNextHint looks for keys that others committed.
func TestNextHint(t *testing.T) {
	c := newCluster(t, newDisks(t))
	a, b := c.mount(options{rid: 1}), c.mount(options{rid: 2})
	index := a.lock(lock.Index(format.TypeMetaSeq, 90000), format.LockWriteOnly)
	key := format.KeyMetaSeq(90001, 7)
	a.do(func(tx *txn.Tx) error { return tx.CreateForce(index, &key, nil, nil) })
	from := format.KeyMetaSeq(5, 0)
	if got, err := b.engine.NextHint(ctx, &from); err != nil || got == key {
		t.Errorf("before the commit: %v %v", got, err)
	}
	a.sync()
	got, err := b.engine.NextHint(ctx, &from)
	if err != nil || got != key {
		t.Errorf("next hint: %v %v, want %v", got, err, key)
	}
	from = format.KeyMax
	if _, err := b.engine.NextHint(ctx, &from); err != syscall.ENOENT {
		t.Errorf("next hint at the end: %v", err)
	}
	a.closeOnly()
	b.close()
}

// TestTotals adds to a total in several transactions and log trees.
func TestTotals(t *testing.T) {
	c := newCluster(t, newDisks(t))
	rot := 0
	c.server.rotate = func() bool { rot++; return rot == 3 }
	m := c.mount(options{})
	lk := m.lock(lock.Totl(), format.LockWriteOnly)
	key := format.KeyTotl(1, 2, 3)
	for range 6 {
		for range 3 {
			m.do(func(tx *txn.Tx) error { return tx.Delta(lk, &key, 10, 1) })
		}
		m.sync()
	}
	var trees int
	var sum format.Totl
	for _, lt := range c.server.logTrees(t) {
		if lt.ItemRoot.Height > 0 {
			trees++
		}
	}
	for _, v := range forest(t, c.server).totals {
		sum.Total += v.Total
		sum.Count += v.Count
	}
	if sum != (format.Totl{Total: 180, Count: 18}) || trees < 2 {
		t.Errorf("total %+v in %d trees", sum, trees)
	}
	wrong := format.KeyInode(1)
	tx := m.begin()
	if err := tx.Delta(lk, &wrong, 1, 1); err != syscall.EINVAL {
		t.Errorf("delta of an inode: %v", err)
	}
	tx.Undo()
	m.close()
}

// TestItemSeq checks that an item's seq is the greatest of the transaction's,
// its lock's and the primary lock's.
func TestItemSeq(t *testing.T) {
	c := newCluster(t, newDisks(t))
	m := c.mount(options{})
	index := m.lock(lock.Index(format.TypeMetaSeq, 0), format.LockWriteOnly)
	primary := m.lock(lock.InodeGroup(0), format.LockWrite) // granted later
	key := format.KeyMetaSeq(3, 4)
	m.do(func(tx *txn.Tx) error { return tx.CreateForce(index, &key, nil, primary) })
	m.sync()
	lts := c.server.logTrees(t)
	if got := lts[len(lts)-1].MaxItemSeq; got != primary.WriteSeq() || got <= index.WriteSeq() {
		t.Errorf("item seq %d, locks' %d %d", got, index.WriteSeq(), primary.WriteSeq())
	}
	m.close()
}

// TestWrongLock checks that keys and modes that a lock does not allow fail.
func TestWrongLock(t *testing.T) {
	m := newMount(t, newDisks(t), options{})
	w := m.lock(lock.InodeGroup(0), format.LockWrite)
	wo := m.lock(lock.Orphans(), format.LockWriteOnly)
	in, out, orphan := format.KeyInode(5), format.KeyInode(5000), format.KeyOrphan(5)
	var buf [16]byte
	binary.LittleEndian.PutUint64(buf[:], 1)
	tx := m.begin()
	_, look := m.engine.Lookup(ctx, w, &out, buf[:])
	_, blind := m.engine.Lookup(ctx, wo, &orphan, buf[:])
	_, next := m.engine.Next(ctx, w, &out, nil, buf[:])
	for i, err := range []error{
		look, blind, next,
		tx.Create(w, &out, nil), tx.Create(wo, &orphan, nil), tx.CreateForce(w, &in, nil, nil),
		tx.DeleteForce(w, &in, nil), tx.Update(w, &out, nil), tx.Create(w, &in, make([]byte, format.MaxValue+1)),
	} {
		if err != syscall.EINVAL {
			t.Errorf("call %d: %v", i, err)
		}
	}
	tx.Undo()
	m.close()
}
