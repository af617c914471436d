// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package sim_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"scoutfs/block"
	"scoutfs/check"
	"scoutfs/dump"
	"scoutfs/format"
	"scoutfs/internal/simdisk"
	"scoutfs/volume"
)

const (
	damageTime   = time.Minute // real, for one damaged volume
	damageMemory = 1 << 30     // bytes allocated for one damaged volume, freed ones included
)

// liveBlocks are the metadata blocks that the checker reads, as offset and length.
func liveBlocks(t *testing.T, d [2]*simdisk.Disk) (list [][2]int) {
	t.Helper()
	var mu sync.Mutex
	d[metaDisk].SetFault(func(op simdisk.FaultOp) error {
		mu.Lock()
		defer mu.Unlock()
		for at := 0; at < op.Len; {
			n := format.LargeSize
			if op.Off+int64(at) < 2*format.LargeSize {
				n = format.SmallSize
			}
			if b := [2]int{int(op.Off) + at, n}; !slices.Contains(list, b) {
				list = append(list, b)
			}
			at += n
		}
		return nil
	})
	checkDisks(t, "before the damage", disks{d[0], d[1]})
	d[metaDisk].SetFault(nil)
	slices.SortFunc(list, func(a, b [2]int) int { return a[0] - b[0] })
	return list
}

// damage changes some bytes of some blocks, mostly where structure is, and says which. Most
// checksums are made right again.
func damage(t *testing.T, d *simdisk.Disk, live [][2]int, rng *rand.Rand) (text string) {
	t.Helper()
	for range 1 + rng.IntN(3) {
		b := pick(rng, live)
		buf := block.AlignedBuf(b[1])
		defer block.FreeBuf(buf)
		if err := block.ReadAt(d, buf, int64(b[0])); err != nil {
			t.Fatal(err)
		}
		if rng.IntN(12) == 0 { // the contents of another block
			if o := pick(rng, live); o[1] == b[1] {
				copied := block.AlignedBuf(b[1])
				if err := block.ReadAt(d, copied, int64(o[0])); err != nil {
					t.Fatal(err)
				}
				copy(buf[32:], copied[32:])
				block.FreeBuf(copied)
			}
		} else {
			for range 1 + rng.IntN(4) {
				mutate(buf, rng)
			}
		}
		repaired := rng.IntN(5) > 0
		if repaired {
			binary.LittleEndian.PutUint32(buf, format.Checksum(buf))
		}
		if err := block.WriteAt(d, buf, int64(b[0])); err != nil {
			t.Fatal(err)
		}
		text += fmt.Sprintf(" block at %d, magic %v, checksum repaired %v;", b[0], format.Magic(binary.LittleEndian.Uint32(buf[4:])), repaired)
	}
	if err := d.Flush(); err != nil {
		t.Fatal(err)
	}
	return text
}

// mutate changes one place of a block.
func mutate(b []byte, rng *rand.Rand) {
	off := 4 + rng.IntN(len(b)-16)
	switch rng.IntN(5) {
	case 0:
		off = 32 + rng.IntN(64)
	case 1, 2:
		off = 48 + rng.IntN(min(len(b)-64, 3000))
	case 3:
		off = len(b) - 16 - rng.IntN(min(len(b)-64, 6000))
	}
	switch rng.IntN(6) {
	case 0:
		b[off] ^= 1 << rng.IntN(8)
	case 1:
		b[off] = byte(rng.Uint32())
	case 2:
		binary.LittleEndian.PutUint16(b[off&^1:], uint16(pick(rng, []int{0, 1, 48, 0xffff, 0x8000, rng.IntN(65536)})))
	case 3:
		binary.LittleEndian.PutUint64(b[off&^7:], pick(rng, []uint64{0, 1, ^uint64(0), 1 << 63, rng.Uint64(), rng.Uint64N(4000)}))
	case 4:
		copy(b[off&^7:off&^7+8], b[32+rng.IntN(len(b)-40)&^7:])
	case 5:
		b[off] += byte(rng.IntN(3)) - 1
	}
}

// survive runs everything on a damaged volume. Errors are fine; a panic, a
// hang or a lot of memory is not.
func survive(t *testing.T, d [2]*simdisk.Disk, rng *rand.Rand) {
	if _, err := check.Run(context.Background(), d[0], d[1], check.Options{}); err != nil {
		t.Logf("check: %v", err)
	}
	_ = dump.Print(io.Discard, d[metaDisk], dump.Options{})
	n, err := startNode(t, disks{d[0], d[1]}, rng)
	if err != nil {
		return
	}
	time.Sleep(3 * time.Second) // dead mounts are reclaimed, or the server ends
	readAll(n)
	_, _ = n.v().WalkInodes(root, volume.IndexMetaSeq, volume.WalkEntry{}, volume.WalkEntry{Major: ^uint64(0)}, 1000)
	_, _ = n.v().AllocDetail(root)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	_ = n.v().ScanOrphans(ctx)
	useDamaged(n)
	_ = n.eng.Sync(ctx)
	n.kill()
}

// readAll reads what it can.
func readAll(n *node) {
	v, seen, queue := n.v(), map[format.Ino]bool{}, []format.Ino{format.RootIno}
	for len(queue) > 0 && len(seen) < 10000 {
		ino := queue[0]
		queue = queue[1:]
		if seen[ino] {
			continue
		}
		seen[ino] = true
		_, _ = readXattrs(v, ino)
		_, _ = v.Readlink(root, ino)
		if a, err := v.Getattr(root, ino); err == nil {
			_, _ = readData(v, ino, int(min(a.Size, 1<<20)))
			_, _ = v.Extents(root, ino, 0, 1000)
		}
		_ = v.ReadDir(root, ino, 0, func(e *volume.DirEntry) bool {
			if e.Pos > 1 {
				queue = append(queue, e.Ino)
			}
			return len(queue) < 10000
		})
		_, _ = v.InoPath(root, ino, 0, 0, 4096)
	}
}

// useDamaged does some changes, each for at most a minute of the node's time: a commit that
// cannot be made is repeated for ever.
func useDamaged(n *node) {
	done := make(chan struct{})
	timer := time.AfterFunc(time.Minute, func() { close(done) })
	defer timer.Stop()
	c := &volume.Caller{Cancel: done}
	v := n.v()
	for i := range 3 {
		name := fmt.Sprint("new", i)
		if a, err := v.Create(c, format.RootIno, name, 0o600); err == nil {
			_, _, _ = v.Write(c, a.Ino, 0, make([]byte, 20000), 0)
			_ = v.Setxattr(c, a.Ino, "user.x", []byte("y"), 0)
			_ = v.Fsync(c, a.Ino)
			_ = v.Unlink(c, format.RootIno, name)
			v.Forget(a.Ino, 1)
		}
	}
	var names []string
	_ = v.ReadDir(c, format.RootIno, 2, func(e *volume.DirEntry) bool {
		names = append(names, string(e.Name))
		return len(names) < 20
	})
	for _, name := range names {
		_ = v.Rename(c, format.RootIno, name, format.RootIno, "moved "+name[:min(len(name), 100)], 0)
		_ = v.Unlink(c, format.RootIno, "moved "+name[:min(len(name), 100)])
	}
	_ = v.Fsync(c, format.RootIno)
}

// watch ends the process, with all stacks, if stop is not called in time.
func watch(what string) (stop func()) {
	timer := time.AfterFunc(damageTime, func() {
		buf := make([]byte, 1<<20)
		panic(fmt.Sprintf("%s: no end within %v\n%s", what, damageTime, buf[:runtime.Stack(buf, true)]))
	})
	return func() { timer.Stop() }
}

// TestDamage changes bytes of metadata at random, and then checks, prints, mounts,
// reads and changes the volume.
func TestDamage(t *testing.T) {
	rounds := number(t, "ROUNDS", uint64(few(60)))
	if *campaign {
		rounds = number(t, "ROUNDS", uint64(few(3000)))
	}
	only := number(t, "CUT", ^uint64(0))
	for _, seed := range seeds(t, 1, 1) {
		var base [2][2]*simdisk.Disk
		var live [2][][2]int
		synctest.Test(t, func(t *testing.T) {
			base[0] = crashed(t, seed, 100, 250)
			base[1] = [2]*simdisk.Disk{base[0][0].Clone(), base[0][1].Clone()}
			n, err := startNode(t, disks{base[1][0], base[1][1]}, rand.New(rand.NewPCG(seed, 5)))
			if err == nil {
				time.Sleep(5 * time.Second)
				err = n.close()
			}
			if err != nil {
				t.Fatal(err)
			}
			live[0], live[1] = liveBlocks(t, base[0]), liveBlocks(t, base[1])
		})
		for i := range rounds {
			if only != ^uint64(0) && i != only {
				continue
			}
			rng := rand.New(rand.NewPCG(seed, i+1))
			k := i % 2
			d := [2]*simdisk.Disk{base[k][0].Clone(), base[k][1].Clone()}
			what := fmt.Sprintf("repeat with SEED=%d CUT=%d:%s", seed, i, damage(t, d[metaDisk], live[k], rng))
			stop := watch(what)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			ok := false
			func() {
				defer func() {
					if !ok {
						t.Errorf("%s: ended early", what)
					}
				}()
				synctest.Test(t, func(t *testing.T) { survive(t, d, rng) })
				ok = true
			}()
			stop()
			runtime.ReadMemStats(&after)
			if used := after.TotalAlloc - before.TotalAlloc; used > damageMemory {
				t.Errorf("%s: %d MiB were allocated", what, used>>20)
			}
			if i%50 == 0 {
				runtime.GC() // gives back what caches hold outside of the heap
			}
		}
		t.Logf("campaign: damaged metadata in process: seed %d, %d and %d blocks in use, %d rounds", seed, len(live[0]), len(live[1]), rounds)
	}
}
