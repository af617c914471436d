// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package volume

import (
	"context"
	"sync"
	"syscall"

	"scoutfs/format"
)

// inoPool is a batch of inode numbers that the server gave to this mount.
type inoPool struct {
	mu   sync.Mutex
	next format.Ino // +checklocks:mu
	n    uint64     // numbers left; +checklocks:mu
}

// newIno returns a number that no inode ever had. Directories have numbers of
// their own, so that they and files are in different lock groups. It asks the
// server once in 10240 calls, and then blocks. Source: spec filesystem 2.1.
func (v *Volume) newIno(c context.Context, dir bool) (format.Ino, error) {
	perLock := v.tun.inoAllocPerLock()
	p := &v.inos[1]
	if dir && perLock == format.LockGroup {
		p = &v.inos[0]
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.n == 0 {
		r, err := v.service.AllocInodes(c, format.InoBatch)
		if err != nil {
			if c.Err() != nil {
				return 0, syscall.EINTR
			}
			return 0, err
		}
		if r.Nr == 0 {
			return 0, syscall.ENOSPC
		}
		p.next, p.n = r.Ino, r.Nr
	}
	ino := p.next
	p.next++
	p.n--
	if low := uint64(p.next) % format.LockGroup; low >= perLock {
		skip := min(format.LockGroup-low, p.n)
		p.next += format.Ino(skip)
		p.n -= skip
	}
	return ino, nil
}

// Defaults of [Tunables].
const (
	defaultPrealloc        = 2048
	defaultOrphanScanDelay = 10e9
)

func (t *Tunables) inoAllocPerLock() uint64 {
	if n := t.InoAllocPerLock.Load(); n > 0 && n < format.LockGroup {
		return n
	}
	return format.LockGroup
}

func (t *Tunables) policy() policy {
	p := policy{blocks: defaultPrealloc, regions: t.RegionPrealloc.Load()}
	if n := t.DataPreallocBlocks.Load(); n > 0 {
		p.blocks = n
	}
	return p
}
