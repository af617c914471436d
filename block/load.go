// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package block

import (
	"fmt"

	"scoutfs/format"
)

// load reads blocks that the caller has put into the index, in one batch, and
// wakes those who wait for them. Results are in each block's err.
func (c *Cache) load(blocks ...*Block) {
	if len(blocks) == 0 {
		return
	}
	ops := make([]Op, len(blocks))
	for i, b := range blocks {
		ops[i] = Op{Off: blockOff(b.ref.Blkno), Buf: b.buf}
	}
	_ = c.dev.Do(ops) // each block has its own error
	for i, b := range blocks {
		c.finish(b, ops[i].Err)
	}
}

// finish judges what was read into b and publishes it.
func (c *Cache) finish(b *Block, err error) {
	if err == nil {
		err = c.verify(b)
	}
	b.err = err
	if err != nil {
		c.remove(b)
	}
	b.ready.Store(true)
	close(b.loaded)
}

// verify checks the bytes of b against its reference and kind.
func (c *Cache) verify(b *Block) error {
	reason := c.mismatch(b)
	if reason != "" { // a write that was in flight may have torn it
		if err := ReadAt(c.dev, b.buf, blockOff(b.ref.Blkno)); err != nil {
			return err
		}
		reason = c.mismatch(b)
	}
	if reason != "" {
		return &format.StaleError{Device: c.dev.Name(), Ref: b.ref, Reason: reason}
	}
	if b.kind.Verify == nil {
		return nil
	}
	if err := b.kind.Verify(b.buf); err != nil {
		return c.corrupt(b.ref, err.Error())
	}
	return nil
}

// mismatch says in what b's header is not as its reference and kind require;
// it is empty if all is right. Source: spec format 2.4.
func (c *Cache) mismatch(b *Block) string {
	h := format.Overlay[format.BlockHeader](b.buf)
	switch {
	case h.Magic != b.kind.Magic:
		return fmt.Sprintf("magic %08x, expected %08x (%v)", uint32(h.Magic), uint32(b.kind.Magic), b.kind.Magic)
	case h.Fsid != c.o.Fsid:
		return fmt.Sprintf("fsid %016x, expected %016x", h.Fsid, c.o.Fsid)
	case h.Blkno != b.ref.Blkno:
		return fmt.Sprintf("header says block %d", h.Blkno)
	case h.Seq != b.ref.Seq:
		return fmt.Sprintf("header says seq %016x", h.Seq)
	}
	if crc := format.Checksum(b.buf); crc != h.CRC {
		return fmt.Sprintf("crc %08x, calculated %08x", h.CRC, crc)
	}
	return ""
}

// blockOff is where a metadata block lies, in bytes.
func blockOff(b format.Blkno) int64 { return int64(b) << format.LargeShift }
