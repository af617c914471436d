// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package block

import (
	"math/rand/v2"
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
	sum := 0
	for _, size := range sizes {
		if size < 1<<20 || size > max(sum/slabPart, 1<<20) {
			t.Fatalf("slabs %v", sizes)
		}
		sum += size
	}
	late := 0
	a.watch(func([]byte) { late++ })
	if late != len(sizes) {
		t.Errorf("a late watcher saw %d slabs", late)
	}
	for _, b := range bufs {
		a.put(b)
	}
	for range 64 {
		a.get(classes - 1)
	}
	if a.total < 64<<20 || a.total > 72<<20 {
		t.Errorf("%d bytes of slabs for 64 MiB of buffers", a.total)
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
	free := make(map[uintptr]bool)
	for _, c := range l.usable {
		for _, b := range c.free {
			free[address(b)] = true
		}
	}
	for at := range want {
		if !free[at] && l.chunks[at&^(1<<chunkShift-1)] != nil {
			return false
		}
	}
	return true
}

// TestChunksMove shifts the use of an arena from one size to the next: the
// memory goes with it.
func TestChunksMove(t *testing.T) {
	var a arena
	const total = 16 << 20
	for class := range classes {
		var bufs [][]byte
		for range total >> (class + format.SmallShift) {
			b := a.get(class)
			b[0], b[len(b)-1] = byte(class), byte(class)
			bufs = append(bufs, b)
		}
		rand.Shuffle(len(bufs), func(i, j int) { bufs[i], bufs[j] = bufs[j], bufs[i] })
		for _, b := range bufs {
			if b[0] != byte(class) || b[len(b)-1] != byte(class) {
				t.Fatalf("class %d: a buffer was used twice", class)
			}
			a.put(b)
		}
	}
	if most := total + total/slabPart + 1<<chunkShift; a.total > most {
		t.Errorf("%d bytes of slabs for %d in use", a.total, total)
	}
	for i := range a.classes {
		if l := &a.classes[i]; l.whole > keepWhole || len(l.usable) != l.whole || len(l.chunks) != l.whole {
			t.Errorf("class %d: %d whole, %d usable of %d chunks", i, l.whole, len(l.usable), len(l.chunks))
		}
	}
}

// TestArenaModel gets and puts buffers of all sizes at random.
func TestArenaModel(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	var a arena
	owner := make(map[uintptr]bool) // pages in use
	var bufs [][]byte
	for range 2000 {
		if len(bufs) == 0 || len(bufs) < 200 && r.IntN(2) == 0 {
			b := a.get(r.IntN(classes))
			for at := 0; at < len(b); at += format.SmallSize {
				page := address(b) + uintptr(at)
				if owner[page] {
					t.Fatal("a page is in two buffers")
				}
				owner[page] = true
			}
			bufs = append(bufs, b)
			continue
		}
		i := r.IntN(len(bufs))
		b := bufs[i]
		bufs[i] = bufs[len(bufs)-1]
		bufs = bufs[:len(bufs)-1]
		for at := 0; at < len(b); at += format.SmallSize {
			delete(owner, address(b)+uintptr(at))
		}
		a.put(b)
	}
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
