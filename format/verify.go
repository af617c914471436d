// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package format

import (
	"encoding/binary"
	"fmt"
)

// FillHeader writes the header of the whole block b, with its checksum, after
// everything else in b has its final content. CRC in h is ignored.
// b has 4096 or 65536 bytes.
func FillHeader(b []byte, h BlockHeader) {
	copy(b, Bytes(&h))
	SetChecksum(b)
}

// SetChecksum stores the checksum of the whole block b in its header.
func SetChecksum(b []byte) { binary.LittleEndian.PutUint32(b, Checksum(b)) }

// VerifyHeader compares the header of the whole block b with what it should be
// and checks the checksum. CRC in want is ignored. The error is one line
// without device and block number, for a [CorruptError] or [StaleError].
func VerifyHeader(b []byte, want BlockHeader) error {
	h, ok := Load[BlockHeader](b)
	if !ok {
		return fmt.Errorf("only %d bytes", len(b))
	}
	switch {
	case h.Magic != want.Magic:
		return fmt.Errorf("magic %08x is not that of a %s block, %08x", uint32(h.Magic), want.Magic, uint32(want.Magic))
	case h.CRC != Checksum(b):
		return fmt.Errorf("crc %08x in the header, %08x computed", h.CRC, Checksum(b))
	case h.Fsid != want.Fsid:
		return fmt.Errorf("fsid %016x is not the volume's, %016x", h.Fsid, want.Fsid)
	case h.Blkno != want.Blkno:
		return fmt.Errorf("blkno %d in the header", h.Blkno)
	case h.Seq != want.Seq:
		return fmt.Errorf("seq %016x in the header, the reference has %016x", h.Seq, want.Seq)
	}
	return nil
}

// VerifySuper decodes and checks the super block b, the 4 KiB small block 16
// of the named device. It accepts both the metadata and the data device's. The
// error is a *[CorruptError]. [Super.VerifySize], [VerifySupers] and
// [Super.VerifyRoots] check what needs more than b.
// Source: spec format 1.5, 12.1.
func VerifySuper(b []byte, device string) (*Super, error) {
	s, err := verifySuper(b)
	if err != nil {
		return nil, &CorruptError{Device: device, Blkno: SuperBlkno, Reason: "super: " + err.Error()}
	}
	return s, nil
}

func verifySuper(b []byte) (*Super, error) {
	if len(b) != SmallSize {
		return nil, fmt.Errorf("%d bytes instead of %d", len(b), SmallSize)
	}
	s, _ := Load[Super](b)
	h := &s.Hdr
	if err := VerifyHeader(b, BlockHeader{Magic: MagicSuper, Fsid: h.Fsid, Seq: h.Seq, Blkno: SuperBlkno}); err != nil {
		return nil, err
	}
	if s.FmtVers < MinVersion || s.FmtVers > MaxVersion {
		return nil, fmt.Errorf("format version %d is not in the supported range %d-%d", s.FmtVers, MinVersion, MaxVersion)
	}
	if s.Flags&^SuperFlagMeta != 0 {
		return nil, fmt.Errorf("unknown flags %#x", s.Flags)
	}
	if s.TotalMetaBlocks < MinMetaBlocks || s.TotalMetaBlocks > MaxKeyU64>>LargeShift {
		return nil, fmt.Errorf("%d metadata blocks", s.TotalMetaBlocks)
	}
	if s.TotalDataBlocks < MinDataBlocks || s.TotalDataBlocks > MaxKeyU64>>SmallShift {
		return nil, fmt.Errorf("%d data blocks", s.TotalDataBlocks)
	}
	return &s, nil
}

// VerifyRoots checks the references that only the metadata device's super has,
// and the volume options. The error is a *[CorruptError].
// Source: spec format 12.1, items 3 and 4.
func (s *Super) VerifyRoots(device string) error {
	if err := s.verifyRoots(); err != nil {
		return &CorruptError{Device: device, Blkno: SuperBlkno, Reason: "super: " + err.Error()}
	}
	return nil
}

func (s *Super) verifyRoots() error {
	roots := []struct {
		name string
		root *BtreeRoot
	}{
		{"meta_alloc[0]", &s.MetaAlloc[0].Root}, {"meta_alloc[1]", &s.MetaAlloc[1].Root}, {"data_alloc", &s.DataAlloc.Root},
		{"fs_root", &s.FSRoot}, {"logs_root", &s.LogsRoot}, {"log_merge", &s.LogMerge},
		{"mounted_clients", &s.MountedClients}, {"srch_root", &s.SrchRoot},
	}
	for _, r := range roots {
		if err := r.root.verify(s.TotalMetaBlocks); err != nil {
			return fmt.Errorf("%s: %w", r.name, err)
		}
	}
	for i := range s.ServerMetaAvail {
		if err := s.ServerMetaAvail[i].verify(s.TotalMetaBlocks); err != nil {
			return fmt.Errorf("server_meta_avail[%d]: %w", i, err)
		}
		if err := s.ServerMetaFreed[i].verify(s.TotalMetaBlocks); err != nil {
			return fmt.Errorf("server_meta_freed[%d]: %w", i, err)
		}
	}
	if bits := s.VolOpt.SetBits &^ (1 << VolOptDataAllocZoneBlocks); bits != 0 {
		return fmt.Errorf("unknown volume options %#x", bits)
	}
	if s.VolOpt.SetBits != 0 {
		return VerifyZoneBlocks(s.VolOpt.Values[VolOptDataAllocZoneBlocks], s.TotalDataBlocks)
	}
	return nil
}

func (r *BtreeRoot) verify(total uint64) error {
	if r.Height > MaxHeight {
		return fmt.Errorf("height %d is above %d", r.Height, MaxHeight)
	}
	if (r.Height == 0) != r.Ref.IsNull() {
		return fmt.Errorf("height %d with a reference to block %d", r.Height, r.Ref.Blkno)
	}
	return r.Ref.verify(total)
}

func (l *AllocList) verify(total uint64) error {
	if l.Ref.IsNull() && (l.FirstNr != 0 || l.TotalNr != 0) {
		return fmt.Errorf("%d entries but no block", l.TotalNr)
	}
	if l.FirstNr > AllocListNr || uint64(l.FirstNr) > l.TotalNr {
		return fmt.Errorf("%d entries in the first block of %d in all", l.FirstNr, l.TotalNr)
	}
	return l.Ref.verify(total)
}

func (r BlockRef) verify(total uint64) error {
	if !r.IsNull() && (r.Blkno < FirstMetaBlkno || uint64(r.Blkno) >= total) {
		return fmt.Errorf("block %d is outside the metadata device's %d blocks", r.Blkno, total)
	}
	return nil
}

// VerifyZoneBlocks checks a value of the volume option data_alloc_zone_blocks
// for a data device of total 4 KiB blocks. Source: spec format 10.3.
func VerifyZoneBlocks(zone, total uint64) error {
	if zone < MinZoneBlocks || zone < total/MaxZones || zone > total {
		return fmt.Errorf("data_alloc_zone_blocks %d is not in %d .. %d", zone, max(MinZoneBlocks, total/MaxZones), total)
	}
	return nil
}

// Limits of the volume option data_alloc_zone_blocks.
const (
	MinZoneBlocks = 1 << 20 // 4 KiB blocks
	MaxZones      = 1024
)

// IsMeta reports whether s is the metadata device's super.
func (s *Super) IsMeta() bool { return s.Flags&SuperFlagMeta != 0 }

// VerifySize checks that the device, which s was read from and which has size
// bytes, holds all blocks that s counts. The error is a *[CorruptError].
func (s *Super) VerifySize(device string, size int64) error {
	total, have, what := s.TotalDataBlocks, uint64(max(size, 0))>>SmallShift, "4 KiB data"
	if s.IsMeta() {
		total, have, what = s.TotalMetaBlocks, uint64(max(size, 0))>>LargeShift, "64 KiB metadata"
	}
	if total > have {
		return &CorruptError{Device: device, Blkno: SuperBlkno,
			Reason: fmt.Sprintf("super: %d %s blocks, but the device has only %d", total, what, have)}
	}
	return nil
}

// VerifySupers checks that two verified supers are the metadata and the data
// device's of one volume, in this order. The error is a *[CorruptError].
func VerifySupers(meta, data *Super, metaDevice, dataDevice string) error {
	bad := func(device, why string, args ...any) error {
		return &CorruptError{Device: device, Blkno: SuperBlkno, Reason: "super: " + fmt.Sprintf(why, args...)}
	}
	switch {
	case !meta.IsMeta() && data.IsMeta():
		return bad(metaDevice, "this is the data device and %s the metadata device: swap them", dataDevice)
	case !meta.IsMeta():
		return bad(metaDevice, "this is not a metadata device")
	case data.IsMeta():
		return bad(dataDevice, "this is a metadata device, not the data device")
	case meta.UUID != data.UUID:
		return bad(dataDevice, "uuid %s is another volume's than %s on %s",
			UUIDString(data.UUID), UUIDString(meta.UUID), metaDevice)
	case meta.FmtVers != data.FmtVers:
		return bad(dataDevice, "format version %d, but %d on %s", data.FmtVers, meta.FmtVers, metaDevice)
	}
	return nil
}

// UUIDString is the usual text of a uuid.
func UUIDString(u [16]byte) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[0:4], u[4:6], u[6:8], u[8:10], u[10:16])
}

// VerifyQuorumBlock decodes and checks the whole 4 KiB quorum block of a slot.
// The error is a *[CorruptError]. Source: spec format 10.2.
func VerifyQuorumBlock(b []byte, device string, fsid uint64, slot int) (*QuorumBlock, error) {
	blkno := QuorumBlkno + Blkno(slot)
	bad := func(err error) error {
		return &CorruptError{Device: device, Blkno: blkno, Reason: fmt.Sprintf("quorum slot %d: %v", slot, err)}
	}
	if len(b) != SmallSize {
		return nil, bad(fmt.Errorf("%d bytes instead of %d", len(b), SmallSize))
	}
	q, _ := Load[QuorumBlock](b)
	if err := VerifyHeader(b, BlockHeader{Magic: MagicQuorum, Fsid: fsid, Seq: q.Hdr.Seq, Blkno: blkno}); err != nil {
		return nil, bad(err)
	}
	return &q, nil
}

// InUse reports whether a member that owns this slot has started and not
// ended: offline writers must leave the volume alone. Source: spec format 1.7.
func (q *QuorumBlock) InUse() bool {
	return q.Events[QuorumBegin].WriteNr > q.Events[QuorumEnd].WriteNr
}
