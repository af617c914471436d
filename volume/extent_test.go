// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package volume

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sort"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"scoutfs/format"
	"scoutfs/lock"
)

// fakeItems is a sorted list of items.
type fakeItems struct {
	keys []format.Key
	vals map[format.Key]string
}

func newFakeItems() *fakeItems { return &fakeItems{vals: map[format.Key]string{}} }

func (f *fakeItems) find(key *format.Key) int {
	return sort.Search(len(f.keys), func(i int) bool { return !f.keys[i].Less(key) })
}

func (f *fakeItems) Next(_ context.Context, _ *lock.Lock, key, last *format.Key, buf []byte) (int, error) {
	i := f.find(key)
	if i == len(f.keys) || last.Less(&f.keys[i]) {
		return 0, syscall.ENOENT
	}
	*key = f.keys[i]
	v := f.vals[*key]
	copy(buf, v)
	return len(v), nil
}

func (f *fakeItems) Create(_ *lock.Lock, key *format.Key, val []byte) error {
	if _, ok := f.vals[*key]; ok {
		return syscall.EEXIST
	}
	f.keys = slices.Insert(f.keys, f.find(key), *key)
	f.vals[*key] = string(val)
	return nil
}

func (f *fakeItems) Update(_ *lock.Lock, key *format.Key, val []byte) error {
	if _, ok := f.vals[*key]; !ok {
		return syscall.ENOENT
	}
	f.vals[*key] = string(val)
	return nil
}

func (f *fakeItems) Delete(_ *lock.Lock, key *format.Key) error {
	if _, ok := f.vals[*key]; !ok {
		return syscall.ENOENT
	}
	i := f.find(key)
	f.keys = slices.Delete(f.keys, i, i+1)
	delete(f.vals, *key)
	return nil
}

// blockMap is the second implementation: what every single block is.
type blockMap [400]struct {
	blkno format.Blkno
	flags uint8
}

// extents gives the fewest extents that say the same.
func (m *blockMap) extents() []Extent {
	var out []Extent
	for i, b := range m {
		if b.blkno == 0 && b.flags == 0 {
			continue
		}
		e := Extent{Iblock: uint64(i), Blocks: 1, Blkno: b.blkno, Flags: b.flags}
		if n := len(out); n > 0 && mergeable(&out[n-1], &e) {
			out[n-1].Blocks++
		} else {
			out = append(out, e)
		}
	}
	return out
}

// uniform reports whether set may change the blocks: all hole, or one extent.
func (m *blockMap) uniform(from, n uint64) bool {
	hole := true
	for b := from; b < from+n; b++ {
		hole = hole && m[b].blkno == 0 && m[b].flags == 0
	}
	if hole {
		return true
	}
	for _, e := range m.extents() {
		if e.Iblock <= from && e.end() >= from+n {
			return true
		}
	}
	return false
}

func loadAll(t *testing.T, o *op, f *fakeItems) []Extent {
	t.Helper()
	var w window
	if err := o.load(&w, f, nil, 7, 0, format.MaxIblock+1, 1<<30); err != nil {
		t.Fatal(err)
	}
	return w.old
}

func TestWindowAgainstBlockMap(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	o := &op{c: &Caller{}}
	f := newFakeItems()
	// Neighbours that belong to other inodes or kinds must never be seen.
	for _, k := range []format.Key{format.KeyInode(7), format.KeyExtent(6, 10, 5), format.KeyExtent(8, 0, 1), format.KeySymlink(7, 0)} {
		if err := f.Create(nil, &k, nil); err != nil {
			t.Fatal(err)
		}
	}
	foreign := len(f.keys)
	var m blockMap
	var online, offline uint64
	kinds := []Extent{{}, {Blkno: 1}, {Blkno: 1, Flags: format.ExtentUnwritten}, {Flags: format.ExtentOffline}, {Blkno: 1, Flags: format.ExtentOffline | format.ExtentUnwritten}}
	for step := range 20000 {
		x := kinds[rng.IntN(len(kinds))]
		x.Iblock = rng.Uint64N(uint64(len(m)) - 20)
		x.Blocks = 1 + rng.Uint64N(20)
		if x.Blkno != 0 { // often next to what is there
			x.Blkno = format.Blkno(1000*(1+rng.Uint64N(2)) + x.Iblock)
		}
		var w window
		if err := o.load(&w, f, nil, 7, x.Iblock, x.end(), 3+rng.IntN(30)); err != nil {
			t.Fatal(err)
		}
		if w.to < x.end() {
			continue // limited
		}
		err := w.set(x)
		if ok := m.uniform(x.Iblock, x.Blocks); ok != (err == nil) {
			t.Fatalf("step %d: set %+v: %v, uniform %v\n%+v", step, x, err, ok, m.extents())
		}
		if err != nil {
			if !errors.Is(err, syscall.EINVAL) {
				t.Fatal(err)
			}
			continue
		}
		if err := o.store(&w, f, nil, 7); err != nil {
			t.Fatalf("step %d: store: %v", step, err)
		}
		on, off := w.counts()
		online, offline = online+on, offline+off
		for i := uint64(0); i < x.Blocks; i++ {
			b := &m[x.Iblock+i]
			b.blkno, b.flags = 0, x.Flags
			if x.Blkno != 0 {
				b.blkno = x.Blkno + format.Blkno(i)
			}
		}
		if d := cmp.Diff(m.extents(), loadAll(t, o, f)); d != "" {
			t.Fatalf("step %d: after %+v:\n%s", step, x, d)
		}
		var wantOn, wantOff uint64
		for _, e := range m.extents() {
			wantOn, wantOff = wantOn+e.online(), wantOff+e.offline()
		}
		if online != wantOn || offline != wantOff {
			t.Fatalf("step %d: counts %d %d, want %d %d", step, online, offline, wantOn, wantOff)
		}
	}
	if n := len(f.keys) - len(m.extents()); n != foreign {
		t.Errorf("%d foreign items, want %d", n, foreign)
	}
}

func TestDecodeExtentRefusesNonsense(t *testing.T) {
	val := func(blkno format.Blkno, flags uint8) []byte {
		e := format.Extent{Blkno: blkno, Flags: flags}
		return append([]byte(nil), format.Bytes(&e)...)
	}
	for _, tc := range []struct {
		name string
		key  format.Key
		val  []byte
		ok   bool
	}{
		{"written", format.KeyExtent(1, 9, 10), val(7, 0), true},
		{"offline", format.KeyExtent(1, 9, 1), val(0, 1), true},
		{"no length", format.KeyExtent(1, 9, 0), val(7, 0), false},
		{"before zero", format.KeyExtent(1, 9, 11), val(7, 0), false},
		{"too far", format.KeyExtent(1, format.MaxIblock+1, 1), val(7, 0), false},
		{"nothing", format.KeyExtent(1, 9, 1), val(0, 0), false},
		{"unwritten without blocks", format.KeyExtent(1, 9, 1), val(0, 2), false},
		{"unknown flag", format.KeyExtent(1, 9, 1), val(7, 4), false},
		{"short", format.KeyExtent(1, 9, 1), val(7, 0)[:15], false},
	} {
		if _, err := decodeExtent(&tc.key, tc.val); (err == nil) != tc.ok {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
}
