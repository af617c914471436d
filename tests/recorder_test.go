// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

//go:build system

package tests

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// event is a write that a device got, or a flush.
type event struct {
	disk  int
	flush bool
	off   int64
	data  []byte
}

// recorder is a file system with two files, meta and data, that serve as devices or below
// them: it notes every write and flush in the order in which they arrive. So
// what is recorded is what the whole way down sends: the daemon, its ring, a loop
// device. The files' contents are in two others.
type recorder struct {
	fuse.RawFileSystem
	dir    string // where it is mounted
	files  [2]*os.File
	server *fuse.Server
	stall  sync.RWMutex // held by a test that keeps flushes from ending

	mu     sync.Mutex
	events []event
}

var recorded = [2]string{"meta", "data"}

// newRecorder makes a recorder over files, mounted until the test ends.
func newRecorder(t *testing.T, paths [2]string) *recorder {
	t.Helper()
	r := &recorder{RawFileSystem: fuse.NewDefaultRawFileSystem(), dir: filepath.Join(openDir(t), "recorded")}
	for i, p := range paths {
		f, err := os.OpenFile(p, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		r.files[i] = f
	}
	if err := os.Mkdir(r.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	var err error
	r.server, err = fuse.NewServer(r, r.dir, &fuse.MountOptions{FsName: "recorder", MaxWrite: 1 << 20, DirectMount: true})
	if err != nil {
		t.Fatal(err)
	}
	go r.server.Serve()
	if err := r.server.WaitMount(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.server.Unmount(); err != nil {
			t.Errorf("unmount the recorder: %v", err)
			_ = syscall.Unmount(r.dir, syscall.MNT_DETACH)
		}
	})
	return r
}

// path is a file of the recorder.
func (r *recorder) path(disk int) string { return filepath.Join(r.dir, recorded[disk]) }

// pos is how many events there are.
func (r *recorder) pos() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.events)
}

func (r *recorder) attr(node uint64, a *fuse.Attr) fuse.Status {
	a.Ino, a.Mode, a.Nlink = node, syscall.S_IFDIR|0o755, 2
	if node == fuse.FUSE_ROOT_ID {
		return fuse.OK
	}
	st, err := r.files[node-2].Stat()
	if err != nil {
		return fuse.EIO
	}
	a.Mode, a.Nlink, a.Size, a.Blksize = syscall.S_IFREG|0o600, 1, uint64(st.Size()), pageSize
	return fuse.OK
}

// Lookup implements fuse.RawFileSystem.
func (r *recorder) Lookup(_ <-chan struct{}, _ *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	i := slices.Index(recorded[:], name)
	if i < 0 {
		return fuse.ENOENT
	}
	out.NodeId = uint64(i + 2)
	return r.attr(out.NodeId, &out.Attr)
}

// GetAttr implements fuse.RawFileSystem.
func (r *recorder) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	return r.attr(in.NodeId, &out.Attr)
}

// Open implements fuse.RawFileSystem.
func (r *recorder) Open(_ <-chan struct{}, _ *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	out.OpenFlags = fuse.FOPEN_DIRECT_IO
	return fuse.OK
}

// Read implements fuse.RawFileSystem.
func (r *recorder) Read(_ <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	n, err := r.files[in.NodeId-2].ReadAt(buf[:in.Size], int64(in.Offset))
	if n == 0 && err != nil {
		return nil, fuse.EIO
	}
	return fuse.ReadResultData(buf[:n]), fuse.OK
}

// Write implements fuse.RawFileSystem.
func (r *recorder) Write(_ <-chan struct{}, in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	r.mu.Lock()
	defer r.mu.Unlock()
	disk := int(in.NodeId - 2)
	if _, err := r.files[disk].WriteAt(data, int64(in.Offset)); err != nil {
		return 0, fuse.EIO
	}
	r.events = append(r.events, event{disk: disk, off: int64(in.Offset), data: slices.Clone(data)})
	return uint32(len(data)), fuse.OK
}

// Fsync implements fuse.RawFileSystem.
func (r *recorder) Fsync(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	r.stall.RLock()
	defer r.stall.RUnlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, event{disk: int(in.NodeId - 2), flush: true})
	return fuse.OK
}

// Flush implements fuse.RawFileSystem. It is a close, not a flush of a device.
func (r *recorder) Flush(<-chan struct{}, *fuse.FlushIn) fuse.Status { return fuse.OK }

// Release implements fuse.RawFileSystem.
func (r *recorder) Release(<-chan struct{}, *fuse.ReleaseIn) {}

// Forget implements fuse.RawFileSystem.
func (r *recorder) Forget(uint64, uint64) {}

// StatFs implements fuse.RawFileSystem.
func (r *recorder) StatFs(_ <-chan struct{}, _ *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	out.Bsize, out.Frsize, out.NameLen = pageSize, pageSize, 255
	return fuse.OK
}

// String implements fuse.RawFileSystem.
func (r *recorder) String() string { return fmt.Sprintf("recorder of %d events", r.pos()) }
