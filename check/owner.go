// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package check

import (
	"cmp"
	"slices"
	"strings"

	"scoutfs/block"
	"scoutfs/format"
)

// owner is a structure that owns blocks: an index of ownerMap.names.
type owner uint16

const (
	nobody     owner = 0
	someone    owner = 1 // names have run out
	chunkShift       = 12
	chunkSize        = 1 << chunkShift
)

// span is a run of free metadata blocks.
type span struct {
	start, n uint64
	by       owner
}

// ownerMap knows who owns each metadata block: single blocks, used ones and
// entries of lists, in chunks that exist only where there are any, and free
// extents as they are.
type ownerMap struct {
	names  []string
	byName map[string]owner
	chunks map[uint64]*[chunkSize]owner
	spans  []span
	soft   map[format.Blkno]struct{} // left behind by a merge, if nobody owns them
	free   uint64                    // blocks in spans and lists
}

// id returns the owner with a name.
func (m *ownerMap) id(name string) owner {
	if m.byName == nil {
		m.byName = map[string]owner{}
		m.chunks = map[uint64]*[chunkSize]owner{}
		m.soft = map[format.Blkno]struct{}{}
		m.names = []string{"nothing", "another structure"}
	}
	if o, ok := m.byName[name]; ok {
		return o
	}
	if len(m.names) > 65535 {
		return someone
	}
	o := owner(len(m.names))
	m.names = append(m.names, name)
	m.byName[name] = o
	return o
}

// at returns the owner of a single block.
func (m *ownerMap) at(b uint64) owner {
	if ch := m.chunks[b>>chunkShift]; ch != nil {
		return ch[b%chunkSize]
	}
	return nobody
}

func (m *ownerMap) set(b uint64, o owner) {
	ch := m.chunks[b>>chunkShift]
	if ch == nil {
		ch = new([chunkSize]owner)
		m.chunks[b>>chunkShift] = ch
	}
	ch[b%chunkSize] = o
}

// ownerID returns the owner with a name.
func (c *checker) ownerID(name string) owner {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.owners.id(name)
}

// claim makes o own a used block. It reports whether nobody did before; else
// that is recorded, and the block must not be read again. Blocks outside of the
// device are left to rule 7.
func (c *checker) claim(b format.Blkno, o owner) bool {
	if b < format.FirstMetaBlkno || uint64(b) >= c.total {
		return true
	}
	c.mu.Lock()
	prev := c.owners.at(uint64(b))
	if prev == nobody {
		c.owners.set(uint64(b), o)
	}
	names := [2]string{c.owners.names[o], c.owners.names[prev]}
	c.mu.Unlock()
	if prev != nobody {
		c.err(ownerRule(names[0], names[1]), place{structure: names[0], block: b}, "used here, but it belongs to %s", names[1])
	}
	return prev == nobody
}

// ownerRule is the rule that two owners of one block break: 18 and 19 are about
// those of a merge.
func ownerRule(names ...string) int {
	for _, n := range names {
		switch {
		case strings.HasPrefix(n, completionName):
			return 18
		case strings.HasPrefix(n, freeingName):
			return 19
		}
	}
	return 17
}

// claimFree makes o own a free block that a list names. It returns the
// previous owner.
func (c *checker) claimFree(b uint64, o owner) owner {
	c.mu.Lock()
	defer c.mu.Unlock()
	prev := c.owners.at(b)
	if prev == nobody {
		c.owners.set(b, o)
		c.owners.free++
	}
	return prev
}

// claimSpan makes o own a free extent, which lies inside the device.
func (c *checker) claimSpan(start, n uint64, o owner) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.owners.spans = append(c.owners.spans, span{start: start, n: n, by: o})
	c.owners.free += n
}

// claimSoft marks a block of a dead log tree that may have been left behind. It
// reports whether it was not marked before.
func (c *checker) claimSoft(b format.Blkno) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, known := c.owners.soft[b]
	c.owners.soft[b] = struct{}{}
	return !known
}

// checkMetaOwners finds blocks with several owners or none. Rule 17.
func (c *checker) checkMetaOwners() {
	m := &c.owners
	m.id("")
	slices.SortFunc(m.spans, func(a, b span) int { return cmp.Or(cmp.Compare(a.start, b.start), cmp.Compare(a.n, b.n)) })
	gaps := &gapFinder{c: c}
	next, last := uint64(format.FirstMetaBlkno), nobody // everything below next is done
	for _, s := range m.spans {
		if s.start < next && s.by != last {
			c.err(ownerRule(m.names[s.by], m.names[last]), place{structure: m.names[s.by], block: format.Blkno(s.start)},
				"free extent of %d blocks overlaps one of %s", s.n, m.names[last])
		}
		c.singles(next, s.start, gaps, nobody)
		c.singles(max(next, s.start), s.start+s.n, nil, s.by)
		if s.start+s.n > next {
			next, last = s.start+s.n, s.by
		}
	}
	c.singles(next, c.total, gaps, nobody)
	gaps.flush()
	c.report.MetaBlocks = c.total
	c.report.MetaFree = min(m.free, c.total)
	c.report.MetaUsed = c.total - c.report.MetaFree
}

// singles looks at the single blocks from start to before end. Without gaps they
// lie in a free extent of by, where there must be none.
func (c *checker) singles(start, end uint64, gaps *gapFinder, by owner) {
	m := &c.owners
	for b := start; b < end; {
		ch := m.chunks[b>>chunkShift]
		stop := min(end, (b>>chunkShift+1)<<chunkShift)
		if ch == nil {
			if gaps != nil {
				gaps.add(b, stop-b)
			}
			b = stop
			continue
		}
		for ; b < stop; b++ {
			switch o := ch[b%chunkSize]; {
			case o == nobody && gaps != nil:
				gaps.add(b, 1)
			case o != nobody && gaps == nil:
				c.err(ownerRule(m.names[by], m.names[o]), place{structure: m.names[by], block: format.Blkno(b)}, "in a free extent, but it belongs to %s", m.names[o])
			}
		}
	}
}

// gapFinder gathers blocks without owner into runs.
type gapFinder struct {
	c        *checker
	start, n uint64
	known    bool // of the run: left behind by a merge
	looked   int  // blocks that were read to tell
}

// maxLooked is how many ownerless blocks are read to tell what they were.
const maxLooked = 4096

func (g *gapFinder) add(b, n uint64) {
	if g.c.lost.Load() {
		g.c.doubt()
		return
	}
	for n > 0 && g.looked < maxLooked {
		g.looked++
		g.run(b, 1, g.c.leftBehind(format.Blkno(b)))
		b, n = b+1, n-1
	}
	if n > 0 {
		g.run(b, n, false)
	}
}

func (g *gapFinder) run(b, n uint64, known bool) {
	if g.n > 0 && g.start+g.n == b && g.known == known {
		g.n += n
		return
	}
	g.flush()
	g.start, g.n, g.known = b, n, known
}

func (g *gapFinder) flush() {
	if g.n == 0 {
		return
	}
	p := place{structure: "metadata blocks", block: format.Blkno(g.start)}
	if g.known {
		g.c.odd(17, p, "%d blocks without owner: level 1 parents that a merge of the original left behind", g.n)
	} else {
		g.c.add(Leak, 17, p, "%d blocks without owner", g.n)
	}
	g.n = 0
}

// leftBehind reports whether an ownerless block is a level 1 parent of a tree:
// merges of the original never free those. Source: spec format 12.9.
func (c *checker) leftBehind(b format.Blkno) bool {
	if _, ok := c.owners.soft[b]; ok {
		return true
	}
	buf := block.AlignedBuf(format.LargeSize)
	defer block.FreeBuf(buf)
	if c.ctx.Err() != nil || block.ReadAt(c.meta, buf, int64(b)<<format.LargeShift) != nil {
		return false
	}
	h, _ := format.Load[format.BtreeBlock](buf)
	return h.Level == 1 && c.verifyHeader(buf, format.BlockRef{Blkno: b, Seq: h.Hdr.Seq}, format.MagicBtree) == nil
}
