// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package volume

import (
	"slices"
	"syscall"

	"scoutfs/format"
	"scoutfs/lock"
	"scoutfs/txn"
)

// maxRestarts is how often a walk from an inode to the root starts again when a
// parent has just lost its name.
const maxRestarts = 10

// renaming is one rename and what it found.
type renaming struct {
	odir, ndir   format.Ino
	oname, nname string
	flags        uint32
	orphans      *lock.Lock

	from, to, src, dst *slot // dst nil: the new name is not there
}

// Rename gives what is oname in odir the name nname in ndir, which loses what
// it had. flags is 0 or RenameNoreplace (EEXIST if the new name is there);
// others give EINVAL, as does moving a directory below itself.
func (v *Volume) Rename(c *Caller, odir format.Ino, oname string, ndir format.Ino, nname string, flags uint32) error {
	if flags&^RenameNoreplace != 0 {
		return syscall.EINVAL
	}
	for _, name := range [...]string{oname, nname} {
		if err := checkName(name); err == syscall.EEXIST {
			return syscall.EBUSY
		} else if err != nil {
			return err
		}
	}
	o := v.start(c)
	defer o.end()
	r := renaming{odir: odir, ndir: ndir, oname: oname, nname: nname, flags: flags}
	return o.again(func() error { return o.rename(&r) })
}

// rename is one attempt. Source: spec filesystem 3.4.
func (o *op) rename(r *renaming) error {
	if r.odir != r.ndir {
		if _, err := o.acquire(lock.Rename(), format.LockWrite); err != nil {
			return err
		}
	}
	src, err := o.resolve(r.odir, r.oname)
	if err != nil {
		return err
	}
	dst, err := o.resolve(r.ndir, r.nname)
	switch {
	case err != nil && !notFound(err):
		return err
	case err == nil && r.flags&RenameNoreplace != 0:
		return syscall.EEXIST
	case err == nil && src == dst:
		return nil // two names of one inode
	case err != nil:
		dst = 0
	}
	if r.odir != r.ndir {
		if err := o.checkLoop(r, src, dst); err != nil {
			return err
		}
	}
	if src == r.odir || src == r.ndir || (dst != 0 && (dst == r.odir || dst == r.ndir)) {
		return syscall.EINVAL
	}
	if err := o.lockRename(r, src, dst); err != nil {
		return err
	}
	return o.change(txn.Allocating, func() error { return o.renameIn(r) })
}

// checkLoop refuses to move a directory below itself, or over one of its
// ancestors. The rename lock keeps the answer true.
func (o *op) checkLoop(r *renaming, src, dst format.Ino) error {
	up, err := o.ancestors(r.ndir)
	if err != nil {
		return err
	}
	if slices.Contains(up, src) {
		return syscall.EINVAL
	}
	if dst == 0 {
		return nil
	}
	if up, err = o.ancestors(r.odir); err != nil {
		return err
	}
	if slices.Contains(up, dst) {
		return syscall.EINVAL
	}
	return nil
}

// ancestors returns dir and all directories above it up to the root. It locks
// one at a time. ELOOP if parents keep vanishing.
func (o *op) ancestors(dir format.Ino) ([]format.Ino, error) {
	var chain []format.Ino
	for range maxRestarts {
		chain = append(chain[:0], dir)
		ino, err := dir, error(nil)
		for ino != format.RootIno && err == nil {
			if ino, err = o.parent(ino); err == nil {
				if slices.Contains(chain, ino) {
					return nil, corrupt("directory %d is below itself", ino)
				}
				chain = append(chain, ino)
			}
		}
		if err == nil || err != syscall.ESTALE {
			return chain, err
		}
	}
	o.v.m.backrefRetries.Add(1)
	return nil, syscall.ELOOP
}

// lockRename locks the two to four inodes of a rename.
func (o *op) lockRename(r *renaming, src, dst format.Ino) error {
	from, to, s, d := o.addSlot(r.odir), o.addSlot(r.ndir), o.addSlot(src), -1
	if dst != 0 {
		d = o.addSlot(dst)
	}
	r.from, r.to, r.src, r.dst, r.orphans = &o.slots[from], &o.slots[to], &o.slots[s], nil, nil
	if err := o.lockSlots(); err != nil {
		return err
	}
	if d < 0 {
		return nil
	}
	r.dst = &o.slots[d]
	var err error
	r.orphans, err = o.lockOrphans(r.dst)
	return err
}

// renameIn makes all changes of a rename in the open transaction.
func (o *op) renameIn(r *renaming) error {
	src, err := o.expect(r.from, r.src, r.oname)
	if err != nil {
		return err
	}
	dst, err := o.checkTarget(r)
	if err != nil {
		return err
	}
	if r.src.in.Flags&format.InodeRetention != 0 {
		return syscall.EPERM
	}
	if r.dst != nil {
		if err := o.removeEntry(r.to, r.dst, dst); err != nil {
			return err
		}
	}
	if err := o.removeEntry(r.from, r.src, src); err != nil {
		return err
	}
	if err := o.addEntry(r.to, r.src, r.nname); err != nil {
		return err
	}
	now := o.v.timestamp()
	if err := o.renameTarget(r, now); err != nil {
		return err
	}
	r.from.in.Size -= min(uint64(len(r.oname)), r.from.in.Size)
	if isDir(&r.src.in) {
		r.from.in.Nlink--
		r.to.in.Nlink++
	}
	for _, s := range [...]*slot{r.from, r.to} {
		s.in.Mtime, s.in.Ctime = now, now
	}
	r.src.in.Ctime = now
	return o.storeRename(r)
}

// checkTarget validates the new name and what it leads to.
func (o *op) checkTarget(r *renaming) (format.DirentHdr, error) {
	if r.dst == nil {
		err := o.expectNone(r.to, r.nname)
		if err == syscall.EEXIST && r.flags&RenameNoreplace == 0 {
			err = errAgain
		}
		return format.DirentHdr{}, err
	}
	d, err := o.expect(r.to, r.dst, r.nname)
	if notFound(err) {
		err = errAgain
	}
	switch in := &r.dst.in; {
	case err != nil:
	case isDir(&r.src.in) && !isDir(in):
		err = syscall.ENOTDIR
	case !isDir(&r.src.in) && isDir(in):
		err = syscall.EISDIR
	case isDir(in) && in.Size != 0:
		err = syscall.ENOTEMPTY
	case in.Flags&format.InodeRetention != 0:
		err = syscall.EPERM
	}
	return d, err
}

// renameTarget changes the inode that the new name led to, or makes room for
// the new name.
func (o *op) renameTarget(r *renaming, now format.Timespec) error {
	if r.dst == nil {
		r.to.in.Size += uint64(len(r.nname))
		return nil
	}
	if err := o.dropLink(r.dst, r.orphans); err != nil {
		return err
	}
	if isDir(&r.dst.in) {
		r.to.in.Nlink--
	}
	r.dst.in.Ctime = now
	return nil
}

// storeRename writes the inodes of a rename.
func (o *op) storeRename(r *renaming) error {
	for i := range o.slots[:o.nslots] {
		s := &o.slots[i]
		s.in.Version++
		if err := o.writeInode(s); err != nil {
			return err
		}
	}
	if r.dst != nil {
		o.unlinked(r.dst)
	}
	return nil
}
