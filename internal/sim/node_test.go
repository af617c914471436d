// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package sim_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"scoutfs/block"
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
	cacheSize = 16 << 20
)

var root = &volume.Caller{}

// logWriter sends the lines of a node to the test.
type logWriter struct{ t testing.TB }

func (w logWriter) Write(b []byte) (int, error) {
	w.t.Logf("%s", b)
	return len(b), nil
}

// disks are the two devices of a volume.
type disks [2]block.Device

const (
	metaDisk = iota
	dataDisk
)

// newDisks returns a new volume.
func newDisks(t testing.TB) (d [2]*simdisk.Disk) {
	t.Helper()
	return sizedDisks(t, diskSize, diskSize)
}

func sizedDisks(t testing.TB, meta, data int64) (d [2]*simdisk.Disk) {
	t.Helper()
	d[metaDisk] = simdisk.New(meta, simdisk.Options{Name: "meta"})
	d[dataDisk] = simdisk.New(data, simdisk.Options{Name: "data"})
	_, err := mkfs.Format(d[metaDisk], d[dataDisk], mkfs.Options{
		Slots: map[int]netip.AddrPort{0: netip.MustParseAddrPort("127.0.0.1:12345")}, AllowSmall: true, Force: true,
		Fsid: 0x5c07f5, UUID: [16]byte{1}, Time: time.Unix(1_000_000_000, 0),
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func readSuper(d block.Device) (*format.Super, error) {
	buf := block.AlignedBuf(format.SmallSize)
	defer block.FreeBuf(buf)
	if err := block.ReadAt(d, buf, int64(format.SuperBlkno)<<format.SmallShift); err != nil {
		return nil, err
	}
	return format.VerifySuper(buf, d.Name())
}

// node is a server and a mount of it in this process.
type node struct {
	d     disks
	log   *slog.Logger
	super *format.Super
	rid   format.Rid
	srv   *server.Server
	local *server.Local
	locks *lock.Client
	eng   *txn.Engine
	vol   atomic.Pointer[volume.Volume]
}

// startNode starts a node on disks that hold a volume. Mounts that the volume
// still knows are dead: they are fenced and reclaimed as soon as they are found. rng
// gives the node what would be random.
func startNode(t testing.TB, d disks, rng *rand.Rand) (*node, error) {
	n := &node{d: d, rid: format.Rid(rng.Uint64() | 1)}
	n.log = slog.New(slog.NewTextHandler(logWriter{t}, &slog.HandlerOptions{Level: slog.LevelError + 1}))
	if os.Getenv("CUT")+os.Getenv("IO") != "" {
		n.log = slog.New(slog.NewTextHandler(logWriter{t}, &slog.HandlerOptions{Level: slog.LevelError}))
	}
	var err error
	if n.super, err = readSuper(d[metaDisk]); err != nil {
		return nil, err
	}
	seqs := rand.New(rand.NewPCG(rng.Uint64(), 1))
	cache := block.NewCache(d[metaDisk], block.CacheOptions{Fsid: n.super.Hdr.Fsid, Budget: cacheSize, Seq: lockedSeq(seqs)})
	n.srv, err = server.Start(context.Background(), server.Options{
		Meta: d[metaDisk], Data: d[dataDisk], Super: n.super, Rid: n.rid, Term: 1, Cache: cache,
		Suspects: func() ([]quorum.Suspect, bool, error) { return nil, false, nil }, Log: n.log,
		Fences: server.NewFenceTable(server.FenceOptions{Proof: func(rid format.Rid) bool { return rid != n.rid }}),
	})
	if err != nil {
		return nil, err
	}
	if err := n.mount(rng); err != nil {
		n.kill()
		return nil, errors.Join(err, n.srv.Err())
	}
	return n, nil
}

// lockedSeq makes a generator safe for concurrent use.
func lockedSeq(rng *rand.Rand) func() uint64 {
	ch := make(chan *rand.Rand, 1)
	ch <- rng
	return func() uint64 {
		r := <-ch
		defer func() { ch <- r }()
		return r.Uint64()
	}
}

// Revoke lets the lock client be made before the volume.
func (n *node) Revoke(lk *lock.Lock, old, new format.LockMode, dirty uint64) error {
	if v := n.vol.Load(); v != nil {
		return v.Revoke(lk, old, new, dirty)
	}
	return n.eng.Revoke(lk, old, new, dirty)
}

func (n *node) handlers() map[format.NetCmd]rpc.Handler {
	return map[format.NetCmd]rpc.Handler{
		format.CmdLock: func(id uint64, req []byte, _ func([]byte, error)) {
			l, _ := format.Load[format.NetLock](req)
			n.locks.HandleInvalidate(id, l)
		},
		format.CmdOpenInoMap: func(_ uint64, req []byte, reply func([]byte, error)) {
			args, _ := format.Load[format.NetOpenInoMapArgs](req)
			r := format.NetOpenInoMap{Args: args}
			if v := n.vol.Load(); v != nil {
				r.Bits = v.OpenMap(args.Group)
			}
			reply(format.Bytes(&r), nil)
		},
		format.CmdSyncLogTrees: func(_ uint64, _ []byte, reply func([]byte, error)) {
			go func() { reply(nil, n.eng.Sync(context.Background())) }()
		},
	}
}

func (n *node) mount(rng *rand.Rand) (err error) {
	n.locks = lock.NewClient(lock.ClientOptions{
		Send: func(l format.NetLock) {
			n.local.Send(format.CmdLock, format.Bytes(&l), func(resp []byte, err error) {
				if g, ok := format.Load[format.NetLock](resp); ok && err == nil {
					n.locks.HandleGrant(g)
				}
			})
		},
		Respond: func(id uint64, l format.NetLock) { n.local.Respond(id, format.Bytes(&l), nil) },
		Revoker: n, Log: n.log,
	})
	if n.local, err = n.srv.Local(n.rid, 0, true, n.handlers()); err != nil {
		return err
	}
	seqs := rand.New(rand.NewPCG(rng.Uint64(), 2))
	cache := block.NewCache(n.d[metaDisk], block.CacheOptions{Fsid: n.super.Hdr.Fsid, Budget: cacheSize, Seq: lockedSeq(seqs)})
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	n.eng, err = txn.Open(ctx, txn.Options{Cache: cache, Data: n.d[dataDisk], Service: n.local, Rid: n.rid, ItemBudget: 1 << 20, Log: n.log})
	if err != nil {
		return err
	}
	go func() { // there is no other node that could be elected
		<-n.srv.Done()
		n.eng.Abort()
		n.locks.Shutdown()
	}()
	v, err := volume.Open(ctx, volume.Options{
		Engine: n.eng, Locks: n.locks, Service: service{n.local}, Cache: cache, Data: n.d[dataDisk],
		Super: *n.super, Rid: n.rid, NoOrphanScan: true, Log: n.log,
	})
	if err != nil {
		return err
	}
	n.vol.Store(v)
	return nil
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

func (n *node) v() *volume.Volume { return n.vol.Load() }

// alive reports whether the server runs and has not begun to end.
func (n *node) alive() bool {
	if n.srv.Err() != nil {
		return false
	}
	select {
	case <-n.srv.Done():
		return false
	default:
		return true
	}
}

// settled reports whether all mounts that died before are reclaimed.
func (n *node) settled() bool {
	return len(n.srv.Fences().List()) == 0 && n.srv.Metrics().Mounts <= 1
}

// close unmounts and stops the server.
func (n *node) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	if err := n.v().Close(ctx); err != nil {
		return fmt.Errorf("close the volume: %w", err)
	}
	n.locks.Shutdown()
	if err := n.eng.Close(ctx); err != nil {
		return fmt.Errorf("close the engine: %w", err)
	}
	n.locks.Close()
	if err := n.local.Farewell(ctx); err != nil {
		return fmt.Errorf("farewell: %w", err)
	}
	n.srv.Stop()
	return nil
}

// kill ends everything without a word to anybody.
func (n *node) kill() {
	if n.local != nil {
		n.local.Close()
	}
	if n.eng != nil {
		n.eng.Abort()
	}
	if v := n.v(); v != nil {
		v.Abort()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		_ = v.Close(ctx)
		cancel()
	}
	if n.eng != nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		_ = n.eng.Close(ctx)
		cancel()
	}
	if n.locks != nil {
		n.locks.Close()
	}
	n.srv.Stop()
}
