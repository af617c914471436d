// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

// Package lock holds the two sides of the cluster's locks as state machines
// that do no I/O: [Client], which a mount asks, and [Server], which decides.
//
// A lock covers a range of item keys and is named by its first key. A mount
// holds it in one mode; any number of the mount's tasks use it at the same time.
//
//	client                             server
//	Acquire W  -- LOCK{old,new} ------> requested (FIFO)
//	           <- LOCK{old,R} as request: another mount's grant is reduced
//	revoke     -- same LOCK as response -> invalidated -> granted or gone
//	user       <- LOCK{..W,write_seq} -- granted
//
// Using a lock that is already granted takes one shared read lock of a shard
// and one compare-and-swap; it sends nothing and allocates nothing.
//
// Fairness. The server is strictly first come, first served. On a mount, a
// revocation that waits for users closes a gate to newcomers, so a busy mount
// cannot starve the others. A newcomer waits at the gate for a bounded time
// only, because a task that acquires a lock twice would otherwise wait for
// itself; such tasks had better use [Client.Again].
//
// Lock order: Lock.mu, then shard.mu or sweeper.mu or pool.mu. No mutex is held
// over a call of a function in [ClientOptions].
//
// Source: spec cluster 7, filesystem 1.4 to 1.7.
package lock

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"scoutfs/format"
	"scoutfs/internal/invariants"
)

// Revoker writes back and drops what a mount caches under a lock.
type Revoker interface {
	// Revoke runs on one of the client's workers when the server reduces lk,
	// for several locks at once but never twice for one. Users of modes that
	// new does not serve have gone, and no new ones enter, except for page
	// users (see AcquirePage). It writes back what is dirty under lk: if
	// lastDirty is the seq of the open transaction it commits. Unless old is W
	// and new is R, it then drops everything cached under lk. It must not call
	// Acquire. If page users came in after it started it is called again.
	//
	// If it fails, the server gets no answer, so nobody else gets the lock
	// until this mount has left: fail only when nothing can be written any
	// more.
	Revoke(lk *Lock, old, new format.LockMode, lastDirty uint64) error
}

// ClientOptions says how a client reaches the server and its mount. Send and
// Respond must only queue. A request and a response for one lock may be given
// to them in either order; the server copes.
type ClientOptions struct {
	// Send sends a LOCK request. Its answer comes through HandleGrant.
	Send func(l format.NetLock)
	// Respond answers the LOCK request that HandleInvalidate got with the id.
	Respond func(id uint64, l format.NetLock)
	// Revoker must be set.
	Revoker Revoker
	// IdleCount is the number of locks above which idle ones are given back.
	// Default 10000.
	IdleCount func() int
	// Workers is the greatest number of revocations at once. Default 64:
	// those that wait for a commit share one.
	Workers int
	// GateWait is how long a newcomer waits behind a revocation before it
	// enters all the same. Default 1 s.
	GateWait time.Duration
	// Log defaults to discarding.
	Log *slog.Logger
}

func (o ClientOptions) withDefaults() ClientOptions {
	if o.IdleCount == nil {
		o.IdleCount = func() int { return 10000 }
	}
	if o.Workers <= 0 {
		o.Workers = 64
	}
	if o.GateWait <= 0 {
		o.GateWait = time.Second
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

const shards = 64

// shard is a part of the index of locks by start key.
type shard struct {
	mu sync.RWMutex
	m  map[format.Key]*Lock // +checklocks:mu
	_  [64]byte             // keeps shards on cache lines of their own
}

// Client is a mount's side of all locks. Its methods may be called from any
// goroutine; HandleGrant and HandleInvalidate of one key in the order in which
// the messages came.
type Client struct {
	o          ClientOptions
	shards     [shards]shard
	nr         atomic.Int64  // locks in the index
	shrinking  atomic.Int64  // of them, those that are being given back
	refreshGen atomic.Uint64 // last one given
	down       atomic.Bool   // Shutdown was called
	count      counters
	sweeper    sweeper
	pool       pool
	recovery   recovery
}

// NewClient returns a client that holds no locks. Close ends it.
func NewClient(o ClientOptions) *Client {
	c := &Client{o: o.withDefaults()}
	for i := range c.shards {
		c.shards[i].m = make(map[format.Key]*Lock)
	}
	return c
}

// Acquire makes the caller a user of the lock that covers r, and waits for the
// server if the mount does not hold it in a mode that serves mode. Locks are
// acquired in the order of spec cluster 7.7 and before a transaction is held.
//
// Errors: EINTR when ctx is done first, ESHUTDOWN after Shutdown, EINVAL for a
// mode other than R, W and WO.
func (c *Client) Acquire(ctx context.Context, r Range, mode format.LockMode) (*Lock, error) {
	if lk := c.fast(&r.Start, mode); lk != nil {
		return lk, nil
	}
	return c.slow(ctx, r, mode, false)
}

// AcquirePage is Acquire for requests of the kernel that hold pages: while the
// lock is being revoked they are still served under the old mode, because the
// revocation waits for those pages. See CloseAdmission.
func (c *Client) AcquirePage(ctx context.Context, r Range, mode format.LockMode) (*Lock, error) {
	if lk := c.fast(&r.Start, mode); lk != nil {
		return lk, nil
	}
	return c.slow(ctx, r, mode, true)
}

// TryAcquire is Acquire that neither waits nor sends: EAGAIN instead.
func (c *Client) TryAcquire(r Range, mode format.LockMode) (*Lock, error) {
	if lk := c.fast(&r.Start, mode); lk != nil {
		return lk, nil
	}
	if err := c.refuse(mode); err != nil {
		return nil, err
	}
	c.count.again.Add(1)
	return nil, syscall.EAGAIN
}

// TryAcquirePage is to AcquirePage what TryAcquire is to Acquire.
func (c *Client) TryAcquirePage(r Range, mode format.LockMode) (*Lock, error) {
	lk, err := c.TryAcquire(r, mode)
	if err != syscall.EAGAIN {
		return lk, err
	}
	if lk := c.lookup(&r.Start); lk != nil {
		lk.mu.Lock()
		defer lk.mu.Unlock()
		if lk.enterPageLocked(mode) {
			return lk, nil
		}
	}
	return nil, err
}

// Again makes a task that is a user of lk one more user. The mode that it has
// must serve mode. It never waits.
func (c *Client) Again(lk *Lock, mode format.LockMode) {
	lk.change(func(w word) word {
		invariants.Check(!w.idle(), "lock %v: again without a user", lk.Start)
		return w + one(mode)
	})
	lk.acquired.Add(1)
}

// Release ends one use of lk. mode is the mode that was acquired. transSeq is
// the seq of the open transaction if the caller dirtied anything under W or WO,
// else 0.
func (c *Client) Release(lk *Lock, mode format.LockMode, transSeq uint64) {
	if transSeq != 0 {
		raise(&lk.lastDirty, transSeq)
	}
	if lk.leave(mode) {
		c.with(lk, func(a *actions) { c.advanceLocked(lk, a) })
	}
}

// raise sets v to at least n.
func raise(v *atomic.Uint64, n uint64) {
	for {
		o := v.Load()
		if o >= n || v.CompareAndSwap(o, n) {
			return
		}
	}
}

// fast enters a lock that is granted, or returns nil.
func (c *Client) fast(start *format.Key, mode format.LockMode) *Lock {
	if c.down.Load() || mode-1 >= format.LockModes-1 {
		return nil
	}
	c.trim()
	if lk := c.lookup(start); lk != nil && lk.enter(mode) {
		return lk
	}
	return nil
}

func (c *Client) refuse(mode format.LockMode) error {
	if mode-1 >= format.LockModes-1 {
		return fmt.Errorf("lock: acquire in mode %d: %w", mode, syscall.EINVAL)
	}
	if c.down.Load() {
		c.count.errors.Add(1)
		return fmt.Errorf("lock: acquire: %w", syscall.ESHUTDOWN)
	}
	return nil
}

func (c *Client) shard(k *format.Key) *shard {
	h := k.First>>10 ^ k.Second>>10 ^ uint64(k.Zone)<<3 ^ uint64(k.Type)
	return &c.shards[h*0x9e3779b97f4a7c15>>58]
}

func (c *Client) lookup(start *format.Key) *Lock {
	s := c.shard(start)
	s.mu.RLock()
	lk := s.m[*start]
	s.mu.RUnlock()
	return lk
}

// obtain returns the lock of the range with its mutex held; it makes one if
// there is none.
func (c *Client) obtain(r *Range) *Lock {
	for {
		lk := c.lookup(&r.Start)
		if lk == nil {
			lk = c.insert(r)
		}
		invariants.Check(lk.End == r.End, "lock %v: two ranges", lk.Start)
		lk.mu.Lock()
		if word(lk.state.Load())&deadBit == 0 {
			return lk
		}
		lk.mu.Unlock()
	}
}

func (c *Client) insert(r *Range) *Lock {
	s := c.shard(&r.Start)
	s.mu.Lock()
	defer s.mu.Unlock()
	lk := s.m[r.Start]
	if lk == nil {
		lk = &Lock{Start: r.Start, End: r.End}
		s.m[r.Start] = lk
		c.sweeper.add(lk)
		c.nr.Add(1)
		c.count.allocs.Add(1)
	}
	return lk
}

// forgetLocked drops the lock from the index if nothing needs it.
func (c *Client) forgetLocked(lk *Lock) {
	if !lk.unusedLocked() || word(lk.state.Load())&deadBit != 0 {
		return
	}
	lk.change(func(w word) word { return w | deadBit })
	s := c.shard(&lk.Start)
	s.mu.Lock()
	delete(s.m, lk.Start)
	s.mu.Unlock()
	c.sweeper.remove(lk)
	c.nr.Add(-1)
	c.count.frees.Add(1)
	c.count.retired.Add(lk.acquired.Load())
}

// all returns the locks of the index in no order.
func (c *Client) all() []*Lock {
	out := make([]*Lock, 0, c.nr.Load())
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.RLock()
		for _, lk := range s.m {
			out = append(out, lk)
		}
		s.mu.RUnlock()
	}
	return out
}

// Shutdown makes all present and later calls of Acquire fail with ESHUTDOWN.
// Locks that are held stay; revocations go on as before, so that nobody sees
// the volume without what the last commit will write.
func (c *Client) Shutdown() {
	c.down.Store(true)
	for _, lk := range c.all() {
		c.with(lk, func(*actions) {
			for _, w := range lk.waiters {
				w.err = fmt.Errorf("lock: acquire: %w", syscall.ESHUTDOWN)
				close(w.done)
			}
			lk.waiters = nil
			c.forgetLocked(lk)
		})
	}
}

// Close shuts down and waits until the workers have ended. Invalidations that
// come later are answered at once, without the Revoker. Call it after the last
// commit and before the farewell.
func (c *Client) Close() {
	c.Shutdown()
	c.pool.close()
}
