// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package block

import (
	"runtime"
	"testing"

	"scoutfs/format"
)

func TestAlignedBuf(t *testing.T) {
	seen := map[uintptr]bool{}
	var bufs [][]byte
	for _, n := range []int{1, 4096, 4097, 8192, 65535, 65536, 65537, 1 << 20, 1<<20 + 1, 3 << 20} {
		for range 3 {
			b := AlignedBuf(n)
			if len(b) != n || cap(b)%format.SmallSize != 0 || !aligned(b) || n >= format.LargeSize && address(b)%format.LargeSize != 0 {
				t.Fatalf("%d bytes: length %d, capacity %d, address %x", n, len(b), cap(b), address(b))
			}
			for at := 0; at < cap(b); at += format.SmallSize {
				page := address(b) + uintptr(at)
				if seen[page] {
					t.Fatalf("%d bytes: page %x is in two buffers", n, page)
				}
				seen[page] = true
			}
			b[0], b[n-1] = 1, 2
			if inSlab := theArena.slabOf(b) >= 0; inSlab != (n <= 1<<20) {
				t.Errorf("%d bytes: in a slab %t", n, inSlab)
			}
			bufs = append(bufs, b)
		}
	}
	for _, b := range bufs {
		FreeBuf(b[:1])
	}
	FreeBuf(nil)
}

func TestClassOf(t *testing.T) {
	for n, want := range map[int]int{0: 0, 1: 0, 4096: 0, 4097: 1, 8192: 1, 8193: 2, 65536: 4, 1<<20 - 1: 8, 1 << 20: 8} {
		if got := classOf(n); got != want {
			t.Errorf("classOf(%d) = %d, expected %d", n, got, want)
		}
	}
}

// TestSlabs grows an arena of its own.
func TestSlabs(t *testing.T) {
	var a arena
	var sizes []int
	a.watch(func(mem []byte) { sizes = append(sizes, len(mem)) })
	var bufs [][]byte
	for range 40 {
		bufs = append(bufs, a.get(classes-1))
	}
	want := []int{1 << 20, 1 << 20, 2 << 20, 4 << 20, 8 << 20, 16 << 20, 32 << 20}
	if len(sizes) != len(want) {
		t.Fatalf("slabs %v", sizes)
	}
	for i := range want {
		if sizes[i] != want[i] {
			t.Fatalf("slabs %v", sizes)
		}
	}
	late := 0
	a.watch(func([]byte) { late++ })
	if late != len(want) {
		t.Errorf("a late watcher saw %d slabs", late)
	}
	for _, b := range bufs {
		a.put(b)
	}
	for range 64 {
		a.get(classes - 1)
	}
	if a.total != 64<<20 {
		t.Errorf("%d bytes of slabs", a.total)
	}
}

// zeros is a device of zeros.
type zeros struct{ Device }

func (zeros) Size() int64 { return 1 << 30 }

// allFree reports whether the arena has all buffers at these addresses back.
func allFree(want map[uintptr]bool) bool {
	l := &theArena.classes[classOf(format.LargeSize)]
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, b := range l.bufs {
		if want[address(b)] {
			n++
		}
	}
	return n == len(want)
}

// TestFramesOfDeadCache checks that memory comes back from a cache that nobody
// closed.
func TestFramesOfDeadCache(t *testing.T) {
	frames := map[uintptr]bool{}
	func() {
		w := NewCache(zeros{}, CacheOptions{}).NewWriter()
		for i := range 20 {
			b := w.New(format.Blkno(2+i), &Kind{Magic: format.MagicBtree})
			frames[address(b.Bytes())] = true
			b.Release()
		}
		if len(frames) != 20 || allFree(frames) {
			t.Fatal("frames are free while they are in use")
		}
	}()
	for range 100 {
		runtime.GC()
		if allFree(frames) {
			return
		}
		runtime.Gosched()
	}
	t.Error("the frames did not come back")
}
