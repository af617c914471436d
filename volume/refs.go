// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package volume

import (
	"slices"
	"sync"

	"scoutfs/format"
)

const (
	refShards  = 256 // of the reference table; all inodes of a group are in one
	stripeBits = 10
)

// stripeOf is the number of the mutex that ino shares with others.
func stripeOf(ino format.Ino) uint16 {
	return uint16(uint64(ino) * 0x9e3779b97f4a7c15 >> (64 - stripeBits))
}

// refs counts how often the kernel refers to each inode. Inodes without an
// entry are not in use here. Other mounts must not delete those that are; they
// ask with the open map.
//
// A kernel with much memory keeps millions of inodes, so entries are packed:
// those of a group of 1024 inodes are a sorted list of words, and, when there
// are many, one word for each inode. Words hold no pointers.
type refs struct {
	shards [refShards]refShard
}

type refShard struct {
	mu     sync.Mutex
	groups map[uint64]*refGroup  // by number, those that are not empty; +checklocks:mu
	many   map[format.Ino]uint64 // counts that do not fit in a word; +checklocks:mu
	spare  *refGroup             // an empty one that is not in groups, so that a use and its end do not allocate; +checklocks:mu
}

// refGroup is the entries of one group: list, or dense if that is not nil.
type refGroup struct {
	list  []uint32 // sorted: number in the group, refNrShift bits up, and a word
	dense *[format.LockGroup]refWord
	n     int // entries that are not zero
}

// refWord is a count and flags; zero is no entry.
type refWord uint16

const (
	refGone refWord = 1 << iota
	refBusy
	refAgain
	refOne
	refMany = ^refWord(0) >> refShift // a count of this is in refShard.many

	refShift   = 3  // of the count
	refNrShift = 16 // of the inode's number in a list
	refListMax = 256
	refListMin = 64 // as few entries are a list again
)

type ref struct {
	n     uint64 // references of the kernel
	gone  bool   // has no link: to be deleted with the last reference
	busy  bool   // a deletion works on it
	again bool   // another deletion was asked for meanwhile
}

func (r *refs) shard(ino format.Ino) *refShard {
	return &r.shards[group(ino)*0x9e3779b97f4a7c15>>56]
}

// find returns the position in the list where inode nr is or would be.
func (g *refGroup) find(nr uint32) (at int, found bool) {
	lo, hi := 0, len(g.list)
	for lo < hi {
		if m := int(uint(lo+hi) >> 1); g.list[m]>>refNrShift < nr {
			lo = m + 1
		} else {
			hi = m
		}
	}
	return lo, lo < len(g.list) && g.list[lo]>>refNrShift == nr
}

func (g *refGroup) get(nr uint32) refWord {
	if g.dense != nil {
		return g.dense[nr]
	}
	if at, found := g.find(nr); found {
		return refWord(g.list[at])
	}
	return 0
}

func (g *refGroup) set(nr uint32, w refWord) {
	was := g.get(nr)
	if was == 0 && w != 0 {
		g.n++
	} else if was != 0 && w == 0 {
		g.n--
	}
	if g.dense != nil {
		g.dense[nr] = w
		if g.n <= refListMin && was != 0 && w == 0 {
			g.pack()
		}
		return
	}
	at, found := g.find(nr)
	word := nr<<refNrShift | uint32(w)
	switch {
	case found && w != 0:
		g.list[at] = word
	case found:
		g.list = slices.Delete(g.list, at, at+1)
	case w != 0 && len(g.list) < refListMax:
		g.list = slices.Insert(g.list, at, word)
	case w != 0:
		g.dense = new([format.LockGroup]refWord)
		for _, x := range g.list {
			g.dense[x>>refNrShift] = refWord(x)
		}
		g.list = nil
		g.dense[nr] = w
	}
}

// pack makes a list of dense.
func (g *refGroup) pack() {
	list := make([]uint32, 0, g.n)
	g.each(func(nr uint32, w refWord) { list = append(list, nr<<refNrShift|uint32(w)) })
	g.list, g.dense = list, nil
}

// each calls fn for the entries that are not zero.
func (g *refGroup) each(fn func(nr uint32, w refWord)) {
	for _, x := range g.list {
		fn(x>>refNrShift, refWord(x))
	}
	if g.dense != nil {
		for nr, w := range g.dense {
			if w != 0 {
				fn(uint32(nr), w)
			}
		}
	}
}

// words is a copy of the entries by number.
func (g *refGroup) words() map[uint32]refWord {
	m := make(map[uint32]refWord, g.n)
	g.each(func(nr uint32, w refWord) { m[nr] = w })
	return m
}

// get returns the entry of ino, whose group is g, which may be nil. The mutex
// is held.
func (s *refShard) get(g *refGroup, ino format.Ino) ref {
	if g == nil {
		return ref{}
	}
	w := g.get(uint32(ino % format.LockGroup))
	e := ref{n: uint64(w >> refShift), gone: w&refGone != 0, busy: w&refBusy != 0, again: w&refAgain != 0}
	if w>>refShift == refMany {
		e.n = s.many[ino]
	}
	return e
}

// word packs an entry.
func (e ref) word() refWord {
	if e.n == 0 && !e.busy {
		return 0
	}
	w := refWord(min(e.n, uint64(refMany))) << refShift
	if e.gone {
		w |= refGone
	}
	if e.busy {
		w |= refBusy
	}
	if e.again {
		w |= refAgain
	}
	return w
}

// set stores the entry of ino, was being what get returned. The mutex is held.
func (s *refShard) set(g *refGroup, ino format.Ino, was, e ref) {
	w := e.word()
	if g == nil {
		if w == 0 {
			return
		}
		if s.groups == nil {
			s.groups = make(map[uint64]*refGroup)
		}
		if g = s.spare; g == nil {
			g = new(refGroup)
		}
		s.spare = nil
		s.groups[group(ino)] = g
	}
	if e.n >= uint64(refMany) {
		if s.many == nil {
			s.many = make(map[format.Ino]uint64)
		}
		s.many[ino] = e.n
	} else if was.n >= uint64(refMany) {
		delete(s.many, ino)
	}
	if g.set(uint32(ino%format.LockGroup), w); g.n == 0 {
		delete(s.groups, group(ino))
		s.spare = g
	}
}

// update replaces the entry of ino by what fn makes of it.
func (r *refs) update(ino format.Ino, fn func(e ref) ref) {
	s := r.shard(ino)
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.groups[group(ino)]
	was := s.get(g, ino)
	s.set(g, ino, was, fn(was))
}

// add counts one more reference to an inode. The caller holds at least R on
// its group, so that other mounts learn of it before they can delete it.
func (r *refs) add(ino format.Ino, nlink uint32) {
	r.update(ino, func(e ref) ref {
		e.n++
		e.gone = nlink == 0
		return e
	})
}

// drop takes n references away. last says that none is left and that the
// inode has no link.
func (r *refs) drop(ino format.Ino, n uint64) (last bool) {
	r.update(ino, func(e ref) ref {
		had := e.n > 0
		e.n -= min(n, e.n)
		last = had && e.n == 0 && e.gone
		return e
	})
	return last
}

// unlinked notes that ino has no link. It reports whether ino is not in use,
// so that it can be deleted at once.
func (r *refs) unlinked(ino format.Ino) (unused bool) {
	r.update(ino, func(e ref) ref {
		e.gone = true
		unused = e.n == 0
		return e
	})
	return unused
}

// claim begins a deletion of ino. ok is false if it is in use, or if another
// deletion works on it, which will then report that it must be repeated.
func (r *refs) claim(ino format.Ino) (ok bool) {
	r.update(ino, func(e ref) ref {
		ok = e.n == 0 && !e.busy
		e.again = e.busy
		e.busy = e.busy || ok
		return e
	})
	return ok
}

// unclaim ends a deletion.
func (r *refs) unclaim(ino format.Ino) (again bool) {
	r.update(ino, func(e ref) ref {
		again = e.again
		e.busy, e.again = false, false
		return e
	})
	return again
}

// used reports whether the kernel refers to ino.
func (r *refs) used(ino format.Ino) bool {
	s := r.shard(ino)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.get(s.groups[group(ino)], ino).n > 0
}

// bits returns which inodes of a group are in use.
func (r *refs) bits(grp uint64) (bits [16]uint64) {
	s := r.shard(format.Ino(grp * format.LockGroup))
	s.mu.Lock()
	defer s.mu.Unlock()
	if g := s.groups[grp]; g != nil {
		g.each(func(nr uint32, w refWord) {
			if w >= refOne {
				bits[nr/64] |= 1 << (nr % 64)
			}
		})
	}
	return bits
}

// each calls fn for every inode of a group that is in use, without the mutex.
func (r *refs) each(grp uint64, fn func(ino format.Ino)) {
	bits := r.bits(grp)
	for i := range format.Ino(format.LockGroup) {
		if bits[i/64]>>(i%64)&1 != 0 {
			fn(format.Ino(grp*format.LockGroup) + i)
		}
	}
}

// dropAll takes all references away and returns the inodes without a link.
func (r *refs) dropAll() (gone []format.Ino) {
	for i := range r.shards {
		s := &r.shards[i]
		s.mu.Lock()
		for grp, g := range s.groups {
			for nr, w := range g.words() {
				if w&refGone != 0 && w >= refOne {
					gone = append(gone, format.Ino(grp*format.LockGroup+uint64(nr)))
				}
				if w &= refGone | refBusy | refAgain; w&refBusy == 0 {
					w = 0
				}
				g.set(nr, w)
			}
			if g.n == 0 {
				delete(s.groups, grp)
			}
		}
		clear(s.many)
		s.mu.Unlock()
	}
	return gone
}

// OpenMap returns a bit for each of the 1024 inodes from group*1024 that is in
// use on this mount. It is the answer to the server's OPEN_INO_MAP.
func (v *Volume) OpenMap(group uint64) (bits [16]uint64) { return v.refs.bits(group) }

// Forget takes n references of the kernel away. An inode without links is
// deleted after the last one, in the background. It never blocks.
func (v *Volume) Forget(ino format.Ino, n uint64) {
	if v.refs.drop(ino, n) {
		v.orphans.push(ino)
	}
}
