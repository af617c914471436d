// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package btree_test

import (
	"encoding/binary"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"scoutfs/btree"
	"scoutfs/format"
)

// slotRow is a line of the tables of spec format 13.2.
type slotRow struct {
	N, Parent, Left, Right, Height, ValOff, ValLen int
}

// leafState is what 13.2 tells of a leaf.
type leafState struct {
	Root, Nr, Total, Mid int
	Slots                []slotRow
	Buckets              map[int]int
}

// blockBytes returns a copy of a block.
func (e *env) blockBytes(ref format.BlockRef) []byte {
	e.t.Helper()
	b, err := e.cache.Read(ref, btree.Kind)
	if err != nil {
		e.t.Fatal(err)
	}
	defer b.Release()
	return append([]byte{}, b.Bytes()...)
}

func parseHeader(b []byte) format.BtreeBlock {
	h, _ := format.Load[format.BtreeBlock](b)
	return h
}

func parseItems(b []byte) []format.BtreeItem {
	items := make([]format.BtreeItem, parseHeader(b).NrItems)
	for i := range items {
		items[i], _ = format.Load[format.BtreeItem](b[48+56*i:])
	}
	return items
}

func parseLeaf(b []byte) leafState {
	h := parseHeader(b)
	s := leafState{
		Root: int(h.ItemRoot), Nr: int(h.NrItems), Total: int(h.TotalItemBytes), Mid: int(h.MidFreeLen),
		Buckets: map[int]int{},
	}
	for _, it := range parseItems(b) {
		s.Slots = append(s.Slots, slotRow{
			int(it.Key.First), int(it.Node.Parent), int(it.Node.Left), int(it.Node.Right), int(it.Node.Height),
			int(it.ValOff), int(it.ValLen),
		})
	}
	for i := range format.BtreeHashNr {
		if v := binary.LittleEndian.Uint16(b[format.BtreeHashOff+2*i:]); v != 0 {
			s.Buckets[i] = int(v)
		}
	}
	return s
}

// TestVectorLeaf replays spec format 13.2.
func TestVectorLeaf(t *testing.T) {
	e := newEnv(t)
	step := func(name string, want leafState) {
		t.Helper()
		e.check()
		if diff := cmp.Diff(want, parseLeaf(e.blockBytes(e.root.Ref))); diff != "" {
			t.Fatalf("%s (-want +got):\n%s", name, diff)
		}
	}
	for n := 1; n <= 7; n++ {
		e.must(e.tx.Insert(&e.root, key(n), value(n, 3*n)))
	}
	step("inserted", leafState{184, 7, 504, 61960, []slotRow{
		{1, 72, 0, 0, 1, 62504, 3},
		{2, 184, 16, 128, 2, 62496, 6},
		{3, 72, 0, 0, 1, 62480, 9},
		{4, 0, 72, 296, 3, 62464, 12},
		{5, 296, 0, 0, 1, 62448, 15},
		{6, 184, 240, 352, 2, 62424, 18},
		{7, 296, 0, 0, 1, 62400, 21},
	}, map[int]int{66: 160, 189: 216, 423: 328, 1019: 104, 1040: 48, 1156: 272, 1390: 384}})

	e.must(e.tx.Delete(&e.root, key(4)))
	step("deleted 4", leafState{240, 6, 432, 62016, []slotRow{
		{1, 72, 0, 0, 1, 62504, 3},
		{2, 240, 16, 128, 2, 62496, 6},
		{3, 72, 0, 0, 1, 62480, 9},
		{7, 296, 0, 0, 1, 62400, 21},
		{5, 0, 72, 296, 3, 62448, 15},
		{6, 240, 0, 184, 2, 62424, 18},
	}, map[int]int{66: 160, 423: 328, 1019: 104, 1040: 48, 1156: 272, 1390: 216}})

	e.must(e.tx.Update(&e.root, key(2), value(2, 10)))
	got := parseLeaf(e.blockBytes(e.root.Ref))
	if got.Slots[1].ValOff != 62384 || got.Total != 440 || got.Mid != 62000 {
		t.Fatalf("updated 2: %+v", got)
	}
	e.must(e.tx.Delete(&e.root, key(1)))
	e.must(e.tx.Delete(&e.root, key(3)))
	step("deleted 1 and 3", leafState{128, 4, 304, 62112, []slotRow{
		{6, 128, 0, 184, 2, 62424, 18},
		{2, 128, 0, 0, 1, 62384, 10},
		{5, 0, 72, 16, 3, 62448, 15},
		{7, 16, 0, 0, 1, 62400, 21},
	}, map[int]int{423: 48, 1019: 104, 1156: 160, 1390: 216}})
}

func TestVectorHashes(t *testing.T) {
	for _, v := range []struct {
		key    format.Key
		hash   uint32
		bucket uint32
	}{
		{format.Key{}, 0x0b2ae445, 845},
		{format.KeyMetaSeq(0, 1), 0xf6d1cdfc, 252},
		{format.KeyInode(1), 0x1aacbf90, 1040},
		{format.KeyDirent(1024, 0x6162630000001234, 2), 0x94f85cfd, 453},
		{format.KeyFreeBlkno(64, 262080), 0x8ad872aa, 818},
		{format.KeyLogTrees(0x1122334455667788, 1), 0x278d028c, 868},
	} {
		if got := btree.HashKey(&v.key); got != v.hash || got%format.BtreeHashNr != v.bucket {
			t.Errorf("%v: hash %08x, bucket %d; want %08x, %d", v.key, got, got%format.BtreeHashNr, v.hash, v.bucket)
		}
		if v.key.Hash32() != v.hash {
			t.Errorf("%v: format's hash %08x", v.key, v.key.Hash32())
		}
	}
}

// blockState is what 13.3 tells of a block.
type blockState struct{ Nr, Total, Mid int }

// treeState is what 13.3 tells of a tree.
type treeState struct {
	Leaves []blockState
	Parent blockState
	Keys   []uint64 // First of the parent's keys but the last
	Ones   bool     // the last is KeyMax
}

func stateOf(b []byte) blockState {
	h := parseHeader(b)
	return blockState{int(h.NrItems), int(h.TotalItemBytes), int(h.MidFreeLen)}
}

// treeOf describes a tree of height 2.
func (e *env) treeOf() treeState {
	e.t.Helper()
	if e.root.Height != 2 {
		e.t.Fatalf("height %d", e.root.Height)
	}
	var s treeState
	e.must(btree.Blocks(e.cache, &e.root, func(ref format.BlockRef, level int) error {
		b := e.blockBytes(ref)
		if level == 0 {
			s.Leaves = append(s.Leaves, stateOf(b))
			return nil
		}
		s.Parent = stateOf(b)
		parentKeys(b, func(k format.Key) {
			if s.Ones = k == format.KeyMax; !s.Ones {
				s.Keys = append(s.Keys, k.First)
			}
		})
		return nil
	}))
	return s
}

// parentKeys calls fn for the keys of a block in ascending order.
func parentKeys(b []byte, fn func(format.Key)) {
	items := parseItems(b)
	slices.SortFunc(items, func(x, y format.BtreeItem) int { return x.Key.Compare(&y.Key) })
	for _, it := range items {
		fn(it.Key)
	}
}

func repeat(n int, s blockState) []blockState {
	out := make([]blockState, n)
	for i := range out {
		out[i] = s
	}
	return out
}

func (e *env) expectTree(name string, want treeState) {
	e.t.Helper()
	e.check()
	if diff := cmp.Diff(want, e.treeOf()); diff != "" {
		e.t.Fatalf("%s (-want +got):\n%s", name, diff)
	}
}

// TestVectorAscending replays the first three lines of spec format 13.3.
func TestVectorAscending(t *testing.T) {
	e := newEnv(t)
	for n := 1; n <= 2000; n++ {
		e.must(e.tx.Insert(&e.root, key(n), value(n, 100)))
		if want := uint8(1); n < 391 && e.root.Height != want || n == 391 && e.root.Height != 2 {
			t.Fatalf("height %d after insert %d", e.root.Height, n)
		}
	}
	e.expectTree("ascending", treeState{
		Leaves: append(repeat(9, blockState{195, 31200, 31264}), blockState{245, 39200, 2984}),
		Parent: blockState{10, 720, 64768},
		Keys:   []uint64{195, 390, 585, 780, 975, 1170, 1365, 1560, 1755}, Ones: true,
	})
	for n := 1; n <= 1000; n++ {
		e.must(e.tx.Delete(&e.root, key(n)))
	}
	e.check()
	got := e.treeOf()
	if diff := cmp.Diff([]uint64{1170, 1365, 1560, 1755}, got.Keys); diff != "" || !got.Ones {
		t.Fatalf("parent keys: %s", diff)
	}
	if got.Leaves[0] != (blockState{170, 27200, 22056}) || got.Leaves[3].Nr != 195 || got.Leaves[4].Nr != 245 {
		t.Fatalf("leaves %v", got.Leaves)
	}
	for n := 1001; n <= 2000; n++ {
		e.must(e.tx.Delete(&e.root, key(n)))
		want := uint8(2)
		if n >= 1757 {
			want = 1
		}
		if n == 2000 {
			want = 0
		}
		if e.root.Height != want {
			t.Fatalf("height %d after delete %d", e.root.Height, n)
		}
	}
	if e.root != (format.BtreeRoot{}) {
		t.Fatalf("root %+v", e.root)
	}
	e.check()
}

// TestVectorPutItems checks that the bulk write makes the same tree as single
// inserts.
func TestVectorPutItems(t *testing.T) {
	e := newEnv(t)
	n := 0
	maxSeq, err := e.tx.PutItems(&e.root, func() (*btree.Item, bool) {
		n++
		return &btree.Item{Key: *key(n), Seq: uint64(5000 - n), Val: value(n, 100)}, n <= 2000
	})
	e.must(err)
	if maxSeq != 4999 {
		t.Fatalf("greatest seq %d", maxSeq)
	}
	e.expectTree("put", treeState{
		Leaves: append(repeat(9, blockState{195, 31200, 31264}), blockState{245, 39200, 2984}),
		Parent: blockState{10, 720, 64768},
		Keys:   []uint64{195, 390, 585, 780, 975, 1170, 1365, 1560, 1755}, Ones: true,
	})
}

func TestVectorDescending(t *testing.T) {
	e := newEnv(t)
	for n := 2000; n >= 1; n-- {
		e.must(e.tx.Insert(&e.root, key(n), value(n, 100)))
	}
	e.expectTree("descending", treeState{
		Leaves: append([]blockState{{245, 39200, 23264}}, repeat(9, blockState{195, 31200, 10984})...),
		Parent: blockState{10, 720, 64768},
		Keys:   []uint64{245, 440, 635, 830, 1025, 1220, 1415, 1610, 1805}, Ones: true,
	})
}

func TestVectorScattered(t *testing.T) {
	e := newEnv(t)
	for i := range 2000 {
		n := (i*1103+17)%2000 + 1
		e.must(e.tx.Insert(&e.root, key(n), value(n, 100)))
	}
	e.check()
	got := e.treeOf()
	var nrs []int
	for _, l := range got.Leaves {
		nrs = append(nrs, l.Nr)
	}
	if diff := cmp.Diff([]int{249, 252, 251, 252, 248, 248, 248, 252}, nrs); diff != "" {
		t.Fatal(diff)
	}
	if diff := cmp.Diff([]uint64{249, 501, 752, 1004, 1252, 1500, 1748}, got.Keys); diff != "" {
		t.Fatal(diff)
	}
}

func TestVectorLongValues(t *testing.T) {
	e := newEnv(t)
	for n := 1; n <= 2000; n++ {
		e.must(e.tx.Insert(&e.root, key(n), value(n, 896)))
		if n < 66 && e.root.Height != 1 || n == 66 && e.root.Height != 2 {
			t.Fatalf("height %d after insert %d", e.root.Height, n)
		}
	}
	got := e.treeOf()
	want := append(repeat(59, blockState{33, 31416, 31048}), blockState{53, 50456, 12008})
	if diff := cmp.Diff(want, got.Leaves); diff != "" {
		t.Fatal(diff)
	}
	if got.Parent.Nr != 60 || !got.Ones {
		t.Fatalf("parent %+v", got.Parent)
	}
	e.check()
}

// TestVectorMkfsLeaf builds the fs root leaf of spec format 10.5 from its
// listing, with the heights that mkfs stores, and then changes it.
func TestVectorMkfsLeaf(t *testing.T) {
	b := mkfsLeaf(testFsid, 2)
	if err := btree.VerifyBlock(b); err != nil {
		t.Fatal(err)
	}
	e := newEnv(t)
	e.install(b, 2, 1)
	e.check()
	it, err := btree.Lookup(e.cache, &e.root, key(1), nil)
	e.must(err)
	if len(it.Val) != 168 || it.Seq != 1 {
		t.Fatalf("inode item %d bytes, seq %d", len(it.Val), it.Seq)
	}
	e.must(e.tx.Update(&e.root, key(1), value(1, 160)))
	h := parseItems(e.blockBytes(e.root.Ref))
	if h[0].Node.Height != 1 || h[1].Node.Height != 2 {
		t.Fatalf("heights %d and %d after a change", h[0].Node.Height, h[1].Node.Height)
	}
	for _, n := range []int{9, 8, 7} {
		e.must(e.tx.Insert(&e.root, key(n), nil))
		e.check()
	}
	e.install(mkfsLeaf(testFsid, 2), 2, 1)
	e.must(e.tx.Delete(&e.root, key(1)))
	e.check()
}

// mkfsLeaf returns the block of the example with another fsid.
func mkfsLeaf(fsid uint64, blkno format.Blkno) []byte {
	b := make([]byte, format.LargeSize)
	copy(b, format.Bytes(&format.BtreeBlock{
		Hdr:      format.BlockHeader{Magic: format.MagicBtree, Fsid: fsid, Seq: 1, Blkno: blkno},
		ItemRoot: 72, NrItems: 2, TotalItemBytes: 280, MidFreeLen: 62184,
	}))
	copy(b[48:], format.Bytes(&format.BtreeItem{
		Node: format.AvlNode{Parent: 72, Height: 1}, Key: format.KeyMetaSeq(0, 1), Seq: 1,
	}))
	copy(b[104:], format.Bytes(&format.BtreeItem{
		Node: format.AvlNode{Left: 16}, Key: format.KeyInode(1), Seq: 1, ValOff: 62344, ValLen: 168,
	}))
	binary.LittleEndian.PutUint64(b[62344+48:], 2)
	binary.LittleEndian.PutUint16(b[format.BtreeHashOff+2*252:], 48)
	binary.LittleEndian.PutUint16(b[format.BtreeHashOff+2*1040:], 104)
	binary.LittleEndian.PutUint32(b, format.Checksum(b))
	return b
}

// install makes a block that lies on the device the root of the tree.
func (e *env) install(b []byte, blkno format.Blkno, height uint8) {
	e.t.Helper()
	buf := alignedCopy(b)
	binary.LittleEndian.PutUint32(buf, format.Checksum(buf))
	if err := writeBlock(e.disk, buf, blkno); err != nil {
		e.t.Fatal(err)
	}
	e.alloc.live = map[format.Blkno]bool{blkno: true}
	e.alloc.next = blkno + 1
	e.alloc.pool, e.alloc.freed = nil, nil
	e.reopen()
	e.root = format.BtreeRoot{Ref: format.BlockRef{Blkno: blkno, Seq: parseHeader(buf).Hdr.Seq}, Height: height}
}

func (s slotRow) String() string {
	return fmt.Sprintf("n=%d p=%d l=%d r=%d h=%d off=%d len=%d", s.N, s.Parent, s.Left, s.Right, s.Height, s.ValOff, s.ValLen)
}
