// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package iouring

import (
	"io"

	"golang.org/x/sys/unix"
)

const (
	sectorSize  = 4096
	maxTransfer = 1 << 30 // bytes of one system call or submission
)

// Plain performs op with pread or pwrite, however many calls that takes, and
// sets and returns its Err: io.ErrUnexpectedEOF or io.ErrShortWrite at the
// file's end, else a bare errno. It blocks.
func Plain(fd int, op *Op) error {
	op.Err = plain(fd, op, 0)
	return op.Err
}

// plain does what is left of op after done bytes. After a transfer that ended inside of
// a sector it starts that sector again, because O_DIRECT takes whole ones.
func plain(fd int, op *Op, done int) error {
	for done < len(op.Buf) {
		start := done &^ (sectorSize - 1)
		rest := op.Buf[start:min(len(op.Buf), start+maxTransfer)]
		n, err := plainCall(fd, op.Write, rest, op.Off+int64(start))
		if err == unix.EINTR || err == unix.EAGAIN {
			continue
		}
		if err != nil {
			return err
		}
		if n < len(rest) && n < sectorSize {
			if op.Write {
				return io.ErrShortWrite
			}
			return io.ErrUnexpectedEOF
		}
		done = start + n
	}
	return nil
}

func plainCall(fd int, write bool, b []byte, off int64) (int, error) {
	if write {
		return unix.Pwrite(fd, b, off)
	}
	return unix.Pread(fd, b, off)
}

func plainSync(fd, flags int) error {
	call := unix.Fsync
	if flags&fsyncDatasync != 0 {
		call = unix.Fdatasync
	}
	for {
		if err := call(fd); err != unix.EINTR {
			return err
		}
	}
}
