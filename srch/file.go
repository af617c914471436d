// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package srch

import (
	"fmt"

	"scoutfs/block"
	"scoutfs/format"
)

// Kinds of the blocks of a file.
var (
	ParentKind = &block.Kind{Magic: format.MagicSrchParent, Verify: verifyParent}
	BlockKind  = &block.Kind{Magic: format.MagicSrchBlock, Verify: verifyBlock}
)

// maxHeight is enough for every block of the greatest device.
const maxHeight = 6

// maxEntryBytes is what fits after a data block's header.
const maxEntryBytes = format.LargeSize - format.SrchHdrSize

func verifyParent(b []byte) error {
	if len(b) != format.LargeSize {
		return fmt.Errorf("srch parent: %d bytes", len(b))
	}
	p := format.Overlay[format.SrchParent](b)
	ended := false
	for i, r := range p.Refs {
		if !r.IsNull() && (ended || r.Blkno < format.FirstMetaBlkno) {
			return fmt.Errorf("srch parent: reference %d to block %d", i, r.Blkno)
		}
		ended = ended || r.IsNull()
	}
	return nil
}

func verifyBlock(b []byte) error {
	if len(b) != format.LargeSize {
		return fmt.Errorf("srch block: %d bytes", len(b))
	}
	h := format.Overlay[format.SrchBlock](b)
	if h.EntryBytes > maxEntryBytes || h.EntryNr > h.EntryBytes/2 {
		return fmt.Errorf("srch block: %d entries in %d bytes", h.EntryNr, h.EntryBytes)
	}
	return eachEntry(b, func(*format.SrchEntry) error { return nil })
}

// eachEntry decodes all entries of the data block b.
func eachEntry(b []byte, fn func(*format.SrchEntry) error) error {
	h := format.Overlay[format.SrchBlock](b)
	data := b[format.SrchHdrSize : format.SrchHdrSize+h.EntryBytes]
	var e format.SrchEntry
	pos := 0
	for i := range h.EntryNr {
		if pos > format.SrchMaxStart {
			return fmt.Errorf("srch block: entry %d starts at %d", i, pos)
		}
		next, n, err := DecodeEntry(data[pos:], &e)
		if err != nil {
			return fmt.Errorf("srch block: entry %d at %d: %w", i, pos, err)
		}
		e, pos = next, pos+n
		if err := fn(&next); err != nil {
			return err
		}
	}
	if pos != len(data) {
		return fmt.Errorf("srch block: %d entries take %d of %d bytes", h.EntryNr, pos, len(data))
	}
	return nil
}

func overlayBlock(b *block.Block) *format.SrchBlock {
	return format.Overlay[format.SrchBlock](b.Bytes())
}
func overlayParent(b *block.Block) *format.SrchParent {
	return format.Overlay[format.SrchParent](b.Bytes())
}

func corrupt(c *block.Cache, blkno format.Blkno, msg string, args ...any) error {
	return &format.CorruptError{Device: c.Device().Name(), Blkno: blkno, Reason: "srch: " + fmt.Sprintf(msg, args...)}
}

// span is how many data blocks a block of the level covers; level 0 is data.
func span(level int) uint64 {
	n := uint64(1)
	for range level {
		n *= format.SrchParentRefs
	}
	return n
}

// heightFor is the least height of a file that has data block n.
func heightFor(n uint64) int {
	h := 1
	for n >= span(h-1) {
		h++
	}
	return h
}

// checkFile refuses heads that contradict themselves.
func checkFile(c *block.Cache, f *format.SrchFile) error {
	h := int(f.Height)
	if h > maxHeight || (h == 0) != f.Ref.IsNull() || (h == 0) != (f.Blocks == 0) || h > 0 && f.Blocks > span(h-1) {
		return corrupt(c, f.Ref.Blkno, "file of %d blocks has height %d", f.Blocks, h)
	}
	return nil
}

// read reads a block of a file by its level.
func read(c *block.Cache, ref format.BlockRef, level int) (*block.Block, error) {
	kind := BlockKind
	if level > 0 {
		kind = ParentKind
	}
	b, err := c.Read(ref, kind)
	if err != nil {
		return nil, fmt.Errorf("srch: read block %d: %w", ref.Blkno, err)
	}
	return b, nil
}

// readData reads data block n, which must be less than f.Blocks.
func readData(c *block.Cache, f *format.SrchFile, n uint64) (*block.Block, error) {
	level := int(f.Height) - 1
	b, err := read(c, f.Ref, level)
	for ; err == nil && level > 0; level-- {
		parent := b
		i := n / span(level-1) % format.SrchParentRefs
		b, err = read(c, overlayParent(parent).Refs[i], level-1)
		parent.Release()
	}
	return b, err
}

// Blocks calls fn for each block of f, parents before what they refer to, data
// blocks (level 0) in ascending order; those of level 0 are not read. It
// returns fn's error at once. A StaleError means that the file has changed.
func Blocks(c *block.Cache, f *format.SrchFile, fn func(ref format.BlockRef, level int) error) error {
	if err := checkFile(c, f); err != nil || f.Height == 0 {
		return err
	}
	return blocks(c, f.Ref, int(f.Height)-1, f.Blocks, fn)
}

// blocks visits the block ref of the level and the first nr data blocks below.
func blocks(c *block.Cache, ref format.BlockRef, level int, nr uint64, fn func(format.BlockRef, int) error) error {
	if err := fn(ref, level); err != nil || level == 0 {
		return err
	}
	b, err := read(c, ref, level)
	if err != nil {
		return err
	}
	defer b.Release()
	each := span(level - 1)
	for i := 0; nr > 0; i++ {
		child := overlayParent(b).Refs[i]
		if child.IsNull() {
			return corrupt(c, ref.Blkno, "parent misses reference %d", i)
		}
		n := min(nr, each)
		if err := blocks(c, child, level-1, n, fn); err != nil {
			return err
		}
		nr -= n
	}
	return nil
}

// Walk calls fn for each entry of f in stored order. The entry is fn's only
// during the call. It returns fn's error at once. A StaleError means that the
// file has changed. Blocks without entries are skipped.
func Walk(c *block.Cache, f *format.SrchFile, fn func(*format.SrchEntry) error) error {
	return Blocks(c, f, func(ref format.BlockRef, level int) error {
		if level > 0 {
			return nil
		}
		b, err := read(c, ref, 0)
		if err != nil {
			return err
		}
		defer b.Release()
		return eachEntry(b.Bytes(), fn)
	})
}
