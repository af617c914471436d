// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package txn

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"
	"time"

	"scoutfs/alloc"
	"scoutfs/block"
	"scoutfs/btree"
	"scoutfs/format"
	"scoutfs/internal/invariants"
)

// errLost is the outcome of a Sync whose file data the device may have lost.
var errLost = fmt.Errorf("txn: file data may be lost, its device could not be flushed: %w", syscall.EIO)

// Sync commits everything that operations did before the call and returns when
// that is durable. Calls at the same time share a commit. It fails with EINTR
// when ctx is done, and ENOLINK after Abort. Source: spec filesystem 1.12.
//
// It fails with EIO if the data device could not be flushed during the commit,
// because nobody can write again what that may have lost; the commit itself is
// repeated until it succeeds. Each call that waits for that
// transaction fails so, after the commit or after a second such failure; if
// there is none, then the next call. Later ones succeed again.
func (e *Engine) Sync(ctx context.Context) error {
	if e.dead.Load() {
		return syscall.ENOLINK
	}
	r, err := e.gate.join()
	if r == nil {
		return err
	}
	select {
	case <-r.done:
	case <-r.hopeless:
	case <-ctx.Done():
		err = e.over(ctx)
	case <-e.ctx.Done():
		err = e.over(ctx)
	}
	return e.gate.part(r, err)
}

// Commit is Sync for those who need a commit but to whom no file data belongs:
// it neither reports lost data nor takes the report away from a call of Sync.
func (e *Engine) Commit(ctx context.Context) error {
	if e.dead.Load() {
		return syscall.ENOLINK
	}
	r := e.gate.want(false)
	if r == nil {
		return nil
	}
	if err := e.wait(ctx, r.done); err != nil {
		return err
	}
	return r.err
}

// SyncAsync starts a commit, also of an empty transaction, and does not wait.
func (e *Engine) SyncAsync() { e.gate.want(true) }

// commitLoop runs all commits: when one is wanted, and at the latest
// CommitInterval after the last one.
func (e *Engine) commitLoop() {
	timer := time.NewTimer(e.o.CommitInterval)
	defer timer.Stop()
	for {
		select {
		case <-e.gate.kick:
		case <-timer.C:
		case <-e.ctx.Done():
			return
		}
		ending, used, starved := e.gate.state()
		if ending && !used {
			e.gate.close()
			e.gate.end()
			return
		}
		if starved && e.pause(e.ctx, e.o.RetryPause) != nil {
			return
		}
		if e.commit() != nil {
			return
		}
		timer.Reset(e.o.CommitInterval)
	}
}

// commit ends the open transaction and opens the next one. It fails only when
// the engine ends. Source: spec cluster 8.3.
func (e *Engine) commit() error {
	if err := e.wait(e.ctx, e.gate.close()); err != nil {
		return err
	}
	start := time.Now()
	var a attempt
	if err := e.repeat("commit", func() error { return e.write(&a) }); err != nil {
		return err
	}
	e.cache.clean()
	e.stats.committed(time.Since(start))
	e.gate.committed()
	if ending, _, _ := e.gate.state(); ending {
		e.gate.end()
		return syscall.ESHUTDOWN
	}
	if err := e.openTrans(e.ctx); err != nil {
		return err
	}
	e.gate.open()
	return nil
}

// repeat calls fn until it succeeds, with a pause after each failure. It fails
// only after Abort.
func (e *Engine) repeat(what string, fn func() error) error {
	for n := 1; ; n++ {
		if e.dead.Load() {
			return syscall.ENOLINK
		}
		err := fn()
		if err == nil {
			return nil
		}
		if e.dead.Load() {
			return syscall.ENOLINK
		}
		e.stats.failures.Add(1)
		e.o.Log.Error("transaction "+what+" failed and is repeated", "attempt", n, "pause", e.o.RetryPause, "error", err)
		if err := e.pause(e.ctx, e.o.RetryPause); err != nil {
			return err
		}
	}
}

// openTrans opens the next transaction. It repeats errors until ctx is done. Of
// the first transaction, where nothing is to be lost yet, ENOSPC is returned.
func (e *Engine) openTrans(ctx context.Context) error {
	for n := 1; ; n++ {
		lt, err := e.o.Service.GetLogTrees(ctx)
		if err == nil {
			err = e.opened(&lt)
		}
		if err == nil {
			return nil
		}
		if e.dead.Load() || ctx.Err() != nil {
			return cmp.Or(e.over(ctx), err)
		}
		if errors.Is(err, syscall.ENOSPC) && e.Seq() == 0 {
			return err
		}
		e.stats.failures.Add(1)
		e.o.Log.Error("opening a transaction failed and is repeated", "attempt", n, "pause", e.o.RetryPause, "error", err)
		if err := e.pause(ctx, e.o.RetryPause); err != nil {
			return err
		}
	}
}

// opened checks what the server sent and makes it the open transaction.
func (e *Engine) opened(lt *format.LogTrees) error {
	switch {
	case e.o.Rid != 0 && lt.Rid != e.o.Rid:
		return fmt.Errorf("txn: server opened a log tree of %016x", uint64(lt.Rid))
	case lt.Nr == 0 || lt.Flags&format.LogTreesFinalized != 0:
		return fmt.Errorf("txn: server opened log tree %d with flags %x", lt.Nr, lt.Flags)
	}
	if err := e.space.install(lt); err != nil {
		return fmt.Errorf("txn: %w: seq %d after %d", err, lt.GetTransSeq, e.seq.Load())
	}
	e.treeNr.Store(lt.Nr)
	e.seq.Store(lt.GetTransSeq)
	return nil
}

// attempt is how far a commit has come. A step that is done is not repeated
// after the failure of a later one: differences must not be added twice.
type attempt struct {
	step   int
	put    pkey // the last item that is in the log tree
	any    bool // put is valid
	maxSeq uint64
	lt     format.LogTrees // to be sent
}

// steps are the parts of a commit in their order.
var steps = [...]struct {
	name string
	do   func(*Engine, *attempt) error
}{
	{"free data blocks", (*Engine).stepFree},
	{"append search entries", (*Engine).stepSrch},
	{"set bloom bits", (*Engine).stepBloom},
	{"write items", (*Engine).stepItems},
	{"return data blocks", (*Engine).stepReturn},
	{"write and flush", (*Engine).stepWrite},
	{"commit log trees", (*Engine).stepCommit},
}

// write makes the open transaction durable. After an error it can be called
// again to go on. No operation is in.
func (e *Engine) write(a *attempt) error {
	e.space.mu.Lock()
	defer e.space.mu.Unlock()
	for a.step < len(steps) {
		if e.dead.Load() {
			return syscall.ENOLINK
		}
		if err := e.space.broken; err != nil {
			return fmt.Errorf("txn: %w", err)
		}
		s := &steps[a.step]
		if err := s.do(e, a); err != nil {
			return fmt.Errorf("txn: %s: %w", s.name, err)
		}
		a.step++
	}
	e.space.inodes = 0
	e.blooms = e.blooms[:0]
	return nil
}

func (e *Engine) stepFree(*attempt) error {
	err := e.space.freeAll()
	if n := len(e.space.frees); err == nil && n > 0 {
		e.carry("extents of data that were freed", n)
	}
	return err
}

func (e *Engine) stepSrch(*attempt) error {
	err := e.space.appendSrch()
	if n := len(e.space.srch); err == nil && n > 0 {
		e.carry("search entries", n)
	}
	return err
}

// carry notes that something had no room in its transaction and is left for the
// next one, which admission and reserve are there to prevent: a crash loses it.
func (e *Engine) carry(what string, n int) {
	avail, freed := e.space.pair.Room()
	invariants.Check(false, "no room for %d %s in the transaction: %d blocks to allocate, %d to free", n, what, avail, freed)
	e.stats.carried.Add(int64(n))
	e.o.Log.Error("the transaction has no room for what belongs to it, the next one takes it", "what", what, "nr", n, "seq", e.Seq())
}

// BloomKind describes bloom blocks to the block cache.
var BloomKind = &block.Kind{Magic: format.MagicBloom}

const (
	bloomTotalOff = 32 // where a bloom block counts its bits
	bloomBitsOff  = 40
)

// stepBloom sets the bits of all locks under which items were dirtied. An
// empty log tree gets its bloom block here. Source: spec format 7.4.
func (e *Engine) stepBloom(*attempt) error {
	if len(e.blooms) == 0 {
		return nil
	}
	s := &e.space
	var b *block.Block
	if ref := s.lt.BloomRef; !ref.IsNull() {
		old, err := e.o.Cache.Read(ref, BloomKind)
		if err != nil {
			return err
		}
		defer old.Release()
		if !bloomMisses(old.Bytes(), e.blooms) {
			return nil
		}
		if b, err = alloc.CopyBlock(&s.tree, old); err != nil {
			return err
		}
	} else {
		blkno, err := s.pair.AllocBlock()
		if err != nil {
			return err
		}
		b = s.tree.Writer.New(blkno, BloomKind)
	}
	defer b.Release()
	bloomSet(b.Bytes(), e.blooms)
	s.lt.BloomRef = b.Ref()
	return nil
}

func bloomHas(b []byte, key *format.Key) bool {
	for _, n := range format.BloomBitNrs(key) {
		if b[bloomBitsOff+n/8]&(1<<(n%8)) == 0 {
			return false
		}
	}
	return true
}

func bloomMisses(b []byte, keys []format.Key) bool {
	for i := range keys {
		if !bloomHas(b, &keys[i]) {
			return true
		}
	}
	return false
}

func bloomSet(b []byte, keys []format.Key) {
	total := binary.LittleEndian.Uint64(b[bloomTotalOff:])
	for i := range keys {
		for _, n := range format.BloomBitNrs(&keys[i]) {
			if p := &b[bloomBitsOff+n/8]; *p&(1<<(n%8)) == 0 {
				*p |= 1 << (n % 8)
				total++
			}
		}
	}
	binary.LittleEndian.PutUint64(b[bloomTotalOff:], total)
}

// stepItems writes the dirty items to the log tree.
func (e *Engine) stepItems(a *attempt) error {
	dirty := e.cache.dirtyItems()
	var cur pkey
	var have bool
	var out btree.Item
	next := func() (*btree.Item, bool) {
		if have {
			a.put, a.any = cur, true
		}
		for it, ok := dirty(); ok; it, ok = dirty() {
			if a.any && !a.put.less(&it.key) || nothing(&it) {
				continue
			}
			cur, have = it.key, true
			out = btree.Item{Key: it.key.unpack(), Seq: it.seq, Val: it.val}
			if it.flags&itemDeletion != 0 {
				out.Flags = format.ItemFlagDeletion
			}
			return &out, true
		}
		return nil, false
	}
	seq, err := e.space.tree.PutItems(&e.space.lt.ItemRoot, next)
	a.maxSeq = max(a.maxSeq, seq)
	e.space.note()
	return err
}

// nothing reports whether a dirty item leaves no trace: it was made and
// deleted in this transaction, or is a difference of zero.
func nothing(it *item) bool {
	if it.flags&itemDelta != 0 {
		return [16]byte(it.val) == [16]byte{}
	}
	return it.flags&(itemDeletion|itemPersistent) == itemDeletion
}

// stepReturn gives back what is left of the cached data extent and collects
// what is sent to the server.
func (e *Engine) stepReturn(a *attempt) error {
	s := &e.space
	if err := s.data.Return(&s.tree); err != nil {
		s.breaks(err)
		return err
	}
	a.lt = s.lt
	a.lt.MetaAvail, a.lt.MetaFreed = s.pair.Avail(), s.pair.Freed()
	a.lt.DataAvail, a.lt.DataFreed = s.data.Roots()
	a.lt.InodeCountDelta += uint64(s.inodes)
	a.lt.MaxItemSeq = max(a.lt.MaxItemSeq, a.maxSeq)
	return nil
}

// stepWrite makes metadata and file data durable, at the same time. After a
// failure all metadata blocks are written again; file data cannot be.
func (e *Engine) stepWrite(*attempt) error {
	w := e.space.tree.Writer
	e.stats.blocks.Add(int64(w.DirtyBlocks()))
	meta := make(chan error, 1)
	go func() { meta <- w.WriteFlush() }()
	err := e.o.Data.Flush()
	merr := <-meta
	if err != nil && !e.dead.Load() && !errors.Is(err, syscall.ENOLINK) {
		e.stats.dataFlush.Add(1)
		if e.gate.lose() {
			e.o.Log.Error("file data may be lost: the data device could not be flushed", "seq", e.Seq(), "error", err)
		}
	}
	if merr != nil {
		return merr
	}
	return err
}

func (e *Engine) stepCommit(a *attempt) error {
	invariants.Check(e.space.tree.Writer.DirtyBlocks() == 0, "commit of log trees with dirty blocks")
	return e.o.Service.CommitLogTrees(e.ctx, &a.lt)
}
