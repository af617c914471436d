// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package block

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"scoutfs/format"
)

// Locks are open-file-description byte-range locks on the descriptor that does the I/O,
// so that they last as long as anything can still be written through it. They lie
// far beyond the end of any device: a byte for each quorum slot, and one of
// 2^61 for each rid.
const (
	lockBase = 1 << 62
	ridBase  = lockBase + 1<<61
	ridMask  = 1<<61 - 1
)

// LockSlot takes the exclusive lock of a quorum slot, 0 to 14. The error
// matches ErrBusy if another opener has it. It does not wait.
func (f *File) LockSlot(slot int) error {
	return f.lock(fmt.Sprintf("slot %d", slot), lockBase+int64(slot), 1)
}

// LockRid takes the exclusive lock of a mount, which proves to others on this
// host that it lives. The error matches ErrBusy if another opener has it.
func (f *File) LockRid(rid format.Rid) error {
	return f.lock(fmt.Sprintf("rid %016x", uint64(rid)), ridOff(rid), 1)
}

// LockWhole takes the locks of all slots and rids, for those who write to a
// volume that nobody may have mounted. The error matches ErrBusy if another
// opener has any.
func (f *File) LockWhole() error { return f.lock("whole volume", lockBase, 0) }

// TestSlot reports whether another opener holds the lock of a slot. What f itself holds
// does not count.
func (f *File) TestSlot(slot int) (held bool, err error) { return f.test(lockBase + int64(slot)) }

// TestRid reports whether another opener holds the lock of rid. What f itself
// holds does not count. The lock of a process that was killed lasts until the
// kernel has ended the last request that it had under way, a little longer than
// the process: only then can nothing of it reach the device any more.
func (f *File) TestRid(rid format.Rid) (held bool, err error) { return f.test(ridOff(rid)) }

func ridOff(rid format.Rid) int64 { return ridBase + int64(uint64(rid)&ridMask) }

// lock takes n bytes exclusively; 0 is all that follow.
func (f *File) lock(what string, off, n int64) error {
	err := f.fcntl(unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart, Start: off, Len: n})
	if err == unix.EAGAIN || err == unix.EACCES {
		err = ErrBusy
	}
	if err != nil {
		return fmt.Errorf("block: lock %s of %s: %w", what, f.path, err)
	}
	return nil
}

func (f *File) test(off int64) (bool, error) {
	l := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart, Start: off, Len: 1}
	if err := f.fcntl(unix.F_OFD_GETLK, &l); err != nil {
		return false, fmt.Errorf("block: test lock of %s: %w", f.path, err)
	}
	return l.Type != unix.F_UNLCK, nil
}

func (f *File) fcntl(cmd int, l *unix.Flock_t) error {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.closed {
		return os.ErrClosed
	}
	for {
		if err := unix.FcntlFlock(uintptr(f.fd), cmd, l); err != unix.EINTR {
			return err
		}
	}
}

// unlockAll gives up all locks; f.mu is held for writing.
func (f *File) unlockAll() {
	l := unix.Flock_t{Type: unix.F_UNLCK, Whence: io.SeekStart, Start: lockBase}
	_ = unix.FcntlFlock(uintptr(f.fd), unix.F_OFD_SETLK, &l) // there may be none
}
