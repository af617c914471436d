// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package volume

import (
	"context"
	"fmt"
	"sort"
	"syscall"

	"scoutfs/format"
	"scoutfs/lock"
)

// end is the block after e.
func (e *Extent) end() uint64 { return e.Iblock + e.Blocks }

// mapped reports whether e has blocks on the device.
func (e *Extent) mapped() bool { return e.Blkno != 0 }

// written reports whether reads of e must go to the device.
func (e *Extent) written() bool { return e.Blkno != 0 && e.Flags&format.ExtentUnwritten == 0 }

// online and offline are what e adds to the counts of its inode.
// Source: spec filesystem 2.3.
func (e *Extent) online() uint64 {
	if e.written() {
		return e.Blocks
	}
	return 0
}

func (e *Extent) offline() uint64 {
	if e.Flags&format.ExtentOffline != 0 && !e.written() {
		return e.Blocks
	}
	return 0
}

// part is the blocks [from, to) of e, which must lie inside of it.
func (e *Extent) part(from, to uint64) Extent {
	p := Extent{Iblock: from, Blocks: to - from, Blkno: e.Blkno, Flags: e.Flags}
	if e.mapped() {
		p.Blkno += format.Blkno(from - e.Iblock)
	}
	return p
}

// mergeable reports whether b continues a.
func mergeable(a, b *Extent) bool {
	if a.end() != b.Iblock || a.Flags != b.Flags || a.mapped() != b.mapped() {
		return false
	}
	return !a.mapped() || a.Blkno+format.Blkno(a.Blocks) == b.Blkno
}

// errOverlap says that a primitive change does not fit the extents that are there.
var errOverlap = fmt.Errorf("volume: extent overlaps others: %w", syscall.EINVAL)

// window is a part of a file's extents in memory: what is stored, and what it
// shall become. It knows every extent that intersects or touches the blocks
// [from, to), so changes inside of these see all the neighbours they may merge
// with. store turns the difference into changes of items.
type window struct {
	from, to uint64
	old, cur []Extent // ascending, disjoint
}

// find returns the index of the first extent that ends after block b.
func (w *window) find(b uint64) int {
	return sort.Search(len(w.cur), func(i int) bool { return w.cur[i].end() > b })
}

// at returns the extent that covers b, or the hole that does: an unmapped
// extent without flags up to the next extent or the end of what can be mapped.
func (w *window) at(b uint64) Extent {
	i := w.find(b)
	if i < len(w.cur) && w.cur[i].Iblock <= b {
		return w.cur[i]
	}
	hole := Extent{Iblock: b, Blocks: format.MaxIblock + 1 - b}
	if i < len(w.cur) {
		hole.Blocks = w.cur[i].Iblock - b
	}
	return hole
}

// set makes the blocks of x what x says; no blocks and no flags remove them.
// They must be a hole or lie inside of one extent. Source: spec filesystem 4.1.
func (w *window) set(x Extent) error {
	if x.Blocks == 0 || x.Iblock < w.from || x.end() > w.to {
		return errOverlap
	}
	i := w.find(x.Iblock)
	var pieces [3]Extent
	n, cut := 0, 0
	add := func(e Extent) {
		if e.Blocks > 0 {
			pieces[n] = e
			n++
		}
	}
	if i < len(w.cur) && w.cur[i].Iblock < x.end() {
		old := w.cur[i]
		if old.Iblock > x.Iblock || old.end() < x.end() {
			return errOverlap
		}
		cut = 1
		add(old.part(old.Iblock, x.Iblock))
		w.addNew(x, add)
		add(old.part(x.end(), old.end()))
	} else {
		w.addNew(x, add)
	}
	w.splice(i, cut, pieces[:n])
	w.mergeAround(i, n)
	return nil
}

// addNew adds x unless it is a hole.
func (w *window) addNew(x Extent, add func(Extent)) {
	if x.mapped() || x.Flags != 0 {
		add(x)
	}
}

// splice replaces cut extents at i by pieces.
func (w *window) splice(i, cut int, pieces []Extent) {
	grow := len(pieces) - cut
	if grow > 0 {
		w.cur = append(w.cur, pieces[:grow]...) // room; the contents are moved over
		copy(w.cur[i+len(pieces):], w.cur[i+cut:len(w.cur)-grow])
	} else if grow < 0 {
		w.cur = append(w.cur[:i+len(pieces)], w.cur[i+cut:]...)
	}
	copy(w.cur[i:], pieces)
}

// mergeAround merges what can be merged among the n extents at i and their
// neighbours.
func (w *window) mergeAround(i, n int) {
	for j := min(i+n, len(w.cur)-1); j > 0 && j >= i; j-- {
		if mergeable(&w.cur[j-1], &w.cur[j]) {
			w.cur[j-1].Blocks += w.cur[j].Blocks
			w.splice(j, 1, nil)
		}
	}
}

// counts returns by how much cur has more online and offline blocks than old,
// modulo 2^64.
func (w *window) counts() (online, offline uint64) {
	for i := range w.cur {
		online += w.cur[i].online()
		offline += w.cur[i].offline()
	}
	for i := range w.old {
		online -= w.old[i].online()
		offline -= w.old[i].offline()
	}
	return online, offline
}

// extentReader is where extents come from; [txn.Engine] is one.
type extentReader interface {
	Next(ctx context.Context, lk *lock.Lock, key, last *format.Key, buf []byte) (int, error)
}

// extentWriter is where changed extents go; [txn.Tx] is one.
type extentWriter interface {
	Create(lk *lock.Lock, key *format.Key, val []byte) error
	Update(lk *lock.Lock, key *format.Key, val []byte) error
	Delete(lk *lock.Lock, key *format.Key) error
}

// decodeExtent checks and decodes an extent item.
func decodeExtent(key *format.Key, val []byte) (Extent, error) {
	v, ok := format.Load[format.Extent](val)
	n := key.Third
	if !ok || len(val) != format.Size[format.Extent]() || n == 0 || key.Second > format.MaxIblock || n > key.Second+1 {
		return Extent{}, corrupt("extent item %v of %d bytes", *key, len(val))
	}
	e := Extent{Iblock: key.Second - n + 1, Blocks: n, Blkno: v.Blkno, Flags: v.Flags}
	if e.Flags&^(format.ExtentOffline|format.ExtentUnwritten) != 0 || (!e.mapped() && e.Flags != format.ExtentOffline) {
		return Extent{}, corrupt("extent item %v with block %d and flags %#x", *key, v.Blkno, v.Flags)
	}
	return e, nil
}

// nextExtent reads the first extent of ino that ends after block b.
// ENOENT if there is none.
func (o *op) nextExtent(r extentReader, lk *lock.Lock, ino format.Ino, b uint64) (Extent, error) {
	o.key = format.KeyExtent(ino, b, 0)
	o.last = format.KeyExtent(ino, format.MaxKeyU64, format.MaxKeyU64)
	n, err := r.Next(&o.wait, lk, &o.key, &o.last, o.buf[:])
	if err != nil {
		return Extent{}, err
	}
	return decodeExtent(&o.key, o.buf[:min(n, len(o.buf))])
}

// load fills w with the extents of ino from block from to the first that
// begins at or after block to, but at most limit (2 or more) of them. Then
// w.to is the start of the last one, or the end of what can be mapped if there
// is no such extent.
func (o *op) load(w *window, r extentReader, lk *lock.Lock, ino format.Ino, from, to uint64, limit int) error {
	w.from, w.to = from, format.MaxIblock+1
	w.old, w.cur = w.old[:0], w.cur[:0]
	b := from
	if b > 0 {
		b-- // the extent that ends where from begins
	}
	for {
		e, err := o.nextExtent(r, lk, ino, b)
		if err == syscall.ENOENT {
			break
		}
		if err != nil {
			return err
		}
		if len(w.old) > 0 && w.old[len(w.old)-1].end() > e.Iblock {
			return corrupt("extents of inode %d overlap at block %d", ino, e.Iblock)
		}
		w.old = append(w.old, e)
		if e.Iblock >= to || (len(w.old) >= limit && e.Iblock > from) {
			w.to = e.Iblock
			break
		}
		b = e.end()
	}
	w.cur = append(w.cur, w.old...)
	return nil
}

// store writes the items that differ between old and cur.
func (o *op) store(w *window, t extentWriter, lk *lock.Lock, ino format.Ino) error {
	if err := o.storeGone(w, t, lk, ino); err != nil {
		return err
	}
	i := 0
	for j := range w.cur {
		e := &w.cur[j]
		for i < len(w.old) && w.old[i].end() < e.end() {
			i++
		}
		same := i < len(w.old) && w.old[i].Iblock == e.Iblock && w.old[i].end() == e.end()
		if same && w.old[i] == *e {
			continue
		}
		o.key = format.KeyExtent(ino, e.end()-1, e.Blocks)
		o.ext = format.Extent{Blkno: e.Blkno, Flags: e.Flags}
		var err error
		if same {
			err = t.Update(lk, &o.key, format.Bytes(&o.ext))
		} else {
			err = t.Create(lk, &o.key, format.Bytes(&o.ext))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// storeGone deletes the items of extents whose place and length are no longer
// there.
func (o *op) storeGone(w *window, t extentWriter, lk *lock.Lock, ino format.Ino) error {
	j := 0
	for i := range w.old {
		e := &w.old[i]
		for j < len(w.cur) && w.cur[j].end() < e.end() {
			j++
		}
		if j < len(w.cur) && w.cur[j].Iblock == e.Iblock && w.cur[j].end() == e.end() {
			continue
		}
		o.key = format.KeyExtent(ino, e.end()-1, e.Blocks)
		if err := t.Delete(lk, &o.key); err != nil {
			return err
		}
	}
	return nil
}
