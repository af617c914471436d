// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package txn_test

import (
	"context"
	"errors"
	"log/slog"
	"syscall"
	"testing"
	"time"

	"scoutfs/block"
	"scoutfs/format"
	"scoutfs/lock"
	"scoutfs/txn"
)

var ctx = context.Background()

// mount is an engine with locks that are granted at once.
type mount struct {
	t      testing.TB
	disks  disks
	server *testServer
	engine *txn.Engine
	locks  *lock.Client
}

// options of a mount; the zero value is the default.
type options struct {
	rid      format.Rid
	budget   int64
	interval time.Duration
	cache    int64
	server   func(*testServer)
}

func newMount(t testing.TB, d disks, o options) *mount {
	t.Helper()
	m := &mount{t: t, disks: d}
	if o.rid == 0 {
		o.rid = 0x1234
	}
	if o.interval == 0 {
		o.interval = time.Hour
	}
	m.server = openServer(t, d.meta, o.rid)
	if o.server != nil {
		o.server(m.server)
	}
	e, err := txn.Open(ctx, txn.Options{
		Cache: block.NewCache(d.meta, block.CacheOptions{Fsid: testFsid, Budget: o.cache}), Data: d.data, Service: m.server, Rid: o.rid,
		ItemBudget: o.budget, CommitInterval: o.interval, RetryPause: time.Millisecond, Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	m.engine = e
	m.locks = grantAll(e)
	return m
}

// grantAll is a lock client whose requests are all granted.
func grantAll(r lock.Revoker) *lock.Client {
	var c *lock.Client
	var seq uint64
	c = lock.NewClient(lock.ClientOptions{
		Send: func(l format.NetLock) {
			if l.NewMode != format.LockRead && l.NewMode != format.LockNull {
				seq++
				l.WriteSeq = 0
			}
			go c.HandleGrant(l)
		},
		Respond: func(uint64, format.NetLock) {},
		Revoker: r,
	})
	return c
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

func (m *mount) close() {
	m.t.Helper()
	if err := m.engine.Close(ctx); err != nil {
		m.t.Fatal(err)
	}
	m.locks.Close()
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
