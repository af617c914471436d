// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"scoutfs/format"
	"scoutfs/internal/simdisk"
	"scoutfs/rpc"
	"scoutfs/server"
)

// dialed is a mount with a real connection.
type dialed struct {
	*rpc.Client
	mu    sync.Mutex
	conns []net.Conn // +checklocks:mu
	dead  atomic.Bool
}

// dial makes a mount that connects to the address.
func (v *volume) dial(rid format.Rid, addr func() string) *dialed {
	d := new(dialed)
	var dialer net.Dialer
	d.Client = rpc.NewClient(rpc.ClientOptions{
		Fsid: v.super.Hdr.Fsid, FmtVers: v.super.FmtVers, Rid: rid,
		Dial: func(ctx context.Context) (net.Conn, error) {
			if d.dead.Load() {
				return nil, net.ErrClosed
			}
			c, err := dialer.DialContext(ctx, "tcp4", addr())
			if err == nil {
				d.mu.Lock()
				d.conns = append(d.conns, c)
				d.mu.Unlock()
			}
			return c, err
		},
		Handle: noLocks,
	})
	v.t.Cleanup(d.Client.Close)
	return d
}

// cut breaks the connection.
func (d *dialed) cut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range d.conns {
		_ = c.Close()
	}
}

// die breaks the connection for ever.
func (d *dialed) die() {
	d.dead.Store(true)
	d.cut()
}

// TestBrokenConnection breaks connections of mounts. One of which nothing is
// known comes back and is left alone; one that is known to be dead, if only
// some time later, does not have its time to come back.
func TestBrokenConnection(t *testing.T) {
	v := newVolume(t, 1)
	var addr atomic.Value
	var dead atomic.Bool
	var asked atomic.Int64
	s := v.start(listen(t, &addr), func(o *server.Options) {
		o.ReconnectWindow = time.Hour
		o.Fences = server.NewFenceTable(server.FenceOptions{Proof: func(rid format.Rid) bool {
			if rid == 7 {
				asked.Add(1)
			}
			return rid == 7 && dead.Load()
		}})
	})
	where := func() string { return addr.Load().(string) }
	live, m := v.dial(6, where), v.dial(7, where)
	_, err := live.GetLogTrees(t.Context())
	must(t, err)
	_, err = m.GetLogTrees(t.Context())
	must(t, err)
	live.cut()
	if asked.Load() != 0 {
		t.Error("asked about a mount that is connected")
	}
	m.die()
	waitFor(t, func() bool { return asked.Load() >= 3 })
	if l := s.Fences().List(); len(l) != 0 || s.Metrics().Mounts != 2 {
		t.Fatalf("without proof there are requests %+v and %d mounts", l, s.Metrics().Mounts)
	}
	dead.Store(true)
	waitFor(t, func() bool { return s.Metrics().Mounts == 1 && len(s.Fences().List()) == 0 })
	_, err = live.AllocInodes(t.Context(), 1)
	must(t, err)
	_, trees := v.audit()
	for i := range trees {
		if final := trees[i].Flags&format.LogTreesFinalized != 0; final != (trees[i].Rid == 7) {
			t.Errorf("log trees %+v", trees[i])
		}
	}
	must(t, live.Farewell(t.Context(), nil))
}

// TestDeadAtStart starts a server on a volume that knows a dead mount. The proof
// appears late, but nobody waits until the time for the recovery is over.
func TestDeadAtStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVolume(t, 1)
		s := v.start()
		m := v.mount(s, 7, 0, nil)
		must(t, m.open(t.Context()))
		s.Stop()
		begin := time.Now()
		s = v.start(func(o *server.Options) {
			o.Fences = server.NewFenceTable(server.FenceOptions{Proof: func(format.Rid) bool { return time.Since(begin) >= time.Second }})
		})
		time.Sleep(time.Second - time.Millisecond)
		if n := s.Metrics().Mounts; n != 1 {
			t.Errorf("%d mounts before the proof", n)
		}
		time.Sleep(200 * time.Millisecond)
		synctest.Wait()
		if n := s.Metrics().Mounts; n != 0 || len(s.Fences().List()) != 0 {
			t.Errorf("%d mounts and requests %+v after the proof", n, s.Fences().List())
		}
		s.Stop()
		v.audit()
	})
}

// TestGreetingsWait starts servers with mounts already at the door: each is asked
// for its locks, however early it comes in.
func TestGreetingsWait(t *testing.T) {
	v := newVolume(t, 1)
	var addr atomic.Value
	s := v.start(listen(t, &addr))
	var mounts []*dialed
	for rid := format.Rid(1); rid <= 4; rid++ {
		m := v.dial(rid, func() string { return addr.Load().(string) })
		_, err := m.GetLastSeq(t.Context())
		must(t, err)
		mounts = append(mounts, m)
	}
	for range 5 {
		s.Stop()
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		must(t, err)
		addr.Store(l.Addr().String())
		for _, m := range mounts {
			m.mu.Lock()
			n := len(m.conns)
			m.mu.Unlock()
			waitFor(t, func() bool { m.mu.Lock(); defer m.mu.Unlock(); return len(m.conns) > n || n > 1 })
		}
		s = v.start(func(o *server.Options) { o.Listener = l })
		waitFor(t, func() bool { return s.LockStats().Recovering == 0 })
	}
	for _, m := range mounts {
		must(t, m.Farewell(t.Context(), nil))
	}
}

// TestRefusedGreeting refuses the first greeting of two mounts because its commit
// fails. One tries again; the other gives up, but its item may have been made.
func TestRefusedGreeting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVolume(t, 1)
		s := v.start()
		v.meta.SetFault(func(op simdisk.FaultOp) error {
			if op.Flush {
				return simdisk.ErrInjected
			}
			return nil
		})
		for _, rid := range []format.Rid{7, 8, 8} {
			if _, err := s.Local(rid, 0, true, nil); !errors.Is(err, syscall.EIO) {
				t.Errorf("greeting: %v", err)
			}
			time.Sleep(time.Second)
		}
		v.meta.SetFault(nil)
		m := v.mount(s, 8, 0, nil)
		must(t, m.open(t.Context()))
		time.Sleep(16 * time.Second)
		if l := s.Fences().List(); len(l) != 0 {
			t.Errorf("requests before the mount has had its time: %+v", l)
		}
		time.Sleep(5 * time.Second)
		l := s.Fences().List()
		if len(l) != 1 || l[0].Rid != 7 || l[0].Reason != server.ReasonReconnect {
			t.Fatalf("requests: %+v", l)
		}
		must(t, s.Fences().MarkFenced(7))
		time.Sleep(time.Minute)
		if n := s.Metrics().Mounts; n != 1 || len(s.Fences().List()) != 0 {
			t.Errorf("%d mounts, requests %+v", n, s.Fences().List())
		}
		must(t, m.l.Farewell(t.Context()))
		s.Stop()
		v.audit()
	})
}
