// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package check

import (
	"bytes"
	"cmp"
	"slices"

	"scoutfs/format"
)

// dirCheck is what is known of a directory's entries.
type dirCheck struct {
	entries []dirEntry // by name hash, then sorted by position
	sorted  bool
	next    int    // of entries, the next that readdir items must have
	bytes   uint64 // of names
	subdirs uint64
	hash    uint64 // of the last name
	same    [][]byte
}

// dirEntry is an entry's position and the hash of its value.
type dirEntry struct {
	pos, val uint64
}

// dirParent is a directory with a link.
type dirParent struct {
	ino, parent format.Ino
}

// dirent checks an entry's item by name. Rule 28.
func (f *fsCheck) dirent(p place, key *format.Key, val []byte) {
	n, c := &f.cur, f.c
	d, name, ok := format.ParseDirent(val)
	if !ok {
		return // rule 13
	}
	if d.Hash != key.Second || d.Pos != key.Third || d.Hash != format.NameHash(string(name)) {
		c.err(28, p, "the value says hash %016x and position %d, the name %q has hash %016x", d.Hash, d.Pos, name, format.NameHash(string(name)))
	}
	if bytes.ContainsAny(name, "/\x00") || string(name) == "." || string(name) == ".." {
		c.err(28, p, "the name %q is not allowed", name)
	}
	if n.have && (d.Pos < format.FirstReaddirPos || d.Pos >= n.in.NextReaddirPos) {
		c.err(28, p, "position %d is not in 2 to %d", d.Pos, n.in.NextReaddirPos-1)
	}
	if n.have && !n.is(modeDir) && len(n.dir.entries) == 0 {
		c.err(28, p, "entry %q of an inode with mode %o", name, n.in.Mode)
	}
	if d.Type > format.DirentSock {
		c.err(28, p, "entry %q has type %d", name, d.Type)
	}
	f.sameName(p, key.Second, name)
	n.dir.bytes += uint64(len(name))
	if d.Type == format.DirentDir {
		n.dir.subdirs++
	}
	n.dir.entries = append(n.dir.entries, dirEntry{pos: d.Pos, val: format.Hash64(val)})
	f.links.add(link{target: d.Ino, dir: n.ino, pos: d.Pos, val: format.Hash64(val) &^ 1})
}

// sameName finds names that a directory has twice: they have the same hash.
func (f *fsCheck) sameName(p place, hash uint64, name []byte) {
	d := &f.cur.dir
	if d.hash != hash {
		d.hash, d.same = hash, d.same[:0]
	}
	for _, o := range d.same {
		if bytes.Equal(o, name) {
			f.c.err(28, p, "the directory has the name %q twice", name)
		}
	}
	d.same = append(d.same, bytes.Clone(name))
}

// readdir checks an entry's item by position. Rule 28.
func (f *fsCheck) readdir(p place, key *format.Key, val []byte) {
	d := &f.cur.dir
	f.sortEntries()
	for d.next < len(d.entries) && d.entries[d.next].pos < key.Second {
		f.absent(Error, 28, f.cur.at, "the entry at position %d has no item by position", d.entries[d.next].pos)
		d.next++
	}
	if d.next == len(d.entries) || d.entries[d.next].pos != key.Second {
		f.absent(Error, 28, p, "no item by name has this position")
		return
	}
	if d.entries[d.next].val != format.Hash64(val) {
		f.c.err(28, p, "the items by name and by position differ")
	}
	d.next++
}

func (f *fsCheck) sortEntries() {
	d := &f.cur.dir
	if d.sorted {
		return
	}
	d.sorted = true
	slices.SortFunc(d.entries, func(a, b dirEntry) int { return cmp.Compare(a.pos, b.pos) })
	for i := 1; i < len(d.entries); i++ {
		if d.entries[i].pos == d.entries[i-1].pos {
			f.c.err(28, f.cur.at, "two entries have position %d", d.entries[i].pos)
		}
	}
}

// backref checks the item that leads from an inode to a directory. Rules 25, 28.
func (f *fsCheck) backref(p place, key *format.Key, val []byte) {
	n, c := &f.cur, f.c
	d, name, ok := format.ParseDirent(val)
	if !ok {
		return // rule 13
	}
	n.backrefs++
	if n.backrefs == 1 {
		n.parent = format.Ino(key.Second)
	}
	if n.ino == format.RootIno {
		c.err(25, p, "the root has a backref")
	}
	if d.Ino != n.ino || d.Pos != key.Third {
		c.err(28, p, "the value says inode %d and position %d", d.Ino, d.Pos)
	}
	if n.have && d.Type != format.DirentType(n.in.Mode) {
		c.err(28, p, "entry %q has type %d, the inode's mode %o is of type %d", name, d.Type, n.in.Mode, format.DirentType(n.in.Mode))
	}
	f.links.add(link{target: n.ino, dir: format.Ino(key.Second), pos: key.Third, val: format.Hash64(val) | 1})
}

// endDir checks a directory as a whole. Rules 28 to 30.
func (f *fsCheck) endDir() {
	n := &f.cur
	d := &n.dir
	f.sortEntries()
	for ; d.next < len(d.entries); d.next++ {
		f.absent(Error, 28, n.at, "the entry at position %d has no item by position", d.entries[d.next].pos)
	}
	if !n.is(modeDir) {
		return
	}
	if n.in.Size != d.bytes {
		f.absent(Error, 30, n.at, "directory of size %d, the names have %d bytes", n.in.Size, d.bytes)
	}
	if n.in.Nlink == 0 && len(d.entries) > 0 {
		f.absent(Error, 29, n.at, "unlinked directory with %d entries", len(d.entries))
	}
}

// endLinks checks the link count. Rule 29.
func (f *fsCheck) endLinks() {
	n := &f.cur
	if !n.is(modeDir) {
		if uint64(n.in.Nlink) != n.backrefs {
			f.absent(Error, 29, n.at, "nlink is %d, there are %d backrefs", n.in.Nlink, n.backrefs)
		}
		return
	}
	want := uint64(1)
	if n.ino == format.RootIno || n.in.Nlink == 0 {
		want = 0
	}
	if n.backrefs != want && n.ino != format.RootIno {
		f.absent(Error, 29, n.at, "directory with nlink %d and %d backrefs", n.in.Nlink, n.backrefs)
	}
	if n.in.Nlink == 0 {
		return
	}
	if uint64(n.in.Nlink) != 2+n.dir.subdirs {
		f.absent(Error, 29, n.at, "directory with nlink %d and %d subdirectories", n.in.Nlink, n.dir.subdirs)
	}
	f.dirs = append(f.dirs, dirParent{ino: n.ino, parent: n.parent})
}

// checkTree checks that every directory is reachable from the root. Rule 29.
func (f *fsCheck) checkTree() {
	state := make([]uint8, len(f.dirs)) // 1: on the way, 2: reachable, 3: not
	var way []int
	for i := range f.dirs {
		way = way[:0]
		at, result := i, uint8(3)
		for {
			if state[at] >= 2 {
				result = state[at]
				break
			}
			if state[at] == 1 {
				break // a cycle
			}
			state[at] = 1
			way = append(way, at)
			if f.dirs[at].ino == format.RootIno {
				result = 2
				break
			}
			next, ok := slices.BinarySearchFunc(f.dirs, f.dirs[at].parent, func(d dirParent, ino format.Ino) int { return cmp.Compare(d.ino, ino) })
			if !ok {
				break
			}
			at = next
		}
		for _, j := range way {
			state[j] = result
		}
		if result == 3 {
			f.absent(Error, 29, place{structure: inodeName(f.dirs[i].ino)}, "directory is not reachable from the root: its parent is inode %d", f.dirs[i].parent)
		}
	}
}

// link is one side of an entry: bit 0 of val is 1 for a backref.
type link struct {
	target, dir format.Ino
	pos, val    uint64
}

// linkSet holds sides of entries of which the other did not come yet.
type linkSet struct {
	all   []link
	limit int
}

func (s *linkSet) add(l link) {
	s.all = append(s.all, l)
	if len(s.all) >= max(s.limit, 1<<20) {
		s.settle()
		s.limit = 2 * len(s.all)
	}
}

// settle sorts the set and takes out entries of which both sides are there.
func (s *linkSet) settle() {
	slices.SortFunc(s.all, func(a, b link) int {
		return cmp.Or(cmp.Compare(a.target, b.target), cmp.Compare(a.dir, b.dir), cmp.Compare(a.pos, b.pos), cmp.Compare(a.val, b.val))
	})
	out := s.all[:0]
	for _, l := range s.all {
		if n := len(out); n > 0 && l.val&1 == 1 && out[n-1] == (link{l.target, l.dir, l.pos, l.val &^ 1}) {
			out = out[:n-1]
		} else {
			out = append(out, l)
		}
	}
	s.all = out
}

// finish reports what is left. Rule 28.
func (s *linkSet) finish(f *fsCheck) {
	s.settle()
	for i, l := range s.all {
		if i+1 < len(s.all) && s.all[i+1].target == l.target && s.all[i+1].dir == l.dir && s.all[i+1].pos == l.pos {
			f.absent(Error, 28, place{structure: inodeName(l.dir)}, "the entry at position %d and the backref of inode %d differ", l.pos, l.target)
			continue
		}
		if i > 0 && s.all[i-1].target == l.target && s.all[i-1].dir == l.dir && s.all[i-1].pos == l.pos {
			continue
		}
		if l.val&1 == 0 {
			f.absent(Error, 28, place{structure: inodeName(l.dir)}, "the entry at position %d leads to inode %d, which has no backref of it", l.pos, l.target)
		} else {
			k := format.KeyBackref(l.target, l.dir, l.pos)
			f.absent(Error, 28, place{structure: inodeName(l.target), key: &k}, "backref without an entry in directory %d", l.dir)
		}
	}
}
