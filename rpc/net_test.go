// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package rpc_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"scoutfs/format"
	"scoutfs/rpc"
)

const (
	fsid = 0x5c0a7f5
	vers = 2
)

// network connects clients with the server that listens now, through pipes, so
// that tests can run in a synctest bubble.
type network struct {
	mu     sync.Mutex
	server *pipeListener
	wrap   func(net.Conn) net.Conn // of the client's end
	dials  int
}

type pipeListener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}
func (l *pipeListener) Close() error   { l.once.Do(func() { close(l.done) }); return nil }
func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{} }

func (n *network) listen() net.Listener {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.server = &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})}
	return n.server
}

func (n *network) dial(ctx context.Context) (net.Conn, error) {
	n.mu.Lock()
	l, wrap := n.server, n.wrap
	n.dials++
	n.mu.Unlock()
	if l == nil {
		return nil, syscall.ECONNREFUSED
	}
	here, there := net.Pipe()
	select {
	case l.conns <- there:
	case <-l.done:
		return nil, syscall.ECONNREFUSED
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if wrap != nil {
		return wrap(here), nil
	}
	return here, nil
}

func (n *network) setWrap(f func(net.Conn) net.Conn) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.wrap = f
}

// cutConn breaks after a number of bytes in one direction; a partial write or
// read gets through.
type cutConn struct {
	net.Conn
	mu          sync.Mutex
	read, write int // bytes left, < 0 for ever
}

var errCut = errors.New("connection cut")

func (c *cutConn) Write(b []byte) (int, error) {
	c.mu.Lock()
	left := c.write
	if left >= 0 {
		c.write = max(0, left-len(b))
	}
	c.mu.Unlock()
	if left < 0 || left >= len(b) {
		return c.Conn.Write(b)
	}
	n, _ := c.Conn.Write(b[:left])
	_ = c.Conn.Close()
	return n, errCut
}

func (c *cutConn) Read(b []byte) (int, error) {
	c.mu.Lock()
	left := c.read
	c.mu.Unlock()
	if left == 0 {
		_ = c.Conn.Close()
		return 0, errCut
	}
	if left > 0 && len(b) > left {
		b = b[:left]
	}
	n, err := c.Conn.Read(b)
	if left > 0 {
		c.mu.Lock()
		c.read = left - n
		c.mu.Unlock()
	}
	return n, err
}

// events records what a server calls.
type events struct {
	mu   sync.Mutex
	list []string
}

func (e *events) add(f string, args ...any) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.list = append(e.list, fmt.Sprintf(f, args...))
}

func (e *events) take() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := strings.Join(e.list, "; ")
	e.list = nil
	return s
}

func (e *events) options(l net.Listener, term uint64) rpc.ServerOptions {
	return rpc.ServerOptions{
		Listener: l, Fsid: fsid, FmtVers: vers, Term: term,
		Handle: map[format.NetCmd]rpc.ServerHandler{},
		OnGreeting: func(rid format.Rid, flags uint64, addr netip.AddrPort, first bool) error {
			e.add("greeting %d flags %d first %v", rid, flags, first)
			return nil
		},
		OnAttach: func(rid format.Rid, addr netip.AddrPort) { e.add("attach %d", rid) },
		OnLost:   func(rid format.Rid, addr netip.AddrPort) { e.add("lost %d", rid) },
		OnGone:   func(rid format.Rid) { e.add("gone %d", rid) },
	}
}

func echo(ctx context.Context, rid format.Rid, id uint64, req []byte, reply func([]byte, error)) {
	reply(append([]byte("re:"), req...), nil)
}

func newClient(n *network, rid format.Rid, handle map[format.NetCmd]rpc.Handler) *rpc.Client {
	return rpc.NewClient(rpc.ClientOptions{Fsid: fsid, FmtVers: vers, Rid: rid, Dial: n.dial, Handle: handle})
}

func call(t *testing.T, c *rpc.Client, cmd format.NetCmd, req string) string {
	t.Helper()
	resp, err := c.Call(context.Background(), cmd, []byte(req))
	if err != nil {
		t.Errorf("call %s: %v", cmd, err)
	}
	return string(resp)
}

func want(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

// raw is a peer that speaks bytes.
type raw struct {
	t *testing.T
	net.Conn
	seq uint64
}

func dialRaw(t *testing.T, addr net.Addr) *raw {
	t.Helper()
	c, err := net.Dial("tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &raw{t: t, Conn: c}
}

func frame(h format.NetHeader, data []byte) []byte {
	return append(append([]byte(nil), format.Bytes(&h)...), data...)
}

func (r *raw) send(h format.NetHeader, data []byte) {
	if h.Seq == 0 {
		r.seq++
		h.Seq = r.seq
	}
	if h.DataLen == 0 {
		h.DataLen = uint16(len(data))
	}
	_, _ = r.Write(frame(h, data))
}

func (r *raw) greet(g format.NetGreeting, id uint64) (format.NetHeader, format.NetGreeting) {
	r.t.Helper()
	r.send(format.NetHeader{ID: id, Cmd: format.CmdGreeting}, format.Bytes(&g))
	h, data := r.recv()
	answer, _ := format.Load[format.NetGreeting](data)
	return h, answer
}

func (r *raw) recv() (format.NetHeader, []byte) {
	r.t.Helper()
	_ = r.SetReadDeadline(time.Now().Add(30 * time.Second))
	b := make([]byte, 32)
	if _, err := io.ReadFull(r, b); err != nil {
		r.t.Errorf("read header: %v", err)
		return format.NetHeader{}, nil
	}
	h, _ := format.Load[format.NetHeader](b)
	data := make([]byte, h.DataLen)
	if _, err := io.ReadFull(r, data); err != nil {
		r.t.Errorf("read data: %v", err)
	}
	return h, data
}

// closed checks that the other side hangs up without a word.
func (r *raw) closed() {
	r.t.Helper()
	_ = r.SetReadDeadline(time.Now().Add(30 * time.Second))
	n, err := r.Read(make([]byte, 100))
	if n != 0 || err == nil || errors.Is(err, syscall.ETIMEDOUT) || isTimeout(err) {
		r.t.Errorf("read %d bytes, err %v; want a closed connection", n, err)
	}
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}
