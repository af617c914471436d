// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package check_test

import (
	"bytes"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"scoutfs/alloc"
	"scoutfs/block"
	"scoutfs/btree"
	"scoutfs/check"
	"scoutfs/format"
	"scoutfs/internal/simdisk"
	"scoutfs/mkfs"
	"scoutfs/srch"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// vol is a volume in memory. Its changes leave it consistent unless they are
// meant to break something.
type vol struct {
	t          testing.TB
	meta, data *simdisk.Disk
}

func newVol(t testing.TB, version uint64) *vol {
	t.Helper()
	v := &vol{t: t, meta: simdisk.New(512<<20, simdisk.Options{Name: "meta"}), data: simdisk.New(1<<30, simdisk.Options{Name: "data"})}
	_, err := mkfs.Format(v.meta, v.data, mkfs.Options{
		Slots:   map[int]netip.AddrPort{0: netip.MustParseAddrPort("127.0.0.1:53000"), 1: netip.MustParseAddrPort("127.0.0.1:53001")},
		Version: version, AllowSmall: true, Force: true, Fsid: 0xa6e3826df4a791e0, Time: time.Unix(1700000000, 0),
	})
	must(t, err)
	return v
}

func (v *vol) clone(t testing.TB) *vol { return &vol{t: t, meta: v.meta.Clone(), data: v.data.Clone()} }

func (v *vol) run() *check.Report {
	v.t.Helper()
	r, err := check.Run(v.t.Context(), v.meta, v.data, check.Options{})
	must(v.t, err)
	return r
}

// bytesOf changes n bytes of a device at an offset and their checksum.
func (v *vol) bytesOf(d block.Device, off int64, n int, change func(b []byte)) {
	v.t.Helper()
	b := block.AlignedBuf(n)
	defer block.FreeBuf(b)
	must(v.t, block.ReadAt(d, b, off))
	change(b)
	format.SetChecksum(b)
	must(v.t, block.WriteAt(d, b, off))
}

// edit changes a metadata block in place and repairs its checksum.
func (v *vol) edit(b format.Blkno, change func(b []byte)) {
	v.t.Helper()
	v.bytesOf(v.meta, int64(b)<<format.LargeShift, format.LargeSize, change)
}

// corrupt inverts a byte of a metadata block.
func (v *vol) corrupt(b format.Blkno, off int) {
	v.meta.Corrupt(int64(b)<<format.LargeShift+int64(off), 1)
}

func (v *vol) superOf(d block.Device, change func(s *format.Super)) (s format.Super) {
	v.t.Helper()
	v.bytesOf(d, int64(format.SuperBlkno)<<format.SmallShift, format.SmallSize, func(b []byte) {
		s, _ = format.Load[format.Super](b)
		change(&s)
		copy(b, format.Bytes(&s))
	})
	return s
}

// setSuper changes the metadata device's super.
func (v *vol) setSuper(change func(s *format.Super)) { v.t.Helper(); v.superOf(v.meta, change) }

func (v *vol) super() format.Super { return v.superOf(v.meta, func(*format.Super) {}) }

// tx makes changes in a transaction that allocates as the server does.
func (v *vol) tx(fn func(t *btree.Tx, s *format.Super)) {
	v.t.Helper()
	v.setSuper(func(s *format.Super) {
		s.ServerMetaAvail[0], s.ServerMetaFreed[0] = v.txWith(s, s.ServerMetaAvail[0], s.ServerMetaFreed[0], fn)
	})
}

// txWith is tx with the given lists; s is not written.
func (v *vol) txWith(s *format.Super, avail, freed format.AllocList, fn func(t *btree.Tx, s *format.Super)) (a, f format.AllocList) {
	v.t.Helper()
	c := block.NewCache(v.meta, block.CacheOptions{Fsid: s.Hdr.Fsid})
	w := c.NewWriter()
	p := alloc.NewPair(c, w, avail, freed)
	fn(&btree.Tx{Cache: c, Writer: w, Alloc: p}, s)
	must(v.t, p.Prepare())
	a, f = p.Avail(), p.Freed()
	p.Close()
	must(v.t, w.Write())
	must(v.t, v.meta.Flush())
	return a, f
}

// blocks are the blocks of a tree with a level.
func (v *vol) blocks(root format.BtreeRoot, level int) (list []format.Blkno) {
	v.t.Helper()
	c := block.NewCache(v.meta, block.CacheOptions{Fsid: v.super().Hdr.Fsid})
	must(v.t, btree.Blocks(c, &root, func(ref format.BlockRef, l int) error {
		if l == level {
			list = append(list, ref.Blkno)
		}
		return nil
	}))
	return list
}

// get is the value of an item of a tree.
func (v *vol) get(root format.BtreeRoot, key format.Key) []byte {
	v.t.Helper()
	it, err := btree.Lookup(block.NewCache(v.meta, block.CacheOptions{Fsid: v.super().Hdr.Fsid}), &root, &key, nil)
	must(v.t, err)
	return it.Val
}

// itemMap holds values by key; nil is a deletion.
type itemMap map[format.Key][]byte

// put writes items with a seq into a tree.
func put(t *btree.Tx, root *format.BtreeRoot, items itemMap, seq uint64) error {
	keys := slices.SortedFunc(maps.Keys(items), func(a, b format.Key) int { return a.Compare(&b) })
	i := 0
	_, err := t.PutItems(root, func() (*btree.Item, bool) {
		if i == len(keys) {
			return nil, false
		}
		it := &btree.Item{Key: keys[i], Seq: seq, Val: items[keys[i]]}
		if it.Val == nil {
			it.Flags = format.ItemFlagDeletion
		}
		i++
		return it, true
	})
	return err
}

// setFS overwrites items of fs_root; nil removes.
func (v *vol) setFS(items itemMap) {
	v.t.Helper()
	v.tx(func(t *btree.Tx, s *format.Super) {
		set := itemMap{}
		for k, val := range items {
			if val == nil || k.Zone == format.ZoneTotl {
				if err := t.Delete(&s.FSRoot, &k); val == nil {
					must(v.t, err)
				}
			}
			if val != nil {
				set[k] = val
			}
		}
		must(v.t, put(t, &s.FSRoot, set, 50))
	})
}

// changeFS changes the value of an item of fs_root.
func (v *vol) changeFS(key format.Key, change func(val []byte) []byte) {
	v.t.Helper()
	v.setFS(itemMap{key: change(v.get(v.super().FSRoot, key))})
}

// changeInode changes an inode item of fs_root.
func (v *vol) changeInode(ino format.Ino, change func(in *format.Inode)) {
	v.t.Helper()
	v.changeFS(format.KeyInode(ino), func(val []byte) []byte {
		in, _ := format.LoadInode(val, 2)
		change(&in)
		return bytes.Clone(format.Bytes(&in)[:len(val)])
	})
}

// changeLog changes a log trees item.
func (v *vol) changeLog(rid format.Rid, change func(lt *format.LogTrees)) {
	v.t.Helper()
	changeItem(v, func(s *format.Super) *format.BtreeRoot { return &s.LogsRoot }, format.KeyLogTrees(rid, 1), change)
}

// changeItem changes the value of an item of a server's tree.
func changeItem[T format.Fixed](v *vol, root func(s *format.Super) *format.BtreeRoot, key format.Key, change func(val *T)) {
	v.t.Helper()
	s := v.super()
	val, _ := format.Load[T](v.get(*root(&s), key))
	change(&val)
	v.tx(func(t *btree.Tx, s *format.Super) { must(v.t, t.Update(root(s), &key, format.Bytes(&val))) })
}

// model is the filesystem's items before they are written.
type model struct {
	items  itemMap
	inodes map[format.Ino]*format.Inode
	srch   []format.SrchEntry
}

func newModel() *model {
	m := &model{items: itemMap{}, inodes: map[format.Ino]*format.Inode{}}
	m.inode(format.RootIno, 0o040755)
	return m
}

func (m *model) inode(ino format.Ino, mode uint32) *format.Inode {
	in := &format.Inode{Mode: mode, MetaSeq: 10, DataSeq: 10, NextReaddirPos: 2}
	if mode&0o170000 == 0o040000 {
		in.Nlink = 2
	}
	m.inodes[ino] = in
	return in
}

func (m *model) entry(dir format.Ino, name string, target format.Ino) {
	d, in := m.inodes[dir], m.inodes[target]
	h := format.DirentHdr{Ino: target, Hash: format.NameHash(name), Pos: d.NextReaddirPos, Type: format.DirentType(in.Mode)}
	d.NextReaddirPos++
	d.Size += uint64(len(name))
	if h.Type == format.DirentDir {
		d.Nlink++
	} else {
		in.Nlink++
	}
	val := format.AppendDirent(nil, h, name)
	m.items[format.KeyDirent(dir, h.Hash, h.Pos)] = val
	m.items[format.KeyReaddir(dir, h.Pos)] = val
	m.items[format.KeyBackref(target, dir, h.Pos)] = val
}

func (m *model) xattr(ino format.Ino, name, value string) {
	in := m.inodes[ino]
	id := in.NextXattrID
	in.NextXattrID++
	m.items = xattrItems(m.items, ino, id, name, value)
	t, _ := format.ParseTags(name)
	if t&format.TagSrch != 0 {
		m.srch = append(m.srch, format.SrchEntry{Hash: format.Hash64(name), Ino: ino, ID: id})
	}
	if t&format.TagIndx != 0 {
		major, minor, _ := format.ParseIndxName(name)
		m.items[format.KeyXattrIndex(major, minor, ino, id)] = []byte{}
	}
	if t&format.TagTotl != 0 {
		abc, _ := format.ParseTotlName(name)
		n, _ := format.ParseNumber(value)
		k := format.KeyTotl(abc[0], abc[1], abc[2])
		v, _ := format.Load[format.Totl](m.items[k])
		v.Total += n
		v.Count++
		m.items[k] = bytes.Clone(format.Bytes(&v))
	}
}

func xattrItems(items itemMap, ino format.Ino, id uint64, name, value string) itemMap {
	h := format.XattrHdr{ValLen: uint16(len(value)), NameLen: uint8(len(name))}
	all := append(bytes.Clone(format.Bytes(&h)), name+value...)
	for part := uint8(0); len(all) > 0; part++ {
		n := min(len(all), format.MaxValue)
		items[format.KeyXattr(ino, format.XattrNameHash(name), id, part)] = all[:n:n]
		all = all[n:]
	}
	return items
}

func (m *model) extent(ino format.Ino, start, n uint64, blkno format.Blkno, flags uint8) {
	e := format.Extent{Blkno: blkno, Flags: flags}
	m.items[format.KeyExtent(ino, start+n-1, n)] = bytes.Clone(format.Bytes(&e))
	if blkno != 0 && flags&format.ExtentUnwritten == 0 {
		m.inodes[ino].OnlineBlocks += n
	} else if flags&format.ExtentOffline != 0 {
		m.inodes[ino].OfflineBlocks += n
	}
}

// all adds the inode items and what follows from them.
func (m *model) all(version uint64) itemMap {
	for ino, in := range m.inodes {
		m.items[format.KeyInode(ino)] = bytes.Clone(format.Bytes(in)[:format.InodeSize(version)])
		m.items[format.KeyMetaSeq(in.MetaSeq, ino)] = []byte{}
		if in.Mode&0o170000 == 0o100000 {
			m.items[format.KeyDataSeq(in.DataSeq, ino)] = []byte{}
		}
		if in.Nlink == 0 {
			m.items[format.KeyOrphan(ino)] = []byte{}
		}
	}
	return m.items
}

// Inode numbers and rids of the volume that rich makes.
const (
	dirIno, fileIno, symIno, orphanIno, subIno = 1024, 1025, 1026, 1027, 1028
	liveRid, deadRid                           = 0x1111, 0x2222
)

// rich makes a volume with everything in it: many files, each kind of item, an
// open log tree of a mounted client, a finalized one, srch files.
func rich(t testing.TB, version uint64) *vol {
	t.Helper()
	v := newVol(t, version)
	v.tx(func(tx *btree.Tx, s *format.Super) {
		m := newModel()
		m.inode(dirIno, 0o040755)
		m.inode(subIno, 0o040755)
		m.inode(fileIno, 0o100644).Size = 20 << 12
		m.inode(symIno, 0o120777).Size = 1001
		m.inode(orphanIno, 0o100644)
		m.entry(1, "dir", dirIno)
		m.entry(dirIno, "sub", subIno)
		m.entry(1, "file", fileIno)
		m.entry(subIno, "hardlink", fileIno)
		m.entry(dirIno, "symlink", symIno)
		for i := range 1500 {
			ino := format.Ino(2000 + i)
			m.inode(ino, 0o100600)
			m.entry(subIno, fmt.Sprintf("filler%04d", i), ino)
		}
		target := append(bytes.Repeat([]byte("x"), 1000), 0)
		m.items[format.KeySymlink(symIno, 0)], m.items[format.KeySymlink(symIno, 1)] = target[:896], target[896:]
		start, n, err := alloc.TakeExtent(tx, &s.DataAlloc, 20)
		must(t, err)
		if n != 20 {
			t.Fatalf("%d data blocks", n)
		}
		m.extent(fileIno, 0, 10, start, 0)
		m.extent(fileIno, 10, 5, start+10, format.ExtentUnwritten)
		m.extent(fileIno, 20, 100, 0, format.ExtentOffline)
		m.extent(fileIno, 200, 5, start+15, format.ExtentOffline|format.ExtentUnwritten)
		m.xattr(fileIno, "user.big", string(bytes.Repeat([]byte("v"), 2000)))
		m.xattr(fileIno, "user.small", "")
		m.xattr(fileIno, "scoutfs.srch.test", "s")
		m.xattr(dirIno, "scoutfs.srch.other", "s")
		m.xattr(fileIno, "scoutfs.totl.a.1.2.3", "100")
		m.xattr(dirIno, "scoutfs.totl.b.1.2.3", "0x10")
		if version >= 2 {
			m.xattr(fileIno, "scoutfs.indx.a.7.1000", "")
			r := format.QuotaRule{NameVal: [3]uint64{7, 1000, 0}, NameSource: [3]uint8{0, 2, 0}, NameFlags: [3]uint8{0, 1, 0}, Op: 1, Prio: 10, Limit: 1 << 20}
			m.items[format.KeyQuota(r.Hash(), 0)] = bytes.Clone(format.Bytes(&r))
		}
		all := m.all(version)
		writeForest(t, tx, s, m, all)
		writeSrch(t, tx, s, m.srch)
	})
	return v
}

// writeForest writes items partly to fs_root and partly to log trees, with older
// versions and items that were deleted in fs_root.
func writeForest(t testing.TB, tx *btree.Tx, s *format.Super, m *model, all itemMap) {
	t.Helper()
	late, early := itemMap{}, itemMap{}
	for k, val := range all {
		if k.Zone == format.ZoneFS && k.First >= 3400 {
			late[k] = val // with their lock groups
		} else {
			early[k] = val
		}
	}
	file := m.inodes[fileIno]
	old := *file
	old.Size, old.MetaSeq = 77, 9
	late[format.KeyInode(fileIno)] = early[format.KeyInode(fileIno)]
	early[format.KeyInode(fileIno)] = bytes.Clone(format.Bytes(&old)[:len(late[format.KeyInode(fileIno)])])
	late[format.KeyMetaSeq(10, fileIno)] = []byte{}
	delete(early, format.KeyMetaSeq(10, fileIno))
	early[format.KeyMetaSeq(9, fileIno)] = []byte{}
	late[format.KeyMetaSeq(9, fileIno)] = nil
	// a total of which a part is still a difference
	k := format.KeyTotl(1, 2, 3)
	early[k] = bytes.Clone(format.Bytes(&format.Totl{Total: 100, Count: 1}))
	late[k] = bytes.Clone(format.Bytes(&format.Totl{Total: 16, Count: 1}))
	root := format.BtreeRoot{}
	oldRoot := s.FSRoot
	must(t, put(tx, &root, early, 10))
	must(t, tx.Alloc.FreeBlock(oldRoot.Ref.Blkno))
	s.FSRoot = root
	s.NextIno, s.InodeCount, s.Seq = 20000, uint64(len(m.inodes))-2, 100
	live := format.LogTrees{Rid: liveRid, Nr: 1, GetTransSeq: 40, CommitTransSeq: 39, MaxItemSeq: 20, InodeCountDelta: 3}
	must(t, put(tx, &live.ItemRoot, late, 20))
	bloom(t, tx, &live, late)
	must(t, alloc.FillList(tx, &live.MetaAvail, &s.MetaAlloc[0], 10, 100))
	start, n, err := alloc.TakeExtent(tx, &s.DataAlloc, 1000)
	must(t, err)
	must(t, alloc.InsertExtent(tx, &live.DataAvail, start, n))
	dead := format.LogTrees{Rid: deadRid, Nr: 1, GetTransSeq: 30, CommitTransSeq: 30, MaxItemSeq: 15, FinalizeSeq: 31, Flags: format.LogTreesFinalized,
		InodeCountDelta: ^uint64(0)}
	gone := itemMap{}
	for i := range 1500 {
		gone[format.KeyInode(format.Ino(10000+i))] = nil
	}
	must(t, put(tx, &dead.ItemRoot, gone, 15))
	bloom(t, tx, &dead, gone)
	for _, lt := range []*format.LogTrees{&live, &dead} {
		k := format.KeyLogTrees(lt.Rid, lt.Nr)
		must(t, tx.Insert(&s.LogsRoot, &k, format.Bytes(lt)))
	}
	k = format.KeyMountedClient(liveRid)
	must(t, tx.Insert(&s.MountedClients, &k, format.Bytes(&format.MountedClient{})))
}

// bloom makes the bloom block of a log tree.
func bloom(t testing.TB, tx *btree.Tx, lt *format.LogTrees, items itemMap) {
	t.Helper()
	blkno, err := tx.Alloc.AllocBlock()
	must(t, err)
	b := tx.Writer.New(blkno, &block.Kind{Magic: format.MagicBloom})
	defer b.Release()
	bits := format.Overlay[format.BloomBlock](b.Bytes())
	for k := range items {
		lock := format.Key{Zone: k.Zone}
		switch k.Zone {
		case format.ZoneFS:
			lock.First = k.First / 1024 * 1024
		case format.ZoneInodeIndex:
			lock.Type, lock.Second = k.Type, k.Second/1024*1024
		case format.ZoneOrphan:
			lock.Type = k.Type
		}
		for _, nr := range format.BloomBitNrs(&lock) {
			if bits.Bits[nr/8]>>(nr%8)&1 == 0 {
				bits.TotalSet++
				bits.Bits[nr/8] |= 1 << (nr % 8)
			}
		}
	}
	lt.BloomRef = b.Ref()
}

// writeSrch writes the entries of live xattrs, and pairs that cancel, to a log
// file, a sorted file and a mount's file, and a compaction that waits.
func writeSrch(t testing.TB, tx *btree.Tx, s *format.Super, entries []format.SrchEntry) {
	t.Helper()
	gone := format.SrchEntry{Hash: 5, Ino: 77, ID: 1}
	var logFile, sorted format.SrchFile
	must(t, srch.AppendLog(tx, &logFile, []format.SrchEntry{entries[0], gone}))
	many := []format.SrchEntry{entries[1]}
	for i := range 9000 {
		e := format.SrchEntry{Hash: format.Hash64(fmt.Sprint(i)), Ino: format.Ino(i), ID: uint64(i)}
		many = append(many, e)
	}
	slices.SortFunc(many, func(a, b format.SrchEntry) int { return srch.Compare(&a, &b) })
	must(t, srch.AppendLog(tx, &sorted, many))
	k := format.KeySrchLog(logFile.Ref.Blkno)
	must(t, tx.Insert(&s.SrchRoot, &k, format.Bytes(&logFile)))
	k = format.KeySrchFile(sorted.Blocks, sorted.Ref.Blkno)
	must(t, tx.Insert(&s.SrchRoot, &k, format.Bytes(&sorted)))
	k = format.KeyLogTrees(liveRid, 1)
	it, err := btree.Lookup(tx.Cache, &s.LogsRoot, &k, nil)
	must(t, err)
	lt, _ := format.Load[format.LogTrees](it.Val)
	cancel := []format.SrchEntry{gone}
	for _, e := range many {
		if e != entries[1] {
			cancel = append(cancel, e)
		}
	}
	must(t, srch.AppendLog(tx, &lt.SrchFile, cancel))
	must(t, tx.Update(&s.LogsRoot, &k, format.Bytes(&lt)))
	c := format.SrchCompact{ID: uint64(logFile.Ref.Blkno), Nr: 1, Flags: format.SrchCompactLog}
	c.In[0].File = logFile
	k = format.KeySrchPending(c.ID)
	must(t, tx.Insert(&s.SrchRoot, &k, format.Bytes(&c)))
}
