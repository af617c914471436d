// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package lock

import (
	"sync"

	"scoutfs/format"
)

// HandleInvalidate takes a request of the server to reduce a lock. Every one is
// answered once, by Respond with the id; id may be any number that the caller
// finds the request by. It does not block: a worker does what takes time.
func (c *Client) HandleInvalidate(id uint64, l format.NetLock) {
	c.count.invRequests.Add(1)
	inv := invalidation{id: id, net: l}
	lk := c.lookup(&l.Key)
	if lk == nil {
		c.do(nil, &actions{respond: []invalidation{inv}})
		return
	}
	c.with(lk, func(a *actions) {
		if word(lk.state.Load())&deadBit != 0 {
			a.respond = append(a.respond, inv)
			return
		}
		lk.invs = append(lk.invs, inv)
		c.advanceLocked(lk, a)
	})
}

// advanceLocked does what can be done for a lock at once: it starts the next
// revocation if all users allow it, and looks after waiters.
func (c *Client) advanceLocked(lk *Lock, a *actions) {
	for !lk.revoking && len(lk.invs) > 0 && c.startLocked(lk, a) {
	}
	if lk.drained != nil && word(lk.state.Load()).fits(lk.mode()) {
		close(lk.drained)
		lk.drained = nil
	}
	c.serveLocked(lk, false)
	c.requestLocked(lk, a)
	c.forgetLocked(lk)
}

// startLocked starts, or answers, the first invalidation of the queue. It
// returns false if users have to leave first: then the gate is closed.
func (c *Client) startLocked(lk *Lock, a *actions) bool {
	inv := lk.invs[0]
	if canWrite(inv.net.NewMode) || inv.net.NewMode >= format.LockModes {
		c.o.Log.Error("lock: invalidation to a mode that is none", "key", lk.Start.String(), "mode", inv.net.NewMode)
		lk.popLocked()
		a.respond = append(a.respond, inv)
		return true
	}
	old := lk.mode()
	to := reduce(old, inv.net.NewMode)
	n := lk.change(func(w word) word {
		if !w.fits(to) {
			return w.withGate(to)
		}
		return w.withoutGate().withMode(to)
	})
	if n&gateBit != 0 {
		return false
	}
	lk.popLocked()
	if to == old {
		a.respond = append(a.respond, inv) // nothing to revoke: a duplicate
		return true
	}
	lk.revoking, lk.current, lk.old, lk.open = true, inv, old, true
	a.revoke = true
	return true
}

func (l *Lock) popLocked() {
	l.invs = append(l.invs[:0], l.invs[1:]...)
	if len(l.invs) == 0 {
		l.change(word.withoutGate)
	}
}

// revoke does the work of the current invalidation and answers it. Without a
// Revoker, after Close, only the mode changes.
func (c *Client) revoke(lk *Lock, r Revoker) {
	c.count.invWork.Add(1)
	for {
		lk.mu.Lock()
		seen, old, to := lk.admitted, lk.old, lk.mode()
		lk.mu.Unlock()
		if r != nil {
			if err := r.Revoke(lk, old, to, lk.lastDirty.Load()); err != nil {
				c.count.errors.Add(1)
				c.o.Log.Error("lock: revocation failed, the lock stays with this mount",
					"key", lk.Start.String(), "old", old.String(), "new", to.String(), "err", err)
				return // recovery goes on to report the old mode
			}
		}
		if c.CloseAdmission(lk, seen) {
			break
		}
	}
	c.with(lk, func(a *actions) {
		lk.revoking = false
		a.respond = append(a.respond, lk.current)
		if lk.grant != nil {
			c.grantLocked(lk, lk.grant)
			lk.grant = nil
			c.serveLocked(lk, true)
		}
		c.advanceLocked(lk, a)
	})
}

// enterPageLocked makes a page user of the caller if the gate or a revocation
// is all that holds it back.
func (l *Lock) enterPageLocked(mode format.LockMode) bool {
	if l.enterGated(mode) {
		return true
	}
	if !l.revoking || !l.open || !serves(l.old, mode) {
		return false
	}
	l.admitted++
	l.change(func(w word) word { return w + one(mode) | slowBit })
	l.acquired.Add(1)
	return true
}

// CloseAdmission is for a Revoker that has made the kernel drop its pages of
// what lk covers: it waits until the page users inside have left, and then
// refuses more, unless more than seen were admitted since the revocations of
// the lock began. It returns false in that case: the kernel may have new pages.
//
//	for {
//		seen := lk.Admitted()
//		... invalidate the kernel's pages ...
//		if c.CloseAdmission(lk, seen) {
//			break
//		}
//	}
//
// It returns true if admission is closed already. It need not be called where
// there are no page users.
func (c *Client) CloseAdmission(lk *Lock, seen uint64) bool {
	for {
		lk.mu.Lock()
		if !lk.open || !lk.revoking {
			lk.mu.Unlock()
			return true
		}
		if word(lk.state.Load()).fits(lk.mode()) {
			closed := lk.admitted == seen
			if closed {
				lk.open = false
				lk.change(word.withoutGate)
			}
			lk.mu.Unlock()
			return closed
		}
		if lk.drained == nil {
			lk.drained = make(chan struct{})
		}
		lk.change(func(w word) word { return w | slowBit })
		drained := lk.drained
		ready := word(lk.state.Load()).fits(lk.mode())
		lk.mu.Unlock()
		if !ready {
			<-drained
		}
	}
}

// pool runs revocations on a bounded number of goroutines, which end when there
// is nothing to do.
type pool struct {
	mu      sync.Mutex
	queue   []*Lock // +checklocks:mu
	workers int     // +checklocks:mu
	closed  bool    // +checklocks:mu
	wg      sync.WaitGroup
}

// run has the lock revoked by a worker, or here if there are none any more and
// nothing is left to do but to answer.
func (p *pool) run(c *Client, lk *Lock) {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		c.revoke(lk, nil)
		return
	}
	defer p.mu.Unlock()
	p.queue = append(p.queue, lk)
	if p.workers < c.o.Workers {
		p.workers++
		p.wg.Add(1)
		go p.workLoop(c)
	}
}

func (p *pool) workLoop(c *Client) {
	defer p.wg.Done()
	for {
		p.mu.Lock()
		if len(p.queue) == 0 {
			p.workers--
			p.mu.Unlock()
			return
		}
		lk := p.queue[0]
		p.queue = p.queue[1:]
		p.mu.Unlock()
		c.revoke(lk, c.o.Revoker)
	}
}

// close makes later revocations empty and waits for those under way.
func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.wg.Wait()
}
