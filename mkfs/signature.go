// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package mkfs

import (
	"bytes"
	"encoding/binary"
	"syscall"

	"scoutfs/block"
	"scoutfs/format"
)

// probeSize is how much of a device's start is looked at, bytes.
const probeSize = 256 << 10

// tailSize is how much of its end.
const tailSize = 128 << 10

// signature is a mark that a filesystem, volume manager or partition table
// leaves at a fixed place. Offsets are bytes from the device's start; a
// negative one counts from its end.
type signature struct {
	name string
	kind string // "superblock" or "partition table"
	off  int64
	mark string
}

var signatures = []signature{
	{"ext2/ext3/ext4", "superblock", 1024 + 56, "\x53\xef"},
	{"xfs", "superblock", 0, "XFSB"},
	{"btrfs", "superblock", 65536 + 64, "_BHRfS_M"},
	{"f2fs", "superblock", 1024, "\x10\x20\xf5\xf2"},
	{"gfs2", "superblock", 65536, "\x01\x16\x19\x70\x00\x00\x00\x01"},
	{"ocfs2", "superblock", 8192, "OCFSV2"},
	{"bcache", "superblock", 4096 + 24, "\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81"},
	{"bcachefs", "superblock", 4096 + 24, "\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef"},
	{"squashfs", "superblock", 0, "hsqs"},
	{"erofs", "superblock", 1024, "\xe2\xe1\xf5\xe0"},
	{"reiserfs", "superblock", 65536 + 52, "ReIsEr"},
	{"jfs", "superblock", 32768, "JFS1"},
	{"ntfs", "superblock", 3, "NTFS    "},
	{"exfat", "superblock", 3, "EXFAT   "},
	{"vfat", "superblock", 0x36, "FAT1"},
	{"vfat", "superblock", 0x52, "FAT32   "},
	{"iso9660", "superblock", 32768 + 1, "CD001"},
	{"swap", "superblock", 4096 - 10, "SWAPSPACE2"},
	{"swap", "superblock", 4096 - 10, "SWAP-SPACE"},
	{"swap", "superblock", 65536 - 10, "SWAPSPACE2"},
	{"crypto_LUKS", "superblock", 0, "LUKS\xba\xbe"},
	{"linux_raid_member", "superblock", 0, "\xfc\x4e\x2b\xa9"},
	{"linux_raid_member", "superblock", 4096, "\xfc\x4e\x2b\xa9"},
	{"apfs", "superblock", 32, "NXSB"},
	{"bluestore", "superblock", 0, "bluestore block device"},
	{"gpt", "partition table", 512, "EFI PART"},
	{"gpt", "partition table", 4096, "EFI PART"},
	{"gpt", "partition table", -512, "EFI PART"},
	{"gpt", "partition table", -4096, "EFI PART"},
}

// probe is what a device holds at its start and at its end.
type probe struct {
	head, tail []byte
}

// at returns n bytes at an offset of a [signature], or nil.
func (p *probe) at(off int64, n int) []byte {
	b := p.head
	if off < 0 {
		b, off = p.tail, int64(len(p.tail))+off
	}
	if off < 0 || off+int64(n) > int64(len(b)) {
		return nil
	}
	return b[off : off+int64(n)]
}

// checkContents looks for what the devices hold, unless the user does not care.
func checkContents(meta, data block.Device, o *Options) error {
	swapped := func() bool { return areSwapped(meta, data) }
	if o.Force {
		if swapped() {
			o.Note("note: the metadata device was the data device of an older volume, and the other way round")
		}
		return nil
	}
	for _, d := range []block.Device{meta, data} {
		if err := checkEmpty(d, swapped); err != nil {
			return err
		}
	}
	return nil
}

// areSwapped reports whether the devices are those of one volume in the wrong
// order.
func areSwapped(meta, data block.Device) bool {
	var supers [2]*format.Super
	for i, d := range []block.Device{meta, data} {
		b := block.AlignedBuf(format.SmallSize)
		defer block.FreeBuf(b)
		if block.ReadAt(d, b, int64(format.SuperBlkno)<<format.SmallShift) != nil {
			return false
		}
		var err error
		if supers[i], err = format.VerifySuper(b, d.Name()); err != nil {
			return false
		}
	}
	return format.VerifySupers(supers[1], supers[0], "", "") == nil
}

// checkEmpty fails with EPERM if the device has a foreign signature and with
// EINVAL if it is part of a ScoutFS volume. Source: spec interfaces 2.3.
func checkEmpty(d block.Device, swapped func() bool) error {
	size := d.Size() &^ (format.SmallSize - 1)
	head, tail := block.AlignedBuf(probeSize), block.AlignedBuf(tailSize)
	defer block.FreeBuf(head)
	defer block.FreeBuf(tail)
	p := probe{head: head[:min(size, probeSize)], tail: tail[:min(size, tailSize)]}
	if size == 0 {
		return nil // too small, which is said later
	}
	ops := []block.Op{{Off: 0, Buf: p.head}, {Off: size - int64(len(p.tail)), Buf: p.tail}}
	if err := d.Do(ops); err != nil {
		return fail(d, err, "read to look for existing contents")
	}
	if name, kind := p.foreign(); name != "" {
		return fail(d, syscall.EPERM, "appears to contain an existing %s %s, use -f to overwrite it", name, kind)
	}
	super := p.at(int64(format.SuperBlkno)<<format.SmallShift, format.SmallSize)
	if super == nil {
		return nil
	}
	if h, _ := format.Load[format.BlockHeader](super); h.Magic == format.MagicSuper {
		hint := ""
		if swapped() {
			hint = " (metadata and data device look swapped)"
		}
		return invalid(d, "appears to contain an existing scoutfs superblock%s, use -f to overwrite it", hint)
	}
	return nil
}

// foreign names what the device holds, or returns empty strings.
func (p *probe) foreign() (name, kind string) {
	for _, s := range signatures {
		if bytes.Equal(p.at(s.off, len(s.mark)), []byte(s.mark)) {
			return s.name, s.kind
		}
	}
	if p.lvm() {
		return "LVM2_member", "superblock"
	}
	if p.zfs() {
		return "zfs_member", "superblock"
	}
	if p.raid() {
		return "linux_raid_member", "superblock"
	}
	if p.dos() {
		return "dos", "partition table"
	}
	return "", ""
}

// lvm looks for the label of a physical volume in the first four sectors.
func (p *probe) lvm() bool {
	for sector := range int64(4) {
		b := p.at(sector*512, 32)
		if b != nil && string(b[:8]) == "LABELONE" && string(b[24:32]) == "LVM2 001" {
			return true
		}
	}
	return false
}

// dos looks for a partition table in a master boot record: the mark, four
// entries whose first byte is 0 or 0x80, and one of them in use.
func (p *probe) dos() bool {
	b := p.at(0, 512)
	if b == nil || b[510] != 0x55 || b[511] != 0xaa {
		return false
	}
	used := false
	for i := range 4 {
		e := b[446+16*i:][:16]
		if e[0] != 0 && e[0] != 0x80 {
			return false
		}
		used = used || e[4] != 0 && binary.LittleEndian.Uint32(e[12:]) != 0
	}
	return used
}

// zfs looks for an uberblock in the ring of the first label.
func (p *probe) zfs() bool {
	for i := range int64(128) {
		b := p.at(128<<10+i<<10, 8)
		if b != nil && binary.LittleEndian.Uint64(b) == 0x00bab10c {
			return true
		}
	}
	return false
}

// raid looks for the superblock of Linux software RAID at the device's end:
// version 1.0, 8 KiB before it, and 0.90, in its last whole 64 KiB.
func (p *probe) raid() bool {
	const magic = "\xfc\x4e\x2b\xa9"
	for off := int64(-tailSize); off < 0; off += format.SmallSize {
		if string(p.at(off, len(magic))) == magic {
			return true
		}
	}
	return false
}
