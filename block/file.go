// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package block

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"scoutfs/iouring"
)

const (
	plainWorkers  = 8 // goroutines of one batch that is done without a ring
	opsPerWorker  = 4 // least operations that are worth one
	directIO      = unix.O_DIRECT
	openFileFlags = unix.O_CLOEXEC | unix.O_NOCTTY
)

// OpenOptions say how a device is opened. The zero value is the default.
type OpenOptions struct {
	ReadOnly bool         // open for reading only; no locks can be taken
	NoRing   bool         // pread and pwrite even if there is io_uring
	Log      *slog.Logger // gets one line on how I/O is done; default: discard
}

// File is a block device or a plain file. It implements [Device].
type File struct {
	path   string
	fd     int
	size   atomic.Int64
	direct bool // with O_DIRECT
	how    engine
	file   *iouring.File // nil without a ring

	flushFails atomic.Uint64

	// mu is held for reading by everything that uses fd, also over I/O.
	mu     sync.RWMutex
	closed bool // guarded by mu
}

var (
	_ Device       = (*File)(nil)
	_ FlushCounter = (*File)(nil)
)

// Open opens a block device or a plain file with O_DIRECT; if its filesystem
// refuses that, without, and says so in the log. Its size is taken now. It measures
// for some milliseconds which way of I/O is the faster one.
func Open(path string, o OpenOptions) (*File, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	fd, direct, err := openDirect(path, o)
	if err != nil {
		return nil, fmt.Errorf("block: open %s: %w", path, err)
	}
	f := &File{path: path, fd: fd, direct: direct}
	size, err := f.Resize()
	if err == nil && !o.ReadOnly && readOnlyDevice(fd) {
		err = fmt.Errorf("block: open %s: the device is read-only: %w", path, unix.EROFS)
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	f.choose(o)
	o.Log.Info("opened device", "device", path, "bytes", size, "direct", direct, "io", f.Engine())
	return f, nil
}

func openDirect(path string, o OpenOptions) (fd int, direct bool, err error) {
	flags := unix.O_RDWR | openFileFlags
	if o.ReadOnly {
		flags = unix.O_RDONLY | openFileFlags
	}
	fd, err = openRetry(path, flags|directIO)
	if err != unix.EINVAL {
		return fd, true, err
	}
	if fd, err = openRetry(path, flags); err == nil {
		o.Log.Warn("filesystem refuses O_DIRECT, I/O goes through the page cache", "device", path)
	}
	return fd, false, err
}

func openRetry(path string, flags int) (int, error) {
	for {
		if fd, err := unix.Open(path, flags, 0); err != unix.EINTR {
			return fd, err
		}
	}
}

// sizeOf is the size in bytes of what is open, which must be a block device or
// a plain file.
func sizeOf(fd int) (int64, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return 0, err
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFBLK:
		return deviceSize(fd)
	case unix.S_IFREG:
		return st.Size, nil
	}
	return 0, errors.New("neither a block device nor a plain file")
}

// Size is the size in bytes that the device had at Open or the last Resize.
func (f *File) Size() int64 { return f.size.Load() }

// Resize takes over the size that the device has now, in bytes, and returns it.
func (f *File) Resize() (int64, error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	size, err := int64(0), os.ErrClosed
	if !f.closed {
		size, err = sizeOf(f.fd)
	}
	if err != nil {
		return 0, fmt.Errorf("block: size of %s: %w", f.path, err)
	}
	f.size.Store(size)
	return size, nil
}

// Name is the path.
func (f *File) Name() string { return f.path }

// Do performs a batch; see [Device.Do]. Errors carry the path, offset and
// length.
func (f *File) Do(ops []Op) error {
	f.mu.RLock()
	defer f.mu.RUnlock()
	bad := 0
	for i := range ops {
		op := &ops[i]
		if op.Err = f.check(op); op.Err != nil {
			bad++
		}
	}
	if bad == 0 {
		f.perform(ops)
	} else {
		f.performGood(ops)
	}
	for i := range ops {
		if op := &ops[i]; op.Err != nil {
			op.Err = OpError(f.path, op, op.Err)
		}
	}
	return firstError(ops)
}

func (f *File) check(op *Op) error {
	if f.closed {
		return os.ErrClosed
	}
	return CheckOp(op, f.Size())
}

// performGood performs those operations of a batch that have no error yet.
func (f *File) performGood(ops []Op) {
	var good []Op
	for _, op := range ops {
		if op.Err == nil {
			good = append(good, op)
		}
	}
	f.perform(good)
	for i := range ops {
		if ops[i].Err == nil {
			ops[i].Err = good[0].Err
			good = good[1:]
		}
	}
}

func (f *File) perform(ops []Op) {
	switch {
	case len(ops) == 0:
	case len(ops) == 1 && f.how.single == viaRing, len(ops) > 1 && f.how.batch == viaRing:
		_ = f.file.Do(ops) // in the operations
	default:
		f.performPlain(ops)
	}
}

// performPlain does a batch by pread and pwrite, a long one by several
// goroutines.
func (f *File) performPlain(ops []Op) {
	workers := min(len(ops)/opsPerWorker, plainWorkers)
	if workers <= 1 {
		for i := range ops {
			_ = iouring.Plain(f.fd, &ops[i]) // in the operation
		}
		return
	}
	var next atomic.Int64
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(ops)); i = next.Add(1) - 1 {
				_ = iouring.Plain(f.fd, &ops[i]) // in the operation
			}
		})
	}
	wg.Wait()
}

// Flush makes what was written durable, through the device's own cache.
func (f *File) Flush() error {
	f.mu.RLock()
	defer f.mu.RUnlock()
	err := os.ErrClosed
	if !f.closed {
		err = f.fdatasync()
	}
	if err != nil {
		f.flushFails.Add(1)
		return fmt.Errorf("block: flush %s: %w", f.path, err)
	}
	return nil
}

// FlushFailures is how many calls of Flush have failed.
func (f *File) FlushFailures() uint64 { return f.flushFails.Load() }

// fdatasync flushes a block device's cache too. It is no ring operation because the
// kernel would only hand it to a worker thread.
func (f *File) fdatasync() error {
	for {
		if err := unix.Fdatasync(f.fd); err != unix.EINTR {
			return err
		}
	}
}

// Close waits for running operations, gives up all locks and closes the
// device.
func (f *File) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return fmt.Errorf("block: close %s: %w", f.path, os.ErrClosed)
	}
	f.closed = true
	if f.file != nil {
		f.file.Remove()
	}
	f.unlockAll() // the kernel may let go of a registered file only later
	if err := unix.Close(f.fd); err != nil {
		return fmt.Errorf("block: close %s: %w", f.path, err)
	}
	return nil
}
