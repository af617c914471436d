// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package alloc

import (
	"errors"
	"fmt"

	"scoutfs/btree"
	"scoutfs/format"
)

// meter bounds what one call uses of its transaction's room.
type meter struct {
	a      btree.Allocator
	start  int // room at the beginning
	budget int // blocks
	moved  bool
}

func newMeter(a btree.Allocator, budget int) *meter {
	return &meter{a: a, start: roomOf(a), budget: budget}
}

// allows reports whether a step that may use n blocks fits. The first step of
// a call only has to fit in the room, so that every call gets somewhere.
func (m *meter) allows(n int) bool {
	room := roomOf(m.a)
	if room < n+moveReserve {
		return false
	}
	return !m.moved || m.start-room+n <= m.budget
}

// progress notes that a step was done.
func (m *meter) progress() { m.moved = true }

// Zones are numbered ranges of data blocks, each Blocks long, that moves can
// prefer. Source: spec format 6.7, cluster 10.3.
type Zones struct {
	Blocks uint64    // length of a zone in blocks; 0: no zones
	Prefer []ZoneSet // in this order
}

// ZoneSet is a set of zones; bit n of the map is bit n%64 of word n/64.
type ZoneSet [16]uint64

// MaxZones is how many zones a ZoneSet can hold.
const MaxZones = 1024

// Has reports whether the set contains zone z.
func (s *ZoneSet) Has(z uint64) bool { return z < MaxZones && s[z/64]>>(z%64)&1 != 0 }

// Add puts zone z in the set if it can hold it.
func (s *ZoneSet) Add(z uint64) {
	if z < MaxZones {
		s[z/64] |= 1 << (z % 64)
	}
}

// AddExtent puts all zones of size blocks that the extent touches in the set.
func (s *ZoneSet) AddExtent(size uint64, start format.Blkno, n uint64) {
	if size == 0 || n == 0 {
		return
	}
	for z := uint64(start) / size; z <= min((uint64(start)+n-1)/size, MaxZones-1); z++ {
		s.Add(z)
	}
}

// Empty reports whether no zone is in the set.
func (s *ZoneSet) Empty() bool { return *s == ZoneSet{} }

// zoneScanMax bounds how many extents a move looks at to find one in a
// preferred zone: zones are advice.
const zoneScanMax = 4096

// MoveOptions say how much [MoveExtents] moves. The zero value moves all.
type MoveOptions struct {
	Total  uint64 // blocks at most; 0: all
	Budget int    // blocks of the transaction's room to use; 0: no limit but the room
	Zones  Zones
}

// MoveExtents moves free extents from src to dst. done is true if nothing is
// left to do: Total was moved or src is empty; false if budget or room ran
// out, then commit and call again. Each extent is in exactly one of the trees
// also on error. Source: spec cluster 10.2, 10.3.
func MoveExtents(t *btree.Tx, dst, src *format.AllocRoot, o MoveOptions) (moved uint64, done bool, err error) {
	left := o.Total
	if left == 0 || left > src.TotalLen {
		left = src.TotalLen
	}
	if left == src.TotalLen && dst.Root.Ref.IsNull() && dst.TotalLen == 0 {
		moveTree(dst, src)
		return left, true, nil
	}
	budget := o.Budget
	if budget == 0 {
		budget = roomOf(t.Alloc)
	}
	m := newMeter(t.Alloc, budget)
	p := picker{zones: o.Zones}
	for left > 0 {
		if !m.allows(ExtentCost(src) + ExtentCost(dst)) {
			return moved, false, nil
		}
		n, err := moveOne(t, dst, src, &p, left)
		moved, left = moved+n, left-n
		if err != nil {
			return moved, false, fmt.Errorf("alloc: move extents: %w", err)
		}
		m.progress()
	}
	return moved, true, nil
}

// moveTree hands all of src to the empty dst without touching a block.
func moveTree(dst, src *format.AllocRoot) {
	dst.TotalLen, dst.Root = src.TotalLen, src.Root
	src.TotalLen, src.Root = 0, format.BtreeRoot{}
}

func moveOne(t *btree.Tx, dst, src *format.AllocRoot, p *picker, want uint64) (uint64, error) {
	x, part, err := p.pick(t, src, want)
	if err != nil {
		return 0, err
	}
	if err := replace(t, src, x, part); err != nil {
		return 0, err
	}
	if err := InsertExtent(t, dst, part.start, part.n); err != nil {
		if uerr := InsertExtent(t, src, part.start, part.n); uerr != nil {
			err = &BrokenError{Cause: err, Undo: uerr}
		}
		return 0, err
	}
	return part.n, nil
}

// picker chooses the next extent of a move. It remembers which preferred
// zones have nothing more to give and how far it looked for others.
type picker struct {
	zones  Zones
	cursor format.Key // where the search for the first of zones.Prefer continues
}

// pick returns an extent of the tree and the part of it to take.
func (p *picker) pick(t *btree.Tx, root *format.AllocRoot, want uint64) (x, part extent, err error) {
	for p.zones.Blocks > 0 && len(p.zones.Prefer) > 0 {
		x, part, ok, err := p.pickZone(t, root, &p.zones.Prefer[0])
		if err != nil {
			return x, part, err
		}
		if ok {
			part.n = min(part.n, want)
			return x, part, nil
		}
		p.zones.Prefer = p.zones.Prefer[1:]
		p.cursor = format.Key{}
	}
	x, ok, err := largest(t, root)
	if err == nil && !ok {
		err = corrupt(t.Cache, root.Root.Ref.Blkno, "tree with %d blocks in all has no extent", root.TotalLen)
	}
	return x, extent{x.start, min(x.n, want)}, err
}

var errFound = errors.New("found")

// pickZone looks for the largest extent that touches a zone of the set.
func (p *picker) pickZone(t *btree.Tx, root *format.AllocRoot, set *ZoneSet) (x, part extent, ok bool, err error) {
	if set.Empty() {
		return x, part, false, nil
	}
	if p.cursor.Zone == 0 {
		p.cursor = format.Key{Zone: format.ZoneFreeOrder}
	}
	looked := 0
	err = btree.Walk(t.Cache, &root.Root, &p.cursor, &format.KeyMax, func(it *btree.Item) error {
		x, err := parseExtent(&it.Key)
		if err != nil {
			return corrupt(t.Cache, x.start, "%v", err)
		}
		if part, ok = clip(x, p.zones.Blocks, set); ok {
			p.cursor = it.Key
			return errFound
		}
		if looked++; looked == zoneScanMax {
			return errFound
		}
		return nil
	})
	if err != nil && !errors.Is(err, errFound) {
		return x, part, false, err
	}
	x.start, x.n = p.cursor.FreeExtent()
	return x, part, ok, nil
}

// clip returns the first part of x that lies in zones of the set.
func clip(x extent, size uint64, set *ZoneSet) (part extent, ok bool) {
	last := uint64(x.end()) - 1
	z := uint64(x.start) / size
	for ; z <= min(last/size, MaxZones-1) && !set.Has(z); z++ {
	}
	if !set.Has(z) || z > last/size {
		return part, false
	}
	from := max(uint64(x.start), z*size)
	for z < MaxZones && set.Has(z) {
		z++
	}
	return extent{format.Blkno(from), min(z*size, last+1) - from}, true
}
