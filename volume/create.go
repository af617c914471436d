// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package volume

import (
	"syscall"

	"scoutfs/format"
	"scoutfs/lock"
	"scoutfs/txn"
)

// newInode is what a creating call asks for.
type newInode struct {
	dir    format.Ino
	name   string // empty for Tmpfile
	mode   uint32 // type and permission bits
	rdev   uint32
	target string // of symbolic links
}

// Create makes a regular file and adds a reference. mode holds permission
// bits; the caller's umask or the directory's default ACL is applied. EEXIST
// if the name is there already, which O_EXCL is not needed for.
func (v *Volume) Create(c *Caller, dir format.Ino, name string, mode uint32) (Attr, error) {
	return v.create(c, newInode{dir: dir, name: name, mode: modeReg | mode&modePerm})
}

// Mkdir makes a directory and adds a reference.
func (v *Volume) Mkdir(c *Caller, dir format.Ino, name string, mode uint32) (Attr, error) {
	return v.create(c, newInode{dir: dir, name: name, mode: modeDir | mode&modePerm})
}

// Mknod makes a fifo, socket, device node or regular file and adds a
// reference. mode holds the type too. rdev is major<<20 | minor.
func (v *Volume) Mknod(c *Caller, dir format.Ino, name string, mode, rdev uint32) (Attr, error) {
	n := newInode{dir: dir, name: name, mode: mode & (modeType | modePerm)}
	switch mode & modeType {
	case modeChr, modeBlk:
		n.rdev = rdev
	case 0:
		n.mode |= modeReg
	case modeReg, modeFifo, modeSock:
	default:
		return Attr{}, syscall.EINVAL
	}
	return v.create(c, n)
}

// Symlink makes a symbolic link and adds a reference. ENAMETOOLONG if the
// target has more than 4095 bytes, ENOENT if it has none.
func (v *Volume) Symlink(c *Caller, dir format.Ino, name, target string) (Attr, error) {
	if len(target) >= format.MaxSymlink {
		return Attr{}, syscall.ENAMETOOLONG
	}
	if target == "" {
		return Attr{}, syscall.ENOENT
	}
	return v.create(c, newInode{dir: dir, name: name, mode: modeLnk | 0o777, target: target})
}

// Tmpfile makes a regular file without a name and adds a reference. Link gives
// it a name; without one it is deleted with its last reference.
func (v *Volume) Tmpfile(c *Caller, dir format.Ino, mode uint32) (Attr, error) {
	o := v.start(c)
	defer o.end()
	return o.create(&newInode{dir: dir, mode: modeReg | mode&modePerm})
}

// create makes an inode with a name.
func (v *Volume) create(c *Caller, n newInode) (Attr, error) {
	if err := checkName(n.name); err != nil {
		return Attr{}, err
	}
	o := v.start(c)
	defer o.end()
	return o.create(&n)
}

// create makes an inode. Source: spec filesystem 3.4.
func (o *op) create(n *newInode) (Attr, error) {
	ino, err := o.v.newIno(&o.wait, n.mode&modeType == modeDir)
	if err != nil {
		return Attr{}, err
	}
	d, i := o.addSlot(n.dir), o.addSlot(ino)
	dir, s := &o.slots[d], &o.slots[i]
	s.fresh = true
	s.data = n.mode&modeType == modeReg
	if err := o.lockSlots(); err != nil {
		return Attr{}, err
	}
	var orphans *lock.Lock
	if n.name == "" {
		if orphans, err = o.acquire(lock.Orphans(), format.LockWriteOnly); err != nil {
			return Attr{}, err
		}
	}
	err = o.change(txn.Allocating, func() error { return o.createIn(dir, s, n, orphans) })
	if err != nil {
		return Attr{}, err
	}
	return s.attr(), nil
}

// createIn makes all changes of a create in the open transaction, and last
// adds the reference, so that an unlink sees both or none.
func (o *op) createIn(dir, s *slot, n *newInode, orphans *lock.Lock) error {
	if err := o.expectRoom(dir, n); err != nil {
		return err
	}
	now := o.v.timestamp()
	acls, err := o.initInode(dir, s, n, now)
	if err != nil {
		return err
	}
	if n.name == "" {
		o.key = format.KeyOrphan(s.ino)
		if err := o.tx.CreateForce(orphans, &o.key, nil, s.lk); err != nil {
			return err
		}
	} else {
		if err := o.addEntry(dir, s, n.name); err != nil {
			return err
		}
		dir.in.Size += uint64(len(n.name))
		dir.in.Mtime, dir.in.Ctime = now, now
		dir.in.Version++
		if isDir(&s.in) {
			dir.in.Nlink++
		}
	}
	if err := o.storeACLs(s, &acls); err != nil {
		return err
	}
	if err := o.storeSymlink(s, n.target); err != nil {
		return err
	}
	if err := o.writeInode(s); err != nil {
		return err
	}
	if err := o.writeInode(dir); err != nil {
		return err
	}
	o.tx.AddInodes(1)
	o.v.refs.add(s.ino, s.in.Nlink)
	return nil
}

// expectRoom checks that the directory can take the new inode.
func (o *op) expectRoom(dir *slot, n *newInode) error {
	if n.name == "" {
		return checkDir(&dir.in)
	}
	return o.expectNone(dir, n.name)
}

// initInode fills the new inode of s and returns the ACLs that it gets.
// Source: spec filesystem 2.2.
func (o *op) initInode(dir, s *slot, n *newInode, now format.Timespec) (newACLs, error) {
	s.in = format.Inode{
		NextReaddirPos: format.FirstReaddirPos,
		Nlink:          1, UID: o.c.UID, GID: o.c.GID, Mode: n.mode, Rdev: n.rdev,
		Atime: now, Ctime: now, Mtime: now, Crtime: now,
	}
	s.in.DataSeq = o.tx.Seq()
	if o.v.vers >= 2 {
		s.in.Proj = dir.in.Proj
	}
	switch {
	case n.name == "":
		s.in.Nlink = 0
	case isDir(&s.in):
		s.in.Nlink = 2
	}
	if n.target != "" {
		s.in.Size = uint64(len(n.target)) + 1
	}
	if dir.in.Mode&modeSGID != 0 {
		s.in.GID = dir.in.GID
		if isDir(&s.in) {
			s.in.Mode |= modeSGID
		}
	}
	return o.inheritACLs(dir, s)
}

// storeSymlink creates the items of a symbolic link's target.
func (o *op) storeSymlink(s *slot, target string) error {
	if target == "" {
		return nil
	}
	val := append(append(make([]byte, 0, len(target)+1), target...), 0)
	for part := uint64(0); len(val) > 0; part++ {
		n := min(len(val), format.MaxValue)
		o.key = format.KeySymlink(s.ino, part)
		if err := o.tx.Create(s.lk, &o.key, val[:n]); err != nil {
			return err
		}
		val = val[n:]
	}
	return nil
}

// Readlink returns the target of a symbolic link. EINVAL if ino is none.
func (v *Volume) Readlink(c *Caller, ino format.Ino) (string, error) {
	o := v.start(c)
	defer o.end()
	lk, err := o.lockRead(ino)
	if err != nil {
		return "", err
	}
	var in format.Inode
	if err := o.readInode(lk, ino, &in); err != nil {
		return "", err
	}
	if in.Mode&modeType != modeLnk {
		return "", syscall.EINVAL
	}
	return o.readSymlink(lk, ino, in.Size)
}

// readSymlink assembles and checks a target. Source: spec filesystem 3.4, 7.3.
func (o *op) readSymlink(lk *lock.Lock, ino format.Ino, size uint64) (string, error) {
	m, log := &o.v.m, o.v.log
	if size == 0 || size > format.MaxSymlink {
		m.corruptSymlinkSize.Add(1)
		log.Error("volume: SC_SYMLINK_INODE_SIZE: bad size of a symbolic link", "ino", ino, "size", size)
		return "", corrupt("SC_SYMLINK_INODE_SIZE: inode %d has size %d", ino, size)
	}
	target := make([]byte, 0, size)
	for part := uint64(0); uint64(len(target)) < size; part++ {
		want := min(format.MaxValue, int(size)-len(target))
		o.key = format.KeySymlink(ino, part)
		n, err := o.v.engine.Lookup(&o.wait, lk, &o.key, o.buf[:])
		if err != nil && !notFound(err) {
			return "", err
		}
		if err != nil || n != want {
			m.corruptSymlinkMissing.Add(1)
			log.Error("volume: SC_SYMLINK_MISSING_ITEM: missing or short part of a symbolic link", "ino", ino, "size", size, "part", part)
			return "", corrupt("SC_SYMLINK_MISSING_ITEM: inode %d part %d of size %d", ino, part, size)
		}
		target = append(target, o.buf[:n]...)
	}
	if target[size-1] != 0 {
		m.corruptSymlinkTermination.Add(1)
		log.Error("volume: SC_SYMLINK_NOT_NULL_TERM: a symbolic link does not end in NUL", "ino", ino, "size", size)
		return "", corrupt("SC_SYMLINK_NOT_NULL_TERM: inode %d size %d", ino, size)
	}
	return string(target[:size-1]), nil
}
