// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package rpc

import (
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"syscall"
	"time"

	"scoutfs/format"
)

// errSilent ends a connection without a word.
var errSilent = errors.New("rpc: connection refused")

func (s *Server) acceptLoop() {
	for {
		conn, err := s.o.Listener.Accept()
		switch {
		case err == nil:
			s.accept(conn)
		case s.ctx.Err() != nil:
			return
		case errors.Is(err, net.ErrClosed) || errors.Is(err, io.EOF):
			s.o.Log.Error("rpc: listener broke", "err", err)
			if s.o.OnFail != nil {
				s.o.OnFail(fmt.Errorf("rpc: accept: %w", err))
			}
			return
		default: // out of descriptors, or the connection went away
			s.o.Log.Warn("rpc: accept", "err", err)
			select {
			case <-time.After(50 * time.Millisecond):
			case <-s.ctx.Done():
			}
		}
	}
}

// accept starts to serve a socket. Above the bound the oldest one that has not
// greeted makes room: greeting takes a real client only a round trip.
func (s *Server) accept(conn net.Conn) {
	l, err := newLink(conn, s.o.KeepaliveTimeout)
	if err != nil {
		_ = conn.Close()
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		_ = conn.Close()
		return
	}
	s.links[l] = struct{}{}
	s.ungreeted = append(s.ungreeted, l)
	if len(s.ungreeted) > s.o.MaxUngreeted {
		_ = s.ungreeted[0].conn.Close()
		s.ungreeted = s.ungreeted[1:]
	}
	s.wg.Go(func() { s.serveLoop(l) })
}

// serveLoop serves one socket from its greeting to its end.
func (s *Server) serveLoop(l *link) {
	defer func() {
		_ = l.conn.Close()
		s.mu.Lock()
		delete(s.links, l)
		s.mu.Unlock()
	}()
	h, g, err := s.readGreeting(l)
	if err != nil {
		s.count.drops.Add(1)
		s.o.Log.Debug("rpc: no greeting", "addr", l.addr.String(), "err", err)
		return
	}
	p, err := s.admit(l, &h, &g)
	if err != nil {
		s.count.drops.Add(1)
		s.o.Log.Info("rpc: client refused", "rid", ridString(g.Rid), "addr", l.addr.String(), "err", err)
		if !errors.Is(err, errSilent) {
			_ = s.answerGreeting(l, &format.NetHeader{Seq: 1, ID: h.ID}, &g, ToWire(err))
		}
		return
	}
	s.converse(p, l, &h, &g)
}

// readGreeting reads the first message, which must be a greeting and come in
// time.
func (s *Server) readGreeting(l *link) (format.NetHeader, format.NetGreeting, error) {
	_ = l.conn.SetReadDeadline(time.Now().Add(s.o.GreetTimeout))
	h, data, err := l.frames.next()
	s.mu.Lock()
	if i := slices.Index(s.ungreeted, l); i >= 0 {
		s.ungreeted = slices.Delete(s.ungreeted, i, i+1)
	}
	s.mu.Unlock()
	if err != nil {
		return h, format.NetGreeting{}, err
	}
	if h.Cmd != format.CmdGreeting || isResponse(&h) {
		return h, format.NetGreeting{}, badMessage("%s instead of a greeting", h.Cmd)
	}
	g, err := Decode[format.NetGreeting](data)
	if err == nil && (g.Fsid != s.o.Fsid || g.FmtVers != s.o.FmtVers || g.Rid == 0 || g.Rid == ^format.Rid(0)) {
		err = badMessage("greeting of %016x for volume %016x version %d", uint64(g.Rid), g.Fsid, g.FmtVers)
	}
	if err != nil {
		_ = s.answerGreeting(l, &format.NetHeader{Seq: 1, ID: h.ID}, &g, format.NetEINVAL)
	}
	return h, g, err
}

// answerGreeting sends the response before anything else is sent on the socket.
func (s *Server) answerGreeting(l *link, r *format.NetHeader, g *format.NetGreeting, code format.NetErr) error {
	r.Cmd, r.Flags, r.Error = format.CmdGreeting, format.NetFlagResponse, code
	var data []byte
	if code == format.NetOK {
		data = format.Bytes(&format.NetGreeting{Fsid: s.o.Fsid, FmtVers: s.o.FmtVers, ServerTerm: s.o.Term, Rid: g.Rid})
	}
	_ = l.conn.SetWriteDeadline(time.Now().Add(s.o.GreetTimeout))
	return l.send(r, data)
}

// admit finds or makes the peer of a good greeting, and takes it away from the
// connection that it had. Source: spec cluster 4.4 and 4.6.
func (s *Server) admit(l *link, h *format.NetHeader, g *format.NetGreeting) (*peer, error) {
	back := g.ServerTerm == s.o.Term
	if !back && s.o.OnGreeting != nil {
		if err := s.o.OnGreeting(g.Rid, g.Flags, l.addr, g.ServerTerm == 0); err != nil {
			return nil, fmt.Errorf("rpc: greeting: %w", err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.peers[g.Rid]
	switch {
	case s.closed:
		return nil, errSilent
	case p != nil && h.ID <= p.greetID:
		return nil, fmt.Errorf("%w: older than its other connection", errSilent)
	case p != nil && !back && p.talked():
		return nil, fmt.Errorf("%w: it spoke with this server before", errSilent)
	case p == nil && back && g.Flags&format.NetGreetingFarewell == 0:
		return nil, fmt.Errorf("%w: it came back too late, or was fenced", errSilent)
	case p == nil:
		// Whoever comes back only to say farewell has been answered or given
		// up by this server before: nobody has to fence it again.
		p = &peer{rid: g.Rid, attached: back, farewell: back}
		p.s.init(&s.count, s.o.MaxBacklog)
		if back {
			p.s.seq = h.RecvSeq // it would drop what it seems to have seen
		}
		p.run.wg = &s.wg
		s.peers[g.Rid] = p
	default:
		p.replaceLink()
	}
	s.stopWaitLocked(p)
	p.greetID, p.addr, p.flags = h.ID, l.addr, g.Flags
	return p, nil
}

// talked reports whether anything was received from the peer.
func (p *peer) talked() bool {
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	return p.s.recvSeq != 0
}

// replaceLink closes the peer's connection; what still comes from it is ignored.
func (p *peer) replaceLink() {
	p.s.mu.Lock()
	l := p.s.link
	p.s.mu.Unlock()
	if l != nil && p.s.detach(l) {
		l.kill()
	}
}

// converse answers the greeting and then serves the peer until the socket
// breaks.
func (s *Server) converse(p *peer, l *link, h *format.NetHeader, g *format.NetGreeting) {
	r := p.s.greeting(false)
	r.ID = h.ID
	err := s.answerGreeting(l, &r, g, format.NetOK)
	if err != nil || !s.attach(p, l, h.ID) {
		s.mu.Lock()
		if p.greetID == h.ID {
			s.waitLocked(p)
		}
		s.mu.Unlock()
		return
	}
	var wg sync.WaitGroup
	wg.Go(func() { l.writeLoop(&p.s) })
	err = l.readLoop(&s.count, func(h *format.NetHeader, data []byte) error { return s.take(p, l, h, data) })
	_ = l.conn.Close()
	s.mu.Lock()
	if p.s.detach(l) {
		s.o.Log.Info("rpc: connection to a client lost", "rid", ridString(p.rid), "addr", l.addr.String(), "err", err)
		s.waitLocked(p)
	}
	s.mu.Unlock()
	wg.Wait()
}

// attach gives the socket to the peer unless a newer one has it.
func (s *Server) attach(p *peer, l *link, greetID uint64) bool {
	_ = l.conn.SetDeadline(time.Time{})
	s.mu.Lock()
	if s.closed || p.freed || p.greetID != greetID {
		s.mu.Unlock()
		return false
	}
	first := !p.attached
	p.attached = true
	err := p.s.attach(l)
	s.mu.Unlock()
	if err == nil && first && s.o.OnAttach != nil {
		s.o.OnAttach(p.rid, l.addr)
	}
	return err == nil
}

// waitLocked starts the time in which the peer may come back, unless it has
// nothing to come back for.
func (s *Server) waitLocked(p *peer) {
	switch {
	case s.closed || p.freed:
	case p.farewell:
		s.freeLocked(p, syscall.ENOTCONN, s.onGone)
	case p.s.failure() != nil:
		s.freeLocked(p, syscall.ENOTCONN, s.onLost)
	default:
		s.stopWaitLocked(p)
		wait := p.waits
		p.timer = time.AfterFunc(s.o.ReconnectWindow, func() { s.expire(p, wait) })
		s.onBroken(p.rid, p.addr)
	}
}

func (s *Server) stopWaitLocked(p *peer) {
	p.waits++
	if p.timer != nil {
		p.timer.Stop()
		p.timer = nil
	}
}

func (s *Server) expire(p *peer, wait int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.waits == wait {
		s.freeLocked(p, syscall.ENOTCONN, s.onLost)
	}
}

// take processes one message of a peer.
func (s *Server) take(p *peer, l *link, h *format.NetHeader, data []byte) error {
	if h.Cmd == format.CmdGreeting {
		return badMessage("second greeting")
	}
	if !isResponse(h) && s.o.Handle[h.Cmd] == nil {
		s.count.unknown.Add(1)
		return badMessage("request %s %d", h.Cmd, h.ID)
	}
	m, k, fresh, err := p.s.receive(l, h)
	switch {
	case err != nil || !fresh:
		return err
	case !isResponse(h):
		s.handle(p, l, k, data)
	case m != nil:
		m.done(data, callError(h.Cmd, FromWire(h.Error)))
	}
	return nil
}

// handle runs the handler of a request.
func (s *Server) handle(p *peer, l *link, k call, data []byte) {
	f := func() {
		s.o.Handle[k.cmd](s.ctx, p.rid, k.id, data, func(resp []byte, err error) { s.reply(p, l, k, resp, err) })
	}
	if k.cmd == format.CmdLock {
		f()
		return
	}
	p.run.add(f)
}
