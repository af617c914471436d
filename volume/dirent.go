// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package volume

import (
	"strings"
	"syscall"

	"scoutfs/format"
	"scoutfs/lock"
)

// checkName refuses names that no directory can hold.
func checkName(name string) error {
	switch {
	case len(name) > format.MaxNameLen:
		return syscall.ENAMETOOLONG
	case name == "":
		return syscall.ENOENT
	case name == "." || name == "..":
		return syscall.EEXIST
	case strings.IndexByte(name, '/') >= 0 || strings.IndexByte(name, 0) >= 0:
		return syscall.EINVAL
	}
	return nil
}

// badName reports an entry item whose name has an impossible length.
func (o *op) badName(n counter, id string, valLen int) error {
	n.Add(1)
	o.v.log.Error("volume: "+id+": bad length of a name", "key", o.key, "length", valLen-format.DirentHdrSize)
	return corrupt("%s: item %v of %d bytes", id, o.key, valLen)
}

// findName looks name up in dir. ENOENT if it is not there.
func (o *op) findName(lk *lock.Lock, dir format.Ino, name string) (format.DirentHdr, error) {
	hash := format.NameHash(name)
	o.key = format.KeyDirent(dir, hash, 0)
	o.last = format.KeyDirent(dir, hash, format.MaxKeyU64)
	for {
		n, err := o.v.engine.Next(&o.wait, lk, &o.key, &o.last, o.buf[:])
		if err != nil {
			return format.DirentHdr{}, err
		}
		d, got, ok := format.ParseDirent(o.buf[:min(n, len(o.buf))])
		if !ok {
			return d, o.badName(&o.v.m.corruptName, "SC_DIRENT_NAME_LEN", n)
		}
		if string(got) == name {
			return d, nil
		}
		if o.key.Third == format.MaxKeyU64 {
			return d, syscall.ENOENT
		}
		o.key.Third++
	}
}

// firstBackref returns the first entry that leads to ino at or after (dir,
// pos), and where it is. The name is in o.buf until the next call. ENOENT if
// there is none.
func (o *op) firstBackref(lk *lock.Lock, ino, dir format.Ino, pos uint64) (d format.DirentHdr, parent format.Ino, name []byte, err error) {
	o.key = format.KeyBackref(ino, dir, pos)
	o.last = format.KeyBackref(ino, format.Ino(format.MaxKeyU64), format.MaxKeyU64)
	n, err := o.v.engine.Next(&o.wait, lk, &o.key, &o.last, o.buf[:])
	if err != nil {
		return d, 0, nil, err
	}
	d, name, ok := format.ParseDirent(o.buf[:min(n, len(o.buf))])
	if !ok {
		return d, 0, nil, o.badName(&o.v.m.corruptBackref, "SC_DIRENT_BACKREF_NAME_LEN", n)
	}
	d.Pos = o.key.Third
	return d, format.Ino(o.key.Second), name, nil
}

// addEntry creates the three items of a new entry at the end of dir and takes
// its position from the directory. It changes no size or time.
func (o *op) addEntry(dir, target *slot, name string) error {
	d := format.DirentHdr{
		Ino: target.ino, Hash: format.NameHash(name), Pos: dir.in.NextReaddirPos,
		Type: format.DirentType(target.in.Mode),
	}
	dir.in.NextReaddirPos++
	val := format.AppendDirent(o.val[:0], d, name)
	o.key = format.KeyDirent(dir.ino, d.Hash, d.Pos)
	if err := o.tx.Create(dir.lk, &o.key, val); err != nil {
		return err
	}
	o.key = format.KeyReaddir(dir.ino, d.Pos)
	if err := o.tx.Create(dir.lk, &o.key, val); err != nil {
		return err
	}
	o.key = format.KeyBackref(target.ino, dir.ino, d.Pos)
	return o.tx.Create(target.lk, &o.key, val)
}

// removeEntry deletes the three items of the entry d of dir.
func (o *op) removeEntry(dir, target *slot, d format.DirentHdr) error {
	o.key = format.KeyDirent(dir.ino, d.Hash, d.Pos)
	if err := o.tx.Delete(dir.lk, &o.key); err != nil {
		return entryError(err)
	}
	o.key = format.KeyReaddir(dir.ino, d.Pos)
	if err := o.tx.Delete(dir.lk, &o.key); err != nil {
		return entryError(err)
	}
	o.key = format.KeyBackref(target.ino, dir.ino, d.Pos)
	return entryError(o.tx.Delete(target.lk, &o.key))
}

// entryError makes a missing item of an entry that is there a corruption.
func entryError(err error) error {
	if notFound(err) {
		return corrupt("an entry lacks one of its items")
	}
	return err
}

// resolve finds the number that name has in dir, under a lock that it holds
// only for that. ENOENT if it is not there.
func (o *op) resolve(dir format.Ino, name string) (format.Ino, error) {
	n := o.nlocks
	lk, err := o.lockRead(dir)
	if err != nil {
		return 0, err
	}
	defer o.releaseFrom(n)
	st := &o.v.stripes[stripeOf(dir)]
	st.RLock()
	defer st.RUnlock()
	d, err := o.findName(lk, dir, name)
	return d.Ino, err
}

// expect looks name up in dir again, under the final locks, and checks that it
// leads to the inode that the locks are for. errAgain if it does not.
func (o *op) expect(dir, target *slot, name string) (format.DirentHdr, error) {
	d, err := o.findName(dir.lk, dir.ino, name)
	if err == nil && d.Ino != target.ino {
		err = errAgain
	}
	return d, err
}

// expectNone checks that dir can take the new name. EEXIST if it has it,
// ENOENT if dir is itself removed, ENOTDIR if it is no directory.
func (o *op) expectNone(dir *slot, name string) error {
	if err := checkDir(&dir.in); err != nil {
		return err
	}
	_, err := o.findName(dir.lk, dir.ino, name)
	if err == nil {
		return syscall.EEXIST
	}
	if notFound(err) {
		return nil
	}
	return err
}

func checkDir(in *format.Inode) error {
	if !isDir(in) {
		return syscall.ENOTDIR
	}
	if in.Nlink == 0 {
		return syscall.ENOENT
	}
	return nil
}
