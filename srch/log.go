// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package srch

import (
	"fmt"

	"scoutfs/alloc"
	"scoutfs/block"
	"scoutfs/btree"
	"scoutfs/format"
)

// AppendLog appends entries to the log file f in their order, copying the
// blocks that it changes. Either all are appended or, on error, none is: it
// returns alloc.ErrAgain if the transaction may lack room for them, or an
// error of reading f's last path. f is valid in any case.
// Source: spec format 8.4.
func AppendLog(t *btree.Tx, f *format.SrchFile, entries []format.SrchEntry) error {
	if len(entries) == 0 {
		return nil
	}
	if err := checkFile(t.Cache, f); err != nil {
		return err
	}
	blocks := len(entries)*MaxEntrySize/format.SrchMaxStart + 1
	if err := alloc.NeedRoom(t.Alloc, blocks+2*(maxHeight+1)); err != nil {
		return fmt.Errorf("srch: append to log: %w", err)
	}
	for len(entries) > 0 {
		// Only the first round reads blocks that are not dirty, so only it can fail.
		b, err := tailBlock(t, f)
		if err != nil {
			return fmt.Errorf("srch: append to log: %w", err)
		}
		n := fill(b, f, entries)
		b.Release()
		entries = entries[n:]
	}
	return nil
}

// fill appends as many entries to the dirty block b as may start in it.
func fill(b *block.Block, f *format.SrchFile, entries []format.SrchEntry) int {
	h := overlayBlock(b)
	for i := range entries {
		if h.EntryBytes > format.SrchMaxStart {
			return i
		}
		e := &entries[i]
		at := format.SrchHdrSize + int(h.EntryBytes)
		enc := AppendEntry(b.Bytes()[at:at:format.LargeSize], &h.Tail, e)
		if h.EntryNr == 0 {
			h.First, h.Last = *e, *e
		} else {
			widen(&h.First, &h.Last, e)
		}
		h.Tail = *e
		h.EntryNr++
		h.EntryBytes += uint32(len(enc))
		if f.Entries == 0 {
			f.First, f.Last = *e, *e
		} else {
			widen(&f.First, &f.Last, e)
		}
		f.Entries++
	}
	return len(entries)
}

// widen makes the bounds include e.
func widen(first, last, e *format.SrchEntry) {
	if Compare(e, first) < 0 {
		*first = *e
	}
	if Compare(e, last) > 0 {
		*last = *e
	}
}

// tailBlock returns the data block that the next entry goes to, dirty and
// pinned: the last one, or a new one if there is none or it is full.
func tailBlock(t *btree.Tx, f *format.SrchFile) (*block.Block, error) {
	full, err := tailFull(t.Cache, f)
	if err != nil {
		return nil, err
	}
	if !full {
		return dirtyPath(t, f, f.Blocks-1)
	}
	if err := grow(t, f, heightFor(f.Blocks)); err != nil {
		return nil, err
	}
	b, err := dirtyPath(t, f, f.Blocks)
	if err != nil {
		return nil, err
	}
	f.Blocks++
	return b, nil
}

// tailFull reports whether no entry may start in the last data block.
func tailFull(c *block.Cache, f *format.SrchFile) (bool, error) {
	if f.Blocks == 0 {
		return true, nil
	}
	b, err := readData(c, f, f.Blocks-1)
	if err != nil {
		return false, err
	}
	defer b.Release()
	if overlayBlock(b).EntryBytes > format.SrchMaxStart {
		return true, nil
	}
	return false, checkTail(c, b)
}

// checkTail makes sure that the block's tail is its last entry, because the
// next one is coded relative to it.
func checkTail(c *block.Cache, b *block.Block) error {
	var last format.SrchEntry
	err := eachEntry(b.Bytes(), func(e *format.SrchEntry) error {
		last = *e
		return nil
	})
	if err == nil && last != overlayBlock(b).Tail {
		err = corrupt(c, b.Blkno(), "log block's tail is not its last entry")
	}
	return err
}

// grow puts new roots on top until the file has the height. A file without
// blocks stays empty: dirtyPath makes its first block.
func grow(t *btree.Tx, f *format.SrchFile, height int) error {
	if f.Height == 0 {
		return nil
	}
	for int(f.Height) < height {
		blkno, err := t.Alloc.AllocBlock()
		if err != nil {
			return err
		}
		b := t.Writer.New(blkno, ParentKind)
		overlayParent(b).Refs[0] = f.Ref
		f.Ref = b.Ref()
		f.Height++
		b.Release()
	}
	return nil
}

// dirtyPath makes data block n and its parents dirty and returns it pinned.
// References that are null get new blocks.
func dirtyPath(t *btree.Tx, f *format.SrchFile, n uint64) (*block.Block, error) {
	if f.Height == 0 {
		b, err := dirtyBlock(t, &f.Ref, 0)
		if err == nil {
			f.Height = 1
		}
		return b, err
	}
	level := int(f.Height) - 1
	b, err := dirtyBlock(t, &f.Ref, level)
	for ; err == nil && level > 0; level-- {
		parent := b
		i := n / span(level-1) % format.SrchParentRefs
		b, err = dirtyBlock(t, &overlayParent(parent).Refs[i], level-1)
		parent.Release()
	}
	return b, err
}

// dirtyBlock makes the block that *ref refers to dirty, or a new one if it is
// null, and updates *ref. On error nothing has changed.
func dirtyBlock(t *btree.Tx, ref *format.BlockRef, level int) (*block.Block, error) {
	if ref.IsNull() {
		return newBlock(t, ref, level)
	}
	b, err := read(t.Cache, *ref, level)
	if err != nil || t.Writer.IsDirty(b) {
		return b, err
	}
	defer b.Release()
	nb, err := alloc.CopyBlock(t, b)
	if err != nil {
		return nil, err
	}
	*ref = nb.Ref()
	return nb, nil
}

func newBlock(t *btree.Tx, ref *format.BlockRef, level int) (*block.Block, error) {
	blkno, err := t.Alloc.AllocBlock()
	if err != nil {
		return nil, err
	}
	kind := BlockKind
	if level > 0 {
		kind = ParentKind
	}
	b := t.Writer.New(blkno, kind)
	*ref = b.Ref()
	return b, nil
}
