// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package alloc_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"

	"scoutfs/alloc"
	"scoutfs/block"
	"scoutfs/btree"
	"scoutfs/format"
	"scoutfs/internal/simdisk"
)

const testFsid = 0x5c007f5

// state is what a super block would hold in these tests, and the blocks that
// are in use outside of the allocator.
type state struct {
	meta  [2]format.AllocRoot
	avail [2]format.AllocList
	freed [2]format.AllocList
	lists []format.AllocList // of mounts
	used  map[format.Blkno]bool
}

func (s *state) clone() *state {
	c := *s
	c.lists = append([]format.AllocList(nil), s.lists...)
	c.used = maps.Clone(s.used)
	return &c
}

// world is a metadata device with a server's allocators on it.
type world struct {
	t      testing.TB
	disk   *simdisk.Disk
	c      *block.Cache
	w      *block.Writer
	pair   *alloc.Pair
	tx     *btree.Tx
	s      *state // in memory
	stable *state // as last committed
	kept   map[format.Blkno]string
	active int
	blocks int
}

// bump allocates upwards; it makes the first trees.
type bump struct{ next format.Blkno }

func (b *bump) AllocBlock() (format.Blkno, error) { b.next++; return b.next - 1, nil }
func (b *bump) FreeBlock(format.Blkno) error      { return fmt.Errorf("bump allocator cannot free") }

// newWorld makes a volume of the given number of blocks in which free holds
// the extents of meta[0]; nil: one extent of everything that is left.
func newWorld(t testing.TB, blocks int, first uint32, free func(at format.Blkno) []format.Blkno) *world {
	disk := simdisk.New(int64(blocks)<<format.LargeShift, simdisk.Options{})
	c := block.NewCache(disk, block.CacheOptions{Fsid: testFsid, Budget: 64 << 20})
	w := &world{t: t, disk: disk, c: c, w: c.NewWriter(), blocks: blocks}
	w.s = &state{used: map[format.Blkno]bool{}}
	// Blocks 2..499 are for the first trees, then the first list, then what is free.
	b := &bump{next: 2}
	tx := &btree.Tx{Cache: c, Writer: w.w, Alloc: b}
	lb := w.w.New(b.next, alloc.ListKind)
	b.next++
	l := format.Overlay[format.AllocListBlock](lb.Bytes())
	for i := range first {
		l.Blknos[i] = uint64(500 + i)
	}
	l.Nr = first
	w.s.avail[0] = format.AllocList{Ref: lb.Ref(), TotalNr: uint64(first), FirstNr: first}
	lb.Release()
	at := format.Blkno(500 + first)
	if free == nil {
		must(t, alloc.InsertExtent(tx, &w.s.meta[0], at, uint64(blocks)-uint64(at)))
	} else {
		isFree := map[format.Blkno]bool{}
		for _, f := range free(at) {
			must(t, alloc.InsertExtent(&btree.Tx{Cache: c, Writer: w.w, Alloc: &leaky{b}}, &w.s.meta[0], f, 1))
			isFree[f] = true
		}
		for f := at; f < format.Blkno(blocks); f++ {
			if !isFree[f] {
				w.s.used[f] = true
			}
		}
	}
	if b.next > 500 {
		t.Fatalf("first trees take %d blocks", b.next)
	}
	owned := map[format.Blkno]string{}
	w.collect(c, w.s, owned)
	for f := format.Blkno(2); f < 500; f++ {
		if owned[f] == "" {
			w.s.used[f] = true
		}
	}
	w.pair = alloc.NewPair(c, w.w, w.s.avail[0], w.s.freed[0])
	w.tx = &btree.Tx{Cache: c, Writer: w.w, Alloc: w.pair}
	must(t, w.w.Write())
	must(t, disk.Flush())
	w.saveStable()
	disk.OnWrite(w.checkWrite)
	return w
}

// leaky forgets what is freed, which counts as used then.
type leaky struct{ *bump }

func (*leaky) FreeBlock(format.Blkno) error { return nil }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// own notes an owner and fails if there is one already.
func own(t testing.TB, owned map[format.Blkno]string, blkno format.Blkno, who string) {
	t.Helper()
	if other, ok := owned[blkno]; ok {
		t.Fatalf("block %d belongs to %s and to %s", blkno, other, who)
	}
	owned[blkno] = who
}

// collect notes the owners of all blocks that s refers to: names that begin
// with "free" for those whose contents do not matter.
func (w *world) collect(c *block.Cache, s *state, owned map[format.Blkno]string) {
	w.t.Helper()
	tx := &btree.Tx{Cache: c}
	for i := range s.meta {
		var total uint64
		must(w.t, alloc.WalkExtents(tx, &s.meta[i], func(start format.Blkno, n uint64) error {
			for j := range n {
				own(w.t, owned, start+format.Blkno(j), fmt.Sprint("free in tree ", i))
			}
			total += n
			return nil
		}))
		if total != s.meta[i].TotalLen {
			w.t.Fatalf("tree %d: extents have %d blocks, total is %d", i, total, s.meta[i].TotalLen)
		}
		w.checkOrders(c, &s.meta[i])
		must(w.t, btree.Blocks(c, &s.meta[i].Root, func(ref format.BlockRef, _ int) error {
			own(w.t, owned, ref.Blkno, fmt.Sprint("tree ", i))
			return nil
		}))
		w.collectList(c, &s.avail[i], owned, fmt.Sprint("avail ", i))
		w.collectList(c, &s.freed[i], owned, fmt.Sprint("freed ", i))
	}
	for i := range s.lists {
		w.collectList(c, &s.lists[i], owned, fmt.Sprint("list ", i))
	}
	for b := range s.used {
		own(w.t, owned, b, "user")
	}
}

func (w *world) collectList(c *block.Cache, l *format.AllocList, owned map[format.Blkno]string, name string) {
	w.t.Helper()
	must(w.t, alloc.WalkList(c, l, func(ref format.BlockRef, entries []uint64) error {
		own(w.t, owned, ref.Blkno, name+" list block")
		for _, e := range entries {
			own(w.t, owned, format.Blkno(e), "free in "+name)
		}
		return nil
	}))
}

// checkOrders makes sure that every extent has both items, and that no two
// extents touch (only trees that were made by insertion have that).
func (w *world) checkOrders(c *block.Cache, root *format.AllocRoot) {
	w.t.Helper()
	byPos, byOrder := map[format.Blkno]uint64{}, map[format.Blkno]uint64{}
	from := format.Key{}
	must(w.t, btree.Walk(c, &root.Root, &from, &format.KeyMax, func(it *btree.Item) error {
		start, n := it.Key.FreeExtent()
		if it.Key.Zone == format.ZoneFreeBlkno {
			byPos[start] = n
		} else {
			byOrder[start] = n
		}
		return nil
	}))
	if !maps.Equal(byPos, byOrder) {
		w.t.Fatalf("extents by position and by size differ: %v %v", byPos, byOrder)
	}
}

// audit makes sure that every block of the device has exactly one owner.
func (w *world) audit(c *block.Cache, s *state) map[format.Blkno]string {
	w.t.Helper()
	owned := map[format.Blkno]string{}
	w.collect(c, s, owned)
	for b := format.Blkno(2); b < format.Blkno(w.blocks); b++ {
		if owned[b] == "" {
			w.t.Fatalf("block %d has no owner", b)
		}
	}
	if len(owned) != w.blocks-2 {
		w.t.Fatalf("%d blocks are owned, the device has %d", len(owned), w.blocks-2)
	}
	return owned
}

// now is the state in memory with the pair's heads.
func (w *world) now() *state {
	s := w.s.clone()
	s.avail[w.active], s.freed[w.active] = w.pair.Avail(), w.pair.Freed()
	return s
}

func (w *world) saveStable() {
	w.stable = w.now()
	w.kept = map[format.Blkno]string{}
	for b, who := range w.audit(w.c, w.stable) {
		if who[:4] != "free" {
			w.kept[b] = who
		}
	}
}

// checkWrite fails if a write hits what the last commit needs.
func (w *world) checkWrite(op simdisk.FaultOp) {
	b := format.Blkno(op.Off >> format.LargeShift)
	if who, ok := w.kept[b]; ok {
		w.t.Errorf("block %d of %s is overwritten", b, who)
	}
}

// commit does what a server's commit does.
func (w *world) commit() {
	w.t.Helper()
	o := 1 - w.active
	err := alloc.FillList(w.tx, &w.s.avail[o], &w.s.meta[0], 4092, 8185)
	if err != nil && w.s.avail[o].FirstNr < 400 {
		w.t.Fatal(err)
	}
	_, err = alloc.DrainList(w.tx, &w.s.meta[1], &w.s.freed[o], 8185)
	must(w.t, err)
	must(w.t, w.w.Write())
	w.s = w.now()
	w.saveStable()
	w.active = o
	if w.s.meta[0].TotalLen < w.s.meta[1].TotalLen {
		w.s.meta[0], w.s.meta[1] = w.s.meta[1], w.s.meta[0]
	}
	w.pair.Reset(w.w, w.s.avail[o], w.s.freed[o])
}

// reopen drops what is in memory and reads the last commit again.
func (w *world) reopen() {
	w.t.Helper()
	w.reopenQuietly()
	w.audit(w.c, w.s)
}

// reopenQuietly is reopen without reading anything.
func (w *world) reopenQuietly() {
	w.pair.Close()
	w.w.Discard()
	w.c = block.NewCache(w.disk, block.CacheOptions{Fsid: testFsid, Budget: 64 << 20})
	w.w = w.c.NewWriter()
	w.s = w.stable.clone()
	w.active = 0
	if w.s.avail[1].TotalNr > w.s.avail[0].TotalNr {
		w.active = 1
	}
	w.pair = alloc.NewPair(w.c, w.w, w.s.avail[w.active], w.s.freed[w.active])
	w.tx = &btree.Tx{Cache: w.c, Writer: w.w, Alloc: w.pair}
}

func newRand(t testing.TB, seed uint64) *rand.Rand {
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 1))
}
