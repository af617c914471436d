// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package alloc_test

import (
	"errors"
	"math/rand/v2"
	"syscall"
	"testing"

	"scoutfs/alloc"
	"scoutfs/format"
)

func dataWorld(t *testing.T, xs ...span) (*world, *alloc.Data) {
	w := newWorld(t, 3000, 1024, nil)
	var avail format.AllocRoot
	for _, x := range xs {
		must(t, alloc.InsertExtent(w.tx, &avail, format.Blkno(x.Start), x.N))
	}
	return w, alloc.NewData(avail, format.AllocRoot{})
}

func TestDataChunks(t *testing.T) {
	w, d := dataWorld(t, span{64, 100000})
	got := func(want uint64) span {
		start, n, err := d.Alloc(w.tx, want)
		must(t, err)
		return span{uint64(start), n}
	}
	for i, c := range []struct {
		want uint64
		get  span
	}{
		{1, span{64, 1}}, {10, span{65, 10}},
		{2048, span{64 + 2048, 2048}}, // not from the cached extent
		{5000, span{64 + 4096, 5000}},
		{2047, span{75, 2037}}, // the rest of the cached extent
		{3, span{64 + 9096, 3}},
	} {
		if g := got(c.want); g != c.get {
			t.Errorf("%d: %v, want %v", i, g, c.get)
		}
	}
	if got, want := d.TotalAvail(), uint64(100000-4096-5000-3); got != want {
		t.Errorf("available %d, want %d", got, want)
	}
	must(t, d.Return(w.tx))
	avail, _ := d.Roots()
	if got, want := avail.TotalLen, d.TotalAvail(); got != want {
		t.Errorf("tree has %d, want %d", got, want)
	}
	if s := spans(t, w, &avail); len(s) != 1 || s[0] != (span{64 + 9099, 100064 - 9163}) {
		t.Errorf("tree is %v", s)
	}
}

func TestDataEmpty(t *testing.T) {
	w, d := dataWorld(t, span{64, 10})
	for range 10 {
		_, _, err := d.Alloc(w.tx, 1)
		must(t, err)
	}
	for _, want := range []uint64{1, 5000} {
		if _, _, err := d.Alloc(w.tx, want); !errors.Is(err, alloc.ErrAgain) || !errors.Is(err, syscall.ENOBUFS) {
			t.Errorf("%d blocks of none: %v", want, err)
		}
	}
	d = alloc.NewData(format.AllocRoot{Flags: format.AllocFlagLow}, format.AllocRoot{})
	if _, _, err := d.Alloc(w.tx, 1); !errors.Is(err, alloc.ErrNoSpace) {
		t.Errorf("low: %v", err)
	}
}

// TestDataLast asks for much when only a part of the cached extent is left.
func TestDataLast(t *testing.T) {
	w, d := dataWorld(t, span{64, 2048})
	for _, c := range []struct{ want, get uint64 }{{1, 1}, {5000, 2047}} {
		if _, n, err := d.Alloc(w.tx, c.want); err != nil || n != c.get {
			t.Errorf("%d: %d blocks, want %d: %v", c.want, n, c.get, err)
		}
	}
	if _, _, err := d.Alloc(w.tx, 5000); !errors.Is(err, alloc.ErrAgain) {
		t.Errorf("of none: %v", err)
	}
}

// TestDataModel allocates, frees and takes back at random: each block is in
// one place, and what was freed is not allocated again before the next
// transaction.
func TestDataModel(t *testing.T) {
	for seed := range uint64(10) {
		r := rand.New(rand.NewPCG(seed, 7))
		t.Logf("seed %d", seed)
		const total = 20000
		w, d := dataWorld(t, span{64, total})
		used, freed := map[uint64]bool{}, map[uint64]bool{}
		avail := uint64(total)
		alloced := func(want uint64) (uint64, uint64) {
			start, n, err := d.Alloc(w.tx, want)
			if errors.Is(err, alloc.ErrAgain) {
				return 0, 0
			}
			must(t, err)
			if n == 0 || n > want {
				t.Fatalf("%d blocks for %d", n, want)
			}
			for b := uint64(start); b < uint64(start)+n; b++ {
				if used[b] || freed[b] || b < 64 || b >= 64+total {
					t.Fatalf("block %d allocated again", b)
				}
				used[b] = true
			}
			avail -= n
			return uint64(start), n
		}
		for range 400 {
			if room, _ := w.pair.Room(); room < 100 {
				w.commit()
			}
			switch r.IntN(5) {
			case 0, 1:
				alloced(uint64(r.IntN(100) + 1))
			case 2:
				start, n := alloced(uint64(r.IntN(4000) + 1))
				if n > 0 && r.IntN(2) == 0 {
					d.Unalloc(format.Blkno(start), n)
					avail += n
					for b := start; b < start+n; b++ {
						delete(used, b)
					}
				}
			case 3:
				for b := range used {
					must(t, d.Free(w.tx, format.Blkno(b), 1))
					delete(used, b)
					freed[b] = true
					if r.IntN(2) == 0 {
						must(t, d.Unfree(w.tx, format.Blkno(b), 1))
						delete(freed, b)
						used[b] = true
					}
					break
				}
			case 4:
				if r.IntN(10) == 0 {
					must(t, d.Return(w.tx))
					a, f := d.Roots()
					avail += f.TotalLen
					_, done, err := alloc.MoveExtents(w.tx, &a, &f, alloc.MoveOptions{})
					must(t, err)
					if !done {
						t.Fatal("not all moved")
					}
					d.Reset(a, f)
					clear(freed)
				}
			}
			if d.TotalAvail() != avail {
				t.Fatalf("available %d, want %d", d.TotalAvail(), avail)
			}
		}
		must(t, d.Return(w.tx))
		a, f := d.Roots()
		seen := map[uint64]bool{}
		for _, root := range []*format.AllocRoot{&a, &f} {
			for _, x := range spans(t, w, root) {
				for b := x.Start; b < x.Start+x.N; b++ {
					if seen[b] || used[b] {
						t.Fatalf("block %d is in two places", b)
					}
					seen[b] = true
				}
			}
		}
		if len(seen)+len(used) != total {
			t.Fatalf("%d blocks are free and %d used, of %d", len(seen), len(used), total)
		}
	}
}
