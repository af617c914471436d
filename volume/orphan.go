// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package volume

import (
	"context"
	"sync"
	"syscall"
	"time"

	"scoutfs/format"
	"scoutfs/lock"
	"scoutfs/txn"
)

// extentsPerStep is how many extents one transaction of a truncation,
// deletion or preallocation changes.
const extentsPerStep = 8

// orphanWork is the queue of inodes to delete, and what is known about their
// use on other mounts.
type orphanWork struct {
	mu    sync.Mutex
	queue []format.Ino       // +checklocks:mu
	busy  bool               // an inode of the queue is being deleted; +checklocks:mu
	maps  map[uint64]openMap // by group; +checklocks:mu
	wake  chan struct{}      // capacity 1: the queue may have grown
	idle  chan struct{}      // capacity 1: the queue may have become empty

	resched chan struct{} // capacity 1: the delay of the scan was changed
}

// openMap is the server's answer under one grant of a group's lock.
type openMap struct {
	writeSeq uint64
	bits     [16]uint64
}

func (w *orphanWork) init() {
	w.wake, w.idle = make(chan struct{}, 1), make(chan struct{}, 1)
	w.resched = make(chan struct{}, 1)
	w.maps = make(map[uint64]openMap)
}

// push queues an inode. It never blocks.
func (w *orphanWork) push(ino format.Ino) {
	w.mu.Lock()
	w.queue = append(w.queue, ino)
	w.mu.Unlock()
	poke(w.wake)
}

// poke sends to a channel of capacity 1 unless it is full.
func poke(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// pop takes the oldest inode of the queue.
func (w *orphanWork) pop() (ino format.Ino, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.busy = len(w.queue) > 0
	if !w.busy {
		w.queue = nil
		poke(w.idle)
		return 0, false
	}
	ino, w.queue = w.queue[0], w.queue[1:]
	return ino, true
}

// done reports whether nothing is queued or being worked on.
func (w *orphanWork) done() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.queue) == 0 && !w.busy
}

// drain waits until the queue is empty, or nobody works on it any more.
func (w *orphanWork) drain(ctx context.Context, stopped <-chan struct{}) error {
	for !w.done() {
		select {
		case <-w.idle:
		case <-stopped:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// settleTime bounds how long somebody who needs space waits for deletions.
const settleTime = 30 * time.Second

// settle waits until deletions that were queued are done. It reports whether
// there were any.
func (w *orphanWork) settle(c context.Context) (waited bool) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(settleTime); time.Now().Before(end); waited = true {
		if w.done() {
			return waited
		}
		select {
		case <-tick.C:
		case <-c.Done():
			return false
		}
	}
	return false
}

// known returns the open map of a group if it was fetched under this grant.
func (w *orphanWork) known(grp, writeSeq uint64) (bits [16]uint64, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	m, ok := w.maps[grp]
	return m.bits, ok && m.writeSeq == writeSeq
}

// learn keeps the open map of a group.
func (w *orphanWork) learn(grp, writeSeq uint64, bits [16]uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.maps) >= 1024 {
		clear(w.maps)
	}
	w.maps[grp] = openMap{writeSeq, bits}
}

// forgetMap drops the open map of a group whose lock is lost.
func (w *orphanWork) forgetMap(grp uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.maps, grp)
}

// deleteLoop deletes the inodes of the queue until ctx is done.
func (v *Volume) deleteLoop(ctx context.Context) {
	for {
		ino, ok := v.orphans.pop()
		if !ok {
			select {
			case <-v.orphans.wake:
				continue
			case <-ctx.Done():
				return
			}
		}
		if ctx.Err() != nil {
			continue
		}
		c := &Caller{Cancel: ctx.Done()}
		if err := v.tryDelete(c, ino); err != nil && err != syscall.EAGAIN && err != syscall.EINTR {
			v.log.Warn("volume: delete inode; the orphan scan will try again", "ino", ino, "error", err)
		}
	}
}

// tryDelete deletes ino if it has no link and no mount uses it. EAGAIN if one
// does. nil also if it is gone already. Source: spec filesystem 2.7.
func (v *Volume) tryDelete(c *Caller, ino format.Ino) error {
	if !v.refs.claim(ino) {
		return syscall.EAGAIN
	}
	defer func() {
		if v.refs.unclaim(ino) {
			v.orphans.push(ino)
		}
	}()
	o := v.start(c)
	defer o.end()
	s, err := o.lockSlot(ino)
	if err != nil {
		return err
	}
	if err := o.readInode(s.lk, ino, &s.in); err == syscall.ESTALE {
		return nil
	} else if err != nil {
		return err
	}
	if s.in.Nlink > 0 {
		return syscall.EAGAIN
	}
	if err := o.checkUnused(s); err != nil {
		return err
	}
	if isReg(&s.in) {
		if err := o.deleteExtents(s); err != nil {
			return err
		}
	}
	if err := o.deleteXattrs(s); err != nil {
		return err
	}
	if err := o.deleteInode(s); err != nil {
		return err
	}
	v.m.inodeDeleted.Add(1)
	return nil
}

// checkUnused asks which inodes other mounts use. EAGAIN if ino is one of them.
// The caller holds W on the group, so no other mount can begin to use it. The
// server's answer is remembered for the grant; as it holds our own bits of that
// moment too, a bit that is set is asked for again.
func (o *op) checkUnused(s *slot) error {
	if o.v.refs.used(s.ino) {
		return syscall.EAGAIN
	}
	grp, n := group(s.ino), uint64(s.ino)%format.LockGroup
	seq := s.lk.WriteSeq()
	if bits, ok := o.v.orphans.known(grp, seq); ok && bits[n/64]>>(n%64)&1 == 0 {
		return nil
	}
	bits, err := o.v.service.OpenInoMap(&o.wait, grp)
	if err != nil {
		return o.lockError(err)
	}
	o.v.orphans.learn(grp, seq, bits)
	if bits[n/64]>>(n%64)&1 != 0 {
		return syscall.EAGAIN
	}
	return nil
}

// deleteStep runs fn in a transaction that changes items of the inode, unless a
// reference to it has come up again. It does not need index locks.
func (o *op) deleteStep(s *slot, fn func() error) error {
	for {
		err := o.changeItems(txn.Freeing, func() error {
			if o.v.refs.used(s.ino) || s.in.Nlink > 0 {
				return syscall.EAGAIN
			}
			return fn()
		})
		if !o.full(nil, err) {
			return err
		}
		if o.wait.Err() != nil {
			return syscall.EINTR
		}
	}
}

// deleteExtents frees all blocks of a file.
func (o *op) deleteExtents(s *slot) error {
	for more := true; more; {
		err := o.deleteStep(s, func() (err error) {
			if more, err = o.removeExtents(s, 0); err != nil {
				return err
			}
			return o.updateCounts(s)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// updateCounts stores the block counts of a dead inode without moving it in
// the indexes.
func (o *op) updateCounts(s *slot) error {
	if s.in == s.old {
		return nil
	}
	o.key = format.KeyInode(s.ino)
	return o.tx.Update(s.lk, &o.key, format.Bytes(&s.in)[:format.InodeSize(o.v.vers)])
}

// deleteInode removes the inode with its index items, the parts of a symbolic
// link and the orphan item, in one transaction.
func (o *op) deleteInode(s *slot) error {
	n := o.nlocks
	defer o.releaseFrom(n)
	orphans, err := o.acquire(lock.Orphans(), format.LockWriteOnly)
	if err != nil {
		return err
	}
	meta, err := o.acquire(lock.Index(format.TypeMetaSeq, s.in.MetaSeq), format.LockWriteOnly)
	if err != nil {
		return err
	}
	var data *lock.Lock
	if isReg(&s.in) {
		if data, err = o.acquire(lock.Index(format.TypeDataSeq, s.in.DataSeq), format.LockWriteOnly); err != nil {
			return err
		}
	}
	return o.deleteStep(s, func() error {
		o.key = format.KeyMetaSeq(s.in.MetaSeq, s.ino)
		if err := o.tx.DeleteForce(meta, &o.key, s.lk); err != nil {
			return err
		}
		if data != nil {
			o.key = format.KeyDataSeq(s.in.DataSeq, s.ino)
			if err := o.tx.DeleteForce(data, &o.key, s.lk); err != nil {
				return err
			}
		}
		if err := o.deleteSymlink(s); err != nil {
			return err
		}
		o.key = format.KeyOrphan(s.ino)
		if err := o.tx.DeleteForce(orphans, &o.key, s.lk); err != nil {
			return err
		}
		o.key = format.KeyInode(s.ino)
		if err := o.tx.Delete(s.lk, &o.key); err != nil {
			return err
		}
		o.tx.AddInodes(-1)
		return nil
	})
}

// deleteSymlink removes the parts of a target. Missing ones are fine.
func (o *op) deleteSymlink(s *slot) error {
	if s.in.Mode&modeType != modeLnk {
		return nil
	}
	size := min(s.in.Size, format.MaxSymlink)
	for part := uint64(0); part*format.MaxValue < size; part++ {
		o.key = format.KeySymlink(s.ino, part)
		if err := o.tx.Delete(s.lk, &o.key); err != nil && !notFound(err) {
			return err
		}
	}
	return nil
}
