// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package volume

import (
	"math/rand/v2"
	"testing"

	"scoutfs/format"
)

// TestRefsModel compares the packed table with a map.
func TestRefsModel(t *testing.T) {
	seed := rand.Uint64()
	t.Log("seed", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	var r refs
	model := make(map[format.Ino]ref)
	put := func(ino format.Ino, e ref) {
		if e.n == 0 && !e.busy {
			delete(model, ino)
		} else {
			model[ino] = e
		}
	}
	for i := range 200000 {
		// One group fills up, others have few.
		ino := format.Ino(rng.IntN(2 * format.LockGroup))
		if ino >= format.LockGroup {
			ino = format.Ino(rng.IntN(64) * format.LockGroup * 17)
		}
		e := model[ino]
		switch k := rng.IntN(100); {
		case k < 45 && i/40000%2 == 0 || k < 20:
			nlink := uint32(rng.IntN(2))
			r.add(ino, nlink)
			e.n++
			e.gone = nlink == 0
		case k < 80:
			n := rng.Uint64N(3) + 1
			had := e.n > 0
			e.n -= min(n, e.n)
			if got, want := r.drop(ino, n), had && e.n == 0 && e.gone; got != want {
				t.Fatalf("drop of %d: last %t, want %t", ino, got, want)
			}
		case k < 85:
			e.gone = true
			if got := r.unlinked(ino); got != (e.n == 0) {
				t.Fatalf("unlinked %d: %t with %d references", ino, got, e.n)
			}
		case k < 90:
			want := e.n == 0 && !e.busy
			e.again = e.busy
			e.busy = e.busy || want
			if got := r.claim(ino); got != want {
				t.Fatalf("claim of %d: %t, want %t", ino, got, want)
			}
		case k < 95:
			if got := r.unclaim(ino); got != e.again {
				t.Fatalf("unclaim of %d: %t, want %t", ino, got, e.again)
			}
			e.busy, e.again = false, false
		default:
			for range 10000 * (k - 94) / 5 { // more than fits in a word
				if k < 99 || e.n > 20000 {
					break
				}
				r.add(ino, 1)
				e.n++
				e.gone = false
			}
		}
		put(ino, e)
		if got := r.used(ino); got != (e.n > 0) {
			t.Fatalf("used %d: %t with %d references", ino, got, e.n)
		}
	}
	for grp := range uint64(64 * 17) {
		bits := r.bits(grp)
		for i := range uint64(format.LockGroup) {
			want := model[format.Ino(grp*format.LockGroup+i)].n > 0
			if got := bits[i/64]>>(i%64)&1 != 0; got != want {
				t.Fatalf("group %d inode %d: %t, want %t", grp, i, got, want)
			}
		}
	}
	gone := 0
	for _, e := range model {
		if e.n > 0 && e.gone {
			gone++
		}
	}
	if got := len(r.dropAll()); got != gone {
		t.Errorf("%d inodes without a link, want %d", got, gone)
	}
	for ino, e := range model {
		if r.used(ino) {
			t.Fatalf("inode %d is used after dropAll", ino)
		}
		e.n = 0
		put(ino, e)
	}
	left := 0
	for i := range r.shards {
		for _, g := range r.shards[i].groups {
			left += g.n
		}
	}
	if left != len(model) {
		t.Errorf("%d entries are left, want %d", left, len(model))
	}
}
