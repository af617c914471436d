// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

//go:build system

package tests

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	pageSize = 4096
	tornSize = 512 // a write that a crash interrupts is done in pieces of this size

	maxNodes = 80      // of an actor's tree
	maxFile  = 400_000 // bytes
)

// thing is an inode of a model at some moment. It never changes.
type thing struct {
	kind   uint32 // unix.S_IFREG ...
	mode   uint32
	nlink  int
	data   []byte
	mapped []bool // of a file: blocks with data, which are overwritten in place
	target string
	ents   map[string]int
	xattrs map[string]string
	mtime  int64 // seconds, if it was set; 0: not known
}

// tree is all that an actor's directory holds at some moment, by the model's own
// numbers. 0 is the directory itself.
type tree map[int]*thing

// change replaces a thing by a changed copy.
func (t tree) change(id int, fn func(n *thing)) {
	n := *t[id]
	fn(&n)
	t[id] = &n
}

func (t tree) setEntry(dir int, name string, id int) {
	t.change(dir, func(n *thing) {
		n.ents = maps.Clone(n.ents)
		if id < 0 {
			delete(n.ents, name)
		} else {
			n.ents[name] = id
		}
	})
}

// place is a name in a directory.
type place struct {
	dir  int
	path string // of the directory, with a slash at its end
	name string
	id   int // what is there
}

func (p place) full() string { return p.path + p.name }

// places lists all entries below a path.
func (t tree) places(root string) (list []place) {
	type dir struct {
		id   int
		path string
	}
	queue := []dir{{0, root + "/"}}
	for len(queue) > 0 {
		d := queue[0]
		queue = queue[1:]
		for _, name := range slices.Sorted(maps.Keys(t[d.id].ents)) {
			id := t[d.id].ents[name]
			list = append(list, place{d.id, d.path, name, id})
			if t[id].kind == unix.S_IFDIR {
				queue = append(queue, dir{id, d.path + name + "/"})
			}
		}
	}
	return list
}

// action is one system call and what it does to the model.
type action struct {
	text  string
	run   func() error
	want  error        // what it must fail with
	apply func(t tree) // what changes; nil: nothing
	sync  bool
}

// actor does random things in a directory of its own and knows what must be
// there after each of them, and which of that is durable.
type actor struct {
	dir   string
	rng   *rand.Rand
	next  int
	mark  func() int // a position in a recording; nil: 0
	dry   bool       // only the model
	plain bool       // the directory is in another file system: no tags of ours, other sizes

	mu     sync.Mutex
	states []tree
	texts  []string
	began  []int // states[k] was begun at this mark
	acked  int   // the newest state whose system call has returned
	synced []int // states that a sync made durable
	at     []int // and the marks when it returned
}

func newActor(dir string, seed uint64, mark func() int) *actor {
	if mark == nil {
		mark = func() int { return 0 }
	}
	a := &actor{dir: dir, rng: rand.New(rand.NewPCG(seed, 4)), next: 1, mark: mark}
	a.states = []tree{{0: {kind: unix.S_IFDIR, mode: 0o755, nlink: 2, ents: map[string]int{}}}}
	a.texts, a.began = []string{"begin"}, []int{0}
	return a
}

// start makes the directory and syncs it.
func (a *actor) start() error {
	if err := unix.Mkdir(a.dir, 0o755); err != nil {
		return err
	}
	if err := fsync(a.dir); err != nil {
		return err
	}
	a.synced, a.at = []int{0}, []int{a.mark()}
	return nil
}

func (a *actor) now() tree { return a.states[len(a.states)-1] }

// step does one action. An error that the model does not expect is returned: the
// mount is gone, or the file system is wrong.
func (a *actor) step() error {
	act := a.choose()
	t := a.now()
	if act.apply != nil && act.want == nil {
		t = maps.Clone(t)
		act.apply(t)
	}
	a.mu.Lock()
	a.states, a.texts, a.began = append(a.states, t), append(a.texts, act.text), append(a.began, a.mark())
	k := len(a.states) - 1
	a.mu.Unlock()
	var err error
	if !a.dry {
		err = act.run()
	} else {
		err = act.want
	}
	if err != act.want && !errors.Is(err, act.want) || (err == nil) != (act.want == nil) {
		return fmt.Errorf("%s: %v, should be: %v", act.text, err, act.want)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.acked = k
	if act.sync {
		a.synced, a.at = append(a.synced, k), append(a.at, a.mark())
	}
	return nil
}

// trim forgets old states, for those who only want to know the newest.
func (a *actor) trim() {
	if n := len(a.states) - 20; n > 100 {
		a.states, a.texts, a.began = slices.Clone(a.states[n:]), slices.Clone(a.texts[n:]), slices.Clone(a.began[n:])
		a.acked -= n
		a.synced, a.at = nil, nil
	}
}

// window is which states may be there if all that was recorded after the
// mark is lost; all marks if it is negative.
func (a *actor) window(mark int) (first, last int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i, k := range a.synced {
		if mark < 0 || a.at[i] <= mark {
			first = k
		}
	}
	for k := range a.states {
		if mark < 0 || a.began[k] <= mark {
			last = k
		}
	}
	return first, last
}

// lastTexts are the newest actions up to one.
func (a *actor) lastTexts(k int) string {
	return strings.Join(a.texts[max(0, k-12):k+1], "\n  ")
}

func (a *actor) choose() action {
	for {
		n := a.rng.IntN(100)
		for _, c := range choices {
			if n -= c.weight; n < 0 {
				if act, ok := c.make(a, a.now()); ok {
					return act
				}
				break
			}
		}
	}
}

// choices sum up to 100.
var choices = []struct {
	weight int
	make   func(a *actor, t tree) (action, bool)
}{
	{9, (*actor).create}, {4, (*actor).mkdir}, {3, (*actor).symlink}, {1, (*actor).fifo}, {3, (*actor).tmpfile},
	{4, (*actor).link}, {5, (*actor).unlink}, {2, (*actor).rmdir}, {8, (*actor).rename}, {17, (*actor).write},
	{6, (*actor).appendTo}, {7, (*actor).truncate}, {4, (*actor).fallocate}, {3, (*actor).chmod}, {2, (*actor).utimes},
	{7, (*actor).setxattr}, {3, (*actor).removexattr}, {5, (*actor).mistake}, {4, (*actor).look}, {3, (*actor).fsync},
}

func some[T any](a *actor, list []T) (v T, ok bool) {
	if len(list) == 0 {
		return v, false
	}
	return list[a.rng.IntN(len(list))], true
}

func (a *actor) somePlace(t tree, fits func(p place, n *thing) bool) (place, bool) {
	return some(a, slices.DeleteFunc(t.places(a.dir), func(p place) bool { return !fits(p, t[p.id]) }))
}

func isFile(_ place, n *thing) bool { return n.kind == unix.S_IFREG }
func isDir(_ place, n *thing) bool  { return n.kind == unix.S_IFDIR }

// freePlace is a name that is not taken in a random directory.
func (a *actor) freePlace(t tree) place {
	p := place{dir: 0, path: a.dir + "/"}
	if d, ok := a.somePlace(t, isDir); ok && a.rng.IntN(3) > 0 && strings.Count(d.path, "/") < strings.Count(a.dir, "/")+6 {
		p = place{dir: d.id, path: d.full() + "/"}
	}
	for {
		p.name = fmt.Sprintf("n%03d", a.rng.IntN(1000))
		if a.rng.IntN(25) == 0 {
			p.name += strings.Repeat("ä", 100)
		}
		if _, taken := t[p.dir].ents[p.name]; !taken {
			return p
		}
	}
}

// adding is an action that makes something new.
func (a *actor) adding(t tree, what string, n thing, run func(path string) error) (action, bool) {
	if len(t) >= maxNodes {
		return action{}, false
	}
	p, id := a.freePlace(t), a.next
	a.next++
	n.nlink = 1
	return action{text: what + " " + p.full(), run: func() error { return run(p.full()) }, apply: func(t tree) {
		t[id] = &n
		if n.kind == unix.S_IFDIR {
			n.nlink, n.ents = 2, map[string]int{}
			t.change(p.dir, func(d *thing) { d.nlink++ })
		}
		t.setEntry(p.dir, p.name, id)
	}}, true
}

func (a *actor) create(t tree) (action, bool) {
	return a.adding(t, "create", thing{kind: unix.S_IFREG, mode: 0o644}, func(path string) error {
		return withFile(path, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY, func(int) error { return nil })
	})
}

func (a *actor) mkdir(t tree) (action, bool) {
	return a.adding(t, "mkdir", thing{kind: unix.S_IFDIR, mode: 0o755}, func(path string) error { return unix.Mkdir(path, 0o755) })
}

func (a *actor) symlink(t tree) (action, bool) {
	target := strings.Repeat("t/", 1+a.rng.IntN(1500))
	return a.adding(t, "symlink", thing{kind: unix.S_IFLNK, mode: 0o777, target: target}, func(path string) error { return unix.Symlink(target, path) })
}

func (a *actor) fifo(t tree) (action, bool) {
	return a.adding(t, "fifo", thing{kind: unix.S_IFIFO, mode: 0o600}, func(path string) error { return unix.Mkfifo(path, 0o600) })
}

// tmpfile makes a file without a name, fills it and gives it a name.
func (a *actor) tmpfile(t tree) (action, bool) {
	data := a.bytes(1 + a.rng.IntN(60_000))
	n := thing{kind: unix.S_IFREG, mode: 0o600, data: data, mapped: slices.Repeat([]bool{true}, blocksOf(len(data)))}
	return a.adding(t, "tmpfile", n, func(path string) error {
		fd, err := unix.Open(filepath.Dir(path), unix.O_TMPFILE|unix.O_RDWR, 0o600)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if err := pwrite(fd, data, 0); err != nil {
			return err
		}
		return unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), unix.AT_FDCWD, path, unix.AT_SYMLINK_FOLLOW)
	})
}

func (a *actor) link(t tree) (action, bool) {
	p, ok := a.somePlace(t, func(p place, n *thing) bool { return n.kind != unix.S_IFDIR })
	to := a.freePlace(t)
	return action{text: "link " + p.full() + " " + to.full(), run: func() error { return unix.Link(p.full(), to.full()) }, apply: func(t tree) {
		t.change(p.id, func(n *thing) { n.nlink++ })
		t.setEntry(to.dir, to.name, p.id)
	}}, ok
}

// lose takes a name away.
func (t tree) lose(p place) {
	t.setEntry(p.dir, p.name, -1)
	if t[p.id].kind == unix.S_IFDIR {
		t.change(p.dir, func(d *thing) { d.nlink-- })
		delete(t, p.id)
		return
	}
	t.change(p.id, func(n *thing) { n.nlink-- })
	if t[p.id].nlink == 0 {
		delete(t, p.id)
	}
}

func (a *actor) unlink(t tree) (action, bool) {
	p, ok := a.somePlace(t, func(_ place, n *thing) bool { return n.kind != unix.S_IFDIR })
	return action{text: "unlink " + p.full(), run: func() error { return unix.Unlink(p.full()) }, apply: func(t tree) { t.lose(p) }}, ok
}

func (a *actor) rmdir(t tree) (action, bool) {
	p, ok := a.somePlace(t, func(_ place, n *thing) bool { return n.kind == unix.S_IFDIR && len(n.ents) == 0 })
	return action{text: "rmdir " + p.full(), run: func() error { return unix.Rmdir(p.full()) }, apply: func(t tree) { t.lose(p) }}, ok
}

// rename moves something, sometimes over something else.
func (a *actor) rename(t tree) (action, bool) {
	p, ok := a.somePlace(t, func(place, *thing) bool { return true })
	if !ok {
		return action{}, false
	}
	to := a.freePlace(t)
	to.id = -1
	if a.rng.IntN(2) == 0 {
		over, ok := a.somePlace(t, func(o place, n *thing) bool {
			return o.id != p.id && len(n.ents) == 0 && (n.kind == unix.S_IFDIR) == (t[p.id].kind == unix.S_IFDIR)
		})
		if ok {
			to = over
		}
	}
	if strings.HasPrefix(to.path, p.full()+"/") {
		return action{}, false
	}
	return action{text: "rename " + p.full() + " " + to.full(), run: func() error { return unix.Rename(p.full(), to.full()) }, apply: func(t tree) {
		if to.id >= 0 {
			t.lose(to)
		}
		t.setEntry(p.dir, p.name, -1)
		t.setEntry(to.dir, to.name, p.id)
		if t[p.id].kind == unix.S_IFDIR {
			t.change(p.dir, func(n *thing) { n.nlink-- })
			t.change(to.dir, func(n *thing) { n.nlink++ })
		}
	}}, true
}

func (a *actor) bytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(a.rng.Uint32()) | 1
	}
	return b
}

func blocksOf(n int) int { return (n + pageSize - 1) / pageSize }

// put writes into the model's file.
func (t tree) put(id int, data []byte, off int) {
	t.change(id, func(n *thing) {
		n.mtime = 0
		n.data = append(slices.Clone(n.data), make([]byte, max(0, off+len(data)-len(n.data)))...)
		copy(n.data[off:], data)
		n.mapped = append(slices.Clone(n.mapped), make([]bool, max(0, blocksOf(len(n.data))-len(n.mapped)))...)
		for b := off / pageSize; b*pageSize < off+len(data); b++ {
			n.mapped[b] = true
		}
	})
}

// whole is how much of a write the kernel is sure to send as one request: it may
// end one after a first page that is written in part.
func whole(off, size int) int {
	if rest := off % pageSize; rest != 0 {
		return min(size, pageSize-rest)
	}
	return size
}

func (a *actor) write(t tree) (action, bool) {
	p, ok := a.somePlace(t, isFile)
	if !ok {
		return action{}, false
	}
	off, size := a.rng.IntN(len(t[p.id].data)+9000), 1+a.rng.IntN(1<<a.rng.IntN(18))
	flags := unix.O_WRONLY
	if a.rng.IntN(3) == 0 {
		off, size = off&^(pageSize-1), (size+pageSize-1)&^(pageSize-1)
		if a.rng.IntN(2) == 0 {
			flags |= unix.O_DIRECT
		}
	}
	off = min(off, maxFile)
	data := a.bytes(whole(off, size))
	size = len(data)
	return action{text: fmt.Sprintf("write %s %d at %d, direct %v", p.full(), size, off, flags&unix.O_DIRECT != 0), run: func() error {
		return withFile(p.full(), flags, func(fd int) error { return pwrite(fd, data, off) })
	}, apply: func(t tree) { t.put(p.id, data, off) }}, true
}

func (a *actor) appendTo(t tree) (action, bool) {
	p, ok := a.somePlace(t, func(p place, n *thing) bool { return isFile(p, n) && len(n.data) < maxFile })
	if !ok {
		return action{}, false
	}
	data := a.bytes(whole(len(t[p.id].data), 1+a.rng.IntN(20_000)))
	return action{text: fmt.Sprintf("append %s %d", p.full(), len(data)), run: func() error {
		return withFile(p.full(), unix.O_WRONLY|unix.O_APPEND, func(fd int) error {
			n, err := unix.Write(fd, data)
			if err == nil && n < len(data) {
				err = fmt.Errorf("wrote only %d of %d", n, len(data))
			}
			return err
		})
	}, apply: func(t tree) { t.put(p.id, data, len(t[p.id].data)) }}, true
}

func (t tree) resize(id, size int) {
	t.change(id, func(n *thing) {
		n.mtime = 0
		n.data = append(slices.Clone(n.data[:min(size, len(n.data))]), make([]byte, max(0, size-len(n.data)))...)
		n.mapped = n.mapped[:min(len(n.mapped), blocksOf(size))]
	})
}

func (a *actor) truncate(t tree) (action, bool) {
	p, ok := a.somePlace(t, isFile)
	if !ok {
		return action{}, false
	}
	size := min(a.rng.IntN(len(t[p.id].data)*3/2+2), maxFile)
	if a.rng.IntN(4) == 0 {
		return action{text: "open and truncate " + p.full(), run: func() error {
			return withFile(p.full(), unix.O_WRONLY|unix.O_TRUNC, func(int) error { return nil })
		}, apply: func(t tree) { t.resize(p.id, 0) }}, true
	}
	return action{text: fmt.Sprintf("truncate %s %d", p.full(), size), run: func() error { return unix.Truncate(p.full(), int64(size)) }, apply: func(t tree) { t.resize(p.id, size) }}, true
}

func (a *actor) fallocate(t tree) (action, bool) {
	p, ok := a.somePlace(t, isFile)
	if !ok {
		return action{}, false
	}
	off, size, mode := a.rng.IntN(len(t[p.id].data)+9000), 1+a.rng.IntN(60_000), uint32(a.rng.IntN(2))
	off = min(off, maxFile)
	return action{text: fmt.Sprintf("fallocate %s %d at %d, mode %d", p.full(), size, off, mode), run: func() error {
		return withFile(p.full(), unix.O_WRONLY, func(fd int) error { return unix.Fallocate(fd, mode, int64(off), int64(size)) })
	}, apply: func(t tree) {
		t.change(p.id, func(n *thing) { n.mtime = 0 })
		if mode == 0 && off+size > len(t[p.id].data) {
			t.resize(p.id, off+size)
		}
	}}, true
}

func (a *actor) chmod(t tree) (action, bool) {
	p, ok := a.somePlace(t, func(_ place, n *thing) bool { return n.kind != unix.S_IFLNK })
	mode := a.rng.Uint32N(0o1000)
	return action{text: fmt.Sprintf("chmod %s %o", p.full(), mode), run: func() error { return unix.Chmod(p.full(), mode) }, apply: func(t tree) {
		t.change(p.id, func(n *thing) { n.mode = mode })
	}}, ok
}

func (a *actor) utimes(t tree) (action, bool) {
	p, ok := a.somePlace(t, isFile)
	sec := 1 + a.rng.Int64N(1<<31)
	return action{text: fmt.Sprintf("utimes %s %d", p.full(), sec), run: func() error {
		return unix.UtimesNanoAt(unix.AT_FDCWD, p.full(), []unix.Timespec{{Sec: sec}, {Sec: sec}}, 0)
	}, apply: func(t tree) { t.change(p.id, func(n *thing) { n.mtime = sec }) }}, ok
}

func (a *actor) setxattr(t tree) (action, bool) {
	p, ok := a.somePlace(t, func(p place, n *thing) bool { return isFile(p, n) || isDir(p, n) })
	i := a.rng.IntN(4)
	name, val := fmt.Sprintf("user.n%d", i), strings.Repeat("v", a.rng.IntN(50))
	kind := a.rng.IntN(6)
	if a.plain {
		kind = 5
	}
	switch kind {
	case 0:
		name, val = fmt.Sprintf("trusted.t%d", i), strings.Repeat("T", a.rng.IntN(9000))
	case 1:
		name, val = fmt.Sprintf("scoutfs.totl.t.%d.%d.1", i, i), fmt.Sprint(a.rng.IntN(1000))
	case 2:
		name, val = fmt.Sprintf("scoutfs.srch.s%d", i), "v"
	}
	return action{text: fmt.Sprintf("setxattr %s %s, %d bytes", p.full(), name, len(val)), run: func() error { return unix.Setxattr(p.full(), name, []byte(val), 0) }, apply: func(t tree) {
		t.change(p.id, func(n *thing) {
			if n.xattrs = maps.Clone(n.xattrs); n.xattrs == nil {
				n.xattrs = map[string]string{}
			}
			n.xattrs[name] = val
		})
	}}, ok
}

func (a *actor) removexattr(t tree) (action, bool) {
	p, ok := a.somePlace(t, func(_ place, n *thing) bool { return len(n.xattrs) > 0 })
	if !ok {
		return action{}, false
	}
	name, _ := some(a, slices.Sorted(maps.Keys(t[p.id].xattrs)))
	return action{text: "removexattr " + p.full() + " " + name, run: func() error { return unix.Removexattr(p.full(), name) }, apply: func(t tree) {
		t.change(p.id, func(n *thing) {
			n.xattrs = maps.Clone(n.xattrs)
			delete(n.xattrs, name)
		})
	}}, true
}

// mistake is a call that must fail and change nothing.
func (a *actor) mistake(t tree) (action, bool) {
	p, ok := a.somePlace(t, func(place, *thing) bool { return true })
	if !ok {
		return action{}, false
	}
	free, n := a.freePlace(t), t[p.id]
	act := func(name string, want error, run func() error) (action, bool) {
		return action{text: "mistake: " + name + " " + p.full(), want: want, run: run}, true
	}
	dir := n.kind == unix.S_IFDIR
	switch a.rng.IntN(9) {
	case 0:
		return act("mkdir", syscall.EEXIST, func() error { return unix.Mkdir(p.full(), 0o755) })
	case 1:
		return act("create", syscall.EEXIST, func() error {
			return withFile(p.full(), unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY, func(int) error { return nil })
		})
	case 2:
		return act("unlink beside", syscall.ENOENT, func() error { return unix.Unlink(free.full()) })
	case 3:
		return act("rename beside", syscall.ENOENT, func() error { return unix.Rename(free.full(), p.full()) })
	case 4:
		return act("do not replace", syscall.EEXIST, func() error {
			return unix.Renameat2(unix.AT_FDCWD, p.full(), unix.AT_FDCWD, p.full(), unix.RENAME_NOREPLACE)
		})
	case 5:
		if dir && len(n.ents) > 0 {
			return act("rmdir", syscall.ENOTEMPTY, func() error { return unix.Rmdir(p.full()) })
		}
	case 6:
		if dir {
			return act("move below itself", syscall.EINVAL, func() error { return unix.Rename(p.full(), p.full()+"/x") })
		}
		return act("rmdir", syscall.ENOTDIR, func() error { return unix.Rmdir(p.full()) })
	case 7:
		if dir {
			return act("link", syscall.EPERM, func() error { return unix.Link(p.full(), free.full()) })
		}
	case 8:
		if dir || n.kind == unix.S_IFREG {
			return act("no xattr", syscall.ENODATA, func() error { return unix.Removexattr(p.full(), "user.never") })
		}
	}
	return action{}, false
}

// look compares something that is there.
func (a *actor) look(t tree) (action, bool) {
	p, ok := a.somePlace(t, func(place, *thing) bool { return true })
	if !ok {
		return action{}, false
	}
	return action{text: "look at " + p.full(), run: func() error {
		f, err := readFound(p.full())
		if err != nil {
			return err
		}
		return t[p.id].same(f, nil, a.plain)
	}}, true
}

func (a *actor) fsync(t tree) (action, bool) {
	path := a.dir
	if p, ok := a.somePlace(t, isFile); ok && a.rng.IntN(2) == 0 {
		path = p.full()
	}
	return action{text: "fsync " + path, run: func() error { return fsync(path) }, sync: true}, true
}

func fsync(path string) error { return withFile(path, unix.O_RDONLY, unix.Fsync) }

func withFile(path string, flags int, fn func(fd int) error) error {
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return err
	}
	err = fn(fd)
	if cerr := unix.Close(fd); err == nil {
		err = cerr
	}
	return err
}

// pwrite writes all of data, from memory that O_DIRECT accepts.
func pwrite(fd int, data []byte, off int) error {
	mem, err := unix.Mmap(-1, 0, len(data), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return err
	}
	defer unix.Munmap(mem)
	copy(mem, data)
	n, err := unix.Pwrite(fd, mem, int64(off))
	if err == nil && n < len(data) {
		err = fmt.Errorf("wrote only %d of %d", n, len(data))
	}
	return err
}

// act does things until the mount is gone, or stop is closed.
func (a *actor) act(stop <-chan struct{}) error {
	for {
		select {
		case <-stop:
			return nil
		default:
		}
		if err := a.step(); err != nil {
			return err
		}
		if a.rng.IntN(50) == 0 {
			time.Sleep(time.Duration(a.rng.IntN(20)) * time.Millisecond)
		}
	}
}
