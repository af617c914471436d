// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package volume_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"scoutfs/block"
	"scoutfs/btree"
	"scoutfs/format"
)

// itemSet is the committed state of a volume: all trees merged.
type itemSet struct {
	items map[format.Key]seqVal
	totl  map[format.Key]format.Totl
	srch  map[format.SrchEntry]int
}

type seqVal struct {
	seq  uint64
	dead bool
	val  []byte
}

// readItems merges fs_root and all log trees.
func readItems(t *testing.T, c *block.Cache, r *format.NetRoots) *itemSet {
	t.Helper()
	s := &itemSet{items: map[format.Key]seqVal{}, totl: map[format.Key]format.Totl{}}
	walk := func(root *format.BtreeRoot) {
		from := format.Key{}
		err := btree.Walk(c, root, &from, &format.KeyMax, func(it *btree.Item) error {
			s.add(it)
			return nil
		})
		if err != nil {
			t.Fatalf("walk: %v", err)
		}
	}
	walk(&r.FSRoot)
	from, to := format.Key{Zone: format.ZoneLogTrees}, format.KeyMax
	to.Zone = format.ZoneLogTrees
	err := btree.Walk(c, &r.LogsRoot, &from, &to, func(it *btree.Item) error {
		lt, ok := format.Load[format.LogTrees](it.Val)
		if !ok {
			return fmt.Errorf("bad log trees item")
		}
		walk(&lt.ItemRoot)
		return nil
	})
	if err != nil {
		t.Fatalf("walk log trees: %v", err)
	}
	for k, v := range s.items {
		if v.dead {
			delete(s.items, k)
		}
	}
	return s
}

func (s *itemSet) add(it *btree.Item) {
	if it.Key.Zone == format.ZoneTotl {
		v, _ := format.Load[format.Totl](it.Val)
		sum := s.totl[it.Key]
		s.totl[it.Key] = format.Totl{Total: sum.Total + v.Total, Count: sum.Count + v.Count}
		return
	}
	old, ok := s.items[it.Key]
	if !ok || it.Seq > old.seq {
		s.items[it.Key] = seqVal{it.Seq, it.Deletion(), slices.Clone(it.Val)}
	}
}

// checkItems looks for violations of spec format 12.8.
type checkItems struct {
	s       *itemSet
	inodes  map[format.Ino]*format.Inode
	keys    []format.Key
	problem []string
	backref map[format.Ino]int // entries that lead to an inode
	subdirs map[format.Ino]int
	names   map[format.Ino]uint64 // bytes of all names of a directory
	online  map[format.Ino]uint64
	offline map[format.Ino]uint64
	xids    map[format.Ino]uint64 // greatest xattr id
	index   int                   // index items that belong to inodes
	totl    map[format.Key]format.Totl
	xindex  map[format.Key]bool
	used    map[format.Blkno]format.Ino
	tails   map[format.Ino]format.Key
}

func (c *checkItems) bad(f string, args ...any) {
	if len(c.problem) < 20 {
		c.problem = append(c.problem, fmt.Sprintf(f, args...))
	}
}

// verify returns what is wrong with the items, and how many inodes there are.
func verify(s *itemSet, vers uint64) (problems []string, inodes int) {
	c := &checkItems{
		s: s, inodes: map[format.Ino]*format.Inode{}, backref: map[format.Ino]int{}, subdirs: map[format.Ino]int{},
		names: map[format.Ino]uint64{}, online: map[format.Ino]uint64{}, offline: map[format.Ino]uint64{}, xids: map[format.Ino]uint64{},
		totl: map[format.Key]format.Totl{}, xindex: map[format.Key]bool{}, used: map[format.Blkno]format.Ino{}, tails: map[format.Ino]format.Key{},
	}
	for k, v := range s.items {
		c.keys = append(c.keys, k)
		if k.Zone == format.ZoneFS && k.Type == format.TypeInode {
			in, ok := format.LoadInode(v.val, vers)
			if !ok {
				c.bad("inode item %v of %d bytes", k, len(v.val))
			}
			c.inodes[format.Ino(k.First)] = &in
		}
	}
	slices.SortFunc(c.keys, func(a, b format.Key) int { return a.Compare(&b) })
	for _, k := range c.keys {
		c.item(k, s.items[k].val)
	}
	for ino, in := range c.inodes {
		c.inode(ino, in)
	}
	c.global()
	return c.problem, len(c.inodes)
}

func (c *checkItems) has(k format.Key) bool { _, ok := c.s.items[k]; return ok }

func (c *checkItems) item(k format.Key, val []byte) {
	switch {
	case k.Zone == format.ZoneInodeIndex:
		c.index++
	case k.Zone == format.ZoneOrphan:
		if in := c.inodes[format.Ino(k.Second)]; in == nil || in.Nlink != 0 {
			c.bad("orphan item %v without a dead inode", k)
		}
	case k.Zone != format.ZoneFS || k.Type == format.TypeInode:
	case c.inodes[format.Ino(k.First)] == nil:
		c.bad("item %v without an inode", k)
	case k.Type == format.TypeDirent:
		c.dirent(k, val)
	case k.Type == format.TypeReaddir:
		d, _, ok := format.ParseDirent(val)
		if !ok || string(c.s.items[format.KeyDirent(format.Ino(k.First), d.Hash, d.Pos)].val) != string(val) {
			c.bad("readdir item %v has no twin", k)
		}
	case k.Type == format.TypeBackref:
		d, _, ok := format.ParseDirent(val)
		if !ok || string(c.s.items[format.KeyDirent(format.Ino(k.Second), d.Hash, d.Pos)].val) != string(val) {
			c.bad("backref item %v has no twin", k)
		}
	case k.Type == format.TypeExtent:
		c.extent(k, val)
	case k.Type == format.TypeXattr:
		c.xattr(k, val)
	}
}

func (c *checkItems) dirent(k format.Key, val []byte) {
	dir := format.Ino(k.First)
	d, name, ok := format.ParseDirent(val)
	if !ok || d.Hash != k.Second || d.Pos != k.Third || format.NameHash(string(name)) != d.Hash {
		c.bad("entry %v is inconsistent", k)
		return
	}
	for _, twin := range []format.Key{format.KeyReaddir(dir, d.Pos), format.KeyBackref(d.Ino, dir, d.Pos)} {
		if string(c.s.items[twin].val) != string(val) {
			c.bad("entry %v: item %v differs or is missing", k, twin)
		}
	}
	in, target := c.inodes[dir], c.inodes[d.Ino]
	if target == nil {
		c.bad("entry %v leads to missing inode %d", k, d.Ino)
		return
	}
	if d.Pos < 2 || d.Pos >= in.NextReaddirPos || in.Nlink == 0 || format.DirentType(target.Mode) != d.Type {
		c.bad("entry %v: position, type or directory are wrong", k)
	}
	c.backref[d.Ino]++
	c.names[dir] += uint64(len(name))
	if target.Mode&0o170000 == 0o040000 {
		c.subdirs[dir]++
	}
}

func (c *checkItems) extent(k format.Key, val []byte) {
	ino := format.Ino(k.First)
	e, ok := format.Load[format.Extent](val)
	start := k.Second - k.Third + 1
	if !ok || k.Third == 0 {
		c.bad("extent %v is malformed", k)
		return
	}
	if prev, ok := c.tails[ino]; ok && prev.Second >= start {
		c.bad("extents %v and %v overlap", prev, k)
	} else if ok && prev.Second+1 == start {
		pe, _ := format.Load[format.Extent](c.s.items[prev].val)
		if pe.Flags == e.Flags && (pe.Blkno == 0) == (e.Blkno == 0) && (e.Blkno == 0 || pe.Blkno+format.Blkno(prev.Third) == e.Blkno) {
			c.bad("extents %v and %v could be one", prev, k)
		}
	}
	c.tails[ino] = k
	switch {
	case e.Blkno != 0 && e.Flags&format.ExtentUnwritten == 0:
		c.online[ino] += k.Third
	case e.Flags&format.ExtentOffline != 0:
		c.offline[ino] += k.Third
	}
	if e.Blkno == 0 {
		return
	}
	for b := e.Blkno; b < e.Blkno+format.Blkno(k.Third); b++ {
		if other, ok := c.used[b]; ok {
			c.bad("block %d belongs to inodes %d and %d", b, other, ino)
			return
		}
		c.used[b] = ino
	}
}

func (c *checkItems) xattr(k format.Key, val []byte) {
	ino := format.Ino(k.First)
	c.xids[ino] = max(c.xids[ino], k.Third)
	if k.Fourth != 0 {
		prev := k
		prev.Fourth--
		if !c.has(prev) {
			c.bad("xattr part %v has none before it", k)
		}
		return
	}
	h, name, rest, ok := format.ParseXattr(val)
	if !ok || uint64(format.XattrNameHash(string(name))) != k.Second {
		c.bad("xattr %v is malformed", k)
		return
	}
	parts := format.XattrParts(int(h.NameLen), int(h.ValLen))
	total := len(val)
	for i := 1; i < 256; i++ {
		part := k
		part.Fourth = uint8(i)
		if c.has(part) != (i < parts) {
			c.bad("xattr %v: part %d of %d", k, i, parts)
		}
		total += len(c.s.items[part].val)
	}
	if total != 8+int(h.NameLen)+int(h.ValLen) {
		c.bad("xattr %v has %d bytes", k, total)
	}
	tags, ok := format.ParseTags(string(name))
	if !ok {
		c.bad("xattr %v: bad tags in %q", k, name)
	}
	if tags&format.TagTotl != 0 {
		abc, _ := format.ParseTotlName(string(name))
		n, ok := format.ParseNumber(rest)
		if !ok {
			c.bad("xattr %v: totl value %q", k, rest)
		}
		tk := format.KeyTotl(abc[0], abc[1], abc[2])
		c.totl[tk] = format.Totl{Total: c.totl[tk].Total + n, Count: c.totl[tk].Count + 1}
	}
	if tags&format.TagIndx != 0 {
		major, minor, _ := format.ParseIndxName(string(name))
		c.xindex[format.KeyXattrIndex(major, minor, ino, k.Third)] = true
	}
}

func (c *checkItems) inode(ino format.Ino, in *format.Inode) {
	dir, reg := in.Mode&0o170000 == 0o040000, in.Mode&0o170000 == 0o100000
	if !c.has(format.KeyMetaSeq(in.MetaSeq, ino)) {
		c.bad("inode %d has no index item at meta_seq %d", ino, in.MetaSeq)
	}
	c.index--
	if reg {
		if !c.has(format.KeyDataSeq(in.DataSeq, ino)) {
			c.bad("inode %d has no index item at data_seq %d", ino, in.DataSeq)
		}
		c.index--
	}
	if (in.Nlink == 0) != c.has(format.KeyOrphan(ino)) {
		c.bad("inode %d: nlink %d, orphan item %v", ino, in.Nlink, in.Nlink != 0)
	}
	links := c.backref[ino]
	switch {
	case dir && ino == format.RootIno && links != 0:
		c.bad("the root has %d names", links)
	case dir && ino != format.RootIno && in.Nlink > 0 && links != 1:
		c.bad("directory %d has %d names", ino, links)
	case dir && in.Nlink > 0 && int(in.Nlink) != 2+c.subdirs[ino]:
		c.bad("directory %d has nlink %d and %d subdirectories", ino, in.Nlink, c.subdirs[ino])
	case dir && in.Nlink == 0 && links+c.subdirs[ino] > 0:
		c.bad("dead directory %d is in use", ino)
	case !dir && int(in.Nlink) != links:
		c.bad("inode %d has nlink %d and %d names", ino, in.Nlink, links)
	}
	if dir && in.Size != c.names[ino] {
		c.bad("directory %d has size %d, names %d", ino, in.Size, c.names[ino])
	}
	if in.OnlineBlocks != c.online[ino] || in.OfflineBlocks != c.offline[ino] {
		c.bad("inode %d counts %d online %d offline, has %d, %d", ino, in.OnlineBlocks, in.OfflineBlocks, c.online[ino], c.offline[ino])
	}
	if id, ok := c.xids[ino]; ok && id >= in.NextXattrID {
		c.bad("inode %d: xattr id %d, next %d", ino, id, in.NextXattrID)
	}
	if in.Mode&0o170000 == 0o120000 {
		var target strings.Builder
		for part := uint64(0); c.has(format.KeySymlink(ino, part)); part++ {
			target.Write(c.s.items[format.KeySymlink(ino, part)].val)
		}
		if s := target.String(); uint64(len(s)) != in.Size || strings.IndexByte(s, 0) != len(s)-1 {
			c.bad("symbolic link %d of size %d holds %q", ino, in.Size, s)
		}
	}
}

func (c *checkItems) global() {
	if c.index != 0 {
		c.bad("%d index items too many", c.index)
	}
	if root := c.inodes[format.RootIno]; root == nil || root.Mode&0o170000 != 0o040000 {
		c.bad("no root directory")
	}
	for k, want := range c.totl {
		if c.s.totl[k] != want {
			c.bad("total %v is %+v, want %+v", k, c.s.totl[k], want)
		}
	}
	for k, got := range c.s.totl {
		if got != c.totl[k] {
			c.bad("total %v is %+v, want %+v", k, got, c.totl[k])
		}
	}
	for k := range c.xindex {
		if !c.has(k) {
			c.bad("xattr index item %v is missing", k)
		}
	}
	for _, k := range c.keys {
		if k.Zone == format.ZoneXattrIndex && !c.xindex[k] {
			c.bad("xattr index item %v without its xattr", k)
		}
	}
	for ino := range c.inodes {
		c.reaches(ino)
	}
}

// reaches follows first backrefs up to the root.
func (c *checkItems) reaches(ino format.Ino) {
	at := ino
	for range 10000 {
		if at == format.RootIno || c.inodes[at] == nil || c.inodes[at].Nlink == 0 {
			return
		}
		from := format.KeyBackref(at, 0, 0)
		i, _ := slices.BinarySearchFunc(c.keys, from, func(a, b format.Key) int { return a.Compare(&b) })
		if i == len(c.keys) || c.keys[i].First != uint64(at) || c.keys[i].Type != format.TypeBackref {
			c.bad("inode %d: %d has no backref", ino, at)
			return
		}
		at = format.Ino(c.keys[i].Second)
	}
	c.bad("inode %d does not lead to the root", ino)
}
