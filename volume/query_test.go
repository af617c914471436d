// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package volume_test

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"scoutfs/format"
	"scoutfs/volume"
)

var maxEntry = volume.WalkEntry{Major: format.MaxKeyU64, Ino: format.Ino(format.MaxKeyU64)}

func TestWalkInodes(t *testing.T) {
	w := newWorld(t, 2)
	m1, m2 := w.mount(mountOptions{}), w.mount(mountOptions{})
	want := map[format.Ino]uint64{}
	var dirs int
	for i := range 50 {
		m := m1
		if i%2 == 1 {
			m = m2
		}
		a := must[volume.Attr](t)(m.v().Create(root, rootIno, fmt.Sprint("f", i), 0o600))
		if i%10 == 0 {
			ok(t, m.v().Fsync(root, a.Ino))
			must[volume.Attr](t)(m.v().Mkdir(root, rootIno, fmt.Sprint("d", i), 0o700))
			dirs++
		}
		want[a.Ino] = 0
	}
	for _, m := range []*mount{m1, m2} { // two commits make everything stable
		ok(t, m.v().Fsync(root, rootIno))
	}
	ok(t, m1.v().Fsync(root, rootIno))
	for ino := range want {
		want[ino] = must[volume.Attr](t)(m1.v().Getattr(root, ino)).DataSeq
	}
	got := map[format.Ino]uint64{}
	first := volume.WalkEntry{}
	for {
		list := must[[]volume.WalkEntry](t)(m2.v().WalkInodes(root, volume.IndexDataSeq, first, maxEntry, 7))
		if len(list) == 0 {
			break
		}
		for _, e := range list {
			if e.Major < first.Major || (e.Major == first.Major && e.Ino < first.Ino) {
				t.Fatalf("%+v after %+v", e, first)
			}
			got[e.Ino] = e.Major
			first = volume.WalkEntry{Major: e.Major, Ino: e.Ino + 1}
		}
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	meta := must[[]volume.WalkEntry](t)(m1.v().WalkInodes(root, volume.IndexMetaSeq, volume.WalkEntry{}, maxEntry, 1000))
	if len(meta) != len(want)+dirs+1 {
		t.Errorf("meta_seq index has %d inodes", len(meta))
	}
	_, err := m1.v().WalkInodes(root, 2, first, maxEntry, 1)
	wantErr(t, "unknown index", err, syscall.EINVAL)
	if l := must[[]volume.WalkEntry](t)(m1.v().WalkInodes(root, 0, maxEntry, volume.WalkEntry{}, 5)); len(l) != 0 {
		t.Errorf("backwards: %v", l)
	}
	m1.close()
	m2.close()
	w.check()
}

func TestPathsAndEntries(t *testing.T) {
	m := one(t)
	v := m.v()
	dir := rootIno
	var want []string
	for i := range 5 {
		name := fmt.Sprint("dir", i)
		dir = must[volume.Attr](t)(v.Mkdir(root, dir, name, 0o755)).Ino
		want = append(want, name)
	}
	f := must[volume.Attr](t)(v.Create(root, dir, "file", 0o600)).Ino
	must[volume.Attr](t)(v.Link(root, f, rootIno, "other"))
	long := strings.Join(append(want, "file"), "/")
	var paths []string
	at := volume.Path{}
	for {
		p, err := v.InoPath(root, f, at.DirIno, at.DirPos, 4096)
		if err != nil {
			wantErr(t, "last path", err, syscall.ENOENT)
			break
		}
		paths = append(paths, string(p.Path))
		at = p
		at.DirPos++
	}
	if d := cmp.Diff([]string{"other", long}, paths); d != "" {
		t.Error(d)
	}
	_, err := v.InoPath(root, f, dir, 0, len(long))
	wantErr(t, "short buffer", err, syscall.ENAMETOOLONG)
	must[volume.Path](t)(v.InoPath(root, f, dir, 0, len(long)+1))
	_, err = v.InoPath(root, rootIno, 0, 0, 4096)
	wantErr(t, "path of the root", err, syscall.ENOENT)
	_, err = v.InoPath(&volume.Caller{UID: 5}, f, 0, 0, 4096)
	wantErr(t, "path without capability", err, syscall.EPERM)
	able := &volume.Caller{UID: 5, Capable: func(_ *volume.Caller, n int) bool { return n == volume.CapDacReadSearch }}
	must[volume.Path](t)(v.InoPath(able, f, 0, 0, 4096))

	got := must[[]volume.Referring](t)(v.ReferringEntries(root, f, 0, 0, 10))
	wantRef := []volume.Referring{
		{DirIno: rootIno, DirPos: 3, Ino: f, Type: 8, Name: "other"},
		{DirIno: dir, DirPos: 2, Ino: f, Type: 8, Name: "file", Last: true},
	}
	if d := cmp.Diff(wantRef, got); d != "" {
		t.Error(d)
	}
	if got := must[[]volume.Referring](t)(v.ReferringEntries(root, f, 0, 0, 1)); len(got) != 1 || got[0].Last {
		t.Errorf("first entry: %+v", got)
	}
	if got := must[[]volume.Referring](t)(v.ReferringEntries(root, f, dir, 3, 10)); len(got) != 0 {
		t.Errorf("behind the last entry: %+v", got)
	}
}

func TestStatfs(t *testing.T) {
	w := newWorld(t, 2)
	m := w.mount(mountOptions{vol: func(o *volume.Options) { o.ServerClients = func() (int, bool) { return 2, true } }})
	v := m.v()
	for i := range 10 {
		must[volume.Attr](t)(v.Create(root, rootIno, fmt.Sprint(i), 0o600))
	}
	ok(t, v.Fsync(root, rootIno))
	s := must[volume.Statfs](t)(v.Statfs(root))
	if s.Type != 0x554f4353 || s.Bsize != 4096 || s.Blocks != 2*diskSize/4096 || s.Namelen != 255 || s.Inodes != 11 {
		t.Errorf("%+v", s)
	}
	if s.Bfree == 0 || s.Bfree > s.Blocks || s.Files != diskSize/2048 || s.Ffree != s.Files-11 {
		t.Errorf("%+v", s)
	}
	more := must[volume.StatfsMore](t)(v.StatfsMore(root))
	want := volume.StatfsMore{
		Fsid: w.super.Hdr.Fsid, Rid: m.rid, CommittedSeq: more.CommittedSeq,
		TotalMetaBlocks: diskSize / 65536, TotalDataBlocks: diskSize / 4096, ReservedMetaBlocks: 34681 + 18311,
	}
	if d := cmp.Diff(want, more); d != "" {
		t.Error(d)
	}
	a := must[volume.Attr](t)(v.Lookup(root, rootIno, "5"))
	ok(t, v.Fsync(root, a.Ino))
	if seq := must[volume.StatfsMore](t)(v.StatfsMore(root)).CommittedSeq; seq < a.MetaSeq {
		t.Errorf("committed seq %d after a sync, meta_seq %d", seq, a.MetaSeq)
	}
	list := must[[]volume.AllocEntry](t)(v.AllocDetail(root))
	if len(list) != 11 {
		t.Errorf("%d allocators: %+v", len(list), list)
	}
	for i, e := range list {
		if (i < 2 || i >= 3 && i < 9) != e.Meta {
			t.Errorf("allocator %d: %+v", i, e)
		}
		if i >= 7 && e.ID != uint64(m.rid) {
			t.Errorf("allocator %d: %+v", i, e)
		}
	}
	m.close()
	w.check()
}

func TestInodeNumbers(t *testing.T) {
	m := one(t)
	v := m.v()
	f := must[volume.Attr](t)(v.Create(root, rootIno, "f", 0o600)).Ino
	d := must[volume.Attr](t)(v.Mkdir(root, rootIno, "d", 0o700)).Ino
	if d/1024 == f/1024 {
		t.Errorf("directory %d and file %d share a group", d, f)
	}
	if g := must[volume.Attr](t)(v.Create(root, rootIno, "g", 0o600)).Ino; g != f+1 {
		t.Errorf("file %d after %d", g, f)
	}
	m.tun.InoAllocPerLock.Store(4)
	var inos []format.Ino
	for i := range 8 {
		name := fmt.Sprint("n", i)
		if i%2 == 0 {
			inos = append(inos, must[volume.Attr](t)(v.Mkdir(root, rootIno, name, 0o700)).Ino)
		} else {
			inos = append(inos, must[volume.Attr](t)(v.Create(root, rootIno, name, 0o600)).Ino)
		}
	}
	want := []format.Ino{f + 2, f + 3, f/1024*1024 + 1024, f/1024*1024 + 1025, f/1024*1024 + 1026, f/1024*1024 + 1027, f/1024*1024 + 2048, f/1024*1024 + 2049}
	if d := cmp.Diff(want, inos); d != "" {
		t.Error(d)
	}
}
