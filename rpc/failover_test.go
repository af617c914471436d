// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package rpc_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"scoutfs/format"
	"scoutfs/rpc"
)

// TestNewServer: requests that the old server did not answer go to the new one
// with their ids; answers to the old one's requests never reach the new one.
func TestNewServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ev events
		n := &network{}
		hang := func(ctx context.Context, _ format.Rid, _ uint64, _ []byte, _ func([]byte, error)) { <-ctx.Done() }
		o := ev.options(n.listen(), 1)
		o.Handle[format.CmdStatfs] = hang
		s1 := rpc.NewServer(o)
		replies := make(chan func([]byte, error), 4)
		var terms []uint64
		c := rpc.NewClient(rpc.ClientOptions{Fsid: fsid, FmtVers: vers, Rid: 5, Dial: n.dial,
			OnNewServer: func(term uint64) { terms = append(terms, term) },
			Handle: map[format.NetCmd]rpc.Handler{
				format.CmdLock: func(_ uint64, _ []byte, reply func([]byte, error)) { replies <- reply },
			}})
		answer := make(chan string, 1)
		go func() {
			resp, err := c.Call(context.Background(), format.CmdStatfs, []byte("q"))
			answer <- fmt.Sprint(string(resp), err)
		}()
		synctest.Wait()
		oldErr := make(chan error, 1)
		if err := s1.Send(5, format.CmdLock, nil, func(_ []byte, err error) { oldErr <- err }); err != nil {
			t.Fatal(err)
		}
		oldReply := <-replies
		s1.Close()
		if err := <-oldErr; !errors.Is(err, syscall.ECONNABORTED) {
			t.Errorf("got %v", err)
		}
		oldReply([]byte("never sent"), nil)
		time.Sleep(time.Minute)
		want(t, "events", ev.take(), "greeting 5 flags 0 first true; attach 5")

		o = ev.options(n.listen(), 2)
		o.Handle[format.CmdStatfs] = echo
		s2 := rpc.NewServer(o)
		want(t, "answer", <-answer, "re:q<nil>")
		newResp := make(chan string, 1)
		if err := s2.Send(5, format.CmdLock, nil, func(resp []byte, err error) { newResp <- fmt.Sprint(string(resp), err) }); err != nil {
			t.Fatal(err)
		}
		newReply := <-replies
		oldReply([]byte("old"), nil)
		synctest.Wait()
		newReply([]byte("new"), nil)
		want(t, "answer", <-newResp, "new<nil>")
		want(t, "events", ev.take(), "greeting 5 flags 0 first false; attach 5")
		want(t, "terms", fmt.Sprint(terms), "[1 2]")
		if m := s2.Metrics(); m.DroppedResponse != 0 {
			t.Errorf("%+v", m)
		}
		c.Close()
		s2.Close()
	})
}

// TestWindow: a client may come back for 20 s and is then lost and refused;
// requests to it end with ENOTCONN.
func TestWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ev events
		n := &network{}
		l := n.listen()
		o := ev.options(l, 1)
		o.Handle[format.CmdGetVolopt] = echo
		s := rpc.NewServer(o)
		var last net.Conn
		n.setWrap(func(c net.Conn) net.Conn { last = c; return c })
		c := newClient(n, 5, map[format.NetCmd]rpc.Handler{
			format.CmdLock: func(_ uint64, req []byte, reply func([]byte, error)) { reply(req, nil) },
		})
		want(t, "echo", call(t, c, format.CmdGetVolopt, "a"), "re:a")

		unplug := func() {
			n.mu.Lock()
			n.server = nil
			n.mu.Unlock()
			last.Close()
		}
		plug := func() {
			n.mu.Lock()
			n.server = l.(*pipeListener)
			n.mu.Unlock()
		}
		unplug()
		synctest.Wait()
		if info := s.Clients(); len(info) != 1 || info[0].Connected {
			t.Errorf("%+v", info)
		}
		answer := make(chan string, 1)
		if err := s.Send(5, format.CmdLock, []byte("l"), func(resp []byte, err error) { answer <- fmt.Sprint(string(resp), err) }); err != nil {
			t.Fatal(err)
		}
		time.Sleep(19 * time.Second)
		plug()
		want(t, "answer", <-answer, "l<nil>")
		want(t, "echo", call(t, c, format.CmdGetVolopt, "b"), "re:b")
		want(t, "events", ev.take(), "greeting 5 flags 0 first true; attach 5")

		unplug()
		synctest.Wait()
		lost := make(chan error, 1)
		if err := s.Send(5, format.CmdLock, nil, func(_ []byte, err error) { lost <- err }); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if err := <-lost; !errors.Is(err, syscall.ENOTCONN) || time.Since(start) != 20*time.Second {
			t.Errorf("got %v after %v", err, time.Since(start))
		}
		synctest.Wait()
		want(t, "events", ev.take(), "lost 5")
		plug()
		time.Sleep(time.Minute)
		if err := s.Send(5, format.CmdLock, nil, nil); !errors.Is(err, syscall.ENOTCONN) {
			t.Errorf("got %v", err)
		}
		if c.Connected() || len(s.Clients()) != 0 {
			t.Error("came back")
		}
		want(t, "events", ev.take(), "")
		s.Close()

		// Another server takes it.
		o = ev.options(n.listen(), 9)
		o.Handle[format.CmdGetVolopt] = echo
		s = rpc.NewServer(o)
		want(t, "echo", call(t, c, format.CmdGetVolopt, "c"), "re:c")
		s.Disconnect(5)
		synctest.Wait()
		want(t, "events", ev.take(), "greeting 5 flags 0 first false; attach 5")
		time.Sleep(time.Minute)
		want(t, "events", ev.take(), "")
		c.Close()
		s.Close()
	})
}

// TestGreetingLost: the reply to the first greeting is cut off at each byte;
// the client is attached once all the same.
func TestGreetingLost(t *testing.T) {
	for at := range 73 {
		synctest.Test(t, func(t *testing.T) {
			var ev events
			n := &network{}
			dials := 0
			n.setWrap(func(c net.Conn) net.Conn {
				if dials++; dials == 1 {
					return &cutConn{Conn: c, read: at, write: -1}
				}
				return c
			})
			var s *rpc.Server
			o := ev.options(n.listen(), 1)
			ready := make(chan struct{})
			got := make(chan error, 1)
			o.OnAttach = func(rid format.Rid, _ netip.AddrPort) {
				<-ready
				ev.add("attach %d", rid)
				if err := s.Send(rid, format.CmdLockRecover, nil, func(_ []byte, err error) { got <- err }); err != nil {
					t.Error(err)
				}
			}
			s = rpc.NewServer(o)
			close(ready)
			c := newClient(n, 5, map[format.NetCmd]rpc.Handler{
				format.CmdLockRecover: func(_ uint64, _ []byte, reply func([]byte, error)) { reply(nil, nil) },
			})
			if err := <-got; err != nil {
				t.Errorf("got %v", err)
			}
			time.Sleep(time.Minute)
			if e := ev.take(); e != "greeting 5 flags 0 first true; attach 5" &&
				e != "greeting 5 flags 0 first true; greeting 5 flags 0 first true; attach 5" &&
				e != "greeting 5 flags 0 first true; attach 5; greeting 5 flags 0 first true" {
				t.Errorf("cut at %d: %q", at, e)
			}
			c.Close()
			s.Close()
		})
	}
}

// TestRefused: a client that the server does not want gets the error and tries
// again.
func TestRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ev events
		n := &network{}
		o := ev.options(n.listen(), 4)
		var refuse atomic.Bool
		refuse.Store(true)
		o.OnGreeting = func(format.Rid, uint64, netip.AddrPort, bool) error {
			if refuse.Load() {
				return syscall.ENOENT
			}
			return nil
		}
		s := rpc.NewServer(o)
		c := newClient(n, 5, nil)
		time.Sleep(time.Second)
		if c.Connected() || len(s.Clients()) != 0 || ev.take() != "" {
			t.Error("accepted")
		}
		refuse.Store(false)
		time.Sleep(time.Second)
		if !c.Connected() {
			t.Error("not connected")
		}
		c.Close()
		s.Close()
	})
}

// farewellSetup starts a server that answers farewells, and a client.
func farewellSetup() (*events, *network, *rpc.Server, *rpc.Client, *int) {
	ev, n, served := &events{}, &network{}, new(int)
	o := ev.options(n.listen(), 1)
	o.Handle[format.CmdGetVolopt] = echo
	o.Handle[format.CmdFarewell] = func(_ context.Context, _ format.Rid, _ uint64, _ []byte, reply func([]byte, error)) {
		*served++
		reply(nil, nil)
	}
	s := rpc.NewServer(o)
	c := newClient(n, 5, nil)
	return ev, n, s, c, served
}

// TestFarewell: it is answered, twice if need be, and nobody is fenced for it.
func TestFarewell(t *testing.T) {
	for name, test := range map[string]func(*testing.T){
		"plain":                             farewellPlain,
		"lost answer":                       farewellLostAnswer,
		"gone":                              farewellGone,
		"next server":                       farewellNextServer,
		"never greeted, cancelled, aborted": farewellWithoutAnswer,
	} {
		t.Run(name, func(t *testing.T) { synctest.Test(t, test) })
	}
}

func farewellPlain(t *testing.T) {
	ev, _, s, c, served := farewellSetup()
	call(t, c, format.CmdGetVolopt, "a")
	for range 2 {
		if err := c.Farewell(context.Background(), func() bool { return false }); err != nil {
			t.Error(err)
		}
	}
	time.Sleep(time.Minute)
	want(t, "events", ev.take(), "greeting 5 flags 0 first true; attach 5; gone 5")
	if *served != 1 {
		t.Errorf("served %d", *served)
	}
	if _, err := c.Call(context.Background(), format.CmdGetVolopt, nil); !errors.Is(err, syscall.ECONNABORTED) {
		t.Errorf("got %v", err)
	}
	c.Close()
	s.Close()
}

func farewellLostAnswer(t *testing.T) {
	ev, n, s, c, served := farewellSetup()
	dials := 0
	n.setWrap(func(nc net.Conn) net.Conn {
		if dials++; dials == 1 {
			return &cutConn{Conn: nc, read: 72 + 36 + 20, write: -1}
		}
		return nc
	})
	call(t, c, format.CmdGetVolopt, "a")
	if err := c.Farewell(context.Background(), func() bool { return false }); err != nil {
		t.Error(err)
	}
	time.Sleep(time.Minute)
	e := ev.take()
	if e != "greeting 5 flags 0 first true; attach 5; gone 5; gone 5" && e != "greeting 5 flags 0 first true; attach 5; gone 5" {
		t.Errorf("events %q", e)
	}
	if *served < 1 || *served > 2 {
		t.Errorf("served %d", *served)
	}
	c.Close()
	s.Close()
}

func farewellGone(t *testing.T) {
	ev, _, s, c, _ := farewellSetup()
	call(t, c, format.CmdGetVolopt, "a")
	s.Close()
	asked := 0
	err := c.Farewell(context.Background(), func() bool { asked++; return asked > 3 })
	if err != nil || asked != 4 {
		t.Errorf("asked %d, err %v", asked, err)
	}
	want(t, "events", ev.take(), "greeting 5 flags 0 first true; attach 5")
	c.Close()
}

func farewellNextServer(t *testing.T) {
	ev, n, s, c, _ := farewellSetup()
	call(t, c, format.CmdGetVolopt, "a")
	s.Close()
	done := make(chan error, 1)
	go func() { done <- c.Farewell(context.Background(), nil) }()
	time.Sleep(time.Second)
	o := ev.options(n.listen(), 2)
	fail := 2
	o.Handle[format.CmdFarewell] = func(_ context.Context, _ format.Rid, _ uint64, _ []byte, reply func([]byte, error)) {
		if fail--; fail >= 0 {
			reply(nil, syscall.EIO)
			return
		}
		reply(nil, nil)
	}
	s = rpc.NewServer(o)
	if err := <-done; err != nil {
		t.Error(err)
	}
	time.Sleep(time.Minute)
	want(t, "events", ev.take(), "greeting 5 flags 0 first true; attach 5; greeting 5 flags 1 first false; attach 5; gone 5")
	c.Close()
	s.Close()
}

func farewellWithoutAnswer(t *testing.T) {
	c := newClient(&network{}, 5, nil)
	if err := c.Farewell(context.Background(), nil); err != nil {
		t.Error(err)
	}
	c.Close()
	_, _, s, c, _ := farewellSetup()
	call(t, c, format.CmdGetVolopt, "a")
	s.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := c.Farewell(ctx, nil); !errors.Is(err, syscall.EINTR) {
		t.Errorf("got %v", err)
	}
	go func() { time.Sleep(time.Second); c.Abort() }()
	if err := c.Farewell(context.Background(), nil); !errors.Is(err, syscall.ECONNABORTED) {
		t.Errorf("got %v", err)
	}
	c.Close()
}

// TestFarewellOnly: whoever comes back to a server that forgot it is only heard
// when it says farewell, and never fenced.
func TestFarewellOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ev events
		n := &network{}
		s := rpc.NewServer(ev.options(n.listen(), 7))
		c, err := n.dial(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		r := &raw{t: t, Conn: c}
		g := hello(5, 7)
		g.Flags = format.NetGreetingFarewell
		if h, g := r.greet(g, 40); h.Error != 0 || g.ServerTerm != 7 {
			t.Errorf("%+v %+v", h, g)
		}
		c.Close()
		time.Sleep(time.Minute)
		want(t, "events", ev.take(), "gone 5")
		s.Close()
	})
}

// TestFarewellWhileAway: the answer comes while the client is not connected.
func TestFarewellWhileAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ev events
		n := &network{}
		o := ev.options(n.listen(), 1)
		replies := make(chan func([]byte, error), 1)
		o.Handle[format.CmdFarewell] = func(_ context.Context, _ format.Rid, _ uint64, _ []byte, reply func([]byte, error)) {
			replies <- reply
		}
		s := rpc.NewServer(o)
		c := newClient(n, 5, nil)
		synctest.Wait()
		go func() { _ = c.Farewell(context.Background(), nil) }()
		reply := <-replies
		c.Abort()
		synctest.Wait()
		want(t, "events", ev.take(), "greeting 5 flags 0 first true; attach 5")
		reply(nil, nil)
		time.Sleep(time.Minute)
		want(t, "events", ev.take(), "gone 5")
		c.Close()
		s.Close()
	})
}

// TestAbort: everything that waits ends, and no byte leaves afterwards.
func TestAbort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ev events
		n := &network{}
		o := ev.options(n.listen(), 1)
		o.Handle[format.CmdStatfs] = func(ctx context.Context, _ format.Rid, _ uint64, _ []byte, _ func([]byte, error)) {}
		s := rpc.NewServer(o)
		c := newClient(n, 5, nil)
		errs := make(chan error, 10)
		for range 10 {
			go func() {
				_, err := c.Call(context.Background(), format.CmdStatfs, nil)
				errs <- err
			}()
		}
		synctest.Wait()
		c.Abort()
		sent := c.Metrics().SendBytes
		for range 10 {
			if err := <-errs; !errors.Is(err, syscall.ECONNABORTED) {
				t.Errorf("got %v", err)
			}
		}
		called := false
		c.Send(format.CmdStatfs, nil, func(_ []byte, err error) { called = errors.Is(err, syscall.ECONNABORTED) })
		time.Sleep(time.Minute)
		if !called || c.Metrics().SendBytes != sent || n.dials != 1 {
			t.Errorf("called %v, sent %d then %d, dials %d", called, sent, c.Metrics().SendBytes, n.dials)
		}
		want(t, "events", ev.take(), "greeting 5 flags 0 first true; attach 5; lost 5")
		c.Close()
		s.Close()
	})
}

// TestListenerBreaks: the server is told to stop.
func TestListenerBreaks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ev events
		l := (&network{}).listen()
		o := ev.options(l, 1)
		o.OnFail = func(err error) { ev.add("fail") }
		s := rpc.NewServer(o)
		l.Close()
		synctest.Wait()
		want(t, "events", ev.take(), "fail")
		s.Close()
	})
}
