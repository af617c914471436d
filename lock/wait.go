// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package lock

import (
	"context"
	"fmt"
	"syscall"
	"time"

	"scoutfs/format"
)

// actions are what is to be done once the lock's mutex is released.
type actions struct {
	send    *format.NetLock
	respond []invalidation
	revoke  bool
}

// with runs f under the lock's mutex and then does what f asked for.
func (c *Client) with(lk *Lock, f func(*actions)) {
	var a actions
	lk.mu.Lock()
	f(&a)
	lk.mu.Unlock()
	c.do(lk, &a)
}

func (c *Client) do(lk *Lock, a *actions) {
	for _, inv := range a.respond {
		c.count.invResponses.Add(1)
		c.o.Respond(inv.id, inv.net)
	}
	if a.send != nil {
		c.count.requests.Add(1)
		c.o.Send(*a.send)
	}
	if a.revoke {
		c.pool.run(c, lk)
	}
}

// slow acquires what the fast path could not.
func (c *Client) slow(ctx context.Context, r Range, mode format.LockMode, page bool) (*Lock, error) {
	if err := c.refuse(mode); err != nil {
		return nil, err
	}
	lk := c.obtain(&r)
	if page && lk.enterPageLocked(mode) || lk.enter(mode) {
		lk.mu.Unlock()
		return lk, nil
	}
	if err := c.refuse(mode); err != nil {
		c.forgetLocked(lk)
		lk.mu.Unlock()
		return nil, err
	}
	w := &waiter{mode: mode, page: page, done: make(chan struct{})}
	lk.waiters = append(lk.waiters, w)
	gated := serves(lk.mode(), mode)
	var a actions
	c.requestLocked(lk, &a)
	lk.mu.Unlock()
	c.do(lk, &a)
	return c.wait(ctx, lk, w, gated)
}

// wait blocks until the waiter is a user or has given up. A gated one only
// waits behind a revocation, and not for ever.
func (c *Client) wait(ctx context.Context, lk *Lock, w *waiter, gated bool) (*Lock, error) {
	c.count.waits.Add(1)
	var late <-chan time.Time
	if gated {
		t := time.NewTimer(c.o.GateWait)
		defer t.Stop()
		late = t.C
	}
	for {
		select {
		case <-w.done:
			return lk.outcome(w)
		case <-late:
			late = nil
			if lk.passGate(w) {
				return lk, nil
			}
		case <-ctx.Done():
			return c.giveUp(ctx, lk, w)
		}
	}
}

func (l *Lock) outcome(w *waiter) (*Lock, error) {
	if w.err != nil {
		return nil, w.err
	}
	return l, nil
}

func (w *waiter) isDone() bool {
	select {
	case <-w.done:
		return true
	default:
		return false
	}
}

// passGate lets a waiter in although a revocation waits.
func (l *Lock) passGate(w *waiter) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if w.isDone() || !l.enterGated(w.mode) {
		return false // a closed w.done is seen next
	}
	l.removeLocked(w)
	return true
}

// giveUp ends a wait whose context is done, unless it was served just now.
func (c *Client) giveUp(ctx context.Context, lk *Lock, w *waiter) (*Lock, error) {
	lk.mu.Lock()
	defer lk.mu.Unlock()
	if w.isDone() {
		return lk.outcome(w)
	}
	lk.removeLocked(w)
	c.forgetLocked(lk)
	c.count.errors.Add(1)
	return nil, fmt.Errorf("lock: acquire %v %s: %w: %w", lk.Start, w.mode, context.Cause(ctx), syscall.EINTR)
}

// serveLocked makes users of those waiters that the lock admits; a new grant is
// for them even if a revocation waits.
func (c *Client) serveLocked(lk *Lock, granted bool) {
	left := lk.waiters[:0]
	for _, w := range lk.waiters {
		if lk.enter(w.mode) || (granted || w.page) && lk.enterGated(w.mode) {
			close(w.done)
		} else {
			left = append(left, w)
		}
	}
	clear(lk.waiters[len(left):])
	lk.waiters = left
}

// requestLocked asks the server for what the first unserved waiter wants,
// unless a request is under way.
func (c *Client) requestLocked(lk *Lock, a *actions) {
	if lk.request {
		return
	}
	mode := lk.mode()
	for _, w := range lk.waiters {
		if !serves(mode, w.mode) {
			lk.request = true
			a.send = &format.NetLock{Key: lk.Start, OldMode: mode, NewMode: w.mode}
			return
		}
	}
}

// HandleGrant takes the server's answer to a request. It does not block.
func (c *Client) HandleGrant(l format.NetLock) {
	c.count.grants.Add(1)
	lk := c.lookup(&l.Key)
	if lk == nil || l.NewMode >= format.LockModes || l.OldMode >= format.LockModes {
		c.o.Log.Error("lock: unexpected grant", "key", l.Key.String(), "old", l.OldMode, "new", l.NewMode)
		return
	}
	c.with(lk, func(a *actions) {
		if lk.revoking {
			lk.grant = &l
			return
		}
		c.grantLocked(lk, &l)
		c.serveLocked(lk, true)
		c.requestLocked(lk, a)
		c.forgetLocked(lk)
	})
}

// grantLocked sets the lock to what the server granted. A new server may grant
// while a revocation that the old one asked for still runs: the caller defers
// it, because the revocation would drop what new users dirty.
func (c *Client) grantLocked(lk *Lock, l *format.NetLock) {
	lk.request = false
	if lk.shrink {
		lk.shrink = false
		c.shrinking.Add(-1)
	}
	if canRead(l.NewMode) && (!canRead(lk.mode()) || !canRead(l.OldMode)) {
		lk.refreshGen.Store(c.refreshGen.Add(1))
	}
	lk.writeSeq.Store(l.WriteSeq)
	lk.change(func(w word) word { return w.withMode(l.NewMode) })
}
