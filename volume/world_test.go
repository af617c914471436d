// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package volume_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"scoutfs/block"
	"scoutfs/check"
	"scoutfs/format"
	"scoutfs/internal/simdisk"
	"scoutfs/lock"
	"scoutfs/mkfs"
	"scoutfs/quorum"
	"scoutfs/rpc"
	"scoutfs/server"
	"scoutfs/txn"
	"scoutfs/volume"
)

const (
	diskSize  = 24 << 30
	testCache = 16 << 20 // bytes of blocks; there are many worlds in one process
)

// testWriter sends log lines to the test.
type testWriter struct{ t testing.TB }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Helper()
	w.t.Logf("%s", b)
	return len(b), nil
}

// world is a volume on simulated disks with a server in this process.
type world struct {
	t          testing.TB
	meta, data *simdisk.Disk
	super      *format.Super
	srv        *server.Server
	term       format.Term
	log        *slog.Logger
}

func newWorld(t testing.TB, vers uint64) *world {
	t.Helper()
	return newSized(t, vers, diskSize, diskSize)
}

func newSized(t testing.TB, vers uint64, metaSize, dataSize int64) *world {
	t.Helper()
	meta, data := simdisk.New(metaSize, simdisk.Options{Name: "meta"}), simdisk.New(dataSize, simdisk.Options{Name: "data"})
	_, err := mkfs.Format(meta, data, mkfs.Options{
		Slots: map[int]netip.AddrPort{0: netip.MustParseAddrPort("127.0.0.1:12345")}, Version: vers, AllowSmall: true, Force: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	return openWorld(t, meta, data)
}

// openWorld starts a server on disks that hold a volume.
func openWorld(t testing.TB, meta, data *simdisk.Disk) *world {
	t.Helper()
	w := &world{t: t, meta: meta, data: data, log: slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelWarn}))}
	w.start()
	return w
}

// start starts a server, as after the old one has stopped or died.
func (w *world) start() {
	w.t.Helper()
	w.super = readSuper(w.t, w.meta)
	w.term++
	srv, err := server.Start(context.Background(), server.Options{
		Meta: w.meta, Data: w.data, Super: w.super, Rid: 1, Term: w.term,
		Suspects: func() ([]quorum.Suspect, bool, error) { return nil, false, nil }, Log: w.log, CacheBudget: testCache,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.srv = srv
	w.t.Cleanup(func() {
		srv.Stop()
		runtime.GC() // gives back what caches hold outside of the heap
	})
}

func readSuper(t testing.TB, d block.Device) *format.Super {
	t.Helper()
	buf := block.AlignedBuf(4096)
	defer block.FreeBuf(buf)
	if err := block.ReadAt(d, buf, int64(format.SuperBlkno)*4096); err != nil {
		t.Fatal(err)
	}
	s, err := format.VerifySuper(buf, d.Name())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// service is a local connection with the call that volume adds.
type service struct{ *server.Local }

func (s service) OpenInoMap(ctx context.Context, group uint64) (bits [16]uint64, err error) {
	args := format.NetOpenInoMapArgs{Group: group}
	resp, err := s.Call(ctx, format.CmdOpenInoMap, format.Bytes(&args))
	if err != nil {
		return bits, err
	}
	m, ok := format.Load[format.NetOpenInoMap](resp)
	if !ok {
		return bits, fmt.Errorf("open map of %d bytes", len(resp))
	}
	return m.Bits, nil
}

// mount is one mount of a world.
type mount struct {
	w     *world
	rid   format.Rid
	local *server.Local
	cache *block.Cache
	eng   *txn.Engine
	locks *lock.Client
	vol   atomic.Pointer[volume.Volume]
	tun   *volume.Tunables
}

// mountOptions changes what a mount of a test is made with.
type mountOptions struct {
	vol        func(o *volume.Options)
	budget     int64        // of items
	cache      int64        // of blocks
	meta, data block.Device // default: the world's disks
}

func (w *world) mount(opts mountOptions) *mount {
	w.t.Helper()
	m := &mount{w: w, rid: format.Rid(rand.Uint64() | 1), tun: new(volume.Tunables)}
	if err := m.open(opts); err != nil {
		w.t.Fatalf("mount: %v", err)
	}
	return m
}

// Revoke lets the lock client be made before the volume.
func (m *mount) Revoke(lk *lock.Lock, old, new format.LockMode, dirty uint64) error {
	if v := m.vol.Load(); v != nil {
		return v.Revoke(lk, old, new, dirty)
	}
	return m.eng.Revoke(lk, old, new, dirty)
}

func (m *mount) open(opts mountOptions) (err error) {
	w := m.w
	m.locks = lock.NewClient(lock.ClientOptions{
		Send: func(l format.NetLock) {
			m.local.Send(format.CmdLock, format.Bytes(&l), func(resp []byte, err error) {
				if g, ok := format.Load[format.NetLock](resp); ok && err == nil {
					m.locks.HandleGrant(g)
				}
			})
		},
		Respond: func(id uint64, l format.NetLock) { m.local.Respond(id, format.Bytes(&l), nil) },
		Revoker: m, Log: w.log,
	})
	handle := map[format.NetCmd]rpc.Handler{
		format.CmdLock: func(id uint64, req []byte, _ func([]byte, error)) {
			l, _ := format.Load[format.NetLock](req)
			m.locks.HandleInvalidate(id, l)
		},
		format.CmdOpenInoMap: func(_ uint64, req []byte, reply func([]byte, error)) {
			args, _ := format.Load[format.NetOpenInoMapArgs](req)
			r := format.NetOpenInoMap{Args: args}
			if v := m.vol.Load(); v != nil {
				r.Bits = v.OpenMap(args.Group)
			}
			reply(format.Bytes(&r), nil)
		},
		format.CmdSyncLogTrees: func(_ uint64, _ []byte, reply func([]byte, error)) {
			go func() { reply(nil, m.eng.Sync(context.Background())) }()
		},
	}
	if m.local, err = w.srv.Local(m.rid, 0, true, handle); err != nil {
		return err
	}
	if opts.cache == 0 {
		opts.cache = testCache
	}
	if opts.meta == nil {
		opts.meta, opts.data = w.meta, w.data
	}
	m.cache = block.NewCache(opts.meta, block.CacheOptions{Fsid: w.super.Hdr.Fsid, Budget: opts.cache, Log: w.log})
	m.eng, err = txn.Open(context.Background(), txn.Options{
		Cache: m.cache, Data: opts.data, Service: m.local, Rid: m.rid, ItemBudget: opts.budget,
		CommitInterval: 200 * time.Millisecond, RetryPause: time.Millisecond, Log: w.log,
	})
	if err != nil {
		return err
	}
	o := volume.Options{
		Engine: m.eng, Locks: m.locks, Service: service{m.local}, Cache: m.cache, Data: opts.data,
		Super: *w.super, Rid: m.rid, Tunables: m.tun, NoOrphanScan: true, Log: w.log,
	}
	if opts.vol != nil {
		opts.vol(&o)
	}
	v, err := volume.Open(context.Background(), o)
	if err != nil {
		return err
	}
	m.vol.Store(v)
	return nil
}

func (m *mount) v() *volume.Volume { return m.vol.Load() }

// close unmounts.
func (m *mount) close() {
	m.w.t.Helper()
	ctx := context.Background()
	if err := m.v().Close(ctx); err != nil {
		m.w.t.Errorf("close volume: %v", err)
	}
	m.locks.Shutdown()
	if err := m.eng.Close(ctx); err != nil {
		m.w.t.Errorf("close engine: %v", err)
	}
	m.locks.Close()
	if err := m.local.Farewell(ctx); err != nil {
		m.w.t.Errorf("farewell: %v", err)
	}
}

// kill ends a mount as if its host had died, and has the server take back what
// it left.
func (m *mount) kill() {
	m.w.t.Helper()
	m.local.Lose()
	m.eng.Abort()
	_ = m.v().Close(context.Background())
	m.locks.Close()
	if err := m.w.srv.Fences().MarkFenced(m.rid); err != nil {
		m.w.t.Fatal(err)
	}
	eventually(m.w.t, "the reclaim", func() bool { return len(m.w.srv.Fences().List()) == 0 })
}

// check runs the offline checker; no mount may be changing the volume.
func (w *world) check() {
	w.t.Helper()
	r, err := check.Run(context.Background(), w.meta, w.data, check.Options{})
	if err != nil {
		w.t.Errorf("check: %v", err)
		return
	}
	for i, f := range r.Findings {
		if f.Severity != check.Oddity && i < 20 {
			w.t.Errorf("check: %v", f)
		}
	}
}
