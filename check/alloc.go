// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package check

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"

	"scoutfs/block"
	"scoutfs/format"
)

// checkServerAllocs walks the allocators that the super refers to.
func (c *checker) checkServerAllocs() {
	s := c.super
	for i := range s.MetaAlloc {
		c.checkExtents(fmt.Sprintf("meta_alloc[%d]", i), &s.MetaAlloc[i], false)
		c.checkList(fmt.Sprintf("server_meta_avail[%d]", i), &s.ServerMetaAvail[i])
		c.checkList(fmt.Sprintf("server_meta_freed[%d]", i), &s.ServerMetaFreed[i])
	}
	c.checkExtents("data_alloc", &s.DataAlloc, true)
}

// run is a free extent.
type run struct {
	start, n uint64
}

func compareRuns(a, b run) int { return cmp.Or(cmp.Compare(a.start, b.start), cmp.Compare(a.n, b.n)) }

// checkExtents walks a tree of free extents: rule 14. Data says that its blocks
// are those of the data device.
func (c *checker) checkExtents(name string, root *format.AllocRoot, data bool) {
	limit, first := c.total, uint64(format.FirstMetaBlkno)
	if data {
		limit, first = c.super.TotalDataBlocks, uint64(format.FirstDataBlkno)
	}
	var byPos, bySize []run
	var sum uint64
	lost := c.lost.Load()
	c.lost.Store(false)
	c.walkItems(&tree{name: name, kind: treeAlloc, root: root.Root}, func(p place, key *format.Key, _ uint64, _ []byte) {
		start, n := key.FreeExtent()
		if n == 0 || uint64(start) < first || uint64(start) >= limit || n > limit-uint64(start) {
			c.err(14, p, "free extent of %d blocks from %d on is outside of blocks %d to %d", n, start, first, limit-1)
			return
		}
		if key.Zone == format.ZoneFreeOrder {
			if key.First != ^format.FreeOrder(n) {
				c.err(14, p, "order %d of a free extent of %d blocks, not %d", ^key.First, n, format.FreeOrder(n))
			}
			bySize = append(bySize, run{uint64(start), n})
			return
		}
		byPos = append(byPos, run{uint64(start), n})
		sum += n
	})
	whole := !c.lost.Load()
	c.lost.Store(lost || !whole)
	p := place{structure: name, block: root.Root.Ref.Blkno}
	if whole {
		if sum != root.TotalLen {
			c.err(14, p, "total_len is %d, the free extents have %d blocks", root.TotalLen, sum)
		}
		c.comparePairs(p, byPos, bySize)
	}
	c.claimRuns(p, byPos, data)
}

// comparePairs finds extents with only one of their two items.
func (c *checker) comparePairs(p place, byPos, bySize []run) {
	slices.SortFunc(byPos, compareRuns)
	slices.SortFunc(bySize, compareRuns)
	i, j := 0, 0
	for i < len(byPos) || j < len(bySize) {
		order := 0
		switch {
		case i == len(byPos):
			order = 1
		case j == len(bySize):
			order = -1
		default:
			order = compareRuns(byPos[i], bySize[j])
		}
		switch {
		case order == 0:
			i, j = i+1, j+1
		case order < 0:
			k := format.KeyFreeBlkno(format.Blkno(byPos[i].start), byPos[i].n)
			c.err(14, place{p.structure, p.block, &k}, "free extent has no item by size")
			i++
		default:
			k := format.KeyFreeOrder(format.Blkno(bySize[j].start), bySize[j].n)
			c.err(14, place{p.structure, p.block, &k}, "free extent has no item by position")
			j++
		}
	}
}

// claimRuns checks the neighbours of free extents and makes the tree own them.
func (c *checker) claimRuns(p place, runs []run, data bool) {
	slices.SortFunc(runs, compareRuns)
	id := c.ownerID(p.structure)
	for i, r := range runs {
		if i > 0 {
			prev := runs[i-1]
			k := format.KeyFreeBlkno(format.Blkno(r.start), r.n)
			at := place{p.structure, p.block, &k}
			if prev.start+prev.n > r.start {
				c.err(14, at, "free extent of %d blocks from %d on overlaps that of %d from %d on", r.n, r.start, prev.n, prev.start)
				continue
			}
			if prev.start+prev.n == r.start {
				c.warn(14, at, "free extent is adjacent to that of %d blocks from %d on", prev.n, prev.start)
			}
		}
		if data {
			c.addData(r.start, r.n, id, 0)
		} else {
			c.claimSpan(r.start, r.n, id)
		}
	}
}

// checkList walks a chain of list blocks: rule 15.
func (c *checker) checkList(name string, l *format.AllocList) {
	p := place{structure: name, block: l.Ref.Blkno}
	if l.Ref.IsNull() {
		if l.TotalNr != 0 || l.FirstNr != 0 {
			c.err(15, p, "%d entries but no block", l.TotalNr)
			c.lost.Store(true)
		}
		return
	}
	blocks, entries := c.ownerID(name), c.ownerID(name+" entries")
	var sum uint64
	for ref, first := l.Ref, true; !ref.IsNull() && c.ctx.Err() == nil; first = false {
		if !c.claim(ref.Blkno, blocks) {
			c.lost.Store(true)
			return
		}
		b := c.readBlock(name, ref, format.MagicAllocList)
		if b == nil {
			c.lost.Store(true)
			return
		}
		at := place{structure: name, block: ref.Blkno}
		nr, ok := c.checkListBlock(at, b, entries)
		if first && ok && nr != uint64(l.FirstNr) {
			c.err(15, at, "first_nr is %d, the first block has %d entries", l.FirstNr, nr)
		}
		ref = format.BlockRef{Blkno: format.Blkno(binary.LittleEndian.Uint64(b[32:])), Seq: binary.LittleEndian.Uint64(b[40:])}
		block.FreeBuf(b)
		if !ok {
			c.lost.Store(true)
			return
		}
		sum += nr
	}
	if sum != l.TotalNr {
		c.err(15, p, "total_nr is %d, the blocks have %d entries", l.TotalNr, sum)
	}
}

// checkListBlock claims a list block's entries.
func (c *checker) checkListBlock(at place, b []byte, entries owner) (nr uint64, ok bool) {
	start, n := uint64(binary.LittleEndian.Uint32(b[48:])), uint64(binary.LittleEndian.Uint32(b[52:]))
	if start+n > format.AllocListNr {
		c.err(15, at, "entries %d to %d of %d", start, start+n, format.AllocListNr)
		return 0, false
	}
	for i := start; i < start+n; i++ {
		e := binary.LittleEndian.Uint64(b[56+8*i:])
		if e < uint64(format.FirstMetaBlkno) || e >= c.total {
			c.err(15, at, "entry %d is block %d, outside of blocks 2 to %d", i, e, c.total-1)
			continue
		}
		switch prev := c.claimFree(e, entries); prev {
		case nobody:
		case entries:
			c.err(15, at, "entry %d is block %d, for the second time", i, e)
		default:
			name := c.ownerName(prev)
			c.err(ownerRule(at.structure, name), place{structure: at.structure, block: format.Blkno(e)}, "free here, but it belongs to %s", name)
		}
	}
	return n, true
}

func (c *checker) ownerName(o owner) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.owners.names[o]
}
