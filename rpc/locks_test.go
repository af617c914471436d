// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package rpc_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"scoutfs/format"
	"scoutfs/lock"
	"scoutfs/rpc"
)

// lockServer is a lock service on an rpc server.
type lockServer struct {
	t       *testing.T
	rs      *rpc.Server
	mu      sync.Mutex
	ls      *lock.Server
	replies map[[2]uint64]func([]byte, error)
	seq     uint64
}

func startLocks(t *testing.T, n *network, term, seq uint64, rids ...format.Rid) *lockServer {
	s := &lockServer{t: t, replies: map[[2]uint64]func([]byte, error){}, seq: seq}
	s.ls = lock.NewServer(func() uint64 { s.seq++; return s.seq })
	s.ls.StartRecovery(rids)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rs = rpc.NewServer(rpc.ServerOptions{
		Listener: n.listen(), Fsid: fsid, FmtVers: vers, Term: term,
		OnAttach: func(rid format.Rid, _ netip.AddrPort) {
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.ls.Recovering(rid) {
				s.recover(rid, format.Key{})
			}
		},
		OnLost: func(rid format.Rid, _ netip.AddrPort) { t.Errorf("lost %d", rid) },
		Handle: map[format.NetCmd]rpc.ServerHandler{
			format.CmdLock: func(_ context.Context, rid format.Rid, id uint64, req []byte, reply func([]byte, error)) {
				l, _ := rpc.Decode[format.NetLock](req)
				s.mu.Lock()
				defer s.mu.Unlock()
				s.replies[[2]uint64{uint64(rid), id}] = reply
				s.dispatch(s.ls.Request(rid, id, l))
			},
		},
	})
	return s
}

// dispatch queues what the lock server sends. Called with mu.
func (s *lockServer) dispatch(outs []lock.Out) {
	for _, o := range outs {
		msg := slices.Clone(format.Bytes(&o.Lock))
		if o.Kind == lock.Grant {
			s.replies[[2]uint64{uint64(o.Rid), o.ReqID}](msg, nil)
			continue
		}
		_ = s.rs.Send(o.Rid, format.CmdLock, msg, func(resp []byte, err error) {
			if l, bad := rpc.Decode[format.NetLock](resp); err == nil && bad == nil {
				s.mu.Lock()
				defer s.mu.Unlock()
				s.dispatch(s.ls.InvalidateDone(o.Rid, l))
			}
		})
	}
}

func (s *lockServer) recover(rid format.Rid, from format.Key) {
	_ = s.rs.Send(rid, format.CmdLockRecover, format.Bytes(&from), func(resp []byte, err error) {
		if err != nil {
			return
		}
		locks, err := rpc.DecodeLocks(resp)
		if err != nil {
			s.t.Error(err)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.seq = max(s.seq, lock.MaxWriteSeq(locks))
		next, done, outs, err := s.ls.Recovered(rid, locks)
		s.dispatch(outs)
		if err != nil {
			s.t.Error(err)
		} else if !done {
			s.recover(rid, next)
		}
	})
}

// stop closes the server and returns its sequence number.
func (s *lockServer) stop() uint64 {
	s.rs.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seq
}

// lockMount is a lock client on an rpc client.
type lockMount struct {
	rid format.Rid
	rc  *rpc.Client
	lc  *lock.Client
}

// Revoke takes a while and has nothing to write.
func (m *lockMount) Revoke(*lock.Lock, format.LockMode, format.LockMode, uint64) error {
	time.Sleep(100 * time.Microsecond)
	return nil
}

func mountLocks(n *network, rid format.Rid) *lockMount {
	m := &lockMount{rid: rid}
	m.lc = lock.NewClient(lock.ClientOptions{
		Send: func(l format.NetLock) {
			m.rc.Send(format.CmdLock, format.Bytes(&l), func(resp []byte, err error) {
				if l, bad := rpc.Decode[format.NetLock](resp); err == nil && bad == nil {
					m.lc.HandleGrant(l)
				}
			})
		},
		Respond:   func(id uint64, l format.NetLock) { m.rc.Respond(id, format.Bytes(&l), nil) },
		Revoker:   m,
		IdleCount: func() int { return 3 },
	})
	m.rc = newClient(n, rid, map[format.NetCmd]rpc.Handler{
		format.CmdLock: func(id uint64, req []byte, _ func([]byte, error)) {
			l, _ := rpc.Decode[format.NetLock](req)
			m.lc.HandleInvalidate(id, l)
		},
		format.CmdLockRecover: func(_ uint64, req []byte, reply func([]byte, error)) {
			key, err := rpc.Decode[format.Key](req)
			reply(rpc.EncodeLocks(m.lc.Recover(key)), err)
		},
	})
	return m
}

// users counts who uses each lock how.
type users struct {
	mu sync.Mutex
	n  map[format.Key]map[format.Rid]*[format.LockModes]int
}

func (u *users) add(t *testing.T, key format.Key, rid format.Rid, mode format.LockMode, n int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.n[key] == nil {
		u.n[key] = map[format.Rid]*[format.LockModes]int{}
	}
	if u.n[key][rid] == nil {
		u.n[key][rid] = new([format.LockModes]int)
	}
	u.n[key][rid][mode] += n
	for other, modes := range u.n[key] {
		for om, count := range modes {
			shared := format.LockMode(om) == mode && mode != format.LockWrite
			if n > 0 && other != rid && count > 0 && !shared {
				t.Errorf("%v: %d has %v while %d has %v", key, rid, mode, other, format.LockMode(om))
			}
		}
	}
}

func (m *lockMount) work(t *testing.T, rng *rand.Rand, u *users) {
	for range 80 {
		mode := format.LockMode(1 + rng.IntN(3))
		lk, err := m.lc.Acquire(context.Background(), lock.InodeGroup(format.Ino(rng.IntN(6)*format.LockGroup)), mode)
		if err != nil {
			t.Error(err)
			return
		}
		u.add(t, lk.Start, m.rid, mode, 1)
		time.Sleep(time.Duration(rng.IntN(300)) * time.Microsecond)
		u.add(t, lk.Start, m.rid, mode, -1)
		m.lc.Release(lk, mode, 0)
	}
}

// TestLocks runs the lock protocol between three mounts over connections that
// break and servers that are replaced.
func TestLocks(t *testing.T) {
	n, first := 10, rand.Uint64()
	if s := os.Getenv("SEED"); s != "" {
		first, _ = strconv.ParseUint(s, 0, 64)
		n = 1
	}
	for i := range n {
		seed := first + uint64(i)
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { locks(t, seed) })
		})
	}
}

func locks(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 0))
	nets := &network{}
	var mu sync.Mutex
	nets.setWrap(func(c net.Conn) net.Conn {
		mu.Lock()
		defer mu.Unlock()
		return &cutConn{Conn: c, read: rng.IntN(3000), write: rng.IntN(3000)}
	})
	s := startLocks(t, nets, 1, 0)
	u := &users{n: map[format.Key]map[format.Rid]*[format.LockModes]int{}}
	var mounts []*lockMount
	var wg sync.WaitGroup
	for rid := format.Rid(1); rid <= 3; rid++ {
		m := mountLocks(nets, rid)
		mounts = append(mounts, m)
		for task := range uint64(3) {
			wg.Go(func() { m.work(t, rand.New(rand.NewPCG(seed+task, uint64(rid))), u) })
		}
	}
	for term := uint64(2); term < 6; term++ {
		time.Sleep(700 * time.Millisecond)
		s = startLocks(t, nets, term, s.stop(), 1, 2, 3)
	}
	nets.setWrap(nil)
	wg.Wait()
	for _, m := range mounts {
		m.lc.PurgeIdle()
	}
	time.Sleep(15 * time.Second)
	s.mu.Lock()
	if st := s.ls.Stats(); st.Locks != 0 || st.Recovering != 0 {
		t.Errorf("%+v", st)
	}
	s.mu.Unlock()
	for _, m := range mounts {
		if st := m.lc.Metrics(); st.Locks != 0 {
			t.Errorf("rid %d: %+v", m.rid, st)
		}
		m.lc.Close()
		m.rc.Close()
	}
	s.stop()
}
