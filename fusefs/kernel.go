// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package fusefs

import (
	"log/slog"
	"sync/atomic"

	"scoutfs/format"
	"scoutfs/fuseconn"
	"scoutfs/volume"
)

// Kernel makes the kernel forget what it caches of one mount. It is the
// volume's [volume.KernelCache]; before [Kernel.Attach] there is nothing to
// forget. Its methods wait for page requests of the inode that are being
// handled, so their callers must hold nothing that such a request needs.
type Kernel struct {
	conn    atomic.Pointer[fuseconn.Conn]
	log     *slog.Logger
	noEpoch atomic.Bool // the kernel does not know INC_EPOCH
}

var _ volume.KernelCache = (*Kernel)(nil)

// NewKernel returns a cache that is empty so far.
func NewKernel(log *slog.Logger) *Kernel { return &Kernel{log: log} }

// Attach says through which connection the kernel caches.
func (k *Kernel) Attach(c *fuseconn.Conn) { k.conn.Store(c) }

// InvalidateInode drops attributes of an inode, with pages also its pages.
func (k *Kernel) InvalidateInode(ino format.Ino, pages bool) {
	c := k.conn.Load()
	if c == nil {
		return
	}
	off := int64(-1)
	if pages {
		off = 0
	}
	if err := c.InvalInode(NodeID(ino), off, 0); err != nil {
		k.log.Debug("kernel cache", "ino", uint64(ino), "err", err)
	}
}

// InvalidateNames drops all names.
func (k *Kernel) InvalidateNames() {
	c := k.conn.Load()
	if c == nil || k.noEpoch.Load() {
		return
	}
	if err := c.IncEpoch(); err != nil {
		k.noEpoch.Store(true)
		k.log.Warn("this kernel cannot drop all names at once (FUSE INC_EPOCH, Linux 6.16)", "err", err)
	}
}
