// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package check

import (
	"runtime"
	"sync"

	"scoutfs/block"
	"scoutfs/format"
)

// batchBlocks is how many metadata blocks one batch of reads has.
const batchBlocks = 32

// readBlocks reads the metadata blocks of refs in one batch and checks their
// headers, in parallel. A buffer is nil where rule 7 is broken, which is then
// recorded; so it is for null references, without a finding. The caller frees the buffers.
func (c *checker) readBlocks(structure string, refs []format.BlockRef, magic format.Magic) [][]byte {
	bufs := make([][]byte, len(refs))
	ops := make([]block.Op, 0, len(refs))
	nrs := make([]int, 0, len(refs))
	for i, r := range refs {
		if r == (format.BlockRef{}) {
			continue
		}
		if r.Blkno < format.FirstMetaBlkno || uint64(r.Blkno) >= c.total {
			c.err(7, place{structure: structure, block: r.Blkno}, "outside the metadata device's blocks 2 to %d", c.total-1)
			continue
		}
		bufs[i] = block.AlignedBuf(format.LargeSize)
		ops = append(ops, block.Op{Off: int64(r.Blkno) << format.LargeShift, Buf: bufs[i]})
		nrs = append(nrs, i)
	}
	if len(ops) > 0 {
		_ = c.meta.Do(ops) // each operation has its own error
	}
	c.step(uint64(len(ops)))
	c.parallel(len(ops), func(k int) {
		i := nrs[k]
		p := place{structure: structure, block: refs[i].Blkno}
		if err := ops[k].Err; err != nil {
			c.err(7, p, "cannot be read: %v", err)
		} else if err := c.verifyHeader(bufs[i], refs[i], magic); err != nil {
			c.err(7, p, "%v", err)
		} else {
			return
		}
		block.FreeBuf(bufs[i])
		bufs[i] = nil
	})
	return bufs
}

// readBlock is readBlocks for one block.
func (c *checker) readBlock(structure string, ref format.BlockRef, magic format.Magic) []byte {
	return c.readBlocks(structure, []format.BlockRef{ref}, magic)[0]
}

func (c *checker) verifyHeader(b []byte, ref format.BlockRef, magic format.Magic) error {
	return format.VerifyHeader(b, format.BlockHeader{Magic: magic, Fsid: c.super.Hdr.Fsid, Seq: ref.Seq, Blkno: ref.Blkno})
}

// parallel calls fn for 0..n-1 on as many processors as there are.
func (c *checker) parallel(n int, fn func(i int)) {
	workers := min(runtime.GOMAXPROCS(0), n)
	if workers <= 1 {
		for i := range n {
			fn(i)
		}
		return
	}
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := w; i < n; i += workers {
				fn(i)
			}
		})
	}
	wg.Wait()
}

// step counts n blocks that were read.
func (c *checker) step(n uint64) {
	done := c.reads.Add(n)
	if c.o.Progress == nil || n == 0 {
		return
	}
	if !c.progress.TryLock() {
		return
	}
	defer c.progress.Unlock()
	c.o.Progress(done, c.estimate.Load())
}

// setEstimate tells how many blocks there are to read, once the free ones are known.
func (c *checker) setEstimate() {
	c.mu.Lock()
	defer c.mu.Unlock()
	free := min(c.owners.free, c.total-2)
	c.estimate.Store(max(c.total-2-free, c.reads.Load()))
}
