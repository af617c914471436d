// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package txn_test

import (
	"context"
	"errors"
	"log/slog"
	"math/bits"
	"sync"
	"syscall"
	"testing"
	"time"

	"scoutfs/block"
	"scoutfs/btree"
	"scoutfs/format"
	"scoutfs/lock"
	"scoutfs/txn"
)

var ctx = context.Background()

// cluster is a server and the mounts of one volume.
type cluster struct {
	t      testing.TB
	disks  disks
	meta   block.Device // what mounts use
	server *testServer
	events chan func() // of locks, one after the other

	mu     sync.Mutex
	mounts map[format.Rid]*mount
	locks  *lock.Server // used by events only
}

func newCluster(t testing.TB, d disks) *cluster {
	t.Helper()
	c := &cluster{t: t, disks: d, meta: d.meta, server: openServer(t, d.meta), events: make(chan func(), 1000), mounts: map[format.Rid]*mount{}}
	c.locks = lock.NewServer(func() uint64 { return c.server.seq.Add(1) })
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for fn := range c.events {
			fn()
		}
	}()
	t.Cleanup(func() {
		close(c.events)
		<-ended
	})
	return c
}

// deliver brings the lock server's messages to the mounts.
func (c *cluster) deliver(outs []lock.Out) {
	for _, o := range outs {
		c.mu.Lock()
		m := c.mounts[o.Rid]
		c.mu.Unlock()
		switch {
		case m == nil:
		case o.Kind == lock.Grant:
			m.locks.HandleGrant(o.Lock)
		default:
			m.locks.HandleInvalidate(0, o.Lock)
		}
	}
}

// mount is an engine and its locks.
type mount struct {
	t      testing.TB
	rid    format.Rid
	c      *cluster
	engine *txn.Engine
	locks  *lock.Client
}

// options of a mount; the zero value is the default.
type options struct {
	rid      format.Rid
	budget   int64
	interval time.Duration
	cache    int64
}

func (c *cluster) mount(o options) *mount {
	c.t.Helper()
	if o.rid == 0 {
		o.rid = 0x1234
	}
	if o.interval == 0 {
		o.interval = time.Hour
	}
	m := &mount{t: c.t, rid: o.rid, c: c}
	e, err := txn.Open(ctx, txn.Options{
		Cache:   block.NewCache(c.meta, block.CacheOptions{Fsid: testFsid, Budget: o.cache}),
		Data:    c.disks.data,
		Service: testClient{c.server, o.rid}, Rid: o.rid, ItemBudget: o.budget, CommitInterval: o.interval,
		RetryPause: time.Millisecond, Log: slog.New(slog.NewTextHandler(c.t.Output(), nil)),
	})
	if err != nil {
		c.t.Fatal(err)
	}
	m.engine = e
	m.locks = lock.NewClient(lock.ClientOptions{
		Send:    func(l format.NetLock) { c.events <- func() { c.deliver(c.locks.Request(o.rid, 1, l)) } },
		Respond: func(_ uint64, l format.NetLock) { c.events <- func() { c.deliver(c.locks.InvalidateDone(o.rid, l)) } },
		Revoker: e,
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mounts[o.rid] = m
	return m
}

// newMount is the only mount of a volume.
func newMount(t testing.TB, d disks, o options) *mount {
	t.Helper()
	return newCluster(t, d).mount(o)
}

func (m *mount) lock(r lock.Range, mode format.LockMode) *lock.Lock {
	m.t.Helper()
	lk, err := m.locks.Acquire(ctx, r, mode)
	if err != nil {
		m.t.Fatal(err)
	}
	return lk
}

func (m *mount) begin() *txn.Tx {
	m.t.Helper()
	tx, err := m.engine.Begin(ctx, txn.Allocating)
	if err != nil {
		m.t.Fatal(err)
	}
	return tx
}

// do runs one operation.
func (m *mount) do(fn func(tx *txn.Tx) error) {
	m.t.Helper()
	tx := m.begin()
	if err := fn(tx); err != nil {
		m.t.Fatal(err)
	}
	tx.Done()
}

func (m *mount) sync() {
	m.t.Helper()
	if err := m.engine.Sync(ctx); err != nil {
		m.t.Fatal(err)
	}
}

// close unmounts and checks the volume.
func (m *mount) close() {
	m.t.Helper()
	m.closeOnly()
	m.c.check()
}

func (m *mount) closeOnly() {
	m.t.Helper()
	if err := m.engine.Close(ctx); err != nil {
		m.t.Fatal(err)
	}
	m.locks.Close()
	m.leave()
}

// leave makes the lock server forget the mount.
func (m *mount) leave() {
	m.c.mu.Lock()
	delete(m.c.mounts, m.rid)
	m.c.mu.Unlock()
	m.c.events <- func() { m.c.deliver(m.c.locks.Remove(m.rid)) }
}

// check runs the offline checker and looks at what it does not know: whether
// readers would find all items of the log trees.
func (c *cluster) check() {
	c.t.Helper()
	checkVolume(c.t, c.disks)
	for _, lt := range c.server.logTrees(c.t) {
		c.checkBloom(&lt)
	}
}

func (c *cluster) checkBloom(lt *format.LogTrees) {
	c.t.Helper()
	if lt.BloomRef.IsNull() {
		if lt.ItemRoot.Height != 0 {
			c.t.Errorf("log tree %d has no bloom block", lt.Nr)
		}
		return
	}
	b, err := c.server.cache.Read(lt.BloomRef, txn.BloomKind)
	if err != nil {
		c.t.Fatal(err)
	}
	defer b.Release()
	bloom, _ := format.Load[format.BloomBlock](b.Bytes())
	total := 0
	for _, x := range bloom.Bits {
		total += bits.OnesCount8(x)
	}
	if uint64(total) != bloom.TotalSet {
		c.t.Errorf("bloom block has %d bits set, says %d", total, bloom.TotalSet)
	}
	err = btree.Walk(c.server.cache, &lt.ItemRoot, &format.Key{}, &format.KeyMax, func(it *btree.Item) error {
		r := rangeOf(it.Key)
		for _, n := range format.BloomBitNrs(&r.Start) {
			if bloom.Bits[n/8]&(1<<(n%8)) == 0 {
				c.t.Errorf("log tree %d: no bloom bit for %v", lt.Nr, it.Key)
			}
		}
		return nil
	})
	if err != nil {
		c.t.Fatal(err)
	}
}

// rangeOf is the range of the lock that covers a key.
func rangeOf(k format.Key) lock.Range {
	switch k.Zone {
	case format.ZoneFS:
		return lock.InodeGroup(format.Ino(k.First))
	case format.ZoneInodeIndex:
		return lock.Index(k.Type, k.Second)
	case format.ZoneOrphan:
		return lock.Orphans()
	case format.ZoneQuota:
		return lock.Quota()
	case format.ZoneTotl:
		return lock.Totl()
	}
	return lock.XattrIndex()
}

// get returns an item's value, or "-" if there is none.
func (m *mount) get(lk *lock.Lock, key format.Key) string {
	m.t.Helper()
	var buf [format.MaxValue]byte
	n, err := m.engine.Lookup(ctx, lk, &key, buf[:])
	switch {
	case errors.Is(err, syscall.ENOENT):
		return "-"
	case err != nil:
		m.t.Fatal(err)
	}
	return string(buf[:n])
}

func TestCommitAndRemount(t *testing.T) {
	d := newDisks(t)
	m := newMount(t, d, options{})
	lk := m.lock(lock.InodeGroup(2048), format.LockWrite)
	key := format.KeyInode(2050)
	if got := m.get(lk, key); got != "-" {
		t.Fatal(got)
	}
	m.do(func(tx *txn.Tx) error { return tx.Create(lk, &key, []byte("one")) })
	if got := m.get(lk, key); got != "one" {
		t.Fatal(got)
	}
	m.sync()
	m.do(func(tx *txn.Tx) error { return tx.Update(lk, &key, []byte("two")) })
	m.close()

	m = newMount(t, d, options{rid: 77})
	lk = m.lock(lock.InodeGroup(2048), format.LockWrite)
	if got := m.get(lk, key); got != "two" {
		t.Fatal(got)
	}
	m.do(func(tx *txn.Tx) error { return tx.Delete(lk, &key) })
	m.close()
	m = newMount(t, d, options{rid: 78})
	if got := m.get(m.lock(lock.InodeGroup(2048), format.LockRead), key); got != "-" {
		t.Fatal(got)
	}
	if got := m.get(m.lock(lock.InodeGroup(1), format.LockRead), format.KeyInode(1)); len(got) != format.InodeSizeV2 {
		t.Fatalf("root inode of %d bytes", len(got))
	}
	m.close()
}
