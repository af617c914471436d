// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package volume

import (
	"cmp"
	"errors"
	"slices"
	"sync"
	"syscall"

	"scoutfs/block"
	"scoutfs/format"
	"scoutfs/lock"
	"scoutfs/txn"
)

// maxLocks is the most cluster locks that an operation holds at once: the
// rename lock, four inode groups, orphans, totals, the xattr index, and four
// index groups of each of four inodes.
const maxLocks = 24

// held is a cluster lock that an operation uses.
type held struct {
	lk   *lock.Lock
	mode format.LockMode
}

// slot is an inode that an operation changes.
type slot struct {
	ino   format.Ino
	lk    *lock.Lock // its group's, W
	old   format.Inode
	in    format.Inode // what it becomes
	fresh bool         // created by this operation
	data  bool         // data_seq is set to the transaction's
}

// op is the state of one call: locks, inodes and scratch memory, which are
// recycled so that calls do not allocate. Its memory must not be referred to
// after end.
type op struct {
	v *Volume
	c *Caller

	wait patience // the context of all waits but those for archived data

	locks   [maxLocks]held
	nlocks  int
	nindex  int // locks from here on are those of index groups
	seq     uint64
	dirty   uint64 // seq of the last transaction that changes were kept in
	slots   [4]slot
	nslots  int
	tx      *txn.Tx
	stripes [4]uint16
	nstripe int

	key, last format.Key
	ext       format.Extent
	buf       [1024]byte // a value that was read
	val       [1024]byte // a value to write
	win       window
	ops       []block.Op
	entry     DirEntry // what a callback sees
}

var opPool = sync.Pool{New: func() any { return new(op) }}

// start begins a call.
func (v *Volume) start(c *Caller) *op {
	o := opPool.Get().(*op)
	o.v, o.c, o.wait.c = v, c, c
	return o
}

// end gives back what the call holds.
func (o *op) end() {
	o.unlock()
	o.wait.end()
	o.v, o.c = nil, nil
	opPool.Put(o)
}

// unlock releases all cluster locks and forgets the inodes.
func (o *op) unlock() {
	o.releaseFrom(0)
	o.nindex, o.nslots, o.dirty = 0, 0, 0
}

// releaseFrom releases the cluster locks from number n on.
func (o *op) releaseFrom(n int) {
	for i := o.nlocks - 1; i >= n; i-- {
		h := &o.locks[i]
		var seq uint64
		if h.mode != format.LockRead {
			seq = o.dirty
		}
		o.v.locks.Release(h.lk, h.mode, seq)
		*h = held{}
	}
	o.nlocks = n
}

// acquire gets one more cluster lock, which must follow those that the
// operation holds in the order of the package comment. It may wait.
func (o *op) acquire(r lock.Range, mode format.LockMode) (*lock.Lock, error) {
	lk, err := o.v.locks.Acquire(&o.wait, r, mode)
	if err != nil {
		return nil, o.lockError(err)
	}
	o.push(lk, mode)
	return lk, nil
}

// acquirePage is acquire for requests that the kernel holds a page locked for:
// they are served even while the lock is being taken away.
func (o *op) acquirePage(r lock.Range, mode format.LockMode) (*lock.Lock, error) {
	lk, err := o.v.locks.AcquirePage(&o.wait, r, mode)
	if err != nil {
		return nil, o.lockError(err)
	}
	o.push(lk, mode)
	return lk, nil
}

func (o *op) push(lk *lock.Lock, mode format.LockMode) {
	o.locks[o.nlocks] = held{lk: lk, mode: mode}
	o.nlocks++
}

// lockError turns a context's error into the number that callers see.
func (o *op) lockError(err error) error {
	if o.wait.Err() != nil {
		return syscall.EINTR
	}
	return err
}

// lockRead locks the group of ino for reading.
func (o *op) lockRead(ino format.Ino) (*lock.Lock, error) {
	return o.acquire(lock.InodeGroup(ino), format.LockRead)
}

// addSlot declares an inode that the operation changes, and returns its
// number. The same inode gets the same slot.
func (o *op) addSlot(ino format.Ino) int {
	for i := range o.slots[:o.nslots] {
		if o.slots[i].ino == ino {
			return i
		}
	}
	o.slots[o.nslots] = slot{ino: ino}
	o.nslots++
	return o.nslots - 1
}

// group is the lock group of an inode.
func group(ino format.Ino) uint64 { return uint64(ino) / format.LockGroup }

// lockSlots locks the groups of all slots for writing, in order.
func (o *op) lockSlots() error {
	var order [4]uint8
	for i := range o.nslots {
		order[i] = uint8(i)
		for j := i; j > 0 && o.slots[order[j]].ino < o.slots[order[j-1]].ino; j-- {
			order[j], order[j-1] = order[j-1], order[j]
		}
	}
	var prev *slot
	for _, i := range order[:o.nslots] {
		s := &o.slots[i]
		if prev != nil && group(prev.ino) == group(s.ino) {
			s.lk = prev.lk
			continue
		}
		lk, err := o.acquire(lock.InodeGroup(s.ino), format.LockWrite)
		if err != nil {
			return err
		}
		s.lk, prev = lk, s
	}
	return nil
}

// lockSlot locks one inode for writing.
func (o *op) lockSlot(ino format.Ino) (*slot, error) {
	s := &o.slots[o.addSlot(ino)]
	return s, o.lockSlots()
}

// indexRange is an inode index lock that an operation needs.
type indexRange struct {
	typ uint8
	seq uint64 // first of its group
}

func indexOf(typ uint8, seq uint64) indexRange {
	return indexRange{typ, seq &^ (format.LockGroup - 1)}
}

func compareIndex(a, b indexRange) int {
	return cmp.Or(cmp.Compare(a.typ, b.typ), cmp.Compare(a.seq, b.seq))
}

// indexes collects the index groups that the slots need if they are written in
// transaction seq, in order. Source: spec filesystem 2.4.
func (o *op) indexes(set []indexRange, seq uint64) []indexRange {
	add := func(r indexRange) {
		if !slices.Contains(set, r) {
			set = append(set, r)
		}
	}
	for i := range o.slots[:o.nslots] {
		s := &o.slots[i]
		if s.fresh || s.old.MetaSeq != seq {
			add(indexOf(format.TypeMetaSeq, seq))
		}
		if !s.fresh && s.old.MetaSeq != seq {
			add(indexOf(format.TypeMetaSeq, s.old.MetaSeq))
		}
		if !s.data || (!s.fresh && s.old.DataSeq == seq) {
			continue
		}
		add(indexOf(format.TypeDataSeq, seq))
		if !s.fresh {
			add(indexOf(format.TypeDataSeq, s.old.DataSeq))
		}
	}
	slices.SortFunc(set, compareIndex)
	return set
}

// lockIndexes acquires the index groups that are predicted for transaction seq.
func (o *op) lockIndexes(seq uint64) error {
	var room [16]indexRange
	o.nindex, o.seq = o.nlocks, seq
	for _, r := range o.indexes(room[:0], seq) {
		if _, err := o.acquire(lock.Index(r.typ, r.seq), format.LockWriteOnly); err != nil {
			return err
		}
	}
	return nil
}

// indexLock returns the lock that covers an index item, nil if it was not predicted.
func (o *op) indexLock(key *format.Key) *lock.Lock {
	for i := o.nindex; i < o.nlocks; i++ {
		if o.locks[i].lk.Covers(key) {
			return o.locks[i].lk
		}
	}
	return nil
}

// covered reports whether the index locks that are held suffice for the slots
// as they are now.
func (o *op) covered() bool {
	var room [16]indexRange
	for _, r := range o.indexes(room[:0], o.seq) {
		k := format.Key{Zone: format.ZoneInodeIndex, Type: r.typ, Second: r.seq}
		if o.indexLock(&k) == nil {
			return false
		}
	}
	return true
}

// lockStripes takes the mutexes of all slots.
func (o *op) lockStripes() {
	o.nstripe = 0
	for i := range o.slots[:o.nslots] {
		n := stripeOf(o.slots[i].ino)
		if !slices.Contains(o.stripes[:o.nstripe], n) {
			o.stripes[o.nstripe] = n
			o.nstripe++
		}
	}
	slices.Sort(o.stripes[:o.nstripe])
	for _, n := range o.stripes[:o.nstripe] {
		o.v.stripes[n].Lock()
	}
}

func (o *op) unlockStripes() {
	for i := o.nstripe - 1; i >= 0; i-- {
		o.v.stripes[o.stripes[i]].Unlock()
	}
	o.nstripe = 0
}

// readSlots reads the inodes of all slots that are not created by the operation.
func (o *op) readSlots() error {
	for i := range o.slots[:o.nslots] {
		s := &o.slots[i]
		if s.fresh {
			continue
		}
		if err := o.readInode(s.lk, s.ino, &s.old); err != nil {
			return err
		}
		s.in = s.old
	}
	return nil
}

// change runs fn in a hold of a transaction, with the slots' inodes read and
// their mutexes held, and the index locks held that writing them needs. fn
// returns an error to undo everything, also what other tasks could see already
// in part; change returns it. Slots must be locked. The cluster locks of the
// slots stay held, so that change can be called again.
func (o *op) change(kind txn.Kind, fn func() error) error {
	for {
		again, err := o.tryChange(kind, fn)
		if !again {
			return err
		}
	}
}

// tryChange is one attempt of change; again says that the prediction was wrong.
func (o *op) tryChange(kind txn.Kind, fn func() error) (again bool, err error) {
	if err := o.readSlots(); err != nil {
		return false, err
	}
	n := o.nlocks
	defer func() {
		o.releaseFrom(n)
		o.nindex = 0
	}()
	if err := o.lockIndexes(o.v.engine.Seq()); err != nil {
		return false, err
	}
	tx, err := o.v.engine.Begin(&o.wait, kind)
	if err != nil {
		return false, o.lockError(err)
	}
	if tx.Seq() != o.seq {
		tx.Undo()
		return true, nil
	}
	return o.inHold(tx, true, fn)
}

// changeItems is change for steps that do not write the inodes' own items in
// the usual way, and so need no index locks.
func (o *op) changeItems(kind txn.Kind, fn func() error) error {
	tx, err := o.v.engine.Begin(&o.wait, kind)
	if err != nil {
		return o.lockError(err)
	}
	_, err = o.inHold(tx, false, fn)
	return err
}

// inHold runs fn with the mutexes held and the inodes read, and keeps or
// undoes what it did. again says that with indexed the index locks do not suffice.
func (o *op) inHold(tx *txn.Tx, indexed bool, fn func() error) (again bool, err error) {
	o.tx = tx
	o.lockStripes()
	defer o.unlockStripes()
	if err = o.readSlots(); err == nil {
		if again = indexed && !o.covered(); !again {
			err = fn()
		}
	}
	o.tx = nil
	if again || err != nil {
		tx.Undo()
		return again, err
	}
	o.dirty = tx.Seq()
	tx.Done()
	for i := range o.slots[:o.nslots] {
		if s := &o.slots[i]; s.in.OfflineBlocks < s.old.OfflineBlocks {
			o.v.waits.wakeAll(s.ino)
		}
	}
	return false, nil
}

// changeFull is change that is repeated while it fails because the transaction
// has no room left for allocating or freeing data, but the next one will. n
// counts that, if it is not nil.
func (o *op) changeFull(n counter, kind txn.Kind, fn func() error) error {
	for {
		err := o.change(kind, fn)
		if !o.full(n, err) {
			return err
		}
		if o.wait.Err() != nil {
			return syscall.EINTR
		}
	}
}

// full reports whether an operation that failed with err should be repeated:
// the transaction has no room left, or the volume has none but deletions that
// give some back are not finished.
func (o *op) full(n counter, err error) bool {
	switch {
	case err == nil:
		return false
	case errors.Is(err, syscall.ENOBUFS):
		if n != nil {
			n.Add(1)
		}
		return true
	case errors.Is(err, syscall.ENOSPC):
		return o.v.orphans.settle(&o.wait) && o.v.engine.Commit(&o.wait) == nil
	}
	return false
}
