// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package check_test

import (
	"context"
	"encoding/binary"
	"errors"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"scoutfs/btree"
	"scoutfs/check"
	"scoutfs/check/checktest"
	"scoutfs/format"
	"scoutfs/internal/simdisk"
)

// runLimit bounds one check of a small damaged volume. A good one takes a few
// hundredths of a second.
const runLimit = time.Minute

// usedBlocks are the metadata blocks that the volume refers to.
func (v *vol) usedBlocks() (list []format.Blkno) {
	v.t.Helper()
	seen := map[format.Blkno]bool{}
	var mu sync.Mutex
	v.meta.SetFault(func(op simdisk.FaultOp) error {
		mu.Lock()
		defer mu.Unlock()
		for b := op.Off >> format.LargeShift; b<<format.LargeShift < op.Off+int64(op.Len); b++ {
			seen[format.Blkno(b)] = true
		}
		return nil
	})
	defer v.meta.SetFault(nil)
	v.run()
	delete(seen, 1) // super and quorum blocks
	return slices.Sorted(maps.Keys(seen))
}

// survive checks a damaged volume, which must end in time.
func (v *vol) survive() *check.Report {
	v.t.Helper()
	ctx, cancel := context.WithTimeout(v.t.Context(), runLimit)
	defer cancel()
	r, err := check.Run(ctx, v.meta, v.data, check.Options{})
	must(v.t, err)
	if len(r.Findings) > 100*check.Rules {
		v.t.Errorf("%d findings are kept", len(r.Findings))
	}
	return r
}

// TestRandomDamage changes bytes everywhere, with and without their checksum.
func TestRandomDamage(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	base := rich(t, 2)
	startMerge(base)
	blocks := base.usedBlocks()
	rounds := 250
	if testing.Short() {
		rounds = 40
	}
	var before runtime.MemStats
	runtime.ReadMemStats(&before)
	found := 0
	for range rounds {
		v := base.clone(t)
		b := blocks[rng.IntN(len(blocks))]
		if rng.IntN(4) == 0 {
			v.corrupt(b, rng.IntN(format.LargeSize))
			if v.survive().Counts.Errors == 0 {
				t.Errorf("a changed byte in block %d is not found", b)
			}
			continue
		}
		var bad error
		v.edit(b, func(data []byte) {
			mutate(rng, data)
			if h, _ := format.Load[format.BlockHeader](data); h.Magic == format.MagicBtree {
				bad = btree.VerifyBlock(data)
			}
		})
		r := v.survive()
		if !r.Clean() {
			found++
		}
		if bad != nil && r.Counts.Errors == 0 {
			t.Errorf("block %d is not found, but package btree says: %v", b, bad)
		}
	}
	t.Logf("%d of %d rounds found something", found, rounds)
	var after runtime.MemStats
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 512<<20 {
		t.Errorf("the heap has grown by %d MiB", grown>>20)
	}
}

// mutate changes a few bytes of a block, mostly where structure is.
func mutate(rng *rand.Rand, b []byte) {
	for range 1 + rng.IntN(8) {
		off := 32 + rng.IntN(len(b)-32)
		switch rng.IntN(4) {
		case 0:
			off = 32 + rng.IntN(128)
		case 1:
			off = 32 + rng.IntN(4096)
		}
		switch rng.IntN(3) {
		case 0:
			b[off] ^= 1 << rng.IntN(8)
		case 1:
			b[off] = byte(rng.Uint32())
		default:
			off = min(off&^7, len(b)-8)
			binary.LittleEndian.PutUint64(b[off:], rng.Uint64()>>rng.IntN(64))
		}
	}
}

// TestSuperDamage changes bytes of both supers with their checksum.
func TestSuperDamage(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 2))
	base := rich(t, 2)
	for range 100 {
		v := base.clone(t)
		d := v.meta
		if rng.IntN(5) == 0 {
			d = v.data
		}
		v.bytesOf(d, int64(format.SuperBlkno)<<format.SmallShift, format.SmallSize, func(b []byte) {
			for range 1 + rng.IntN(4) {
				b[rng.IntN(format.Size[format.Super]())] = byte(rng.Uint32())
			}
		})
		v.survive()
	}
}

// TestReadErrors makes each block unreadable in turn.
func TestReadErrors(t *testing.T) {
	base := rich(t, 2)
	for _, b := range base.usedBlocks() {
		v := base.clone(t)
		v.meta.SetFault(func(op simdisk.FaultOp) error {
			if op.Off>>format.LargeShift == int64(b) {
				return simdisk.ErrInjected
			}
			return nil
		})
		r := v.survive()
		for _, f := range r.Findings {
			if f.Severity == check.Error && (f.Rule != 7 || f.Block != b) {
				t.Errorf("block %d cannot be read: %v", b, f)
			}
		}
	}
	v := base.clone(t)
	v.meta.SetFault(func(simdisk.FaultOp) error { return simdisk.ErrInjected })
	if r, err := check.Run(t.Context(), v.meta, v.data, check.Options{}); !errors.Is(err, simdisk.ErrInjected) {
		t.Errorf("without a super: %v, %v", r, err)
	}
}

func TestCancel(t *testing.T) {
	v := rich(t, 2)
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	v.meta.SetFault(func(simdisk.FaultOp) error {
		if n++; n == 20 {
			cancel()
		}
		return nil
	})
	if r, err := check.Run(ctx, v.meta, v.data, check.Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, %v", r, err)
	}
}

func TestProgress(t *testing.T) {
	v := rich(t, 2)
	var last, end uint64
	r, err := check.Run(t.Context(), v.meta, v.data, check.Options{Progress: func(done, total uint64) { last, end = done, total }})
	must(t, err)
	if last == 0 || last > r.BlocksRead || end < last {
		t.Errorf("progress ends with %d of %d, %d blocks were read", last, end, r.BlocksRead)
	}
}

// TestCrashes cuts the power at each write of transactions.
func TestCrashes(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 3))
	v := rich(t, 2)
	must(t, v.meta.Flush())
	var states []*simdisk.Disk
	v.meta.OnWrite(func(simdisk.FaultOp) {
		if rng.IntN(4) == 0 {
			states = append(states, v.meta.Crash(rng, 50))
		}
	})
	for i := range 20 {
		ino := format.Ino(4500 + i)
		m := newModel()
		m.inode(ino, 0o100644)
		m.inodes = map[format.Ino]*format.Inode{ino: m.inodes[ino]}
		all := m.all(2)
		v.tx(func(tx *btree.Tx, s *format.Super) {
			must(t, put(tx, &s.FSRoot, all, 60))
			s.InodeCount++
		})
		must(t, v.meta.Flush())
	}
	v.meta.OnWrite(nil)
	if len(states) == 0 {
		t.Fatal("no crash")
	}
	for _, d := range states {
		checktest.VerifyCrashed(t, d, v.data)
	}
}

// FuzzBlock changes one block of a volume: bytes from an offset on are replaced.
func FuzzBlock(f *testing.F) {
	base := rich(f, 2)
	startMerge(base)
	blocks := base.usedBlocks()
	f.Add(uint16(0), uint16(40), []byte{1})
	f.Add(uint16(9), uint16(32), []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, nr, off uint16, data []byte) {
		v := base.clone(t)
		v.edit(blocks[int(nr)%len(blocks)], func(b []byte) {
			copy(b[min(int(off), len(b)-1):], data)
		})
		v.survive()
	})
}
