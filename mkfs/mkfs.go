// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

// Package mkfs makes an empty ScoutFS volume on a metadata and a data device.
//
// Sizes in [Options] are bytes; block counts are 64 KiB blocks of the metadata
// device and 4 KiB blocks of the data device, as in package format. The order
// of writes is the crash order: the blocks that the super blocks refer to,
// then the data device's super, then the metadata device's, which alone makes
// a volume; each step is flushed before the next. Nothing here locks memory:
// one call, one goroutine.
//
//	metadata device, 64 KiB blocks
//	0  -                           1028  data_alloc leaf
//	1  super, 15 quorum blocks     1029  meta_alloc[0] leaf
//	2  fs_root leaf                1030  meta_alloc[1] leaf
//	3  server_meta_avail[0] list   1031  free, halved between meta_alloc[0] and [1]
//	4  .. 1027, named by the list
package mkfs

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"scoutfs/block"
	"scoutfs/format"
)

// Options are the parameters of a new volume.
type Options struct {
	Slots       map[int]netip.AddrPort // quorum slots by number 0..14, IPv4; at least one
	MaxMetaSize uint64                 // bytes of the metadata device to use; 0: all
	MaxDataSize uint64                 // bytes of the data device to use; 0: all
	ZoneBlocks  uint64                 // volume option data_alloc_zone_blocks, 4 KiB blocks; 0: not set
	Version     uint64                 // format version 1 or 2; 0: 2
	AllowSmall  bool                   // devices below 64 GiB become a note instead of an error
	Force       bool                   // do not look at what the devices contain

	Fsid uint64    // 0: random
	UUID [16]byte  // zero: random, RFC 4122 version 4
	Time time.Time // of the root inode; zero: now, truncated to microseconds

	// Note takes warnings and Inform other remarks, like a size that is
	// reduced: one line each without newline. Either may be nil.
	Note, Inform func(string)
}

// Format writes an empty volume on meta and data, which must be two different
// devices, and returns its super block as it is on meta. It blocks for the
// I/O. Errors are *[Error], or the devices'. Source: spec format 10.4,
// interfaces 2.3.
func Format(meta, data block.Device, o Options) (*format.Super, error) {
	o = o.withDefaults()
	if meta == data {
		return nil, invalid(meta, "metadata and data device are the same")
	}
	for _, d := range []block.Device{meta, data} {
		if err := claim(d); err != nil {
			return nil, err
		}
	}
	if err := checkContents(meta, data, &o); err != nil {
		return nil, err
	}
	s, err := newSuper(meta, data, &o)
	if err != nil {
		return nil, err
	}
	noteMounts(s, &o)
	if err := invalidate(meta, data); err != nil {
		return nil, err
	}
	if err := writeBlocks(meta, s, o.Time); err != nil {
		return nil, err
	}
	for _, d := range []block.Device{data, meta} {
		if err := writeSuper(d, s, d == meta); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (o Options) withDefaults() Options {
	if o.Version == 0 {
		o.Version = format.MaxVersion
	}
	for o.Fsid == 0 {
		o.Fsid = binary.LittleEndian.Uint64(random(8))
	}
	if o.UUID == [16]byte{} {
		copy(o.UUID[:], random(16))
		o.UUID[6] = o.UUID[6]&0x0f | 0x40
		o.UUID[8] = o.UUID[8]&0x3f | 0x80
	}
	if o.Time.IsZero() {
		o.Time = time.Now().Truncate(time.Microsecond)
	}
	if o.Note == nil {
		o.Note = func(string) {}
	}
	if o.Inform == nil {
		o.Inform = func(string) {}
	}
	return o
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b) // never fails
	return b
}

// claim takes the device's whole lock range, so that no mount has it.
func claim(d block.Device) error {
	l, ok := d.(interface{ LockWhole() error })
	if !ok {
		return nil
	}
	if err := l.LockWhole(); err != nil {
		return fail(d, err, "is in use by a mount or another tool")
	}
	return nil
}

// Summary describes a new volume in several whole lines, as the command prints
// them. Source: spec interfaces 2.3.
func Summary(metaPath, dataPath string, s *format.Super) string {
	var b strings.Builder
	line := func(label, value string) { fmt.Fprintf(&b, "  %-24s%s\n", label, value) }
	b.WriteString("Created scoutfs filesystem:\n")
	line("meta device path:", metaPath)
	line("data device path:", dataPath)
	line("fsid:", fmt.Sprintf("%x", s.Hdr.Fsid))
	line("uuid:", format.UUIDString(s.UUID))
	line("format version:", fmt.Sprint(s.FmtVers))
	line("64KB metadata blocks:", SizeText(s.TotalMetaBlocks, format.LargeSize))
	line("4KB data blocks:", SizeText(s.TotalDataBlocks, format.SmallSize))
	line("quorum config version:", fmt.Sprint(s.Quorum.Version))
	label := "quorum slots:"
	for i := range s.Quorum.Slots {
		if slot := &s.Quorum.Slots[i]; slot.Family == format.InetV4 {
			line(label, fmt.Sprintf("%d: %s", i, slot))
			label = ""
		}
	}
	return b.String()
}

// SizeText is a count of blocks of size bytes and, in parentheses, what they
// hold in a unit with a power of 1024. Source: spec interfaces 2.1 "SIZE".
func SizeText(count, size uint64) string {
	v, unit := Scale(count, size)
	return fmt.Sprintf("%d (%.2f %s)", count, v, unit)
}

// Scale converts count blocks of size bytes into the greatest unit of B, KB
// .. EB of which there is at least one.
func Scale(count, size uint64) (v float64, unit string) {
	units := []string{"B", "KB", "MB", "GB", "TB", "PB", "EB"}
	v = float64(count) * float64(size)
	i := 0
	for ; v >= 1024 && i < len(units)-1; i++ {
		v /= 1024
	}
	return v, units[i]
}
