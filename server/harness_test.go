// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"scoutfs/alloc"
	"scoutfs/block"
	"scoutfs/btree"
	"scoutfs/format"
	"scoutfs/internal/simdisk"
	"scoutfs/mkfs"
	"scoutfs/rpc"
	"scoutfs/server"
	"scoutfs/srch"
)

const (
	metaBlocks = 40000   // 2.4 GiB
	dataBlocks = 3 << 20 // 12 GiB
)

var leaderRid = format.Rid(0xabcdef)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// volume is a pair of disks with a new volume on them.
type volume struct {
	t          testing.TB
	meta, data *simdisk.Disk
	super      *format.Super
	term       format.Term
}

func newVolume(t testing.TB, slots int) *volume { return newVolumeOf(t, slots, metaBlocks, dataBlocks) }

func newVolumeOf(t testing.TB, slots int, metaBlocks, dataBlocks int64) *volume {
	t.Helper()
	v := &volume{t: t}
	v.meta = simdisk.New(metaBlocks<<format.LargeShift, simdisk.Options{Name: "meta"})
	v.data = simdisk.New(dataBlocks<<format.SmallShift, simdisk.Options{Name: "data"})
	o := mkfs.Options{Slots: map[int]netip.AddrPort{}, AllowSmall: true}
	for i := range slots {
		o.Slots[i] = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(7000+i))
	}
	var err error
	v.super, err = mkfs.Format(v.meta, v.data, o)
	must(t, err)
	return v
}

// on is the volume on other disks, as after a crash.
func (v *volume) on(meta *simdisk.Disk) *volume {
	c := *v
	c.meta = meta
	return &c
}

// start runs a server without TCP.
func (v *volume) start(change ...func(*server.Options)) *server.Server {
	v.t.Helper()
	s, err := v.tryStart(change...)
	must(v.t, err)
	v.t.Cleanup(s.Stop)
	return s
}

func (v *volume) tryStart(change ...func(*server.Options)) (*server.Server, error) {
	v.term++
	o := server.Options{
		Meta: v.meta, Data: v.data, Super: v.super, Rid: leaderRid, Term: v.term, CacheBudget: 64 << 20,
	}
	for _, fn := range change {
		fn(&o)
	}
	return server.Start(context.Background(), o)
}

// allDead makes every fence request succeed at once.
func allDead(o *server.Options) {
	o.Fences = server.NewFenceTable(server.FenceOptions{Proof: func(format.Rid) bool { return true }})
}

// readSuper reads the super block without any check.
func (v *volume) readSuper() *format.Super {
	v.t.Helper()
	buf := block.AlignedBuf(format.SmallSize)
	defer block.FreeBuf(buf)
	must(v.t, block.ReadAt(v.meta, buf, int64(format.SuperBlkno)<<format.SmallShift))
	s, _ := format.Load[format.Super](buf)
	if s.Hdr.CRC != format.Checksum(buf) {
		v.t.Fatal("super block has a wrong checksum")
	}
	return &s
}

// auditor finds the owner of every block.
type auditor struct {
	v    *volume
	c    *block.Cache
	meta owners
	data owners
}

// owners is who has which blocks.
type owners []owner

type owner struct {
	extent
	who string
}

// audit makes sure that every metadata and every data block has exactly one
// owner. Source: spec format 12.4, 12.5, 12.6. It returns the log trees.
func (v *volume) audit() (*format.Super, []format.LogTrees) {
	v.t.Helper()
	s := v.readSuper()
	a := &auditor{
		v: v, c: block.NewCache(v.meta, block.CacheOptions{Fsid: s.Hdr.Fsid, Budget: 64 << 20}),
	}
	for i := range 2 {
		a.extents(&a.meta, &s.MetaAlloc[i], fmt.Sprint("meta_alloc ", i))
		a.list(&s.ServerMetaAvail[i], fmt.Sprint("server_meta_avail ", i))
		a.list(&s.ServerMetaFreed[i], fmt.Sprint("server_meta_freed ", i))
	}
	a.extents(&a.data, &s.DataAlloc, "data_alloc")
	for name, root := range map[string]*format.BtreeRoot{
		"fs": &s.FSRoot, "logs": &s.LogsRoot, "log_merge": &s.LogMerge, "mounted": &s.MountedClients, "srch": &s.SrchRoot,
	} {
		a.tree(root, name)
	}
	a.srchItems(&s.SrchRoot)
	trees := a.logTrees(s)
	a.complete(a.meta, 2, s.TotalMetaBlocks)
	a.complete(a.data, 64, s.TotalDataBlocks)
	return s, trees
}

func (o *owners) own(start format.Blkno, n uint64, who string) {
	if n > 0 {
		*o = append(*o, owner{extent{start, n}, who})
	}
}

// complete makes sure that every block from..to-1 has one owner.
func (a *auditor) complete(o owners, from, to uint64) {
	a.v.t.Helper()
	slices.SortFunc(o, func(x, y owner) int { return cmp.Compare(x.start, y.start) })
	at, last := from, "the reserved blocks"
	for _, x := range o {
		switch {
		case uint64(x.start) < at:
			a.v.t.Fatalf("block %d belongs to %s and to %s", x.start, last, x.who)
		case uint64(x.start) > at:
			a.v.t.Fatalf("blocks %d to %d have no owner; before is %s, after %s", at, x.start-1, last, x.who)
		}
		at, last = at+x.n, x.who
	}
	if at != to {
		a.v.t.Fatalf("blocks end at %d with %s, should at %d", at, last, to)
	}
}

func (a *auditor) tree(root *format.BtreeRoot, name string) {
	a.v.t.Helper()
	must(a.v.t, btree.Check(a.c, root, btree.CheckOptions{Block: func(ref format.BlockRef, _ int) error {
		a.meta.own(ref.Blkno, 1, name)
		return nil
	}}))
}

func (a *auditor) extents(m *owners, root *format.AllocRoot, name string) {
	a.v.t.Helper()
	var total uint64
	must(a.v.t, alloc.WalkExtents(&btree.Tx{Cache: a.c}, root, func(start format.Blkno, n uint64) error {
		total += n
		m.own(start, n, name)
		return nil
	}))
	if total != root.TotalLen {
		a.v.t.Fatalf("%s: extents have %d blocks, total is %d", name, total, root.TotalLen)
	}
	a.tree(&root.Root, name+" tree")
}

func (a *auditor) list(l *format.AllocList, name string) {
	a.v.t.Helper()
	must(a.v.t, alloc.WalkList(a.c, l, func(ref format.BlockRef, entries []uint64) error {
		a.meta.own(ref.Blkno, 1, name+" block")
		for _, e := range entries {
			a.meta.own(format.Blkno(e), 1, "in "+name)
		}
		return nil
	}))
}

func (a *auditor) srchFile(f *format.SrchFile, name string) {
	a.v.t.Helper()
	must(a.v.t, srch.Blocks(a.c, f, func(ref format.BlockRef, _ int) error {
		a.meta.own(ref.Blkno, 1, name)
		return nil
	}))
}

// srchItems owns the files of type 4 and 8 and the lists of compactions.
func (a *auditor) srchItems(root *format.BtreeRoot) {
	a.v.t.Helper()
	var key format.Key
	must(a.v.t, btree.Walk(a.c, root, &key, &format.KeyMax, func(it *btree.Item) error {
		if it.Key.Type == format.TypeSrchLog || it.Key.Type == format.TypeSrchFile {
			f, _ := format.Load[format.SrchFile](it.Val)
			a.srchFile(&f, "srch file")
			return nil
		}
		c, _ := format.Load[format.SrchCompact](it.Val)
		a.list(&c.MetaAvail, "compaction avail")
		a.list(&c.MetaFreed, "compaction freed")
		return nil
	}))
}

func (a *auditor) logTrees(s *format.Super) (trees []format.LogTrees) {
	t := a.v.t
	t.Helper()
	var key format.Key
	must(t, btree.Walk(a.c, &s.LogsRoot, &key, &format.KeyMax, func(it *btree.Item) error {
		lt, ok := format.Load[format.LogTrees](it.Val)
		if !ok || it.Key != format.KeyLogTrees(lt.Rid, lt.Nr) {
			t.Fatalf("log trees item %v: %+v", it.Key, lt)
		}
		trees = append(trees, lt)
		return nil
	}))
	for i := range trees {
		lt := &trees[i]
		name := fmt.Sprintf("log trees %x.%d ", uint64(lt.Rid), lt.Nr)
		final := lt.Flags&format.LogTreesFinalized != 0
		if final != (lt.FinalizeSeq > 0) || lt.CommitTransSeq > lt.GetTransSeq ||
			s.Seq < max(lt.GetTransSeq, lt.FinalizeSeq) || !final && i+1 < len(trees) && trees[i+1].Rid == lt.Rid {
			t.Fatalf("super seq %d, log trees %+v", s.Seq, lt)
		}
		if final && (lt.MetaAvail != format.AllocList{} || lt.MetaFreed != format.AllocList{} || lt.DataAvail != format.AllocRoot{} ||
			lt.DataFreed != format.AllocRoot{} || lt.SrchFile != format.SrchFile{}) {
			t.Fatalf("final log trees %+v", lt)
		}
		a.list(&lt.MetaAvail, name+"meta_avail")
		a.list(&lt.MetaFreed, name+"meta_freed")
		a.tree(&lt.ItemRoot, name+"items")
		a.extents(&a.data, &lt.DataAvail, name+"data_avail")
		a.extents(&a.data, &lt.DataFreed, name+"data_freed")
		a.srchFile(&lt.SrchFile, name+"srch")
		a.mapped(lt, name)
	}
	return trees
}

// mapped owns the data blocks of the log tree's extent items.
func (a *auditor) mapped(lt *format.LogTrees, name string) {
	a.v.t.Helper()
	var key format.Key
	must(a.v.t, btree.Walk(a.c, &lt.ItemRoot, &key, &format.KeyMax, func(it *btree.Item) error {
		if it.Key.Type == format.TypeExtent {
			x, _ := format.Load[format.Extent](it.Val)
			a.data.own(x.Blkno, it.Key.Third, name+"file")
		}
		return nil
	}))
}

// mount is a client that writes transactions as a real one does, only with
// items of its own: a counter, file extents, srch entries.
type mount struct {
	t   testing.TB
	v   *volume
	l   *server.Local
	rid format.Rid
	c   *block.Cache

	lt    format.LogTrees
	w     *block.Writer
	pair  *alloc.Pair
	data  *alloc.Data
	tx    *btree.Tx
	files map[uint64]extent // by the number in the item's key
	next  uint64

	mu    sync.Mutex
	acked uint64 // the counter's value in the last commit that was answered
}

type extent struct {
	start format.Blkno
	n     uint64
}

// mount makes a mount known to a server.
func (v *volume) mount(s *server.Server, rid format.Rid, flags uint64, handle map[format.NetCmd]rpc.Handler) *mount {
	v.t.Helper()
	l, err := s.Local(rid, flags, true, handle)
	must(v.t, err)
	return &mount{
		t: v.t, v: v, l: l, rid: rid, files: map[uint64]extent{},
		c: v.newCache(),
	}
}

// newCache is a mount's cache.
func (v *volume) newCache() *block.Cache {
	return block.NewCache(v.meta, block.CacheOptions{Fsid: v.super.Hdr.Fsid, Budget: 32 << 20})
}

// open opens a transaction.
func (m *mount) open(ctx context.Context) error {
	lt, err := m.l.GetLogTrees(ctx)
	if err != nil {
		return err
	}
	m.lt = lt
	m.w = m.c.NewWriter()
	m.pair = alloc.NewPair(m.c, m.w, lt.MetaAvail, lt.MetaFreed)
	m.data = alloc.NewData(lt.DataAvail, lt.DataFreed)
	m.tx = &btree.Tx{Cache: m.c, Writer: m.w, Alloc: m.pair}
	return nil
}

// put writes items.
func (m *mount) put(items ...btree.Item) error {
	slices.SortFunc(items, func(a, b btree.Item) int { return a.Key.Compare(&b.Key) })
	i := 0
	seq, err := m.tx.PutItems(&m.lt.ItemRoot, func() (*btree.Item, bool) {
		if i == len(items) {
			return nil, false
		}
		i++
		return &items[i-1], true
	})
	m.lt.MaxItemSeq = max(m.lt.MaxItemSeq, seq)
	return err
}

func (m *mount) counterKey() format.Key { return format.KeyInode(format.Ino(m.rid)) }

// write changes something: the counter, some files, a few srch entries.
func (m *mount) write(files, srchs int) error {
	seq := m.lt.GetTransSeq
	items := []btree.Item{{Key: m.counterKey(), Seq: seq, Val: binary.LittleEndian.AppendUint64(nil, seq)}}
	for range files {
		start, n, err := m.data.Alloc(m.tx, 1+m.next%40)
		if err != nil {
			return err
		}
		m.next++
		x := format.Extent{Blkno: start}
		items = append(items, btree.Item{Key: format.KeyExtent(format.Ino(m.rid), m.next*100, n), Seq: seq, Val: slices.Clone(format.Bytes(&x))})
		m.files[m.next] = extent{start, n}
	}
	if err := m.put(items...); err != nil {
		return err
	}
	entries := make([]format.SrchEntry, srchs)
	for i := range entries {
		entries[i] = format.SrchEntry{Hash: seq * 0x9e3779b97f4a7c15 * uint64(i+1), Ino: format.Ino(m.rid), ID: uint64(i)}
	}
	return srch.AppendLog(m.tx, &m.lt.SrchFile, entries)
}

// remove removes n files.
func (m *mount) remove(n int) error {
	for _, nr := range slices.Sorted(maps.Keys(m.files)) {
		if n--; n < 0 {
			break
		}
		x := m.files[nr]
		key := format.KeyExtent(format.Ino(m.rid), nr*100, x.n)
		if err := m.tx.Delete(&m.lt.ItemRoot, &key); err != nil {
			return err
		}
		if err := m.data.Free(m.tx, x.start, x.n); err != nil {
			return err
		}
		delete(m.files, nr)
	}
	return nil
}

// flush writes the transaction's blocks.
func (m *mount) flush() error {
	if err := m.data.Return(m.tx); err != nil {
		return err
	}
	if err := m.w.Write(); err != nil {
		return err
	}
	if err := m.v.meta.Flush(); err != nil {
		return err
	}
	m.lt.MetaAvail, m.lt.MetaFreed = m.pair.Avail(), m.pair.Freed()
	m.lt.DataAvail, m.lt.DataFreed = m.data.Roots()
	m.pair.Close()
	return nil
}

// commit writes the transaction and repeats the call until it is answered
// well, at most so many times.
func (m *mount) commit(ctx context.Context, tries int) error {
	if err := m.flush(); err != nil {
		return err
	}
	var err error
	for range tries {
		if err = m.l.CommitLogTrees(ctx, &m.lt); err == nil {
			m.mu.Lock()
			m.acked = m.lt.GetTransSeq
			m.mu.Unlock()
			return nil
		}
	}
	return err
}

// counters are the values of all mounts' counters on disk.
func (v *volume) counters(s *format.Super, trees []format.LogTrees) map[format.Rid]uint64 {
	v.t.Helper()
	c := block.NewCache(v.meta, block.CacheOptions{Fsid: s.Hdr.Fsid, Budget: 64 << 20})
	m := map[format.Rid]uint64{}
	for i := range trees {
		key := format.KeyInode(format.Ino(trees[i].Rid))
		it, err := btree.Lookup(c, &trees[i].ItemRoot, &key, nil)
		if errors.Is(err, btree.ErrNotFound) {
			continue
		}
		must(v.t, err)
		m[trees[i].Rid] = max(m[trees[i].Rid], binary.LittleEndian.Uint64(it.Val))
	}
	return m
}
