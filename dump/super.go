// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package dump

import (
	"fmt"

	"scoutfs/block"
	"scoutfs/format"
)

// readSuper reads and prints the super block. It returns false if there is
// none.
func (p *printer) readSuper() bool {
	b := p.buf[:format.SmallSize]
	if err := block.ReadAt(p.dev, b, int64(format.SuperBlkno)<<format.SmallShift); err != nil {
		p.keep(fmt.Errorf("dump: %w", err))
		return false
	}
	p.super, _ = format.Load[format.Super](b)
	if h := &p.super.Hdr; h.Magic != format.MagicSuper {
		p.keep(&format.CorruptError{Device: p.dev.Name(), Blkno: format.SuperBlkno,
			Reason: fmt.Sprintf("magic %08x is not that of a super block, %08x: this is no ScoutFS device", uint32(h.Magic), uint32(format.MagicSuper))})
		return false
	}
	p.printSuper()
	_, err := format.VerifySuper(b, p.dev.Name())
	if err == nil && p.super.IsMeta() {
		if err = p.super.VerifyRoots(p.dev.Name()); err == nil {
			err = p.super.VerifySize(p.dev.Name(), p.dev.Size())
		}
	}
	if err != nil {
		p.f("  %v\n", err)
		p.keep(err)
	}
	return true
}

func (p *printer) printSuper() {
	s := &p.super
	p.f("super blkno %d\n", format.SuperBlkno)
	p.header(&s.Hdr)
	p.f("  fmt_vers %d uuid %s\n", s.FmtVers, format.UUIDString(s.UUID))
	p.f("  flags: 0x%016x\n", s.Flags)
	p.f("  next_ino %d inode_count %d seq %d\n", s.NextIno, s.InodeCount, s.Seq)
	p.f("  total_meta_blocks %d total_data_blocks %d\n", s.TotalMetaBlocks, s.TotalDataBlocks)
	for i := range s.MetaAlloc {
		p.f("  meta_alloc[%d]: %s\n", i, allocRootText(&s.MetaAlloc[i]))
	}
	p.f("  data_alloc: %s\n", allocRootText(&s.DataAlloc))
	for i := range s.ServerMetaAvail {
		p.f("  server_meta_avail[%d]: %s\n", i, allocListText(&s.ServerMetaAvail[i]))
	}
	for i := range s.ServerMetaFreed {
		p.f("  server_meta_freed[%d]: %s\n", i, allocListText(&s.ServerMetaFreed[i]))
	}
	for _, r := range []struct {
		name string
		root *format.BtreeRoot
	}{
		{"fs_root", &s.FSRoot}, {"logs_root", &s.LogsRoot}, {"log_merge", &s.LogMerge},
		{"mounted_clients", &s.MountedClients}, {"srch_root", &s.SrchRoot},
	} {
		p.f("  %s: blkno %d seq %016x height %d\n", r.name, r.root.Ref.Blkno, r.root.Ref.Seq, r.root.Height)
	}
	p.f("  volume options:\n    set_bits: %016x\n", s.VolOpt.SetBits)
	if s.VolOpt.SetBits&(1<<format.VolOptDataAllocZoneBlocks) != 0 {
		p.f("    data_alloc_zone_blocks: %d\n", s.VolOpt.Values[format.VolOptDataAllocZoneBlocks])
	}
	p.f("  quorum config version %d\n", s.Quorum.Version)
	for i := range s.Quorum.Slots {
		if slot := &s.Quorum.Slots[i]; slot.Family != format.InetNone {
			p.f("    quorum slot %2d: %s\n", i, slot)
		}
	}
}

func allocRootText(r *format.AllocRoot) string {
	return fmt.Sprintf("blkno %d seq %d height %d total_len %d flags 0x%x",
		r.Root.Ref.Blkno, r.Root.Ref.Seq, r.Root.Height, r.TotalLen, r.Flags)
}

func allocListText(l *format.AllocList) string {
	return fmt.Sprintf("blkno %d seq %d total_nr %d first_nr %d flags 0x%x",
		l.Ref.Blkno, l.Ref.Seq, l.TotalNr, l.FirstNr, l.Flags)
}

func btreeRootText(r *format.BtreeRoot) string {
	return fmt.Sprintf("height %d blkno %d seq %d", r.Height, r.Ref.Blkno, r.Ref.Seq)
}

var eventNames = [format.QuorumEvents]string{"begin", "term", "elect", "fence", "stop", "end"}

func (p *printer) quorumBlock(slot int) {
	blkno := format.QuorumBlkno + format.Blkno(slot)
	b := p.buf[:format.SmallSize]
	p.f("quorum blkno %d (slot %d)\n", blkno, slot)
	if err := block.ReadAt(p.dev, b, int64(blkno)<<format.SmallShift); err != nil {
		p.f("  cannot be read: %v\n", err)
		p.keep(fmt.Errorf("dump: %w", err))
		return
	}
	q, _ := format.Load[format.QuorumBlock](b)
	p.header(&q.Hdr)
	if _, err := format.VerifyQuorumBlock(b, p.dev.Name(), p.super.Hdr.Fsid, slot); err != nil {
		p.f("  %v\n", err)
		p.keep(err)
	}
	p.f("  write_nr %d\n", q.WriteNr)
	for i := range q.Events {
		e := &q.Events[i]
		p.f("  %12s: rid %016x term %d write_nr %d ts %d.%08d\n", eventNames[i], uint64(e.Rid), e.Term, e.WriteNr, e.Ts.Sec, e.Ts.Nsec)
	}
}
