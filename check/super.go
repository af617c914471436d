// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package check

import (
	"fmt"
	"net/netip"

	"scoutfs/block"
	"scoutfs/format"
)

// checkSupers reads both supers: rules 1 to 4. ok is false if the metadata
// device's cannot be used.
func (c *checker) checkSupers() (ok bool, err error) {
	meta, err := c.readSuper(c.meta, "metadata super", true)
	if err != nil {
		return false, err
	}
	data, err := c.readSuper(c.data, "data super", false)
	if err != nil || meta == nil {
		return false, err
	}
	c.super = meta
	c.total = min(meta.TotalMetaBlocks, uint64(c.meta.Size())>>format.LargeShift)
	c.report.Fsid, c.report.FmtVers = meta.Hdr.Fsid, meta.FmtVers
	c.checkSizes(meta)
	if data != nil {
		c.compareSupers(meta, data)
	}
	c.checkVolumeOptions(meta)
	return c.total > uint64(format.FirstMetaBlkno), nil
}

// readSuper reads and checks one super; nil says that it cannot be used.
func (c *checker) readSuper(d block.Device, name string, meta bool) (*format.Super, error) {
	if d.Size() < int64(format.SuperBlkno+1)<<format.SmallShift {
		c.err(1, place{structure: name, block: format.SuperBlkno}, "the device has only %d bytes", d.Size())
		return nil, nil
	}
	buf := block.AlignedBuf(format.SmallSize)
	defer block.FreeBuf(buf)
	if err := block.ReadAt(d, buf, int64(format.SuperBlkno)<<format.SmallShift); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	s, _ := format.Load[format.Super](buf)
	p := place{structure: name, block: format.SuperBlkno}
	want := format.BlockHeader{Magic: format.MagicSuper, Fsid: s.Hdr.Fsid, Seq: s.Hdr.Seq, Blkno: format.SuperBlkno}
	if err := format.VerifyHeader(buf, want); err != nil {
		c.err(1, p, "%v", err)
		if s.Hdr.Magic != format.MagicSuper || s.Hdr.CRC != format.Checksum(buf) {
			return nil, nil
		}
	}
	if s.FmtVers < format.MinVersion || s.FmtVers > format.MaxVersion {
		c.err(1, p, "format version %d is not in 1 to 2", s.FmtVers)
		return nil, nil
	}
	if s.Flags&^format.SuperFlagMeta != 0 {
		c.err(1, p, "unknown flags %#x", s.Flags)
	}
	if s.IsMeta() != meta {
		c.err(1, p, "the META flag is %d", s.Flags&format.SuperFlagMeta)
		if meta {
			return nil, nil // the devices may be swapped
		}
	}
	return &s, nil
}

// checkSizes checks rule 2.
func (c *checker) checkSizes(s *format.Super) {
	p := place{structure: "metadata super", block: format.SuperBlkno}
	if have := uint64(c.meta.Size()) >> format.LargeShift; s.TotalMetaBlocks > have {
		c.err(2, p, "total_meta_blocks is %d, the device has %d", s.TotalMetaBlocks, have)
	}
	if have := uint64(c.data.Size()) >> format.SmallShift; s.TotalDataBlocks > have {
		c.err(2, p, "total_data_blocks is %d, the device has %d", s.TotalDataBlocks, have)
	}
	if s.TotalMetaBlocks < format.MinMetaBlocks {
		c.err(2, p, "total_meta_blocks is %d, less than %d", s.TotalMetaBlocks, format.MinMetaBlocks)
	}
	if s.TotalDataBlocks < format.MinDataBlocks {
		c.err(2, p, "total_data_blocks is %d, less than %d", s.TotalDataBlocks, format.MinDataBlocks)
	}
}

// compareSupers checks what both must share. Rule 1. The totals are not among
// it: growing a volume changes the metadata device's super only.
func (c *checker) compareSupers(meta, data *format.Super) {
	p := place{structure: "data super", block: format.SuperBlkno}
	if meta.UUID != data.UUID {
		c.err(1, p, "uuid %s, the metadata device has %s", format.UUIDString(data.UUID), format.UUIDString(meta.UUID))
	}
	if meta.FmtVers != data.FmtVers {
		c.err(1, p, "format version %d, the metadata device has %d", data.FmtVers, meta.FmtVers)
	}
	if meta.Hdr.Fsid != data.Hdr.Fsid {
		c.err(1, p, "fsid %016x, the metadata device has %016x", data.Hdr.Fsid, meta.Hdr.Fsid)
	}
}

// checkVolumeOptions checks rule 4.
func (c *checker) checkVolumeOptions(s *format.Super) {
	p := place{structure: "volume options", block: format.SuperBlkno}
	if bits := s.VolOpt.SetBits &^ (1 << format.VolOptDataAllocZoneBlocks); bits != 0 {
		c.err(4, p, "unknown options %#x", bits)
	}
	if s.VolOpt.SetBits&(1<<format.VolOptDataAllocZoneBlocks) == 0 {
		return
	}
	if err := format.VerifyZoneBlocks(s.VolOpt.Values[format.VolOptDataAllocZoneBlocks], s.TotalDataBlocks); err != nil {
		c.err(4, p, "%v", err)
	}
}

// checkQuorum checks rule 5: the blocks of configured slots.
func (c *checker) checkQuorum() {
	seen := map[netip.AddrPort]int{}
	for i := range c.super.Quorum.Slots {
		slot := &c.super.Quorum.Slots[i]
		if slot.Family != format.InetV4 {
			continue
		}
		p := place{structure: fmt.Sprintf("quorum slot %d", i), block: format.QuorumBlkno + format.Blkno(i)}
		a := slot.AddrPort()
		if other, dup := seen[a]; dup {
			c.warn(5, p, "address %v is also that of slot %d", a, other)
		}
		seen[a] = i
		buf := block.AlignedBuf(format.SmallSize)
		err := block.ReadAt(c.meta, buf, int64(p.block)<<format.SmallShift)
		if err == nil {
			h, _ := format.Load[format.BlockHeader](buf)
			err = format.VerifyHeader(buf, format.BlockHeader{Magic: format.MagicQuorum, Fsid: c.super.Hdr.Fsid, Seq: h.Seq, Blkno: p.block})
		}
		if err != nil {
			c.warn(5, p, "%v", err)
		}
		block.FreeBuf(buf)
	}
}

// checkSeq checks rule 6: a number that the volume's counter has handed out.
func (c *checker) checkSeq(p place, field string, seq uint64) {
	if seq > c.super.Seq {
		c.err(6, p, "%s %d is above the super's seq %d", field, seq, c.super.Seq)
	}
}
