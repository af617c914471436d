// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package rpc

import (
	"context"
	"fmt"
	"sync"
	"time"

	"scoutfs/format"
)

// connectLoop keeps the client connected. Source: spec cluster 1.7.
func (c *Client) connectLoop() {
	for c.ctx.Err() == nil {
		if c.isGone() {
			c.depart()
			return
		}
		start := time.Now()
		greeted, err := c.connect()
		if err != nil && c.ctx.Err() == nil {
			c.o.Log.Debug("rpc: no connection", "err", err)
		}
		if !greeted || time.Since(start) < connectDelay {
			c.pause(context.Background(), connectDelay)
		}
	}
}

// pause waits before the next attempt.
func (c *Client) pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-c.kick:
	case <-ctx.Done():
	case <-c.ctx.Done():
	}
}

// isGone reports that a farewell waits and needs no answer any more.
func (c *Client) isGone() bool {
	c.mu.Lock()
	gone := c.gone
	c.mu.Unlock()
	return gone != nil && gone()
}

// connect serves one connection until it breaks.
func (c *Client) connect() (greeted bool, err error) {
	conn, err := c.o.Dial(c.ctx)
	if err != nil {
		return false, err
	}
	l, err := newLink(conn, c.o.KeepaliveTimeout)
	if err != nil {
		_ = conn.Close()
		return false, err
	}
	defer l.conn.Close()
	c.setLink(l)
	defer c.setLink(nil)
	if c.ctx.Err() != nil {
		return false, c.ctx.Err()
	}
	if err := c.greet(l); err != nil {
		return false, err
	}
	if err := c.s.attach(l); err != nil {
		return true, err
	}
	var wg sync.WaitGroup
	wg.Go(func() { l.writeLoop(&c.s) })
	err = l.readLoop(&c.count, func(h *format.NetHeader, data []byte) error { return c.take(l, h, data) })
	c.s.detach(l)
	_ = l.conn.Close()
	wg.Wait()
	if c.ctx.Err() == nil {
		c.o.Log.Info("rpc: connection to the server lost", "server", l.addr.String(), "err", err)
	}
	return true, err
}

func (c *Client) setLink(l *link) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.link = l
}

// greet exchanges greetings. They are the first messages on a socket and
// outside of the session, except that they use up a seq and an id.
func (c *Client) greet(l *link) error {
	g := format.NetGreeting{Fsid: c.o.Fsid, FmtVers: c.o.FmtVers, Rid: c.o.Rid}
	c.mu.Lock()
	g.ServerTerm = c.term
	if c.leaving {
		g.Flags |= format.NetGreetingFarewell
	}
	if c.o.Quorum {
		g.Flags |= format.NetGreetingQuorum
	}
	c.greeted = true
	c.mu.Unlock()
	h := c.s.greeting(true)
	if err := l.send(&h, format.Bytes(&g)); err != nil {
		return fmt.Errorf("rpc: send greeting: %w", err)
	}
	_ = l.conn.SetReadDeadline(time.Now().Add(c.o.KeepaliveTimeout))
	r, data, err := l.frames.next()
	if err != nil {
		return fmt.Errorf("rpc: read greeting: %w", err)
	}
	_ = l.conn.SetReadDeadline(time.Time{})
	if r.Cmd != format.CmdGreeting || !isResponse(&r) || r.ID != h.ID {
		return badMessage("%s instead of a greeting", r.Cmd)
	}
	if r.Error != format.NetOK {
		c.o.Log.Warn("rpc: the server refuses this mount", "server", l.addr.String(), "err", FromWire(r.Error))
		return fmt.Errorf("rpc: greeting refused: %w", FromWire(r.Error))
	}
	answer, err := Decode[format.NetGreeting](data)
	if err != nil {
		return err
	}
	if answer.Fsid != g.Fsid || answer.FmtVers != g.FmtVers {
		return badMessage("greeting of volume %016x version %d", answer.Fsid, answer.FmtVers)
	}
	c.learn(l, answer.ServerTerm)
	return nil
}

// learn remembers the server's term; a term that is new needs a fresh start.
func (c *Client) learn(l *link, term uint64) {
	c.mu.Lock()
	newServer := c.term != term
	c.term = term
	c.mu.Unlock()
	c.o.Log.Info("rpc: connected", "server", l.addr.String(), "term", term, "new", newServer)
	if !newServer {
		return
	}
	c.s.newServer()
	if c.o.OnNewServer != nil {
		c.o.OnNewServer(term)
	}
}

// take processes one message.
func (c *Client) take(l *link, h *format.NetHeader, data []byte) error {
	if h.Cmd == format.CmdGreeting {
		return badMessage("second greeting")
	}
	if !isResponse(h) && (c.o.Handle[h.Cmd] == nil || h.ID >= 1<<idBits) {
		c.count.unknown.Add(1)
		return badMessage("request %s %d", h.Cmd, h.ID)
	}
	m, k, fresh, err := c.s.receive(l, h)
	switch {
	case err != nil || !fresh:
		return err
	case !isResponse(h):
		c.handle(k, data)
	case m != nil:
		m.done(data, callError(h.Cmd, FromWire(h.Error)))
	}
	return nil
}

// handle runs the handler of a request. Locks need the order of receipt, and
// their handlers do not block.
func (c *Client) handle(k call, data []byte) {
	id := k.token()
	f := func() {
		c.o.Handle[k.cmd](id, data, func(resp []byte, err error) { c.Respond(id, resp, err) })
	}
	if k.cmd == format.CmdLock || k.cmd == format.CmdLockRecover {
		f()
		return
	}
	c.run.add(f)
}
