// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package fuseconn_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"scoutfs/fuseconn"
)

// oneFile is a file system with one file, "f", whose READ and WRITE tests
// control.
type oneFile struct {
	fuse.RawFileSystem
	mu      sync.Mutex
	data    []byte
	aligned bool
	block   chan struct{} // if not nil a READ waits until it is closed, or for an interrupt
	waiting chan struct{} // gets a value when a READ starts to wait
}

func (o *oneFile) attr(node uint64, a *fuse.Attr) fuse.Status {
	a.Ino = node
	a.Nlink = 1
	if node == 1 {
		a.Mode = unix.S_IFDIR | 0o755
		return fuse.OK
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	a.Mode = unix.S_IFREG | 0o644
	a.Size = uint64(len(o.data))
	return fuse.OK
}

func (o *oneFile) Lookup(_ <-chan struct{}, _ *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	if name != "f" {
		return fuse.ENOENT
	}
	out.NodeId = 2
	return o.attr(2, &out.Attr)
}

func (o *oneFile) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	return o.attr(in.NodeId, &out.Attr)
}

func (o *oneFile) Open(_ <-chan struct{}, _ *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	out.OpenFlags = fuse.FOPEN_DIRECT_IO
	return fuse.OK
}

func pageAligned(b []byte) bool { return uintptr(unsafe.Pointer(unsafe.SliceData(b)))%4096 == 0 }

func (o *oneFile) Read(cancel <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	o.mu.Lock()
	block := o.block
	o.mu.Unlock()
	if block != nil {
		o.waiting <- struct{}{}
		select {
		case <-block:
		case <-cancel:
			return nil, fuse.EINTR
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.aligned = o.aligned && pageAligned(buf)
	n := 0
	if in.Offset < uint64(len(o.data)) {
		n = copy(buf, o.data[in.Offset:])
	}
	return fuse.ReadResultData(buf[:n]), fuse.OK
}

func (o *oneFile) Write(_ <-chan struct{}, in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.aligned = o.aligned && pageAligned(data)
	if need := int(in.Offset) + len(data); need > len(o.data) {
		o.data = append(o.data, make([]byte, need-len(o.data))...)
	}
	copy(o.data[in.Offset:], data)
	return uint32(len(data)), fuse.OK
}

func (o *oneFile) Writev(<-chan struct{}, *fuse.WriteIn, [][]byte) (uint32, fuse.Status) {
	return 0, fuse.ENOSYS
}

func (o *oneFile) SetAttr(_ <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	return o.attr(in.NodeId, &out.Attr)
}

func (o *oneFile) Init(*fuse.Server) {}

func mount(t *testing.T, fs *oneFile) (string, *fuseconn.Conn, chan error) {
	t.Helper()
	if _, err := os.Stat("/dev/fuse"); err != nil || os.Getuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("needs root and /dev/fuse")
		}
		t.Skip("needs root and /dev/fuse")
	}
	fs.RawFileSystem = fuse.NewDefaultRawFileSystem()
	fs.aligned = true
	dir := t.TempDir()
	c, err := fuseconn.Mount(dir, fuseconn.Options{FuseOptions: []string{"default_permissions"}})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() {
		served <- c.Serve(fuse.NewProtocolServer(fs, &fuse.MountOptions{MaxWrite: fuseconn.MaxWrite, MaxBackground: 512}))
	}()
	t.Cleanup(func() { _ = fuseconn.Unmount(dir, true, true) })
	return dir, c, served
}

// readSome reads with plain system calls. Package os would add the file to the
// runtime's epoll, which holds a scheduler slot while it waits for an answer of
// this very process.
func readSome(path string) error {
	fd, err := unix.Open(path, unix.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	_, err = unix.Pread(fd, make([]byte, 10), 0)
	return err
}

func TestReadWriteAligned(t *testing.T) {
	fs := &oneFile{}
	dir, c, served := mount(t, fs)
	path := filepath.Join(dir, "f")
	want := bytes.Repeat([]byte("scoutfs!"), 3<<17)
	fd, err := unix.Open(path, unix.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := unix.Pwrite(fd, want, 0); n != len(want) || err != nil {
		t.Fatal(n, err)
	}
	got := make([]byte, len(want))
	if n, err := unix.Pread(fd, got, 0); n != len(got) || err != nil {
		t.Fatal(n, err)
	}
	unix.Close(fd)
	if !bytes.Equal(got, want) {
		t.Error("read other data than was written")
	}
	if !fs.aligned {
		t.Error("data of READ or WRITE was not page aligned")
	}
	if err := c.Unmount(false, false); err != nil {
		t.Fatal(err)
	}
	if err := <-served; err != nil {
		t.Errorf("Serve: %v", err)
	}
}

// Requests that wait must not keep others from being read, however many.
func TestBlockedRequestsDoNotStopOthers(t *testing.T) {
	fs := &oneFile{block: make(chan struct{}), waiting: make(chan struct{}, 64)}
	dir, c, served := mount(t, fs)
	path := filepath.Join(dir, "f")
	const readers = 40
	var wg sync.WaitGroup
	for range readers {
		wg.Go(func() {
			if err := readSome(path); err != nil {
				t.Error(err)
			}
		})
	}
	for range readers {
		<-fs.waiting
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("stat while %d reads wait: %v", readers, err)
	}
	close(fs.block)
	wg.Wait()
	if err := c.Unmount(false, false); err != nil {
		t.Fatal(err)
	}
	<-served
}

// A forced unmount ends requests that wait for ever.
func TestForcedUnmountInterrupts(t *testing.T) {
	fs := &oneFile{block: make(chan struct{}), waiting: make(chan struct{}, 1)}
	dir, c, served := mount(t, fs)
	read := make(chan error, 1)
	go func() { read <- readSome(filepath.Join(dir, "f")) }()
	<-fs.waiting
	if err := c.Unmount(true, true); err != nil {
		t.Fatal(err)
	}
	if err := <-read; err == nil {
		t.Error("a read survived a forced unmount")
	}
	select {
	case <-served:
	case <-time.After(20 * time.Second):
		t.Fatal("Serve does not end after a forced unmount")
	}
}

func TestMountPointErrors(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		dir  string
		want error
	}{
		{filepath.Join(dir, "missing"), unix.ENOENT},
		{file, unix.ENOTDIR},
		{"/proc", unix.EBUSY},
	} {
		if err := fuseconn.CheckMountPoint(tc.dir); !errors.Is(err, tc.want) {
			t.Errorf("CheckMountPoint(%s) = %v, want %v", tc.dir, err, tc.want)
		}
	}
	if err := fuseconn.CheckMountPoint(dir); err != nil {
		t.Error(err)
	}
}

// A daemon that was killed leaves a mount that answers ENOTCONN.
func TestDeadMountIsCleared(t *testing.T) {
	fs := &oneFile{}
	dir, c, served := mount(t, fs)
	if err := c.Unmount(true, true); err != nil {
		t.Fatal(err)
	}
	<-served
	// A mount whose descriptor is closed without unmount is dead.
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("dead", dir, "fuse.scoutfs", 0, "fd="+itoa(fd)+",rootmode=40000,user_id=0,group_id=0"); err != nil {
		t.Fatal(err)
	}
	unix.Close(fd)
	if _, err := os.Stat(dir); !errors.Is(err, unix.ENOTCONN) {
		t.Fatalf("stat of a dead mount: %v", err)
	}
	if err := fuseconn.CheckMountPoint(dir); err != nil {
		t.Fatal(err)
	}
	if fuseconn.IsMounted(dir) {
		t.Error("the dead mount is still there")
	}
}

func itoa(n int) string {
	if n < 10 {
		return string(rune('0' + n))
	}
	return itoa(n/10) + itoa(n%10)
}
