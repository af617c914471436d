// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package rpc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"scoutfs/format"
)

// ServerHandler answers a request of a client. reply answers it: from any
// goroutine, before or after the handler returns; only the first call counts,
// and resp is copied. ErrClose as its error closes the connection. ctx is done
// when the server closes. req belongs to the handler.
//
// Each request runs once, whatever happens to connections. Handlers run
// concurrently, except for those of LOCK, which run in receive order on the
// receiving goroutine, as do the callbacks of [Server.Send], and must not block.
type ServerHandler func(ctx context.Context, rid format.Rid, reqID uint64, req []byte, reply func(resp []byte, err error))

// ServerOptions says what a server is and does. Functions may be nil.
type ServerOptions struct {
	// Listener is closed by Close.
	Listener            net.Listener
	Fsid, FmtVers, Term uint64
	// Handle has what clients may ask for; anything else closes the connection.
	// It must not change. FAREWELL is one of them.
	Handle map[format.NetCmd]ServerHandler
	// OnGreeting is called before a greeting is answered, unless the client
	// comes back to this server. first says that it has not seen any server:
	// its mounted_clients item is inserted. Otherwise it comes from another
	// server: it is refused without an item, unless flags has
	// format.NetGreetingFarewell. An error refuses the client. It may block, and
	// is called again if the answer did not reach the client.
	OnGreeting func(rid format.Rid, flags uint64, addr netip.AddrPort, first bool) error
	// OnAttach is called once for each client that OnGreeting accepted, before
	// anything of it is processed. Send reaches it from now on.
	OnAttach func(rid format.Rid, addr netip.AddrPort)
	// OnBroken is called when a client's connection broke, as its ReconnectWindow
	// begins: it may come back meanwhile, which [Server.Waiting] tells.
	OnBroken func(rid format.Rid, addr netip.AddrPort)
	// OnLost is called when a client has not come back for ReconnectWindow: it
	// is to be fenced. Send does not reach it any more, and it is refused.
	OnLost func(rid format.Rid, addr netip.AddrPort)
	// OnGone is called when the connection of a client whose farewell was
	// answered is over.
	OnGone func(rid format.Rid)
	// OnFail is called when the listener broke: the server should stop.
	OnFail func(err error)

	ReconnectWindow  time.Duration // default 20 s
	KeepaliveTimeout time.Duration // default 24 s; more than 3 s
	// GreetTimeout and MaxUngreeted bound connections that do not greet: after
	// the time, default 10 s, and the oldest above the number, default 256,
	// they are dropped silently.
	GreetTimeout time.Duration
	MaxUngreeted int
	// MaxBacklog bounds the messages that are kept for a client, and those of it
	// that wait for an answer. A client that exceeds it is lost at once. Default
	// 524288, several times the number of locks that a mount may have.
	MaxBacklog int
	Log        *slog.Logger // default discards
}

func (o ServerOptions) withDefaults() ServerOptions {
	o.ReconnectWindow = cmp.Or(o.ReconnectWindow, 20*time.Second)
	o.KeepaliveTimeout = cmp.Or(o.KeepaliveTimeout, DefaultKeepalive)
	o.GreetTimeout = cmp.Or(o.GreetTimeout, 10*time.Second)
	o.MaxUngreeted = cmp.Or(o.MaxUngreeted, 256)
	o.MaxBacklog = cmp.Or(o.MaxBacklog, defaultBacklog)
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	return o
}

// ClientInfo is a snapshot of a client that the server knows.
type ClientInfo struct {
	Rid       format.Rid
	Flags     uint64 // of its last greeting
	Addr      netip.AddrPort
	Connected bool // false while it may come back
}

// Server is the leader's side of the conversations with all mounts. Its methods
// may be called from any goroutine.
type Server struct {
	o      ServerOptions
	count  counters
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	odd    atomic.Uint64 // errnos that were logged, one bit each

	mu        sync.Mutex
	closed    bool                 // +checklocks:mu
	peers     map[format.Rid]*peer // +checklocks:mu
	links     map[*link]struct{}   // +checklocks:mu all sockets
	ungreeted []*link              // +checklocks:mu those without a greeting, oldest first
}

// peer is a client. It outlives its connections.
type peer struct {
	rid format.Rid
	s   session
	run runner

	// Server.mu protects what follows.
	addr     netip.AddrPort // of the last connection
	flags    uint64
	greetID  uint64 // id of the greeting that it was last attached by
	attached bool   // OnAttach was called, or need not be
	farewell bool   // farewell answered: ends with its connection
	freed    bool   // not in peers any more
	timer    *time.Timer
	waits    int // counts reconnect windows
}

// NewServer returns a server that accepts connections. Close ends it.
func NewServer(o ServerOptions) *Server {
	s := &Server{o: o.withDefaults(), peers: make(map[format.Rid]*peer), links: make(map[*link]struct{})}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.wg.Go(s.acceptLoop)
	return s
}

// Send sends a request to a client; to each in the order of calls. cb is called
// once with the response, or with ENOTCONN when the client was lost or
// disconnected, or with ECONNABORTED when the server closed; it must not block and
// may be nil. If Send returns an error cb is not called: ENOTCONN if the client
// is not known.
func (s *Server) Send(rid format.Rid, cmd format.NetCmd, req []byte, cb func(resp []byte, err error)) error {
	if cb == nil {
		cb = func([]byte, error) {}
	}
	s.mu.Lock()
	p := s.peers[rid]
	s.mu.Unlock()
	if p == nil {
		return fmt.Errorf("rpc: send %s to %016x: %w", cmd, rid, syscall.ENOTCONN)
	}
	if _, err := p.s.request(cmd, req, cb); err != nil {
		return fmt.Errorf("rpc: send %s to %016x: %w", cmd, rid, err)
	}
	return nil
}

// reply answers a client's request.
func (s *Server) reply(p *peer, l *link, k call, resp []byte, err error) {
	if errors.Is(err, ErrClose) {
		l.kill()
		return
	}
	code, known := toWire(err)
	if !known {
		logOnce(&s.odd, s.o.Log, err)
	}
	if k.cmd != format.CmdFarewell || code != format.NetOK {
		p.s.respond(k, resp, code)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p.farewell = true
	p.s.respond(k, resp, code)
	if p.timer != nil {
		s.freeLocked(p, syscall.ENOTCONN, s.onGone)
	}
}

// Clients returns all clients that the server knows, by rid.
func (s *Server) Clients() []ClientInfo {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]ClientInfo, 0, len(s.peers))
	for _, p := range s.peers {
		p.s.mu.Lock()
		out = append(out, ClientInfo{Rid: p.rid, Flags: p.flags, Addr: p.addr, Connected: p.s.link != nil})
		p.s.mu.Unlock()
	}
	slices.SortFunc(out, func(a, b ClientInfo) int { return cmp.Compare(a.Rid, b.Rid) })
	return out
}

// Waiting reports whether the client's connection broke and it may still come
// back.
func (s *Server) Waiting(rid format.Rid) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.peers[rid]
	return p != nil && p.timer != nil
}

// Disconnect forgets a client that was fenced: requests to it fail, its
// connection is closed, and it is refused from now on. Neither OnLost nor OnGone
// is called. Callbacks of requests run on another goroutine.
func (s *Server) Disconnect(rid format.Rid) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.peers[rid]; p != nil {
		s.freeLocked(p, syscall.ENOTCONN, nil)
	}
}

// freeLocked forgets a peer, fails its requests with the error and then calls
// after, which may be nil.
func (s *Server) freeLocked(p *peer, err error, after func(p *peer)) {
	if p.freed || s.closed {
		return
	}
	s.stopWaitLocked(p)
	p.freed = true
	delete(s.peers, p.rid)
	waiting := p.s.fail(err)
	s.wg.Go(func() {
		fail(waiting, err)
		if after != nil {
			after(p)
		}
	})
}

func (s *Server) onLost(p *peer) {
	s.o.Log.Warn("rpc: client is lost", "rid", ridString(p.rid), "addr", p.addr.String())
	if s.o.OnLost != nil {
		s.o.OnLost(p.rid, p.addr)
	}
}

func (s *Server) onBroken(rid format.Rid, addr netip.AddrPort) {
	if s.o.OnBroken != nil {
		s.wg.Go(func() { s.o.OnBroken(rid, addr) })
	}
}

func (s *Server) onGone(p *peer) {
	if s.o.OnGone != nil {
		s.o.OnGone(p.rid)
	}
}

func ridString(rid format.Rid) string { return fmt.Sprintf("%016x", uint64(rid)) }

// Metrics returns a snapshot.
func (s *Server) Metrics() Metrics { return s.count.snapshot() }

// DumpConnections writes one line a client, by rid.
func (s *Server) DumpConnections(w io.Writer) error {
	return s.dump(func(p *peer, addr string) error { return p.s.dumpConnection(w, p.rid, addr) })
}

// DumpMessages writes one line for each message that is kept.
func (s *Server) DumpMessages(w io.Writer) error {
	return s.dump(func(p *peer, _ string) error { return p.s.dumpMessages(w, p.rid) })
}

func (s *Server) dump(f func(p *peer, addr string) error) error {
	for _, info := range s.Clients() {
		s.mu.Lock()
		p := s.peers[info.Rid]
		s.mu.Unlock()
		if p == nil {
			continue
		}
		if err := f(p, info.Addr.String()); err != nil {
			return err
		}
	}
	return nil
}

// Close ends all conversations and waits until every handler and callback has
// ended: handlers find their ctx done, requests to clients fail with
// ECONNABORTED. Clients keep their requests for the next server.
func (s *Server) Close() {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		s.wg.Wait()
		return
	}
	s.closed = true
	peers := make([]*peer, 0, len(s.peers))
	for _, p := range s.peers {
		s.stopWaitLocked(p)
		peers = append(peers, p)
	}
	for l := range s.links {
		_ = l.conn.Close()
	}
	s.mu.Unlock()
	s.cancel()
	_ = s.o.Listener.Close()
	for _, p := range peers {
		fail(p.s.fail(syscall.ECONNABORTED), syscall.ECONNABORTED)
	}
	s.wg.Wait()
}
