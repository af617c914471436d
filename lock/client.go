// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

// Package lock
package lock

import (
	"context"
	"io"
	"log/slog"
	"sync/atomic"

	"scoutfs/format"
)

type Revoker interface {
	Revoke(lk *Lock, old, new format.LockMode, lastDirty uint64) error
}

type ClientOptions struct {
	Send      func(l format.NetLock)
	Respond   func(id uint64, l format.NetLock)
	Revoker   Revoker
	IdleCount func() int
	Workers   int
	Log       *slog.Logger
}

type Client struct{}

func NewClient(o ClientOptions) *Client { panic("todo") }

func (c *Client) Acquire(ctx context.Context, r Range, mode format.LockMode) (*Lock, error) {
	panic("todo")
}
func (c *Client) TryAcquire(r Range, mode format.LockMode) (*Lock, error) { panic("todo") }

// Again holds lk once more; the caller already holds it in a mode that serves mode. Never waits.
func (c *Client) Again(lk *Lock, mode format.LockMode) { panic("todo") }

// AcquirePage is Acquire for page READ and WRITE requests of the kernel: while lk is being revoked it is served under the
// old mode until CloseAdmission.
func (c *Client) AcquirePage(ctx context.Context, r Range, mode format.LockMode) (*Lock, error) {
	panic("todo")
}
func (c *Client) TryAcquirePage(r Range, mode format.LockMode) (*Lock, error) { panic("todo") }

// CloseAdmission is called by the Revoker: false if page users were admitted after seen (Lock.Admitted) or still are inside.
func (c *Client) CloseAdmission(lk *Lock, seen uint64) bool               { panic("todo") }
func (c *Client) Release(lk *Lock, mode format.LockMode, transSeq uint64) { panic("todo") }
func (c *Client) HandleGrant(l format.NetLock)                            { panic("todo") }
func (c *Client) HandleInvalidate(id uint64, l format.NetLock)            { panic("todo") }
func (c *Client) Recover(from format.Key) []format.NetLock                { panic("todo") }
func (c *Client) PurgeIdle() int                                          { panic("todo") }
func (c *Client) Shutdown()                                               { panic("todo") }
func (c *Client) Close()                                                  { panic("todo") }
func (c *Client) Dump(w io.Writer)                                        { panic("todo") }
func (c *Client) Metrics() ClientMetrics                                  { panic("todo") }

type ClientMetrics struct{ Locks int64 }

type Lock struct {
	Start, End format.Key
	TxnState   atomic.Uint64
}

func (l *Lock) WriteSeq() uint64            { panic("todo") }
func (l *Lock) Mode() format.LockMode       { panic("todo") }
func (l *Lock) RefreshGen() uint64          { panic("todo") }
func (l *Lock) LastDirty() uint64           { panic("todo") }
func (l *Lock) Admitted() uint64            { panic("todo") }
func (l *Lock) Covers(key *format.Key) bool { panic("todo") }
