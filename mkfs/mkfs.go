// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

// Package mkfs makes an empty ScoutFS volume on a metadata and a data device.
//
// Sizes in [Options] are bytes; block counts are 64 KiB blocks of the metadata
// device and 4 KiB blocks of the data device, as in package format. The order
// of writes is the crash order: the blocks that the super blocks refer to,
// then the data device's super, then the metadata device's, which alone makes
// a volume; each step is flushed before the next. Nothing here locks memory:
// one call, one goroutine.
package mkfs

import (
	"time"

	"scoutfs/block"
	"scoutfs/format"
)

// Options are the parameters of a new volume.
type Options struct {
	Slots       map[int]format.Inet // quorum slots by number 0..14; at least one
	MaxMetaSize uint64              // bytes of the metadata device to use; 0: all
	MaxDataSize uint64              // bytes of the data device to use; 0: all
	ZoneBlocks  uint64              // volume option data_alloc_zone_blocks, 4 KiB blocks; 0: not set
	Version     uint64              // format version 1 or 2; 0: 2
	AllowSmall  bool                // devices below 64 GiB become a note instead of an error
	Force       bool                // do not look for what the devices contain

	Fsid uint64    // 0: random
	UUID [16]byte  // zero: random (version 4)
	Time time.Time // of the root inode; zero: now, truncated to microseconds

	Note   func(string) // warnings, one line each without newline; may be nil
	Inform func(string) // other remarks, like a size that is reduced; may be nil
}

// Format writes an empty volume on meta and data and returns its super block
// as it is on meta. It blocks for the I/O. Errors: EINVAL for sizes and
// options that the format does not allow or for an existing volume, EPERM for
// foreign contents, EBUSY if somebody uses a device, or the device's own.
// Source: spec format 10.4, interfaces 2.3.
func Format(meta, data block.Device, o Options) (*format.Super, error) {
	panic("not yet")
}

// Summary is the text that describes a new volume: several whole lines.
// Source: spec interfaces 2.3.
func Summary(metaPath, dataPath string, s *format.Super) string {
	panic("not yet")
}
