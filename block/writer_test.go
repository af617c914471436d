// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package block_test

import (
	"bytes"
	"errors"
	"slices"
	"syscall"
	"testing"

	"scoutfs/block"
	"scoutfs/format"
	"scoutfs/internal/simdisk"
)

func TestNewIsZeroed(t *testing.T) {
	d := simdisk.New(diskSize, simdisk.Options{})
	w := newCache(d, 4).NewWriter()
	for range 20 { // frames are used again
		b := w.New(5, testKind)
		if !bytes.Equal(b.Bytes()[32:], make([]byte, blockSize-32)) {
			t.Fatal("body is not zero")
		}
		setBody(b, 0xee)
		w.Forget(b)
		b.Release()
	}
	if w.DirtyBlocks() != 0 {
		t.Errorf("%d dirty blocks", w.DirtyBlocks())
	}
}

func TestCopyOnWrite(t *testing.T) {
	d := simdisk.New(diskSize, simdisk.Options{})
	old := written(t, d, 3)[2]
	c := newCache(d, 10)
	w := c.NewWriter()
	src := mustRead(t, c, old)
	b := w.Copy(src, 40)
	if w.IsDirty(src) || !w.IsDirty(b) || b.Blkno() != 40 || b.Ref().Seq == old.Seq || w.DirtyBlocks() != 1 {
		t.Errorf("copy %v of %v", b.Ref(), old)
	}
	src.Release()
	checkBody(t, c, b.Ref(), 2)
	setBody(b, 77)
	ref := b.Ref()
	b.Release()
	checkBody(t, c, ref, 77) // readers find dirty blocks
	checkBody(t, c, old, 2)
	if err := w.Write(); err != nil {
		t.Fatal(err)
	}
	if w.IsDirty(b) || w.DirtyBlocks() != 0 {
		t.Error("still dirty after the write")
	}
	checkBody(t, newCache(d, 10), ref, 77)
	checkBody(t, newCache(d, 10), old, 2)
}

func TestWritersAreIndependent(t *testing.T) {
	d := simdisk.New(diskSize, simdisk.Options{})
	c := newCache(d, 10)
	w1, w2 := c.NewWriter(), c.NewWriter()
	b := w1.New(10, testKind)
	defer b.Release()
	setBody(b, 1)
	if w2.IsDirty(b) {
		t.Error("dirty in the other writer")
	}
	w2.Forget(b) // not its own
	w2.Discard()
	if !w1.IsDirty(b) || w1.DirtyBlocks() != 1 {
		t.Error("the other writer took the block")
	}
	cp := w2.Copy(b, 11)
	defer cp.Release()
	if err := errors.Join(w1.Write(), w2.Write()); err != nil {
		t.Fatal(err)
	}
	checkBody(t, newCache(d, 10), cp.Ref(), 1)
}

func TestForgetAndDiscard(t *testing.T) {
	d := simdisk.New(diskSize, simdisk.Options{})
	c := newCache(d, 10)
	w := c.NewWriter()
	b := w.New(10, testKind)
	setBody(b, 3)
	ref := b.Ref()
	w.Forget(b)
	w.Forget(b)
	if w.IsDirty(b) || b.Bytes()[100] != 3 { // still pinned
		t.Error("a forgotten block is dirty or gone")
	}
	b.Release()
	if _, err := c.Read(ref, testKind); !errors.Is(err, syscall.ESTALE) {
		t.Errorf("a forgotten block was found: %v", err)
	}
	refs := []format.BlockRef{put(w, 11, 1), put(w, 12, 2)}
	w.Discard()
	if err := w.Write(); err != nil || d.Counters().Writes != 0 {
		t.Errorf("error %v, %d writes", err, d.Counters().Writes)
	}
	for _, ref := range refs {
		if _, err := c.Read(ref, testKind); !errors.Is(err, syscall.ESTALE) {
			t.Errorf("a discarded block was found: %v", err)
		}
	}
	if m := c.Metrics(); m.Blocks != 0 || m.Bytes != 0 || m.Dirty != 0 {
		t.Errorf("metrics %+v", m)
	}
}

func TestWriteIsOneOrderedBatch(t *testing.T) {
	d := simdisk.New(diskSize, simdisk.Options{})
	var batches [][]int64
	h := &hooked{Device: d, before: func(ops []block.Op) {
		var offs []int64
		for _, op := range ops {
			if !op.Write || len(op.Buf) != blockSize {
				t.Errorf("operation %+v", op)
			}
			offs = append(offs, op.Off/blockSize)
		}
		batches = append(batches, offs)
	}}
	w := newCache(h, 100).NewWriter()
	for _, n := range []format.Blkno{9, 4, 100, 7, 50, 2} {
		put(w, n, byte(n))
	}
	if err := w.Write(); err != nil {
		t.Fatal(err)
	}
	if len(batches) != 1 || !slices.Equal(batches[0], []int64{2, 4, 7, 9, 50, 100}) {
		t.Errorf("batches %v", batches)
	}
}

// TestWriteFaults fails each operation of a write in turn.
func TestWriteFaults(t *testing.T) {
	const blocks = 6
	for bad := range blocks {
		d := simdisk.New(diskSize, simdisk.Options{})
		c := newCache(d, 2) // the budget must not matter to dirty blocks
		w := c.NewWriter()
		var refs []format.BlockRef
		for i := range blocks {
			refs = append(refs, put(w, format.Blkno(10+i), byte(i)))
		}
		d.SetFault(func(op simdisk.FaultOp) error {
			if op.Off == int64(10+bad)*blockSize {
				return simdisk.ErrInjected
			}
			return nil
		})
		for range 3 {
			if err := w.Write(); !errors.Is(err, simdisk.ErrInjected) {
				t.Fatalf("error %v", err)
			}
			if w.DirtyBlocks() != blocks || c.Metrics().Dirty != blocks || c.Metrics().Written != 0 {
				t.Fatalf("%d dirty blocks after a failure, %+v", w.DirtyBlocks(), c.Metrics())
			}
			for i, ref := range refs {
				checkBody(t, c, ref, byte(i))
			}
		}
		d.SetFault(nil)
		b := mustRead(t, c, refs[0]) // and they may still be changed
		if !w.IsDirty(b) {
			t.Error("not dirty")
		}
		setBody(b, 200)
		b.Release()
		if err := w.Write(); err != nil {
			t.Fatal(err)
		}
		checkBody(t, newCache(d, 10), refs[0], 200)
		for i, ref := range refs[1:] {
			checkBody(t, newCache(d, 10), ref, byte(i+1))
		}
	}
}

// TestWriteFlush lets a device lose what a failed flush did not save: the next
// call writes everything again.
func TestWriteFlush(t *testing.T) {
	d := simdisk.New(diskSize, simdisk.Options{})
	c := newCache(d, 2)
	w := c.NewWriter()
	var refs []format.BlockRef
	for i := range 6 {
		refs = append(refs, put(w, format.Blkno(10+i), byte(i)))
	}
	d.SetFault(func(op simdisk.FaultOp) error {
		if !op.Flush {
			return nil
		}
		d.Drop()
		return simdisk.ErrInjected
	})
	for range 2 {
		if err := w.WriteFlush(); !errors.Is(err, simdisk.ErrInjected) {
			t.Fatalf("error %v", err)
		}
		if m := c.Metrics(); w.DirtyBlocks() != len(refs) || m.Dirty != 6 || m.Written != 0 {
			t.Fatalf("%d dirty blocks after a failed flush, %+v", w.DirtyBlocks(), m)
		}
		checkBody(t, c, refs[3], 3)
	}
	d.SetFault(nil)
	if err := w.WriteFlush(); err != nil {
		t.Fatal(err)
	}
	if m := c.Metrics(); w.DirtyBlocks() != 0 || m.Dirty != 0 || m.Written != 6 || m.Bytes > m.Budget || d.Unflushed() != 0 {
		t.Errorf("%d dirty blocks, %d unflushed sectors, %+v", w.DirtyBlocks(), d.Unflushed(), m)
	}
	for i, ref := range refs {
		checkBody(t, newCache(d, 10), ref, byte(i))
	}
	flushes := d.Counters().Flushes
	if err := w.WriteFlush(); err != nil || d.Counters().Flushes != flushes+1 {
		t.Errorf("without dirty blocks: error %v, %d flushes", err, d.Counters().Flushes-flushes)
	}
}

// counting is a device whose flushes fail for others as often as fails says.
type counting struct {
	block.Device
	fails uint64
	onDo  func()
}

func (c *counting) FlushFailures() uint64 { return c.fails }

func (c *counting) Do(ops []block.Op) error {
	defer c.onDo()
	return c.Device.Do(ops)
}

// TestFlushFailedForAnother lets the flush of another user of the device fail
// between a write and its flush.
func TestFlushFailedForAnother(t *testing.T) {
	d := simdisk.New(diskSize, simdisk.Options{})
	dev := &counting{Device: d}
	dev.onDo = func() {
		if dev.fails < 2 {
			dev.fails++
			d.Drop()
		}
	}
	w := newCache(dev, 10).NewWriter()
	ref := put(w, 20, 1)
	for range 2 {
		if err := w.WriteFlush(); !errors.Is(err, syscall.EIO) || w.DirtyBlocks() != 1 {
			t.Fatalf("error %v, %d dirty blocks", err, w.DirtyBlocks())
		}
	}
	if err := w.WriteFlush(); err != nil {
		t.Fatal(err)
	}
	checkBody(t, newCache(d, 10), ref, 1)
}

func TestWriteBeyondTheDevice(t *testing.T) {
	w := newCache(simdisk.New(diskSize, simdisk.Options{}), 10).NewWriter()
	put(w, diskSize/blockSize, 1)
	if err := w.Write(); !errors.Is(err, syscall.EINVAL) || w.DirtyBlocks() != 1 {
		t.Errorf("error %v", err)
	}
	w.Discard()
}

func TestSeqSource(t *testing.T) {
	next := uint64(100)
	c := block.NewCache(simdisk.New(diskSize, simdisk.Options{}), block.CacheOptions{Seq: func() uint64 { next++; return next }})
	w := c.NewWriter()
	if ref := put(w, 7, 1); ref != (format.BlockRef{Blkno: 7, Seq: 101}) {
		t.Errorf("reference %v", ref)
	}
	w.Discard()
}
