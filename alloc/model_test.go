// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package alloc_test

import (
	"errors"
	"math/rand/v2"
	"syscall"
	"testing"

	"scoutfs/alloc"
	"scoutfs/block"
	"scoutfs/btree"
	"scoutfs/format"
	"scoutfs/internal/invariants"
	"scoutfs/internal/simdisk"
)

// step does one random thing to the world.
func (w *world) step(r *rand.Rand) {
	w.t.Helper()
	avail, freed := w.pair.Room()
	if min(avail, freed) < 300 {
		w.commit()
		return
	}
	switch r.IntN(10) {
	case 0, 1:
		w.use(r.IntN(60))
	case 2, 3:
		w.free(r, r.IntN(100))
	case 4:
		w.s.lists = append(w.s.lists, format.AllocList{})
		fallthrough
	case 5:
		if n := len(w.s.lists); n > 0 {
			err := alloc.FillList(w.tx, &w.s.lists[r.IntN(n)], &w.s.meta[0], 100, uint32(r.IntN(300)))
			if err != nil && !errors.Is(err, syscall.ENOSPC) {
				w.t.Fatal(err)
			}
		}
	case 6:
		if n := len(w.s.lists); n > 0 {
			i := r.IntN(n)
			err := alloc.SpliceList(w.tx, &w.s.freed[1-w.active], &w.s.lists[i])
			if err != nil && !errors.Is(err, alloc.ErrAgain) {
				w.t.Fatal(err)
			}
			if err == nil {
				w.s.lists = append(w.s.lists[:i], w.s.lists[i+1:]...)
			}
		}
	case 7:
		_, _, err := alloc.MoveExtents(w.tx, &w.s.meta[1], &w.s.meta[0],
			alloc.MoveOptions{Total: uint64(r.IntN(50)) + 1, Budget: r.IntN(250)})
		must(w.t, err)
	case 8:
		w.commit()
	case 9:
		if r.IntN(4) == 0 {
			w.reopen()
		}
	}
}

// use allocates n blocks for somebody.
func (w *world) use(n int) {
	for range n {
		b, err := w.pair.AllocBlock()
		must(w.t, err)
		if w.kept[b] != "" {
			w.t.Fatalf("block %d of %s is allocated", b, w.kept[b])
		}
		if w.s.used[b] {
			w.t.Fatalf("block %d is allocated twice", b)
		}
		w.s.used[b] = true
	}
}

// free frees n random used blocks.
func (w *world) free(r *rand.Rand, n int) {
	for b := range w.s.used {
		if n == 0 {
			return
		}
		if r.IntN(3) == 0 {
			must(w.t, w.pair.FreeBlock(b))
			delete(w.s.used, b)
			n--
		}
	}
}

// TestModel does random things; after each, and after each crash, every block
// of the device has exactly one owner, and no write hits what the last commit
// refers to.
func TestModel(t *testing.T) {
	seeds := uint64(6)
	if invariants.Enabled {
		seeds = 2 // these builds check so much that it takes long
	}
	for seed := range seeds {
		r := newRand(t, seed)
		w := newWorld(t, 6000, 1024, nil)
		for range 250 {
			w.step(r)
			w.audit(w.c, w.now())
			if t.Failed() {
				t.FailNow()
			}
		}
		w.commit()
		w.reopen()
	}
}

// TestReuse makes sure that a freed block comes back, but not before the
// commit after the next.
func TestReuse(t *testing.T) {
	w := newWorld(t, 3000, 1024, nil)
	w.use(1)
	var mine format.Blkno
	for b := range w.s.used {
		if b >= 500 {
			mine = b
		}
	}
	w.commit()
	must(t, w.pair.FreeBlock(mine))
	delete(w.s.used, mine)
	inList := func() bool {
		for _, who := range []*format.AllocList{&w.s.avail[0], &w.s.avail[1]} {
			found := false
			must(t, alloc.WalkList(w.c, who, func(_ format.BlockRef, es []uint64) error {
				for _, e := range es {
					found = found || format.Blkno(e) == mine
				}
				return nil
			}))
			if found {
				return true
			}
		}
		return false
	}
	for i := range 200 {
		w.commit()
		if inList() {
			if i < 2 {
				t.Fatalf("block %d can be allocated after %d commits", mine, i+1)
			}
			return
		}
		w.use(100)
		for b := range w.s.used {
			if avail, _ := w.pair.Room(); avail > 200 || b < 500 {
				continue
			}
			must(t, w.pair.FreeBlock(b))
			delete(w.s.used, b)
		}
	}
	t.Fatalf("block %d never comes back", mine)
}

// TestWriteFailure goes on after a write that failed and after one that was
// not followed by a super.
func TestWriteFailure(t *testing.T) {
	w := newWorld(t, 3000, 1024, nil)
	w.use(20)
	must(t, w.w.Write()) // and the super fails
	w.audit(w.c, w.now())
	w.use(20)
	w.audit(w.c, w.now())
	if avail, freed := w.pair.Room(); avail != 1024-44 || freed != 8185-3 {
		t.Errorf("room is %d, %d", avail, freed)
	}
	w.commit()
	w.reopen()
}

// TestEmpty runs the pair dry.
func TestEmpty(t *testing.T) {
	w := newWorld(t, 3000, 10, nil)
	avail, _ := w.pair.Room()
	if avail != 8 {
		t.Fatalf("room is %d", avail)
	}
	w.use(8)
	if _, err := w.pair.AllocBlock(); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("allocation from an empty list: %v", err)
	}
	if _, _, err := alloc.TakeExtent(w.tx, &w.s.meta[0], 1); !errors.Is(err, alloc.ErrAgain) {
		t.Fatalf("tree change without room: %v", err)
	}
	w.audit(w.c, w.now())

	p := alloc.NewPair(w.c, w.c.NewWriter(), format.AllocList{}, format.AllocList{})
	if _, err := p.AllocBlock(); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("allocation without a list: %v", err)
	}
}

// TestPreparePastEmptyHead starts a transaction whose first avail block has
// one entry and whose second has many.
func TestPreparePastEmptyHead(t *testing.T) {
	w := newWorld(t, 3000, 1024, nil)
	var one, many format.AllocList
	must(t, alloc.FillList(w.tx, &one, &w.s.meta[0], 1, 1))
	must(t, alloc.FillList(w.tx, &many, &w.s.meta[0], 50, 50))
	must(t, alloc.SpliceList(w.tx, &many, &one))
	must(t, w.w.Write())
	if many.FirstNr != 1 || many.TotalNr != 51 {
		t.Fatalf("list %+v", many)
	}
	p := alloc.NewPair(w.c, w.w, many, format.AllocList{})
	must(t, p.Prepare())
	if a := p.Avail(); a.FirstNr != 49 || a.TotalNr != 49 {
		t.Errorf("avail %+v", a)
	}
	if f := p.Freed(); f.FirstNr != 2 || f.TotalNr != 2 {
		t.Errorf("freed %+v", f)
	}
	w.s.lists = append(w.s.lists, p.Avail(), p.Freed())
	w.audit(w.c, w.now())
}

// TestFreshFreed fills a freed head so far that the next transaction starts a
// new block.
func TestFreshFreed(t *testing.T) {
	w := newWorld(t, 12000, 8185, nil)
	w.use(7000)
	w.commit()
	w.commit()
	for b := range w.s.used {
		if _, freed := w.pair.Room(); freed < 2100 {
			break
		}
		if b >= 500 {
			must(t, w.pair.FreeBlock(b))
			delete(w.s.used, b)
		}
	}
	p := w.pair
	must(t, w.w.Write())
	before := p.Freed()
	p.Reset(w.w, p.Avail(), p.Freed())
	for range 100 {
		for b := range w.s.used {
			if b >= 500 {
				must(t, p.FreeBlock(b))
				delete(w.s.used, b)
				break
			}
		}
	}
	if p.Freed().TotalNr != before.TotalNr+102 {
		t.Errorf("freed %+v, before %+v", p.Freed(), before)
	}
	must(t, w.w.Write())
	_, room := p.Room()
	if room != 8183 {
		t.Errorf("a head with %d entries has room for %d", p.Freed().FirstNr, room)
	}
	must(t, p.Prepare())
	if p.Freed().FirstNr != 1 {
		t.Errorf("fresh head has %d entries", p.Freed().FirstNr)
	}
	w.audit(w.c, w.now())
	w.commit()
	w.reopen()
}

// flaky is an allocator whose nth call fails.
type flaky struct {
	btree.Allocator
	calls, fail int
}

var errFlaky = errors.New("flaky allocator")

func (f *flaky) AllocBlock() (format.Blkno, error) {
	if f.calls++; f.calls == f.fail {
		return 0, errFlaky
	}
	return f.Allocator.AllocBlock()
}

func (f *flaky) FreeBlock(b format.Blkno) error {
	if f.calls++; f.calls == f.fail {
		return errFlaky
	}
	return f.Allocator.FreeBlock(b)
}

// faultOps are the operations whose failures are tested. Each leaves in the
// world's state what it did, also if it fails.
var faultOps = map[string]func(w *world, tx *btree.Tx) error{
	"insert": func(w *world, tx *btree.Tx) error {
		b := format.Blkno(29900)
		if err := alloc.RemoveExtent(w.tx, &w.s.meta[0], b, 1); err != nil {
			return err
		}
		w.s.used[b] = true
		err := alloc.InsertExtent(tx, &w.s.meta[0], b, 1)
		if err == nil {
			delete(w.s.used, b)
		}
		return err
	},
	"take": func(w *world, tx *btree.Tx) error {
		start, n, err := alloc.TakeExtent(tx, &w.s.meta[0], 3)
		for i := range n {
			w.s.used[start+format.Blkno(i)] = true
		}
		return err
	},
	"fill": func(w *world, tx *btree.Tx) error {
		w.s.lists = append(w.s.lists, format.AllocList{})
		return alloc.FillList(tx, &w.s.lists[0], &w.s.meta[0], 10, 10)
	},
	"move": func(w *world, tx *btree.Tx) error {
		_, _, err := alloc.MoveExtents(tx, &w.s.meta[1], &w.s.meta[0], alloc.MoveOptions{Total: 10})
		return err
	},
	"drain": func(w *world, tx *btree.Tx) error {
		_, err := alloc.DrainList(tx, &w.s.meta[1], &w.s.freed[1-w.active], 8185)
		return err
	},
	"splice": func(w *world, tx *btree.Tx) error {
		return alloc.SpliceList(tx, &w.s.freed[w.active^1], &w.s.avail[w.active^1])
	},
}

// TestAllocatorFaults fails each allocation and each free of every operation;
// unless it says that the transaction is broken, all blocks still have one
// owner or were lost to the transaction alone, which a lost block shows.
func TestAllocatorFaults(t *testing.T) {
	for name, op := range faultOps {
		for fail := 1; ; fail++ {
			w := newWorld(t, 30000, 1024, nil)
			w.use(30)
			w.commit()
			w.use(10)
			w.commit()
			f := &flaky{Allocator: w.pair, fail: fail}
			err := op(w, &btree.Tx{Cache: w.c, Writer: w.w, Alloc: f})
			if err == nil && f.calls < fail {
				break
			}
			if fail > 500 {
				t.Fatalf("%s: no end", name)
			}
			if alloc.IsBroken(err) {
				if !errors.Is(err, syscall.EIO) {
					t.Errorf("%s: %v is no EIO", name, err)
				}
			} else {
				owned := map[format.Blkno]string{}
				w.collect(w.c, w.now(), owned) // nobody owns a block twice
			}
			w.reopen()
		}
	}
}

// TestReadFaults fails each read of every operation.
func TestReadFaults(t *testing.T) {
	for name, op := range faultOps {
		for fail := 1; ; fail++ {
			w := newWorld(t, 30000, 1024, nil)
			w.use(30)
			w.commit()
			w.use(10)
			w.commit()
			w.reopenQuietly()
			must(t, w.pair.Prepare())
			reads := 0
			w.disk.SetFault(func(op simdisk.FaultOp) error {
				if reads++; reads == fail && !op.Write && !op.Flush {
					return simdisk.ErrInjected
				}
				return nil
			})
			err := op(w, w.tx)
			w.disk.SetFault(nil)
			if err == nil && reads < fail {
				break
			}
			if !errors.Is(err, simdisk.ErrInjected) {
				t.Fatalf("%s: read %d failed, the error is %v", name, fail, err)
			}
			if alloc.IsBroken(err) {
				t.Errorf("%s: read %d: %v", name, fail, err)
			}
			w.audit(w.c, w.now())
			w.reopen()
		}
	}
}

// TestListCorruption damages a list block in every way that its head or its
// checks can tell.
func TestListCorruption(t *testing.T) {
	for name, damage := range map[string]func(l *format.AllocListBlock, head *format.AllocList){
		"nr":             func(l *format.AllocListBlock, _ *format.AllocList) { l.Nr-- },
		"start":          func(l *format.AllocListBlock, _ *format.AllocList) { l.Start = 8180 },
		"start overflow": func(l *format.AllocListBlock, _ *format.AllocList) { l.Start = 1<<32 - 1 },
		"reserved entry": func(l *format.AllocListBlock, _ *format.AllocList) { l.Blknos[3] = 1 },
		"entry outside":  func(l *format.AllocListBlock, _ *format.AllocList) { l.Blknos[0] = 1 << 40 },
		"total":          func(_ *format.AllocListBlock, h *format.AllocList) { h.TotalNr++ },
		"total too low":  func(_ *format.AllocListBlock, h *format.AllocList) { h.TotalNr -= 2 },
		"next":           func(l *format.AllocListBlock, _ *format.AllocList) { l.Next = format.BlockRef{Blkno: 1 << 50, Seq: 1} },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 3000, 1024, nil)
			b := w.w.New(600, alloc.ListKind)
			l := format.Overlay[format.AllocListBlock](b.Bytes())
			l.Nr = 10
			for i := range 10 {
				l.Blknos[i] = uint64(700 + 2*i)
			}
			head := format.AllocList{Ref: b.Ref(), FirstNr: 10, TotalNr: 10}
			damage(l, &head)
			// Not by the writer, which would notice.
			buf := block.AlignedBuf(format.LargeSize)
			defer block.FreeBuf(buf)
			copy(buf, b.Bytes())
			format.Overlay[format.BlockHeader](buf).CRC = format.Checksum(buf)
			must(t, block.WriteAt(w.disk, buf, int64(b.Blkno())<<format.LargeShift))
			b.Release()
			w.reopenQuietly()
			var root format.AllocRoot
			_, err := alloc.DrainList(w.tx, &root, &head, 1000)
			var ce *format.CorruptError
			if !errors.As(err, &ce) {
				t.Errorf("drain: %v", err)
			}
		})
	}
}

// TestNullHeads begins with heads that refer to no block and are not empty
// otherwise: nothing of that gets into the blocks that are written.
func TestNullHeads(t *testing.T) {
	odd := format.AllocList{Ref: format.BlockRef{Seq: 7}, FirstNr: 3, TotalNr: 5}
	w := newWorld(t, 12000, 8185, nil)
	w.pair.Reset(w.w, w.pair.Avail(), odd)
	must(t, w.pair.Prepare())
	var list format.AllocList
	must(t, alloc.FillList(w.tx, &list, &w.s.meta[0], 10, 10))
	spliced := odd
	must(t, alloc.SpliceList(w.tx, &spliced, &list))
	if spliced.FirstNr != 10 || spliced.TotalNr != 10 {
		t.Errorf("spliced %+v", spliced)
	}
	must(t, w.w.Write())
	freed := w.pair.Freed()
	for name, l := range map[string]*format.AllocList{"freed": &freed, "spliced": &spliced} {
		must(t, alloc.WalkList(w.c, l, func(ref format.BlockRef, _ []uint64) error {
			buf := block.AlignedBuf(format.LargeSize)
			defer block.FreeBuf(buf)
			must(t, block.ReadAt(w.disk, buf, int64(ref.Blkno)<<format.LargeShift))
			if next := format.Overlay[format.AllocListBlock](buf).Next; next != (format.BlockRef{}) {
				t.Errorf("%s: next %+v", name, next)
			}
			return nil
		}))
	}
}

// FuzzListBlock makes sure that no block that passes the check breaks a walk.
func FuzzListBlock(f *testing.F) {
	f.Add(uint32(0), uint32(5), uint64(7), uint64(0))
	f.Add(uint32(8184), uint32(2), uint64(7), uint64(9))
	f.Fuzz(func(t *testing.T, start, nr uint32, entry, next uint64) {
		b := make([]byte, format.LargeSize)
		l := format.Overlay[format.AllocListBlock](b)
		l.Start, l.Nr, l.Next.Blkno = start, nr, format.Blkno(next)
		for i := range l.Blknos {
			l.Blknos[i] = entry
		}
		ok := uint64(start)+uint64(nr) <= format.AllocListNr && (nr == 0 || entry >= 2)
		if err := alloc.ListKind.Verify(b); (err == nil) != ok {
			t.Fatalf("start %d nr %d entry %d: %v", start, nr, entry, err)
		}
	})
}
