// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package txn

import (
	"context"
	"log/slog"
	"time"

	"scoutfs/block"
	"scoutfs/format"
	"scoutfs/lock"
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

// Options configure an [Engine].
type Options struct {
	Cache          *block.Cache  // of the metadata device
	Data           block.Device  // flushed before each commit
	Service        Service       // the server
	Rid            format.Rid    // of this mount; what the server opens must carry it
	ItemBudget     int64         // bytes of cached items; default 256 MiB
	CommitInterval time.Duration // longest life of a transaction; default 10 s
	RetryPause     time.Duration // between attempts of a failing commit; default 2 s
	Log            *slog.Logger
}

// Kind says what an operation does to free space.
type Kind int

// Kinds of operations.
const (
	Allocating Kind = iota // may use space: ENOSPC once metadata is low
	Freeing                // gives space back or changes in place: always let through
)

type (
	Engine struct{}
	Tx     struct{}
)

func Open(ctx context.Context, o Options) (*Engine, error)       { panic("todo") }
func (e *Engine) Close(ctx context.Context) error                { panic("todo") }
func (e *Engine) Abort()                                         { panic("todo") }
func (e *Engine) Sync(ctx context.Context) error                 { panic("todo") }
func (e *Engine) SyncAsync()                                     { panic("todo") }
func (e *Engine) Seq() uint64                                    { panic("todo") }
func (e *Engine) Begin(ctx context.Context, k Kind) (*Tx, error) { panic("todo") }
func (e *Engine) Lookup(ctx context.Context, lk *lock.Lock, key *format.Key, buf []byte) (int, error) {
	panic("todo")
}
func (e *Engine) Next(ctx context.Context, lk *lock.Lock, key, last *format.Key, buf []byte) (int, error) {
	panic("todo")
}
func (e *Engine) NextHint(ctx context.Context, key *format.Key) (format.Key, error) { panic("todo") }
func (e *Engine) Revoke(lk *lock.Lock, old, new format.LockMode, lastDirty uint64) error {
	panic("todo")
}
func (t *Tx) Seq() uint64                                             { panic("todo") }
func (t *Tx) Create(lk *lock.Lock, key *format.Key, val []byte) error { panic("todo") }
func (t *Tx) CreateForce(lk *lock.Lock, key *format.Key, val []byte, primary *lock.Lock) error {
	panic("todo")
}
func (t *Tx) Update(lk *lock.Lock, key *format.Key, val []byte) error              { panic("todo") }
func (t *Tx) Delete(lk *lock.Lock, key *format.Key) error                          { panic("todo") }
func (t *Tx) DeleteForce(lk *lock.Lock, key *format.Key, primary *lock.Lock) error { panic("todo") }
func (t *Tx) Delta(lk *lock.Lock, key *format.Key, total, count uint64) error      { panic("todo") }
func (t *Tx) AllocData(want uint64) (format.Blkno, uint64, error)                  { panic("todo") }
func (t *Tx) FreeData(start format.Blkno, n uint64) error                          { panic("todo") }
func (t *Tx) AddInodes(delta int64)                                                { panic("todo") }
func (t *Tx) AddSrch(e format.SrchEntry) error                                     { panic("todo") }
func (t *Tx) Done()                                                                { panic("todo") }
func (t *Tx) Undo()                                                                { panic("todo") }
