// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package check_test

import (
	"testing"

	"scoutfs/alloc"
	"scoutfs/block"
	"scoutfs/btree"
	"scoutfs/check/checktest"
	"scoutfs/format"
	"scoutfs/srch"
)

func srchRoot(s *format.Super) *format.BtreeRoot { return &s.SrchRoot }

// srchKey is the key of the only item of srch_root with a type.
func (v *vol) srchKey(typ uint8) (key format.Key) {
	v.t.Helper()
	s := v.super()
	var from format.Key
	must(v.t, btree.Walk(block.NewCache(v.meta, block.CacheOptions{Fsid: s.Hdr.Fsid}), &s.SrchRoot, &from, &format.KeyMax, func(it *btree.Item) error {
		if it.Key.Type == typ {
			key = it.Key
		}
		return nil
	}))
	return key
}

// changeSrch changes the item of the sorted file.
func (v *vol) changeSrch(change func(f *format.SrchFile)) {
	v.t.Helper()
	changeItem(v, srchRoot, v.srchKey(format.TypeSrchFile), change)
}

func (v *vol) changeCompact(change func(c *format.SrchCompact)) {
	v.t.Helper()
	changeItem(v, srchRoot, v.srchKey(format.TypeSrchPend), change)
}

// srchBlock edits the first data block of the sorted file.
func (v *vol) srchBlock(change func(b []byte)) {
	v.t.Helper()
	f, _ := format.Load[format.SrchFile](v.get(v.super().SrchRoot, v.srchKey(format.TypeSrchFile)))
	ref := f.Ref
	if f.Height > 1 {
		b := block.AlignedBuf(format.LargeSize)
		defer block.FreeBuf(b)
		must(v.t, block.ReadAt(v.meta, b, int64(ref.Blkno)<<format.LargeShift))
		ref, _ = format.Load[format.BlockRef](b[32:])
	}
	v.edit(ref.Blkno, change)
}

// Sequence numbers of the merge that startMerge makes.
const (
	statusSeq, requestSeq, completeSeq, freeingSeq = 60, 61, 62, 64
)

// startMerge puts a merge into a volume: a request, a completion that is not
// spliced yet, a range, and a dead tree of which a part is freed.
func startMerge(v *vol) {
	v.t.Helper()
	late := format.KeyInode(3000)
	v.tx(func(t *btree.Tx, s *format.Super) {
		must(v.t, t.Insert(&s.LogMerge, ptr(format.KeyMergeStatus()), format.Bytes(&format.MergeStatus{Seq: statusSeq, NrRequests: 1, NrComplete: 8})))
		c := format.MergeComplete{Start: format.Key{}, End: late.Dec(), Rid: liveRid, Seq: completeSeq, Root: s.FSRoot}
		must(v.t, alloc.FillList(t, &c.MetaAvail, &s.MetaAlloc[0], 1028, 1028))
		r := format.MergeRequest{Start: late, End: format.KeyInode(3400).Dec(), Rid: liveRid, Seq: requestSeq, InputSeq: statusSeq, LogsRoot: s.LogsRoot, Root: s.FSRoot}
		must(v.t, alloc.FillList(t, &r.MetaAvail, &s.MetaAlloc[0], 1028, 1028))
		must(v.t, t.Insert(&s.LogMerge, ptr(format.KeyMergeRequest(r.Rid, r.Seq)), format.Bytes(&r)))
		must(v.t, t.Insert(&s.LogMerge, ptr(format.KeyMergeComplete(c.Seq)), format.Bytes(&c)))
		rg := format.MergeRange{Start: format.KeyInode(3400), End: format.KeyMax}
		must(v.t, t.Insert(&s.LogMerge, ptr(format.KeyMergeRange(rg.Start)), format.Bytes(&rg)))
		f := format.MergeFreeing{Seq: freeingSeq}
		gone := itemMap{}
		for i := range 6000 {
			gone[format.KeyInode(format.Ino(10000+i))] = nil
		}
		must(v.t, put(t, &f.Root, gone, 15))
		must(v.t, t.Insert(&s.LogMerge, ptr(format.KeyMergeFreeing(f.Seq)), format.Bytes(&f)))
	})
	v.tx(func(t *btree.Tx, s *format.Super) {
		k := format.KeyMergeFreeing(freeingSeq)
		it, err := btree.Lookup(t.Cache, &s.LogMerge, &k, nil)
		must(v.t, err)
		f, _ := format.Load[format.MergeFreeing](it.Val)
		done, err := t.FreeTree(&f.Root, &f.Key, 3)
		must(v.t, err)
		if done {
			v.t.Fatal("the whole tree is freed")
		}
		must(v.t, t.Update(&s.LogMerge, &k, format.Bytes(&f)))
	})
	// The mount works with the lists of its request.
	k := format.KeyMergeComplete(completeSeq)
	s := v.super()
	c, _ := format.Load[format.MergeComplete](v.get(s.LogMerge, k))
	c.MetaAvail, c.MetaFreed = v.txWith(&s, c.MetaAvail, c.MetaFreed, func(t *btree.Tx, _ *format.Super) {
		must(v.t, put(t, &c.Root, itemMap{format.KeyTotl(0, 0, 1): make([]byte, 16)}, 15))
	})
	v.tx(func(t *btree.Tx, s *format.Super) { must(v.t, t.Update(&s.LogMerge, &k, format.Bytes(&c))) })
}

func ptr[T any](v T) *T { return &v }

// TestDeletingCompaction frees an input of a compaction bit by bit.
func TestDeletingCompaction(t *testing.T) {
	base := rich(t, 2)
	var f format.SrchFile
	var blocks []format.Blkno // data blocks, then the parent
	base.tx(func(tx *btree.Tx, s *format.Super) {
		var entries []format.SrchEntry
		for i := range 12000 {
			entries = append(entries, format.SrchEntry{Hash: uint64(i) << 32, Ino: format.Ino(i), ID: uint64(i)})
		}
		must(t, srch.AppendLog(tx, &f, entries))
		must(t, srch.Blocks(tx.Cache, &f, func(ref format.BlockRef, level int) error {
			if level == 0 {
				blocks = append(blocks, ref.Blkno)
			}
			return nil
		}))
		blocks = append(blocks, f.Ref.Blkno)
	})
	if f.Height != 2 || len(blocks) != int(f.Blocks)+1 || f.Blocks < 2 {
		t.Fatalf("file %+v", f)
	}
	for _, c := range []struct {
		blk, pos uint64
		freed    int
	}{{0, 0, 0}, {0, 1, 0}, {1, 1, 1}, {2, 1, 2}, {f.Blocks, 1, int(f.Blocks)}, {0, 2, int(f.Blocks)}, {1, 2, len(blocks)}, {0, 3, len(blocks)}} {
		v := base.clone(t)
		v.tx(func(tx *btree.Tx, s *format.Super) {
			for _, b := range blocks[:c.freed] {
				must(t, tx.Alloc.FreeBlock(b))
			}
			item := format.SrchCompact{ID: uint64(f.Ref.Blkno), Nr: 1, Flags: format.SrchCompactDelete}
			item.In[0] = format.SrchInput{File: f, Blk: c.blk, Pos: c.pos}
			must(t, tx.Insert(&s.SrchRoot, ptr(format.KeySrchPending(item.ID)), format.Bytes(&item)))
		})
		checktest.Verify(t, v.meta, v.data)
		if t.Failed() {
			t.Fatalf("block %d position %d", c.blk, c.pos)
		}
	}
}

// TestSubtreeMerge has a completion that replaces one level 1 block of a tree of
// height 3.
func TestSubtreeMerge(t *testing.T) {
	v := newVol(t, 2)
	v.tx(func(tx *btree.Tx, s *format.Super) {
		must(t, alloc.FillList(tx, &s.ServerMetaAvail[1], &s.MetaAlloc[0], 800, 800))
		for a := range uint64(10) { // null totals mean nothing
			items := itemMap{}
			for b := range uint64(39600) {
				items[format.KeyTotl(a, b, 0)] = make([]byte, 16)
			}
			must(t, put(tx, &s.FSRoot, items, 5))
		}
		s.Seq = 100
	})
	v.setSuper(func(s *format.Super) {
		a, f := &s.ServerMetaAvail, &s.ServerMetaFreed
		a[0], a[1], f[0], f[1] = a[1], a[0], f[1], f[0]
	})
	s := v.super()
	if s.FSRoot.Height != 3 {
		t.Fatalf("height %d", s.FSRoot.Height)
	}
	checktest.Verify(t, v.meta, v.data)
	c := format.MergeComplete{Rid: liveRid, Seq: completeSeq, Root: format.BtreeRoot{Height: 2}}
	must(t, btree.Blocks(block.NewCache(v.meta, block.CacheOptions{Fsid: s.Hdr.Fsid}), &s.FSRoot, func(ref format.BlockRef, level int) error {
		if level == 1 && c.Root.Ref.IsNull() {
			c.Root.Ref = ref
		}
		return nil
	}))
	c.Start, c.End = format.KeyTotl(0, 1000, 0), format.KeyTotl(0, 1200, 0)
	v.tx(func(tx *btree.Tx, s *format.Super) {
		must(t, tx.Insert(&s.LogMerge, ptr(format.KeyMergeStatus()), format.Bytes(&format.MergeStatus{Seq: statusSeq, NrComplete: 1})))
		must(t, alloc.FillList(tx, &c.MetaAvail, &s.MetaAlloc[0], 500, 500))
	})
	s = v.super()
	c.MetaAvail, c.MetaFreed = v.txWith(&s, c.MetaAvail, c.MetaFreed, func(tx *btree.Tx, _ *format.Super) {
		must(t, put(tx, &c.Root, itemMap{c.Start: make([]byte, 16), c.End: make([]byte, 16)}, 15))
	})
	v.insert(mergeRoot, format.KeyMergeComplete(c.Seq), format.Bytes(&c))
	checktest.Verify(t, v.meta, v.data)

	c.Root.Ref.Seq++ // nothing of the completion can be read
	v.tx(func(tx *btree.Tx, s *format.Super) {
		must(t, tx.Update(&s.LogMerge, ptr(format.KeyMergeComplete(c.Seq)), format.Bytes(&c)))
	})
	r := v.run()
	if len(r.Findings) == 0 || r.Findings[0].Rule != 7 || r.Findings[0].Structure != "merge completion 62" || r.Counts.Errors != 1 {
		t.Errorf("%v", r.Findings)
	}
}
