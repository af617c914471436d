// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package txn

import (
	"encoding/binary"
	"sync"
	"sync/atomic"

	"scoutfs/internal/invariants"
)

// itemCache is a set of key ranges of which all items are known. It knows
// nothing of locks: callers have the cluster lock that covers what they name.
type itemCache struct {
	budget int64 // bytes

	// mu is held for reading while a page or its frame is used, and for writing
	// while pages come, go, split, or change their range. It is never held over I/O.
	mu   sync.RWMutex
	idx  index // guarded by mu
	hand pkey  // of the eviction clock; guarded by mu

	// barrier counts commits. It rises before the committed items are made
	// clean, so that ranges that were read from older roots are not added.
	barrier atomic.Uint64

	dirtyMu    sync.Mutex
	dirtyPages []*page // guarded by dirtyMu

	evicting   atomic.Bool
	bytes      atomic.Int64 // frames and page overheads
	dirtyNr    atomic.Int64 // pages with dirty items
	dirtyBytes atomic.Int64 // dirty items
	evicted    atomic.Int64 // pages, ever
}

// outcome is what became of a cache operation.
type outcome int

const (
	done     outcome = iota
	missing          // the key's range is not cached
	exists           // there is such an item
	notFound         // there is no such item
	mixed            // a delta met an item that is not one
	full             // the page must be split first
)

// op is a kind of change.
type op uint8

const (
	opCreate op = iota
	opForce
	opUpdate
	opDelete
	opDeleteForce
	opDelta
)

// lookup copies the value of k to buf and returns its full length.
func (c *itemCache) lookup(k *pkey, buf []byte) (int, outcome) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	p := c.idx.find(k)
	if p == nil {
		return 0, missing
	}
	p.touch()
	p.mu.RLock()
	defer p.mu.RUnlock()
	pos, found := p.search(k)
	if !found || p.flagsAt(pos)&itemDeletion != 0 {
		return 0, notFound
	}
	it := p.at(pos)
	copy(buf, it.val)
	return len(it.val), done
}

func (p *page) touch() {
	if !p.used.Load() {
		p.used.Store(true)
	}
}

// next finds the first item in [*k, last], copies its value to buf and sets *k
// to its key. If a range is not cached it sets *k to where that starts.
func (c *itemCache) next(k *pkey, last pkey, buf []byte) (int, outcome) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	at, ok := c.idx.seek(k)
	for !last.less(k) {
		if !ok {
			return 0, missing
		}
		p := c.idx.page(at)
		if k.less(&p.start) || p.end.less(k) {
			return 0, missing
		}
		p.touch()
		if n, found := p.next(k, &last, buf); found {
			return n, done
		}
		if p.end == pkeyMax {
			break
		}
		*k = p.end.inc()
		at, ok = c.idx.next(at)
	}
	return 0, notFound
}

// next is the page's part of the cache's next.
func (p *page) next(k, last *pkey, buf []byte) (int, bool) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	for pos, _ := p.search(k); pos < p.n; pos++ {
		if p.flagsAt(pos)&itemDeletion != 0 {
			continue
		}
		it := p.at(pos)
		if last.less(&it.key) {
			return 0, false
		}
		*k = it.key
		copy(buf, it.val)
		return len(it.val), true
	}
	return 0, false
}

// change does one operation with the key, seq and value of it. On success it
// appends to undo what takes the change back.
func (c *itemCache) change(o op, it item, undo *undoLog) outcome {
	c.mu.RLock()
	defer c.mu.RUnlock()
	p := c.idx.find(&it.key)
	if p == nil {
		return missing
	}
	p.touch()
	p.mu.Lock()
	defer p.mu.Unlock()
	pos, found := p.search(&it.key)
	var old item
	if found {
		old = p.at(pos)
	}
	var sum [16]byte
	now, res := resolve(o, it, old, found, &sum)
	if res != done {
		return res
	}
	if !c.ready(p, pos, found, itemSize(len(now.val))) {
		return full
	}
	switch {
	case o == opDelta:
		undo.addDelta(&it)
	case found:
		old = p.at(pos) // the frame may be another
		undo.addOld(&old)
	default:
		undo.addAbsent(&it.key)
	}
	c.store(p, pos, found, &now)
	return done
}

// resolve decides what an operation makes of the item that was there: flags
// and value to be stored. sum is memory for a value.
func resolve(o op, it, old item, found bool, sum *[16]byte) (item, outcome) {
	live := found && old.flags&itemDeletion == 0
	switch {
	case o == opCreate && live:
		return it, exists
	case (o == opUpdate || o == opDelete) && !live:
		return it, notFound
	case o == opDelta:
		return resolveDelta(it, old, found, sum)
	}
	it.flags = itemDirty | old.flags&itemPersistent
	if o == opForce || o == opDeleteForce {
		it.flags = itemDirty | itemPersistent
	}
	if o == opDelete || o == opDeleteForce {
		it.flags |= itemDeletion
		it.val = nil
	}
	return it, done
}

// resolveDelta adds to a delta that is there. A sum of zero stays as an item,
// so that its page stays dirty until the operation can no longer be taken back.
func resolveDelta(it, old item, found bool, sum *[16]byte) (item, outcome) {
	it.flags = itemDirty | itemDelta
	if !found {
		return it, done
	}
	if old.flags&itemDelta == 0 {
		return it, mixed
	}
	for i := 0; i < 16; i += 8 {
		v := binary.LittleEndian.Uint64(old.val[i:]) + binary.LittleEndian.Uint64(it.val[i:])
		binary.LittleEndian.PutUint64(sum[i:], v)
	}
	it.val = sum[:]
	it.seq = max(it.seq, old.seq)
	return it, done
}

// ready makes room at pos of p, which is locked, for an item of the given
// size. It returns false if p must be split.
func (c *itemCache) ready(p *page, pos int, replace bool, size int) bool {
	if replace && size <= p.sizeAt(pos) {
		return true
	}
	ok, grown := p.makeRoom(size)
	c.bytes.Add(int64(grown))
	return ok
}

// store puts the item at pos of p, which is locked and has room.
func (c *itemCache) store(p *page, pos int, replace bool, it *item) {
	nr, bytes := p.dirty, p.bytes
	if replace {
		p.replace(pos, it)
	} else {
		p.insert(pos, it)
	}
	c.account(p, nr, bytes)
}

// account follows a change of p, which is locked, that had nr dirty items of
// so many bytes before.
func (c *itemCache) account(p *page, nr, bytes int) {
	c.dirtyBytes.Add(int64(p.bytes - bytes))
	if (nr > 0) == (p.dirty > 0) {
		return
	}
	c.dirtyMu.Lock()
	defer c.dirtyMu.Unlock()
	if p.dirty > 0 {
		p.dirtyIdx = len(c.dirtyPages)
		c.dirtyPages = append(c.dirtyPages, p)
	} else {
		last := len(c.dirtyPages) - 1
		c.dirtyPages[p.dirtyIdx] = c.dirtyPages[last]
		c.dirtyPages[p.dirtyIdx].dirtyIdx = p.dirtyIdx
		c.dirtyPages[last] = nil
		c.dirtyPages = c.dirtyPages[:last]
		p.dirtyIdx = -1
	}
	c.dirtyNr.Store(int64(len(c.dirtyPages)))
}

// split divides the page of k, if it is full, to make room for k.
func (c *itemCache) split(k *pkey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.idx.find(k)
	if p == nil || p.live+2*p.n < maxFrame/2 {
		return // another did it, or the page has gone
	}
	c.splitPage(p, k)
}

func (c *itemCache) splitPage(p *page, k *pkey) {
	pos, at := p.splitPos(k)
	nr, bytes := p.dirty, p.bytes
	right, grown := p.splitAt(pos, at)
	c.idx.add(right)
	c.bytes.Add(int64(grown + pageOverhead))
	c.account(p, nr, bytes)
	c.account(right, 0, 0)
}

// restore puts an item back as it was, or removes it if old is nil. It is for
// changes of the open transaction, whose pages are dirty and thus present.
func (c *itemCache) restore(k *pkey, old *item) {
	for !c.tryRestore(k, old) {
		c.split(k)
	}
}

func (c *itemCache) tryRestore(k *pkey, old *item) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	p := c.idx.find(k)
	invariants.Check(p != nil, "no page of a changed item %v", k)
	if p == nil {
		return true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	pos, found := p.search(k)
	if old != nil {
		if !c.ready(p, pos, found, itemSize(len(old.val))) {
			return false
		}
		c.store(p, pos, found, old)
		return true
	}
	invariants.Check(found, "no changed item %v", k)
	if found {
		nr, bytes := p.dirty, p.bytes
		p.remove(pos)
		c.account(p, nr, bytes)
	}
	return true
}
