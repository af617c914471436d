// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package alloc_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"scoutfs/alloc"
	"scoutfs/btree"
	"scoutfs/format"
)

// span is an extent in expectations.
type span struct{ Start, N uint64 }

func spans(t *testing.T, w *world, root *format.AllocRoot) (out []span) {
	t.Helper()
	must(t, alloc.WalkExtents(w.tx, root, func(start format.Blkno, n uint64) error {
		out = append(out, span{uint64(start), n})
		return nil
	}))
	return out
}

func TestInsertMerges(t *testing.T) {
	for _, c := range []struct {
		name   string
		insert []span
		want   []span
		bad    bool
	}{
		{"single", []span{{100, 1}}, []span{{100, 1}}, false},
		{"nothing", []span{{100, 0}}, nil, false},
		{"apart", []span{{100, 1}, {102, 3}}, []span{{100, 1}, {102, 3}}, false},
		{"left", []span{{100, 10}, {110, 5}}, []span{{100, 15}}, false},
		{"right", []span{{100, 10}, {90, 10}}, []span{{90, 20}}, false},
		{"both", []span{{100, 10}, {120, 10}, {110, 10}}, []span{{100, 30}}, false},
		{"least block", []span{{2, 1}, {3, 1}}, []span{{2, 2}}, false},
		{"double", []span{{100, 10}, {100, 10}}, []span{{100, 10}}, true},
		{"inside", []span{{100, 10}, {105, 1}}, []span{{100, 10}}, true},
		{"around", []span{{100, 10}, {90, 30}}, []span{{100, 10}}, true},
		{"over the left end", []span{{100, 10}, {95, 6}}, []span{{100, 10}}, true},
		{"over the right end", []span{{100, 10}, {109, 6}}, []span{{100, 10}}, true},
		{"touching left, overlapping right", []span{{100, 10}, {115, 5}, {110, 6}}, []span{{100, 10}, {115, 5}}, true},
		{"reserved", []span{{1, 4}}, nil, true},
		{"wrapping", []span{{1 << 63, 1<<63 + 1}}, nil, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, 3000, 1024, nil)
			var root format.AllocRoot
			var err error
			for _, x := range c.insert {
				err = alloc.InsertExtent(w.tx, &root, format.Blkno(x.Start), x.N)
			}
			var ce *format.CorruptError
			if errors.As(err, &ce) != c.bad || err != nil && !c.bad {
				t.Errorf("error %v", err)
			}
			if d := cmp.Diff(c.want, spans(t, w, &root)); d != "" {
				t.Error(d)
			}
			var total uint64
			for _, x := range c.want {
				total += x.N
			}
			if root.TotalLen != total {
				t.Errorf("total %d, want %d", root.TotalLen, total)
			}
		})
	}
}

func TestRemove(t *testing.T) {
	w := newWorld(t, 3000, 1024, nil)
	var root format.AllocRoot
	must(t, alloc.InsertExtent(w.tx, &root, 100, 100))
	must(t, alloc.RemoveExtent(w.tx, &root, 150, 10))
	must(t, alloc.RemoveExtent(w.tx, &root, 100, 1))
	must(t, alloc.RemoveExtent(w.tx, &root, 199, 1))
	want := []span{{101, 49}, {160, 39}}
	for _, x := range []span{{99, 1}, {100, 2}, {149, 2}, {150, 1}, {155, 10}, {198, 2}, {500, 1}} {
		var ce *format.CorruptError
		if err := alloc.RemoveExtent(w.tx, &root, format.Blkno(x.Start), x.N); !errors.As(err, &ce) {
			t.Errorf("removing %v: %v", x, err)
		}
	}
	if d := cmp.Diff(want, spans(t, w, &root)); d != "" {
		t.Error(d)
	}
}

// TestTakeOrder takes from the largest class first, the lowest position within
// a class first, from the front of the extent.
func TestTakeOrder(t *testing.T) {
	w := newWorld(t, 3000, 1024, nil)
	var root format.AllocRoot
	for _, x := range []span{{100, 3}, {200, 70}, {300, 7}, {400, 9}, {500, 511}} {
		must(t, alloc.InsertExtent(w.tx, &root, format.Blkno(x.Start), x.N))
	}
	var got []span
	for root.TotalLen > 0 {
		start, n, err := alloc.TakeExtent(w.tx, &root, 300)
		must(t, err)
		got = append(got, span{uint64(start), n})
	}
	// 511 blocks are of the class of 70, but end later.
	want := []span{{200, 70}, {500, 300}, {800, 211}, {400, 9}, {100, 3}, {300, 7}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if _, _, err := alloc.TakeExtent(w.tx, &root, 1); !errors.Is(err, alloc.ErrNoSpace) {
		t.Errorf("from an empty tree: %v", err)
	}
	if root.Root.Height != 0 {
		t.Errorf("empty tree has height %d", root.Root.Height)
	}
}

// TestCorruptTrees makes sure that trees whose items contradict each other are
// reported.
func TestCorruptTrees(t *testing.T) {
	for name, keys := range map[string][]format.Key{
		"no order item":   {format.KeyFreeBlkno(100, 10)},
		"no blkno item":   {format.KeyFreeOrder(100, 10)},
		"no length":       {{Zone: format.ZoneFreeOrder, First: ^uint64(0), Second: 100}},
		"before zero":     {{Zone: format.ZoneFreeOrder, First: ^uint64(1), Second: 5, Third: 10}},
		"wrong class":     {{Zone: format.ZoneFreeOrder, First: ^uint64(4), Second: 109, Third: 10}},
		"only a total":    nil,
		"total too small": {format.KeyFreeBlkno(100, 20), format.KeyFreeOrder(100, 20)},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 3000, 1024, nil)
			root := format.AllocRoot{TotalLen: 10}
			for _, k := range keys {
				must(t, w.tx.Insert(&root.Root, &k, nil))
			}
			before := root
			_, _, err := alloc.TakeExtent(w.tx, &root, 20)
			var ce *format.CorruptError
			if !errors.As(err, &ce) || alloc.IsBroken(err) {
				t.Errorf("taking: %v", err)
			}
			if root.TotalLen != before.TotalLen {
				t.Errorf("total changed to %d", root.TotalLen)
			}
			if root.TotalLen >= 10 && len(keys) == 2 {
				return // a part of it can be moved
			}
			var other format.AllocRoot
			must(t, alloc.InsertExtent(w.tx, &other, 1000, 1))
			if _, _, err := alloc.MoveExtents(w.tx, &other, &root, alloc.MoveOptions{}); !errors.As(err, &ce) {
				t.Errorf("moving: %v", err)
			}
		})
	}
}

// everySecond is the worst fragmentation.
func everySecond(n int) func(at format.Blkno) []format.Blkno {
	return func(at format.Blkno) (out []format.Blkno) {
		for i := range n {
			out = append(out, at+format.Blkno(2*i))
		}
		return out
	}
}

// TestFragmentedMoves moves single blocks between trees: that takes more
// calls, each within its budget, and never an error.
func TestFragmentedMoves(t *testing.T) {
	const n = 12000
	w := newWorld(t, 1600+2*n, 1024, everySecond(n))
	w.s.meta[0], w.s.meta[1] = w.s.meta[1], w.s.meta[0]
	w.stable = w.now()
	// The server's own lists have to live off the other tree.
	src := &w.s.meta[1]
	var spare []format.Blkno
	for range 6000 {
		start, _, err := alloc.TakeExtent(&btree.Tx{Cache: w.c, Writer: w.w, Alloc: w.pair}, src, 1)
		must(t, err)
		spare = append(spare, start)
		if avail, freed := w.pair.Room(); min(avail, freed) < 300 {
			break
		}
	}
	for _, b := range spare {
		must(t, w.pair.FreeBlock(b))
	}
	calls := 0
	for {
		avail, freed := w.pair.Room()
		before := min(avail, freed)
		if before < 500 {
			t.Logf("room %d, %d after %d calls", avail, freed, calls)
			break
		}
		moved, done, err := alloc.MoveExtents(w.tx, &w.s.meta[0], src, alloc.MoveOptions{Budget: 250})
		must(t, err)
		avail, freed = w.pair.Room()
		if used := before - min(avail, freed); used > 250 {
			t.Fatalf("a move used %d blocks", used)
		}
		if moved == 0 {
			t.Fatal("a move got nowhere")
		}
		calls++
		if done {
			break
		}
	}
	if src.TotalLen != 0 {
		t.Fatalf("%d blocks are left", src.TotalLen)
	}
	w.audit(w.c, w.now())
}

// TestMoveWhole hands a tree over without touching a block.
func TestMoveWhole(t *testing.T) {
	w := newWorld(t, 3000, 1024, nil)
	want := w.s.meta[0]
	before, _ := w.pair.Room()
	moved, done, err := alloc.MoveExtents(w.tx, &w.s.meta[1], &w.s.meta[0], alloc.MoveOptions{})
	must(t, err)
	after, _ := w.pair.Room()
	if !done || moved != want.TotalLen || w.s.meta[1] != want || w.s.meta[0].TotalLen != 0 || before != after {
		t.Errorf("moved %d, done %v: %+v", moved, done, w.s.meta)
	}
}

func TestMoveZones(t *testing.T) {
	for _, c := range []struct {
		name   string
		total  uint64
		prefer [][]uint64
		want   []span
	}{
		{"one zone", 50, [][]uint64{{3}}, []span{{300, 50}}},
		{"all of a zone, then the largest", 150, [][]uint64{{3}}, []span{{300, 150}}},
		{"all of a zone, then the largest before it", 150, [][]uint64{{8}}, []span{{100, 50}, {800, 100}}},
		{"second choice", 120, [][]uint64{{3}, {7}}, []span{{300, 100}, {700, 20}}},
		{"neighbouring zones", 150, [][]uint64{{5, 6}}, []span{{500, 150}}},
		{"nothing there", 10, [][]uint64{{50}}, []span{{100, 10}}},
		{"empty set", 10, [][]uint64{{}}, []span{{100, 10}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, 3000, 1024, nil)
			var src, dst format.AllocRoot
			must(t, alloc.InsertExtent(w.tx, &src, 100, 900))
			o := alloc.MoveOptions{Total: c.total, Zones: alloc.Zones{Blocks: 100}}
			for _, zs := range c.prefer {
				var set alloc.ZoneSet
				for _, z := range zs {
					set.Add(z)
				}
				o.Zones.Prefer = append(o.Zones.Prefer, set)
			}
			moved, done, err := alloc.MoveExtents(w.tx, &dst, &src, o)
			must(t, err)
			if moved != c.total || !done {
				t.Errorf("moved %d, done %v", moved, done)
			}
			if d := cmp.Diff(c.want, spans(t, w, &dst)); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestZoneSet(t *testing.T) {
	var s alloc.ZoneSet
	s.AddExtent(100, 250, 151)
	for z := range uint64(1100) {
		if want := z >= 2 && z <= 4; s.Has(z) != want {
			t.Errorf("zone %d: %v", z, !want)
		}
	}
	s.AddExtent(1, 1<<40, 1<<40) // beyond the last zone
	s.AddExtent(1, 1020, 1<<40)
	if !s.Has(1023) || s.Has(1024) {
		t.Error("end of the map")
	}
}
