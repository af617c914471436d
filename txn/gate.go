// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package txn

import (
	"sync"
	"syscall"

	"scoutfs/internal/invariants"
)

// gate lets operations into the open transaction and keeps them out while it is
// being committed. It also knows who waits for which commit.
type gate struct {
	mu      sync.Mutex
	holders int           // operations that are in; guarded by mu, as are those below
	shut    bool          // a commit waits for them to leave, or runs
	opened  chan struct{} // closed when the gate opens; nil if nobody waits
	drained chan struct{} // closed when the last one leaves; nil if nobody waits
	opening bool          // the commit is durable and the next transaction is being opened
	used    bool          // operations came in since the last commit
	starved bool          // one could not come in although the transaction is fresh
	ending  bool          // Close was called
	failed  error         // why nobody can come in any more
	next    *run          // the commit that is running, or the next one

	kick chan struct{} // a commit is wanted; capacity 1
}

// run is one commit to wait for.
type run struct {
	done     chan struct{}
	hopeless chan struct{} // closed when file data is lost and the commit still fails
	err      error         // why the engine ended; valid once done is closed
	lost     bool          // file data may be lost; guarded by gate.mu, as are those below
	waiting  int           // calls of Sync that would report it
	told     bool          // one has
}

func newRun() *run { return &run{done: make(chan struct{}), hopeless: make(chan struct{})} }

func (g *gate) init() {
	g.kick = make(chan struct{}, 1)
	g.next = newRun()
}

// enter tries to let an operation in. If it must wait, ch is closed when the
// next transaction is open. tight is told how many others are in.
func (g *gate) enter(tight func(holders int) bool) (ch <-chan struct{}, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.failed != nil:
		return nil, g.failed
	case g.shut:
	case tight(g.holders):
		g.starved = !g.used
		g.kickLocked()
	default:
		g.holders++
		g.used = true
		return nil, nil
	}
	if g.opened == nil {
		g.opened = make(chan struct{})
	}
	return g.opened, nil
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.holders--
	invariants.Check(g.holders >= 0, "more operations left than came in")
	if g.holders == 0 && g.drained != nil {
		close(g.drained)
		g.drained = nil
	}
}

// close keeps newcomers out. The result is closed when all have left.
func (g *gate) close() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = true
	select {
	case <-g.kick: // this is the commit that was wanted
	default:
	}
	ch := make(chan struct{})
	if g.holders == 0 {
		close(ch)
	} else {
		g.drained = ch
	}
	return ch
}

// open lets operations in again.
func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut, g.opening = false, false
	g.wakeLocked()
}

func (g *gate) wakeLocked() {
	if g.opened != nil {
		close(g.opened)
		g.opened = nil
	}
}

// want asks for a commit of everything that operations did before the call,
// and returns it; nil if there is nothing to commit. The gate need not be open:
// while it is shut nothing is added, so the running commit has it all. With
// always also a transaction is committed that nobody has used, or that is just
// being opened.
func (g *gate) want(always bool) *run {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.wantLocked(always)
}

func (g *gate) wantLocked(always bool) *run {
	if !g.used && !always {
		return nil
	}
	if g.failed == nil && (!g.shut || always && g.opening) {
		g.kickLocked()
	}
	return g.next
}

// join is want for one who is to hear of lost file data, and must call part
// then. If there is nothing to commit, what an earlier commit lost is reported
// now.
func (g *gate) join() (*run, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	r := g.wantLocked(false)
	switch {
	case r != nil:
		r.waiting++
	case g.next.lost:
		g.next.lost = false
		return nil, errLost
	}
	return r, nil
}

// part ends what join began. err is why the wait failed, if it did; the result
// is the outcome of the commit otherwise.
func (g *gate) part(r *run, err error) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	r.waiting--
	switch {
	case err != nil:
		return err
	case r.err != nil:
		return r.err
	case r.lost:
		r.told = true
		return errLost
	}
	return nil
}

// lose notes that file data of the transaction that is being committed may be
// lost. Those who wait hear of it when the commit ends, or when this happens
// again. It reports whether there is any such data.
func (g *gate) lose() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	r := g.next
	if !g.used {
		return false
	}
	if r.lost && !closed(r.hopeless) {
		close(r.hopeless)
	}
	r.lost = true
	return true
}

func closed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

func (g *gate) kickLocked() {
	select {
	case g.kick <- struct{}{}:
	default:
	}
}

// committed tells those who wait that the running commit is durable.
func (g *gate) committed() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.used, g.starved, g.opening = false, false, true
	g.finishLocked(nil)
}

// finishLocked ends a run. If it lost file data and nobody was there to be
// told, those will be who wait for the next one.
func (g *gate) finishLocked(err error) {
	r := g.next
	r.err = err
	close(r.done)
	g.next = newRun()
	g.next.lost = r.lost && !r.told && r.waiting == 0
}

// finish makes the next commit the last one.
func (g *gate) finish() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.ending = true
	g.kickLocked()
}

// state reports whether there is to be no other transaction, whether
// operations came in, and whether one could not although none had.
func (g *gate) state() (ending, used, starved bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.ending, g.used, g.starved
}

// end keeps everybody out for good after the last commit.
func (g *gate) end() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.failed == nil {
		g.failed = syscall.ESHUTDOWN
	}
	g.finishLocked(nil)
	g.wakeLocked()
}

// fail ends all waiting with ENOLINK.
func (g *gate) fail() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.failed = syscall.ENOLINK
	g.finishLocked(syscall.ENOLINK)
	g.wakeLocked()
}
