// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package block

import (
	"unsafe"

	"golang.org/x/sys/unix"

	"scoutfs/format"
)

// address is where b starts. It is only compared and used in arithmetic.
func address(b []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(b))) }

// aligned reports whether b starts on a multiple of 4096.
func aligned(b []byte) bool { return address(b)%format.SmallSize == 0 }

// deviceSize asks a block device for its size in bytes.
func deviceSize(fd int) (int64, error) {
	var size uint64
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.BLKGETSIZE64, uintptr(unsafe.Pointer(&size)))
	if errno != 0 {
		return 0, errno
	}
	return int64(size), nil
}

// readOnlyDevice reports whether fd is a block device that takes no writes.
// Opening such a device for writing can succeed.
func readOnlyDevice(fd int) bool {
	ro, err := unix.IoctlGetInt(fd, unix.BLKROGET)
	return err == nil && ro != 0
}
