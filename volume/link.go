// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package volume

import (
	"syscall"

	"scoutfs/format"
	"scoutfs/lock"
	"scoutfs/txn"
)

// again repeats an operation until the names that it started from are those
// that it finds under its locks.
// They are names of a damaged volume if that does not happen.
func (o *op) again(try func() error) error {
	for range 100 {
		err := try()
		if err != errAgain {
			return err
		}
		o.unlock()
	}
	return corrupt("an entry leads to a missing inode")
}

// Link gives ino another name and adds a reference. An inode without links
// must be in use. EPERM for directories, EMLINK, EEXIST.
func (v *Volume) Link(c *Caller, ino, dir format.Ino, name string) (Attr, error) {
	if err := checkName(name); err != nil {
		return Attr{}, err
	}
	o := v.start(c)
	defer o.end()
	d, i := o.addSlot(dir), o.addSlot(ino)
	if d == i {
		return Attr{}, syscall.EPERM
	}
	ds, s := &o.slots[d], &o.slots[i]
	if err := o.lockSlots(); err != nil {
		return Attr{}, err
	}
	if err := o.readInode(s.lk, ino, &s.in); err != nil {
		return Attr{}, err
	}
	var orphans *lock.Lock
	if s.in.Nlink == 0 { // it cannot lose its last link while we hold W and, being in use, was not deleted
		var err error
		if orphans, err = o.acquire(lock.Orphans(), format.LockWriteOnly); err != nil {
			return Attr{}, err
		}
	}
	if err := o.change(txn.Allocating, func() error { return o.linkIn(ds, s, name, orphans) }); err != nil {
		return Attr{}, err
	}
	return s.attr(), nil
}

// linkIn makes all changes of a link, and last adds the reference, so that a
// deletion sees both or none.

func (o *op) linkIn(dir, s *slot, name string, orphans *lock.Lock) error {
	if isDir(&s.in) {
		return syscall.EPERM
	}
	if err := o.expectNone(dir, name); err != nil {
		return err
	}
	if s.in.Nlink >= format.MaxLinks {
		return syscall.EMLINK
	}
	if s.in.Nlink == 0 {
		if orphans == nil || !o.v.refs.used(s.ino) {
			return syscall.ENOENT
		}
		o.key = format.KeyOrphan(s.ino)
		if err := o.tx.DeleteForce(orphans, &o.key, s.lk); err != nil {
			return err
		}
	}
	if err := o.addEntry(dir, s, name); err != nil {
		return err
	}
	now := o.v.timestamp()
	dir.in.Size += uint64(len(name))
	dir.in.Mtime, dir.in.Ctime = now, now
	dir.in.Version++
	s.in.Nlink++
	s.in.Ctime = now
	s.in.Version++
	if err := o.writeInode(s); err != nil {
		return err
	}
	if err := o.writeInode(dir); err != nil {
		return err
	}
	o.v.refs.add(s.ino, s.in.Nlink)
	return nil
}

// Unlink removes a name of something that is no directory. The inode is deleted once it
// has no link and no reference. EISDIR, ENOENT, EPERM under retention.
func (v *Volume) Unlink(c *Caller, dir format.Ino, name string) error {
	return v.remove(c, dir, name, false)
}

// Rmdir removes an empty directory. ENOTDIR, ENOTEMPTY, ENOENT.
func (v *Volume) Rmdir(c *Caller, dir format.Ino, name string) error {
	return v.remove(c, dir, name, true)
}

func (v *Volume) remove(c *Caller, dir format.Ino, name string, wantDir bool) error {
	if err := checkName(name); err != nil {
		if err == syscall.EEXIST {
			err = syscall.EINVAL
			if name == ".." {
				err = syscall.ENOTEMPTY
			}
		}
		return err
	}
	o := v.start(c)
	defer o.end()
	return o.again(func() error { return o.remove(dir, name, wantDir) })
}

// remove is one attempt at unlink or rmdir. Source: spec filesystem 3.4.
func (o *op) remove(dirIno format.Ino, name string, wantDir bool) error {
	ino, err := o.resolve(dirIno, name)
	if err != nil {
		return err
	}
	d, i := o.addSlot(dirIno), o.addSlot(ino)
	if d == i {
		return corrupt("directory %d has an entry that leads to itself", dirIno)
	}
	dir, s := &o.slots[d], &o.slots[i]
	if err := o.lockSlots(); err != nil {
		return err
	}
	orphans, err := o.lockOrphans(s)
	if err != nil {
		return err
	}
	if err := o.change(txn.Freeing, func() error { return o.removeIn(dir, s, name, wantDir, orphans) }); err != nil {
		return err
	}
	return nil
}

// lastLink reports whether the inode has one name only.
func lastLink(in *format.Inode) bool { return in.Nlink <= 1 || isDir(in) }

// lockOrphans locks the orphans if s is about to lose its last link. Another
// task of this mount may add or remove links until the change begins, which
// looks again.
func (o *op) lockOrphans(s *slot) (*lock.Lock, error) {
	if err := o.readInode(s.lk, s.ino, &s.in); err != nil {
		return nil, againIfGone(err)
	}
	if !lastLink(&s.in) {
		return nil, nil
	}
	return o.acquire(lock.Orphans(), format.LockWriteOnly)
}

// againIfGone makes an operation start again whose inode was deleted after its
// name was looked up.
func againIfGone(err error) error {
	if err == syscall.ESTALE {
		return errAgain
	}
	return err
}

func (o *op) removeIn(dir, s *slot, name string, wantDir bool, orphans *lock.Lock) error {
	d, err := o.expect(dir, s, name)
	if err != nil {
		return err
	}
	switch {
	case wantDir && !isDir(&s.in):
		return syscall.ENOTDIR
	case !wantDir && isDir(&s.in):
		return syscall.EISDIR
	case isDir(&s.in) && s.in.Size != 0:
		return syscall.ENOTEMPTY
	case s.in.Flags&format.InodeRetention != 0:
		return syscall.EPERM
	}
	now := o.v.timestamp()
	if err := o.removeEntry(dir, s, d); err != nil {
		return err
	}
	if err := o.dropLink(s, orphans); err != nil {
		return err
	}
	dir.in.Size -= min(uint64(len(name)), dir.in.Size)
	if isDir(&s.in) {
		dir.in.Nlink--
	}
	dir.in.Mtime, dir.in.Ctime = now, now
	dir.in.Version++
	s.in.Ctime = now
	s.in.Version++
	if err := o.writeInode(s); err != nil {
		return err
	}
	if err := o.writeInode(dir); err != nil {
		return err
	}
	o.unlinked(s)
	return nil
}

// dropLink takes a name's link away from s, a directory's own one too, and
// creates the orphan item with the last one. errAgain if that was not foreseen.
func (o *op) dropLink(s *slot, orphans *lock.Lock) error {
	if !lastLink(&s.in) {
		s.in.Nlink--
		return nil
	}
	if orphans == nil {
		return errAgain
	}
	s.in.Nlink = 0
	o.key = format.KeyOrphan(s.ino)
	return o.tx.CreateForce(orphans, &o.key, nil, s.lk)
}

// unlinked lets s be deleted if it has no link. It is the last step of a
// change; the deletion waits for the stripe.
func (o *op) unlinked(s *slot) {
	if s.in.Nlink == 0 && o.v.refs.unlinked(s.ino) {
		o.v.orphans.push(s.ino)
	}
}
