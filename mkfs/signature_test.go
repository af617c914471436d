// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package mkfs_test

import (
	"errors"
	"strings"
	"syscall"
	"testing"

	"scoutfs/block"
	"scoutfs/format"
	"scoutfs/internal/simdisk"
	"scoutfs/mkfs"
)

// put stores bytes anywhere on a disk; a negative offset counts from its end.
func put(t *testing.T, d *simdisk.Disk, off int64, s string) {
	t.Helper()
	if off < 0 {
		off += d.Size()
	}
	base := off &^ (format.SmallSize - 1)
	b := block.AlignedBuf(2 * format.SmallSize)
	defer block.FreeBuf(b)
	b = b[:min(int64(len(b)), d.Size()-base)]
	if err := block.ReadAt(d, b, base); err != nil {
		t.Fatal(err)
	}
	copy(b[off-base:], s)
	if err := block.WriteAt(d, b, base); err != nil {
		t.Fatal(err)
	}
}

func TestForeignContents(t *testing.T) {
	mbr := func(boot, typ byte, sectors string) string {
		return string([]byte{boot, 0, 0, 0, typ, 0, 0, 0, 1, 0, 0, 0}) + sectors + strings.Repeat("\x00", 48) + "\x55\xaa"
	}
	for _, v := range []struct {
		off  int64
		mark string
		want string // "" is none
	}{
		{1080, "\x53\xef", "ext2/ext3/ext4 superblock"},
		{0, "XFSB", "xfs superblock"},
		{65536 + 64, "_BHRfS_M", "btrfs superblock"},
		{4086, "SWAPSPACE2", "swap superblock"},
		{512, "LABELONE" + strings.Repeat("\x00", 16) + "LVM2 001", "LVM2_member superblock"},
		{1536, "LABELONE" + strings.Repeat("\x00", 16) + "LVM2 001", "LVM2_member superblock"},
		{0, "LUKS\xba\xbe\x00\x02", "crypto_LUKS superblock"},
		{512, "EFI PART", "gpt partition table"},
		{-512, "EFI PART", "gpt partition table"},
		{446, mbr(0, 0x83, "\x00\x08\x00\x00"), "dos partition table"},
		{446, mbr(0x80, 0x83, "\x00\x08\x00\x00"), "dos partition table"},
		{446, mbr(0x12, 0x83, "\x00\x08\x00\x00"), ""}, // code of a boot loader
		{446, mbr(0, 0, "\x00\x00\x00\x00"), ""},       // no partition
		{4096, "\xfc\x4e\x2b\xa9", "linux_raid_member superblock"},
		{-65536, "\xfc\x4e\x2b\xa9", "linux_raid_member superblock"},
		{128<<10 + 5<<10, "\x0c\xb1\xba\x00\x00\x00\x00\x00", "zfs_member superblock"},
		{128 << 20, "XFSB", ""}, // file data somewhere
		{1024 + 57, "\x53\xef", ""},
	} {
		for _, onData := range []bool{false, true} {
			meta, data := disks(exampleMeta, exampleData)
			d := meta
			if onData {
				d = data
			}
			put(t, d, v.off, v.mark)
			d.Flush()
			before := d.Counters().Writes
			_, err := mkfs.Format(meta, data, exampleOptions(2))
			if v.want == "" {
				if err != nil {
					t.Errorf("%q at %d: %v", v.mark, v.off, err)
				}
				continue
			}
			want := d.Name() + ": appears to contain an existing " + v.want + ", use -f to overwrite it"
			if !errors.Is(err, syscall.EPERM) || err.Error() != want || d.Counters().Writes != before {
				t.Errorf("%q at %d: %v, want %s", v.mark, v.off, err, want)
			}
			o := exampleOptions(2)
			o.Force = true
			if _, err := mkfs.Format(meta, data, o); err != nil {
				t.Errorf("forced: %v", err)
			}
		}
	}
}

func TestExistingVolume(t *testing.T) {
	meta, data := disks(exampleMeta, exampleData)
	if _, err := mkfs.Format(meta, data, exampleOptions(2)); err != nil {
		t.Fatal(err)
	}
	fresh, _ := disks(exampleMeta, exampleData)
	for _, pair := range [][2]*simdisk.Disk{{meta, data}, {data, meta}, {fresh, data}} {
		hint := ""
		if pair[0] == data {
			hint = " (metadata and data device look swapped)"
		}
		_, err := mkfs.Format(pair[0], pair[1], exampleOptions(2))
		if !errors.Is(err, syscall.EINVAL) || !strings.HasSuffix(err.Error(), ": appears to contain an existing scoutfs superblock"+hint+", use -f to overwrite it") {
			t.Errorf("%v", err)
		}
	}
	var notes []string
	o := exampleOptions(2)
	o.Force, o.Note = true, func(s string) { notes = append(notes, s) }
	if _, err := mkfs.Format(data, meta, o); err != nil || !strings.Contains(strings.Join(notes, "\n"), "the other way round") {
		t.Errorf("forced: %v %q", err, notes)
	}
}
