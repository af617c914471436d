// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package btree_test

import (
	"fmt"
	"testing"

	"scoutfs/btree"
	"scoutfs/format"
)

// filled returns a committed tree of n items with values of size bytes.
func filled(t testing.TB, n, size int) *env {
	e := newEnv(t)
	i := 0
	_, err := e.tx.PutItems(&e.root, func() (*btree.Item, bool) {
		i++
		return &btree.Item{Key: *key(i), Val: value(i, size)}, i <= n
	})
	e.must(err)
	e.commit()
	return e
}

// TestReadsDoNotAllocate guards the hot path.
func TestReadsDoNotAllocate(t *testing.T) {
	e := filled(t, 3000, 100)
	buf := make([]byte, format.MaxValue)
	k, n := *key(0), 0
	for name, read := range map[string]func() (btree.Item, error){
		"lookup": func() (btree.Item, error) { return btree.Lookup(e.cache, &e.root, &k, buf) },
		"next":   func() (btree.Item, error) { return btree.Next(e.cache, &e.root, &k, buf) },
		"prev":   func() (btree.Item, error) { return btree.Prev(e.cache, &e.root, &k, buf) },
	} {
		allocs := testing.AllocsPerRun(200, func() {
			n = n%3000 + 1
			k = *key(n)
			if it, err := read(); err != nil || len(it.Val) != 100 {
				t.Fatal(it, err)
			}
		})
		if allocs != 0 {
			t.Errorf("%s: %v allocations", name, allocs)
		}
	}
}

// TestChangesDoNotAllocate is about changes of blocks that are dirty already.
func TestChangesDoNotAllocate(t *testing.T) {
	e := filled(t, 3000, 100)
	k, n, val := *key(0), 0, make([]byte, 100)
	for n < 3000 {
		n++
		e.must(e.tx.Dirty(&e.root, key(n)))
	}
	allocs := testing.AllocsPerRun(200, func() {
		n = n%3000 + 1
		k = *key(n)
		e.must(e.tx.Delete(&e.root, &k))
		e.must(e.tx.Insert(&e.root, &k, val))
		e.must(e.tx.Update(&e.root, &k, val))
	})
	if allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

func BenchmarkLookup(b *testing.B) {
	for _, n := range []int{200, 3000, 100000} {
		b.Run(fmt.Sprintf("items=%d", n), func(b *testing.B) {
			e := filled(b, n, 100)
			buf := make([]byte, format.MaxValue)
			i := 0
			b.ReportAllocs()
			for b.Loop() {
				i = (i + 7919) % n
				k := format.KeyInode(format.Ino(i + 1))
				if _, err := btree.Lookup(e.cache, &e.root, &k, buf); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkNext(b *testing.B) {
	e := filled(b, 100000, 100)
	buf := make([]byte, format.MaxValue)
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		i = (i + 7919) % 100000
		k := format.KeyInode(format.Ino(i + 1))
		if _, err := btree.Next(e.cache, &e.root, &k, buf); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkWalk(b *testing.B) {
	e := filled(b, 100000, 100)
	b.ReportAllocs()
	items := 0
	for b.Loop() {
		items = 0
		e.must(btree.Walk(e.cache, &e.root, &format.Key{}, &format.KeyMax, func(*btree.Item) error {
			items++
			return nil
		}))
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(items), "ns/item")
}

// BenchmarkInsert inserts at scattered keys.
func BenchmarkInsert(b *testing.B) {
	e := newEnv(b)
	val := make([]byte, 100)
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		if i%100000 == 0 {
			b.StopTimer()
			e = newEnv(b)
			b.StartTimer()
		}
		i++
		k := format.KeyInode(format.Ino(i * 7919 % 100003))
		if err := e.tx.Insert(&e.root, &k, val); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkPutItems writes ascending runs; the unit is one item.
func BenchmarkPutItems(b *testing.B) {
	for _, order := range []string{"ascending", "overwrite"} {
		b.Run("order="+order, func(b *testing.B) {
			const run = 50000
			e := filled(b, run, 100)
			it := btree.Item{Val: make([]byte, 100)}
			b.ReportAllocs()
			for b.Loop() {
				if order == "ascending" {
					b.StopTimer()
					e = newEnv(b)
					b.StartTimer()
				}
				n := 0
				_, err := e.tx.PutItems(&e.root, func() (*btree.Item, bool) {
					n++
					it.Key = format.KeyInode(format.Ino(n))
					return &it, n <= run
				})
				e.must(err)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/run, "ns/item")
		})
	}
}

func BenchmarkVerifyBlock(b *testing.B) {
	e := filled(b, 240, 100)
	buf := alignedCopy(e.blockBytes(e.root.Ref))
	b.ReportAllocs()
	for b.Loop() {
		if err := btree.VerifyBlock(buf); err != nil {
			b.Fatal(err)
		}
	}
}
