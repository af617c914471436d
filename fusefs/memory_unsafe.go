// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package fusefs

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The memory of a caller that waits in an ioctl. Its thread cannot run, nor
// its id be used again, before our reply. Access needs CAP_SYS_PTRACE and a
// caller that this pid namespace can see.
type memory struct{ pid int }

// write stores b at the caller's address addr.
func (m memory) write(addr uint64, b []byte) error {
	if m.pid == 0 {
		return syscall.EFAULT
	}
	for len(b) > 0 {
		local := unix.Iovec{Base: unsafe.SliceData(b)}
		local.SetLen(len(b))
		n, err := unix.ProcessVMWritev(m.pid, []unix.Iovec{local}, []unix.RemoteIovec{{Base: uintptr(addr), Len: len(b)}}, 0)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EPERM:
			return syscall.EPERM
		case err != nil || n <= 0:
			return syscall.EFAULT
		}
		b = b[n:]
		addr += uint64(n)
	}
	return nil
}

// shared is a string that shares the memory of b. It is good only as long as
// nobody changes b.
func shared(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
