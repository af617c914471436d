// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package volume

import (
	"syscall"

	"scoutfs/block"
	"scoutfs/format"
	"scoutfs/txn"
)

const maxFileSize = 1<<63 - 1

// blocksOf is how many blocks hold size bytes.
func blocksOf(size uint64) uint64 {
	return size>>format.SmallShift + (size&(format.SmallSize-1)+format.SmallSize-1)>>format.SmallShift
}

// Setattr changes attributes and returns the new ones. Setting the size
// removes or adds a hole at the end; if that needs to cut archived data it waits for the
// data. EPERM under retention, EFBIG, EINVAL or EISDIR for sizes of what is no file,
// EOPNOTSUPP for modes of symbolic links. Permission is the kernel's to check.
func (v *Volume) Setattr(c *Caller, ino format.Ino, s *SetAttr) (a Attr, err error) {
	o := v.start(c)
	defer o.end()
	err = o.await(func() error {
		a, err = o.setattr(ino, s)
		return err
	})
	return a, err
}

// setattr is one attempt. Source: spec filesystem 2.5.
func (o *op) setattr(ino format.Ino, set *SetAttr) (Attr, error) {
	s, err := o.lockSlot(ino)
	if err != nil {
		return Attr{}, err
	}
	if err := o.readInode(s.lk, ino, &s.in); err != nil {
		return Attr{}, err
	}
	if err := o.checkSetattr(s, set); err != nil {
		return Attr{}, err
	}
	rest := set.Valid
	if set.Valid&SetSize != 0 {
		if err := o.setSize(s, set.Size); err != nil {
			return Attr{}, err
		}
		rest &^= SetSize
	}
	if rest != 0 {
		if err := o.change(txn.Freeing, func() error { return o.setattrIn(s, set) }); err != nil {
			return Attr{}, err
		}
	}
	return s.attr(), nil
}

func (o *op) checkSetattr(s *slot, set *SetAttr) error {
	switch in := &s.in; {
	case in.Flags&format.InodeRetention != 0:
		return syscall.EPERM
	case set.Valid&SetMode != 0 && in.Mode&modeType == modeLnk && o.v.acls:
		return syscall.EOPNOTSUPP
	case set.Valid&SetSize == 0:
		return nil
	case isDir(in):
		return syscall.EISDIR
	case !isReg(in):
		return syscall.EINVAL
	case set.Size > maxFileSize:
		return syscall.EFBIG
	}
	return nil
}

// setattrIn sets all attributes but the size in the open transaction.
func (o *op) setattrIn(s *slot, set *SetAttr) error {
	in, now := &s.in, o.v.timestamp()
	if in.Flags&format.InodeRetention != 0 {
		return syscall.EPERM
	}
	has := func(bit uint32) bool { return set.Valid&bit != 0 }
	if has(SetMode) {
		in.Mode = in.Mode&modeType | set.Mode&modePerm
	}
	if has(SetUID) {
		in.UID = set.UID
	}
	if has(SetGID) {
		in.GID = set.GID
	}
	if has(SetKillPriv) && isReg(in) {
		killPriv(in)
	}
	if has(SetMode) {
		if err := o.chmodACL(s); err != nil {
			return err
		}
	}
	setTime(&in.Atime, has(SetAtime), set.Atime, has(SetAtimeNow), now)
	setTime(&in.Mtime, has(SetMtime), set.Mtime, has(SetMtimeNow), now)
	setTime(&in.Ctime, has(SetCtime), set.Ctime, !has(SetCtime), now)
	in.Version++
	return o.writeInode(s)
}

// killPriv takes away the bits that run a file as somebody else.
func killPriv(in *format.Inode) {
	in.Mode &^= modeSUID
	if in.Mode&0o010 != 0 {
		in.Mode &^= modeSGID
	}
}

func setTime(t *format.Timespec, set bool, to format.Timespec, setNow bool, now format.Timespec) {
	switch {
	case setNow:
		*t = now
	case set:
		*t = to
	}
}

// setSize changes the size of a file and removes what is behind it.
func (o *op) setSize(s *slot, size uint64) error {
	for {
		if err := o.finishTruncate(s); err != nil {
			return err
		}
		s.data = true
		err := o.changeFull(nil, txn.Freeing, func() error { return o.setSizeIn(s, size) })
		s.data = false
		if err == errAgain {
			continue
		}
		if err != nil {
			return err
		}
		return o.finishTruncate(s)
	}
}

// setSizeIn changes the size in the open transaction and removes extents behind
// it. If some remain the flag TRUNCATE keeps that in mind. errAgain if it is
// set already.
func (o *op) setSizeIn(s *slot, size uint64) error {
	in := &s.in
	if in.Flags&format.InodeTruncate != 0 {
		return errAgain
	}
	if in.Flags&format.InodeRetention != 0 {
		return syscall.EPERM
	}
	if size > 0 && size != in.Size {
		if err := o.checkOnline(s, 0, blocksOf(size), waitChangeSize); err != nil {
			return err
		}
	}
	if size != in.Size {
		if err := o.zeroTail(s, min(size, in.Size)); err != nil {
			return err
		}
	}
	now := o.v.timestamp()
	if size != in.Size {
		in.DataVersion++
	}
	if size <= in.Size {
		more, err := o.removeExtents(s, blocksOf(size))
		if err != nil {
			return err
		}
		if more {
			in.Flags |= format.InodeTruncate
		}
	}
	in.Size = size
	in.Mtime, in.Ctime = now, now
	in.Version++
	return o.writeInode(s)
}

// zeroTail zeroes what the last block of a file of the given size holds behind
// its end, if the block is written. Holes stay holes. It is for sizes that are
// cut, and for an end that is about to be inside of the file: a crash may have
// left data there that was written in place but never became part of the file.
func (o *op) zeroTail(s *slot, size uint64) error {
	tail := size & (format.SmallSize - 1)
	if tail == 0 {
		return nil
	}
	b := size >> format.SmallShift
	e, err := o.nextExtent(o.v.engine, s.lk, s.ino, b)
	if notFound(err) {
		return nil
	}
	if err != nil || e.Iblock > b || !e.written() {
		return err
	}
	buf := block.AlignedBuf(format.SmallSize)
	defer block.FreeBuf(buf)
	p := e.part(b, b+1)
	off := int64(p.Blkno) << format.SmallShift
	if err := o.v.checkRange(&p); err != nil {
		return err
	}
	if err := block.ReadAt(o.v.data, buf, off); err != nil {
		return err
	}
	if isZero(buf[tail:]) {
		return nil
	}
	clear(buf[tail:])
	return block.WriteAt(o.v.data, buf, off)
}

func isZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// finishTruncate removes the extents behind the size of a file that has the
// flag TRUNCATE, some in each transaction, and clears the flag with the last.
func (o *op) finishTruncate(s *slot) error {
	for s.in.Flags&format.InodeTruncate != 0 {
		err := o.changeFull(nil, txn.Freeing, func() error {
			if s.in.Flags&format.InodeTruncate == 0 {
				return nil // another task has done it
			}
			more, err := o.removeExtents(s, blocksOf(s.in.Size))
			if err != nil {
				return err
			}
			if !more {
				s.in.Flags &^= format.InodeTruncate
				s.in.Version++
			}
			return o.writeInode(s)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// removeExtents frees the blocks of s from block from on, of at most
// extentsPerStep extents, and changes s.in's counts. It reports whether some are left.
func (o *op) removeExtents(s *slot, from uint64) (bool, error) {
	w := &o.win
	if err := o.load(w, o.v.engine, s.lk, s.ino, from, format.MaxIblock+1, extentsPerStep+2); err != nil {
		return false, err
	}
	more, n := w.to <= format.MaxIblock, 0
	for _, e := range w.old {
		if e.end() <= from || e.Iblock >= w.to {
			continue
		}
		if n++; n > extentsPerStep {
			more = true
			break
		}
		p := e.part(max(e.Iblock, from), e.end())
		if err := w.set(Extent{Iblock: p.Iblock, Blocks: p.Blocks}); err != nil {
			return false, err
		}
		if p.mapped() {
			if err := o.tx.FreeData(p.Blkno, p.Blocks); err != nil {
				return false, err
			}
		}
	}
	if err := o.store(w, o.tx, s.lk, s.ino); err != nil {
		return false, err
	}
	o.addBlocks(s, w)
	return more, nil
}
