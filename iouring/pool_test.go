// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package iouring_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"scoutfs/iouring"
)

const sector = 4096

func newPool(t testing.TB, o iouring.Options) *iouring.Pool {
	t.Helper()
	p, err := iouring.NewPool(o)
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	t.Cleanup(p.Close)
	return p
}

// tempFile is open with O_DIRECT if the filesystem has it.
func tempFile(t testing.TB, size int64) int {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC|unix.O_DIRECT, 0o600)
	if err != nil {
		fd, err = unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o600)
	}
	if err == nil {
		err = unix.Ftruncate(fd, size)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

// mapped is memory outside of the Go heap.
func mapped(t testing.TB, n int) []byte {
	t.Helper()
	b, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Munmap(b) })
	return b
}

func fill(b []byte, seed byte) {
	for i := range b {
		b[i] = seed + byte(i/sector)*7 + byte(i)
	}
}

// batch cuts buf into operations of the given size at consecutive offsets.
func batch(buf []byte, size int, write bool) []iouring.Op {
	var ops []iouring.Op
	for at := 0; at < len(buf); at += size {
		ops = append(ops, iouring.Op{Write: write, Off: int64(at), Buf: buf[at : at+size]})
	}
	return ops
}

func roundTrip(t *testing.T, f *iouring.File, buf []byte, size int, seed byte) {
	t.Helper()
	fill(buf, seed)
	want := bytes.Clone(buf)
	if err := f.Do(batch(buf, size, true)); err != nil {
		t.Fatal(err)
	}
	clear(buf)
	if err := f.Do(batch(buf, size, false)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(buf, want) {
		t.Fatal("read other bytes than were written")
	}
}

func TestRoundTrip(t *testing.T) {
	for _, registered := range []bool{false, true} {
		p := newPool(t, iouring.Options{Entries: 8}) // batches are longer than the ring
		f := p.AddFile(tempFile(t, 1<<20))
		buf := mapped(t, 1<<20)
		if registered {
			if err := p.AddBuffer(buf); err != nil {
				t.Fatal(err)
			}
		}
		for size := sector; size <= len(buf); size *= 2 {
			roundTrip(t, f, buf, size, byte(size>>12))
		}
		if err := errors.Join(f.Sync(true), f.Sync(false)); err != nil {
			t.Error(err)
		}
		if m := p.Metrics(); m.Rings != 1 || (m.Buffers == 1) != registered {
			t.Errorf("metrics %+v", m)
		}
		f.Remove()
	}
}

func TestManyBuffersAndRings(t *testing.T) {
	p := newPool(t, iouring.Options{Rings: 4, Entries: 4})
	f := p.AddFile(tempFile(t, 1<<20))
	var wg sync.WaitGroup
	for i := range 8 { // rings are made, and buffers registered, while others run
		buf := mapped(t, 128<<10)
		wg.Go(func() {
			if err := p.AddBuffer(buf); err != nil {
				t.Error(err)
			}
			for range 20 {
				ops := batch(buf, 2*sector, true)
				for k := range ops {
					ops[k].Off += int64(i) * 128 << 10
				}
				fill(buf, byte(i))
				err := f.Do(ops)
				clear(buf)
				for k := range ops {
					ops[k].Write = false
				}
				err = errors.Join(err, f.Do(ops))
				want := make([]byte, len(buf))
				if fill(want, byte(i)); err != nil || !bytes.Equal(buf, want) {
					t.Errorf("worker %d: error %v or wrong bytes", i, err)
				}
			}
		})
	}
	wg.Wait()
	if m := p.Metrics(); m.Buffers != 8 || m.Rings > 4 || m.Pinned != 1<<20 {
		t.Errorf("metrics %+v", m)
	}
}

func TestSingleOperationsDoNotWait(t *testing.T) {
	p := newPool(t, iouring.Options{Rings: 1})
	f := p.AddFile(tempFile(t, 1<<20))
	var wg sync.WaitGroup
	for i := range 16 {
		buf := mapped(t, sector)
		wg.Go(func() {
			for range 50 {
				if err := f.Do([]iouring.Op{{Write: true, Off: int64(i) * sector, Buf: buf}}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if m := p.Metrics(); m.Ops+m.Direct != 16*50 || m.Waits != 0 {
		t.Errorf("metrics %+v", m)
	}
}

func TestErrorsDoNotStopTheBatch(t *testing.T) {
	p := newPool(t, iouring.Options{Entries: 4})
	f := p.AddFile(tempFile(t, 8*sector+100))
	buf := mapped(t, 16*sector)
	ops := batch(buf, sector, false)
	if err := f.Do(ops); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("batch: %v", err)
	}
	for i := range ops {
		if want := i >= 8; (ops[i].Err != nil) != want {
			t.Errorf("operation %d: %v", i, ops[i].Err)
		}
	}
	across := []iouring.Op{{Off: 4 * sector, Buf: buf[:8*sector]}}
	if err := f.Do(across); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("read across the end: %v", err)
	}
}

func TestBadDescriptor(t *testing.T) {
	p := newPool(t, iouring.Options{})
	fd := tempFile(t, sector)
	f := p.AddFile(1 << 20) // nobody's
	ops := batch(mapped(t, 4*sector), sector, true)
	if err := f.Do(ops); !errors.Is(err, unix.EBADF) {
		t.Errorf("batch: %v", err)
	}
	if err := f.Sync(true); !errors.Is(err, unix.EBADF) {
		t.Errorf("sync: %v", err)
	}
	f.Remove()
	if err := p.AddFile(fd).Do(ops[:1]); err != nil {
		t.Errorf("the pool does not work after an error: %v", err)
	}
}

// TestRemovedFileIsLetGo uses a pipe, whose reader sees the end when nobody has the
// writing side open any more.
func TestRemovedFileIsLetGo(t *testing.T) {
	p := newPool(t, iouring.Options{})
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[0])
	f := p.AddFile(fds[1])
	f.Remove()
	unix.Close(fds[1])
	if n, err := unix.Read(fds[0], make([]byte, 1)); n != 0 || err != nil {
		t.Errorf("read %d, %v; expected the end", n, err)
	}
}

func TestMoreFilesThanSlots(t *testing.T) {
	p := newPool(t, iouring.Options{})
	fd := tempFile(t, 4*sector)
	buf := mapped(t, 4*sector)
	var files []*iouring.File
	for i := range 70 {
		f := p.AddFile(fd)
		roundTrip(t, f, buf, sector, byte(i))
		files = append(files, f)
	}
	for _, f := range files {
		f.Remove()
	}
}

func TestClosedPoolStillWorks(t *testing.T) {
	p := newPool(t, iouring.Options{})
	f := p.AddFile(tempFile(t, 4*sector))
	p.Close()
	roundTrip(t, f, mapped(t, 4*sector), sector, 1)
	f.Remove()
}

func TestNoAllocations(t *testing.T) {
	p := newPool(t, iouring.Options{})
	f := p.AddFile(tempFile(t, 1<<20))
	buf := mapped(t, 64*sector)
	if err := p.AddBuffer(buf); err != nil {
		t.Fatal(err)
	}
	ops := batch(buf, sector, true)
	for _, n := range []int{1, len(ops)} {
		got := testing.AllocsPerRun(50, func() {
			if err := f.Do(ops[:n]); err != nil {
				t.Fatal(err)
			}
		})
		if got != 0 {
			t.Errorf("batch of %d: %v allocations", n, got)
		}
	}
	if got := testing.AllocsPerRun(10, func() { _ = f.Sync(true) }); got != 0 {
		t.Errorf("sync: %v allocations", got)
	}
}

// TestPreemption interrupts the waits of batches by the signals of the Go
// scheduler.
func TestPreemption(t *testing.T) {
	p := newPool(t, iouring.Options{Entries: 16})
	f := p.AddFile(tempFile(t, 1<<20))
	buf := mapped(t, 1<<20)
	done := make(chan bool)
	go func() {
		defer close(done)
		for i := range 10 {
			roundTrip(t, f, buf, sector, byte(i))
		}
	}()
	for {
		select {
		case <-done:
			return
		default:
			runtime.GC()
		}
	}
}

// TestNoRings has no descriptors left to make a ring.
func TestNoRings(t *testing.T) {
	p := newPool(t, iouring.Options{Rings: 2})
	f := p.AddFile(tempFile(t, 4*sector))
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	low := old
	low.Cur = 3
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
			t.Fatal(err)
		}
	}()
	for what, err := range map[string]error{"NewPool": second(iouring.NewPool(iouring.Options{})), "Probe": second(iouring.Probe())} {
		if !errors.Is(err, iouring.ErrUnsupported) || !errors.Is(err, unix.EMFILE) {
			t.Errorf("%s: %v", what, err)
		}
	}
	var wg sync.WaitGroup
	for range 4 { // all with the one ring there is
		buf := mapped(t, 4*sector)
		wg.Go(func() {
			for range 20 {
				if err := f.Do(batch(buf, sector, true)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

func second[T any](_ T, err error) error { return err }

func TestProbe(t *testing.T) {
	newPool(t, iouring.Options{})
	f, err := iouring.Probe()
	if err != nil {
		t.Fatal(err)
	}
	t.Log(f)
}
