// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"scoutfs/format"
	"scoutfs/lock"
	"scoutfs/quorum"
	"scoutfs/rpc"
	"scoutfs/server"
)

// waitFor polls until ok. It ends the test after a time that is only reached
// if something hangs.
func waitFor(t testing.TB, ok func() bool) {
	t.Helper()
	for range 60000 {
		if ok() {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatal("waited for too long")
}

// TestFarewellOrder lets members and others leave: the last majority stays
// until all others are gone and all of it wants to leave.
func TestFarewellOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVolume(t, 5)
		s := v.start()
		var mu sync.Mutex
		var gone []format.Rid
		left := func() []format.Rid {
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			out := slices.Clone(gone)
			slices.Sort(out)
			gone = nil
			return out
		}
		leave := func(m *mount) {
			go func() {
				if err := m.l.Farewell(context.Background()); err == nil {
					mu.Lock()
					gone = append(gone, m.rid)
					mu.Unlock()
				}
			}()
		}
		var members []*mount
		for rid := format.Rid(1); rid <= 5; rid++ {
			members = append(members, v.mount(s, rid, format.NetGreetingQuorum, nil))
		}
		other := v.mount(s, 9, 0, nil)
		// Three votes are needed: two of five may go.
		leave(members[0])
		leave(members[1])
		if got := left(); !slices.Equal(got, []format.Rid{1, 2}) {
			t.Errorf("left: %v", got)
		}
		leave(members[2])
		leave(members[3])
		if got := left(); len(got) != 0 {
			t.Errorf("left: %v", got)
		}
		leave(members[4])
		if got := left(); len(got) != 0 { // the other mount is still there
			t.Errorf("left: %v", got)
		}
		leave(other)
		if got := left(); !slices.Equal(got, []format.Rid{3, 4, 5, 9}) {
			t.Errorf("left: %v", got)
		}
		s.Stop()
		v.audit()
	})
}

// TestLastMajorityLeavesTogether lets the last two of three members leave. The
// first that is answered stops the server, as the leader's mount does: the
// other is gone from the volume by then.
func TestLastMajorityLeavesTogether(t *testing.T) {
	v := newVolume(t, 3)
	s := v.start()
	var mounts []*mount
	for rid := format.Rid(1); rid <= 3; rid++ {
		m := v.mount(s, rid, format.NetGreetingQuorum, nil)
		must(t, m.open(t.Context()))
		mounts = append(mounts, m)
	}
	must(t, mounts[0].l.Farewell(t.Context()))
	var wg sync.WaitGroup
	for _, m := range mounts[1:] {
		wg.Go(func() {
			err := m.l.Farewell(t.Context())
			s.Stop()
			if sup := v.readSuper(); sup.MountedClients.Height != 0 {
				t.Errorf("mount %d: %v: some mounts are still there", m.rid, err)
			}
		})
	}
	wg.Wait()
	if _, trees := v.audit(); len(trees) != 3 {
		t.Errorf("log trees %+v", trees)
	}
}

// TestRecoveryTimeout leaves a mount unheard after a failover: it is to be
// fenced after 30 s, and reclaimed when it is.
func TestRecoveryTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVolume(t, 1)
		s := v.start()
		m := v.mount(s, 7, 0, nil)
		must(t, m.open(t.Context()))
		must(t, m.write(5, 5))
		must(t, m.commit(t.Context(), 1))
		must(t, m.open(t.Context()))
		s.Stop()

		s = v.start()
		time.Sleep(29 * time.Second)
		if l := s.Fences().List(); len(l) != 0 {
			t.Errorf("requests after 29 s: %v", l)
		}
		time.Sleep(2 * time.Second)
		l := s.Fences().List()
		if len(l) != 1 || l[0].Rid != 7 || l[0].Reason != server.ReasonRecovery || l[0].Addr.String() != "127.0.0.1" {
			t.Fatalf("requests: %+v", l)
		}
		must(t, s.Fences().MarkFenced(7))
		synctest.Wait()
		if l := s.Fences().List(); len(l) != 0 || s.Metrics().Mounts != 0 {
			t.Errorf("requests after the reclaim: %+v, %d mounts", l, s.Metrics().Mounts)
		}
		_, trees := v.audit()
		if len(trees) != 1 || trees[0].Flags != format.LogTreesFinalized {
			t.Errorf("log trees %+v", trees)
		}
		// It comes back from the dead: nothing of it is accepted.
		if _, err := s.Local(7, 0, false, nil); !errors.Is(err, syscall.ENOLINK) {
			t.Errorf("greeting of a reclaimed mount: %v", err)
		}
		if _, err := s.Local(7, format.NetGreetingFarewell, false, nil); err != nil {
			t.Errorf("farewell of a reclaimed mount: %v", err)
		}
		s.Stop()
	})
}

// TestFenceTimeout leaves a request unanswered: the server gives up.
func TestFenceTimeout(t *testing.T) {
	for name, answer := range map[string]func(*server.FenceTable) error{
		"none":  func(*server.FenceTable) error { return nil },
		"error": func(f *server.FenceTable) error { return f.MarkError(7) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v := newVolume(t, 1)
				s := v.start()
				m := v.mount(s, 7, 0, nil)
				must(t, m.open(t.Context()))
				m.l.Lose()
				l := s.Fences().List()
				if len(l) != 1 || l[0].Reason != server.ReasonReconnect {
					t.Fatalf("requests: %+v", l)
				}
				must(t, answer(s.Fences()))
				if name == "none" {
					time.Sleep(29 * time.Second)
					if s.Err() != nil {
						t.Errorf("server ended early: %v", s.Err())
					}
				}
				time.Sleep(2 * time.Second)
				<-s.Done()
				if s.Err() == nil || len(s.Fences().List()) != 0 {
					t.Errorf("error %v, requests %v", s.Err(), s.Fences().List())
				}
				v.audit()
			})
		})
	}
}

// fencer answers after a second.
type fencer struct{ err error }

func (f fencer) Fence(ctx context.Context, _ server.Request) error {
	select {
	case <-time.After(time.Second):
		return f.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// TestLeaders starts servers while earlier leaders may still run.
func TestLeaders(t *testing.T) {
	suspect := quorum.Suspect{Rid: 5, Term: 3}
	for _, c := range []struct {
		name     string
		suspects func(since time.Duration) ([]quorum.Suspect, bool, error)
		fencer   server.Fencer
		ok       bool
		after    time.Duration
	}{
		{"none", func(time.Duration) ([]quorum.Suspect, bool, error) { return nil, false, nil }, nil, true, 0},
		{"fenced", func(time.Duration) ([]quorum.Suspect, bool, error) { return []quorum.Suspect{suspect}, false, nil },
			fencer{}, true, time.Second},
		{"not fenced", func(time.Duration) ([]quorum.Suspect, bool, error) { return []quorum.Suspect{suspect}, false, nil },
			fencer{syscall.EIO}, false, time.Second},
		{"no answer", func(time.Duration) ([]quorum.Suspect, bool, error) { return []quorum.Suspect{suspect}, false, nil },
			nil, false, 15 * time.Second},
		{"stops meanwhile", func(since time.Duration) ([]quorum.Suspect, bool, error) {
			if since > 2*time.Second {
				return nil, false, nil
			}
			return []quorum.Suspect{suspect}, false, nil
		}, nil, true, 2250 * time.Millisecond},
		{"greater term", func(time.Duration) ([]quorum.Suspect, bool, error) { return nil, true, nil }, nil, false, 0},
		{"greater term meanwhile", func(since time.Duration) ([]quorum.Suspect, bool, error) {
			return []quorum.Suspect{suspect}, since > 2*time.Second, nil
		}, nil, false, 2250 * time.Millisecond},
		{"unreadable", func(time.Duration) ([]quorum.Suspect, bool, error) { return nil, false, syscall.EIO }, nil, false, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v := newVolume(t, 1)
				begin := time.Now()
				fences := server.NewFenceTable(server.FenceOptions{Fencer: c.fencer})
				s, err := v.tryStart(func(o *server.Options) {
					o.Fences = fences
					o.Suspects = func() ([]quorum.Suspect, bool, error) { return c.suspects(time.Since(begin)) }
				})
				if (err == nil) != c.ok {
					t.Errorf("start: %v", err)
				}
				if took := time.Since(begin); took != c.after {
					t.Errorf("took %s, want %s", took, c.after)
				}
				synctest.Wait()
				if l := fences.List(); len(l) != 0 {
					t.Errorf("requests: %+v", l)
				}
				if s != nil {
					s.Stop()
				}
			})
		})
	}
}

// locker is a lock client over a local mount.
type locker struct {
	*lock.Client
	local   atomic.Pointer[server.Local]
	replies sync.Map // by id: how to answer an invalidation
}

type revoker struct {
	mu      sync.Mutex
	revoked []format.LockMode // +checklocks:mu; what was left each time
}

func (r *revoker) Revoke(_ *lock.Lock, _, to format.LockMode, _ uint64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.revoked = append(r.revoked, to)
	return nil
}

func (r *revoker) get() []format.LockMode {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.revoked)
}

// newLocker makes a mount with locks. old, if not nil, goes over to a new
// server with all that it holds.
func newLocker(t *testing.T, v *volume, s *server.Server, rid format.Rid, r lock.Revoker, old *locker) *locker {
	k := old
	if k == nil {
		k = &locker{}
		k.Client = lock.NewClient(lock.ClientOptions{
			Send: func(l format.NetLock) {
				k.local.Load().Send(format.CmdLock, slices.Clone(format.Bytes(&l)), func(resp []byte, err error) {
					if g, ok := format.Load[format.NetLock](resp); ok && err == nil {
						k.HandleGrant(g)
					}
				})
			},
			Respond: func(id uint64, l format.NetLock) {
				if reply, ok := k.replies.LoadAndDelete(id); ok {
					reply.(func([]byte, error))(slices.Clone(format.Bytes(&l)), nil)
				}
			},
			Revoker: r,
		})
	}
	handle := map[format.NetCmd]rpc.Handler{
		format.CmdLock: func(id uint64, req []byte, reply func([]byte, error)) {
			l, _ := format.Load[format.NetLock](req)
			k.replies.Store(id, reply)
			k.HandleInvalidate(id, l)
		},
		format.CmdLockRecover: func(_ uint64, req []byte, reply func([]byte, error)) {
			from, _ := format.Load[format.Key](req)
			locks := k.Recover(from)
			h := format.NetLockRecover{Nr: uint16(len(locks))}
			resp := slices.Clone(format.Bytes(&h))
			for i := range locks {
				resp = append(resp, format.Bytes(&locks[i])...)
			}
			reply(resp, nil)
		},
	}
	if old != nil {
		l, err := s.Local(rid, 0, false, handle)
		must(t, err)
		k.local.Store(l)
		return k
	}
	m := v.mount(s, rid, 0, handle)
	k.local.Store(m.l)
	return k
}

// TestLocks passes a lock between two mounts, over a failover too.
func TestLocks(t *testing.T) {
	v := newVolume(t, 1)
	s := v.start()
	var ra, rb revoker
	a := newLocker(t, v, s, 1, &ra, nil)
	b := newLocker(t, v, s, 2, &rb, nil)
	rng := lock.InodeGroup(5)
	get := func(k *locker, mode format.LockMode) *lock.Lock {
		t.Helper()
		lk, err := k.Acquire(t.Context(), rng, mode)
		must(t, err)
		k.Release(lk, mode, 0)
		return lk
	}
	seq := get(a, format.LockWrite).WriteSeq()
	if seq == 0 || seq > s.Seq() {
		t.Errorf("write seq %d of %d", seq, s.Seq())
	}
	get(b, format.LockRead)
	if got := ra.get(); !slices.Equal(got, []format.LockMode{format.LockRead}) {
		t.Errorf("revocations of a: %v", got)
	}
	seqB := get(b, format.LockWrite).WriteSeq()
	if seqB <= seq {
		t.Errorf("write seq %d after %d", seqB, seq)
	}
	for ino := range format.Ino(60) { // more than one recovery message holds
		lk, err := b.Acquire(t.Context(), lock.InodeGroup(100000+ino*format.LockGroup), format.LockWrite)
		must(t, err)
		b.Release(lk, format.LockWrite, 0)
		seqB = max(seqB, lk.WriteSeq())
	}
	s.Stop()

	s = v.start()
	if s.Seq() >= seqB {
		t.Errorf("seq %d is not lost with the server", s.Seq())
	}
	a = newLocker(t, v, s, 1, nil, a)
	done := make(chan struct{})
	go func() {
		defer close(done)
		lk, err := a.Acquire(t.Context(), rng, format.LockWrite)
		if err != nil || lk.WriteSeq() <= seqB {
			t.Errorf("lock %v after recovery, %v", lk, err)
		}
	}()
	select {
	case <-done:
		t.Fatal("lock was granted before all mounts were back")
	case <-time.After(50 * time.Millisecond):
	}
	b = newLocker(t, v, s, 2, nil, b)
	<-done
	if got := rb.get(); !slices.Contains(got, format.LockNull) {
		t.Errorf("revocations of b: %v", got)
	}
	if st := s.LockStats(); st.Locks != 61 || st.Recovering != 0 {
		t.Errorf("stats %+v", st)
	}
	var dump bytes.Buffer
	must(t, s.DumpLocks(&dump))
	must(t, s.DumpLockStats(&dump))
	if bytes.Count(dump.Bytes(), []byte("\n")) != 122 {
		t.Errorf("dump:\n%s", dump.String())
	}
	// A fenced mount's locks are given to others.
	b.local.Load().Lose()
	must(t, s.Fences().MarkFenced(2))
	waitFor(t, func() bool { return s.LockStats().Locks == 1 })
}

// TestOpenMap asks for open inodes while mounts come and go.
func TestOpenMap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVolume(t, 1)
		s := v.start()
		bits := func(bit int) map[format.NetCmd]rpc.Handler {
			return map[format.NetCmd]rpc.Handler{format.CmdOpenInoMap: func(_ uint64, req []byte, reply func([]byte, error)) {
				args, _ := format.Load[format.NetOpenInoMapArgs](req)
				m := format.NetOpenInoMap{Args: args}
				m.Bits[args.Group] = 1 << bit
				reply(format.Bytes(&m), nil)
			}}
		}
		silent := map[format.NetCmd]rpc.Handler{format.CmdOpenInoMap: func(uint64, []byte, func([]byte, error)) {}}
		a := v.mount(s, 1, 0, bits(1))
		ask := func() (format.NetOpenInoMap, error) {
			args := format.NetOpenInoMapArgs{Group: 3, ReqID: 77}
			resp, err := a.l.Call(context.Background(), format.CmdOpenInoMap, format.Bytes(&args))
			m, _ := format.Load[format.NetOpenInoMap](resp)
			if err == nil && m.Args != args {
				t.Errorf("answer is to %+v", m.Args)
			}
			return m, err
		}
		if m, err := ask(); err != nil || m.Bits != [16]uint64{} {
			t.Errorf("alone: %+v, %v", m, err)
		}
		v.mount(s, 2, 0, bits(2))
		v.mount(s, 3, 0, bits(3))
		if m, err := ask(); err != nil || m.Bits != [16]uint64{3: 1<<2 | 1<<3} {
			t.Errorf("three mounts: %+v, %v", m, err)
		}
		dead := v.mount(s, 4, 0, silent)
		got := make(chan format.NetOpenInoMap, 1)
		go func() {
			m, _ := ask()
			got <- m
		}()
		synctest.Wait()
		if len(got) != 0 {
			t.Error("answered without the silent mount")
		}
		dead.l.Lose()
		must(t, s.Fences().MarkFenced(4))
		if m := <-got; m.Bits != [16]uint64{3: 1<<2 | 1<<3} {
			t.Errorf("without the dead mount: %+v", m)
		}
		s.Stop()

		// After a failover nobody is told before all are back.
		s = v.start()
		l, err := s.Local(1, 0, false, bits(1))
		must(t, err)
		a.l = l
		go func() {
			m, _ := ask()
			got <- m
		}()
		synctest.Wait()
		if len(got) != 0 {
			t.Error("answered before all mounts are back")
		}
		for rid := format.Rid(2); rid <= 3; rid++ {
			_, err := s.Local(rid, 0, false, bits(int(rid)))
			must(t, err)
		}
		if m := <-got; m.Bits[3]&^(1<<2|1<<3) != 0 {
			t.Errorf("after the failover: %+v", m)
		}
		s.Stop()
	})
}
