// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package volume

import (
	"math"
	"syscall"

	"scoutfs/block"
	"scoutfs/format"
	"scoutfs/lock"
)

// checkRange makes sure that an extent lies inside of the data device.
func (v *Volume) checkRange(e *Extent) error {
	const limit = (1<<63 - 1) >> format.SmallShift
	if uint64(e.Blkno) >= limit || e.Blocks > limit-uint64(e.Blkno) ||
		!block.Reaches(v.data, int64(uint64(e.Blkno)+e.Blocks)<<format.SmallShift) {
		return corrupt("extent of %d blocks at block %d is outside of the data device", e.Blocks, e.Blkno)
	}
	return nil
}

// alignedBuf reports whether the device can transfer to and from buf.
func alignedBuf(buf []byte) bool {
	op := block.Op{Buf: buf}
	return block.CheckOp(&op, math.MaxInt64) == nil
}

// Read reads from a file into buf and returns how many bytes there were: less
// than len(buf) only at the end of the file. Archived data is waited for.
// What buf holds behind the returned length is arbitrary. If off and buf are aligned to
// 4096, and cap(buf) reaches to the end of the last block, data goes
// from the device straight into buf.
func (v *Volume) Read(c *Caller, ino format.Ino, off int64, buf []byte) (n int, err error) {
	if off < 0 {
		return 0, syscall.EINVAL
	}
	o := v.start(c)
	defer o.end()
	err = o.await(func() error {
		n, err = o.read(ino, uint64(off), buf)
		return err
	})
	return n, err
}

// read is one attempt. Source: spec filesystem 4.3.
func (o *op) read(ino format.Ino, off uint64, buf []byte) (int, error) {
	lk, err := o.acquirePage(lock.InodeGroup(ino), format.LockRead)
	if err != nil {
		return 0, err
	}
	defer o.releaseFrom(o.nlocks - 1)
	st := &o.v.stripes[stripeOf(ino)]
	st.RLock()
	defer st.RUnlock()
	var in format.Inode
	if err := o.readInode(lk, ino, &in); err != nil {
		return 0, err
	}
	if !isReg(&in) {
		if isDir(&in) {
			return 0, syscall.EISDIR
		}
		return 0, syscall.EINVAL
	}
	if in.OfflineBlocks > 0 {
		s := slot{ino: ino, lk: lk, in: in}
		end := min(off+uint64(len(buf)), maxFileSize)
		if err := o.checkOnline(&s, off>>format.SmallShift, blocksOf(end), waitRead); err != nil {
			return 0, err
		}
	}
	if off >= in.Size || len(buf) == 0 {
		return 0, nil
	}
	n := int(min(uint64(len(buf)), in.Size-off))
	return n, o.readData(lk, ino, off, buf, n)
}

// readData reads n bytes at off, all inside of the file, into buf.
func (o *op) readData(lk *lock.Lock, ino format.Ino, off uint64, buf []byte, n int) error {
	first, end := off>>format.SmallShift, blocksOf(off+uint64(n))
	size := int(end-first) << format.SmallShift
	skip := int(off & (format.SmallSize - 1))
	if skip == 0 && size <= cap(buf) && alignedBuf(buf[:size]) {
		return o.readBlocks(lk, ino, first, end, buf[:size])
	}
	for n > 0 { // by way of a bounce buffer of at most 1 MiB
		end := min(end, first+maxStep)
		tmp := block.AlignedBuf(int(end-first) << format.SmallShift)
		err := o.readBlocks(lk, ino, first, end, tmp)
		got := copy(buf[:n], tmp[skip:])
		block.FreeBuf(tmp)
		if err != nil {
			return err
		}
		buf, n, first, skip = buf[got:], n-got, end, 0
	}
	return nil
}

// readBlocks reads the blocks [first, end) into the aligned buf, in one batch.
// Holes and preallocated blocks are zeros.
func (o *op) readBlocks(lk *lock.Lock, ino format.Ino, first, end uint64, buf []byte) error {
	o.ops = o.ops[:0]
	piece := func(b, n uint64) []byte {
		return buf[(b-first)<<format.SmallShift:][:n<<format.SmallShift]
	}
	for b := first; b < end; {
		e, err := o.nextExtent(o.v.engine, lk, ino, b)
		if notFound(err) || (err == nil && e.Iblock >= end) {
			clear(piece(b, end-b))
			break
		}
		if err != nil {
			return err
		}
		if e.Iblock > b {
			clear(piece(b, e.Iblock-b))
			b = e.Iblock
		}
		p := e.part(b, min(e.end(), end))
		b += p.Blocks
		if !p.written() {
			clear(piece(p.Iblock, p.Blocks))
			continue
		}
		if err := o.v.checkRange(&p); err != nil {
			return err
		}
		o.ops = append(o.ops, block.Op{Off: int64(p.Blkno) << format.SmallShift, Buf: piece(p.Iblock, p.Blocks)})
	}
	return o.doOps()
}

// doOps performs the collected operations and forgets their buffers.
func (o *op) doOps() error {
	if len(o.ops) == 0 {
		return nil
	}
	err := o.v.data.Do(o.ops)
	clear(o.ops)
	o.ops = o.ops[:0]
	return err
}

// Seek returns the first offset at or after off that is data (SeekData) or a
// hole (SeekHole). The end of the file is a hole; archived blocks are data,
// preallocated ones are not. ENXIO at or behind the end.
func (v *Volume) Seek(c *Caller, ino format.Ino, off int64, whence int) (int64, error) {
	if whence != SeekData && whence != SeekHole {
		return 0, syscall.EINVAL
	}
	o := v.start(c)
	defer o.end()
	lk, err := o.lockRead(ino)
	if err != nil {
		return 0, err
	}
	st := &v.stripes[stripeOf(ino)]
	st.RLock()
	defer st.RUnlock()
	var in format.Inode
	if err := o.readInode(lk, ino, &in); err != nil {
		return 0, err
	}
	if off < 0 || uint64(off) >= in.Size {
		return 0, syscall.ENXIO
	}
	b := uint64(off) >> format.SmallShift
	for b < blocksOf(in.Size) {
		e, err := o.nextExtent(v.engine, lk, ino, b)
		if err != nil && !notFound(err) {
			return 0, err
		}
		data := err == nil && e.Iblock <= b && (e.written() || e.Flags&format.ExtentOffline != 0)
		if data == (whence == SeekData) {
			return max(off, int64(b)<<format.SmallShift), nil
		}
		switch {
		case err != nil:
			b = blocksOf(in.Size)
		case e.Iblock > b:
			b = e.Iblock
		default:
			b = e.end()
		}
	}
	if whence == SeekHole {
		return int64(in.Size), nil
	}
	return 0, syscall.ENXIO
}
