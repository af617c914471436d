// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package txn

import (
	"encoding/binary"
	"sync"
	"sync/atomic"

	"scoutfs/block"
	"scoutfs/internal/invariants"
)

// Flags of a cached item. Source: spec filesystem 1.8.
const (
	itemDirty      = 1 << iota // must be written with the open transaction
	itemPersistent             // a version exists or may exist in some tree
	itemDeletion               // there is no such item; a deletion is waiting to be written
	itemDelta                  // to be added to whatever exists
)

const (
	minFrame     = 4 << 10  // bytes
	maxFrame     = 32 << 10 // bytes
	pageOverhead = 256      // bytes of heap that a page is charged for
	itemHdr      = 40       // bytes before an item's value
	itemLowBits  = pkeyOne - 1
)

// page is a range of keys and all items that exist in it. Its items are packed
// in a frame outside of the Go heap:
//
//	| slot 0 | slot 1 | .. | slot n-1 | free | items, newest first |
//	  u16 each: offset / 8, in key order       a b c d seq value, 8-aligned
//
// The low 40 bits of word d hold the item's flags (bits 32..39) and the
// length of its value (bits 16..31). A page without items has no frame.
type page struct {
	start pkey // immutable
	end   pkey // changes with the index locked

	mu    sync.RWMutex
	buf   []byte // the frame, or nil; guarded by mu, as are those below
	n     int    // items
	low   int    // offset of the lowest byte used by items
	live  int    // bytes of items that are not garbage
	dirty int    // dirty items
	bytes int    // of dirty items

	used     atomic.Bool // since the clock's hand last passed
	dirtyIdx int         // index in the cache's list of dirty pages; guarded by its mutex
}

// itemSize is what an item occupies besides its slot.
func itemSize(valLen int) int { return itemHdr + (valLen+7)&^7 }

// item is a view of a cached item; val shares memory with the frame.
type item struct {
	key   pkey
	seq   uint64
	flags uint8
	val   []byte
}

func (p *page) off(i int) int { return int(binary.LittleEndian.Uint16(p.buf[2*i:])) << 3 }

func (p *page) setOff(i, off int) { binary.LittleEndian.PutUint16(p.buf[2*i:], uint16(off>>3)) }

// keyAt is the key of item i.
func (p *page) keyAt(i int) pkey {
	b := p.buf[p.off(i):][:itemHdr]
	return pkey{
		a: binary.LittleEndian.Uint64(b), b: binary.LittleEndian.Uint64(b[8:]),
		c: binary.LittleEndian.Uint64(b[16:]), d: binary.LittleEndian.Uint64(b[24:]) &^ itemLowBits,
	}
}

// flagsAt is the flags of item i.
func (p *page) flagsAt(i int) uint8 { return p.buf[p.off(i)+28] }

// sizeAt is the size of item i.
func (p *page) sizeAt(i int) int {
	return itemSize(int(binary.LittleEndian.Uint16(p.buf[p.off(i)+26:])))
}

// at is item i.
func (p *page) at(i int) item {
	off := p.off(i)
	b := p.buf[off:][:itemHdr]
	n := int(binary.LittleEndian.Uint16(b[26:]))
	return item{
		key: p.keyAt(i), seq: binary.LittleEndian.Uint64(b[32:]), flags: b[28],
		val: p.buf[off+itemHdr : off+itemHdr+n : off+itemHdr+n],
	}
}

// search returns the position of the first item whose key is not below k and
// whether it is k's.
func (p *page) search(k *pkey) (pos int, found bool) {
	lo, hi := 0, p.n
	for lo < hi {
		m := int(uint(lo+hi) >> 1)
		b := p.buf[p.off(m):][:itemHdr]
		w, o := binary.LittleEndian.Uint64(b), k.a
		if w == o {
			w, o = binary.LittleEndian.Uint64(b[8:]), k.b
		}
		if w == o {
			w, o = binary.LittleEndian.Uint64(b[16:]), k.c
		}
		if w == o {
			w, o = binary.LittleEndian.Uint64(b[24:])&^itemLowBits, k.d
			if w == o {
				return m, true
			}
		}
		if w < o {
			lo = m + 1
		} else {
			hi = m
		}
	}
	return lo, false
}

// room reports whether an item of such a size, and a slot, fit without moving
// anything.
func (p *page) room(size int) bool { return p.low-2*p.n >= size+2 }

// makeRoom makes place for an item of the given size by compacting or
// enlarging the frame. It returns false if the page must be split. grown is by
// how many bytes the frame grew.
func (p *page) makeRoom(size int) (ok bool, grown int) {
	if p.room(size) {
		return true, 0
	}
	need := p.live + 2*p.n + size + 2
	frame := max(len(p.buf), minFrame)
	for frame < maxFrame && need > frame-frame/8 {
		frame *= 2
	}
	if need > frame-frame/16 {
		return false, 0
	}
	grown = frame - len(p.buf)
	p.reframe(frame)
	return true, grown
}

// reframe moves the items to a new frame of the given size, in key order and
// without garbage. Size 0 is for pages without items.
func (p *page) reframe(size int) {
	old := p.buf
	p.buf, p.low, p.live = nil, 0, 0
	if size > 0 {
		p.buf, p.low = block.AlignedBuf(size), size
	}
	for i := range p.n {
		off := int(binary.LittleEndian.Uint16(old[2*i:])) << 3
		n := itemSize(int(binary.LittleEndian.Uint16(old[off+26:])))
		p.low -= n
		p.live += n
		copy(p.buf[p.low:], old[off:off+n])
		p.setOff(i, p.low)
	}
	block.FreeBuf(old)
}

// insert adds an item at pos. There must be room.
func (p *page) insert(pos int, it *item) {
	copy(p.buf[2*pos+2:2*p.n+2], p.buf[2*pos:2*p.n])
	p.n++
	p.place(pos, it)
}

// replace gives item pos new contents; its key must be the same. There must be
// room unless the new value is not larger than the old one.
func (p *page) replace(pos int, it *item) {
	p.uncount(pos)
	old := p.sizeAt(pos)
	p.live -= old
	if itemSize(len(it.val)) <= old {
		off := p.off(pos)
		p.write(off, it)
		p.count(it)
		return
	}
	p.place(pos, it)
}

// place writes the item to fresh space and points slot pos to it.
func (p *page) place(pos int, it *item) {
	p.low -= itemSize(len(it.val))
	if invariants.Enabled {
		invariants.Check(p.low >= 2*p.n, "item page overflow: low %d with %d items", p.low, p.n)
	}
	p.setOff(pos, p.low)
	p.write(p.low, it)
	p.count(it)
}

func (p *page) write(off int, it *item) {
	b := p.buf[off : off+itemHdr+len(it.val)]
	binary.LittleEndian.PutUint64(b, it.key.a)
	binary.LittleEndian.PutUint64(b[8:], it.key.b)
	binary.LittleEndian.PutUint64(b[16:], it.key.c)
	binary.LittleEndian.PutUint64(b[24:], it.key.d|uint64(it.flags)<<32|uint64(len(it.val))<<16)
	binary.LittleEndian.PutUint64(b[32:], it.seq)
	copy(b[itemHdr:], it.val)
}

// count adds an item that was written to the sums.
func (p *page) count(it *item) {
	n := itemSize(len(it.val))
	p.live += n
	if it.flags&itemDirty != 0 {
		p.dirty++
		p.bytes += n
	}
}

// uncount takes item pos out of the sums of dirty items.
func (p *page) uncount(pos int) {
	if p.flagsAt(pos)&itemDirty != 0 {
		p.dirty--
		p.bytes -= p.sizeAt(pos)
	}
}

// remove drops item pos.
func (p *page) remove(pos int) {
	p.uncount(pos)
	n := p.sizeAt(pos)
	p.live -= n
	if p.off(pos) == p.low {
		p.low += n
	}
	copy(p.buf[2*pos:2*p.n], p.buf[2*pos+2:2*p.n])
	p.n--
}

// settle makes the page clean after a commit: dirty items become persistent,
// deletions and deltas go. It returns by how many bytes the frame shrank.
func (p *page) settle() (freed int) {
	kept := 0
	p.live = 0
	for i := range p.n {
		off := p.off(i)
		if f := p.buf[off+28]; f&itemDirty != 0 {
			if f&(itemDeletion|itemDelta) != 0 {
				continue
			}
			p.buf[off+28] = itemPersistent
		}
		p.live += p.sizeAt(i)
		p.setOff(kept, off)
		kept++
	}
	p.n, p.dirty, p.bytes = kept, 0, 0
	return p.trim()
}

// trim gives memory back when little of the frame is used.
func (p *page) trim() (freed int) {
	was := len(p.buf)
	if p.n == 0 {
		p.reframe(0)
		return was
	}
	need, frame := p.live+2*p.n, was
	for frame > minFrame && need <= frame/2-frame/8 {
		frame /= 2
	}
	if frame < was {
		p.reframe(frame)
	}
	return was - frame
}

// splitPos chooses where a full page is split to make room for k: before the
// first item of the returned position, and at which key. Keys that grow leave
// full pages behind.
func (p *page) splitPos(k *pkey) (pos int, at pkey) {
	pos, found := p.search(k)
	if !found && pos >= p.n-p.n/8 {
		return pos, *k
	}
	sum := 0
	for pos = 0; pos < p.n-1 && sum < p.live/2; pos++ {
		sum += p.sizeAt(pos)
	}
	if pos = max(pos, 1); pos >= p.n {
		return pos, *k
	}
	return pos, p.keyAt(pos)
}

// splitAt moves the items from pos on to a new page that starts at key at. The
// index is locked. grown is by how many bytes frames grew in sum.
func (p *page) splitAt(pos int, at pkey) (right *page, grown int) {
	right = &page{start: at, end: p.end, dirtyIdx: -1}
	right.used.Store(p.used.Load())
	p.end = at.dec()
	need := 0
	for i := pos; i < p.n; i++ {
		need += p.sizeAt(i) + 2
	}
	if need > 0 {
		grown = frameFor(need + need/8)
		right.buf, right.low = block.AlignedBuf(grown), grown
	}
	for i := pos; i < p.n; i++ {
		it := p.at(i)
		right.insert(right.n, &it)
	}
	for p.n > pos {
		p.remove(p.n - 1)
	}
	return right, grown - p.trim()
}

// frameFor is the size of the smallest frame that holds need bytes.
func frameFor(need int) int {
	size := minFrame
	for size < need && size < maxFrame {
		size *= 2
	}
	return size
}
