// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package mount

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"

	"scoutfs/format"
	"scoutfs/quorum"
	"scoutfs/server"
)

// serverRunner runs the server of this mount while it is the elected leader. It
// is the quorum agent's Server: Start and Stop return at once, and the agent is
// told of every change of the state.
type serverRunner struct {
	m      *Mount
	fences *server.FenceTable
	counts server.Counters // of all servers

	damage atomic.Pointer[error]              // what ended the last server, if bytes were wrong
	giveUp atomic.Pointer[context.CancelFunc] // ends the opening of the mount, nil when it is open

	mu     sync.Mutex
	st     quorum.State       // +checklocks:mu
	cancel context.CancelFunc // +checklocks:mu; ends the current run
	srv    *server.Server     // +checklocks:mu; nil unless Up or Stopping
}

var _ quorum.Server = (*serverRunner)(nil)

func newServerRunner(m *Mount) *serverRunner {
	s := &serverRunner{m: m}
	s.fences = server.NewFenceTable(server.FenceOptions{Proof: m.provenDead, Fencer: localFencer{m}, Log: m.log})
	return s
}

// State implements quorum.Server.
func (s *serverRunner) State() quorum.State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.st
}

// Start implements quorum.Server: the server starts in the background. That
// takes as long as the fencing of earlier leaders.
func (s *serverRunner) Start(term format.Term) {
	ctx, cancel := context.WithCancel(context.Background())
	s.mu.Lock()
	s.st, s.cancel = quorum.Starting, cancel
	s.mu.Unlock()
	s.m.loops.Go(func() { s.serveLoop(ctx, term) })
}

// Stop implements quorum.Server.
func (s *serverRunner) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.st == quorum.Starting || s.st == quorum.Up {
		s.st = quorum.Stopping
		s.cancel()
	}
}

// change sets the state and tells the agent.
func (s *serverRunner) change(st quorum.State, srv *server.Server) {
	s.mu.Lock()
	if st != quorum.Up || s.st == quorum.Starting {
		s.st = st
	}
	s.srv = srv
	s.mu.Unlock()
	if a := s.m.agent.Load(); a != nil {
		a.Kick()
	}
	if c := s.m.client.Load(); c != nil && st == quorum.Up {
		c.Kick()
	}
}

// serveLoop is one leadership: it ends when the server was stopped, or ended by
// itself. Down is reported when all its I/O has ended.
func (s *serverRunner) serveLoop(ctx context.Context, term format.Term) {
	defer s.change(quorum.Down, nil)
	srv, err := s.start(ctx, term)
	if err != nil {
		if ctx.Err() == nil {
			s.m.log.Error("server did not start", "term", term, "err", err)
			s.met(err)
		}
		return
	}
	s.change(quorum.Up, srv)
	select {
	case <-ctx.Done():
	case <-srv.Done():
		s.m.log.Error("server ended by itself", "term", term, "err", srv.Err())
		s.met(srv.Err())
	}
	s.mu.Lock()
	s.st = quorum.Stopping
	s.mu.Unlock()
	srv.Stop()
}

// met takes an error that ended a server. Damage ends a mount that is opening.
func (s *serverRunner) met(err error) {
	var corrupt *format.CorruptError
	var stale *format.StaleError // a server reads its own roots: nobody has newer ones
	if !errors.As(err, &corrupt) && !errors.As(err, &stale) {
		return
	}
	s.damage.Store(&err)
	if cancel := s.giveUp.Load(); cancel != nil {
		(*cancel)()
	}
}

func (s *serverRunner) start(ctx context.Context, term format.Term) (*server.Server, error) {
	m := s.m
	return server.Start(ctx, server.Options{
		Meta: m.dev.meta, Data: m.dev.data, Super: &m.super, Rid: m.rid, Term: term,
		Listen: s.listen, Cache: m.cache, Fences: s.fences, Counters: &s.counts,
		Check: func() error {
			if quorum.Superseded(m.dev.meta, &m.super, m.o.QuorumSlot, term) {
				return fmt.Errorf("mount: another slot was elected after term %d", term)
			}
			return nil
		},
		KeepaliveTimeout: milliseconds(m.o.TCPKeepaliveMS), Log: m.log,
	})
}

// listen binds the slot's address. Go sets SO_REUSEADDR.
func (s *serverRunner) listen() (net.Listener, error) {
	addr, _ := quorum.SlotAddr(&s.m.super.Quorum, s.m.o.QuorumSlot)
	l, err := net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(addr))
	if err != nil {
		return nil, fmt.Errorf("mount: listen on the address of slot %d: %w", s.m.o.QuorumSlot, err)
	}
	return l, nil
}

// running is the server, if it is up.
func (s *serverRunner) running() *server.Server {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.srv
}

// clients is how many mounts the server of this mount knows; serving is false
// if it runs none.
func (s *serverRunner) clients() (n int, serving bool) {
	if srv := s.running(); srv != nil {
		return srv.Metrics().Mounts, true
	}
	return 0, false
}

// dump lets the server print, if one runs.
func (s *serverRunner) dump(print func(*server.Server, io.Writer) error) func(io.Writer) error {
	return func(w io.Writer) error {
		if srv := s.running(); srv != nil {
			return print(srv, w)
		}
		return nil
	}
}
