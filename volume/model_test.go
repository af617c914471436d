// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package volume_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"

	"scoutfs/block"
	"scoutfs/format"
	"scoutfs/volume"
)

const (
	sIFMT  = 0o170000
	sIFDIR = 0o040000
	sIFREG = 0o100000
	sIFLNK = 0o120000
	sIFIFO = 0o010000
)

// node is an inode of the model.
type node struct {
	ino      format.Ino
	mode     uint32
	nlink    uint32
	uid, gid uint32
	data     []byte
	target   string
	ents     map[string]*node
	parent   *node // of directories
	xattrs   map[string]string
	refs     uint64
}

func (n *node) dir() bool { return n.mode&sIFMT == sIFDIR }

// model is an in-memory file system that says what a volume must do.
type model struct {
	root  *node
	nodes map[format.Ino]*node // with a link or a reference
}

func newModel(root volume.Attr) *model {
	n := &node{ino: root.Ino, mode: root.Mode, nlink: root.Nlink, uid: root.UID, gid: root.GID, ents: map[string]*node{}, xattrs: map[string]string{}}
	n.parent = n
	return &model{root: n, nodes: map[format.Ino]*node{root.Ino: n}}
}

func (m *model) add(dir *node, name string, a volume.Attr) *node {
	n := &node{ino: a.Ino, mode: a.Mode, nlink: a.Nlink, uid: a.UID, gid: a.GID, xattrs: map[string]string{}, refs: 1}
	if n.dir() {
		n.ents, n.parent = map[string]*node{}, dir
		dir.nlink++
	}
	if name != "" {
		dir.ents[name] = n
	}
	m.nodes[n.ino] = n
	return n
}

// settle forgets a node that has neither links nor references.
func (m *model) settle(n *node) {
	if n.nlink == 0 && n.refs == 0 {
		delete(m.nodes, n.ino)
	}
}

func (m *model) unlink(dir *node, name string) {
	n := dir.ents[name]
	delete(dir.ents, name)
	n.nlink--
	if n.dir() {
		n.nlink = 0
		dir.nlink--
	}
	m.settle(n)
}

func (m *model) below(n, top *node) bool {
	for ; n != n.parent; n = n.parent {
		if n == top {
			return true
		}
	}
	return n == top
}

// tester runs random operations on a volume and the model.
type tester struct {
	t     *testing.T
	rng   *rand.Rand
	v     *volume.Volume
	m     *model
	c     *volume.Caller
	steps int
	trace []string
	buf   []byte // of compareXattrs

	v1     bool          // the volume has format version 1
	faults func(on bool) // switches injected errors; nil: there are none
	failed int           // operations that an injected error ended
}

func (f *tester) logf(s string, args ...any) {
	f.trace = append(f.trace, fmt.Sprintf(s, args...))
	if len(f.trace) > 30 {
		f.trace = f.trace[1:]
	}
}

func (f *tester) fatal(s string, args ...any) {
	f.t.Helper()
	f.t.Fatalf("step %d: %s\nlast steps:\n  %s", f.steps, fmt.Sprintf(s, args...), strings.Join(f.trace, "\n  "))
}

// want compares an error with the errno that the model expects (0: none). It
// reports whether the operation was done; an injected error is no failure of the test.
func (f *tester) want(err error, want syscall.Errno) bool {
	f.t.Helper()
	if f.faults != nil && errors.Is(err, syscall.EIO) {
		f.logf("  injected: %v", err)
		f.failed++
		return false
	}
	if (want == 0 && err != nil) || (want != 0 && !errors.Is(err, want)) {
		f.fatal("got error %v, want %v", err, want)
	}
	return err == nil
}

func pick[T any](rng *rand.Rand, s []T) T { return s[rng.IntN(len(s))] }

func (f *tester) all(keep func(n *node) bool) []*node {
	var out []*node
	for _, ino := range slices.Sorted(maps.Keys(f.m.nodes)) {
		if n := f.m.nodes[ino]; keep(n) {
			out = append(out, n)
		}
	}
	return out
}

func (f *tester) someDir() *node {
	return pick(f.rng, f.all(func(n *node) bool { return n.dir() && n.nlink > 0 }))
}

func (f *tester) someFile() *node {
	l := f.all(func(n *node) bool { return n.mode&sIFMT == sIFREG })
	if len(l) == 0 {
		return nil
	}
	return pick(f.rng, l)
}

func (f *tester) someName() string {
	n := f.rng.IntN(40)
	switch n {
	case 0:
		return strings.Repeat("n", 255)
	case 1:
		return "näme with späces"
	}
	return fmt.Sprintf("f%02d", n)
}

// someEntry returns a directory and usually a name that is in it.
func (f *tester) someEntry() (*node, string) {
	d := f.someDir()
	if len(d.ents) == 0 || f.rng.IntN(10) == 0 {
		return d, f.someName()
	}
	return d, pick(f.rng, slices.Sorted(maps.Keys(d.ents)))
}

func (f *tester) step() {
	f.steps++
	if f.faults != nil {
		f.faults(true)
		defer f.faults(false)
	}
	for _, o := range operations {
		if f.rng.IntN(o.odds) == 0 {
			o.run(f)
			return
		}
	}
}

// operations are tried in order; each is taken one time in odds.
var operations = []struct {
	odds int
	run  func(f *tester)
}{
	{6, (*tester).create}, {12, (*tester).mkdir}, {20, (*tester).symlink}, {20, (*tester).mknod}, {30, (*tester).tmpfile},
	{12, (*tester).link}, {8, (*tester).unlink}, {14, (*tester).rmdir}, {8, (*tester).rename},
	{4, (*tester).write}, {12, (*tester).truncate}, {20, (*tester).fallocate}, {10, (*tester).attrs},
	{6, (*tester).setxattr}, {10, (*tester).removexattr}, {6, (*tester).lookup}, {4, (*tester).forget},
	{5, (*tester).read}, {5, (*tester).readdir}, {1, (*tester).stat},
}

func (f *tester) made(dir *node, name string, a volume.Attr, err error, mode uint32) *node {
	want := syscall.Errno(0)
	if dir.ents[name] != nil {
		want = syscall.EEXIST
	}
	if !f.want(err, want) {
		return nil
	}
	if a.Mode != mode {
		f.fatal("mode %o, want %o", a.Mode, mode)
	}
	return f.m.add(dir, name, a)
}

func (f *tester) create() {
	d, name := f.someDir(), f.someName()
	f.logf("create %d %s", d.ino, name)
	a, err := f.v.Create(f.c, d.ino, name, 0o640)
	f.made(d, name, a, err, sIFREG|0o640)
}

func (f *tester) mkdir() {
	d, name := f.someDir(), f.someName()
	f.logf("mkdir %d %s", d.ino, name)
	a, err := f.v.Mkdir(f.c, d.ino, name, 0o755)
	f.made(d, name, a, err, sIFDIR|0o755)
}

func (f *tester) mknod() {
	d, name := f.someDir(), f.someName()
	f.logf("mknod %d %s", d.ino, name)
	a, err := f.v.Mknod(f.c, d.ino, name, sIFIFO|0o600, 0)
	f.made(d, name, a, err, sIFIFO|0o600)
}

func (f *tester) symlink() {
	d, name := f.someDir(), f.someName()
	target := strings.Repeat("t/", 1+f.rng.IntN(2047))
	f.logf("symlink %d %s (%d)", d.ino, name, len(target))
	a, err := f.v.Symlink(f.c, d.ino, name, target)
	if n := f.made(d, name, a, err, sIFLNK|0o777); n != nil {
		n.target = target
	}
}

func (f *tester) tmpfile() {
	d := f.someDir()
	f.logf("tmpfile %d", d.ino)
	a, err := f.v.Tmpfile(f.c, d.ino, 0o600)
	if f.want(err, 0) {
		f.m.add(d, "", a)
	}
}

func (f *tester) link() {
	d, name := f.someDir(), f.someName()
	l := f.all(func(n *node) bool { return !n.dir() })
	if len(l) == 0 {
		return
	}
	n := pick(f.rng, l)
	f.logf("link %d (nlink %d) %d %s", n.ino, n.nlink, d.ino, name)
	want := syscall.Errno(0)
	if d.ents[name] != nil {
		want = syscall.EEXIST
	}
	a, err := f.v.Link(f.c, n.ino, d.ino, name)
	if f.want(err, want) {
		n.nlink++
		n.refs++
		d.ents[name] = n
		if a.Nlink != n.nlink {
			f.fatal("nlink %d, want %d", a.Nlink, n.nlink)
		}
	}
}

func (f *tester) unlink() {
	d, name := f.someEntry()
	f.logf("unlink %d %s", d.ino, name)
	n, want := d.ents[name], syscall.Errno(0)
	switch {
	case n == nil:
		want = syscall.ENOENT
	case n.dir():
		want = syscall.EISDIR
	}
	if f.want(f.v.Unlink(f.c, d.ino, name), want) {
		f.m.unlink(d, name)
	}
}

func (f *tester) rmdir() {
	d, name := f.someEntry()
	f.logf("rmdir %d %s", d.ino, name)
	n, want := d.ents[name], syscall.Errno(0)
	switch {
	case n == nil:
		want = syscall.ENOENT
	case !n.dir():
		want = syscall.ENOTDIR
	case len(n.ents) > 0:
		want = syscall.ENOTEMPTY
	}
	if f.want(f.v.Rmdir(f.c, d.ino, name), want) {
		f.m.unlink(d, name)
	}
}

func (f *tester) rename() {
	d, name := f.someEntry()
	d2, name2 := f.someEntry()
	if f.rng.IntN(2) == 0 {
		name2 = f.someName()
	}
	flags := uint32(0)
	if f.rng.IntN(5) == 0 {
		flags = volume.RenameNoreplace
	}
	f.logf("rename %d %s -> %d %s flags %d", d.ino, name, d2.ino, name2, flags)
	n, n2, want := d.ents[name], d2.ents[name2], syscall.Errno(0)
	switch {
	case n == nil:
		want = syscall.ENOENT
	case n2 != nil && flags != 0:
		want = syscall.EEXIST
	case n == n2:
	case d != d2 && (n.dir() && f.m.below(d2, n) || n2 != nil && n2.dir() && f.m.below(d, n2)):
		want = syscall.EINVAL
	case n2 != nil && n.dir() && !n2.dir():
		want = syscall.ENOTDIR
	case n2 != nil && !n.dir() && n2.dir():
		want = syscall.EISDIR
	case n2 != nil && len(n2.ents) > 0:
		want = syscall.ENOTEMPTY
	}
	if !f.want(f.v.Rename(f.c, d.ino, name, d2.ino, name2, flags), want) || n == n2 {
		return
	}
	if n2 != nil {
		f.m.unlink(d2, name2)
	}
	delete(d.ents, name)
	d2.ents[name2] = n
	if n.dir() {
		d.nlink--
		d2.nlink++
		n.parent = d2
	}
}

// span is a random range of a file, often on block boundaries and near the end.
func (f *tester) span(n *node) (off, size int) {
	off = f.rng.IntN(len(n.data) + 20000)
	if f.rng.IntN(3) == 0 {
		off = len(n.data)
	}
	size = 1 + f.rng.IntN(1<<f.rng.IntN(18))
	if f.rng.IntN(2) == 0 {
		off, size = off&^4095, max(size&^4095, 4096)
	}
	return min(off, 1<<20), size
}

func (f *tester) write() {
	n := f.someFile()
	if n == nil {
		return
	}
	off, size := f.span(n)
	data := block.AlignedBuf(size)
	defer block.FreeBuf(data)
	for i := range data {
		data[i] = byte(f.rng.Uint32())
	}
	flags := uint32(0)
	if f.rng.IntN(8) == 0 {
		flags, off = volume.WriteAppend, len(n.data)
	}
	f.logf("write %d off %d size %d flags %d", n.ino, off, size, flags)
	pos := int64(off)
	if flags != 0 {
		pos = 12345
	}
	got, a, err := f.v.Write(f.c, n.ino, pos, data, flags)
	if !f.want(err, 0) {
		f.adopt(n, off, size)
		return
	}
	if got != size && f.faults == nil {
		f.fatal("wrote %d of %d", got, size)
	}
	if f.faults != nil && got < size {
		defer f.adopt(n, off, size)
	}
	data, size = data[:got], got
	n.data = append(n.data, make([]byte, max(0, off+size-len(n.data)))...)
	copy(n.data[off:], data)
	if a.Size != uint64(len(n.data)) {
		f.fatal("size %d, want %d", a.Size, len(n.data))
	}
}

// adopt takes over what a write that failed has left in blocks that the file
// had before. Its size is what the last successful piece made it.
func (f *tester) adopt(n *node, off, size int) {
	f.t.Helper()
	f.faults(false)
	end := min(off+size, len(n.data))
	if off >= end {
		return
	}
	_, err := f.v.Read(f.c, n.ino, int64(off), n.data[off:end:end])
	if err != nil {
		f.fatal("read after a failed write: %v", err)
	}
}

func (f *tester) resize(n *node, size int) {
	if size < len(n.data) {
		n.data = slices.Clone(n.data[:size])
	} else {
		n.data = append(n.data, make([]byte, size-len(n.data))...)
	}
}

func (f *tester) truncate() {
	n := f.someFile()
	if n == nil {
		return
	}
	size := f.rng.IntN(len(n.data)*2 + 2)
	switch f.rng.IntN(4) {
	case 0:
		size = 0
	case 1:
		size = len(n.data)
	}
	size = min(size, 1<<20)
	f.logf("truncate %d to %d", n.ino, size)
	a, err := f.v.Setattr(f.c, n.ino, &volume.SetAttr{Valid: volume.SetSize, Size: uint64(size)})
	if !f.want(err, 0) {
		f.halfDone(n, size)
		return
	}
	f.resize(n, size)
	if a.Size != uint64(size) {
		f.fatal("size %d, want %d", a.Size, size)
	}
}

func (f *tester) fallocate() {
	n := f.someFile()
	if n == nil {
		return
	}
	off, size := f.span(n)
	mode := uint32(f.rng.IntN(2))
	f.logf("fallocate %d mode %d off %d size %d", n.ino, mode, off, size)
	if !f.want(f.v.Fallocate(f.c, n.ino, mode, int64(off), int64(size)), 0) {
		f.halfDone(n, 0)
		return
	}
	if mode == 0 && off+size > len(n.data) {
		f.resize(n, off+size)
	}
}

// halfDone takes over the size of a file after a call that may end in the
// middle. A truncation to size may also have zeroed the rest of a block already.
func (f *tester) halfDone(n *node, size int) {
	f.t.Helper()
	f.faults(false)
	a, err := f.v.Getattr(f.c, n.ino)
	if err != nil {
		f.fatal("attributes after a failure: %v", err)
	}
	f.resize(n, int(a.Size))
	if size > 0 && size < len(n.data) {
		f.adopt(n, size, -size&4095)
	}
}

func (f *tester) attrs() {
	n := pick(f.rng, f.all(func(n *node) bool { return n.mode&sIFMT != sIFLNK }))
	mode := f.rng.Uint32N(0o1000)
	s := volume.SetAttr{Valid: volume.SetMode | volume.SetUID | volume.SetMtimeNow, Mode: mode, UID: f.rng.Uint32N(5)}
	f.logf("setattr %d mode %o uid %d", n.ino, mode, s.UID)
	if _, err := f.v.Setattr(f.c, n.ino, &s); !f.want(err, 0) {
		return
	}
	n.mode, n.uid = n.mode&sIFMT|mode, s.UID
}

func (f *tester) someXattr() (name, val string) {
	i := f.rng.IntN(4)
	switch f.rng.IntN(6) {
	case 0:
		return fmt.Sprintf("scoutfs.totl.hide.x.%d.7.0x%x", i, i), fmt.Sprint(f.rng.IntN(1000))
	case 1:
		return fmt.Sprintf("scoutfs.indx.srch.y.%d.%d", i, 1000*i), ""
	case 2:
		return fmt.Sprintf("scoutfs.srch.z%d", i), "v"
	case 3:
		return "trusted." + strings.Repeat("l", 240+i), strings.Repeat("w", f.rng.IntN(3000))
	case 4:
		return fmt.Sprintf("user.big%d", i), strings.Repeat("B", f.rng.IntN(65536))
	}
	return fmt.Sprintf("user.small%d", i), strings.Repeat("s", f.rng.IntN(30))
}

func (f *tester) setxattr() {
	n := pick(f.rng, f.all(func(n *node) bool { return true }))
	name, val := f.someXattr()
	flags := uint32(f.rng.IntN(3))
	f.logf("setxattr %d %.40s (%d) flags %d", n.ino, name, len(val), flags)
	_, has := n.xattrs[name]
	want := syscall.Errno(0)
	switch {
	case f.v1 && strings.HasPrefix(name, "scoutfs.indx."):
		want = syscall.EOPNOTSUPP
	case flags == volume.XattrCreate && has:
		want = syscall.EEXIST
	case flags == volume.XattrReplace && !has:
		want = syscall.ENODATA
	}
	if f.want(f.v.Setxattr(f.c, n.ino, name, []byte(val), flags), want) {
		n.xattrs[name] = val
	}
}

func (f *tester) removexattr() {
	n := pick(f.rng, f.all(func(n *node) bool { return true }))
	name, _ := f.someXattr()
	if len(n.xattrs) > 0 && f.rng.IntN(4) > 0 {
		name = pick(f.rng, slices.Sorted(maps.Keys(n.xattrs)))
	}
	f.logf("removexattr %d %.40s", n.ino, name)
	want := syscall.Errno(0)
	if _, has := n.xattrs[name]; !has {
		want = syscall.ENODATA
	}
	if f.v1 && strings.HasPrefix(name, "scoutfs.indx.") {
		want = syscall.EOPNOTSUPP
	}
	if f.want(f.v.Removexattr(f.c, n.ino, name), want) {
		delete(n.xattrs, name)
	}
}

func (f *tester) lookup() {
	d, name := f.someEntry()
	n, want := d.ents[name], syscall.Errno(0)
	if n == nil {
		want = syscall.ENOENT
	}
	f.logf("lookup %d %s", d.ino, name)
	a, err := f.v.Lookup(f.c, d.ino, name)
	if f.want(err, want) {
		if a.Ino != n.ino {
			f.fatal("found inode %d, want %d", a.Ino, n.ino)
		}
		n.refs++
	}
}

func (f *tester) forget() {
	l := f.all(func(n *node) bool { return n.refs > 0 })
	if len(l) == 0 {
		return
	}
	n := pick(f.rng, l)
	f.logf("forget %d (nlink %d)", n.ino, n.nlink)
	f.v.Forget(n.ino, n.refs)
	n.refs = 0
	f.m.settle(n)
}

func (f *tester) read() {
	if n := f.someFile(); n != nil {
		off, size := f.span(n)
		f.logf("read %d off %d size %d", n.ino, off, size)
		f.readRange(n, off, size)
	}
}

func (f *tester) readRange(n *node, off, size int) {
	f.t.Helper()
	buf := block.AlignedBuf(size)
	defer block.FreeBuf(buf)
	got, err := f.v.Read(f.c, n.ino, int64(off), buf)
	if !f.want(err, 0) {
		return
	}
	want := n.data[min(off, len(n.data)):min(off+size, len(n.data))]
	if !bytes.Equal(buf[:got], want) {
		i := 0
		for i < min(got, len(want)) && buf[i] == want[i] {
			i++
		}
		f.fatal("inode %d: read %d bytes at %d, want %d; first difference at %d", n.ino, got, off, len(want), off+i)
	}
}

func (f *tester) readdir() {
	f.compareDir(f.someDir())
}

// compareDir reads a directory in random pieces.
func (f *tester) compareDir(d *node) {
	f.t.Helper()
	got := map[string]format.Ino{}
	pos, last := uint64(0), uint64(0)
	for more := true; more; {
		room := 1 + f.rng.IntN(50)
		more = false
		err := f.v.ReadDir(f.c, d.ino, pos, func(e *volume.DirEntry) bool {
			if room--; room < 0 {
				more = true
				return false
			}
			if pos > 0 && e.Pos <= last {
				f.fatal("position %d after %d", e.Pos, last)
			}
			if _, ok := got[string(e.Name)]; ok {
				f.fatal("%q is listed twice", e.Name)
			}
			got[string(e.Name)] = e.Ino
			last, pos = e.Pos, e.Pos+1
			return true
		})
		if !f.want(err, 0) {
			return
		}
	}
	want := map[string]format.Ino{".": d.ino, "..": d.parent.ino}
	for name, n := range d.ents {
		want[name] = n.ino
	}
	if !maps.Equal(got, want) {
		f.fatal("directory %d holds %v, want %v", d.ino, got, want)
	}
}

func (f *tester) stat() {
	f.compareAttr(pick(f.rng, f.all(func(*node) bool { return true })))
}

func (f *tester) compareAttr(n *node) {
	f.t.Helper()
	a, err := f.v.Getattr(f.c, n.ino)
	if !f.want(err, 0) {
		return
	}
	size := uint64(len(n.data))
	switch n.mode & sIFMT {
	case sIFDIR:
		for name := range n.ents {
			size += uint64(len(name))
		}
	case sIFLNK:
		size = uint64(len(n.target)) + 1
	}
	if a.Mode != n.mode || a.Nlink != n.nlink || a.UID != n.uid || a.Size != size {
		f.fatal("inode %d: mode %o nlink %d uid %d size %d, want %o %d %d %d", n.ino, a.Mode, a.Nlink, a.UID, a.Size, n.mode, n.nlink, n.uid, size)
	}
}

func (f *tester) compareXattrs(n *node) {
	f.t.Helper()
	if f.buf == nil {
		f.buf = make([]byte, 1<<17)
	}
	buf := f.buf
	size, err := f.v.Listxattr(f.c, n.ino, buf)
	f.want(err, 0)
	got := splitNames(buf[:size])
	hidden, _, _, err := f.v.ListHidden(f.c, n.ino, 0, 0, buf)
	f.want(err, 0)
	got = append(got, splitNames(buf[:hidden])...)
	slices.Sort(got)
	if want := slices.Sorted(maps.Keys(n.xattrs)); !slices.Equal(got, want) {
		f.fatal("inode %d has xattrs %v, want %v", n.ino, got, want)
	}
	for name, want := range n.xattrs {
		size, err := f.v.Getxattr(f.c, n.ino, name, buf)
		f.want(err, 0)
		if string(buf[:size]) != want {
			f.fatal("inode %d: xattr %s of %d bytes, want %d", n.ino, name, size, len(want))
		}
	}
}

func splitNames(b []byte) []string {
	if len(b) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(b), "\x00"), "\x00")
}

// compareAll compares everything that the model knows.
func (f *tester) compareAll() {
	f.t.Helper()
	f.logf("compare all")
	for _, n := range f.all(func(*node) bool { return true }) {
		f.compareAttr(n)
		f.compareXattrs(n)
		switch n.mode & sIFMT {
		case sIFDIR:
			if n.nlink > 0 {
				f.compareDir(n)
			}
		case sIFLNK:
			target, err := f.v.Readlink(f.c, n.ino)
			f.want(err, 0)
			if target != n.target {
				f.fatal("inode %d leads to %q, want %q", n.ino, target, n.target)
			}
		case sIFREG:
			for off := 0; off <= len(n.data); off += 300000 {
				f.readRange(n, off, 300000)
			}
			f.compareHoles(n)
		}
	}
}

// compareHoles checks that what Seek calls holes is zero, and that data and
// holes alternate up to the end.
func (f *tester) compareHoles(n *node) {
	f.t.Helper()
	for pos := int64(0); pos < int64(len(n.data)); {
		data, err := f.v.Seek(f.c, n.ino, pos, volume.SeekData)
		if errors.Is(err, syscall.ENXIO) {
			data = int64(len(n.data))
		} else {
			f.want(err, 0)
		}
		if i := bytes.IndexFunc(n.data[pos:data], func(r rune) bool { return r != 0 }); i >= 0 {
			f.fatal("inode %d: hole %d..%d has data at %d", n.ino, pos, data, pos+int64(i))
		}
		if data == int64(len(n.data)) {
			return
		}
		hole, err := f.v.Seek(f.c, n.ino, data, volume.SeekHole)
		f.want(err, 0)
		if hole <= data {
			f.fatal("inode %d: hole at %d, data at %d", n.ino, hole, data)
		}
		pos = hole
	}
}

// forgetAll drops all references, as an unmount does.
func (f *tester) forgetAll() {
	for _, n := range f.all(func(*node) bool { return true }) {
		n.refs = 0
		f.m.settle(n)
	}
}
