// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package dump

import "scoutfs/format"

// unknown prints a line about an item whose value has the wrong length.
func (p *printer) unknown(it *item) {
	p.bad(it.blkno, "item %s with a value of %d bytes is not known", it.key, len(it.val))
}

// extentItem prints an item of an allocator's tree.
func (p *printer) extentItem(it *item) {
	if it.parent {
		p.keyLine(it)
		return
	}
	start, n := it.key.FreeExtent()
	switch it.key.Zone {
	case format.ZoneFreeBlkno:
		p.f("    free extent: blkno %d len %d end %d\n", start, n, it.key.First)
	case format.ZoneFreeOrder:
		p.f("    free extent: blkno %d len %d order %d\n", start, n, ^it.key.First)
	default:
		p.unknown(it)
	}
}

// clientItem prints an item of mounted_clients.
func (p *printer) clientItem(it *item) {
	if it.parent {
		p.keyLine(it)
		return
	}
	c, ok := format.Load[format.MountedClient](it.val)
	if !ok || it.key.Zone != format.ZoneMountedClient {
		p.unknown(it)
		return
	}
	p.f("    rid %016x addr %s flags 0x%x\n", it.key.First, c.Addr, c.Flags)
}

// srchItem prints an item of srch_root and returns the file if it is one.
func (p *printer) srchItem(it *item) *format.SrchFile {
	if p.keyLine(it) {
		return nil
	}
	switch it.key.Type {
	case format.TypeSrchLog, format.TypeSrchFile:
		f, ok := format.Load[format.SrchFile](it.val)
		if !ok {
			break
		}
		p.f("      %s\n", srchFileText(&f))
		return &f
	case format.TypeSrchPend, format.TypeSrchBusy:
		c, ok := format.Load[format.SrchCompact](it.val)
		if !ok {
			break
		}
		p.compact(&c)
		return nil
	}
	p.unknown(it)
	return nil
}

func (p *printer) compact(c *format.SrchCompact) {
	p.f("      id %d nr %d flags 0x%x\n", c.ID, c.Nr, c.Flags)
	p.f("      meta_avail: %s\n      meta_freed: %s\n", allocListText(&c.MetaAvail), allocListText(&c.MetaFreed))
	p.f("      out: %s\n", srchFileText(&c.Out))
	for i := range min(int(c.Nr), len(c.In)) {
		in := &c.In[i]
		p.f("      in[%d]: blk %d pos %d %s\n", i, in.Blk, in.Pos, srchFileText(&in.File))
	}
}

// logTreesItem prints an item of logs_root and returns its value.
func (p *printer) logTreesItem(it *item) *format.LogTrees {
	if it.parent {
		p.keyLine(it)
		return nil
	}
	lt, ok := format.Load[format.LogTrees](it.val)
	if !ok {
		p.unknown(it)
		return nil
	}
	p.f("    rid %d nr %d\n", it.key.First, it.key.Second)
	p.f("      meta_avail: %s\n      meta_freed: %s\n", allocListText(&lt.MetaAvail), allocListText(&lt.MetaFreed))
	p.f("      item_root: %s\n", btreeRootText(&lt.ItemRoot))
	p.f("      bloom_ref: blkno %d seq %d\n", lt.BloomRef.Blkno, lt.BloomRef.Seq)
	p.f("      data_avail: %s\n      data_freed: %s\n", allocRootText(&lt.DataAvail), allocRootText(&lt.DataFreed))
	p.f("      srch_file: %s\n", srchFileText(&lt.SrchFile))
	p.f("      inode_count_delta: %d\n", int64(lt.InodeCountDelta))
	p.f("      get_trans_seq: %d\n      commit_trans_seq: %d\n", lt.GetTransSeq, lt.CommitTransSeq)
	p.f("      max_item_seq: %d\n      finalize_seq: %d\n", lt.MaxItemSeq, lt.FinalizeSeq)
	p.f("      rid: %016x\n      nr: %d\n      flags: %x\n", uint64(lt.Rid), lt.Nr, lt.Flags)
	p.f("      data_alloc_zone_blocks: %d\n      data_alloc_zones: ", lt.DataAllocZoneBlocks)
	for n := range len(lt.DataAllocZones) * 64 {
		if lt.DataAllocZones[n/64]&(1<<(n%64)) != 0 {
			p.f("%d ", n)
		}
	}
	p.f("\n")
	return &lt
}

// mergeItem prints an item of log_merge.
func (p *printer) mergeItem(it *item) {
	if p.keyLine(it) {
		return
	}
	if !p.mergeValue(it) {
		p.unknown(it)
	}
}

func (p *printer) mergeValue(it *item) bool {
	switch it.key.Zone {
	case format.ZoneMergeStatus:
		v, ok := format.Load[format.MergeStatus](it.val)
		if ok {
			p.f("      status: next_range_key %s nr_requests %d nr_complete %d seq %d\n", v.NextRangeKey, v.NrRequests, v.NrComplete, v.Seq)
		}
		return ok
	case format.ZoneMergeRange:
		v, ok := format.Load[format.MergeRange](it.val)
		if ok {
			p.f("      range: start %s end %s\n", v.Start, v.End)
		}
		return ok
	case format.ZoneMergeRequest:
		v, ok := format.Load[format.MergeRequest](it.val)
		if ok {
			p.f("      request: start %s end %s input_seq %d rid %016x seq %d flags 0x%x\n", v.Start, v.End, v.InputSeq, uint64(v.Rid), v.Seq, v.Flags)
			p.f("      meta_avail: %s\n      meta_freed: %s\n", allocListText(&v.MetaAvail), allocListText(&v.MetaFreed))
			p.f("      logs_root: %s\n      root: %s\n", btreeRootText(&v.LogsRoot), btreeRootText(&v.Root))
		}
		return ok
	case format.ZoneMergeComplete:
		v, ok := format.Load[format.MergeComplete](it.val)
		if ok {
			p.f("      complete: start %s end %s remain %s rid %016x seq %d flags 0x%x\n", v.Start, v.End, v.Remain, uint64(v.Rid), v.Seq, v.Flags)
			p.f("      meta_avail: %s\n      meta_freed: %s\n", allocListText(&v.MetaAvail), allocListText(&v.MetaFreed))
			p.f("      root: %s\n", btreeRootText(&v.Root))
		}
		return ok
	case format.ZoneMergeFreeing:
		v, ok := format.Load[format.MergeFreeing](it.val)
		if ok {
			p.f("      freeing: root %s key %s seq %d\n", btreeRootText(&v.Root), v.Key, v.Seq)
		}
		return ok
	}
	return false
}
