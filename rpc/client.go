// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

// Package rpc is the conversation between every mount and the elected server:
// framed messages over TCP that are sent again when a connection or the server
// is replaced, so that each request is answered once.
//
//	stream:  | header 32 bytes | data 0..1100 bytes | header | ...
//	client                           server
//	GREETING{fsid, vers, term, rid} ->
//	                                 <- GREETING{.., its term}
//	requests and responses in both directions, numbered by each side
//
// Units: times are time.Duration, sizes bytes. Requests and responses are
// copied when they are queued; what a handler or callback gets is its own.
//
// A [Client] has one goroutine that connects and reads, one that writes, and a
// bounded number that run handlers. A [Server] has the same for each connection.
//
// Lock order: Server.mu or Client.mu, then session.mu. None of them is held while
// a handler or callback runs.
//
// Source: spec cluster 4.
package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"scoutfs/format"
)

const (
	connectDelay   = 100 * time.Millisecond
	connectTimeout = time.Second
	// maxRunning bounds the handlers that run at once for one peer; others wait
	// for their turn and hold up nobody.
	maxRunning = 256
)

// Handler answers a request of the server. id is unique among all requests of
// all servers: reply, or [Client.Respond] with the id, answers it. Only the first
// answer counts, and one to a server that was replaced meanwhile is dropped.
// req belongs to the handler. Those of LOCK and LOCK_RECOVER run in receive
// order on the receiving goroutine, as do the callbacks of [Client.Send], and
// must not block; others run concurrently.
type Handler func(id uint64, req []byte, reply func(resp []byte, err error))

// ClientOptions says who a client is and how it finds the server.
type ClientOptions struct {
	Fsid, FmtVers uint64
	Rid           format.Rid
	// Quorum says that the mount is a quorum member.
	Quorum bool
	// Dial finds the server and connects, see [DialTCP]. It is called again
	// after 100 ms if it fails.
	Dial func(ctx context.Context) (net.Conn, error)
	// KeepaliveTimeout is how long the server may be silent. Default 24 s; more
	// than 3 s.
	KeepaliveTimeout time.Duration
	// Handle has what the server may ask for; anything else closes the
	// connection. It must not change.
	Handle map[format.NetCmd]Handler
	// OnNewServer, if set, is called when another server answered the greeting,
	// before anything is exchanged with it.
	OnNewServer func(term uint64)
	// Log defaults to discarding.
	Log *slog.Logger
}

func (o ClientOptions) withDefaults() ClientOptions {
	if o.KeepaliveTimeout <= 0 {
		o.KeepaliveTimeout = DefaultKeepalive
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// Client is a mount's side of the conversation. Its methods may be called from
// any goroutine.
type Client struct {
	o      ClientOptions
	s      session
	count  counters
	run    runner
	ctx    context.Context // done when the client is closed
	cancel context.CancelFunc
	wg     sync.WaitGroup
	kick   chan struct{}
	odd    atomic.Uint64 // errnos that were logged, one bit each

	mu      sync.Mutex
	term    uint64        // +checklocks:mu of the server that answered last
	greeted bool          // +checklocks:mu a greeting was sent
	link    *link         // +checklocks:mu the socket, from before its greeting
	gone    func() bool   // +checklocks:mu non-nil while a farewell waits
	leaving bool          // +checklocks:mu Farewell was called
	left    chan struct{} // closed when the farewell is over
	leave   sync.Once
	abort   sync.Once
	aborted chan struct{} // closed when all callbacks have been told
}

// NewClient returns a client that starts to connect at once. Close ends it.
func NewClient(o ClientOptions) *Client {
	c := &Client{o: o.withDefaults(), kick: make(chan struct{}, 1), left: make(chan struct{}), aborted: make(chan struct{})}
	c.s.init(&c.count, defaultBacklog)
	c.run.wg = &c.wg
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.wg.Go(c.connectLoop)
	return c
}

// DialTCP connects to a server within the second that the protocol allows.
func DialTCP(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
	d := net.Dialer{Timeout: connectTimeout}
	return d.DialContext(ctx, "tcp", addr.String())
}

// Call sends a request and waits for its response, across as many connections
// and servers as it takes. Errors: what the server answered; EINTR when ctx is
// done, then the request may or may not have been processed; ECONNABORTED when
// the client is closed; EMSGSIZE for a request above format.NetMaxData.
func (c *Client) Call(ctx context.Context, cmd format.NetCmd, req []byte) ([]byte, error) {
	type result struct {
		resp []byte
		err  error
	}
	ch := make(chan result, 1)
	m, err := c.s.request(cmd, req, func(resp []byte, err error) { ch <- result{resp, err} })
	if err != nil {
		return nil, callError(cmd, err)
	}
	select {
	case r := <-ch:
		return r.resp, r.err
	case <-ctx.Done():
	}
	if !c.s.cancel(m) {
		r := <-ch
		return r.resp, r.err
	}
	return nil, fmt.Errorf("rpc: %s: %w: %w", cmd, context.Cause(ctx), syscall.EINTR)
}

func callError(cmd format.NetCmd, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("rpc: %s: %w", cmd, err)
}

// Send sends a request; requests are sent in the order of calls of Send and
// Call. cb is called once with the response or ECONNABORTED, and must not block.
// If the client is closed already that happens before Send returns. cb may be
// nil.
func (c *Client) Send(cmd format.NetCmd, req []byte, cb func(resp []byte, err error)) {
	if cb == nil {
		cb = func([]byte, error) {}
	}
	if _, err := c.s.request(cmd, req, cb); err != nil {
		cb(nil, callError(cmd, err))
	}
}

// token packs a call of the server into the id that handlers see; idBits are
// left for the server's id.
const idBits = 43

func (k call) token() uint64 { return uint64(k.era)<<48 | uint64(k.cmd)<<idBits | k.id }

func fromToken(t uint64) call {
	return call{era: uint16(t >> 48), cmd: format.NetCmd(t >> idBits & 31), id: t & (1<<idBits - 1)}
}

// Respond answers the request that a handler got with the id. resp is copied.
// A second answer, or one to an earlier server, is dropped.
func (c *Client) Respond(id uint64, resp []byte, err error) {
	if errors.Is(err, ErrClose) {
		c.hangUp()
		return
	}
	code, known := toWire(err)
	if !known {
		logOnce(&c.odd, c.o.Log, err)
	}
	c.s.respond(fromToken(id), resp, code)
}

// logOnce logs an error that the wire has no code for, once an errno.
func logOnce(seen *atomic.Uint64, log *slog.Logger, err error) {
	var errno syscall.Errno
	errors.As(err, &errno)
	if bit := uint64(1) << (errno % 64); seen.Or(bit)&bit == 0 {
		log.Warn("rpc: error has no code on the wire and is sent as EINVAL", "err", err)
	}
}

// Term is the term of the last server that answered a greeting, 0 if none has.
func (c *Client) Term() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.term
}

// Connected reports whether there is a greeted connection now.
func (c *Client) Connected() bool {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	return c.s.link != nil
}

// Kick makes a client that waits before it looks for a server look at once.
func (c *Client) Kick() {
	select {
	case c.kick <- struct{}{}:
	default:
	}
}

// Metrics returns a snapshot.
func (c *Client) Metrics() Metrics { return c.count.snapshot() }

// DumpConnections writes one line about the connection.
func (c *Client) DumpConnections(w io.Writer) error {
	c.mu.Lock()
	addr := "none"
	if c.link != nil {
		addr = c.link.addr.String()
	}
	c.mu.Unlock()
	return c.s.dumpConnection(w, c.o.Rid, addr)
}

// DumpMessages writes one line for each message that is kept.
func (c *Client) DumpMessages(w io.Writer) error { return c.s.dumpMessages(w, c.o.Rid) }

// Farewell tells the server that the mount leaves, and waits for its answer. gone
// is asked while there is no connection: true, if the mount has no
// mounted_clients item on disk any more, means that a server has answered. The
// client is closed for everything else when Farewell returns nil. It returns at
// once if the client never sent a greeting or said farewell before.
//
// Errors: EINTR when ctx is done; ECONNABORTED after Abort.
// Source: spec cluster 4.8.
func (c *Client) Farewell(ctx context.Context, gone func() bool) error {
	c.mu.Lock()
	if !c.greeted {
		c.mu.Unlock()
		return nil
	}
	c.leaving, c.gone = true, gone
	c.mu.Unlock()
	for {
		select {
		case <-c.left:
			return nil
		default:
		}
		answer := make(chan error, 1)
		c.Send(format.CmdFarewell, nil, func(_ []byte, err error) { answer <- err })
		select {
		case <-c.left:
			return nil
		case <-ctx.Done():
			return fmt.Errorf("rpc: FAREWELL: %w: %w", context.Cause(ctx), syscall.EINTR)
		case err := <-answer:
			if err == nil {
				c.depart()
			} else if c.ctx.Err() != nil {
				return c.departed(err)
			} else {
				c.pause(ctx, connectDelay) // the server could not: ask again
			}
		}
	}
}

// depart ends the client after its farewell.
func (c *Client) depart() {
	c.leave.Do(func() { close(c.left) })
	c.Abort()
}

// departed is nil if the client ended by its farewell.
func (c *Client) departed(err error) error {
	select {
	case <-c.left:
		return nil
	default:
		return err
	}
}

// Abort ends the client without any message more: requests fail with
// ECONNABORTED, responses are dropped, and what the kernel has not sent yet is
// not sent. It does not wait.
func (c *Client) Abort() {
	c.abort.Do(func() {
		c.cancel()
		waiting := c.s.fail(syscall.ECONNABORTED)
		go func() {
			defer close(c.aborted)
			fail(waiting, syscall.ECONNABORTED)
		}()
	})
	c.hangUp()
}

// fail tells those who wait for a response that there will be none.
func fail(waiting []*message, err error) {
	for _, m := range waiting {
		m.done(nil, callError(m.hdr.Cmd, err))
	}
}

// Close aborts and waits until all goroutines and handlers have ended.
func (c *Client) Close() {
	c.Abort()
	<-c.aborted
	c.wg.Wait()
}

// hangUp closes the socket.
func (c *Client) hangUp() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.link != nil {
		c.link.kill()
	}
}
