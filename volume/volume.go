// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package volume

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"syscall"
	"time"

	"scoutfs/block"
	"scoutfs/format"
	"scoutfs/lock"
	"scoutfs/txn"
)

// Volume is one mount's view of the file system. All methods may be called by
// many goroutines at once, Close last.
type Volume struct {
	engine  *txn.Engine
	locks   *lock.Client
	service Service
	cache   *block.Cache
	data    block.Device
	super   format.Super
	vers    uint64
	rid     format.Rid
	tun     *Tunables
	acls    bool
	kernel  KernelCache
	clients func() (int, bool)
	now     func() time.Time
	log     *slog.Logger

	stripes [1 << stripeBits]sync.RWMutex // the only truth on order between changes of an inode and reads of several of its items
	refs    refs
	inos    [2]inoPool // directories, others
	waits   waiters
	orphans orphanWork
	m       counters

	stop    context.CancelFunc // ends background work
	stopped <-chan struct{}    // closed by stop
	bg      sync.WaitGroup
}

// Open makes a Volume of what a mount has opened and begins its background
// work. It reads inode 1, so it waits until the server answers or ctx is done.
func Open(ctx context.Context, o Options) (*Volume, error) {
	if o.Engine == nil || o.Locks == nil || o.Service == nil || o.Cache == nil || o.Data == nil {
		return nil, errors.New("volume: open: an option is missing")
	}
	v := &Volume{
		engine: o.Engine, locks: o.Locks, service: o.Service, cache: o.Cache, data: o.Data,
		super: o.Super, vers: o.Super.FmtVers, rid: o.Rid, tun: o.Tunables, acls: !o.NoACL,
		kernel: o.Kernel, clients: o.ServerClients, now: o.Now, log: o.Log,
	}
	if v.tun == nil {
		v.tun = new(Tunables)
	}
	if v.now == nil {
		v.now = time.Now
	}
	if v.log == nil {
		v.log = slog.Default()
	}
	bg, stop := context.WithCancel(context.Background())
	v.stop, v.stopped = stop, bg.Done()
	v.orphans.init()
	if err := v.readRoot(ctx); err != nil {
		stop()
		return nil, fmt.Errorf("volume: open: read the root directory: %w", err)
	}
	v.bg.Go(func() { v.deleteLoop(bg) })
	if !o.NoOrphanScan {
		v.bg.Go(func() { v.scanLoop(bg) })
	}
	return v, nil
}

// readRoot loads inode 1. Source: spec filesystem 8.1.
func (v *Volume) readRoot(ctx context.Context) error {
	_, err := v.Getattr(&Caller{Cancel: ctx.Done()}, format.RootIno)
	return err
}

// Close treats all inodes as forgotten, deletes those without a link, and ends
// background work; when ctx is done first it leaves the rest to a later orphan
// scan. The engine is still to be closed, which commits.
func (v *Volume) Close(ctx context.Context) error {
	v.waits.close(syscall.ESHUTDOWN)
	for _, ino := range v.refs.dropAll() {
		v.orphans.push(ino)
	}
	err := v.orphans.drain(ctx, v.stopped)
	v.stop()
	v.bg.Wait()
	return err
}

// Abort is for a forced unmount, beside aborting the engine: calls that wait
// for archived data fail with ENOLINK, and background work ends. It does not
// wait. Close must still be called.
func (v *Volume) Abort() {
	v.waits.close(syscall.ENOLINK)
	v.stop()
}

// Revoke is what [lock.Client] calls when the server takes a lock away or
// reduces it: it makes the kernel and the item cache forget what the lock
// covered, after committing what was changed under it. Pages go first, and
// writes that this brings are served under the old mode: see the design, section 5.
// It implements [lock.Revoker].
func (v *Volume) Revoke(lk *lock.Lock, old, new format.LockMode, lastDirty uint64) error {
	isInodes := lk.Start.Zone == format.ZoneFS
	if isInodes {
		v.revokeKernel(lk, new)
	}
	if isInodes && new == format.LockNull {
		grp := group(format.Ino(lk.Start.First))
		defer v.waits.wakeGroup(grp)
		v.orphans.forgetMap(grp)
	}
	return v.engine.Revoke(lk, old, new, max(lastDirty, lk.LastDirty()))
}

// revokeKernel drops what the kernel has cached of a group of inodes. It
// repeats that while requests for their pages come in, and then lets no more in.
func (v *Volume) revokeKernel(lk *lock.Lock, new format.LockMode) {
	grp := group(format.Ino(lk.Start.First))
	if v.kernel != nil && new == format.LockNull {
		v.kernel.InvalidateNames()
	}
	for {
		seen := lk.Admitted()
		if v.kernel != nil {
			v.refs.each(grp, func(ino format.Ino) { v.kernel.InvalidateInode(ino, true) })
		}
		if v.locks.CloseAdmission(lk, seen) {
			return
		}
	}
}

// timestamp is the current time for inodes.
func (v *Volume) timestamp() format.Timespec { return format.TimespecOf(v.now()) }

// corrupt makes the error of items that contradict the format.
func corrupt(f string, args ...any) error {
	return &format.CorruptError{Device: "items", Reason: fmt.Sprintf(f, args...)}
}
