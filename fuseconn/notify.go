// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package fuseconn

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// Codes of notifications, sent in place of a reply's error.
const (
	notifyInvalInode = 2
	notifyInvalEntry = 3
	notifyIncEpoch   = 8
	notifyPrune      = 9
)

// InvalInode makes the kernel forget what it cached of an inode: attributes,
// and pages of n bytes from off (n <= 0: to the end). A negative off only
// drops attributes and returns at once; otherwise it blocks while a READ, or a
// WRITE of part of a page, of the inode waits for a reply. Unknown inodes are
// no error. The caller must hold no lock that a request handler needs.
func (c *Conn) InvalInode(node uint64, off, n int64) error {
	var b [24]byte
	binary.LittleEndian.PutUint64(b[0:], node)
	binary.LittleEndian.PutUint64(b[8:], uint64(off))
	binary.LittleEndian.PutUint64(b[16:], uint64(n))
	return c.notify(notifyInvalInode, b[:])
}

// InvalEntry makes the kernel forget one name. It blocks while a LOOKUP in
// the directory waits for a reply, so it must not be used by revocations.
func (c *Conn) InvalEntry(parent uint64, name string) error {
	b := make([]byte, 16, 16+len(name)+1)
	binary.LittleEndian.PutUint64(b[0:], parent)
	binary.LittleEndian.PutUint32(b[8:], uint32(len(name)))
	b = append(b, name...)
	return c.notify(notifyInvalEntry, append(b, 0))
}

// IncEpoch makes the kernel look every cached name up again before it uses
// it. It returns at once. Kernels before 6.16 answer EINVAL.
func (c *Conn) IncEpoch() error { return c.notify(notifyIncEpoch, nil) }

// Prune makes the kernel drop unused names of inodes, so that it forgets
// those inodes soon. It returns at once. Kernels without it answer EINVAL.
func (c *Conn) Prune(nodes []uint64) error {
	b := make([]byte, 16, 16+8*len(nodes))
	binary.LittleEndian.PutUint32(b, uint32(len(nodes)))
	for _, n := range nodes {
		b = binary.LittleEndian.AppendUint64(b, n)
	}
	return c.notify(notifyPrune, b)
}

func (c *Conn) notify(code int32, body []byte) error {
	msg := make([]byte, outHeaderSize, outHeaderSize+len(body))
	binary.LittleEndian.PutUint32(msg[0:], uint32(outHeaderSize+len(body)))
	binary.LittleEndian.PutUint32(msg[4:], uint32(code))
	msg = append(msg, body...)
	for {
		_, err := unix.Write(c.fd, msg)
		switch err {
		case nil, unix.ENOENT:
			return nil
		case unix.EINTR:
			continue
		}
		return fmt.Errorf("fuse: notification %d to %s: %w", code, c.dir, err)
	}
}
