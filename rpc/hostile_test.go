// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package rpc_test

import (
	"context"
	"crypto/rand"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"scoutfs/format"
	"scoutfs/rpc"
)

func hello(rid format.Rid, term uint64) format.NetGreeting {
	return format.NetGreeting{Fsid: fsid, FmtVers: vers, Rid: rid, ServerTerm: term}
}

// badMessages are what no peer may send.
func badMessages() map[string][]byte {
	noise := make([]byte, 5000)
	_, _ = rand.Read(noise)
	hdr := func(f func(h *format.NetHeader)) []byte {
		h := format.NetHeader{Seq: 2, ID: 2, Cmd: format.CmdGetVolopt}
		f(&h)
		return frame(h, nil)
	}
	return map[string][]byte{
		"noise":          noise,
		"zero":           make([]byte, 64),
		"seq":            hdr(func(h *format.NetHeader) { h.Seq = 0 }),
		"id":             hdr(func(h *format.NetHeader) { h.ID = 0 }),
		"command":        hdr(func(h *format.NetHeader) { h.Cmd = format.CmdNr }),
		"flags":          hdr(func(h *format.NetHeader) { h.Flags = 2 }),
		"error":          hdr(func(h *format.NetHeader) { h.Flags, h.Error = 1, format.NetErrNr }),
		"request error":  hdr(func(h *format.NetHeader) { h.Error = format.NetEIO }),
		"oversize":       hdr(func(h *format.NetHeader) { h.DataLen = 1101 }),
		"huge":           hdr(func(h *format.NetHeader) { h.DataLen = 65535 }),
		"no handler":     hdr(func(h *format.NetHeader) { h.Cmd = format.CmdSyncLogTrees }),
		"wrong greeting": hdr(func(h *format.NetHeader) { h.Cmd, h.Flags = format.CmdGreeting, 1 }),
	}
}

// TestGarbage: whatever a peer sends before or after its greeting ends its
// connection at most; a good client goes on working.
func TestGarbage(t *testing.T) {
	var ev events
	l := listenTCP(t)
	o := ev.options(l, 7)
	o.Handle[format.CmdGetVolopt] = echo
	s := rpc.NewServer(o)
	defer s.Close()
	good := rpc.NewClient(rpc.ClientOptions{Fsid: fsid, FmtVers: vers, Rid: 1, Dial: tcpDial(l.Addr())})
	defer good.Close()
	want(t, "echo", call(t, good, format.CmdGetVolopt, "a"), "re:a")
	ev.take()

	bad := badMessages()
	for name, b := range bad {
		t.Run("before/"+name, func(t *testing.T) {
			r := dialRaw(t, l.Addr())
			_, _ = r.Write(b)
			r.closed()
		})
	}
	want(t, "events", ev.take(), "")
	rid := format.Rid(100)
	for name, b := range bad {
		t.Run("after/"+name, func(t *testing.T) {
			rid++
			r := dialRaw(t, l.Addr())
			if h, g := r.greet(hello(rid, 0), 1); h.Error != 0 || g.ServerTerm != 7 || g.Rid != rid || g.Flags != 0 {
				t.Fatalf("%+v %+v", h, g)
			}
			_, _ = r.Write(b)
			r.closed()
		})
	}
	t.Run("second greeting", func(t *testing.T) {
		r := dialRaw(t, l.Addr())
		r.greet(hello(90, 0), 1)
		g := hello(90, 0)
		r.send(format.NetHeader{ID: 2, Cmd: format.CmdGreeting}, format.Bytes(&g))
		r.closed()
	})
	t.Run("same id twice", func(t *testing.T) {
		r := dialRaw(t, l.Addr())
		r.greet(hello(91, 0), 1)
		r.send(format.NetHeader{ID: 2, Cmd: format.CmdGetVolopt}, nil)
		r.recv()
		r.send(format.NetHeader{ID: 2, Cmd: format.CmdGetVolopt}, nil) // answered: may be used again
		r.recv()
	})
	testRefused(t, l.Addr())
	want(t, "echo", call(t, good, format.CmdGetVolopt, "b"), "re:b")
}

// testRefused: greetings that do not fit the server.
func testRefused(t *testing.T, addr net.Addr) {
	refused := map[string]format.NetGreeting{
		"fsid":     {Fsid: 1, FmtVers: vers, Rid: 5},
		"version":  {Fsid: fsid, FmtVers: 1, Rid: 5},
		"rid zero": {Fsid: fsid, FmtVers: vers},
		"rid ones": {Fsid: fsid, FmtVers: vers, Rid: ^format.Rid(0)},
	}
	for name, g := range refused {
		t.Run("refused/"+name, func(t *testing.T) {
			r := dialRaw(t, addr)
			if h, _ := r.greet(g, 3); h.Error != format.NetEINVAL || h.ID != 3 || h.DataLen != 0 || h.Flags != 1 {
				t.Errorf("%+v", h)
			}
			r.closed()
		})
	}
	t.Run("short greeting", func(t *testing.T) {
		r := dialRaw(t, addr)
		r.send(format.NetHeader{ID: 3, Cmd: format.CmdGreeting}, make([]byte, 39))
		if h, _ := r.recv(); h.Error != format.NetEINVAL {
			t.Errorf("%+v", h)
		}
		r.closed()
	})
	t.Run("stranger with our term", func(t *testing.T) {
		r := dialRaw(t, addr)
		g := hello(555, 7)
		r.send(format.NetHeader{ID: 3, Cmd: format.CmdGreeting}, format.Bytes(&g))
		r.closed()
	})
}

// TestDuplicates: a peer that repeats and acknowledges by hand.
func TestDuplicates(t *testing.T) {
	var ev events
	l := listenTCP(t)
	o := ev.options(l, 7)
	o.Handle[format.CmdGetVolopt] = echo
	s := rpc.NewServer(o)
	defer s.Close()
	r := dialRaw(t, l.Addr())
	r.greet(hello(5, 0), 1)
	for range 3 {
		r.send(format.NetHeader{Seq: 10, ID: 9, Cmd: format.CmdGetVolopt}, []byte("x"))
	}
	r.send(format.NetHeader{Seq: 12, ID: 10, Cmd: format.CmdGetVolopt}, []byte("y")) // a gap is fine
	r.send(format.NetHeader{Seq: 11, ID: 11, Cmd: format.CmdGetVolopt}, []byte("z")) // too late
	h1, d1 := r.recv()
	h2, d2 := r.recv()
	got := map[string]bool{string(d1): true, string(d2): true}
	if !got["re:x"] || !got["re:y"] || h2.Seq != h1.Seq+1 {
		t.Errorf("%+v %s %+v %s", h1, d1, h2, d2)
	}
	// On a new socket, unacknowledged responses come again, then not any more.
	again := dialRaw(t, l.Addr())
	again.seq = 20
	again.greet(hello(5, 7), 12)
	again.send(format.NetHeader{Seq: 10, ID: 9, Cmd: format.CmdGetVolopt}, []byte("x"))
	for range 2 {
		if _, d := again.recv(); !got[string(d)] {
			t.Errorf("got %s", d)
		}
	}
	again.send(format.NetHeader{Seq: 21, RecvSeq: h2.Seq, ID: 13, Cmd: format.CmdGetVolopt}, []byte("w"))
	if h, d := again.recv(); string(d) != "re:w" || h.RecvSeq != 21 {
		t.Errorf("%+v %s", h, d)
	}
	r.closed()
	old := dialRaw(t, l.Addr()) // a delayed greeting of an earlier socket
	g := hello(5, 7)
	old.send(format.NetHeader{ID: 3, Cmd: format.CmdGreeting}, format.Bytes(&g))
	old.closed()
	amnesia := dialRaw(t, l.Addr()) // it cannot have forgotten us
	g = hello(5, 0)
	amnesia.send(format.NetHeader{ID: 99, Cmd: format.CmdGreeting}, format.Bytes(&g))
	amnesia.closed()
	third := dialRaw(t, l.Addr())
	third.greet(hello(5, 7), 30)
	third.send(format.NetHeader{Seq: 30, ID: 31, Cmd: format.CmdGetVolopt}, []byte("v"))
	if h, d := third.recv(); string(d) != "re:w" {
		t.Errorf("%+v %s", h, d)
	}
	if h, d := third.recv(); string(d) != "re:v" {
		t.Errorf("%+v %s", h, d)
	}
}

// TestSilent: connections that do not greet go away, with no trace, and do not
// keep real clients out.
func TestSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ev events
		n := &network{}
		o := ev.options(n.listen(), 1)
		o.MaxUngreeted = 8
		o.Handle[format.CmdGetVolopt] = echo
		s := rpc.NewServer(o)
		var conns []net.Conn
		for range 20 {
			c, err := n.dial(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			conns = append(conns, c)
			synctest.Wait()
		}
		open := func() (open int) {
			for _, c := range conns {
				_ = c.SetReadDeadline(time.Now().Add(time.Millisecond))
				if _, err := c.Read(make([]byte, 1)); isTimeout(err) {
					open++
				}
			}
			return open
		}
		if n := open(); n != 8 {
			t.Errorf("%d open", n)
		}
		c := newClient(n, 5, nil)
		want(t, "echo", call(t, c, format.CmdGetVolopt, "a"), "re:a")
		time.Sleep(10 * time.Second)
		if n := open(); n != 0 {
			t.Errorf("%d open", n)
		}
		time.Sleep(time.Minute)
		want(t, "events", ev.take(), "greeting 5 flags 0 first true; attach 5")
		if m := s.Metrics(); m.Ungreeted != 20 {
			t.Errorf("%+v", m)
		}
		c.Close()
		s.Close()
	})
}

// TestFlood: a peer that asks without end and takes no answer is cut off and
// lost; the server keeps a bounded number of messages for it.
func TestFlood(t *testing.T) {
	var ev events
	l := listenTCP(t)
	o := ev.options(l, 1)
	o.MaxBacklog = 1000
	o.Handle[format.CmdGetVolopt] = echo
	o.Handle[format.CmdLock] = func(context.Context, format.Rid, uint64, []byte, func([]byte, error)) {}
	lost := make(chan format.Rid, 2)
	onLost := o.OnLost
	o.OnLost = func(rid format.Rid, a netip.AddrPort) { onLost(rid, a); lost <- rid }
	s := rpc.NewServer(o)
	defer s.Close()
	for rid, cmd := range map[format.Rid]format.NetCmd{5: format.CmdGetVolopt, 6: format.CmdLock} {
		r := dialRaw(t, l.Addr())
		r.greet(hello(rid, 0), 1)
		_ = r.SetWriteDeadline(time.Now().Add(30 * time.Second))
		for id := uint64(2); ; id++ {
			r.seq++
			if _, err := r.Write(frame(format.NetHeader{Seq: r.seq, ID: id, Cmd: cmd, DataLen: 1000}, make([]byte, 1000))); err != nil {
				if isTimeout(err) {
					t.Fatal("never cut off")
				}
				break
			}
		}
		if got := <-lost; got != rid {
			t.Errorf("lost %d", got)
		}
	}
	if n := len(s.Clients()); n != 0 {
		t.Errorf("%d clients", n)
	}
}

// TestHostileServer: a client survives whatever a server sends.
func TestHostileServer(t *testing.T) {
	l := listenTCP(t)
	defer l.Close()
	c := rpc.NewClient(rpc.ClientOptions{Fsid: fsid, FmtVers: vers, Rid: 5, Dial: tcpDial(l.Addr())})
	defer c.Close()
	good := hello(5, 3)
	wrong := format.NetGreeting{Fsid: 1, FmtVers: vers, ServerTerm: 3, Rid: 5}
	reply := format.NetHeader{Seq: 1, Cmd: format.CmdGreeting, Flags: 1}
	for _, b := range [][]byte{
		nil, []byte("HTTP/1.1 400 Bad Request\r\n\r\nthat is no greeting, is it?"),
		frame(reply, format.Bytes(&wrong)), frame(format.NetHeader{Seq: 1, ID: 1, Cmd: format.CmdLock}, nil),
	} {
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		r := &raw{t: t, Conn: conn}
		h, _ := r.recv()
		if len(b) > 32 && b[26] == byte(format.CmdGreeting) {
			r.send(format.NetHeader{ID: h.ID, Cmd: format.CmdGreeting, Flags: 1}, b[32:])
		} else {
			_, _ = conn.Write(b)
		}
		_ = conn.Close()
	}
	if c.Term() != 0 {
		t.Errorf("term %d", c.Term())
	}
	for i := range 3 {
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		r := &raw{t: t, Conn: conn}
		h, data := r.recv()
		g, _ := format.Load[format.NetGreeting](data)
		if i > 0 && g.ServerTerm != 3 {
			t.Errorf("%+v", g)
		}
		r.send(format.NetHeader{ID: h.ID, Cmd: format.CmdGreeting, Flags: 1}, format.Bytes(&good))
		switch i {
		case 0: // a request that the client does not know
			r.send(format.NetHeader{ID: 1, Cmd: format.CmdOpenInoMap}, nil)
		case 1: // a second greeting
			r.send(format.NetHeader{ID: h.ID, Cmd: format.CmdGreeting, Flags: 1}, format.Bytes(&good))
		case 2: // a response that nobody waits for is ignored
			r.send(format.NetHeader{ID: 77, Cmd: format.CmdStatfs, Flags: 1}, nil)
			c.Send(format.CmdStatfs, nil, nil)
			if h, _ := r.recv(); h.Cmd != format.CmdStatfs {
				t.Errorf("%+v", h)
			}
			_ = conn.Close()
			continue
		}
		r.closed()
	}
}

// TestSocketOptions: a dead peer is found by both kinds of timeout.
func TestSocketOptions(t *testing.T) {
	var ev events
	l := listenTCP(t)
	s := rpc.NewServer(ev.options(l, 1))
	defer s.Close()
	conns := make(chan net.Conn, 1)
	c := rpc.NewClient(rpc.ClientOptions{Fsid: fsid, FmtVers: vers, Rid: 5, KeepaliveTimeout: 15 * time.Second,
		Dial: func(ctx context.Context) (net.Conn, error) {
			c, err := tcpDial(l.Addr())(ctx)
			conns <- c
			return c, err
		}})
	defer c.Close()
	for !c.Connected() {
		time.Sleep(time.Millisecond)
	}
	raw, err := (<-conns).(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range []struct{ level, name, want int }{
		{unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
		{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
		{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 12},
		{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 1},
		{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 3},
		{unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 15000},
	} {
		_ = raw.Control(func(fd uintptr) {
			if v, err := unix.GetsockoptInt(int(fd), o.level, o.name); err != nil || v != o.want {
				t.Errorf("option %d/%d: %d %v, want %d", o.level, o.name, v, err, o.want)
			}
		})
	}
}

func TestErrnoTable(t *testing.T) {
	for e := syscall.Errno(0); e < 140; e++ {
		var err error
		if e != 0 {
			err = e
		}
		code := rpc.ToWire(err)
		back := rpc.FromWire(code)
		switch e {
		case 0, syscall.ENOENT, syscall.ENOMEM, syscall.EIO, syscall.ENOSPC, syscall.EINVAL, syscall.ENOLINK:
			if back != err {
				t.Errorf("%v became %v", err, back)
			}
		default:
			if code != format.NetEINVAL || back != syscall.EINVAL {
				t.Errorf("%v became %v", err, back)
			}
		}
	}
	if rpc.ToWire(&format.CorruptError{}) != format.NetEIO || rpc.FromWire(200) != syscall.EINVAL {
		t.Error("table")
	}
}

func TestLocksPayload(t *testing.T) {
	locks := []format.NetLock{{Key: format.Key{Zone: 16}, WriteSeq: 9, OldMode: 2, NewMode: 2}, {Key: format.Key{Zone: 20}, NewMode: 1}}
	b := rpc.EncodeLocks(locks)
	if len(b) != 8+2*48 || len(rpc.EncodeLocks(make([]format.NetLock, 30))) != 8+22*48 {
		t.Errorf("%d bytes", len(b))
	}
	got, err := rpc.DecodeLocks(b)
	if err != nil || len(got) != 2 || got[0] != locks[0] || got[1] != locks[1] {
		t.Errorf("%v %v", got, err)
	}
	for _, bad := range [][]byte{nil, b[:7], b[:len(b)-1], append(append([]byte(nil), b...), 0), append([]byte{23, 0}, make([]byte, 6+23*48)...)} {
		if _, err := rpc.DecodeLocks(bad); err == nil {
			t.Errorf("accepted %d bytes", len(bad))
		}
	}
}
