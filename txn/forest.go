// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package txn

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"syscall"

	"scoutfs/block"
	"scoutfs/btree"
	"scoutfs/format"
	"scoutfs/lock"
)

// forest is the state that the server published: the fs root and all log
// trees. Reads at one place after the other share one snapshot of it. A
// snapshot is good for a lock that was granted before the roots were asked for,
// and until this mount's next commit. Source: spec filesystem 1.9.
type forest struct {
	fetch chan struct{}            // a token: one asks the server at a time
	snap  atomic.Pointer[snapshot] // the newest one
	gen   atomic.Uint64            // greatest refresh generation of the locks that wanted to read
}

// snapshot is one state. It is immutable.
type snapshot struct {
	roots   format.NetRoots
	logs    []logTree
	barrier uint64 // of the item cache before the roots were asked for
	gen     uint64 // locks up to this refresh generation were granted before that
}

// logTree is what a reader needs of a log trees item.
type logTree struct {
	root  format.BtreeRoot
	bloom format.BlockRef
}

// errBarrier says that a read must be done again with newer roots.
var errBarrier = errors.New("txn: a commit completed during a read")

func (f *forest) init() {
	f.fetch = make(chan struct{}, 1)
}

// want makes sure that later snapshots are good for a lock of generation gen.
func (f *forest) want(gen uint64) {
	for {
		old := f.gen.Load()
		if gen <= old || f.gen.CompareAndSwap(old, gen) {
			return
		}
	}
}

// good returns the newest snapshot if it may be used for generation gen.
func (e *Engine) good(gen uint64) *snapshot {
	s := e.forest.snap.Load()
	if s == nil || s.gen < gen || s.barrier != e.cache.barrier.Load() {
		return nil
	}
	return s
}

// snapshot returns a snapshot that is good for generation gen.
func (e *Engine) snapshot(ctx context.Context, gen uint64) (*snapshot, error) {
	if s := e.good(gen); s != nil {
		return s, nil
	}
	f := &e.forest
	select {
	case f.fetch <- struct{}{}:
	case <-ctx.Done():
		return nil, e.over(ctx)
	case <-e.ctx.Done():
		return nil, e.over(ctx)
	}
	defer func() { <-f.fetch }()
	if s := e.good(gen); s != nil {
		return s, nil
	}
	s, err := e.ask(ctx)
	if err == nil {
		f.snap.Store(s)
	}
	return s, err
}

// ask gets a new snapshot from the server. The result has the roots also if
// reading the list of log trees fails.
func (e *Engine) ask(ctx context.Context) (*snapshot, error) {
	s := &snapshot{gen: e.forest.gen.Load(), barrier: e.cache.barrier.Load()}
	var err error
	if s.roots, err = e.o.Service.GetRoots(ctx); err != nil {
		return nil, cmp.Or(e.over(ctx), fmt.Errorf("txn: get roots: %w", err))
	}
	e.stats.roots.Add(1)
	to := format.KeyLogTrees(^format.Rid(0), ^uint64(0))
	err = btree.Walk(e.o.Cache, &s.roots.LogsRoot, &format.Key{}, &to, func(it *btree.Item) error {
		lt, ok := format.Load[format.LogTrees](it.Val)
		if !ok {
			return &format.CorruptError{Device: e.o.Cache.Device().Name(), Blkno: s.roots.LogsRoot.Ref.Blkno, Reason: fmt.Sprintf("log trees item %v of %d bytes", it.Key, len(it.Val))}
		}
		if !lt.BloomRef.IsNull() {
			s.logs = append(s.logs, logTree{root: lt.ItemRoot, bloom: lt.BloomRef})
		}
		return nil
	})
	if err != nil {
		return s, fmt.Errorf("txn: read list of log trees: %w", err)
	}
	return s, nil
}

// withRoots calls read with a snapshot, again with newer ones while blocks are
// stale. The same roots twice make that a real error. Source: spec filesystem 1.10.
func (e *Engine) withRoots(get func() (*snapshot, error), read func(*snapshot) error) error {
	var stale *snapshot
	for {
		if e.dead.Load() {
			return syscall.ENOLINK
		}
		s, err := get()
		if err == nil {
			err = read(s)
		}
		switch {
		case err == nil:
			return nil
		case errors.Is(err, errBarrier):
			continue
		case s == nil || !errors.Is(err, syscall.ESTALE):
			return err
		}
		e.stats.stale.Add(1)
		e.forest.snap.CompareAndSwap(s, nil)
		if stale != nil && stale.roots.FSRoot == s.roots.FSRoot && stale.roots.LogsRoot == s.roots.LogsRoot {
			return fmt.Errorf("%v, again with the same roots: %w", err, syscall.EIO)
		}
		stale = s
	}
}

// load reads the forest around a key under a lock and adds what it finds to
// the cache. It blocks for the server and the device.
func (e *Engine) load(ctx context.Context, lk *lock.Lock, k pkey) error {
	if e.dead.Load() {
		return syscall.ENOLINK
	}
	e.stats.misses.Add(1)
	m := newMerge(packKey(&lk.Start), packKey(&lk.End))
	defer m.free()
	key := k.unpack()
	gen := lk.RefreshGen()
	e.forest.want(gen)
	get := func() (*snapshot, error) { return e.snapshot(ctx, gen) }
	return e.withRoots(get, func(s *snapshot) error {
		m.reset(packKey(&lk.Start), packKey(&lk.End))
		if err := e.readForest(s, &lk.Start, &key, m); err != nil {
			return fmt.Errorf("txn: read items at %v: %w", key, err)
		}
		start, end, items := m.result()
		if !e.cache.addRange(start, end, items, s.barrier) {
			return errBarrier
		}
		return nil
	})
}

// readForest feeds the leaves of all trees that may have items of the lock.
func (e *Engine) readForest(s *snapshot, lockStart, key *format.Key, m *merge) error {
	logs, err := e.matching(s, lockStart)
	if err != nil {
		return err
	}
	if len(logs) > 0 {
		defer release(e.prefetch(s, logs))
	}
	if err := m.leaf(e.o.Cache, &s.roots.FSRoot, key); err != nil {
		return err
	}
	for i := range logs {
		if err := m.leaf(e.o.Cache, &logs[i].root, key); err != nil {
			return err
		}
	}
	return nil
}

// matching returns the log trees whose bloom filters have a lock's bits.
func (e *Engine) matching(s *snapshot, lockStart *format.Key) ([]logTree, error) {
	if len(s.logs) == 0 {
		return nil, nil
	}
	refs := make([]format.BlockRef, len(s.logs))
	for i := range s.logs {
		refs[i] = s.logs[i].bloom
	}
	blooms := make([]*block.Block, len(refs))
	if err := e.o.Cache.ReadBatch(refs, BloomKind, blooms); err != nil {
		return nil, fmt.Errorf("bloom blocks: %w", err)
	}
	defer release(blooms)
	var logs []logTree
	for i, b := range blooms {
		if bloomHas(b.Bytes(), lockStart) {
			logs = append(logs, s.logs[i])
		}
	}
	return logs, nil
}

// prefetch reads the root blocks of several trees as one batch and keeps them
// pinned. Errors are left for those who need the blocks.
func (e *Engine) prefetch(s *snapshot, logs []logTree) []*block.Block {
	refs := make([]format.BlockRef, 0, len(logs)+1)
	if !s.roots.FSRoot.Ref.IsNull() {
		refs = append(refs, s.roots.FSRoot.Ref)
	}
	for i := range logs {
		if !logs[i].root.Ref.IsNull() {
			refs = append(refs, logs[i].root.Ref)
		}
	}
	blocks := make([]*block.Block, len(refs))
	if e.o.Cache.ReadBatch(refs, btree.Kind, blocks) != nil {
		return nil
	}
	return blocks
}

func release(blocks []*block.Block) {
	for _, b := range blocks {
		b.Release()
	}
}

// NextHint returns the smallest key that is not below *key in any tree, deleted
// or not, as the last commits left them; ENOENT if there is none. It needs no
// lock: the answer says where looking under a lock may be worth while.
// Source: spec filesystem 1.9.
func (e *Engine) NextHint(ctx context.Context, key *format.Key) (format.Key, error) {
	if e.dead.Load() {
		return format.Key{}, syscall.ENOLINK
	}
	from := *key
	best, found := format.Key{}, false
	get := func() (*snapshot, error) { return e.ask(ctx) } // others may have committed
	err := e.withRoots(get, func(s *snapshot) error {
		found = false
		trees := append([]logTree{{root: s.roots.FSRoot}}, s.logs...)
		for i := range trees {
			it, err := btree.Next(e.o.Cache, &trees[i].root, &from, nil)
			switch {
			case errors.Is(err, btree.ErrNotFound):
			case err != nil:
				return fmt.Errorf("txn: next hint at %v: %w", from, err)
			case !found || it.Key.Less(&best):
				best, found = it.Key, true
			}
		}
		return nil
	})
	if err == nil && !found {
		err = syscall.ENOENT
	}
	return best, err
}
