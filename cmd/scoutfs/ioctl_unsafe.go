// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package main

import (
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"scoutfs/format"
)

// sysIoctl performs an ioctl; arg is the argument's memory. It returns the
// ioctl's own result. Tests put a function of theirs in its place.
var sysIoctl = func(fd int, nr format.IoctlNr, arg []byte) (int, error) {
	for {
		n, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uintptr(nr), uintptr(unsafe.Pointer(unsafe.SliceData(arg))))
		switch errno {
		case 0:
			return int(n), nil
		case syscall.EINTR:
			continue
		}
		return 0, errno
	}
}

// address is where b lies, for a field of an ioctl's argument. b stays there
// until p is unpinned.
func address(p *runtime.Pinner, b []byte) uint64 {
	first := unsafe.SliceData(b)
	p.Pin(first)
	return uint64(uintptr(unsafe.Pointer(first)))
}
