// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package txn_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"scoutfs/block"
	"scoutfs/format"
	"scoutfs/internal/simdisk"
	"scoutfs/lock"
	"scoutfs/txn"
)

// TestCrash cuts the power at every device write and opens what is left: all that a
// Sync returned for is there, and no commit is there in part.
func TestCrash(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 2))
	c := newCluster(t, newDisks(t))
	w := newWorld(t, c.mount(options{}), seed)
	w.inos = 400

	type cut struct {
		disks disks
		from  int // committed states that may be found: from this one on
	}
	states := []*state{w.now.clone()}
	var mu sync.Mutex // the server goes on writing after a Sync
	synced := 0
	var cuts []cut
	c.disks.meta.OnWrite(func(f simdisk.FaultOp) {
		mu.Lock()
		defer mu.Unlock()
		if f.Opener == "meta" {
			cuts = append(cuts, cut{disks{c.disks.meta.Crash(r, r.IntN(101)), c.disks.data.Clone()}, synced})
		}
	})
	for range 12 {
		for range 10 {
			_ = w.operation()
		}
		states = append(states, w.now.clone())
		w.m.sync()
		mu.Lock()
		synced = len(states) - 1
		mu.Unlock()
	}
	w.m.close()
	c.disks.meta.OnWrite(nil)
	t.Logf("%d crashes", len(cuts))
	for i, cut := range cuts {
		cc := newCluster(t, cut.disks)
		cc.check()
		got, found := forest(t, cc.server), -1
		for j := cut.from; j <= min(cut.from+1, len(states)-1); j++ {
			if states[j].differs(got) == "" {
				found = j
			}
		}
		if found < 0 {
			t.Fatalf("crash %d: neither state %d nor the next one: %s", i, cut.from, states[cut.from].differs(got))
		}
		w.now = states[found]
		w.remount(cc, format.Rid(0x10000+i))
	}
}

// TestFaults lets single device operations fail, each of them once.
func TestFaults(t *testing.T) {
	const seed = 5
	total := 0
	for n := 1; total == 0 || n <= total; n += 1 + n/12 {
		if count := faultyRun(t, seed, n); total == 0 {
			total = count
		}
	}
	t.Logf("%d operations", total)
}

// faultyRun runs operations while the mount's n-th device operation fails. It
// returns how many there were.
func faultyRun(t *testing.T, seed uint64, n int) int {
	d := newDisks(t)
	c := newCluster(t, d)
	op := d.meta.Opener("mount")
	c.meta = op
	w := newWorld(t, c.mount(options{budget: 256 << 10, cache: 1 << 20}), seed)
	w.fails = injected
	var count atomic.Int64
	fault := func(f simdisk.FaultOp) error {
		if f.Opener == "meta" {
			return nil // the server's
		}
		if count.Add(1) == int64(n) {
			return fmt.Errorf("operation %d: %w", n, simdisk.ErrInjected)
		}
		return nil
	}
	d.meta.SetFault(fault)
	d.data.SetFault(fault)
	for i := range 120 {
		if i%30 == 29 {
			if err := w.m.engine.Sync(ctx); err != nil {
				if got := w.m.engine.Metrics().DataFlushFail; !errors.Is(err, syscall.EIO) || got != 1 {
					t.Fatalf("%v; %d flushes of data failed", err, got)
				}
				w.m.sync()
			}
			w.expectForest(c.server)
		}
		if i%40 == 20 {
			w.dropAll()
		}
		_ = w.operation()
		_ = w.look()
	}
	w.m.close()
	d.meta.SetFault(nil)
	d.data.SetFault(nil)
	w.expectForest(c.server)
	return int(count.Load())
}

// dropAll takes all locks away from the mount.
func (w *world) dropAll() {
	w.t.Helper()
	for _, lk := range w.held {
		if err := w.m.engine.Revoke(lk, lk.Mode(), format.LockNull, w.m.engine.Seq()); err != nil {
			w.t.Fatal(err)
		}
	}
}

// TestServiceErrors lets calls of the server fail before or after their effect.
func TestServiceErrors(t *testing.T) {
	for _, when := range []string{"before", "after"} {
		t.Run(when, func(t *testing.T) {
			c := newCluster(t, newDisks(t))
			r := rand.New(rand.NewPCG(9, 9))
			fail := func(string) error {
				if r.IntN(2) == 0 {
					return errTest
				}
				return nil
			}
			if when == "before" {
				c.server.before = fail
			} else {
				c.server.after = fail
			}
			w := newWorld(t, c.mount(options{budget: 256 << 10}), 9)
			w.fails = func(err error) bool { return errors.Is(err, errTest) }
			for i := range 300 {
				if i%20 == 0 {
					w.m.sync()
					w.expectForest(c.server)
				}
				if i%50 == 0 {
					w.dropAll()
				}
				_ = w.operation()
				_ = w.look()
			}
			w.m.close()
			w.expectForest(c.server)
			if w.m.engine.Metrics().CommitFailed == 0 {
				t.Error("no commit failed")
			}
		})
	}
}

// TestStaleRoots hands out roots whose blocks are gone.
func TestStaleRoots(t *testing.T) {
	c := newCluster(t, newDisks(t))
	m := c.mount(options{})
	bad := 1
	c.server.roots = func(r *format.NetRoots) {
		if bad > 0 {
			bad--
			r.FSRoot.Ref.Seq++
		}
	}
	lk := m.lock(lock.InodeGroup(0), format.LockRead)
	key := format.KeyInode(1)
	if got := m.get(lk, key); len(got) != format.InodeSizeV2 {
		t.Errorf("root inode of %d bytes", len(got))
	}
	if got := m.engine.Metrics().StaleReads; got != 1 {
		t.Errorf("%d stale reads", got)
	}
	if err := m.engine.Revoke(lk, format.LockRead, format.LockNull, 0); err != nil {
		t.Fatal(err)
	}
	m.engine.SyncAsync()
	for m.engine.Metrics().Commits == 0 {
		time.Sleep(time.Millisecond)
	}
	bad = 1000
	var buf [200]byte
	_, err := m.engine.Lookup(ctx, lk, &key, buf[:])
	if !errors.Is(err, syscall.EIO) || errors.Is(err, syscall.ESTALE) {
		t.Errorf("stale for ever: %v", err)
	}
	bad = 0
	m.close()
}

// TestMetaFlushFails lets the metadata device lose what a failed flush should
// have saved: the commit writes it again.
func TestMetaFlushFails(t *testing.T) {
	d := newDisks(t)
	c := newCluster(t, d)
	c.meta = d.meta.Opener("mount")
	w := newWorld(t, c.mount(options{}), 11)
	fails := 0
	d.meta.SetFault(func(f simdisk.FaultOp) error {
		if !f.Flush || f.Opener != "mount" || fails == 4 {
			return nil
		}
		fails++
		d.meta.Drop()
		return simdisk.ErrInjected
	})
	for range 100 {
		_ = w.operation()
	}
	w.m.sync()
	if got := w.m.engine.Metrics(); fails != 4 || got.CommitFailed != 4 || got.DataFlushFail != 0 {
		t.Errorf("%d flushes failed, metrics %+v", fails, got)
	}
	w.m.close()
	w.expectForest(c.server)
}

// flushFaults lets flushes of the data device fail while the returned counter
// is above 0, and counts it down.
func flushFaults(d *simdisk.Disk) *atomic.Int64 {
	left := new(atomic.Int64)
	d.SetFault(func(f simdisk.FaultOp) error {
		if f.Flush && left.Load() > 0 {
			left.Add(-1)
			return simdisk.ErrInjected
		}
		return nil
	})
	return left
}

// TestDataFlushFails checks who hears of file data that may be lost.
func TestDataFlushFails(t *testing.T) {
	d := newDisks(t)
	left := flushFaults(d.data)
	m := newMount(t, d, options{})
	use := func() { m.do(func(*txn.Tx) error { return nil }) }
	expect := func(what string, want error) {
		t.Helper()
		if err := m.engine.Sync(ctx); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
	}
	use()
	left.Store(1)
	expect("caller during the failure", syscall.EIO)
	expect("after it", nil)
	use()
	expect("next transaction", nil)

	use() // all who wait are told
	open := m.begin()
	left.Store(1)
	var waiting sync3
	for range 5 {
		waiting.run(func() error { return m.engine.Sync(ctx) })
	}
	time.Sleep(5 * time.Millisecond)
	open.Done()
	for _, err := range waiting.wait() {
		if !errors.Is(err, syscall.EIO) {
			t.Errorf("one of many: %v", err)
		}
	}
	use()
	expect("after many", nil)

	for _, again := range []bool{false, true} { // if nobody waits, the next one is told
		use()
		left.Store(1)
		if err := m.engine.Commit(ctx); err != nil {
			t.Errorf("commit: %v", err)
		}
		if again {
			use()
		}
		expect("next caller", syscall.EIO)
		expect("the one after that", nil)
	}
	left.Store(1) // an unused transaction has nothing to lose
	before := m.engine.Metrics().Commits
	m.engine.SyncAsync()
	for m.engine.Metrics().Commits == before {
		time.Sleep(time.Millisecond)
	}
	expect("nothing was written", nil)
	if got := m.engine.Metrics().DataFlushFail; got != 5 {
		t.Errorf("%d failures counted", got)
	}
	m.close()
}

// TestDataFlushNeverWorks checks that callers do not wait for ever for a data
// device that is broken for good, while the commit goes on.
func TestDataFlushNeverWorks(t *testing.T) {
	d := newDisks(t)
	left := flushFaults(d.data)
	m := newMount(t, d, options{})
	lk := m.lock(lock.InodeGroup(0), format.LockWrite)
	key := format.KeyInode(5)
	m.do(func(tx *txn.Tx) error { return tx.Create(lk, &key, []byte("five")) })
	left.Store(1 << 60)
	for range 3 {
		if err := m.engine.Sync(ctx); !errors.Is(err, syscall.EIO) {
			t.Errorf("sync: %v", err)
		}
	}
	if got := m.engine.Metrics(); got.Commits != 0 || got.DataFlushFail < 2 {
		t.Errorf("%d commits, %d failed flushes", got.Commits, got.DataFlushFail)
	}
	left.Store(0)
	if err := m.engine.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	m.do(func(*txn.Tx) error { return nil })
	m.sync()
	m.close()
	m = newMount(t, d, options{rid: 9})
	if got := m.get(m.lock(lock.InodeGroup(0), format.LockRead), key); got != "five" {
		t.Error(got)
	}
	m.close()
}

// TestCommitOrder watches what a commit does: all its writes, then a flush of
// both devices, then the message to the server.
func TestCommitOrder(t *testing.T) {
	d := newDisks(t)
	c := newCluster(t, d)
	c.meta = d.meta.Opener("mount")
	m := c.mount(options{})
	var mu sync.Mutex
	var events []string
	note := func(what string) {
		mu.Lock()
		defer mu.Unlock()
		if n := len(events); n == 0 || events[n-1] != what {
			events = append(events, what)
		}
	}
	watch := func(f simdisk.FaultOp) error {
		switch {
		case f.Opener == "meta":
		case f.Flush:
			note("flush " + f.Opener)
		case f.Write:
			note("write " + f.Opener)
		}
		return nil
	}
	d.meta.SetFault(watch)
	d.data.SetFault(watch)
	c.server.before = func(call string) error {
		if call != "roots" {
			note(call)
		}
		return nil
	}
	lk := m.lock(lock.InodeGroup(0), format.LockWrite)
	key := format.KeyInode(5)
	buf := block.AlignedBuf(format.SmallSize)
	defer block.FreeBuf(buf)
	clear(buf)
	copy(buf, "file data")
	m.do(func(tx *txn.Tx) error {
		start, _, err := tx.AllocData(1)
		if err == nil {
			err = block.WriteAt(d.data, buf, int64(start)<<format.SmallShift)
		}
		return errors.Join(err, tx.Create(lk, &key, nil))
	})
	m.sync()
	m.do(func(*txn.Tx) error { return nil }) // waits for the next transaction
	d.meta.SetFault(nil)
	d.data.SetFault(nil)
	mu.Lock()
	got := slices.Clone(events)
	mu.Unlock()
	if i, end := slices.Index(got, "flush data"), slices.Index(got, "commit"); i > 0 && i < end { // at any time between
		got = slices.Compact(slices.Delete(got, i, i+1))
		got = slices.Insert(got, 1, "flush data")
	}
	want := []string{"write data", "flush data", "write mount", "flush mount", "commit", "get"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	m.closeOnly()
}
