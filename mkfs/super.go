// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package mkfs

import (
	"fmt"
	"net/netip"

	"scoutfs/block"
	"scoutfs/format"
)

// Fixed places of a new volume, in 64 KiB blocks. Source: spec format 10.4.
const (
	fsRootBlkno    = format.FirstMetaBlkno
	availBlkno     = fsRootBlkno + 1
	availFirst     = availBlkno + 1 // the server's first metadata blocks
	availNr        = 1024
	dataAllocBlkno = availFirst + availNr
	metaAllocBlkno = dataAllocBlkno + 1 // two of them
	metaFree       = metaAllocBlkno + 2
)

// newSuper checks sizes and options and returns the super of the metadata
// device.
func newSuper(meta, data block.Device, o *Options) (*format.Super, error) {
	if o.Version < format.MinVersion || o.Version > format.MaxVersion {
		return nil, invalid(nil, "format version %d is not in the supported range %d-%d",
			o.Version, format.MinVersion, format.MaxVersion)
	}
	metaBlocks, err := deviceBlocks(meta, "metadata", o.MaxMetaSize, format.LargeShift, format.MinMetaBlocks, o)
	if err != nil {
		return nil, err
	}
	dataBlocks, err := deviceBlocks(data, "data", o.MaxDataSize, format.SmallShift, format.MinDataBlocks, o)
	if err != nil {
		return nil, err
	}
	s := &format.Super{
		Hdr:             format.BlockHeader{Magic: format.MagicSuper, Fsid: o.Fsid, Seq: 1, Blkno: format.SuperBlkno},
		FmtVers:         o.Version,
		Flags:           format.SuperFlagMeta,
		UUID:            o.UUID,
		Seq:             1,
		NextIno:         format.FirstIno,
		InodeCount:      1,
		TotalMetaBlocks: metaBlocks,
		TotalDataBlocks: dataBlocks,
		Quorum:          format.QuorumConfig{Version: 1},
		FSRoot:          leafRoot(fsRootBlkno),
	}
	free := metaBlocks - uint64(metaFree)
	s.MetaAlloc[0] = format.AllocRoot{TotalLen: free - free/2, Root: leafRoot(metaAllocBlkno)}
	s.MetaAlloc[1] = format.AllocRoot{TotalLen: free / 2, Root: leafRoot(metaAllocBlkno + 1)}
	s.DataAlloc = format.AllocRoot{TotalLen: dataBlocks - uint64(format.FirstDataBlkno), Root: leafRoot(dataAllocBlkno)}
	s.ServerMetaAvail[0] = format.AllocList{Ref: format.BlockRef{Blkno: availBlkno, Seq: 1}, TotalNr: availNr, FirstNr: availNr}
	if err := setSlots(&s.Quorum, o.Slots); err != nil {
		return nil, err
	}
	if o.ZoneBlocks != 0 {
		if err := format.VerifyZoneBlocks(o.ZoneBlocks, dataBlocks); err != nil {
			return nil, invalid(nil, "%v", err)
		}
		s.VolOpt.SetBits = 1 << format.VolOptDataAllocZoneBlocks
		s.VolOpt.Values[format.VolOptDataAllocZoneBlocks] = o.ZoneBlocks
	}
	return s, nil
}

func leafRoot(blkno format.Blkno) format.BtreeRoot {
	return format.BtreeRoot{Ref: format.BlockRef{Blkno: blkno, Seq: 1}, Height: 1}
}

// deviceBlocks is the number of blocks of a device that the volume will use.
func deviceBlocks(d block.Device, what string, limit uint64, shift uint, least uint64, o *Options) (uint64, error) {
	size := uint64(max(d.Size(), 0))
	if rounded := limit >> shift << shift; rounded != limit {
		o.Note(fmt.Sprintf("maximum %s size %d is not a multiple of %d, using %d", what, limit, uint64(1)<<shift, rounded))
		if limit = rounded; limit == 0 {
			return 0, invalid(d, "maximum %s size is less than one block", what)
		}
	}
	switch {
	case limit > size:
		o.Note(fmt.Sprintf("maximum %s size %d is larger than the device's %d, ignoring it", what, limit, size))
	case limit != 0 && limit < size:
		o.Inform(fmt.Sprintf("%s: limiting %s device from %d to %d bytes", d.Name(), what, size, limit))
		size = limit
	}
	blocks := size >> shift
	if blocks < least {
		return 0, invalid(d, "%s device of %d bytes is too small, the format needs %d", what, size, least<<shift)
	}
	if size < format.MinDeviceBytes {
		v, unit := Scale(size, 1)
		msg := fmt.Sprintf("%s device of %.2f %s is smaller than the recommended minimum of 64 GB", what, v, unit)
		if !o.AllowSmall {
			return 0, invalid(d, "%s", msg+", -A allows it")
		}
		o.Note(d.Name() + ": warning: " + msg + ", allowing with -A")
	}
	return blocks, nil
}

// setSlots checks the quorum slots and stores them. Source: spec format 10.1.
func setSlots(q *format.QuorumConfig, slots map[int]netip.AddrPort) error {
	if len(slots) == 0 {
		return invalid(nil, "a volume needs at least one quorum slot")
	}
	seen := map[netip.AddrPort]int{}
	for nr := range format.QuorumSlots + 1 {
		a, ok := slots[nr]
		if !ok {
			continue
		}
		if err := checkSlot(nr, a); err != nil {
			return err
		}
		if other, dup := seen[a]; dup {
			return invalid(nil, "quorum slots %d and %d have the same address %s", other, nr, a)
		}
		seen[a] = nr
		q.Slots[nr] = format.InetOf(a)
	}
	if len(seen) != len(slots) {
		return invalid(nil, "quorum slot numbers are 0 to %d", format.QuorumSlots-1)
	}
	return nil
}

func checkSlot(nr int, a netip.AddrPort) error {
	if nr >= format.QuorumSlots {
		return invalid(nil, "quorum slot number %d is not in 0 to %d", nr, format.QuorumSlots-1)
	}
	ip := a.Addr()
	if !ip.Is4() || ip.IsUnspecified() || ip.IsMulticast() || ip == netip.AddrFrom4([4]byte{255, 255, 255, 255}) || a.Port() == 0 {
		return invalid(nil, "quorum slot %d: %s is not a unicast IPv4 address and port", nr, a)
	}
	return nil
}

// Metadata blocks of one half of a volume's free space that mounts need before
// their allocators count as low on space: each its share of the reserve, and
// what its two lists hold; besides what the server's active list holds.
// Source: spec format 6.6.
const (
	listBlocks  = 8185
	mountBlocks = 18311 + 2*listBlocks
)

// MaxMounts is how many mounts at once a new volume has metadata space for
// before their allocators count as low on space.
func MaxMounts(s *format.Super) uint64 {
	half := min(s.MetaAlloc[0].TotalLen, s.MetaAlloc[1].TotalLen)
	return (half - min(half, listBlocks)) / mountBlocks
}

// noteMounts warns about metadata devices that suffice for few mounts only.
func noteMounts(s *format.Super, o *Options) {
	switch n := MaxMounts(s); {
	case n == 0:
		need := 2*(listBlocks+mountBlocks) + uint64(metaFree)
		v, unit := Scale(need, format.LargeSize)
		o.Note(fmt.Sprintf("warning: metadata space is low from the start even with one mount, %.2f %s would suffice", v, unit))
	case n < format.QuorumSlots:
		o.Note(fmt.Sprintf("metadata space suffices for %d mounts at once", n))
	}
}
