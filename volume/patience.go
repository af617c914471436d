// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package volume

import (
	"context"
	"sync"
	"time"
)

// dyingPoll is how often a caller that was interrupted is looked at.
const dyingPoll = 100 * time.Millisecond

// patience is the context of a call's waits for locks, transactions and the
// server. System calls on names and files must not end with EINTR because of
// any signal that the program handles, as they do not on other file systems, but
// a program that is being killed must not be kept waiting. So it is done when the
// caller was interrupted and, if the caller can tell, is dying. Waits for archived
// data use the caller itself. Its memory belongs to the call.
type patience struct {
	c *Caller

	mu   sync.Mutex
	done chan struct{} // +checklocks:mu; closed when the caller is dying; nil: nobody has waited yet
	quit chan struct{} // +checklocks:mu; closed by end
}

var _ context.Context = (*patience)(nil)

// end ends the watch, if there is one. The memory can be used again.
func (p *patience) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.quit != nil {
		close(p.quit)
	}
	p.c, p.done, p.quit = nil, nil, nil
}

// Done implements [context.Context]. The first call starts the watch: only
// calls that wait need one.
func (p *patience) Done() <-chan struct{} {
	if p.c.Cancel == nil || p.c.Dying == nil {
		return p.c.Cancel
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.done == nil {
		p.done, p.quit = make(chan struct{}), make(chan struct{})
		go watchLoop(*p.c, p.done, p.quit)
	}
	return p.done
}

// watchLoop closes done when the caller has been interrupted and is dying.
func watchLoop(c Caller, done, quit chan struct{}) {
	select {
	case <-c.Cancel:
	case <-quit:
		return
	}
	tick := time.NewTicker(dyingPoll)
	defer tick.Stop()
	for !c.Dying(&c) {
		select {
		case <-tick.C:
		case <-quit:
			return
		}
	}
	close(done)
}

// Err implements [context.Context].
func (p *patience) Err() error {
	if p.c.Err() == nil {
		return nil
	}
	if p.c.Dying == nil || p.c.Dying(p.c) {
		return context.Canceled
	}
	return nil
}

// Deadline implements [context.Context]: there is none.
func (p *patience) Deadline() (time.Time, bool) { return time.Time{}, false }

// Value implements [context.Context]: there are none.
func (p *patience) Value(any) any { return nil }
