// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"scoutfs/format"
	"scoutfs/internal/invariants"
	"scoutfs/internal/simdisk"
	"scoutfs/rpc"
	"scoutfs/server"
)

// storm is a volume with mounts that come, work, die and leave, servers that
// fail over, and a disk with faults.
type storm struct {
	v       *volume
	srv     atomic.Pointer[server.Server]
	dead    sync.Map // rids that are known to be dead
	stop    atomic.Bool
	nextRid atomic.Uint64

	mu      sync.Mutex
	acked   map[format.Rid]uint64 // what each mount's last answered commit wrote
	commits int
	deaths  int
	leaves  int
}

func (st *storm) start(o *server.Options) {
	o.Fences = server.NewFenceTable(server.FenceOptions{Proof: func(rid format.Rid) bool {
		_, ok := st.dead.Load(rid)
		return ok
	}})
}

// client is a mount that goes from server to server.
type client struct {
	*mount
	st     *storm
	on     *server.Server // that l is connected to
	called bool           // some server knows it
}

// noLocks answers for a mount that has no locks.
var noLocks = map[format.NetCmd]rpc.Handler{
	format.CmdLockRecover: func(_ uint64, _ []byte, reply func([]byte, error)) { reply(make([]byte, 8), nil) },
}

// connected makes sure that the client is connected to the current server.
func (c *client) connected() error {
	s := c.st.srv.Load()
	if c.on == s && c.l != nil {
		return nil
	}
	l, err := s.Local(c.rid, 0, !c.called, noLocks)
	if err != nil {
		return err
	}
	c.l, c.on, c.called = l, s, true
	return nil
}

// until repeats fn on whatever server runs until it succeeds.
func (c *client) until(fn func() error) {
	for !c.st.stop.Load() {
		if err := c.connected(); err != nil {
			continue
		}
		if err := fn(); err == nil {
			return
		}
	}
}

// live is a client's life.
func (c *client) live(r *rand.Rand) {
	ctx := context.Background()
	for range r.IntN(6) {
		c.until(func() error { return c.open(ctx) })
		if c.st.stop.Load() {
			return
		}
		err := errors.Join(c.write(r.IntN(20), r.IntN(2000)), c.remove(r.IntN(15)))
		for err == nil {
			if err = c.flush(); err == nil || !errors.Is(err, syscall.EIO) {
				break
			}
			err = nil
		}
		if err != nil && !errors.Is(err, syscall.EIO) {
			c.t.Error(err)
			return
		}
		if err != nil || r.IntN(8) == 0 {
			c.die() // with a transaction open
			return
		}
		done := false
		c.until(func() error {
			err := c.l.CommitLogTrees(ctx, &c.lt)
			done = err == nil
			return err
		})
		if done {
			c.st.mu.Lock()
			c.st.acked[c.rid] = c.lt.GetTransSeq
			c.st.commits++
			c.st.mu.Unlock()
		}
	}
	if r.IntN(2) == 0 {
		c.until(func() error { return c.l.Farewell(ctx) })
		c.st.count(&c.st.leaves)
		return
	}
	c.die()
}

// die ends the client without a farewell.
func (c *client) die() {
	c.st.dead.Store(c.rid, true)
	c.until(func() error { c.l.Lose(); return nil })
	c.st.count(&c.st.deaths)
}

func (st *storm) count(n *int) {
	st.mu.Lock()
	defer st.mu.Unlock()
	*n++
}

// TestStorm lets everything happen at once, for a while; at the end every
// block has one owner, and everything that was acknowledged is there.
func TestStorm(t *testing.T) {
	rounds, seeds := 40, uint64(3)
	if invariants.Enabled {
		rounds, seeds = 10, 1
	}
	for seed := range seeds {
		t.Logf("seed %d", seed)
		v := newVolumeOf(t, 1, 2*metaBlocks, 16<<20)
		st := &storm{v: v, acked: map[format.Rid]uint64{}}
		st.nextRid.Store(100)
		st.srv.Store(v.start(st.start))
		var wg sync.WaitGroup
		for i := range uint64(4) {
			wg.Go(func() {
				r := rand.New(rand.NewPCG(seed, 100+i))
				for !st.stop.Load() {
					m := &mount{t: t, v: v, rid: format.Rid(st.nextRid.Add(1)), files: map[uint64]extent{}}
					m.c = v.newCache()
					(&client{mount: m, st: st}).live(r)
				}
			})
		}
		st.run(rand.New(rand.NewPCG(seed, 1)), rounds)
		st.stop.Store(true)
		wg.Wait()
		st.srv.Load().Stop()
		st.check()
		t.Logf("%d commits, %d deaths, %d farewells", st.commits, st.deaths, st.leaves)
		if st.commits < 10 {
			t.Errorf("only %d commits", st.commits)
		}
	}
}

// run changes servers and makes the disk fail now and then.
func (st *storm) run(r *rand.Rand, rounds int) {
	v := st.v
	var mu sync.Mutex
	rate := 0
	fr := rand.New(rand.NewPCG(r.Uint64(), 0))
	v.meta.SetFault(func(op simdisk.FaultOp) error {
		mu.Lock()
		defer mu.Unlock()
		if rate > 0 && fr.IntN(rate) == 0 {
			return simdisk.ErrInjected
		}
		return nil
	})
	for range rounds {
		mu.Lock()
		rate = []int{0, 0, 300, 100}[r.IntN(4)]
		mu.Unlock()
		want := st.committed() + r.IntN(8)
		waitFor(v.t, func() bool { return st.committed() >= want || st.srv.Load().Err() != nil })
		if st.srv.Load().Err() != nil || r.IntN(3) == 0 {
			mu.Lock()
			rate = 0
			mu.Unlock()
			st.srv.Load().Stop()
			st.srv.Store(v.start(st.start))
		}
	}
	v.meta.SetFault(nil)
}

func (st *storm) committed() int {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.commits
}

// check looks at what is left on disk, also after all mounts are reclaimed.
func (st *storm) check() {
	t := st.v.t
	sup, trees := st.v.audit()
	got := st.v.counters(sup, trees)
	for _, rid := range slices.Sorted(maps.Keys(st.acked)) {
		if got[rid] < st.acked[rid] {
			t.Errorf("mount %d committed %d, on disk is %d", rid, st.acked[rid], got[rid])
		}
	}
	st.v.recoverDead(got)
}
