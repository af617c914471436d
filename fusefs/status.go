// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package fusefs

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"scoutfs/fuseconn"
	"scoutfs/mount"
)

// StatusMount is a status tree that is mounted. See [MountStatus].
type StatusMount struct {
	conns []*fuseconn.Conn
	dirs  []string
	loops sync.WaitGroup
}

// MountStatus serves the children of root, directories such as sysfs and
// debugfs, each as a FUSE mount on runDir/NAME/id. Contents are made when a
// file is read, so the tree works at any time of a mount's life.
func MountStatus(runDir, id string, root *mount.Node, log *slog.Logger) (s *StatusMount, err error) {
	s = &StatusMount{}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	for _, n := range root.Children() {
		clearDead(filepath.Join(runDir, n.Name))
		dir := filepath.Join(runDir, n.Name, id)
		if err := os.MkdirAll(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return s, err
		}
		c, err := fuseconn.Mount(dir, fuseconn.Options{
			Source: "scoutfs-status", Subtype: "scoutfs-status", Log: log,
			Flags: []string{"nosuid", "nodev", "noexec"}, FuseOptions: []string{"default_permissions", "allow_other"}, MinIdle: 1,
		})
		if err != nil {
			return s, err
		}
		s.conns, s.dirs = append(s.conns, c), append(s.dirs, dir)
		t := &statusFS{RawFileSystem: fuse.NewDefaultRawFileSystem(), root: n, paths: map[uint64]string{1: ""}, ids: map[string]uint64{"": 1}, next: 2, open: map[uint64][]byte{}}
		h := fuse.NewProtocolServer(t, &fuse.MountOptions{MaxWrite: 64 << 10, MaxBackground: 64, Logger: quiet(log)})
		s.loops.Go(func() {
			if err := c.Serve(h); err != nil {
				log.Error("status tree ended", "dir", dir, "err", err)
			}
		})
	}
	return s, nil
}

// clearDead removes what daemons that were killed left in dir: mounts that
// answer ENOTCONN, and empty directories.
func clearDead(dir string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		p := filepath.Join(dir, e.Name())
		var st syscall.Statfs_t
		if err := syscall.Statfs(p, &st); errors.Is(err, syscall.ENOTCONN) || errors.Is(err, syscall.ECONNABORTED) {
			_ = fuseconn.Unmount(p, false, true)
		}
		if !fuseconn.IsMounted(p) {
			_ = os.Remove(p)
		}
	}
}

// Close unmounts the tree and removes its directories. Files that are open
// elsewhere get errors from then on.
func (s *StatusMount) Close() {
	for _, c := range s.conns {
		_ = c.Unmount(true, true)
	}
	s.loops.Wait()
	for _, d := range s.dirs {
		_ = os.Remove(d)
	}
}

// statusFS serves a tree of nodes. The kernel caches nothing of it.
type statusFS struct {
	fuse.RawFileSystem
	root *mount.Node

	mu     sync.Mutex
	paths  map[uint64]string // of the node ids that were given out
	ids    map[string]uint64
	next   uint64
	open   map[uint64][]byte // contents by file handle
	nextFh uint64
}

func (t *statusFS) path(id uint64) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.paths[id]
}

func (t *statusFS) node(id uint64) *mount.Node {
	p := t.path(id)
	if p == "" {
		return t.root
	}
	return t.root.Find(p)
}

func (t *statusFS) id(path string) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if id, ok := t.ids[path]; ok {
		return id
	}
	t.next++
	t.ids[path], t.paths[t.next] = t.next, path
	return t.next
}

func nodeAttr(id uint64, n *mount.Node, a *fuse.Attr) {
	a.Ino = id
	a.Nlink = 1
	a.Mode = uint32(n.Mode.Perm()) | syscall.S_IFREG
	if n.Mode.IsDir() {
		a.Nlink = 2
		a.Mode = uint32(n.Mode.Perm()) | syscall.S_IFDIR
	} else {
		a.Size = 4096 // as sysfs: the real length is known when it is read
	}
}

// String names the file system.
func (t *statusFS) String() string { return "scoutfs-status" }

// Init does nothing.
func (t *statusFS) Init(*fuse.Server) {}

// Lookup finds a node.
func (t *statusFS) Lookup(_ <-chan struct{}, h *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	dir := t.node(h.NodeId)
	if dir == nil {
		return fuse.ENOENT
	}
	n := dir.Child(name)
	if n == nil {
		return fuse.ENOENT
	}
	id := t.id(strings.TrimPrefix(t.path(h.NodeId)+"/"+name, "/"))
	out.NodeId = id
	nodeAttr(id, n, &out.Attr)
	return fuse.OK
}

// GetAttr is stat.
func (t *statusFS) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	n := t.node(in.NodeId)
	if n == nil {
		return fuse.ENOENT
	}
	nodeAttr(in.NodeId, n, &out.Attr)
	return fuse.OK
}

// SetAttr takes the truncation that a shell's redirection asks for.
func (t *statusFS) SetAttr(_ <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	n := t.node(in.NodeId)
	switch {
	case n == nil:
		return fuse.ENOENT
	case in.Valid&^(fuse.FATTR_SIZE|fuse.FATTR_FH|fuse.FATTR_LOCKOWNER|fuse.FATTR_MTIME|fuse.FATTR_MTIME_NOW|fuse.FATTR_CTIME) != 0:
		return fuse.EPERM
	}
	nodeAttr(in.NodeId, n, &out.Attr)
	return fuse.OK
}

// Open makes a file's content.
func (t *statusFS) Open(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	n := t.node(in.NodeId)
	if n == nil {
		return fuse.ENOENT
	}
	if in.Flags&syscall.O_ACCMODE != syscall.O_RDONLY && n.Write == nil {
		return fuse.EACCES
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.nextFh++
	t.open[t.nextFh] = nil
	out.Fh = t.nextFh
	out.OpenFlags = fuse.FOPEN_DIRECT_IO
	return fuse.OK
}

// Read returns a part of the content as it was when its start was read.
func (t *statusFS) Read(_ <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	t.mu.Lock()
	b := t.open[in.Fh]
	t.mu.Unlock()
	if in.Offset == 0 || b == nil {
		n := t.node(in.NodeId)
		if n == nil || n.Read == nil {
			return nil, fuse.ENOENT
		}
		var err error
		if b, err = n.Read(); err != nil {
			return nil, fuse.ToStatus(err)
		}
		t.mu.Lock()
		t.open[in.Fh] = b
		t.mu.Unlock()
	}
	b = b[min(in.Offset, uint64(len(b))):]
	return filled(copy(buf, b)), fuse.OK
}

// Write hands one write call to the node.
func (t *statusFS) Write(_ <-chan struct{}, in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	n := t.node(in.NodeId)
	if n == nil || n.Write == nil {
		return 0, fuse.EACCES
	}
	if err := n.Write(append([]byte(nil), data...)); err != nil {
		return 0, fuse.ToStatus(err)
	}
	return uint32(len(data)), fuse.OK
}

// Release forgets the content.
func (t *statusFS) Release(_ <-chan struct{}, in *fuse.ReleaseIn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.open, in.Fh)
}

// Flush has nothing to do.
func (t *statusFS) Flush(<-chan struct{}, *fuse.FlushIn) fuse.Status { return fuse.ENOSYS }

// OpenDir opens a directory.
func (t *statusFS) OpenDir(_ <-chan struct{}, _ *fuse.OpenIn, _ *fuse.OpenOut) fuse.Status {
	return fuse.OK
}

// ReadDir lists a directory. Its offset is the number of entries before.
func (t *statusFS) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return t.list(in, func(e fuse.DirEntry) bool { return out.AddDirEntry(e) })
}

// ReadDirPlus lists a directory without attributes.
func (t *statusFS) ReadDirPlus(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return t.list(in, func(e fuse.DirEntry) bool { return out.AddDirLookupEntry(e) != nil })
}

func (t *statusFS) list(in *fuse.ReadIn, add func(fuse.DirEntry) bool) fuse.Status {
	n := t.node(in.NodeId)
	if n == nil || n.Children == nil {
		return fuse.ENOENT
	}
	es := []fuse.DirEntry{{Name: ".", Mode: syscall.S_IFDIR}, {Name: "..", Mode: syscall.S_IFDIR}}
	for _, c := range n.Children() {
		mode := uint32(syscall.S_IFREG)
		if c.Mode.IsDir() {
			mode = syscall.S_IFDIR
		}
		es = append(es, fuse.DirEntry{Name: c.Name, Mode: mode})
	}
	for i := in.Offset; i < uint64(len(es)); i++ {
		es[i].Off = i + 1
		if !add(es[i]) {
			break
		}
	}
	return fuse.OK
}
