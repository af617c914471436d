// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package block

import (
	"cmp"
	"fmt"
	"slices"
	"syscall"

	"scoutfs/format"
	"scoutfs/internal/invariants"
)

// Writer is the dirty blocks of one transaction. Its methods must not run at
// the same time as each other, but may with everything of the cache. Dirty
// blocks stay in memory whatever the budget is, and readers of the cache find
// them by their reference. Several writers of one cache are independent: what
// is dirty in one is foreign to the other and must be copied to be changed.
type Writer struct {
	c     *Cache
	dirty map[*Block]struct{}
}

// NewWriter returns a writer with no dirty blocks.
func (c *Cache) NewWriter() *Writer {
	return &Writer{c: c, dirty: make(map[*Block]struct{})}
}

// New returns a zeroed dirty block with a header of kind k, volume, blkno and a
// fresh seq. It is pinned for the caller, who must have allocated blkno.
func (w *Writer) New(blkno format.Blkno, k *Kind) *Block {
	b := w.add(blkno, k)
	clear(b.buf)
	w.setHeader(b)
	w.publish(b)
	return b
}

// Copy returns a dirty block with the contents of src, which the caller has
// pinned, under another number and with a fresh seq. It is pinned for the caller.
// src is not changed and stays pinned.
func (w *Writer) Copy(src *Block, blkno format.Blkno) *Block {
	b := w.add(blkno, src.kind)
	copy(b.buf, src.Bytes())
	w.setHeader(b)
	w.publish(b)
	return b
}

// add makes a block that nobody can see yet.
func (w *Writer) add(blkno format.Blkno, k *Kind) *Block {
	b := newBlock(w.c, format.BlockRef{Blkno: blkno, Seq: w.c.o.Seq()}, k)
	b.owner.Store(w)
	b.ready.Store(true)
	return b
}

func (w *Writer) setHeader(b *Block) {
	*format.Overlay[format.BlockHeader](b.buf) = format.BlockHeader{
		Magic: b.kind.Magic, Fsid: w.c.o.Fsid, Seq: b.ref.Seq, Blkno: b.ref.Blkno,
	}
}

func (w *Writer) publish(b *Block) {
	w.dirty[b] = struct{}{}
	w.c.stats.dirty.Add(1)
	w.c.insert(b)
}

// IsDirty reports whether b is a dirty block of this writer, which may be
// changed in place.
func (w *Writer) IsDirty(b *Block) bool { return b.owner.Load() == w }

// DirtyBlocks is how many blocks the next Write writes.
func (w *Writer) DirtyBlocks() int { return len(w.dirty) }

// Forget drops b unwritten, because it was freed in the transaction that made
// it. Those who have it pinned may use it until their Release. A block that is
// not dirty in this writer is left alone.
func (w *Writer) Forget(b *Block) {
	if _, ok := w.dirty[b]; !ok {
		return
	}
	delete(w.dirty, b)
	w.c.stats.dirty.Add(-1)
	b.owner.Store(nil)
	w.c.remove(b)
}

// Discard drops all dirty blocks unwritten.
func (w *Writer) Discard() {
	for b := range w.dirty {
		w.Forget(b)
	}
}

// Write writes all dirty blocks, in one batch in the order of their numbers, and returns
// when all are written; they are clean then. It does not flush the device, and
// what a failing flush may have lost cannot be written again: a commit should
// use [Writer.WriteFlush]. On
// an error, the first one, all blocks stay dirty, whether they were written or not, and
// Write may be called again. Nobody may change a dirty block meanwhile.
func (w *Writer) Write() error {
	err := w.write()
	if err == nil {
		w.clean()
	}
	return err
}

// WriteFlush writes all dirty blocks as Write does and flushes the device, also
// if there are none. Only then are they clean: on any error all stay dirty, so
// that the next call writes all of them again. That is necessary
// since a device may drop what a failed flush did not bring to its medium, and
// report success for the next flush. A flush of anybody else that fails
// meanwhile, where the device counts that (see [FlushCounter]), is
// such an error too. Nobody may change a dirty block meanwhile.
func (w *Writer) WriteFlush() error {
	dev := w.c.dev
	failures := flushFailures(dev)
	if err := w.write(); err != nil {
		return err
	}
	if err := dev.Flush(); err != nil {
		return err
	}
	if flushFailures(dev) != failures {
		return fmt.Errorf("block: flush %s: failed for another user of the device: %w", dev.Name(), syscall.EIO)
	}
	w.clean()
	return nil
}

// write writes all dirty blocks and leaves them dirty.
func (w *Writer) write() error {
	if len(w.dirty) == 0 {
		return nil
	}
	blocks := make([]*Block, 0, len(w.dirty))
	for b := range w.dirty {
		blocks = append(blocks, b)
	}
	slices.SortFunc(blocks, func(x, y *Block) int { return cmp.Compare(x.ref.Blkno, y.ref.Blkno) })
	ops := make([]Op, len(blocks))
	for i, b := range blocks {
		if invariants.Enabled && b.kind.Verify != nil {
			err := b.kind.Verify(b.buf)
			invariants.Check(err == nil, "dirty %v block %d: %v", b.kind.Magic, b.ref.Blkno, err)
		}
		format.Overlay[format.BlockHeader](b.buf).CRC = format.Checksum(b.buf)
		ops[i] = Op{Write: true, Off: blockOff(b.ref.Blkno), Buf: b.buf}
	}
	return w.c.dev.Do(ops)
}

// clean makes all dirty blocks, which have been written, evictable.
func (w *Writer) clean() {
	n := int64(len(w.dirty))
	w.c.stats.written.Add(n)
	w.c.stats.dirty.Add(-n)
	for b := range w.dirty {
		b.owner.Store(nil)
	}
	clear(w.dirty)
	w.c.shrink()
}
