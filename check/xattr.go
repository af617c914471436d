// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package check

import (
	"bytes"
	"cmp"
	"slices"

	"scoutfs/format"
)

// xattrCheck is what is known of the xattr whose parts are coming, and of names
// with the same hash.
type xattrCheck struct {
	any   bool
	hash  uint64
	id    uint64
	total int // bytes of all parts
	have  int
	next  uint8 // part
	bad   bool
	names [][]byte // that had the same hash

	wantIndexes []xattrIndex
	wantEntries []format.SrchEntry
}

// xattrPart takes a part of an xattr. Rule 34.
func (f *fsCheck) xattrPart(p place, key *format.Key, val []byte) {
	n := &f.cur
	x := &n.x
	if !x.any || key.Second != x.hash || key.Third != x.id {
		f.endXattr()
		if !x.any || key.Second != x.hash {
			x.names = x.names[:0]
		}
		x.any, x.hash, x.id, x.total, x.have, x.next, x.bad = true, key.Second, key.Third, 0, 0, 0, false
		if n.have && x.id >= n.in.NextXattrID {
			f.c.err(34, p, "id %d, the inode's next_xattr_id is %d", x.id, n.in.NextXattrID)
		}
	}
	if key.Fourth != x.next {
		if !x.bad {
			f.absent(Error, 34, p, "part %d is missing", x.next)
		}
		x.bad = true
		return
	}
	if x.next == 0 {
		f.xattrStart(p, key, val)
	} else if want := min(x.total-x.have, format.MaxValue); len(val) != want && !x.bad {
		f.c.err(34, p, "part of %d bytes instead of %d", len(val), want)
		x.bad = true
	}
	x.have += len(val)
	x.next++
}

// xattrStart takes the first part, with header and name.
func (f *fsCheck) xattrStart(p place, key *format.Key, val []byte) {
	x := &f.cur.x
	h, name, value, ok := format.ParseXattr(val)
	if !ok {
		f.c.err(34, p, "first part of %d bytes for a name of %d and a value of %d", len(val), h.NameLen, h.ValLen)
		x.bad = true
		return
	}
	x.total = format.XattrHdrSize + int(h.NameLen) + int(h.ValLen)
	if hash := uint64(format.XattrNameHash(string(name))); hash != key.Second {
		f.c.err(34, p, "the hash of the name %q is %08x", name, hash)
	}
	for _, o := range x.names {
		if bytes.Equal(o, name) {
			f.c.err(34, p, "the inode has the name %q twice", name)
		}
	}
	x.names = append(x.names, bytes.Clone(name))
	f.tags(p, string(name), value, int(h.ValLen))
}

// endXattr checks that all parts of the last xattr have come.
func (f *fsCheck) endXattr() {
	x := &f.cur.x
	if x.any && !x.bad && x.have != x.total {
		f.absent(Error, 34, f.cur.at, "the xattr with hash %08x and id %d has %d bytes instead of %d", x.hash, x.id, x.have, x.total)
	}
}

// tags takes what the tags of an xattr's name promise. Rules 34 to 37, 39.
func (f *fsCheck) tags(p place, name string, value []byte, valLen int) {
	n := &f.cur
	t, ok := format.ParseTags(name)
	if !ok {
		f.c.err(34, p, "the tags of the name %q are wrong", name)
		return
	}
	if t&format.TagSrch != 0 {
		n.x.wantEntries = append(n.x.wantEntries, format.SrchEntry{Hash: format.Hash64(name), Ino: n.ino, ID: n.x.id})
	}
	if t&format.TagTotl != 0 {
		abc, ok1 := format.ParseTotlName(name)
		v, ok2 := format.ParseNumber(value)
		if !ok1 || !ok2 || valLen != len(value) {
			f.c.err(34, p, "the total of the name %q or its value %.40q cannot be parsed", name, value)
		} else {
			k := format.KeyTotl(abc[0], abc[1], abc[2])
			sum := f.totals[k]
			sum.want.Total += v
			sum.want.Count++
			f.totals[k] = sum
		}
	}
	if t&format.TagIndx == 0 {
		return
	}
	if f.c.super.FmtVers < 2 {
		f.c.err(39, p, "indx xattr %q in a volume of format version 1", name)
		return
	}
	major, minor, ok := format.ParseIndxName(name)
	if !ok || valLen != 0 {
		f.c.err(34, p, "the position of the name %q cannot be parsed, or it has a value", name)
		return
	}
	n.x.wantIndexes = append(n.x.wantIndexes, xattrIndex{ino: n.ino, id: n.x.id, minor: minor, major: major})
}

// endTags compares the inode's xattrs with its index items and srch entries.
// Rules 36 and 37.
func (f *fsCheck) endTags() {
	n := &f.cur
	key := func(x *xattrIndex) *format.Key {
		k := format.KeyXattrIndex(x.major, x.minor, x.ino, x.id)
		return &k
	}
	difference(n.x.wantIndexes, n.indexes, compareIndexes, func(x *xattrIndex) {
		f.absent(Error, 36, place{structure: n.at.structure, key: key(x)}, "the indx xattr with id %d has no index item", x.id)
	}, func(x *xattrIndex) {
		if !n.have {
			f.lostXattrIndex(x)
			return
		}
		f.absent(Error, 36, place{structure: n.at.structure, key: key(x)}, "index item, but there is no such xattr")
	})
	difference(n.x.wantEntries, n.entries, func(a, b format.SrchEntry) int { return compareEntries(&a, &b) }, func(e *format.SrchEntry) {
		f.absent(Error, 37, n.at, "the srch xattr with id %d occurs an even number of times in srch files", e.ID)
	}, f.lostEntry)
}

func compareIndexes(a, b xattrIndex) int {
	return cmp.Or(cmp.Compare(a.ino, b.ino), cmp.Compare(a.id, b.id), cmp.Compare(a.major, b.major), cmp.Compare(a.minor, b.minor))
}

// difference sorts two sets and calls onlyA and onlyB for what just one has.
func difference[T any](a, b []T, compare func(a, b T) int, onlyA, onlyB func(*T)) {
	slices.SortFunc(a, compare)
	slices.SortFunc(b, compare)
	i, j := 0, 0
	for i < len(a) || j < len(b) {
		order := -1
		if i == len(a) {
			order = 1
		} else if j < len(b) {
			order = compare(a[i], b[j])
		}
		if order < 0 {
			onlyA(&a[i])
		} else if order > 0 {
			onlyB(&b[j])
		}
		if order <= 0 {
			i++
		}
		if order >= 0 {
			j++
		}
	}
}
