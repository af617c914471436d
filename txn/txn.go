// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package txn

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"scoutfs/alloc"
	"scoutfs/block"
	"scoutfs/btree"
	"scoutfs/format"
)

// Service is what a mount asks of the server. The rpc client implements it;
// tests may implement it with the server directly. Calls block until they are
// answered, the context ends, or the connection is closed for good.
type Service interface {
	AllocInodes(ctx context.Context, count uint64) (format.NetInoRange, error)
	GetLogTrees(ctx context.Context) (format.LogTrees, error)
	CommitLogTrees(ctx context.Context, lt *format.LogTrees) error
	GetRoots(ctx context.Context) (format.NetRoots, error)
	GetLastSeq(ctx context.Context) (uint64, error)
	Statfs(ctx context.Context) (format.NetStatfs, error)
}

// Options configure an [Engine]. Cache, Data and Service are needed.
type Options struct {
	Cache          *block.Cache  // of the metadata device
	Data           block.Device  // flushed before each commit
	Service        Service       // the server
	Rid            format.Rid    // of this mount; what the server opens must carry it; 0 accepts any
	ItemBudget     int64         // bytes of cached items, at least 256 KiB; default 256 MiB
	CommitInterval time.Duration // longest life of a transaction; default 10 s
	RetryPause     time.Duration // between attempts of a failing commit; default 2 s
	Log            *slog.Logger  // default: discards
}

func (o Options) withDefaults() Options {
	if o.ItemBudget <= 0 {
		o.ItemBudget = 256 << 20
	}
	if o.CommitInterval <= 0 {
		o.CommitInterval = 10 * time.Second
	}
	if o.RetryPause <= 0 {
		o.RetryPause = 2 * time.Second
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// Engine is the transactions and the item cache of one mount. All its methods
// may be called by many goroutines.
type Engine struct {
	o      Options
	cache  *itemCache
	forest forest
	gate   gate
	ctx    context.Context // ends with Abort; for calls that nobody waits for
	cancel context.CancelFunc
	dead   atomic.Bool
	loop   sync.WaitGroup

	seq    atomic.Uint64 // of the open transaction
	treeNr atomic.Uint64 // number of the log tree it goes to

	bloomMu sync.Mutex
	blooms  []format.Key // lock start keys whose bits have yet to be set; guarded by bloomMu

	space space
	stats counters
}

// space is what the open transaction writes to and allocates from.
type space struct {
	mu       sync.Mutex
	tree     btree.Tx           // guarded by mu, as are those below
	pair     *alloc.Pair        // tree's allocator
	data     *alloc.Data        // data blocks
	lt       format.LogTrees    // as the server opened it
	frees    []extent           // data blocks whose Free failed so far
	reserved int                // data extents that holders will free
	undone   int                // allocations taken back in this transaction
	hoping   bool               // somebody waits for the commit because it may bring data blocks
	hopeless bool               // the commit before, on which somebody put such hope, brought none
	srch     []format.SrchEntry // to be appended to the log file
	inodes   int64              // made minus deleted
	broken   error              // the trees in memory contradict each other

	roomAvail atomic.Int64 // metadata blocks that can still be allocated
	roomFreed atomic.Int64 // and freed
	dataAvail atomic.Uint64
	reserve   atomic.Int64 // metadata blocks that the commit itself may need besides items
	metaLow   atomic.Bool
	dataLow   atomic.Bool
	spent     atomic.Bool // somebody was told to wait for the next transaction
}

// extent is n data blocks from start.
type extent struct {
	start format.Blkno
	n     uint64
}

// Open opens the mount's first transaction, which takes as long as the server
// needs, and starts the engine. Errors of the server are retried until ctx is
// done, except for ENOSPC: the metadata device is too full for another mount.
func Open(ctx context.Context, o Options) (*Engine, error) {
	o = o.withDefaults()
	e := &Engine{o: o, cache: &itemCache{budget: o.ItemBudget}}
	e.ctx, e.cancel = context.WithCancel(context.Background())
	e.forest.init()
	e.gate.init()
	w := o.Cache.NewWriter()
	e.space.pair = alloc.NewPair(o.Cache, w, format.AllocList{}, format.AllocList{})
	e.space.data = alloc.NewData(format.AllocRoot{}, format.AllocRoot{})
	e.space.tree = btree.Tx{Cache: o.Cache, Writer: w, Alloc: e.space.pair}
	if err := e.openTrans(ctx); err != nil {
		e.cancel()
		if errors.Is(err, syscall.ENOSPC) {
			return nil, fmt.Errorf("txn: open: the metadata device has no space for another mount: %w", err)
		}
		return nil, fmt.Errorf("txn: open: %w", err)
	}
	e.loop.Go(e.commitLoop)
	return e, nil
}

// Close commits what is left, ends the engine and gives up its memory. No
// operation may be open or start any more. It waits for the commit as long as
// that takes, or until ctx is done or Abort was called.
func (e *Engine) Close(ctx context.Context) error {
	e.gate.finish()
	ended := make(chan struct{})
	go func() {
		e.loop.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-ctx.Done():
		return fmt.Errorf("txn: close: %w", syscall.EINTR)
	}
	if e.dead.Load() {
		return fmt.Errorf("txn: close: %w", syscall.ENOLINK)
	}
	e.cancel()
	e.space.mu.Lock()
	defer e.space.mu.Unlock()
	e.space.pair.Close()
	e.cache.drop(pkeyMin, pkeyMax)
	return nil
}

// Abort is for a forced unmount: nothing is written or sent any more, and all
// present and later calls fail with ENOLINK. What was not committed is lost.
// It does not wait.
func (e *Engine) Abort() {
	e.dead.Store(true)
	e.cancel()
	e.gate.fail()
}

// Seq is the sequence number of the open transaction. While a hold lasts it
// does not change.
func (e *Engine) Seq() uint64 { return e.seq.Load() }

// wait waits for ch. It fails with EINTR when ctx is done, ENOLINK after Abort
// and ESHUTDOWN after Close.
func (e *Engine) wait(ctx context.Context, ch <-chan struct{}) error {
	select {
	case <-ch:
		return nil
	case <-ctx.Done():
	case <-e.ctx.Done():
	}
	return e.over(ctx)
}

// pause waits for a while, with the errors of wait.
func (e *Engine) pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
	case <-e.ctx.Done():
	}
	return e.over(ctx)
}

// over says why waiting is over: the engine's end or the caller's.
func (e *Engine) over(ctx context.Context) error {
	switch {
	case e.dead.Load():
		return syscall.ENOLINK
	case e.ctx.Err() != nil:
		return syscall.ESHUTDOWN
	case ctx.Err() != nil:
		return syscall.EINTR
	}
	return nil
}
