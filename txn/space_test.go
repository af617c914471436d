// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package txn_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"scoutfs/alloc"
	"scoutfs/block"
	"scoutfs/btree"
	"scoutfs/format"
	"scoutfs/lock"
	"scoutfs/txn"
)

// TestLowMeta checks that allocating operations fail and others do not when
// the server says that metadata is low.
func TestLowMeta(t *testing.T) {
	c := newCluster(t, newDisks(t))
	c.server.tune = func(lt *format.LogTrees) { lt.MetaAvail.Flags |= format.AllocFlagLow }
	m := c.mount(options{})
	if _, err := m.engine.Begin(ctx, txn.Allocating); err != syscall.ENOSPC {
		t.Errorf("allocating: %v", err)
	}
	tx, err := m.engine.Begin(ctx, txn.Freeing)
	if err != nil {
		t.Fatal(err)
	}
	tx.Done()
	m.close()
}

// TestNoSpaceAtOpen opens an engine where the server has no metadata blocks
// for it. Other errors are retried, and so is ENOSPC of later transactions.
func TestNoSpaceAtOpen(t *testing.T) {
	c := newCluster(t, newDisks(t))
	errs := []error{errTest, syscall.ENOSPC}
	c.server.before = func(call string) error {
		if call != "get" || len(errs) == 0 {
			return nil
		}
		err := errs[0]
		errs = errs[1:]
		return err
	}
	o := txn.Options{
		Cache: block.NewCache(c.meta, block.CacheOptions{Fsid: testFsid}), Data: c.disks.data,
		Service: testClient{c.server, 5}, Rid: 5, RetryPause: time.Millisecond,
	}
	_, err := txn.Open(ctx, o)
	if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "metadata") || !strings.Contains(err.Error(), "space") {
		t.Errorf("open: %v", err)
	}
	m := c.mount(options{})
	errs = []error{syscall.ENOSPC, syscall.ENOSPC}
	m.do(func(*txn.Tx) error { return nil })
	m.sync()
	m.do(func(*txn.Tx) error { return nil })
	if len(errs) != 0 {
		t.Errorf("%d errors left", len(errs))
	}
	m.close()
}

// TestMetaRoom dirties more than one transaction can write.
func TestMetaRoom(t *testing.T) {
	c := newCluster(t, newDisks(t))
	m := c.mount(options{budget: 8 << 20})
	lk := m.lock(lock.InodeGroup(0), format.LockWrite)
	val := make([]byte, 800)
	for i := range uint64(12000) {
		key := format.KeyReaddir(format.Ino(2+i%1000), i)
		m.do(func(tx *txn.Tx) error { return tx.Create(lk, &key, val) })
		if got := m.engine.Metrics(); got.ItemBytes > got.ItemBudget+(1<<20) {
			t.Fatalf("%d bytes cached, budget %d", got.ItemBytes, got.ItemBudget)
		}
	}
	if m.engine.Metrics().Commits == 0 {
		t.Error("no commit although the budget is full of dirty items")
	}
	m.close()
}

// TestFewBlocks lets the server hand out few metadata blocks: operations must
// wait for commits, and no commit may run out of them.
func TestFewBlocks(t *testing.T) {
	c := newCluster(t, newDisks(t))
	c.server.low, c.server.target = 400, 400
	w := newWorld(t, c.mount(options{}), rand.Uint64())
	w.inos, w.big = 200000, true
	for range 2500 {
		_ = w.operation()
	}
	got := w.m.engine.Metrics()
	if got.CommitFailed != 0 || got.Commits < 3 {
		t.Errorf("%d commits, %d failed", got.Commits, got.CommitFailed)
	}
	w.m.close()
	w.expectForest(c.server)
}

// TestManyHolders lets as many operations in at once as come in, where the
// server gives few blocks: the commit has room for all that they do.
func TestManyHolders(t *testing.T) {
	c := newCluster(t, newDisks(t))
	c.server.low, c.server.target = 500, 500
	m := c.mount(options{})
	const perTx = 8
	var data format.Blkno
	m.do(func(tx *txn.Tx) (err error) {
		data, _, err = tx.AllocData(10000)
		return err
	})
	m.sync()
	rounds := 0
	for ino := format.Ino(1024); rounds < 4; rounds++ {
		var open []*txn.Tx
		for len(open) < 300 {
			patient, cancel := context.WithCancel(ctx)
			defer cancel()
			timer := time.AfterFunc(20*time.Millisecond, cancel)
			tx, err := m.engine.Begin(patient, txn.Allocating)
			inTime := timer.Stop()
			if err != nil {
				break
			}
			if !inTime { // it came in, but its context has ended
				tx.Undo()
				continue
			}
			open = append(open, tx)
		}
		t.Logf("%d at once", len(open))
		if len(open) < 2 || len(open) > 100 {
			t.Errorf("%d operations at once", len(open))
		}
		for i, tx := range open {
			for range perTx {
				ino += 1024
				key := format.KeyInode(ino)
				lk, err := m.locks.Acquire(ctx, lock.InodeGroup(ino), format.LockWrite)
				if err != nil {
					t.Fatal(err)
				}
				err = errors.Join(tx.Create(lk, &key, make([]byte, 500)), tx.AddSrch(format.SrchEntry{Hash: uint64(ino), Ino: ino, ID: 1}))
				if err != nil {
					t.Fatal(err)
				}
			}
			data += 2
			if err := tx.FreeData(data, 1); err != nil && (err != syscall.ENOBUFS || i == 0) {
				t.Fatal(err)
			}
		}
		for _, tx := range open {
			tx.Done()
		}
		m.sync()
		m.do(func(*txn.Tx) error { return nil })
	}
	if got := m.engine.Metrics(); got.CarriedOver != 0 || got.CommitFailed != 0 {
		t.Errorf("%+v", got)
	}
	m.closeOnly() // no file owns the data
}

// TestData allocates data blocks until there are none, and frees them.
func TestData(t *testing.T) {
	c := newCluster(t, newDisks(t))
	low := false
	c.server.tune = func(lt *format.LogTrees) {
		lt.DataAvail.Flags = 0
		if low {
			lt.DataAvail.Flags |= format.AllocFlagLow
		}
	}
	m := c.mount(options{})
	total := m.engine.Metrics().DataAvail
	tx := m.begin()
	start, n, err := tx.AllocData(100)
	if err != nil || n != 100 {
		t.Fatal(n, err)
	}
	if _, _, err := tx.AllocData(5000); err != nil {
		t.Fatal(err)
	}
	tx.Undo()
	if got := m.engine.Metrics().DataAvail; got != total {
		t.Errorf("%d blocks after undo, want %d", got, total)
	}
	tx = m.begin()
	again, n, err := tx.AllocData(100)
	if err != nil || again != start || n != 100 {
		t.Errorf("after undo: %d %d %v, want %d", again, n, err, start)
	}
	if err := tx.FreeData(again, 100); err != nil {
		t.Fatal(err)
	}
	tx.Undo()
	tx = m.begin()
	if start, n, err = tx.AllocData(3000); err != nil {
		t.Fatal(err)
	}
	if err := tx.FreeData(start, n); err != nil {
		t.Fatal(err)
	}
	tx.Done()
	var held atomic.Bool
	held.Store(true)
	c.server.before = func(call string) error {
		if call == "get" && held.Load() {
			return errTest // it would take the freed blocks away
		}
		return nil
	}
	m.sync()
	if got := freedBlocks(t, c.server); got != n {
		t.Errorf("%d blocks freed, want %d", got, n)
	}
	low = true
	held.Store(false)
	m.exhaust(t)
	m.closeOnly()
}

// TestFreedData fills the data device and frees something: a commit gives it
// back. If commits do not, callers are told soon.
func TestFreedData(t *testing.T) {
	c := newCluster(t, newDisks(t))
	var hide bool // guarded by the server's mutex, as tune is called under it
	c.server.tune = func(lt *format.LogTrees) {
		lt.DataAvail.Flags = 0
		if c.server.next.DataAlloc.TotalLen == 0 {
			lt.DataAvail.Flags = format.AllocFlagLow
		}
		if hide {
			lt.DataAvail = format.AllocRoot{Flags: format.AllocFlagLow}
		}
	}
	m := c.mount(options{})
	tx := m.begin()
	start, n, err := tx.AllocData(5000)
	if err != nil {
		t.Fatal(err)
	}
	tx.Done()
	m.exhaust(t)
	m.sync() // exhaust has tried a commit, in vain
	m.do(func(tx *txn.Tx) error { return tx.FreeData(start, n-100) })
	tries := func() (tries int, err error) {
		for tries = 1; tries < 10; tries++ {
			tx := m.begin()
			got, _, err := tx.AllocData(100)
			if err == nil && (got < start || got >= start+format.Blkno(n)) {
				t.Errorf("block %d is not a freed one", got)
			}
			tx.Undo()
			if err != syscall.ENOBUFS {
				return tries, err
			}
		}
		return tries, err
	}
	if n, err := tries(); n != 2 || err != nil {
		t.Errorf("after a free: %v at try %d", err, n)
	}
	m.exhaust(t)
	if n, err := tries(); n != 1 || err != syscall.ENOSPC {
		t.Errorf("after a commit that brought nothing: %v at try %d", err, n)
	}
	empty := func() { m.do(func(*txn.Tx) error { return nil }); m.sync() }
	empty()
	c.server.mu.Lock()
	hide = true
	c.server.mu.Unlock()
	for i := range format.Blkno(3) { // the server keeps what it gets
		last := start + format.Blkno(n) - 1 - i
		m.do(func(tx *txn.Tx) error { return tx.FreeData(last, 1) })
		if n, err := tries(); n != 2 || err != syscall.ENOSPC {
			t.Errorf("free %d, kept by the server: %v at try %d", i, err, n)
		}
		m.do(func(tx *txn.Tx) error { return tx.FreeData(last-10, 1) })
		if n, err := tries(); n != 1 || err != syscall.ENOSPC {
			t.Errorf("after a commit that brought nothing: %v at try %d", err, n)
		}
		m.sync()
	}
	for i := range 10 { // the operation's own frees, which it takes back
		tx := m.begin()
		if err := tx.FreeData(start, 1); err != nil {
			t.Fatal(err)
		}
		_, _, err := tx.AllocData(1)
		tx.Undo()
		if err == syscall.ENOSPC {
			break
		}
		if i == 5 {
			t.Fatalf("tried for ever: %v", err)
		}
	}
	m.closeOnly()
}

// TestDataFromOthers finds no data blocks in a transaction that was opened while
// another mount had them all. The next one has some.
func TestDataFromOthers(t *testing.T) {
	c := newCluster(t, newDisks(t))
	var kept format.AllocRoot // guarded by the server's mutex, as tune is called under it
	var reclaimed bool
	c.server.tune = func(lt *format.LogTrees) {
		if !reclaimed {
			kept, lt.DataAvail = lt.DataAvail, format.AllocRoot{Flags: format.AllocFlagLow}
		} else if kept.TotalLen > 0 {
			lt.DataAvail, kept = kept, format.AllocRoot{}
		}
	}
	m := c.mount(options{})
	c.server.mu.Lock()
	reclaimed = true
	c.server.mu.Unlock()
	var err error
	for range 2 {
		tx := m.begin()
		_, _, err = tx.AllocData(100)
		tx.Undo()
		if err != syscall.ENOBUFS {
			break
		}
	}
	if err != nil {
		t.Errorf("the server has data blocks, but: %v", err)
	}
	m.closeOnly()
}

// exhaust allocates everything that the mount has.
func (m *mount) exhaust(t *testing.T) {
	t.Helper()
	for range 1000 {
		tx := m.begin()
		_, _, err := tx.AllocData(1 << 20)
		tx.Done()
		switch {
		case err == syscall.ENOSPC:
			return
		case err != nil && err != syscall.ENOBUFS:
			t.Fatal(err)
		}
	}
	t.Error("data never ran out")
}

// freedBlocks is how many data blocks the stored log trees list as freed.
func freedBlocks(t *testing.T, s *testServer) (sum uint64) {
	for _, lt := range s.logTrees(t) {
		tx := btree.Tx{Cache: s.cache}
		err := alloc.WalkExtents(&tx, &lt.DataFreed, func(_ format.Blkno, n uint64) error {
			sum += n
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return sum
}

// TestAbort ends everything that waits.
func TestAbort(t *testing.T) {
	c := newCluster(t, newDisks(t))
	m := c.mount(options{})
	lk := m.lock(lock.InodeGroup(0), format.LockWrite)
	key := format.KeyInode(3)
	m.do(func(tx *txn.Tx) error { return tx.Create(lk, &key, nil) })
	c.server.before = func(call string) error {
		if call == "commit" {
			return errTest
		}
		return nil
	}
	open := m.begin()
	var waiting sync3
	waiting.run(func() error { return m.engine.Sync(ctx) })
	waiting.run(func() error { return m.engine.Revoke(lk, format.LockWrite, format.LockNull, m.engine.Seq()) })
	for m.engine.Metrics().CommitFailed == 0 {
		time.Sleep(time.Millisecond)
		if open != nil {
			open.Done()
			open = nil
		}
	}
	waiting.run(func() error {
		_, err := m.engine.Begin(ctx, txn.Allocating)
		return err
	})
	time.Sleep(5 * time.Millisecond)
	writes := c.disks.meta.Counters().Writes
	m.engine.Abort()
	for _, err := range waiting.wait() {
		if err != syscall.ENOLINK {
			t.Errorf("waiting call: %v", err)
		}
	}
	var buf [8]byte
	_, look := m.engine.Lookup(ctx, lk, &key, buf[:])
	_, begin := m.engine.Begin(ctx, txn.Freeing)
	for i, err := range []error{look, begin, m.engine.Sync(ctx), m.engine.Close(ctx)} {
		if !errors.Is(err, syscall.ENOLINK) {
			t.Errorf("call %d after abort: %v", i, err)
		}
	}
	if got := c.disks.meta.Counters().Writes; got != writes {
		t.Errorf("%d writes after abort", got-writes)
	}
}

// sync3 collects the errors of calls that wait.
type sync3 struct {
	n    int
	errs chan error
}

func (s *sync3) run(fn func() error) {
	if s.errs == nil {
		s.errs = make(chan error, 10)
	}
	s.n++
	go func() { s.errs <- fn() }()
}

func (s *sync3) wait() (errs []error) {
	for range s.n {
		errs = append(errs, <-s.errs)
	}
	return errs
}

// TestInterrupt ends waiting calls by their contexts.
func TestInterrupt(t *testing.T) {
	c := newCluster(t, newDisks(t))
	m := c.mount(options{})
	open := m.begin()
	short, cancel := context.WithTimeout(ctx, 5*time.Millisecond)
	defer cancel()
	if err := m.engine.Sync(short); err != syscall.EINTR {
		t.Errorf("sync: %v", err)
	}
	for {
		tx, err := m.engine.Begin(short, txn.Allocating)
		if err == nil { // the commit has not begun yet
			tx.Done()
			time.Sleep(time.Millisecond)
			continue
		}
		if err != syscall.EINTR {
			t.Errorf("begin: %v", err)
		}
		break
	}
	open.Done()
	m.sync()
	m.close()
	if _, err := m.engine.Begin(ctx, txn.Allocating); err != syscall.ESHUTDOWN {
		t.Errorf("begin after close: %v", err)
	}
	if err := m.engine.Sync(ctx); err != nil {
		t.Errorf("sync after close: %v", err)
	}
}

// TestSharedCommit checks that callers of Sync share commits.
func TestSharedCommit(t *testing.T) {
	m := newMount(t, newDisks(t), options{})
	open := m.begin()
	var waiting sync3
	for range 8 {
		waiting.run(func() error { return m.engine.Sync(ctx) })
	}
	time.Sleep(2 * time.Millisecond)
	open.Done()
	for _, err := range waiting.wait() {
		if err != nil {
			t.Error(err)
		}
	}
	m.do(func(*txn.Tx) error { return nil }) // waits for the next transaction
	if got := m.engine.Metrics().Commits; got != 1 {
		t.Errorf("%d commits for 8 callers at once", got)
	}
	m.sync()
	m.close()
}

// TestSyncAsyncWhileOpening asks for a commit while the next transaction is
// being opened: that one is committed too.
func TestSyncAsyncWhileOpening(t *testing.T) {
	c := newCluster(t, newDisks(t))
	m := c.mount(options{})
	asked, first := make(chan bool), m.engine.Seq()
	c.server.before = func(call string) error {
		if call == "get" && asked != nil {
			m.engine.SyncAsync()
			close(asked)
			asked = nil
		}
		return nil
	}
	wait := asked
	m.engine.SyncAsync()
	<-wait
	for m.engine.Metrics().Commits < 2 {
		time.Sleep(time.Millisecond)
	}
	m.do(func(*txn.Tx) error { return nil }) // waits for the next transaction
	if got := m.engine.Metrics().Commits; got != 2 || m.engine.Seq() == first {
		t.Errorf("%d commits", got)
	}
	m.close()
}

// TestInterval lets time pass: a transaction ends after its interval, also one
// that nobody used.
func TestInterval(t *testing.T) {
	d := newDisks(t)
	s := openServer(t, d.meta)
	synctest.Test(t, func(t *testing.T) {
		e, err := txn.Open(ctx, txn.Options{
			Cache: block.NewCache(d.meta, block.CacheOptions{Fsid: testFsid}), Data: d.data, Service: testClient{s, 5}, Rid: 5,
		})
		if err != nil {
			t.Fatal(err)
		}
		first := e.Seq()
		time.Sleep(9 * time.Second)
		if got := e.Seq(); got != first {
			t.Errorf("seq %d after 9 s, want %d", got, first)
		}
		time.Sleep(22 * time.Second)
		synctest.Wait()
		if got := e.Metrics().Commits; got != 3 || e.Seq() <= first {
			t.Errorf("%d commits after 31 s, seq %d", got, e.Seq())
		}
		if err := e.Close(ctx); err != nil {
			t.Fatal(err)
		}
	})
}

// TestRetryPause checks that a failing commit is repeated after the pause, for
// ever, and that only what failed is repeated.
func TestRetryPause(t *testing.T) {
	d := newDisks(t)
	s := openServer(t, d.meta)
	var failing atomic.Value
	failing.Store("")
	s.before = func(call string) error {
		if call == failing.Load() {
			return errTest
		}
		return nil
	}
	synctest.Test(t, func(t *testing.T) {
		e, err := txn.Open(ctx, txn.Options{
			Cache: block.NewCache(d.meta, block.CacheOptions{Fsid: testFsid}), Data: d.data, Service: testClient{s, 5}, Rid: 5,
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, call := range []string{"commit", "get"} {
			failing.Store(call)
			gets, commits := s.count("get"), s.count("commit")
			e.SyncAsync()
			time.Sleep(time.Minute + time.Second)
			synctest.Wait()
			gets, commits = s.count("get")-gets, s.count("commit")-commits
			if call == "commit" && (commits != 31 || gets != 0) || call == "get" && (commits != 1 || gets != 31) {
				t.Errorf("%s fails for 61 s: %d commits, %d gets", call, commits, gets)
			}
			failing.Store("")
			time.Sleep(3 * time.Second)
			synctest.Wait()
		}
		if err := e.Close(ctx); err != nil {
			t.Fatal(err)
		}
	})
}

// TestStarved lets the server give too little space: commits must not spin.
func TestStarved(t *testing.T) {
	d := newDisks(t)
	s := openServer(t, d.meta)
	avail := format.AllocRoot{}
	hide := true
	s.tune = func(lt *format.LogTrees) {
		if hide {
			avail, lt.DataAvail = lt.DataAvail, format.AllocRoot{}
		} else if avail.TotalLen > 0 {
			lt.DataAvail = avail
		}
	}
	synctest.Test(t, func(t *testing.T) {
		e, err := txn.Open(ctx, txn.Options{
			Cache: block.NewCache(d.meta, block.CacheOptions{Fsid: testFsid}), Data: d.data, Service: testClient{s, 5}, Rid: 5,
		})
		if err != nil {
			t.Fatal(err)
		}
		short, cancel := context.WithTimeout(ctx, 20*time.Second)
		defer cancel()
		if _, err := e.Begin(short, txn.Allocating); err != syscall.EINTR {
			t.Errorf("begin: %v", err)
		}
		if got := e.Metrics().Commits; got < 5 || got > 15 {
			t.Errorf("%d commits in 20 s without space", got)
		}
		if err := e.Close(ctx); err != nil {
			t.Fatal(err)
		}
	})
}
