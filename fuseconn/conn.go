// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

// Package fuseconn is the connection to the kernel's FUSE: it mounts, reads
// requests, hands them to a handler, writes replies and notifications, and
// unmounts. What a request means is the handler's business.
//
// The transport here is loops over cloned /dev/fuse descriptors. Each loop
// reads one request, handles it to its end and writes the reply itself, so the
// common case wakes no other thread. A handler may block: whenever the last
// idle loop takes a request it first starts another loop, so a request that
// waits for a lock, a commit or offline data never keeps others from being
// read. Idle loops beyond a few end by themselves.
//
// The payload of a WRITE request, and the buffer that a READ request fills,
// start at a page boundary, so that devices can use them directly.
package fuseconn

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// MaxWrite is the greatest payload of a READ or WRITE request, in bytes.
const MaxWrite = 1 << 20

// Handler answers requests. in holds one whole request, out is room for the
// reply; n is the reply's length, 0 for none. It is called from many
// goroutines at once and may block. [fuse.ProtocolServer] is one.
type Handler interface {
	HandleRequest(in, out [][]byte) (n int, status fuse.Status)
}

// Options of a mount. The zero value is usable.
type Options struct {
	Source  string // shown as the mount's source, "scoutfs" if empty
	Subtype string // the type is fuse.SUBTYPE, "scoutfs" if empty
	// Flags are generic options of mount(8): ro, nosuid, nodev, noexec,
	// noatime, nodiratime, relatime, strictatime, sync, dirsync and opposites.
	Flags []string
	// FuseOptions are given to the kernel's FUSE, such as
	// "default_permissions" and "allow_other".
	FuseOptions []string
	MinIdle     int          // loops that stay when idle, 2 if 0
	Log         *slog.Logger // slog.Default() if nil

	// Buffer gives page aligned memory of n bytes for data, and Free takes it
	// back: memory that devices are prepared for. It is used for few loops, the
	// others map their own. Nil: all map their own.
	Buffer func(n int) []byte
	Free   func([]byte)
}

// givenLoops is how many loops have memory from Options.Buffer, which is
// probably pinned.
const givenLoops = 4

// Conn is one mounted FUSE file system. Its methods may be called from any
// goroutine.
type Conn struct {
	dir     string
	real    string // dir without symbolic links
	fd      int    // the mount's own descriptor; closed last
	minIdle int32
	log     *slog.Logger
	buffer  func(n int) []byte
	free    func([]byte)
	given   chan struct{} // has an element for each loop with given memory

	idle    atomic.Int32 // loops that wait for a request
	loops   sync.WaitGroup
	ended   atomic.Bool // no further loops may start
	failure atomic.Pointer[error]

	mu     sync.Mutex
	active map[*buffers]struct{} // of all loops; guarded by mu
}

var mountFlags = map[string]struct {
	set, clear uintptr
}{
	"ro": {set: unix.MS_RDONLY}, "rw": {clear: unix.MS_RDONLY},
	"nosuid": {set: unix.MS_NOSUID}, "suid": {clear: unix.MS_NOSUID},
	"nodev": {set: unix.MS_NODEV}, "dev": {clear: unix.MS_NODEV},
	"noexec": {set: unix.MS_NOEXEC}, "exec": {clear: unix.MS_NOEXEC},
	"noatime": {set: unix.MS_NOATIME}, "atime": {clear: unix.MS_NOATIME},
	"nodiratime": {set: unix.MS_NODIRATIME}, "diratime": {clear: unix.MS_NODIRATIME},
	"relatime": {set: unix.MS_RELATIME}, "norelatime": {clear: unix.MS_RELATIME},
	"strictatime": {set: unix.MS_STRICTATIME}, "nostrictatime": {clear: unix.MS_STRICTATIME},
	"sync": {set: unix.MS_SYNCHRONOUS}, "async": {clear: unix.MS_SYNCHRONOUS},
	"dirsync": {set: unix.MS_DIRSYNC}, "silent": {set: unix.MS_SILENT}, "loud": {clear: unix.MS_SILENT},
	"defaults": {}, "auto": {}, "noauto": {}, "nouser": {}, "_netdev": {}, "nofail": {},
}

// IsMountFlag reports whether opt is a generic option that [Options.Flags]
// takes.
func IsMountFlag(opt string) bool {
	_, ok := mountFlags[opt]
	return ok
}

// Mount mounts a new FUSE file system on dir, which must be a directory. No
// request is answered before [Conn.Serve] is called. Errors name dir and what
// to do; they match the errno of the failure.
func Mount(dir string, o Options) (*Conn, error) {
	if err := CheckMountPoint(dir); err != nil {
		return nil, err
	}
	real, err := filepath.EvalSymlinks(dir)
	if err == nil {
		real, err = filepath.Abs(real)
	}
	if err != nil {
		return nil, fmt.Errorf("mount point %s: %w", dir, err)
	}
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/fuse: %w (is the fuse module loaded, and this process root?)", err)
	}
	c := &Conn{dir: dir, real: real, fd: fd, minIdle: int32(o.MinIdle), log: o.Log, active: map[*buffers]struct{}{},
		buffer: o.Buffer, free: o.Free, given: make(chan struct{}, givenLoops)}
	if c.minIdle <= 0 {
		c.minIdle = 2
	}
	if c.log == nil {
		c.log = slog.Default()
	}
	var flags uintptr
	for _, f := range o.Flags {
		m, ok := mountFlags[f]
		if !ok {
			unix.Close(fd)
			return nil, fmt.Errorf("mount %s: unknown option %q: %w", dir, f, unix.EINVAL)
		}
		flags = flags&^m.clear | m.set
	}
	opts := append([]string{
		fmt.Sprintf("fd=%d", fd), "rootmode=40000", "user_id=0", "group_id=0",
		fmt.Sprintf("max_read=%d", MaxWrite),
	}, o.FuseOptions...)
	source, subtype := o.Source, o.Subtype
	if source == "" {
		source = "scoutfs"
	}
	if subtype == "" {
		subtype = "scoutfs"
	}
	if err := unix.Mount(source, dir, "fuse."+subtype, flags, strings.Join(opts, ",")); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("mount %s: %w", dir, err)
	}
	return c, nil
}

// probeTime is how long a FUSE file system on a mount point may take to answer.
const probeTime = 5 * time.Second

// CheckMountPoint says why dir can't be mounted on. A dead FUSE mount of an
// earlier daemon on dir, which answers ENOTCONN, is unmounted. It blocks for
// some seconds if something is mounted there that does not answer.
func CheckMountPoint(dir string) error {
	for range 8 { // dead mounts can be stacked
		err := probe(dir)
		if err == nil {
			break
		}
		if !isDead(err) {
			return fmt.Errorf("mount point %s: %w", dir, err)
		}
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			return fmt.Errorf("mount point %s holds a dead FUSE mount that can't be unmounted: %w (try umount -l %s)", dir, err, dir)
		}
	}
	if IsMounted(dir) {
		return fmt.Errorf("mount point %s is already a mount point: %w", dir, unix.EBUSY)
	}
	return nil
}

func isDead(err error) bool {
	return errors.Is(err, unix.ENOTCONN) || errors.Is(err, unix.ECONNABORTED)
}

// probe asks what is mounted on dir, which for FUSE is a question to its
// daemon: attributes may be cached and prove nothing.
func probe(dir string) error {
	answer := make(chan error, 1)
	go func() {
		var fs unix.Statfs_t
		if err := unix.Statfs(dir, &fs); err != nil {
			answer <- err
			return
		}
		var st unix.Stat_t
		err := unix.Stat(dir, &st)
		if err == nil && st.Mode&unix.S_IFMT != unix.S_IFDIR {
			err = unix.ENOTDIR
		}
		answer <- err
	}()
	select {
	case err := <-answer:
		return err
	case <-time.After(probeTime):
		return fmt.Errorf("what is mounted there does not answer: %w", unix.EBUSY)
	}
}

// IsMounted reports whether /proc/self/mounts names dir as a mount point.
func IsMounted(dir string) bool {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return false
	}
	b, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return false
	}
	esc := escaped(abs)
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 1 && f[1] == esc {
			return true
		}
	}
	return false
}

// Serve answers requests through h until the file system is unmounted, and
// returns when the last request has ended; requests that wait for something
// are interrupted. It returns nil after an unmount. It is called once.
func (c *Conn) Serve(h Handler) error {
	defer unix.Close(c.fd)
	// INIT comes first and alone: nothing may be handled before its reply.
	b, back := c.newBuffers()
	done := c.one(c.fd, h, b, nil)
	back()
	if done {
		return c.err()
	}
	c.setReadAhead()
	for range c.minIdle {
		c.start(h)
	}
	ended := make(chan struct{})
	go c.interruptLoop(h, ended)
	c.loops.Wait()
	close(ended)
	return c.err()
}

// interruptLoop interrupts, once the connection has ended, what is still being
// handled, again and again until ended: a request may just be starting.
func (c *Conn) interruptLoop(h Handler, ended <-chan struct{}) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ended:
			return
		case <-tick.C:
		}
		if !c.ended.Load() {
			continue
		}
		c.mu.Lock()
		var uniques []uint64
		for b := range c.active {
			if u := b.unique.Load(); u != 0 {
				uniques = append(uniques, u)
			}
		}
		c.mu.Unlock()
		for _, u := range uniques {
			h.HandleRequest([][]byte{interrupt(u)}, [][]byte{make([]byte, page)})
		}
	}
}

func (c *Conn) stop() { c.ended.Store(true) }

// Ended reports whether the connection is over: nobody waits for replies any
// more.
func (c *Conn) Ended() bool { return c.ended.Load() }

func (c *Conn) err() error {
	if p := c.failure.Load(); p != nil {
		return *p
	}
	return nil
}

// start starts one more loop. The caller is Serve or a loop, so the count of
// loops can't be zero while it runs, except at first.
func (c *Conn) start(h Handler) {
	if c.ended.Load() {
		return
	}
	c.idle.Add(1)
	c.loops.Add(1)
	go c.loop(h)
}

// loop reads and handles requests with a descriptor of its own until the
// connection ends or there are enough idle loops.
func (c *Conn) loop(h Handler) {
	defer c.loops.Done()
	fd, cloned := c.clone()
	if cloned {
		defer unix.Close(fd)
	}
	b, back := c.newBuffers()
	defer back()
	c.mu.Lock()
	c.active[b] = struct{}{}
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.active, b)
		c.mu.Unlock()
	}()
	taken := func() {
		if c.idle.Add(-1) < 1 {
			c.start(h)
		}
	}
	for {
		if c.one(fd, h, b, taken) {
			c.stop()
			return
		}
		if c.idle.Add(1) > c.minIdle+2 {
			c.idle.Add(-1)
			return
		}
	}
}

// newBuffers makes the buffers of a loop; back gives them up.
func (c *Conn) newBuffers() (b *buffers, back func()) {
	if c.buffer != nil {
		select {
		case c.given <- struct{}{}:
			b = newBuffers(c.buffer, c.free)
			return b, func() {
				b.free()
				<-c.given
			}
		default:
		}
	}
	b = newBuffers(nil, nil)
	return b, b.free
}

// clone opens another descriptor of the connection, so that loops do not
// contend for one queue. Where that fails the loop shares the first.
func (c *Conn) clone() (fd int, cloned bool) {
	const fuseDevIocClone = 0x8004e500
	n, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return c.fd, false
	}
	if err := unix.IoctlSetPointerInt(n, fuseDevIocClone, c.fd); err != nil {
		unix.Close(n)
		return c.fd, false
	}
	return n, true
}

// one reads one request, handles it and writes the reply. It reports whether
// the connection has ended.
func (c *Conn) one(fd int, h Handler, b *buffers, taken func()) (done bool) {
	n, done := c.read(fd, b)
	if done {
		return true
	}
	if taken != nil {
		taken()
	}
	b.unique.Store(unique(b.head[:min(n, headSize)]))
	rn, _ := h.HandleRequest(b.request(n), b.outs[:])
	b.unique.Store(0)
	if rn == 0 {
		return false
	}
	return c.write(fd, b, rn)
}

func (c *Conn) read(fd int, b *buffers) (n int, done bool) {
	for {
		n, err := b.read(fd)
		switch {
		case err == nil && n > 0:
			return n, false
		case err == unix.EINTR || err == unix.ENOENT || err == unix.EAGAIN:
			// ENOENT: the request was interrupted before it was read.
			continue
		case err == unix.ENODEV || err == unix.ECONNABORTED || err == nil:
			return 0, true
		default:
			return 0, c.fail(fmt.Errorf("fuse: read request of %s: %w", c.dir, err))
		}
	}
}

func (c *Conn) write(fd int, b *buffers, n int) (done bool) {
	for {
		err := b.write(fd, n)
		switch err {
		case nil, unix.ENOENT: // ENOENT: the request was interrupted and forgotten
			return false
		case unix.EINTR, unix.EAGAIN:
			continue
		case unix.ENODEV, unix.ECONNABORTED, unix.EPERM:
			return true
		}
		// The kernel did not take this reply; a request without any would hang.
		c.log.Error("fuse: reply refused", "dir", c.dir, "len", n, "err", err)
		if n > outHeaderSize {
			n = b.fail(unix.EIO)
			continue
		}
		return false
	}
}

func (c *Conn) fail(err error) bool {
	c.failure.CompareAndSwap(nil, &err)
	return true
}

// Loops is how many loops exist, idle or handling a request.
func (c *Conn) Loops() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.active)
}

// Unmount unmounts the file system. With force the kernel also ends all
// requests at once; with lazy it only detaches it from the tree.
func (c *Conn) Unmount(force, lazy bool) error { return Unmount(c.dir, force, lazy) }

// Unmount unmounts whatever is mounted on dir.
func Unmount(dir string, force, lazy bool) error {
	flags := 0
	if force {
		flags |= unix.MNT_FORCE
	}
	if lazy {
		flags |= unix.MNT_DETACH
	}
	for range 50 {
		err := unix.Unmount(dir, flags)
		if err == nil {
			return nil
		}
		// The kernel itself may still hold a file for a moment.
		if !errors.Is(err, unix.EBUSY) || force || lazy {
			return fmt.Errorf("unmount %s: %w", dir, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
	return fmt.Errorf("unmount %s: %w (something on it is open, or somebody's working directory)", dir, unix.EBUSY)
}
