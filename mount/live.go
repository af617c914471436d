// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package mount

import (
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"scoutfs/volume"
)

// liveOptions are the options that can be changed while the volume is mounted.
// All its methods may be called at any time.
type liveOptions struct {
	o        atomic.Pointer[MountOptions]
	tunables volume.Tunables
}

func (l *liveOptions) store(o MountOptions) {
	l.o.Store(&o)
	l.tunables.DataPreallocBlocks.Store(o.DataPreallocBlocks)
	l.tunables.RegionPrealloc.Store(!o.DataPreallocContigOnly)
	l.tunables.InoAllocPerLock.Store(o.InoAllocPerLock)
	l.tunables.OrphanScanDelay.Store(int64(milliseconds(o.OrphanScanDelayMS)))
}

func (l *liveOptions) snapshot() *MountOptions { return l.o.Load() }

// set takes what was written to an option's file. EINVAL if it is not a number
// in range.
func (l *liveOptions) set(n *numberOption, text string) error {
	v, err := n.parse(strings.TrimSpace(text))
	if err != nil {
		return syscall.EINVAL
	}
	for {
		old := l.o.Load()
		o := *old
		n.set(&o, v)
		if l.o.CompareAndSwap(old, &o) {
			l.store(o)
			return nil
		}
	}
}

func (l *liveOptions) heartbeatTimeout() time.Duration {
	return milliseconds(l.snapshot().QuorumHeartbeatMS)
}

func (l *liveOptions) idleLocks() int { return int(l.snapshot().LockIdleCount) }
