// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package volume

import (
	"syscall"

	"scoutfs/format"
	"scoutfs/txn"
)

// maxFallocate is the most blocks that are asked for at once: 128 MiB.
const maxFallocate = 32768

// Fallocate makes sure that the n bytes from off have blocks, which read as
// zeros or stay archived until written. mode is 0, then the size grows to the end of the
// range, or FallocKeepSize; others give EOPNOTSUPP. After an error or an
// interruption (EINTR) a part may be done.
func (v *Volume) Fallocate(c *Caller, ino format.Ino, mode uint32, off, n int64) error {
	switch {
	case mode&^FallocKeepSize != 0:
		return syscall.EOPNOTSUPP
	case n == 0:
		return nil
	case off < 0 || n < 0:
		return syscall.EINVAL
	case off+n-1 < off:
		return syscall.EINVAL
	case off+n < off:
		return syscall.EFBIG
	}
	o := v.start(c)
	defer o.end()
	s, err := o.lockSlot(ino)
	if err != nil {
		return err
	}
	if err := o.readInode(s.lk, ino, &s.in); err != nil {
		return err
	}
	// What a truncation has left must not come back when the size grows.
	if err := o.finishTruncate(s); err != nil {
		return err
	}
	f := fallocating{b: uint64(off) >> format.SmallShift, end: uint64(off + n), keep: mode&FallocKeepSize != 0}
	for f.b < blocksOf(f.end) {
		err := o.changeFull(&v.m.fallocateRetry, txn.Allocating, func() error { return o.fallocateStep(s, &f) })
		if err != nil {
			return err
		}
		if f.b < blocksOf(f.end) && o.wait.Err() != nil {
			return syscall.EINTR
		}
	}
	return nil
}

// fallocating is a preallocation and how far it got.
type fallocating struct {
	b    uint64 // the first block that is not done
	end  uint64 // bytes
	keep bool
}

// fallocateStep handles up to extentsPerStep extents in the open transaction.
// Source: spec filesystem 4.7.
func (o *op) fallocateStep(s *slot, f *fallocating) error {
	if isDir(&s.in) {
		return syscall.EISDIR
	}
	if !isReg(&s.in) {
		return syscall.ENODEV
	}
	w, end := &o.win, blocksOf(f.end)
	if err := o.load(w, o.v.engine, s.lk, s.ino, f.b, end, extentsPerStep+2); err != nil {
		return err
	}
	b := f.b
	for n := 0; n < extentsPerStep && b < min(end, w.to); n++ {
		e := w.at(b)
		to := min(e.end(), end, w.to)
		if e.mapped() {
			b = to
			continue
		}
		blkno, got, err := o.tx.AllocData(min(to-b, maxFallocate))
		if err != nil {
			if b == f.b || !isSpace(err) {
				return err
			}
			break // keep what is done; the next step will say what is wrong
		}
		x := Extent{Iblock: b, Blocks: got, Blkno: blkno, Flags: e.Flags | format.ExtentUnwritten}
		if err := w.set(x); err != nil {
			return err
		}
		b += got
	}
	if err := o.store(w, o.tx, s.lk, s.ino); err != nil {
		return err
	}
	o.addBlocks(s, w)
	if size := min(b<<format.SmallShift, f.end); !f.keep && size > s.in.Size {
		if err := o.zeroTail(s, s.in.Size); err != nil {
			return err
		}
		s.in.Size = size
		s.in.DataVersion++
		s.in.Version++
	}
	if err := o.writeInode(s); err != nil {
		return err
	}
	f.b = b
	return nil
}
