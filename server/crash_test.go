// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"syscall"
	"testing"
	"time"

	"scoutfs/format"
	"scoutfs/internal/invariants"
	"scoutfs/internal/simdisk"
	"scoutfs/server"
)

// run lets the mount write n transactions.
func (m *mount) run(ctx context.Context, r *rand.Rand, n int) error {
	for range n {
		if err := m.open(ctx); err != nil {
			return err
		}
		if err := m.write(r.IntN(20), r.IntN(3000)); err != nil {
			return err
		}
		if err := m.remove(r.IntN(15)); err != nil {
			return err
		}
		if err := m.commit(ctx, 1); err != nil {
			return err
		}
	}
	return nil
}

// TestCrash cuts the power at writes of the server and of three mounts, with
// a random part of what was not flushed lost. Whatever is left has an owner
// for every block and everything that was acknowledged; and the next server
// takes back what the mounts had.
func TestCrash(t *testing.T) {
	t.Run("every write", func(t *testing.T) { crashRun{seed: 10, mounts: 1, transactions: 3, oneIn: 1, recover: 40}.test(t) })
	t.Run("many transactions", func(t *testing.T) { crashRun{seed: 11, mounts: 3, transactions: 8, oneIn: 12, recover: 20}.test(t) })
}

// crashRun is one test of crashes.
type crashRun struct {
	seed         uint64
	mounts       int
	transactions int // of each mount
	oneIn        int // how many writes of blocks make a crash; each write of the super does
	recover      int // how many crashes a server is started after: one in so many
}

// crash is a disk as it was left, and what had been acknowledged.
type crash struct {
	disk  *simdisk.Disk
	acked map[format.Rid]uint64
}

func (c crashRun) test(t *testing.T) {
	t.Logf("seed %d", c.seed)
	v := newVolume(t, 1)
	crashes := c.collect(v)
	v.audit()
	t.Logf("%d crashes", len(crashes))
	for i, c1 := range crashes {
		if invariants.Enabled && i%4 != 0 {
			continue // these builds check so much that it takes long
		}
		cv := v.on(c1.disk)
		sup, trees := cv.audit()
		got := cv.counters(sup, trees)
		for rid, want := range c1.acked {
			if got[rid] < want {
				t.Fatalf("crash %d: mount %d committed %d, on disk is %d", i, rid, want, got[rid])
			}
		}
		if i%c.recover == 0 {
			cv.recoverDead(got)
		}
	}
}

// collect lets mounts write and keeps disks as crashes would leave them.
func (c crashRun) collect(v *volume) (crashes []crash) {
	s := v.start()
	var mounts []*mount
	for i := range c.mounts {
		mounts = append(mounts, v.mount(s, format.Rid(20+i), 0, nil))
	}
	var mu sync.Mutex
	r := rand.New(rand.NewPCG(c.seed, 0))
	v.meta.OnWrite(func(op simdisk.FaultOp) {
		mu.Lock()
		defer mu.Unlock()
		if isSuper := op.Off < 2<<format.LargeShift; !isSuper && r.IntN(c.oneIn) != 0 {
			return
		}
		acked := map[format.Rid]uint64{}
		for _, m := range mounts {
			m.mu.Lock()
			acked[m.rid] = m.acked
			m.mu.Unlock()
		}
		crashes = append(crashes, crash{v.meta.Crash(r, r.IntN(101)), acked})
	})
	var wg sync.WaitGroup
	for i, m := range mounts {
		wg.Go(func() {
			if err := m.run(v.t.Context(), rand.New(rand.NewPCG(c.seed, uint64(i)+1)), c.transactions); err != nil {
				v.t.Error(err)
			}
		})
	}
	wg.Wait()
	v.meta.OnWrite(nil)
	s.Stop()
	return crashes
}

// recoverDead starts a server on a volume whose mounts are all dead.
func (v *volume) recoverDead(counters map[format.Rid]uint64) {
	t := v.t
	t.Helper()
	s := v.start(allDead)
	m := v.mount(s, 99, 0, nil)
	waitFor(t, func() bool { return s.Metrics().Mounts == 1 && len(s.Fences().List()) == 0 })
	must(t, m.open(t.Context()))
	must(t, m.write(5, 5))
	must(t, m.commit(t.Context(), 1))
	sup, trees := v.audit()
	got := v.counters(sup, trees)
	for rid, want := range counters {
		if got[rid] != want {
			t.Fatalf("mount %d: counter %d before, %d after its reclaim", rid, want, got[rid])
		}
	}
	for i := range trees {
		if final := trees[i].Flags&format.LogTreesFinalized != 0; final == (trees[i].Rid == 99) {
			t.Fatalf("log trees %+v", trees[i])
		}
	}
	s.Stop()
}

// TestFaults fails writes and flushes of the metadata device now and then. A
// commit that is answered with an error can be repeated; nothing is lost or
// doubled, in memory or on disk.
func TestFaults(t *testing.T) {
	for seed := range uint64(8) {
		t.Logf("seed %d", seed)
		r := rand.New(rand.NewPCG(seed, 5))
		v := newVolume(t, 1)
		s := v.start()
		m := v.mount(s, 7, 0, nil)
		var mu sync.Mutex
		failing := false
		v.meta.SetFault(func(op simdisk.FaultOp) error {
			mu.Lock()
			defer mu.Unlock()
			if failing && (op.Write || op.Flush) && r.IntN(15) == 0 {
				return simdisk.ErrInjected
			}
			return nil
		})
		fail := func(on bool) {
			mu.Lock()
			defer mu.Unlock()
			failing = on
		}
		failed := 0
		for range 12 {
			fail(true)
			for m.open(t.Context()) != nil {
				failed++
			}
			fail(false)
			if _, trees := v.audit(); !bytes.Equal(format.Bytes(&trees[0]), format.Bytes(&m.lt)) {
				t.Fatalf("opened %+v, on disk is %+v", m.lt, trees[0])
			}
			must(t, m.write(10, 100))
			must(t, m.remove(5))
			must(t, m.flush())
			fail(true)
			for m.l.CommitLogTrees(t.Context(), &m.lt) != nil {
				failed++
			}
			m.acked = m.lt.GetTransSeq
			fail(false)
			sup, trees := v.audit()
			if got := v.counters(sup, trees)[7]; got != m.acked {
				t.Fatalf("counter %d, committed %d", got, m.acked)
			}
		}
		if failed == 0 {
			t.Error("no fault was seen")
		}
		fail(true)
		m2 := v.mountUntil(s, 8, fail)
		must(t, retry(func() error { return m2.open(t.Context()) }))
		fail(false)
		must(t, m.l.Farewell(t.Context()))
		must(t, m2.l.Farewell(t.Context()))
		v.audit()
		s.Stop()
		if err := s.Err(); err != nil {
			t.Error(err)
		}
		v.audit()
	}
}

// mountUntil greets until it is answered well, while faults happen.
func (v *volume) mountUntil(s *server.Server, rid format.Rid, fail func(bool)) *mount {
	for {
		l, err := s.Local(rid, 0, true, nil)
		if err != nil {
			continue
		}
		l.Close()
		fail(false)
		defer fail(true)
		return v.mount(s, rid, 0, nil)
	}
}

func retry(fn func() error) (err error) {
	for range 1000 {
		if err = fn(); err == nil {
			return nil
		}
	}
	return err
}

// TestReadFaults fails reads of the server while it works. Requests may fail,
// but can be repeated.
func TestReadFaults(t *testing.T) {
	v := newVolume(t, 1)
	r := rand.New(rand.NewPCG(3, 3))
	s := v.start(func(o *server.Options) { o.CacheBudget = 4 << 20 })
	m := v.mount(s, 7, 0, nil)
	for range 20 {
		fault := func(op simdisk.FaultOp) error {
			if !op.Write && !op.Flush && r.IntN(4) == 0 {
				return simdisk.ErrInjected
			}
			return nil
		}
		v.meta.SetFault(fault)
		must(t, retry(func() error { return m.open(t.Context()) }))
		v.meta.SetFault(nil)
		must(t, m.write(10, 1000))
		must(t, m.remove(4))
		must(t, m.flush())
		v.meta.SetFault(fault)
		must(t, retry(func() error { return m.l.CommitLogTrees(t.Context(), &m.lt) }))
		v.meta.SetFault(nil)
		v.audit()
	}
	if err := s.Err(); err != nil {
		t.Error(err)
	}
}

// TestCheck stops the server when it must not write the super any more.
func TestCheck(t *testing.T) {
	v := newVolume(t, 1)
	var mu sync.Mutex
	var over error
	s := v.start(func(o *server.Options) {
		o.Check = func() error {
			mu.Lock()
			defer mu.Unlock()
			return over
		}
	})
	m := v.mount(s, 7, 0, nil)
	must(t, m.open(t.Context()))
	before := v.readSuper()
	mu.Lock()
	over = syscall.ESTALE
	mu.Unlock()
	must(t, m.write(1, 0))
	if err := m.commit(t.Context(), 1); !errors.Is(err, syscall.ESTALE) && !errors.Is(err, syscall.ECONNABORTED) {
		t.Errorf("commit: %v", err)
	}
	<-s.Done()
	if err := s.Err(); !errors.Is(err, syscall.ESTALE) {
		t.Errorf("server ended with %v", err)
	}
	if *v.readSuper() != *before {
		t.Error("the super was written")
	}
	v.audit()
}

// TestCommitsAreShared makes many mounts commit at once: they share commits.
func TestCommitsAreShared(t *testing.T) {
	v := newVolume(t, 1)
	s := v.start()
	var mounts []*mount
	for rid := format.Rid(1); rid <= 16; rid++ {
		mounts = append(mounts, v.mount(s, rid, 0, nil))
	}
	before := s.Metrics().Commits
	v.meta.SetFault(func(op simdisk.FaultOp) error {
		if op.Flush {
			time.Sleep(100 * time.Microsecond) // others get to run
		}
		return nil
	})
	var wg sync.WaitGroup
	for _, m := range mounts {
		wg.Go(func() {
			for range 20 {
				if _, err := m.l.AllocInodes(t.Context(), 10); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if n := s.Metrics().Commits - before; n >= 320 {
		t.Errorf("%d commits for 320 requests", n)
	}
	v.audit()
}
