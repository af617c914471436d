// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package volume

import (
	"errors"
	"sync"
	"syscall"

	"scoutfs/format"
	"scoutfs/lock"
)

// errAgain makes an operation start again, because what it found out before it
// had its locks is no longer so.
var errAgain = errors.New("volume: names changed")

// Lookup returns the inode that name has in dir and adds a reference to it.
// "." is dir itself, ".." its parent; for these ESTALE says that dir is gone.
// ENOENT if there is no such name.
func (v *Volume) Lookup(c *Caller, dir format.Ino, name string) (Attr, error) {
	if len(name) > format.MaxNameLen {
		return Attr{}, syscall.ENAMETOOLONG
	}
	o := v.start(c)
	defer o.end()
	switch name {
	case ".":
		a, err := o.take(dir)
		if notFound(err) {
			err = syscall.ESTALE
		}
		return a, err
	case "..":
		ino, err := o.parent(dir)
		if err != nil {
			return Attr{}, err
		}
		return o.take(ino)
	}
	for prev := format.Ino(0); ; {
		ino, err := o.resolve(dir, name)
		if err != nil {
			return Attr{}, err
		}
		a, err := o.take(ino)
		if !notFound(err) {
			return a, err
		}
		// The name was removed, or replaced, between the two locks: numbers
		// do not come back.
		if ino == prev {
			return Attr{}, corrupt("entry of directory %d leads to missing inode %d", dir, ino)
		}
		prev = ino
	}
}

// take loads ino, which a name leads to, and adds a reference. ENOENT if it has
// no link any more. The two are one step for a deletion, which looks at the
// references under the mutex.
func (o *op) take(ino format.Ino) (Attr, error) {
	n := o.nlocks
	lk, err := o.lockRead(ino)
	if err != nil {
		return Attr{}, err
	}
	defer o.releaseFrom(n)
	var a Attr
	if err := o.takeLocked(lk, ino, &a); err != nil {
		return Attr{}, err
	}
	return a, nil
}

// takeLocked is take under the lock of the inode's group. After an error what
// is in a means nothing.
func (o *op) takeLocked(lk *lock.Lock, ino format.Ino, a *Attr) error {
	st := &o.v.stripes[stripeOf(ino)]
	st.RLock()
	defer st.RUnlock()
	a.Ino = ino
	if err := o.readInode(lk, ino, &a.Inode); err != nil {
		if err == syscall.ESTALE {
			err = syscall.ENOENT
		}
		return err
	}
	if a.Nlink == 0 {
		return syscall.ENOENT
	}
	o.v.refs.add(ino, a.Nlink)
	return nil
}

// parent returns the directory of dir's first backref; the root is its own.
// ESTALE if there is none.
func (o *op) parent(dir format.Ino) (format.Ino, error) {
	if dir == format.RootIno {
		return dir, nil
	}
	n := o.nlocks
	lk, err := o.lockRead(dir)
	if err != nil {
		return 0, err
	}
	defer o.releaseFrom(n)
	_, ino, _, err := o.firstBackref(lk, dir, 0, 0)
	if notFound(err) {
		return 0, syscall.ESTALE
	}
	return ino, err
}

// entry is a collected directory entry; its name is a part of a batch's bytes.
type entry struct {
	ino       format.Ino
	pos       uint64
	typ       uint8
	off, size int
}

// batch is about a page of directory entries.
type batch struct {
	entries []entry
	names   []byte
	attrs   [plusChunk]Attr // of some entries, for ReadDirPlus
}

const (
	batchEntries = 128
	batchBytes   = 4096
	plusChunk    = 32                   // entries whose attributes are read at once
	lastPos      = format.MaxKeyU64 - 1 // the last position that is searched
)

var batchPool = sync.Pool{New: func() any {
	return &batch{entries: make([]entry, 0, batchEntries), names: make([]byte, 0, batchBytes+format.MaxNameLen)}
}}

// ReadDir calls fn for the entries of dir with positions from pos on, in
// order, until fn returns false. "." has position 0, ".." 1; to go on later,
// start at the last accepted entry's position plus one. It holds no lock while fn runs.
func (v *Volume) ReadDir(c *Caller, dir format.Ino, pos uint64, fn func(e *DirEntry) bool) error {
	o := v.start(c)
	defer o.end()
	return o.readDir(dir, pos, fn)
}

// ReadDirPlus is ReadDir with the attributes of each entry. Every entry that
// fn accepts gets a reference, except "." and "..", whose attributes are nil.
// An entry that is removed meanwhile is left out.
func (v *Volume) ReadDirPlus(c *Caller, dir format.Ino, pos uint64, fn func(e *DirEntry, a *Attr) bool) error {
	o := v.start(c)
	defer o.end()
	b := batchPool.Get().(*batch)
	defer batchPool.Put(b)
	for {
		next, done, err := o.collect(b, dir, pos)
		if err != nil {
			return err
		}
		for part := b.entries; len(part) > 0; {
			n, err := o.takeAll(b, part)
			if !o.give(b, part[:n], fn) {
				return nil
			}
			if err != nil {
				return err
			}
			part = part[n:]
		}
		if done {
			return nil
		}
		pos = next
	}
}

// takeAll fills b.attrs for entries from the first on, with a reference for
// each, under the locks of their groups, and returns how many it did. The
// number is 0 in the attributes of those that are gone.
func (o *op) takeAll(b *batch, part []entry) (n int, err error) {
	base := o.nlocks
	defer func() { o.releaseFrom(base) }()
	var lk *lock.Lock
	var locked uint64
	for ; n < min(len(part), plusChunk); n++ {
		e := &part[n]
		b.attrs[n].Ino = 0
		if e.pos < format.FirstReaddirPos {
			continue
		}
		if lk == nil || group(e.ino) != locked {
			o.releaseFrom(base)
			if lk, err = o.lockRead(e.ino); err != nil {
				return n, err
			}
			locked = group(e.ino)
		}
		if err := o.takeLocked(lk, e.ino, &b.attrs[n]); err != nil {
			b.attrs[n].Ino = 0
			if !notFound(err) {
				return n, err
			}
		}
	}
	return n, nil
}

// give hands entries and their attributes to fn, and drops the references of
// those that it does not accept. It reports whether fn accepted all.
func (o *op) give(b *batch, part []entry, fn func(e *DirEntry, a *Attr) bool) bool {
	accepting := true
	for i := range part {
		e, a := &part[i], &b.attrs[i]
		if a.Ino == 0 {
			if a = nil; e.pos >= format.FirstReaddirPos {
				continue // it was removed meanwhile
			}
		}
		if accepting {
			o.entry = DirEntry{Ino: e.ino, Pos: e.pos, Type: e.typ, Name: b.names[e.off : e.off+e.size]}
			accepting = fn(&o.entry, a)
			if accepting {
				continue
			}
		}
		if a != nil {
			o.v.Forget(a.Ino, 1)
		}
	}
	return accepting
}

func (o *op) readDir(dir format.Ino, pos uint64, fn func(e *DirEntry) bool) error {
	b := batchPool.Get().(*batch)
	defer batchPool.Put(b)
	for {
		next, done, err := o.collect(b, dir, pos)
		if err != nil {
			return err
		}
		for i := range b.entries {
			e := &b.entries[i]
			o.entry = DirEntry{Ino: e.ino, Pos: e.pos, Type: e.typ, Name: b.names[e.off : e.off+e.size]}
			if !fn(&o.entry) {
				return nil
			}
		}
		if done {
			return nil
		}
		pos = next
	}
}

// collect fills b with entries of dir from pos on, under its lock. next is
// where to go on unless done.
func (o *op) collect(b *batch, dir format.Ino, pos uint64) (next uint64, done bool, err error) {
	b.entries, b.names = b.entries[:0], b.names[:0]
	lk, err := o.lockRead(dir)
	if err != nil {
		return 0, false, err
	}
	defer o.releaseFrom(o.nlocks - 1)
	st := &o.v.stripes[stripeOf(dir)]
	st.RLock()
	defer st.RUnlock()
	var in format.Inode
	if err := o.readInode(lk, dir, &in); err != nil {
		return 0, false, err
	}
	if !isDir(&in) {
		return 0, false, syscall.ENOTDIR
	}
	if pos, err = o.collectDots(b, lk, dir, pos); err != nil {
		return 0, false, err
	}
	for pos <= lastPos && len(b.entries) < batchEntries && len(b.names) < batchBytes {
		o.key, o.last = format.KeyReaddir(dir, pos), format.KeyReaddir(dir, lastPos)
		n, err := o.v.engine.Next(&o.wait, lk, &o.key, &o.last, o.buf[:])
		if notFound(err) {
			return 0, true, nil
		}
		if err != nil {
			return 0, false, err
		}
		d, name, ok := format.ParseDirent(o.buf[:min(n, len(o.buf))])
		if !ok {
			return 0, false, o.badName(&o.v.m.corruptReaddir, "SC_DIRENT_READDIR_NAME_LEN", n)
		}
		b.add(d.Ino, o.key.Second, format.DirentDT(d.Type), name)
		pos = o.key.Second + 1
	}
	return pos, pos > lastPos, nil
}

// collectDots adds "." and "..", which are not stored.
func (o *op) collectDots(b *batch, lk *lock.Lock, dir format.Ino, pos uint64) (uint64, error) {
	const dt = 4 // DT_DIR
	if pos == 0 {
		b.add(dir, 0, dt, []byte("."))
	}
	if pos <= 1 {
		up := dir
		if dir != format.RootIno {
			_, parent, _, err := o.firstBackref(lk, dir, 0, 0)
			if err != nil && !notFound(err) {
				return 0, err
			}
			if err == nil {
				up = parent
			}
		}
		b.add(up, 1, dt, []byte(".."))
	}
	return max(pos, format.FirstReaddirPos), nil
}

func (b *batch) add(ino format.Ino, pos uint64, typ uint8, name []byte) {
	b.entries = append(b.entries, entry{ino: ino, pos: pos, typ: typ, off: len(b.names), size: len(name)})
	b.names = append(b.names, name...)
}
