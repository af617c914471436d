// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package check

import (
	"cmp"
	"fmt"
	"slices"

	"scoutfs/format"
)

// dataExtent is a run of data blocks, 4 KiB each, and whose it is: a free
// extent tree's (ino 0) or a file's.
type dataExtent struct {
	start uint64
	n     uint64 // in the upper 16 bits: the owner
	ino   format.Ino
}

const lenBits = 48

func (e *dataExtent) len() uint64 { return e.n & (1<<lenBits - 1) }
func (e *dataExtent) end() uint64 { return e.start + e.len() }
func (e *dataExtent) by() owner   { return owner(e.n >> lenBits) }

// addData records a run of data blocks inside the device.
func (c *checker) addData(start, n uint64, by owner, ino format.Ino) {
	c.dataExtents = append(c.dataExtents, dataExtent{start: start, n: n | uint64(by)<<lenBits, ino: ino})
}

func (c *checker) dataOwner(e *dataExtent) string {
	if e.ino != 0 {
		return fmt.Sprintf("inode %d", e.ino)
	}
	return c.owners.names[e.by()]
}

// checkDataOwners finds data blocks with several owners or none. Rule 21.
func (c *checker) checkDataOwners() {
	slices.SortFunc(c.dataExtents, func(a, b dataExtent) int {
		return cmp.Or(cmp.Compare(a.start, b.start), cmp.Compare(a.len(), b.len()), cmp.Compare(a.ino, b.ino))
	})
	next := uint64(format.FirstDataBlkno)
	var last *dataExtent
	for i := range c.dataExtents {
		e := &c.dataExtents[i]
		if e.ino == 0 {
			c.report.DataFree += e.len()
		}
		switch {
		case e.start < next && last != nil:
			c.err(21, place{structure: c.dataOwner(e)}, "data blocks %d to %d also belong to %s", e.start, min(next, e.end())-1, c.dataOwner(last))
		case e.start > next:
			c.dataGap(next, e.start)
		}
		if e.end() > next {
			next, last = e.end(), e
		}
	}
	total := c.super.TotalDataBlocks
	if next < total {
		c.dataGap(next, total)
	}
	c.report.DataBlocks = total
	c.report.DataUsed = total - min(total, c.report.DataFree)
}

func (c *checker) dataGap(start, end uint64) {
	if c.lost.Load() || c.fsLost.Load() {
		c.doubt()
		return
	}
	c.add(Leak, 21, place{structure: "data blocks"}, "%d data blocks from %d on without owner", end-start, start)
}
