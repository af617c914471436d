// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package volume

import (
	"errors"
	"syscall"

	"scoutfs/block"
	"scoutfs/format"
	"scoutfs/lock"
	"scoutfs/txn"
)

// maxStep is how many blocks one transaction of a write handles at most.
const maxStep = 256

// maxWindow is how many extents a write loads at once.
const maxWindow = 1024

// Write writes data to a file and returns how much was written, and the new
// attributes: with WriteAppend the data begins at their size minus that. It
// waits while any data of the file is archived. A short count has no error; the
// next call will say what is wrong. The data is on the device when Write
// returns, and durable after Fsync. data is only read, and not kept; if it and off are
// aligned to 4096 it is not copied either.
func (v *Volume) Write(c *Caller, ino format.Ino, off int64, data []byte, flags uint32) (int, Attr, error) {
	if off < 0 {
		return 0, Attr{}, syscall.EINVAL
	}
	o := v.start(c)
	defer o.end()
	w := writing{off: uint64(off), data: data, add: flags&WriteAppend != 0}
	err := o.await(func() error { return o.write(ino, &w) })
	if w.done == 0 && err != nil {
		return 0, Attr{}, err
	}
	if flags&WriteSync != 0 {
		o.unlock()
		if err := v.engine.Sync(&o.wait); err != nil {
			return 0, Attr{}, err
		}
	}
	return w.done, w.attr, nil
}

// writing is a write and how far it got.
type writing struct {
	off  uint64
	data []byte
	add  bool // at the end of the file
	done int  // bytes
	attr Attr // as of the last piece
}

// write is one attempt. Source: spec filesystem 4.4.
func (o *op) write(ino format.Ino, w *writing) error {
	s := &o.slots[o.addSlot(ino)]
	lk, err := o.acquirePage(lock.InodeGroup(ino), format.LockWrite)
	if err != nil {
		return err
	}
	s.lk = lk
	if err := o.readInode(lk, ino, &s.in); err != nil {
		return err
	}
	if s.in.Flags&format.InodeRetention != 0 {
		return syscall.EPERM
	}
	if err := o.finishTruncate(s); err != nil {
		return err
	}
	s.data = true
	for {
		err := o.changeFull(&o.v.m.writeBeginRetry, txn.Allocating, func() error { return o.writeStep(s, w) })
		if err != nil {
			return err
		}
		w.attr = s.attr()
		if w.done == len(w.data) {
			return nil
		}
	}
}

// checkWrite refuses writes that cannot be, and those that must wait.
func (o *op) checkWrite(s *slot, w *writing) error {
	in := &s.in
	switch {
	case isDir(in):
		return syscall.EISDIR
	case !isReg(in):
		return syscall.EINVAL
	}
	if w.add && w.done == 0 {
		w.off = in.Size
	}
	if w.off >= maxFileSize && len(w.data) > 0 {
		return syscall.EFBIG
	}
	if in.Flags&format.InodeRetention != 0 {
		return syscall.EPERM
	}
	return o.checkOnline(s, 0, blocksOf(in.Size), waitWrite)
}

// writeStep writes the next piece of w, at most maxStep blocks, in the open
// transaction: it maps blocks, transfers the data, and stores what changed.
func (o *op) writeStep(s *slot, w *writing) error {
	if err := o.checkWrite(s, w); err != nil || len(w.data) == 0 {
		return err
	}
	pos := w.off + uint64(w.done)
	first := pos >> format.SmallShift
	end := min(pos+uint64(len(w.data)-w.done), (first+maxStep)<<format.SmallShift, maxFileSize)
	if pos >= end {
		return syscall.EFBIG
	}
	if first > s.in.Size>>format.SmallShift {
		if err := o.zeroTail(s, s.in.Size); err != nil {
			return err
		}
	}
	p := piece{pos: pos, end: end, first: first, last: (end - 1) >> format.SmallShift}
	if err := o.mapBlocks(s, &p); err != nil {
		return err
	}
	if p.end <= pos {
		return syscall.ENOBUFS
	}
	n := int(p.end - pos)
	if err := o.transfer(s, &p, w.data[w.done:][:n]); err != nil {
		return err
	}
	if err := o.store(&o.win, o.tx, s.lk, s.ino); err != nil {
		return err
	}
	o.addBlocks(s, &o.win)
	in, now := &s.in, o.v.timestamp()
	in.Size = max(in.Size, p.end)
	in.Mtime, in.Ctime = now, now
	in.DataVersion++
	in.Version++
	if err := o.writeInode(s); err != nil {
		return err
	}
	w.done += n
	return nil
}

// piece is a part of a write and what mapBlocks found out about its blocks.
type piece struct {
	pos, end              uint64 // bytes
	first, last           uint64 // blocks
	firstFresh, lastFresh bool   // the block had no data before
}

// mapBlocks gives all blocks of p a place on the device, in o.win. If space runs
// out it makes p shorter; ENOSPC and ENOBUFS are returned if nothing is left.
// Source: spec filesystem 4.2.
func (o *op) mapBlocks(s *slot, p *piece) error {
	pol := o.v.tun.policy()
	from, err := o.windowStart(s, p, pol)
	if err != nil {
		return err
	}
	w := &o.win
	if err := o.load(w, o.v.engine, s.lk, s.ino, from, p.last+1, maxWindow); err != nil {
		return err
	}
	if w.to <= p.last { // too many extents for one step
		p.cut(w.to)
	}
	online := s.in.OnlineBlocks
	for b := p.first; b <= p.last; {
		n, fresh, err := o.mapRun(w, pol, b, p.last, online)
		if err != nil {
			if b == p.first || !isSpace(err) {
				return err
			}
			p.cut(b)
			return nil
		}
		if fresh {
			online += n
			p.firstFresh = p.firstFresh || b == p.first
			p.lastFresh = b+n > p.last
		}
		b += n
	}
	return nil
}

// cut makes p end before block b.
func (p *piece) cut(b uint64) {
	p.end = b << format.SmallShift
	p.last = b - 1
	p.lastFresh = p.last == p.first && p.firstFresh
}

func isSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.ENOBUFS) || errors.Is(err, syscall.EDQUOT)
}

// windowStart is the first block that allocation for p may touch.
func (o *op) windowStart(s *slot, p *piece, pol policy) (uint64, error) {
	start := p.first - p.first%pol.blocks
	if !pol.regions || start == p.first {
		return p.first, nil
	}
	e, err := o.nextExtent(o.v.engine, s.lk, s.ino, start)
	if err == nil && e.Iblock < p.first {
		return p.first, nil // the region has been begun before p
	}
	if notFound(err) {
		err = nil
	}
	return start, err
}

// mapRun makes some blocks from b to last written. n says how many; fresh that
// they had no data before. Written blocks stay where they are.
func (o *op) mapRun(w *window, pol policy, b, last, online uint64) (n uint64, fresh bool, err error) {
	e := w.at(b)
	n = min(e.end(), last+1) - b
	if e.written() {
		return n, false, nil
	}
	if e.mapped() {
		x := e.part(b, b+n)
		x.Flags = 0
		return n, true, w.set(x)
	}
	r := pol.plan(w, b, online)
	blkno, got, err := o.tx.AllocData(r.want)
	if err != nil {
		return 0, false, err
	}
	return 1, true, r.apply(w, b, blkno, got)
}

// transfer writes data to the blocks of p. Blocks that it does not fill are
// read first, or zeroed if they are fresh.
func (o *op) transfer(s *slot, p *piece, data []byte) error {
	if p.pos&(format.SmallSize-1) == 0 && p.end&(format.SmallSize-1) == 0 && alignedBuf(data) {
		return o.writeBlocks(p, data)
	}
	buf := block.AlignedBuf(int(p.last-p.first+1) << format.SmallShift)
	defer block.FreeBuf(buf)
	head := int(p.pos & (format.SmallSize - 1))
	if head != 0 {
		if err := o.fillBlock(s, p.first, p.firstFresh, buf[:format.SmallSize]); err != nil {
			return err
		}
	}
	tail := int(p.end & (format.SmallSize - 1))
	if tail != 0 && (p.last != p.first || head == 0) {
		if err := o.fillBlock(s, p.last, p.lastFresh, buf[len(buf)-format.SmallSize:]); err != nil {
			return err
		}
	}
	copy(buf[head:], data)
	return o.writeBlocks(p, buf)
}

// fillBlock reads a block that is to be overwritten in part, as the file shows it: zeros
// if it is fresh, and behind the end.
func (o *op) fillBlock(s *slot, b uint64, fresh bool, buf []byte) error {
	start := b << format.SmallShift
	if fresh || start >= s.in.Size {
		clear(buf)
		return nil
	}
	e := o.win.at(b)
	x := e.part(b, b+1)
	if err := o.v.checkRange(&x); err != nil {
		return err
	}
	if err := block.ReadAt(o.v.data, buf, int64(x.Blkno)<<format.SmallShift); err != nil {
		return err
	}
	if known := s.in.Size - start; known < format.SmallSize {
		clear(buf[known:])
	}
	return nil
}

// writeBlocks writes the blocks of p from the aligned buf, in one batch.
func (o *op) writeBlocks(p *piece, buf []byte) error {
	o.ops = o.ops[:0]
	for b := p.first; b <= p.last; {
		e := o.win.at(b)
		x := e.part(b, min(e.end(), p.last+1))
		if err := o.v.checkRange(&x); err != nil {
			return err
		}
		from := (b - p.first) << format.SmallShift
		o.ops = append(o.ops, block.Op{
			Write: true, Off: int64(x.Blkno) << format.SmallShift, Buf: buf[from:][:x.Blocks<<format.SmallShift],
		})
		b += x.Blocks
	}
	return o.doOps()
}
