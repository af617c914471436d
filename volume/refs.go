// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package volume

import (
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
// ask with the open map. Entries hold no pointers, so that millions of them
// cost the garbage collector nothing.
type refs struct {
	shards [refShards]refShard
}

type refShard struct {
	mu sync.Mutex
	m  map[format.Ino]ref // +checklocks:mu
}

type ref struct {
	n     uint64 // references of the kernel
	gone  bool   // has no link: to be deleted with the last reference
	busy  bool   // a deletion works on it
	again bool   // another deletion was asked for meanwhile
}

func (r *refs) shard(ino format.Ino) *refShard {
	return &r.shards[group(ino)*0x9e3779b97f4a7c15>>56]
}

// update replaces the entry of ino by what fn makes of it.
func (r *refs) update(ino format.Ino, fn func(e ref) ref) {
	s := r.shard(ino)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.m == nil {
		s.m = make(map[format.Ino]ref)
	}
	if e := fn(s.m[ino]); e.n == 0 && !e.busy {
		delete(s.m, ino)
	} else {
		s.m[ino] = e
	}
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
	return s.m[ino].n > 0
}

// bits returns which inodes of a group are in use.
func (r *refs) bits(grp uint64) (bits [16]uint64) {
	first := format.Ino(grp * format.LockGroup)
	s := r.shard(first)
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range format.Ino(format.LockGroup) {
		if s.m[first+i].n > 0 {
			bits[i/64] |= 1 << (i % 64)
		}
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
		for ino, e := range s.m {
			if e.gone && e.n > 0 {
				gone = append(gone, ino)
			}
			e.n = 0
			if e.busy {
				s.m[ino] = e
			} else {
				delete(s.m, ino)
			}
		}
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
