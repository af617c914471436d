// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package volume_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"scoutfs/format"
	"scoutfs/lock"
	"scoutfs/txn"
	"scoutfs/volume"
)

var root = &volume.Caller{}

const rootIno = format.RootIno

// one is a test's world with one mount, checked when the test ends.
func one(t *testing.T) *mount {
	t.Helper()
	w := newWorld(t, 2)
	m := w.mount(mountOptions{})
	t.Cleanup(func() {
		m.close()
		w.check()
	})
	return m
}

func must[T any](t *testing.T) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func wantErr(t *testing.T, what string, err error, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: got %v, want %v", what, err, want)
	}
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// edit changes an inode and its extents behind the back of the package, as
// later archive calls will.
func (m *mount) edit(t *testing.T, ino format.Ino, fn func(in *format.Inode), add ...volume.Extent) {
	t.Helper()
	ctx := context.Background()
	lk := must[*lock.Lock](t)(m.locks.Acquire(ctx, lock.InodeGroup(ino), format.LockWrite))
	tx := must[*txn.Tx](t)(m.eng.Begin(ctx, txn.Allocating))
	defer func() { m.locks.Release(lk, format.LockWrite, tx.Seq()) }()
	key, buf := format.KeyInode(ino), make([]byte, 168)
	must[int](t)(m.eng.Lookup(ctx, lk, &key, buf))
	in, _ := format.LoadInode(buf, 2)
	if fn != nil {
		fn(&in)
	}
	for _, x := range add {
		k, e := format.KeyExtent(ino, x.Iblock+x.Blocks-1, x.Blocks), format.Extent{Blkno: x.Blkno, Flags: x.Flags}
		ok(t, tx.Create(lk, &k, format.Bytes(&e)))
		in.OfflineBlocks += x.Blocks
	}
	ok(t, tx.Update(lk, &key, format.Bytes(&in)))
	tx.Done()
}

// hold takes W on the group of ino until the function that it returns is called.
func (m *mount) hold(t *testing.T, ino format.Ino) (release func()) {
	t.Helper()
	lk := must[*lock.Lock](t)(m.locks.Acquire(context.Background(), lock.InodeGroup(ino), format.LockWrite))
	return func() { m.locks.Release(lk, format.LockWrite, 0) }
}

func TestCreateDefaults(t *testing.T) {
	m := one(t)
	v := m.v()
	c := &volume.Caller{UID: 1000, GID: 100, Umask: 0o027}
	before := time.Now()
	a := must[volume.Attr](t)(v.Create(c, rootIno, "file", 0o666))
	now := time.Unix(int64(a.Crtime.Sec), int64(a.Crtime.Nsec))
	if now.Before(before.Add(-time.Second)) || now.After(time.Now()) {
		t.Errorf("created at %v", now)
	}
	want := format.Inode{
		MetaSeq: a.MetaSeq, DataSeq: a.MetaSeq, NextReaddirPos: 2, Nlink: 1, UID: 1000, GID: 100, Mode: sIFREG | 0o640,
		Atime: a.Crtime, Ctime: a.Crtime, Mtime: a.Crtime, Crtime: a.Crtime,
	}
	same := cmp.Comparer(func(a, b format.Inode) bool { return a == b })
	if d := cmp.Diff(want, a.Inode, same); d != "" {
		t.Error(d)
	}
	if got := must[volume.Attr](t)(v.Getattr(c, a.Ino)); got != a {
		t.Errorf("getattr %+v, create %+v", got, a)
	}
	d := must[volume.Attr](t)(v.Mkdir(c, rootIno, "dir", 0o777))
	must[volume.Attr](t)(v.Setattr(root, d.Ino, &volume.SetAttr{Valid: volume.SetMode | volume.SetGID, Mode: 0o2775, GID: 7}))
	sub := must[volume.Attr](t)(v.Mkdir(c, d.Ino, "sub", 0o777))
	if sub.GID != 7 || sub.Mode != sIFDIR|0o2750 || sub.Nlink != 2 {
		t.Errorf("directory in a setgid directory: gid %d mode %o nlink %d", sub.GID, sub.Mode, sub.Nlink)
	}
	f := must[volume.Attr](t)(v.Create(c, d.Ino, "f", 0o2755))
	if f.GID != 7 || f.Mode&0o777 != 0o750 {
		t.Errorf("file in a setgid directory: gid %d mode %o", f.GID, f.Mode)
	}
	dev := must[volume.Attr](t)(v.Mknod(c, rootIno, "dev", 0o020600, 5<<20|3))
	if dev.Rdev != 5<<20|3 || dev.Mode != 0o020600 {
		t.Errorf("device %x mode %o", dev.Rdev, dev.Mode)
	}
	up := must[volume.Attr](t)(v.Lookup(c, d.Ino, ".."))
	if up.Ino != rootIno || up.Nlink != 3 || up.Size != uint64(len("file")+len("dir")+len("dev")) {
		t.Errorf("root: ino %d nlink %d size %d", up.Ino, up.Nlink, up.Size)
	}
}

func TestNames(t *testing.T) {
	m := one(t)
	v := m.v()
	long := strings.Repeat("x", 256)
	create := func(name string) error { _, err := v.Create(root, rootIno, name, 0o600); return err }
	wantErr(t, "long name", create(long), syscall.ENAMETOOLONG)
	wantErr(t, "empty name", create(""), syscall.ENOENT)
	wantErr(t, "dot", create("."), syscall.EEXIST)
	wantErr(t, "slash", create("a/b"), syscall.EINVAL)
	ok(t, create(long[:255]))
	wantErr(t, "again", create(long[:255]), syscall.EEXIST)
	_, err := v.Lookup(root, rootIno, long)
	wantErr(t, "look a long name up", err, syscall.ENAMETOOLONG)
	_, err = v.Lookup(root, rootIno, "none")
	wantErr(t, "look a missing name up", err, syscall.ENOENT)
	_, err = v.Lookup(root, 999999, ".")
	wantErr(t, "look a missing inode up", err, syscall.ESTALE)
	_, err = v.Getattr(root, 999999)
	wantErr(t, "attributes of a missing inode", err, syscall.ESTALE)
	_, err = v.Symlink(root, rootIno, "l", strings.Repeat("x", 4096))
	wantErr(t, "long target", err, syscall.ENAMETOOLONG)
	l := must[volume.Attr](t)(v.Symlink(root, rootIno, "l", strings.Repeat("x", 4095)))
	if l.Size != 4096 {
		t.Errorf("size of a symbolic link %d", l.Size)
	}
	f := must[volume.Attr](t)(v.Lookup(root, rootIno, long[:255]))
	_, err = v.Create(root, f.Ino, "x", 0o600)
	wantErr(t, "create below a file", err, syscall.ENOTDIR)
	_, err = v.Link(root, rootIno, rootIno, "loop")
	wantErr(t, "link a directory", err, syscall.EPERM)
}

// collidingNames finds names with equal 32 bit hashes and fingerprints.
func collidingNames() (a, b string) {
	seen := map[uint64]string{}
	for i := 0; ; i++ {
		// Longer than 32 bits of the fingerprint, so that only FNV differs.
		name := fmt.Sprintf("%s%08x", strings.Repeat("c", 200), i)
		h := format.NameHash(name)
		if other, ok := seen[h]; ok {
			return other, name
		}
		seen[h] = name
	}
}

func TestNameHashCollision(t *testing.T) {
	m := one(t)
	v := m.v()
	n1, n2 := collidingNames()
	a1 := must[volume.Attr](t)(v.Create(root, rootIno, n1, 0o600))
	a2 := must[volume.Attr](t)(v.Create(root, rootIno, n2, 0o600))
	for name, want := range map[string]format.Ino{n1: a1.Ino, n2: a2.Ino} {
		if a := must[volume.Attr](t)(v.Lookup(root, rootIno, name)); a.Ino != want {
			t.Errorf("%s leads to %d, want %d", name, a.Ino, want)
		}
	}
	ok(t, v.Unlink(root, rootIno, n1))
	if a := must[volume.Attr](t)(v.Lookup(root, rootIno, n2)); a.Ino != a2.Ino {
		t.Errorf("%s leads to %d after the other one is gone", n2, a.Ino)
	}
	_, err := v.Lookup(root, rootIno, n1)
	wantErr(t, "the one that is gone", err, syscall.ENOENT)
}

func TestRename(t *testing.T) {
	m := one(t)
	v := m.v()
	mk := func(dir format.Ino, name string) format.Ino {
		return must[volume.Attr](t)(v.Mkdir(root, dir, name, 0o755)).Ino
	}
	a := mk(rootIno, "a")
	b := mk(a, "b")
	c := mk(b, "c")
	wantErr(t, "below itself", v.Rename(root, rootIno, "a", c, "x", 0), syscall.EINVAL)
	wantErr(t, "into itself", v.Rename(root, rootIno, "a", a, "x", 0), syscall.EINVAL)
	wantErr(t, "over an ancestor", v.Rename(root, b, "c", rootIno, "a", 0), syscall.EINVAL)
	wantErr(t, "exchange", v.Rename(root, rootIno, "a", b, "x", 2), syscall.EINVAL)
	wantErr(t, "whiteout", v.Rename(root, rootIno, "a", b, "x", 4), syscall.EINVAL)
	ok(t, v.Rename(root, b, "c", rootIno, "c", 0))
	wantErr(t, "noreplace", v.Rename(root, rootIno, "c", a, "b", volume.RenameNoreplace), syscall.EEXIST)
	ok(t, v.Rename(root, rootIno, "c", a, "b", 0)) // over the empty b
	if got := must[volume.Attr](t)(v.Lookup(root, a, "b")); got.Ino != c {
		t.Errorf("a/b is %d, want %d", got.Ino, c)
	}
	f := must[volume.Attr](t)(v.Create(root, a, "f", 0o600))
	wantErr(t, "file over directory", v.Rename(root, a, "f", a, "b", 0), syscall.EISDIR)
	wantErr(t, "directory over file", v.Rename(root, a, "b", a, "f", 0), syscall.ENOTDIR)
	wantErr(t, "over a full directory", v.Rename(root, a, "b", rootIno, "a", 0), syscall.EINVAL)
	must[volume.Attr](t)(v.Link(root, f.Ino, a, "g"))
	ok(t, v.Rename(root, a, "f", a, "g", 0)) // nothing happens
	if got := must[volume.Attr](t)(v.Getattr(root, f.Ino)); got.Nlink != 2 {
		t.Errorf("nlink %d after a rename to the same inode", got.Nlink)
	}
}

func (m *mount) list(t *testing.T, dir format.Ino) []string {
	t.Helper()
	var names []string
	ok(t, m.v().ReadDir(root, dir, 2, func(e *volume.DirEntry) bool {
		names = append(names, string(e.Name))
		return true
	}))
	return names
}

func TestReaddirKeepsItsPlace(t *testing.T) {
	m := one(t)
	v := m.v()
	for i := range 500 {
		must[volume.Attr](t)(v.Create(root, rootIno, fmt.Sprintf("f%03d", i), 0o600))
	}
	var seen []string
	pos := uint64(0)
	for i := 0; ; i++ {
		before := len(seen)
		ok(t, v.ReadDirPlus(root, rootIno, pos, func(e *volume.DirEntry, a *volume.Attr) bool {
			if len(seen)-before == 7 {
				return false
			}
			if (a == nil) != (e.Pos < 2) || (a != nil && a.Ino != e.Ino) {
				t.Fatalf("entry %s has attributes %+v", e.Name, a)
			}
			seen, pos = append(seen, string(e.Name)), e.Pos+1
			return true
		}))
		if len(seen) == before {
			break
		}
		// Changes in front of and behind the cursor.
		ok(t, v.Unlink(root, rootIno, fmt.Sprintf("f%03d", i)))
		if i < 20 {
			must[volume.Attr](t)(v.Create(root, rootIno, fmt.Sprintf("g%03d", i), 0o600))
		}
	}
	count := map[string]int{}
	for _, name := range seen {
		count[name]++
	}
	for i := range 500 {
		if n := count[fmt.Sprintf("f%03d", i)]; n != 1 && i >= 100 {
			t.Errorf("f%03d was listed %d times", i, n)
		}
	}
	if count["."] != 1 || count[".."] != 1 || count["g000"] != 1 {
		t.Errorf("listed: %v", slices.Sorted(maps.Keys(count)))
	}
}

func pattern(n int, seed byte) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7+i>>8) ^ seed
	}
	return b
}

func (m *mount) write(t *testing.T, ino format.Ino, off int64, data []byte) {
	t.Helper()
	n, _, err := m.v().Write(root, ino, off, data, 0)
	if err != nil || n != len(data) {
		t.Fatalf("write %d bytes at %d: %d, %v", len(data), off, n, err)
	}
}

func (m *mount) read(t *testing.T, ino format.Ino) []byte {
	t.Helper()
	a := must[volume.Attr](t)(m.v().Getattr(root, ino))
	buf := make([]byte, a.Size+10)
	n := must[int](t)(m.v().Read(root, ino, 0, buf))
	return buf[:n]
}

// layout describes extents without places: first block, length, kind.
func (m *mount) layout(t *testing.T, ino format.Ino) string {
	t.Helper()
	var runs []volume.Extent
	for _, e := range must[[]volume.Extent](t)(m.v().Extents(root, ino, 0, 1000)) {
		if n := len(runs); n > 0 && runs[n-1].Flags == e.Flags && runs[n-1].Iblock+runs[n-1].Blocks == e.Iblock {
			runs[n-1].Blocks += e.Blocks
		} else {
			runs = append(runs, e)
		}
	}
	var b strings.Builder
	kinds := [...]string{"written", "offline", "unwritten", "staging"}
	for _, e := range runs {
		fmt.Fprintf(&b, "%d+%d %s; ", e.Iblock, e.Blocks, kinds[e.Flags])
	}
	return strings.TrimSuffix(b.String(), "; ")
}

func TestAllocationPolicy(t *testing.T) {
	m := one(t)
	v := m.v()
	file := func(name string) format.Ino {
		return must[volume.Attr](t)(v.Create(root, rootIno, name, 0o600)).Ino
	}
	f := file("stream")
	for i := range int64(9) {
		m.write(t, f, i*4096, pattern(4096, byte(i)))
	}
	if got := m.layout(t, f); got != "0+9 written; 9+7 unwritten" {
		t.Errorf("streaming by blocks: %s", got)
	}
	g := file("big")
	m.write(t, g, 0, pattern(9*4096, 1))
	if got := m.layout(t, g); got != "0+9 written; 9+7 unwritten" {
		t.Errorf("one write: %s", got)
	}
	must[volume.Attr](t)(v.Setattr(root, g, &volume.SetAttr{Valid: volume.SetSize, Size: 9 * 4096}))
	if got := m.layout(t, g); got != "0+9 written" {
		t.Errorf("truncated to its size: %s", got)
	}
	h := file("random")
	m.write(t, h, 100*4096, pattern(8192, 1))
	m.write(t, h, 50*4096+1, pattern(1, 1))
	if got := m.layout(t, h); got != "50+1 written; 100+2 written" {
		t.Errorf("random: %s", got)
	}
	m.tun.RegionPrealloc.Store(true)
	m.tun.DataPreallocBlocks.Store(16)
	r := file("regions")
	m.write(t, r, 0, pattern(4096, 1))
	m.write(t, r, 40*4096, pattern(4096, 2)) // one block online: no more
	if got := m.layout(t, r); got != "0+1 written; 40+1 written" {
		t.Errorf("small file with regions: %s", got)
	}
	m.write(t, r, 4096, pattern(30*4096, 1))
	m.write(t, r, 80*4096, pattern(4096, 1))
	if got := m.layout(t, r); got != "0+31 written; 31+1 unwritten; 40+1 written; 80+1 written; 81+15 unwritten" {
		t.Errorf("regions: %s", got)
	}
}

func TestTruncateInSteps(t *testing.T) {
	m := one(t)
	v := m.v()
	f := must[volume.Attr](t)(v.Create(root, rootIno, "f", 0o600)).Ino
	for i := range int64(40) {
		m.write(t, f, i*8192, pattern(4096, byte(i)))
	}
	a := must[volume.Attr](t)(v.Setattr(root, f, &volume.SetAttr{Valid: volume.SetSize, Size: 8192 + 100}))
	if a.OnlineBlocks != 2 || a.Flags != 0 || a.Size != 8292 {
		t.Errorf("%d blocks, flags %d, size %d", a.OnlineBlocks, a.Flags, a.Size)
	}
	want := append(pattern(4096, 0), make([]byte, 4096)...)
	want = append(want, pattern(4096, 1)[:100]...)
	if !bytes.Equal(m.read(t, f), want) {
		t.Error("wrong data after truncation")
	}
	must[volume.Attr](t)(v.Setattr(root, f, &volume.SetAttr{Valid: volume.SetSize, Size: 20000}))
	if !bytes.Equal(m.read(t, f), append(want, make([]byte, 20000-8292)...)) {
		t.Error("what was cut off came back")
	}
	// A truncation that a crash interrupted is finished by the next write.
	m.write(t, f, 100*4096, pattern(20*8192, 3))
	m.edit(t, f, func(in *format.Inode) { in.Flags |= format.InodeTruncate; in.Size = 4096 })
	ok(t, v.Fallocate(root, f, 0, 0, 200*4096))
	if got := m.read(t, f); !bytes.Equal(got, append(pattern(4096, 0), make([]byte, 199*4096)...)) {
		t.Error("what a truncation had left came back")
	}
}

func TestWriteErrors(t *testing.T) {
	m := one(t)
	v := m.v()
	f := must[volume.Attr](t)(v.Create(root, rootIno, "f", 0o600)).Ino
	_, _, err := v.Write(root, f, 1<<63-1, []byte{1}, 0)
	wantErr(t, "at the largest offset", err, syscall.EFBIG)
	n, a, err := v.Write(root, f, 1<<63-3, []byte{1, 2, 3}, 0)
	if n != 2 || a.Size != 1<<63-1 || err != nil {
		t.Errorf("up to the largest offset: %d, size %d, %v", n, a.Size, err)
	}
	_, err = v.Setattr(root, f, &volume.SetAttr{Valid: volume.SetSize, Size: 1 << 63})
	wantErr(t, "too large", err, syscall.EFBIG)
	_, err = v.Setattr(root, rootIno, &volume.SetAttr{Valid: volume.SetSize})
	wantErr(t, "size of a directory", err, syscall.EISDIR)
	wantErr(t, "punch", v.Fallocate(root, f, 3, 0, 10), syscall.EOPNOTSUPP)
	wantErr(t, "negative", v.Fallocate(root, f, 0, -1, 10), syscall.EINVAL)
	ok(t, v.Fallocate(root, f, 0, 5, 0))
	_, err = v.Seek(root, f, 1<<63-1, volume.SeekData)
	wantErr(t, "seek to the end", err, syscall.ENXIO)
	_, err = v.Read(root, rootIno, 0, make([]byte, 10))
	wantErr(t, "read a directory", err, syscall.EISDIR)
}

func TestFallocate(t *testing.T) {
	m := one(t)
	v := m.v()
	f := must[volume.Attr](t)(v.Create(root, rootIno, "f", 0o600))
	ok(t, v.Fallocate(root, f.Ino, volume.FallocKeepSize, 0, 100*4096))
	a := must[volume.Attr](t)(v.Getattr(root, f.Ino))
	if a.Size != 0 || a.Blocks512() != 0 || a.DataSeq != f.DataSeq || a.DataVersion != 0 {
		t.Errorf("kept size: size %d blocks %d data_version %d", a.Size, a.Blocks512(), a.DataVersion)
	}
	m.write(t, f.Ino, 10*4096+5, []byte("hello"))
	ok(t, v.Fallocate(root, f.Ino, 0, 5, 600*1024*1024))
	a = must[volume.Attr](t)(v.Getattr(root, f.Ino))
	if a.Size != 5+600*1024*1024 || a.OnlineBlocks != 1 {
		t.Errorf("size %d, %d blocks", a.Size, a.OnlineBlocks)
	}
	got := make([]byte, 20*4096)
	must[int](t)(v.Read(root, f.Ino, 0, got))
	if !bytes.Equal(got, append(append(make([]byte, 10*4096+5), "hello"...), make([]byte, 10*4096-10)...)) {
		t.Error("preallocated blocks do not read as zeros")
	}
	for _, s := range []struct {
		off    int64
		whence int
		want   int64
	}{{0, volume.SeekData, 10 * 4096}, {0, volume.SeekHole, 0}, {10 * 4096, volume.SeekHole, 11 * 4096}, {10*4096 + 7, volume.SeekData, 10*4096 + 7}} {
		if got := must[int64](t)(v.Seek(root, f.Ino, s.off, s.whence)); got != s.want {
			t.Errorf("seek %d from %d: %d, want %d", s.whence, s.off, got, s.want)
		}
	}
}

func TestSequences(t *testing.T) {
	m := one(t)
	v := m.v()
	a := must[volume.Attr](t)(v.Create(root, rootIno, "f", 0o600))
	ok(t, v.Fsync(root, a.Ino))
	b := must[volume.Attr](t)(v.Setattr(root, a.Ino, &volume.SetAttr{Valid: volume.SetMode, Mode: 0o640}))
	if b.MetaSeq <= a.MetaSeq || b.DataSeq != a.DataSeq || b.Version != a.Version+1 || b.DataVersion != 0 {
		t.Errorf("chmod: %+v, then %+v", a, b)
	}
	ok(t, v.Fsync(root, a.Ino))
	m.write(t, a.Ino, 0, []byte("x"))
	c := must[volume.Attr](t)(v.Getattr(root, a.Ino))
	if c.DataSeq <= b.MetaSeq || c.MetaSeq != c.DataSeq || c.DataVersion != 1 {
		t.Errorf("write: %+v, then %+v", b, c)
	}
	d := must[volume.Attr](t)(v.Setattr(root, a.Ino, &volume.SetAttr{Valid: volume.SetSize, Size: 1}))
	if d.DataVersion != 1 || d.Version <= c.Version {
		t.Errorf("truncate to the same size: %+v, then %+v", c, d)
	}
	e := must[volume.Attr](t)(v.Setattr(root, a.Ino, &volume.SetAttr{Valid: volume.SetSize, Size: 2}))
	if e.DataVersion != 2 {
		t.Errorf("truncate to another size: data_version %d", e.DataVersion)
	}
}
