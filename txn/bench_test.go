// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package txn_test

import (
	"fmt"
	"testing"

	"scoutfs/format"
	"scoutfs/lock"
	"scoutfs/txn"
)

// TestAllocations checks that reads that hit and operations allocate nothing.
func TestAllocations(t *testing.T) {
	m := newMount(t, newDisks(t), options{})
	lk := m.lock(lock.InodeGroup(0), format.LockWrite)
	val, buf := make([]byte, 168), make([]byte, 168)
	for i := range uint64(1000) {
		key := format.KeyInode(format.Ino(i + 2))
		m.do(func(tx *txn.Tx) error { return tx.Create(lk, &key, val) })
	}
	m.sync()
	n := uint64(0)
	lookup := testing.AllocsPerRun(500, func() {
		n++
		key := format.KeyInode(format.Ino(2 + n%1000))
		if _, err := m.engine.Lookup(ctx, lk, &key, buf); err != nil {
			t.Fatal(err)
		}
	})
	next := testing.AllocsPerRun(500, func() {
		n++
		key := format.KeyInode(format.Ino(2 + n%1000))
		if _, err := m.engine.Next(ctx, lk, &key, nil, buf); err != nil {
			t.Fatal(err)
		}
	})
	var tx txn.Tx
	update := testing.AllocsPerRun(500, func() {
		n++
		key := format.KeyInode(format.Ino(2 + n%1000))
		if err := m.engine.BeginIn(ctx, txn.Allocating, &tx); err != nil {
			t.Fatal(err)
		}
		defer tx.Undo()
		if err := tx.Update(lk, &key, val); err != nil {
			t.Fatal(err)
		}
		tx.Done()
	})
	if lookup != 0 || next != 0 || update != 0 {
		t.Errorf("allocations: lookup %v, next %v, operation with an update %v", lookup, next, update)
	}
	m.close()
}

func BenchmarkLookup(b *testing.B) {
	m := newMount(b, newDisks(b), options{})
	lk := m.lock(lock.InodeGroup(0), format.LockWrite)
	val, buf := make([]byte, 168), make([]byte, 168)
	for i := range uint64(1000) {
		key := format.KeyInode(format.Ino(i + 2))
		m.do(func(tx *txn.Tx) error { return tx.Create(lk, &key, val) })
	}
	b.ReportAllocs()
	for i := uint64(0); b.Loop(); i++ {
		key := format.KeyInode(format.Ino(2 + i*7%1000))
		if _, err := m.engine.Lookup(ctx, lk, &key, buf); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	m.closeOnly()
}

// BenchmarkOperation makes a file's items in one Tx: inode, entries, index.
func BenchmarkOperation(b *testing.B) {
	m := newMount(b, newDisks(b), options{})
	dir := m.lock(lock.InodeGroup(0), format.LockWrite)
	index := m.lock(lock.Index(format.TypeMetaSeq, 0), format.LockWriteOnly)
	inode, entry := make([]byte, 168), make([]byte, 45)
	var group *lock.Lock
	b.ReportAllocs()
	for i := uint64(0); b.Loop(); i++ {
		ino := format.Ino(1024 + i)
		if group == nil || i%1024 == 0 {
			group = m.lock(lock.InodeGroup(ino), format.LockWrite)
		}
		tx := m.begin()
		ik, dk := format.KeyInode(ino), format.KeyDirent(1, i*0x9e3779b97f4a7c15, i)
		rk, bk := format.KeyReaddir(1, i), format.KeyBackref(ino, 1, i)
		xk := format.KeyMetaSeq(1, ino)
		for _, err := range [...]error{
			tx.Create(group, &ik, inode), tx.Create(dir, &dk, entry), tx.Create(dir, &rk, entry),
			tx.Create(group, &bk, entry), tx.CreateForce(index, &xk, nil, group),
		} {
			if err != nil {
				b.Fatal(err)
			}
		}
		tx.Done()
	}
	b.StopTimer()
	m.closeOnly()
}

// BenchmarkCommit commits items: dirty in the cache to durable in memory.
func BenchmarkCommit(b *testing.B) {
	for _, items := range []int{1, 10000} {
		b.Run(fmt.Sprint("items=", items), func(b *testing.B) {
			m := newMount(b, newDisks(b), options{})
			lk := m.lock(lock.InodeGroup(0), format.LockWrite)
			val := make([]byte, 100)
			n := uint64(0)
			for b.Loop() {
				b.StopTimer()
				for range items {
					n++
					key := format.KeyReaddir(format.Ino(2+n/5000), n)
					m.do(func(tx *txn.Tx) error { return tx.Create(lk, &key, val) })
				}
				b.StartTimer()
				m.sync()
			}
			b.StopTimer()
			m.closeOnly()
		})
	}
}

// BenchmarkLoad reads items that are not cached.
func BenchmarkLoad(b *testing.B) {
	m := newMount(b, newDisks(b), options{})
	lk := m.lock(lock.InodeGroup(0), format.LockWrite)
	val := make([]byte, 168)
	for i := range uint64(1000) {
		key := format.KeyInode(format.Ino(i + 2))
		m.do(func(tx *txn.Tx) error { return tx.Create(lk, &key, val) })
	}
	m.sync()
	b.ReportAllocs()
	for i := uint64(0); b.Loop(); i++ {
		if err := m.engine.Revoke(lk, format.LockRead, format.LockNull, 0); err != nil {
			b.Fatal(err)
		}
		key := format.KeyInode(format.Ino(2 + i%1000))
		if _, err := m.engine.Lookup(ctx, lk, &key, val); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	m.closeOnly()
}
