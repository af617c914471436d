// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package txn_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"scoutfs/alloc"
	"scoutfs/block"
	"scoutfs/btree"
	"scoutfs/format"
	"scoutfs/internal/simdisk"
	"scoutfs/mkfs"
)

const testFsid = 0x5c0075

// disks are a formatted volume.
type disks struct{ meta, data *simdisk.Disk }

func newDisks(t testing.TB) disks {
	t.Helper()
	d := disks{
		meta: simdisk.New(60000<<format.LargeShift, simdisk.Options{Name: "meta"}),
		data: simdisk.New(4<<20<<format.SmallShift, simdisk.Options{Name: "data"}),
	}
	slots := map[int]netip.AddrPort{0: netip.MustParseAddrPort("127.0.0.1:7000")}
	if _, err := mkfs.Format(d.meta, d.data, mkfs.Options{Slots: slots, AllowSmall: true, Fsid: testFsid}); err != nil {
		t.Fatal(err)
	}
	return d
}

// testServer is a small [txn.Service] over the real trees. Each call that
// changes anything is one commit that ends with a super block.
type testServer struct {
	mu    sync.Mutex
	seq   atomic.Uint64 // the volume's counter
	cache *block.Cache
	super format.Super // stable
	next  format.Super // being changed
	tree  btree.Tx
	pair  *alloc.Pair
	cur   int // active list pair
	av    int // active meta tree

	// before is asked at the start of every call; after at the end.
	before, after func(call string) error
	rotate        func() bool // finalize the open log tree at a get
	roots         func(*format.NetRoots)
	tune          func(lt *format.LogTrees)
	calls         map[string]int
	low, target   uint32 // entries of a mount's list of metadata blocks; spec format 6.6
}

func openServer(t testing.TB, meta block.Device) *testServer {
	t.Helper()
	s := &testServer{low: 4092, target: 8185, cache: block.NewCache(meta, block.CacheOptions{Fsid: testFsid}), calls: map[string]int{}}
	buf := block.AlignedBuf(format.SmallSize)
	defer block.FreeBuf(buf)
	if err := block.ReadAt(meta, buf, int64(format.SuperBlkno)<<format.SmallShift); err != nil {
		t.Fatal(err)
	}
	if h, _ := format.Load[format.BlockHeader](buf); h.CRC != format.Checksum(buf) {
		t.Fatal("super block's checksum is wrong")
	}
	s.super, _ = format.Load[format.Super](buf)
	if s.super.ServerMetaAvail[1].TotalNr > s.super.ServerMetaAvail[0].TotalNr {
		s.cur = 1
	}
	if s.super.MetaAlloc[1].TotalLen > s.super.MetaAlloc[0].TotalLen {
		s.av = 1
	}
	s.begin()
	s.seq.Store(s.super.Seq)
	for _, lt := range s.logTrees(t) {
		s.seq.Store(max(s.seq.Load(), lt.MaxItemSeq))
	}
	return s
}

func (s *testServer) begin() {
	s.next = s.super
	if a := &s.next.MetaAlloc; a[s.av].TotalLen < 20000 && a[1-s.av].TotalLen > a[s.av].TotalLen {
		s.av = 1 - s.av
	}
	w := s.cache.NewWriter()
	s.pair = alloc.NewPair(s.cache, w, s.next.ServerMetaAvail[s.cur], s.next.ServerMetaFreed[s.cur])
	s.tree = btree.Tx{Cache: s.cache, Writer: w, Alloc: s.pair}
}

// commit makes the changes durable. Source: spec format 6.4.
func (s *testServer) commit() error {
	other, n := 1-s.cur, &s.next
	if err := alloc.FillList(&s.tree, &n.ServerMetaAvail[other], &n.MetaAlloc[s.av], 4092, 8185); err != nil {
		return fmt.Errorf("fill list: %w", err)
	}
	if _, err := alloc.DrainList(&s.tree, &n.MetaAlloc[1-s.av], &n.ServerMetaFreed[other], 1000); err != nil {
		return fmt.Errorf("drain list: %w", err)
	}
	n.ServerMetaAvail[s.cur], n.ServerMetaFreed[s.cur] = s.pair.Avail(), s.pair.Freed()
	if err := s.tree.Writer.Write(); err != nil {
		return err
	}
	if err := s.cache.Device().Flush(); err != nil {
		return err
	}
	n.Hdr.Seq++
	n.Seq = s.seq.Load()
	buf := block.AlignedBuf(format.SmallSize)
	defer block.FreeBuf(buf)
	clear(buf)
	copy(buf, format.Bytes(n))
	n.Hdr.CRC = format.Checksum(buf)
	copy(buf, format.Bytes(n))
	if err := block.WriteAt(s.cache.Device(), buf, int64(format.SuperBlkno)<<format.SmallShift); err != nil {
		return err
	}
	if err := s.cache.Device().Flush(); err != nil {
		return err
	}
	s.pair.Close()
	s.super, s.cur = *n, other
	s.begin()
	return nil
}

// do runs one call. A failure throws away what it changed.
func (s *testServer) do(call string, fn func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls[call]++
	if s.before != nil {
		if err := s.before(call); err != nil {
			return err
		}
	}
	if err := fn(); err != nil {
		s.tree.Writer.Discard()
		s.pair.Close()
		s.begin()
		return err
	}
	if s.after != nil {
		return s.after(call)
	}
	return nil
}

// count is how often a call came.
func (s *testServer) count(call string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[call]
}

// last returns the mount's newest log trees item.
func (s *testServer) last(rid format.Rid) (format.LogTrees, bool, error) {
	key := format.KeyLogTrees(rid, ^uint64(0))
	it, err := btree.Prev(s.cache, &s.next.LogsRoot, &key, nil)
	if err != nil && !errors.Is(err, btree.ErrNotFound) {
		return format.LogTrees{}, false, err
	}
	lt, _ := format.Load[format.LogTrees](it.Val)
	return lt, err == nil && lt.Rid == rid, nil
}

func (s *testServer) put(lt *format.LogTrees) error {
	key := format.KeyLogTrees(lt.Rid, lt.Nr)
	return s.tree.Force(&s.next.LogsRoot, &key, format.Bytes(lt))
}

// testClient is the service of one mount.
type testClient struct {
	*testServer
	rid format.Rid
}

func (c testClient) GetLogTrees(context.Context) (lt format.LogTrees, err error) {
	s := c.testServer
	err = s.do("get", func() error {
		lt, err = s.get(c.rid)
		if err != nil {
			return err
		}
		return s.commit()
	})
	return lt, err
}

// get opens a transaction. Source: spec cluster 6.2.
func (s *testServer) get(rid format.Rid) (lt format.LogTrees, err error) {
	lt, ok, err := s.last(rid)
	if err != nil {
		return lt, err
	}
	if !ok {
		lt = format.LogTrees{Rid: rid, Nr: 1}
	}
	if lt.GetTransSeq > lt.CommitTransSeq {
		return lt, nil
	}
	if ok && s.rotate != nil && s.rotate() {
		if lt, err = s.finalize(lt); err != nil {
			return lt, err
		}
	}
	n := &s.next
	if err := alloc.SpliceList(&s.tree, &n.ServerMetaFreed[1-s.cur], &lt.MetaFreed); err != nil {
		return lt, fmt.Errorf("splice: %w", err)
	}
	if _, _, err := alloc.MoveExtents(&s.tree, &n.DataAlloc, &lt.DataFreed, alloc.MoveOptions{}); err != nil {
		return lt, fmt.Errorf("move freed data: %w", err)
	}
	if err := alloc.FillList(&s.tree, &lt.MetaAvail, &n.MetaAlloc[s.av], s.low, s.target); err != nil {
		return lt, fmt.Errorf("fill: %w", err)
	}
	if lt.DataAvail.TotalLen < 262144 {
		if _, _, err := alloc.MoveExtents(&s.tree, &lt.DataAvail, &n.DataAlloc, alloc.MoveOptions{Total: 1048576}); err != nil {
			return lt, fmt.Errorf("move data: %w", err)
		}
	}
	if s.tune != nil {
		s.tune(&lt)
	}
	lt.GetTransSeq = s.seq.Add(1)
	return lt, s.put(&lt)
}

// finalize ends a log tree and starts the next one with its space.
func (s *testServer) finalize(lt format.LogTrees) (format.LogTrees, error) {
	fresh := format.LogTrees{
		Rid: lt.Rid, Nr: lt.Nr + 1, MetaAvail: lt.MetaAvail, MetaFreed: lt.MetaFreed, DataAvail: lt.DataAvail,
		DataFreed: lt.DataFreed, SrchFile: lt.SrchFile, GetTransSeq: lt.GetTransSeq, CommitTransSeq: lt.CommitTransSeq,
	}
	lt.MetaAvail, lt.MetaFreed, lt.DataAvail, lt.DataFreed = format.AllocList{}, format.AllocList{}, format.AllocRoot{}, format.AllocRoot{}
	lt.SrchFile = format.SrchFile{}
	lt.FinalizeSeq = s.seq.Add(1)
	lt.Flags |= format.LogTreesFinalized
	return fresh, s.put(&lt)
}

func (s *testServer) CommitLogTrees(_ context.Context, lt *format.LogTrees) error {
	return s.do("commit", func() error {
		old, ok, err := s.last(lt.Rid)
		switch {
		case err != nil:
			return err
		case !ok || old.Nr != lt.Nr || old.GetTransSeq != lt.GetTransSeq:
			return fmt.Errorf("no transaction %d of %016x: %w", lt.GetTransSeq, uint64(lt.Rid), syscall.EIO)
		case old.CommitTransSeq == lt.GetTransSeq:
			return nil
		}
		stored := *lt
		stored.CommitTransSeq = lt.GetTransSeq
		if err := s.put(&stored); err != nil {
			return err
		}
		return s.commit()
	})
}

func (s *testServer) GetRoots(context.Context) (r format.NetRoots, err error) {
	err = s.do("roots", func() error {
		r = format.NetRoots{FSRoot: s.super.FSRoot, LogsRoot: s.super.LogsRoot, SrchRoot: s.super.SrchRoot}
		if s.roots != nil {
			s.roots(&r)
		}
		return nil
	})
	return r, err
}

func (s *testServer) AllocInodes(context.Context, uint64) (format.NetInoRange, error) {
	return format.NetInoRange{}, syscall.ENOSYS
}

func (s *testServer) GetLastSeq(context.Context) (uint64, error) { return 0, syscall.ENOSYS }

func (s *testServer) Statfs(context.Context) (format.NetStatfs, error) {
	return format.NetStatfs{}, syscall.ENOSYS
}

// logTrees returns all log trees items of the stable super.
func (s *testServer) logTrees(t testing.TB) (lts []format.LogTrees) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	err := btree.Walk(s.cache, &s.super.LogsRoot, &format.Key{}, &format.KeyMax, func(it *btree.Item) error {
		lt, _ := format.Load[format.LogTrees](it.Val)
		lts = append(lts, lt)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return lts
}
