// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package txn

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"syscall"

	"scoutfs/alloc"
	"scoutfs/format"
	"scoutfs/internal/invariants"
	"scoutfs/lock"
)

// Kind says what an operation does to free space.
type Kind int

// Kinds of operations. Source: spec filesystem 1.12.
const (
	Allocating Kind = iota // may use space: ENOSPC once metadata is low
	Freeing                // gives space back or changes in place: always let through
)

// Tx is one operation's changes, all of which stay or none. It holds the open
// transaction: a commit waits for its end. One goroutine uses it at a time.
// Changes are visible to all readers at once.
type Tx struct {
	e      *Engine
	ctx    context.Context
	seq    uint64
	log    *undoLog
	allocs []extent
	frees  []extent // done by Done, so that Undo has nothing to take back
	srch   []format.SrchEntry
	inodes int64
}

var undoLogs = sync.Pool{New: func() any { return &undoLog{b: make([]byte, 0, 4096)} }}

// maxUndoKept is the size of a log that is worth keeping for reuse, in bytes.
const maxUndoKept = 64 << 10

// Begin holds the open transaction for one operation. Cluster locks must have
// been acquired before, and the caller must not have another hold. It waits
// while a commit runs, and for the next transaction if this one has too little
// space left. It fails with ENOSPC for an Allocating operation if metadata is
// low, EINTR when ctx is done, ESHUTDOWN after Close and ENOLINK after Abort.
// ctx also ends reads on behalf of the Tx.
func (e *Engine) Begin(ctx context.Context, k Kind) (*Tx, error) {
	t := new(Tx)
	if err := e.BeginIn(ctx, k, t); err != nil {
		return nil, err
	}
	return t, nil
}

// BeginIn is Begin in memory of the caller's: *t is new or has ended.
func (e *Engine) BeginIn(ctx context.Context, k Kind, t *Tx) error {
	invariants.Check(t.log == nil, "operation begins twice")
	for {
		if k == Allocating && e.space.metaLow.Load() {
			return syscall.ENOSPC
		}
		ch, err := e.gate.enter(e.tight)
		if err != nil {
			return err
		}
		if ch == nil {
			t.e, t.ctx, t.seq, t.log = e, ctx, e.seq.Load(), undoLogs.Get().(*undoLog)
			return nil
		}
		e.stats.waits.Add(1)
		if err := e.wait(ctx, ch); err != nil {
			return err
		}
	}
}

// Seq is the transaction's sequence number.
func (t *Tx) Seq() uint64 { return t.seq }

// Create adds an item that must not exist; lk is held W. It may read, and fails
// with EEXIST, EINVAL for a wrong lock or a value that is too long, or as
// [Engine.Lookup] does.
func (t *Tx) Create(lk *lock.Lock, key *format.Key, val []byte) error {
	return t.changeRead(opCreate, lk, key, val)
}

// Update replaces the value of an item; lk is held W. It may read, and fails
// with ENOENT, EINVAL, or as [Engine.Lookup] does.
func (t *Tx) Update(lk *lock.Lock, key *format.Key, val []byte) error {
	return t.changeRead(opUpdate, lk, key, val)
}

// Delete removes an item; lk is held W. Errors are those of Update.
func (t *Tx) Delete(lk *lock.Lock, key *format.Key) error {
	return t.changeRead(opDelete, lk, key, nil)
}

// CreateForce adds an item or replaces it, without a read; lk is held WO.
// primary is the W lock that orders the writers of the key, or nil.
func (t *Tx) CreateForce(lk *lock.Lock, key *format.Key, val []byte, primary *lock.Lock) error {
	return t.changeBlind(opForce, lk, key, val, primary)
}

// DeleteForce removes an item whether there is one or not, without a read; lk
// is held WO. primary is as in CreateForce.
func (t *Tx) DeleteForce(lk *lock.Lock, key *format.Key, primary *lock.Lock) error {
	return t.changeBlind(opDeleteForce, lk, key, nil, primary)
}

// Delta adds to a total, modulo 2^64; lk is held WO. It fails with EINVAL for a
// key that is not a total's.
func (t *Tx) Delta(lk *lock.Lock, key *format.Key, total, count uint64) error {
	if key.Zone != format.ZoneTotl {
		return syscall.EINVAL
	}
	var val [16]byte
	binary.LittleEndian.PutUint64(val[:], total)
	binary.LittleEndian.PutUint64(val[8:], count)
	return t.changeBlind(opDelta, lk, key, val[:], nil)
}

// check refuses arguments that break the rules.
func (t *Tx) check(lk *lock.Lock, key *format.Key, val []byte) error {
	invariants.Check(t.log != nil, "change after the end of the operation")
	if t.log == nil || len(val) > format.MaxValue || !lk.Covers(key) {
		return syscall.EINVAL
	}
	if t.e.dead.Load() {
		return syscall.ENOLINK
	}
	t.e.mark(lk)
	return nil
}

// changeRead is a change that depends on what exists.
func (t *Tx) changeRead(o op, lk *lock.Lock, key *format.Key, val []byte) error {
	if lk.Mode() == format.LockWriteOnly {
		return syscall.EINVAL
	}
	if err := t.check(lk, key, val); err != nil {
		return err
	}
	it := item{key: packKey(key), seq: max(t.seq, lk.WriteSeq()), val: val}
	for {
		res := t.e.cache.change(o, it, t.log)
		if res != missing {
			if res == full {
				t.e.cache.split(&it.key)
				continue
			}
			return t.changed(res)
		}
		if err := t.e.load(t.ctx, lk, it.key); err != nil {
			return err
		}
	}
}

// changeBlind is a change that does not depend on what others wrote.
func (t *Tx) changeBlind(o op, lk *lock.Lock, key *format.Key, val []byte, primary *lock.Lock) error {
	if lk.Mode() != format.LockWriteOnly {
		return syscall.EINVAL
	}
	if err := t.check(lk, key, val); err != nil {
		return err
	}
	it := item{key: packKey(key), seq: max(t.seq, lk.WriteSeq()), val: val}
	if primary != nil {
		it.seq = max(it.seq, primary.WriteSeq())
	}
	for {
		switch res := t.e.cache.change(o, it, t.log); res {
		case missing:
			t.e.cache.addEmpty(&it.key, packKey(&lk.Start), packKey(&lk.End))
		case full:
			t.e.cache.split(&it.key)
		default:
			return t.changed(res)
		}
	}
}

// changed turns the outcome of a change into an error.
func (t *Tx) changed(res outcome) error {
	switch res {
	case exists:
		return syscall.EEXIST
	case notFound:
		return syscall.ENOENT
	case mixed:
		return errMixed
	}
	t.e.cache.shrink()
	return nil
}

var errMixed = fmt.Errorf("txn: a total's key has an item that is not a difference: %w", syscall.EIO)

// mark notes that items are dirtied under lk, so that the commit sets the
// bloom bits of its start key, once for a log tree.
func (e *Engine) mark(lk *lock.Lock) {
	nr := e.treeNr.Load()
	if lk.TxnState.Load() == nr {
		return
	}
	e.bloomMu.Lock()
	e.blooms = append(e.blooms, lk.Start)
	e.bloomMu.Unlock()
	lk.TxnState.Store(nr)
}

// AllocData allocates between 1 and want data blocks for the operation. It
// returns ENOBUFS if the caller must end this Tx and begin another one, and
// ENOSPC if there is nothing left: no extent in the mount's space, and nothing
// that a commit would give back or none although one was made for that.
func (t *Tx) AllocData(want uint64) (format.Blkno, uint64, error) {
	if want == 0 || t.log == nil {
		return 0, 0, syscall.EINVAL
	}
	s := &t.e.space
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		return 0, 0, s.broken
	}
	if t.e.short(0) {
		s.spent.Store(true)
		return 0, 0, syscall.ENOBUFS
	}
	start, n, err := s.data.Alloc(&s.tree, want)
	s.note()
	switch {
	case err == nil:
		t.allocs = append(t.allocs, extent{start, n})
		return start, n, nil
	case errors.Is(err, alloc.ErrAgain), errors.Is(err, alloc.ErrNoSpace) && s.commitHelps():
		s.spent.Store(true)
		return 0, 0, syscall.ENOBUFS
	case errors.Is(err, alloc.ErrNoSpace):
		return 0, 0, syscall.ENOSPC
	}
	s.breaks(err)
	return 0, 0, fmt.Errorf("txn: allocate data: %w", err)
}

// FreeData frees data blocks that no item refers to any more. It returns
// ENOBUFS, having done nothing, if the caller must end this Tx and begin
// another one.
func (t *Tx) FreeData(start format.Blkno, n uint64) error {
	if n == 0 || t.log == nil {
		return syscall.EINVAL
	}
	if last := len(t.frees) - 1; last >= 0 && t.frees[last].start+format.Blkno(t.frees[last].n) == start {
		t.frees[last].n += n
		return nil
	}
	s := &t.e.space
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		return s.broken
	}
	if t.e.short(extentShare) {
		s.spent.Store(true)
		return syscall.ENOBUFS
	}
	s.reserved++
	s.note()
	t.frees = append(t.frees, extent{start, n})
	return nil
}

// AddInodes counts inodes made, or deleted if delta is negative.
func (t *Tx) AddInodes(delta int64) { t.inodes += delta }

// AddSrch adds an entry to the mount's log of searchable xattrs. It cannot fail
// now; the error is for later.
func (t *Tx) AddSrch(e format.SrchEntry) error {
	t.srch = append(t.srch, e)
	return nil
}

// Done keeps the changes and ends the hold.
func (t *Tx) Done() {
	if t.log == nil {
		return
	}
	if len(t.frees) > 0 || t.inodes != 0 || len(t.srch) > 0 {
		t.e.space.keep(t)
	}
	t.end()
}

// Undo takes every change back and ends the hold. After Done it does nothing.
func (t *Tx) Undo() {
	if t.log == nil {
		return
	}
	t.e.cache.undo(t.log)
	if len(t.allocs) > 0 || len(t.frees) > 0 {
		t.e.space.takeBack(t)
	}
	t.e.stats.undos.Add(1)
	t.end()
}

func (t *Tx) end() {
	if cap(t.log.b) <= maxUndoKept {
		t.log.b = t.log.b[:0]
		undoLogs.Put(t.log)
	}
	t.ctx, t.log, t.inodes = nil, nil, 0
	t.allocs, t.frees, t.srch = t.allocs[:0], t.frees[:0], t.srch[:0]
	t.e.gate.leave()
}
