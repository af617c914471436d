// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package rpc_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"scoutfs/format"
	"scoutfs/rpc"
)

func tcpDial(addr net.Addr) func(context.Context) (net.Conn, error) {
	ap := netip.MustParseAddrPort(addr.String())
	return func(ctx context.Context) (net.Conn, error) { return rpc.DialTCP(ctx, ap) }
}

func listenTCP(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// callHandlers answers the typed calls.
func callHandlers(o *rpc.ServerOptions, lt, committed *format.LogTrees) {
	answer := func(b []byte) rpc.ServerHandler {
		return func(_ context.Context, _ format.Rid, _ uint64, _ []byte, reply func([]byte, error)) { reply(b, nil) }
	}
	o.Handle[format.CmdAllocInodes] = func(_ context.Context, rid format.Rid, _ uint64, req []byte, reply func([]byte, error)) {
		n, err := rpc.DecodeU64(req)
		reply(format.Bytes(&format.NetInoRange{Ino: format.Ino(rid), Nr: n}), err)
	}
	o.Handle[format.CmdGetLogTrees] = answer(format.Bytes(lt))
	o.Handle[format.CmdCommitLogTrees] = func(_ context.Context, _ format.Rid, _ uint64, req []byte, reply func([]byte, error)) {
		var err error
		*committed, err = rpc.Decode[format.LogTrees](req)
		reply(nil, err)
	}
	o.Handle[format.CmdGetRoots] = answer(format.Bytes(&format.NetRoots{FSRoot: format.BtreeRoot{Height: 3}}))
	o.Handle[format.CmdGetLastSeq] = answer(rpc.EncodeU64(99))
	o.Handle[format.CmdStatfs] = answer(format.Bytes(&format.NetStatfs{FreeData: 4}))
	o.Handle[format.CmdGetVolopt] = echo
	o.Handle[format.CmdOpenInoMap] = func(_ context.Context, _ format.Rid, _ uint64, _ []byte, reply func([]byte, error)) {
		reply(nil, fmt.Errorf("look: %w", syscall.ENOENT))
		reply([]byte("twice"), nil)
	}
	o.Handle[format.CmdSetVolopt] = func(_ context.Context, _ format.Rid, _ uint64, _ []byte, reply func([]byte, error)) {
		reply([]byte("data"), syscall.EBUSY)
	}
}

// TestCalls runs all typed calls, and many plain ones at once, over TCP.
func TestCalls(t *testing.T) {
	var ev events
	l := listenTCP(t)
	o := ev.options(l, 3)
	lt := format.LogTrees{Nr: 7, GetTransSeq: 5}
	var committed format.LogTrees
	callHandlers(&o, &lt, &committed)
	s := rpc.NewServer(o)
	defer s.Close()
	newServers := 0
	c := rpc.NewClient(rpc.ClientOptions{Fsid: fsid, FmtVers: vers, Rid: 77, Quorum: true, Dial: tcpDial(l.Addr()),
		OnNewServer: func(term uint64) { newServers += int(term) }})
	defer c.Close()
	ctx := context.Background()

	r, err := c.AllocInodes(ctx, 10)
	want(t, "alloc", fmt.Sprint(r, err), "{77 10} <nil>")
	gl, err := c.GetLogTrees(ctx)
	if err != nil || !cmp.Equal(fmt.Sprint(gl), fmt.Sprint(lt)) {
		t.Errorf("%v %v", gl, err)
	}
	if err := c.CommitLogTrees(ctx, &gl); err != nil || committed.Nr != 7 {
		t.Errorf("%v %v", committed, err)
	}
	roots, err := c.GetRoots(ctx)
	if err != nil || roots.FSRoot.Height != 3 {
		t.Errorf("%v %v", roots, err)
	}
	seq, err := c.GetLastSeq(ctx)
	want(t, "last seq", fmt.Sprint(seq, err), "99 <nil>")
	st, err := c.Statfs(ctx)
	if err != nil || st.FreeData != 4 {
		t.Errorf("%v %v", st, err)
	}
	if _, err := c.Call(ctx, format.CmdOpenInoMap, nil); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("got %v", err)
	}
	if _, err := c.Call(ctx, format.CmdSetVolopt, nil); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("got %v", err)
	}
	if _, err := c.Call(ctx, format.CmdGetVolopt, make([]byte, 1101)); !errors.Is(err, syscall.EMSGSIZE) {
		t.Errorf("got %v", err)
	}
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			for j := range 20 {
				req := strings.Repeat("x", i*20+j)
				want(t, "echo", call(t, c, format.CmdGetVolopt, req), "re:"+req)
			}
		})
	}
	wg.Wait()
	want(t, "events", ev.take(), "greeting 77 flags 2 first true; attach 77")
	if newServers != 3 || c.Term() != 3 || !c.Connected() {
		t.Errorf("term %d, new servers %d", c.Term(), newServers)
	}
	info := s.Clients()
	if len(info) != 1 || info[0].Rid != 77 || info[0].Flags != format.NetGreetingQuorum || !info[0].Connected || !info[0].Addr.Addr().Is4() {
		t.Errorf("%+v", info)
	}
	var b bytes.Buffer
	if s.DumpConnections(&b) != nil || s.DumpMessages(&b) != nil || c.DumpConnections(&b) != nil || c.DumpMessages(&b) != nil {
		t.Error("dump")
	}
	if !strings.Contains(b.String(), "rid 000000000000004d peer 127.0.0.1") {
		t.Errorf("dump: %s", b.String())
	}
	if m := s.Metrics(); m.RecvMessages < 1000 || m.SendBytes == 0 || m.RecvDroppedDuplicate != 0 {
		t.Errorf("%+v", m)
	}
}

// TestWrongSize: a response of the wrong length is EMSGSIZE to the caller.
func TestWrongSize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ev events
		n := &network{}
		o := ev.options(n.listen(), 1)
		for cmd := range format.CmdNr {
			o.Handle[cmd] = echo
		}
		s := rpc.NewServer(o)
		defer s.Close()
		c := newClient(n, 5, nil)
		defer c.Close()
		ctx := context.Background()
		_, e1 := c.GetRoots(ctx)
		_, e2 := c.GetLastSeq(ctx)
		e3 := c.CommitLogTrees(ctx, &format.LogTrees{})
		for _, err := range []error{e1, e2, e3} {
			if !errors.Is(err, syscall.EMSGSIZE) {
				t.Errorf("got %v", err)
			}
		}
	})
}

// TestCancel: a call that is given up is EINTR, its late answer harms nothing.
func TestCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ev events
		n := &network{}
		c := newClient(n, 5, nil)
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if _, err := c.Call(ctx, format.CmdStatfs, nil); !errors.Is(err, syscall.EINTR) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		o := ev.options(n.listen(), 1)
		o.Handle[format.CmdGetRoots] = func(_ context.Context, _ format.Rid, _ uint64, _ []byte, reply func([]byte, error)) {
			time.Sleep(time.Minute)
			reply(nil, nil)
		}
		o.Handle[format.CmdGetVolopt] = echo
		s := rpc.NewServer(o)
		ctx2, cancel2 := context.WithTimeout(context.Background(), time.Second)
		defer cancel2()
		if _, err := c.Call(ctx2, format.CmdGetRoots, nil); !errors.Is(err, syscall.EINTR) {
			t.Errorf("got %v", err)
		}
		time.Sleep(2 * time.Minute)
		want(t, "echo", call(t, c, format.CmdGetVolopt, "a"), "re:a")
		if m := c.Metrics(); m.DroppedResponse != 1 {
			t.Errorf("%+v", m)
		}
		c.Close()
		if _, err := c.Call(context.Background(), format.CmdStatfs, nil); !errors.Is(err, syscall.ECONNABORTED) {
			t.Errorf("got %v", err)
		}
		s.Close()
		s.Close()
	})
}

// conversation exchanges requests in both directions over a network that cuts
// each connection where wrap says, and checks that all are processed once.
func conversation(t *testing.T, rounds int, wrap func(dial int, c net.Conn) net.Conn) (clientBytes uint64) {
	var ev events
	n := &network{}
	dials := 0
	n.setWrap(func(c net.Conn) net.Conn {
		dials++
		return wrap(dials, c)
	})
	o := ev.options(n.listen(), 1)
	var mu sync.Mutex
	handled := map[string]int{}
	o.Handle[format.CmdGetVolopt] = func(_ context.Context, _ format.Rid, _ uint64, req []byte, reply func([]byte, error)) {
		mu.Lock()
		handled[string(req)]++
		mu.Unlock()
		reply(append([]byte("re:"), req...), nil)
	}
	s := rpc.NewServer(o)
	c := newClient(n, 5, map[format.NetCmd]rpc.Handler{
		format.CmdOpenInoMap: func(_ uint64, req []byte, reply func([]byte, error)) {
			mu.Lock()
			handled[string(req)]++
			mu.Unlock()
			reply(append([]byte("cl:"), req...), nil)
		},
	})
	answers := make(chan string, rounds)
	for i := range rounds {
		req := fmt.Sprintf("request %d", i)
		want(t, "call", call(t, c, format.CmdGetVolopt, req), "re:"+req)
		if err := s.Send(5, format.CmdOpenInoMap, []byte(fmt.Sprintf("back %d", i)), func(resp []byte, err error) {
			answers <- fmt.Sprint(string(resp), err)
		}); err != nil {
			t.Errorf("send: %v", err)
		}
	}
	got := map[string]bool{}
	for range rounds {
		got[<-answers] = true
	}
	for i := range rounds {
		if !got[fmt.Sprintf("cl:back %d<nil>", i)] || handled[fmt.Sprintf("back %d", i)] != 1 || handled[fmt.Sprintf("request %d", i)] != 1 {
			t.Errorf("round %d: answers %v handled %v", i, got, handled)
		}
	}
	clientBytes = c.Metrics().SendBytes
	c.Close()
	s.Close()
	events := ev.take()
	if strings.Count(events, "attach 5") != 1 || strings.Contains(events, "lost") {
		t.Errorf("events %q", events)
	}
	return clientBytes
}

// TestCutEverywhere breaks the first connection at each byte in turn, in each
// direction, and another one later.
func TestCutEverywhere(t *testing.T) {
	const rounds = 4
	for _, dir := range []string{"read", "write"} {
		t.Run(dir, func(t *testing.T) {
			for at := range 72*2 + rounds*110 {
				synctest.Test(t, func(t *testing.T) {
					conversation(t, rounds, func(dial int, c net.Conn) net.Conn {
						switch {
						case dial > 3:
							return c
						case dial == 2:
							return &cutConn{Conn: c, read: 72 + 37*at%300, write: -1}
						case dir == "read":
							return &cutConn{Conn: c, read: at, write: -1}
						default:
							return &cutConn{Conn: c, read: -1, write: at}
						}
					})
				})
				if t.Failed() {
					t.Fatalf("cut at byte %d", at)
				}
			}
		})
	}
}

// TestManyQueued: what was queued before there is a server arrives in order.
func TestManyQueued(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ev events
		n := &network{}
		c := newClient(n, 5, nil)
		const many = 50000
		var wg sync.WaitGroup
		wg.Add(many)
		for i := range many {
			c.Send(format.CmdLock, rpc.EncodeU64(uint64(i)), func(resp []byte, err error) {
				if v, _ := rpc.DecodeU64(resp); v != uint64(i) || err != nil {
					t.Errorf("answer %d: %d %v", i, v, err)
				}
				wg.Done()
			})
		}
		o := ev.options(n.listen(), 1)
		next := uint64(0)
		o.Handle[format.CmdLock] = func(_ context.Context, _ format.Rid, _ uint64, req []byte, reply func([]byte, error)) {
			if v, _ := rpc.DecodeU64(req); v != next {
				t.Errorf("request %d instead of %d", v, next)
			}
			next++
			reply(req, nil)
		}
		s := rpc.NewServer(o)
		wg.Wait()
		c.Close()
		s.Close()
	})
}

// TestLockOrder: grants and invalidations reach the client in the order in
// which the server queued them, also across cut connections.
func TestLockOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ev events
		n := &network{}
		dials := 0
		n.setWrap(func(c net.Conn) net.Conn {
			dials++
			return &cutConn{Conn: c, read: 1000 * dials, write: -1}
		})
		o := ev.options(n.listen(), 1)
		var s *rpc.Server
		nr := uint64(0)
		o.Handle[format.CmdLock] = func(_ context.Context, rid format.Rid, _ uint64, _ []byte, reply func([]byte, error)) {
			nr++
			reply(rpc.EncodeU64(nr), nil)
			nr++
			if err := s.Send(rid, format.CmdLock, rpc.EncodeU64(nr), nil); err != nil {
				t.Error(err)
			}
		}
		s = rpc.NewServer(o)
		var got []uint64
		see := func(b []byte) {
			v, _ := rpc.DecodeU64(b)
			got = append(got, v)
		}
		c := newClient(n, 5, map[format.NetCmd]rpc.Handler{
			format.CmdLock: func(_ uint64, req []byte, reply func([]byte, error)) { see(req); reply(nil, nil) },
		})
		const rounds = 500
		for range rounds {
			c.Send(format.CmdLock, nil, func(resp []byte, err error) { see(resp) })
			time.Sleep(time.Millisecond)
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		c.Close()
		s.Close()
		if len(got) != 2*rounds || dials < 3 {
			t.Fatalf("%d messages, %d connections", len(got), dials)
		}
		for i, v := range got {
			if v != uint64(i+1) {
				t.Fatalf("message %d at place %d", v, i+1)
			}
		}
	})
}

// TestStarvation: handlers that wait do not hold up others, nor locks.
func TestStarvation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ev events
		n := &network{}
		o := ev.options(n.listen(), 1)
		o.Handle[format.CmdStatfs] = func(ctx context.Context, _ format.Rid, _ uint64, _ []byte, reply func([]byte, error)) {
			<-ctx.Done()
			reply(nil, ctx.Err())
		}
		o.Handle[format.CmdLock] = echo
		s := rpc.NewServer(o)
		c := newClient(n, 5, nil)
		for range 1000 {
			c.Send(format.CmdStatfs, nil, nil)
		}
		want(t, "lock", call(t, c, format.CmdLock, "k"), "re:k")
		s.Close()
		c.Close()
	})
}
