// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package sim_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing/synctest"
	"time"

	"scoutfs/block"
	"scoutfs/volume"
)

// workload runs random operations on a node and its model. Operations that an
// injected error may end leave the model as the volume then is.
type workload struct {
	n     *node
	m     *model
	rng   *rand.Rand
	trace []string // what each operation was
	held  []*inode // touched by the operation that runs
	part  *inode   // a file whose contents a failed operation may have changed in part
}

// newWorkload makes a model of what the volume holds.
func newWorkload(n *node, rng *rand.Rand) (*workload, error) {
	snap, err := readVolume(n.v())
	if err != nil {
		return nil, err
	}
	w := &workload{n: n, m: newModel(snap[1].attr), rng: rng}
	for ino, s := range snap {
		if ino == 1 {
			w.m.root.state = s
			continue
		}
		s.mapped = slices.Repeat([]bool{true}, (len(s.data)+sectorSize-1)/sectorSize) // perhaps
		w.m.nodes[ino] = &inode{state: s}
	}
	for _, d := range w.m.nodes {
		for _, ino := range d.ents {
			w.m.nodes[ino].parent = d // of directories, which have one
		}
	}
	return w, nil
}

func (w *workload) logf(f string, args ...any) {
	w.trace[len(w.trace)-1] += fmt.Sprintf(f, args...)
}

// last are the newest lines of what was done.
func (w *workload) last(upTo int) string {
	upTo = min(upTo, len(w.trace))
	return strings.Join(w.trace[max(0, upTo-12):upTo], "\n  ")
}

func pick[T any](rng *rand.Rand, s []T) T { return s[rng.IntN(len(s))] }

// operations with how often they are done.
var operations = []struct {
	weight int
	run    func(w *workload) error
}{
	{10, (*workload).create}, {4, (*workload).mkdir}, {3, (*workload).symlink}, {3, (*workload).tmpfile},
	{5, (*workload).link}, {6, (*workload).unlink}, {3, (*workload).rmdir}, {8, (*workload).rename},
	{14, (*workload).write}, {6, (*workload).appendTo}, {8, (*workload).truncate}, {5, (*workload).fallocate},
	{4, (*workload).chmod}, {8, (*workload).setxattr}, {4, (*workload).removexattr}, {6, (*workload).forget},
}

// step does one operation and waits until all is quiet. sync says that it was
// one that makes everything before it durable.
func (w *workload) step() (sync bool, err error) {
	w.held, w.part = w.held[:0], nil
	w.trace = append(w.trace, fmt.Sprintf("%d: ", len(w.trace)+1))
	switch n := w.rng.IntN(100); {
	case n < 8:
		w.logf("fsync")
		sync, err = true, w.n.v().Fsync(root, 1)
	case n < 10:
		w.logf("commit by time")
		time.Sleep(11 * time.Second)
	case n < 12:
		w.logf("commit")
		w.n.eng.SyncAsync()
	default:
		err = w.operation()
	}
	synctest.Wait()
	if errors.Is(err, syscall.ENOSPC) {
		w.logf(": no space")
		err = w.reread()
	}
	if err == nil {
		err = w.note()
	}
	return sync, err
}

// reread takes over a file of which an operation that failed has done a part.
func (w *workload) reread() error {
	if w.part == nil {
		return nil
	}
	s, err := readState(w.n.v(), w.part.attr.Ino)
	if err != nil {
		return err
	}
	w.part.change(func(old *state) {
		old.attr, old.data = s.attr, s.data
		old.mapped = slices.Repeat([]bool{true}, (len(s.data)+sectorSize-1)/sectorSize) // perhaps
	})
	return nil
}

func (w *workload) operation() error {
	sum := 0
	for _, o := range operations {
		sum += o.weight
	}
	n := w.rng.IntN(sum)
	for _, o := range operations {
		if n -= o.weight; n < 0 {
			return o.run(w)
		}
	}
	return nil
}

// note takes over the attributes of what an operation has touched.
func (w *workload) note() error {
	for _, n := range w.held {
		if w.m.nodes[n.attr.Ino] != n {
			continue
		}
		a, err := w.n.v().Getattr(root, n.attr.Ino)
		if err != nil {
			return fmt.Errorf("attributes after the operation: %w", err)
		}
		if a.Nlink != n.attr.Nlink || n.kind() == sIFREG && a.Size != uint64(len(n.data)) {
			return fmt.Errorf("inode %d has %d links and size %d, want %d and %d", a.Ino, a.Nlink, a.Size, n.attr.Nlink, len(n.data))
		}
		n.change(func(s *state) { s.attr = a })
	}
	return nil
}

func (w *workload) touch(nodes ...*inode) { w.held = append(w.held, nodes...) }

func (w *workload) someDir() *inode {
	return pick(w.rng, w.m.all(func(n *inode) bool { return n.dir() && n.attr.Nlink > 0 }))
}

func (w *workload) someFile() *inode {
	l := w.m.all(func(n *inode) bool { return n.kind() == sIFREG })
	if len(l) == 0 {
		return nil
	}
	return pick(w.rng, l)
}

// freeName is a name that d does not have.
func (w *workload) freeName(d *inode) string {
	for {
		name := fmt.Sprintf("n%03d", w.rng.IntN(1000))
		if w.rng.IntN(20) == 0 {
			name += strings.Repeat("x", 240)
		}
		if d.ents[name] == 0 {
			return name
		}
	}
}

// someEntry finds an entry; d is nil if there is none that fits.
func (w *workload) someEntry(fits func(n *inode) bool) (d *inode, name string, n *inode) {
	dirs := w.m.all(func(n *inode) bool { return n.dir() && n.attr.Nlink > 0 && len(n.ents) > 0 })
	for len(dirs) > 0 {
		i := w.rng.IntN(len(dirs))
		var names []string
		for _, name := range slices.Sorted(maps.Keys(dirs[i].ents)) {
			if fits(w.m.nodes[dirs[i].ents[name]]) {
				names = append(names, name)
			}
		}
		if len(names) > 0 {
			name = pick(w.rng, names)
			return dirs[i], name, w.m.nodes[dirs[i].ents[name]]
		}
		dirs = slices.Delete(dirs, i, i+1)
	}
	return nil, "", nil
}

// made adds a new inode to the model.
func (w *workload) made(d *inode, name string, a volume.Attr) *inode {
	n := &inode{state: &state{attr: a}, refs: 1}
	if n.dir() {
		n.parent = d
		d.change(func(s *state) { s.attr.Nlink++ })
	}
	if name != "" {
		d.setEntry(name, a.Ino)
	}
	w.m.nodes[a.Ino] = n
	w.touch(d, n)
	return n
}

func (w *workload) create() error {
	d := w.someDir()
	name := w.freeName(d)
	w.logf("create %d/%s", d.attr.Ino, name)
	a, err := w.n.v().Create(root, d.attr.Ino, name, 0o640)
	if err == nil {
		w.made(d, name, a)
	}
	return err
}

func (w *workload) mkdir() error {
	d := w.someDir()
	name := w.freeName(d)
	w.logf("mkdir %d/%s", d.attr.Ino, name)
	a, err := w.n.v().Mkdir(root, d.attr.Ino, name, 0o755)
	if err == nil {
		w.made(d, name, a)
	}
	return err
}

func (w *workload) symlink() error {
	d := w.someDir()
	name, target := w.freeName(d), strings.Repeat("t/", 1+w.rng.IntN(2000))
	w.logf("symlink %d/%s of %d bytes", d.attr.Ino, name, len(target))
	a, err := w.n.v().Symlink(root, d.attr.Ino, name, target)
	if err == nil {
		w.made(d, name, a).change(func(s *state) { s.target = target })
	}
	return err
}

func (w *workload) tmpfile() error {
	d := w.someDir()
	w.logf("tmpfile in %d", d.attr.Ino)
	a, err := w.n.v().Tmpfile(root, d.attr.Ino, 0o600)
	if err == nil {
		w.made(d, "", a)
	}
	return err
}

func (w *workload) link() error {
	l := w.m.all(func(n *inode) bool { return !n.dir() && (n.attr.Nlink > 0 || n.refs > 0) })
	if len(l) == 0 {
		return nil
	}
	d, n := w.someDir(), pick(w.rng, l)
	name := w.freeName(d)
	w.logf("link %d with %d links as %d/%s", n.attr.Ino, n.attr.Nlink, d.attr.Ino, name)
	_, err := w.n.v().Link(root, n.attr.Ino, d.attr.Ino, name)
	if err != nil {
		return err
	}
	n.refs++
	n.change(func(s *state) { s.attr.Nlink++ })
	d.setEntry(name, n.attr.Ino)
	w.touch(d, n)
	return nil
}

// lose takes a name away from what it leads to.
func (w *workload) lose(d *inode, name string, n *inode) {
	d.setEntry(name, 0)
	n.change(func(s *state) {
		s.attr.Nlink--
		if n.dir() {
			s.attr.Nlink = 0
		}
	})
	if n.dir() {
		d.change(func(s *state) { s.attr.Nlink-- })
	}
	w.touch(d, n)
	w.m.settle(n)
}

func (w *workload) unlink() error {
	d, name, n := w.someEntry(func(n *inode) bool { return !n.dir() })
	if d == nil {
		return nil
	}
	w.logf("unlink %d/%s, inode %d with %d links and %d references", d.attr.Ino, name, n.attr.Ino, n.attr.Nlink, n.refs)
	err := w.n.v().Unlink(root, d.attr.Ino, name)
	if err == nil {
		w.lose(d, name, n)
	}
	return err
}

func (w *workload) rmdir() error {
	d, name, n := w.someEntry(func(n *inode) bool { return n.dir() && len(n.ents) == 0 })
	if d == nil {
		return nil
	}
	w.logf("rmdir %d/%s, inode %d", d.attr.Ino, name, n.attr.Ino)
	err := w.n.v().Rmdir(root, d.attr.Ino, name)
	if err == nil {
		w.lose(d, name, n)
	}
	return err
}

// rename moves an entry, sometimes over another one.
func (w *workload) rename() error {
	d, name, n := w.someEntry(func(*inode) bool { return true })
	if d == nil {
		return nil
	}
	d2, name2, n2 := w.someEntry(func(o *inode) bool {
		return o != n && o.dir() == n.dir() && len(o.ents) == 0 && !w.m.below(d, o)
	})
	if d2 == nil || w.rng.IntN(2) == 0 {
		d2, n2 = w.someDir(), nil
		name2 = w.freeName(d2)
	}
	if n.dir() && w.m.below(d2, n) {
		return nil
	}
	w.logf("rename %d/%s to %d/%s, inode %d over %v", d.attr.Ino, name, d2.attr.Ino, name2, n.attr.Ino, n2 != nil)
	if err := w.n.v().Rename(root, d.attr.Ino, name, d2.attr.Ino, name2, 0); err != nil {
		return err
	}
	if n2 != nil {
		w.lose(d2, name2, n2)
	}
	d.setEntry(name, 0)
	d2.setEntry(name2, n.attr.Ino)
	if n.dir() {
		d.change(func(s *state) { s.attr.Nlink-- })
		d2.change(func(s *state) { s.attr.Nlink++ })
		n.parent = d2
	}
	w.touch(d, d2, n)
	return nil
}

// bytes are not zero, so that they differ from a hole.
func (w *workload) bytes(n int) []byte {
	b := block.AlignedBuf(n)
	for i := range b {
		b[i] = byte(w.rng.Uint32()) | 1
	}
	return b
}

func (w *workload) span(n *inode) (off, size int) {
	off = w.rng.IntN(len(n.data) + 9000)
	size = 1 + w.rng.IntN(1<<w.rng.IntN(17))
	if w.rng.IntN(2) == 0 {
		off, size = off&^(sectorSize-1), max(size&^(sectorSize-1), sectorSize)
	}
	return min(off, 400_000), size
}

// write writes somewhere in a file, often over what is there.
func (w *workload) write() error {
	n := w.someFile()
	if n == nil {
		return nil
	}
	off, size := w.span(n)
	if len(n.data) > 0 && w.rng.IntN(2) == 0 {
		off = w.rng.IntN(len(n.data))
		size = min(size, len(n.data)-off)
	}
	return w.put(n, off, size, 0)
}

func (w *workload) appendTo() error {
	n := w.someFile()
	if n == nil || len(n.data) > 400_000 {
		return nil
	}
	_, size := w.span(n)
	return w.put(n, len(n.data), size, volume.WriteAppend)
}

func (w *workload) put(n *inode, off, size int, flags uint32) error {
	data := w.bytes(size)
	defer block.FreeBuf(data)
	w.logf("write %d of %d bytes: %d at %d, flags %d", n.attr.Ino, len(n.data), size, off, flags)
	w.part = n
	done, _, err := w.n.v().Write(root, n.attr.Ino, int64(off), data, flags)
	if err == nil && done < size {
		err = fmt.Errorf("wrote only %d of %d bytes: %w", done, size, syscall.ENOSPC)
	}
	if err != nil {
		return err
	}
	n.change(func(s *state) {
		s.data = append(slices.Clone(s.data), make([]byte, max(0, off+size-len(s.data)))...)
		copy(s.data[off:], data)
		s.mapped = append(slices.Clone(s.mapped), make([]bool, max(0, (off+size+sectorSize-1)/sectorSize-len(s.mapped)))...)
		for b := off / sectorSize; b*sectorSize < off+size; b++ {
			s.mapped[b] = true
		}
	})
	w.touch(n)
	return nil
}

func (w *workload) truncate() error {
	n := w.someFile()
	if n == nil {
		return nil
	}
	size := w.rng.IntN(len(n.data)*3/2 + 2)
	if w.rng.IntN(4) == 0 {
		size = 0
	}
	size = min(size, 400_000)
	w.logf("truncate %d of %d bytes to %d", n.attr.Ino, len(n.data), size)
	w.part = n
	_, err := w.n.v().Setattr(root, n.attr.Ino, &volume.SetAttr{Valid: volume.SetSize, Size: uint64(size)})
	if err == nil {
		n.setSize(size)
		w.touch(n)
	}
	return err
}

func (w *workload) fallocate() error {
	n := w.someFile()
	if n == nil {
		return nil
	}
	off, size := w.span(n)
	mode := uint32(w.rng.IntN(2))
	w.logf("fallocate %d of %d bytes: %d at %d, mode %d", n.attr.Ino, len(n.data), size, off, mode)
	w.part = n
	err := w.n.v().Fallocate(root, n.attr.Ino, mode, int64(off), int64(size))
	if err == nil {
		if mode == 0 {
			n.setSize(max(len(n.data), off+size))
		}
		w.touch(n)
	}
	return err
}

func (w *workload) chmod() error {
	n := pick(w.rng, w.m.all(func(n *inode) bool { return n.kind() != sIFLNK }))
	s := volume.SetAttr{Valid: volume.SetMode | volume.SetUID | volume.SetMtimeNow, Mode: w.rng.Uint32N(0o1000), UID: w.rng.Uint32N(5)}
	w.logf("chmod %d to %o of %d", n.attr.Ino, s.Mode, s.UID)
	_, err := w.n.v().Setattr(root, n.attr.Ino, &s)
	w.touch(n)
	return err
}

func (w *workload) someXattr() (name, val string) {
	i := w.rng.IntN(4)
	switch w.rng.IntN(6) {
	case 0:
		return fmt.Sprintf("scoutfs.totl.hide.x.%d.7.0x%x", i, i), fmt.Sprint(w.rng.IntN(1000))
	case 1:
		return fmt.Sprintf("scoutfs.indx.srch.y.%d.%d", i, 1000*i), ""
	case 2:
		return fmt.Sprintf("scoutfs.srch.z%d", i), "v"
	case 3:
		return fmt.Sprintf("user.big%d", i), strings.Repeat("B", w.rng.IntN(10000))
	case 4:
		return fmt.Sprintf("scoutfs.totl.x.%d.%d.1", i, i), fmt.Sprint(w.rng.IntN(1000))
	}
	return fmt.Sprintf("user.small%d", i), strings.Repeat("s", w.rng.IntN(30))
}

func (w *workload) setxattr() error {
	n := pick(w.rng, w.m.all(func(*inode) bool { return true }))
	name, val := w.someXattr()
	w.logf("setxattr %d %s of %d bytes", n.attr.Ino, name, len(val))
	err := w.n.v().Setxattr(root, n.attr.Ino, name, []byte(val), 0)
	if err == nil {
		n.setXattr(name, &val)
	}
	w.touch(n)
	return err
}

func (w *workload) removexattr() error {
	l := w.m.all(func(n *inode) bool { return len(n.xattrs) > 0 })
	if len(l) == 0 {
		return nil
	}
	n := pick(w.rng, l)
	name := pick(w.rng, slices.Sorted(maps.Keys(n.xattrs)))
	w.logf("removexattr %d %s", n.attr.Ino, name)
	err := w.n.v().Removexattr(root, n.attr.Ino, name)
	if err == nil {
		n.setXattr(name, nil)
	}
	w.touch(n)
	return err
}

// forget gives up all references to an inode, which deletes it if it has no name.
func (w *workload) forget() error {
	l := w.m.all(func(n *inode) bool { return n.refs > 0 })
	if len(l) == 0 {
		return nil
	}
	n := pick(w.rng, l)
	w.logf("forget %d with %d links", n.attr.Ino, n.attr.Nlink)
	w.n.v().Forget(n.attr.Ino, n.refs)
	n.refs = 0
	w.m.settle(n)
	return nil
}

// verify compares the volume with the model.
func (w *workload) verify() error {
	got, err := readVolume(w.n.v())
	if err != nil {
		return err
	}
	if d := compare(got, []snapshot{w.m.snap()}, 0, 0); d != "" {
		return fmt.Errorf("not as the model: %s", d)
	}
	for _, n := range w.m.all(func(n *inode) bool { return n.attr.Nlink == 0 }) {
		s, err := readState(w.n.v(), n.attr.Ino)
		if err != nil {
			return err
		}
		if d := differ(s, n.state); d != "" || !bytes.Equal(s.data, n.data) {
			return fmt.Errorf("inode %d without a name: %s", n.attr.Ino, d)
		}
	}
	return nil
}

// forgetAll gives up all references, as the kernel does before an unmount, in an
// order that is the same always.
func (w *workload) forgetAll() {
	for _, n := range w.m.all(func(*inode) bool { return true }) {
		w.n.v().Forget(n.attr.Ino, n.refs)
		n.refs = 0
		w.m.settle(n)
		synctest.Wait()
	}
}
