// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package server

import (
	"encoding/binary"
	"fmt"
	"syscall"

	"scoutfs/block"
	"scoutfs/format"
)

const superOff = int64(format.SuperBlkno) << format.SmallShift

// readSuper reads and checks the metadata device's super block.
func readSuper(dev block.Device) (*format.Super, error) {
	buf := block.AlignedBuf(format.SmallSize)
	defer block.FreeBuf(buf)
	if err := block.ReadAt(dev, buf, superOff); err != nil {
		return nil, fmt.Errorf("server: read super: %w", err)
	}
	sup, _ := format.Load[format.Super](buf)
	bad := func(msg string, args ...any) (*format.Super, error) {
		return nil, &format.CorruptError{Device: dev.Name(), Blkno: format.SuperBlkno, Reason: "super: " + fmt.Sprintf(msg, args...)}
	}
	switch {
	case sup.Hdr.Magic != format.MagicSuper:
		return bad("magic is %08x", uint32(sup.Hdr.Magic))
	case sup.Hdr.CRC != format.Checksum(buf):
		return bad("crc is %08x, contents have %08x", sup.Hdr.CRC, format.Checksum(buf))
	case sup.Hdr.Blkno != format.SuperBlkno:
		return bad("blkno is %d", sup.Hdr.Blkno)
	case sup.FmtVers < format.MinVersion || sup.FmtVers > format.MaxVersion:
		return bad("format version is %d", sup.FmtVers)
	case sup.Flags&format.SuperFlagMeta == 0:
		return bad("this is a data device")
	case sup.TotalMetaBlocks >= 1<<63>>format.LargeShift || !block.Reaches(dev, int64(sup.TotalMetaBlocks)<<format.LargeShift):
		return bad("volume has %d blocks, the device %d", sup.TotalMetaBlocks, dev.Size()>>format.LargeShift)
	}
	return &sup, nil
}

// writeSuper writes the super block and flushes it. After an error the device
// has the old one or the new one, and may still go back to the old one. That the
// device's flush failed for somebody else meanwhile is an error too: it may have
// lost the super, and the flush here does not say so.
func writeSuper(dev block.Device, sup *format.Super) error {
	buf := block.AlignedBuf(format.SmallSize)
	defer block.FreeBuf(buf)
	clear(buf)
	copy(buf, format.Bytes(sup))
	sup.Hdr.CRC = format.Checksum(buf)
	binary.LittleEndian.PutUint32(buf, sup.Hdr.CRC)
	failures := flushFailures(dev)
	if err := block.WriteAt(dev, buf, superOff); err != nil {
		return fmt.Errorf("write super: %w", err)
	}
	if err := dev.Flush(); err != nil {
		return fmt.Errorf("write super: %w", err)
	}
	if flushFailures(dev) != failures {
		return fmt.Errorf("write super: flush of %s failed for another user of it: %w", dev.Name(), syscall.EIO)
	}
	return nil
}

// flushFailures is how many flushes of the device have failed so far, if it
// counts them.
func flushFailures(dev block.Device) uint64 {
	if c, ok := dev.(block.FlushCounter); ok {
		return c.FlushFailures()
	}
	return 0
}
