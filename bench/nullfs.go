// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"
	"log"
	"log/slog"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"scoutfs/block"
	"scoutfs/fuseconn"
)

// NullFS is a FUSE file system that answers from memory: names and attributes
// are in maps, data that is written is forgotten, reads give whatever the
// reply's buffer holds. It asks of the kernel what the real file system asks,
// so what a job costs on it is the cost of FUSE alone.
type NullFS struct {
	fuse.RawFileSystem // answers ENOSYS to what is not here

	mu    sync.RWMutex
	nodes []nullNode // by node id; guarded by mu
}

// nullNode is a file or a directory.
type nullNode struct {
	mode    uint32
	size    uint64
	names   map[string]uint64 // of a directory: node ids
	entries []nullEntry       // of a directory: in order of creation, for lists
}

type nullEntry struct {
	name string
	node uint64
}

// forever is how long the kernel may cache, in seconds.
const forever = 1 << 40

// NewNullFS returns a file system with an empty root.
func NewNullFS() *NullFS {
	root := nullNode{mode: syscall.S_IFDIR | 0o755, names: make(map[string]uint64)}
	return &NullFS{RawFileSystem: fuse.NewDefaultRawFileSystem(), nodes: []nullNode{1: root}}
}

// ServeNull mounts a [NullFS] on dir and serves it until it is unmounted. ready
// is called once it can be used.
func ServeNull(dir string, ready func(), lg *slog.Logger) error {
	c, err := fuseconn.Mount(dir, fuseconn.Options{
		Source: "null", Subtype: "scoutfs-null", FuseOptions: []string{"default_permissions", "allow_other"}, Log: lg,
		Buffer: block.AlignedBuf, Free: block.FreeBuf,
	})
	if err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	served := make(chan error, 1)
	go func() { served <- c.Serve(NewNullFS().handler(lg)) }()
	ready()
	return <-served
}

// handler has the options of package fusefs.
func (n *NullFS) handler(lg *slog.Logger) fuseconn.Handler {
	return fuse.NewProtocolServer(n, &fuse.MountOptions{
		MaxWrite: fuseconn.MaxWrite, MaxBackground: 512,
		ExtraCapabilities: fuse.CAP_DONT_MASK | fuse.CAP_EXPORT_SUPPORT | fuse.CAP_IOCTL_DIR | fuse.CAP_ASYNC_DIO |
			fuse.CAP_HANDLE_KILLPRIV_V2 | fuse.CAP_SETXATTR_EXT | fuse.CAP_CACHE_SYMLINKS,
		EnableAcl: true, EnableSymlinkCaching: true, ExplicitDataCacheControl: true,
		Logger: nullLog(lg),
	})
}

func nullLog(lg *slog.Logger) *log.Logger { return slog.NewLogLogger(lg.Handler(), slog.LevelDebug) }

// Init does nothing.
func (n *NullFS) Init(*fuse.Server) {}

// String names the file system.
func (n *NullFS) String() string { return "null" }

func (n *NullFS) attr(node uint64, out *fuse.Attr) {
	x := &n.nodes[node]
	now := uint64(time.Now().Unix())
	*out = fuse.Attr{Ino: node, Mode: x.mode, Size: x.size, Blocks: (x.size + 511) / 512, Nlink: 1, Atime: now, Mtime: now, Ctime: now, Blksize: 4096}
}

func (n *NullFS) entry(node uint64, out *fuse.EntryOut) {
	out.NodeId, out.EntryValid, out.AttrValid = node, forever, forever
	n.attr(node, &out.Attr)
}

// Lookup finds a name.
func (n *NullFS) Lookup(_ <-chan struct{}, h *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	n.mu.RLock()
	defer n.mu.RUnlock()
	node, ok := n.nodes[h.NodeId].names[name]
	if !ok {
		out.EntryValid = forever
		return fuse.OK
	}
	n.entry(node, out)
	return fuse.OK
}

// make adds a node.
func (n *NullFS) make(dir uint64, name string, mode uint32, out *fuse.EntryOut) fuse.Status {
	name = strings.Clone(name)
	n.mu.Lock()
	defer n.mu.Unlock()
	d := &n.nodes[dir]
	if _, ok := d.names[name]; ok {
		return fuse.Status(syscall.EEXIST)
	}
	node := uint64(len(n.nodes))
	d.names[name] = node
	d.entries = append(d.entries, nullEntry{name, node})
	x := nullNode{mode: mode}
	if mode&syscall.S_IFMT == syscall.S_IFDIR {
		x.names = make(map[string]uint64)
	}
	n.nodes = append(n.nodes, x)
	n.entry(node, out)
	return fuse.OK
}

// Mkdir makes a directory.
func (n *NullFS) Mkdir(_ <-chan struct{}, in *fuse.MkdirIn, name string, out *fuse.EntryOut) fuse.Status {
	return n.make(in.NodeId, name, syscall.S_IFDIR|in.Mode&0o7777, out)
}

// Create makes and opens a file.
func (n *NullFS) Create(_ <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	out.OpenFlags = fuse.FOPEN_KEEP_CACHE
	return n.make(in.NodeId, name, syscall.S_IFREG|in.Mode&0o7777, &out.EntryOut)
}

// Unlink removes a name.
func (n *NullFS) Unlink(_ <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	n.mu.Lock()
	defer n.mu.Unlock()
	d := &n.nodes[h.NodeId]
	node, ok := d.names[name]
	if !ok {
		return fuse.ENOENT
	}
	delete(d.names, name)
	for i := range d.entries {
		if d.entries[i].node == node {
			d.entries[i] = nullEntry{} // lists leave it out
			break
		}
	}
	return fuse.OK
}

// Rmdir removes a directory.
func (n *NullFS) Rmdir(c <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	return n.Unlink(c, h, name)
}

// Forget does nothing: nodes stay.
func (n *NullFS) Forget(uint64, uint64) {}

// GetAttr is stat.
func (n *NullFS) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	n.mu.RLock()
	defer n.mu.RUnlock()
	out.AttrValid = forever
	n.attr(in.NodeId, &out.Attr)
	return fuse.OK
}

// SetAttr sets the size.
func (n *NullFS) SetAttr(_ <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	n.mu.Lock()
	defer n.mu.Unlock()
	if in.Valid&fuse.FATTR_SIZE != 0 {
		n.nodes[in.NodeId].size = in.Size
	}
	out.AttrValid = forever
	n.attr(in.NodeId, &out.Attr)
	return fuse.OK
}

// Open opens a file.
func (n *NullFS) Open(_ <-chan struct{}, _ *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	out.OpenFlags = fuse.FOPEN_KEEP_CACHE
	return fuse.OK
}

// Release closes a file.
func (n *NullFS) Release(<-chan struct{}, *fuse.ReleaseIn) {}

// Flush does nothing; its answer makes the kernel ask no more.
func (n *NullFS) Flush(<-chan struct{}, *fuse.FlushIn) fuse.Status { return fuse.ENOSYS }

// Fsync does nothing.
func (n *NullFS) Fsync(<-chan struct{}, *fuse.FsyncIn) fuse.Status { return fuse.OK }

// FsyncDir does nothing.
func (n *NullFS) FsyncDir(<-chan struct{}, *fuse.FsyncIn) fuse.Status { return fuse.OK }

// GetXAttr says that there is none.
func (n *NullFS) GetXAttr(<-chan struct{}, *fuse.InHeader, string, []byte) (uint32, fuse.Status) {
	return 0, fuse.ENODATA
}

// StatFs is statfs.
func (n *NullFS) StatFs(_ <-chan struct{}, _ *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	out.Bsize, out.NameLen = 4096, 255
	return fuse.OK
}

// nullData is a read that leaves the reply's buffer as it is.
type nullData int

// Size implements fuse.ReadResult.
func (d nullData) Size() int { return int(d) }

// Done implements fuse.ReadResult.
func (d nullData) Done() {}

// Bytes implements fuse.ReadResult.
func (d nullData) Bytes(buf []byte) ([]byte, fuse.Status) { return buf[:d], fuse.OK }

// Readv says that the data is where it has to go.
func (d nullData) Readv([][]byte) (int, fuse.Status) { return int(d), fuse.OK }

// Read reads as far as the file's size goes.
func (n *NullFS) Read(_ <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	n.mu.RLock()
	size := n.nodes[in.NodeId].size
	n.mu.RUnlock()
	if in.Offset >= size {
		return nullData(0), fuse.OK
	}
	return nullData(min(uint64(len(buf)), size-in.Offset)), fuse.OK
}

// Write only moves the file's end.
func (n *NullFS) Write(_ <-chan struct{}, in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	n.mu.Lock()
	x := &n.nodes[in.NodeId]
	x.size = max(x.size, in.Offset+uint64(len(data)))
	n.mu.Unlock()
	return uint32(len(data)), fuse.OK
}

// Writev is not used: requests come in one piece.
func (n *NullFS) Writev(<-chan struct{}, *fuse.WriteIn, [][]byte) (uint32, fuse.Status) {
	return 0, fuse.ENOSYS
}

// OpenDir opens a directory.
func (n *NullFS) OpenDir(<-chan struct{}, *fuse.OpenIn, *fuse.OpenOut) fuse.Status { return fuse.OK }

// ReleaseDir closes a directory.
func (n *NullFS) ReleaseDir(*fuse.ReleaseIn) {}

// ReadDir lists names.
func (n *NullFS) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	n.list(in, func(e fuse.DirEntry) bool { return out.AddDirEntry(e) })
	return fuse.OK
}

// ReadDirPlus lists names with attributes.
func (n *NullFS) ReadDirPlus(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	n.list(in, func(e fuse.DirEntry) bool {
		eo := out.AddDirLookupEntry(e)
		if eo != nil && e.Off > 2 {
			n.entry(e.Ino, eo)
		}
		return eo != nil
	})
	return fuse.OK
}

func (n *NullFS) list(in *fuse.ReadIn, add func(fuse.DirEntry) bool) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	d := &n.nodes[in.NodeId]
	for off := in.Offset; off < uint64(len(d.entries))+2; off++ {
		e := fuse.DirEntry{Ino: in.NodeId, Off: off + 1, Mode: syscall.S_IFDIR, Name: ".."}
		switch {
		case off == 0:
			e.Name = "."
		case off > 1:
			x := d.entries[off-2]
			if x.node == 0 {
				continue
			}
			e.Ino, e.Name, e.Mode = x.node, x.name, n.nodes[x.node].mode
		}
		if !add(e) {
			return
		}
	}
}
