// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package iouring

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// need skips where the kernel has no usable io_uring, except in CI.
func need(t *testing.T, err error) {
	t.Helper()
	if err != nil && os.Getenv("CI") == "true" {
		t.Fatal(err)
	}
	if err != nil {
		t.Skip(err)
	}
}

// hookedFile is a file on a pool whose calls of the kernel go through h.
func hookedFile(t *testing.T, h *hooks) (*Pool, *File, []byte) {
	t.Helper()
	p, err := NewPool(Options{Rings: 1, Entries: 4, hooks: h})
	need(t, err)
	t.Cleanup(p.Close)
	f, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	buf, err := unix.Mmap(-1, 0, 32*sectorSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Munmap(buf) })
	return p, p.AddFile(int(f.Fd())), buf
}

// transfer writes a pattern and reads it back, through batches longer than the ring.
func transfer(t *testing.T, f *File, buf []byte) {
	t.Helper()
	rng := rand.NewChaCha8([32]byte{1})
	_, _ = rng.Read(buf)
	want := bytes.Clone(buf)
	for _, write := range []bool{true, false} {
		ops := make([]Op, 16)
		for i := range ops {
			ops[i] = Op{Write: write, Off: int64(i) * 2 * sectorSize, Buf: buf[i*2*sectorSize:][:2*sectorSize]}
		}
		if !write {
			clear(buf)
		}
		if err := f.Do(ops); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(buf, want) {
		t.Fatal("read other bytes than were written")
	}
	if err := f.Sync(true); err != nil {
		t.Fatal(err)
	}
}

// TestEnterTrouble makes calls of io_uring_enter fail or do less, in turns
// with calls that work.
func TestEnterTrouble(t *testing.T) {
	trouble := map[string]func(q *queues, submit, wait uint32) (int, syscall.Errno){
		"EINTR":  func(*queues, uint32, uint32) (int, syscall.Errno) { return -1, unix.EINTR },
		"EAGAIN": func(*queues, uint32, uint32) (int, syscall.Errno) { return -1, unix.EAGAIN },
		"EBUSY":  func(*queues, uint32, uint32) (int, syscall.Errno) { return -1, unix.EBUSY },
		"short":  func(q *queues, submit, _ uint32) (int, syscall.Errno) { return q.enter(min(submit, 1), 0) },
		"no wait": func(q *queues, submit, _ uint32) (int, syscall.Errno) {
			return q.enter(submit, 0)
		},
	}
	for name, fail := range trouble {
		t.Run(name, func(t *testing.T) {
			calls := 0
			p, f, buf := hookedFile(t, &hooks{enter: func(q *queues, submit, wait uint32) (int, syscall.Errno) {
				if calls++; calls%3 != 0 {
					return fail(q, submit, wait)
				}
				return q.enter(submit, wait)
			}})
			transfer(t, f, buf)
			if m := p.Metrics(); m.Rings != 1 || m.Direct != 0 {
				t.Errorf("the ring was given up: %+v", m)
			}
		})
	}
}

// TestEnterFails gives the ring up at every call, so that requests are found
// queued, under way and not begun.
func TestEnterFails(t *testing.T) {
	for errno, rounds := range map[syscall.Errno]int{unix.EBADF: 12, unix.ENXIO: 3, unix.EAGAIN: 2} {
		for good := range rounds {
			calls := 0
			_, f, buf := hookedFile(t, &hooks{enter: func(q *queues, submit, wait uint32) (int, syscall.Errno) {
				if calls++; calls > good && submit > 0 {
					return -1, errno
				}
				return q.enter(submit, min(wait, 1))
			}})
			transfer(t, f, buf)
		}
	}
}

// TestResultTrouble changes what completions say.
func TestResultTrouble(t *testing.T) {
	trouble := map[string]func(n int, res int32) int32{
		"short":             func(n int, res int32) int32 { return min(res, sectorSize) },
		"inside a sector":   func(n int, res int32) int32 { return min(res, sectorSize+512) },
		"nothing":           func(n int, res int32) int32 { return min(res, 0) },
		"EAGAIN sometimes":  func(n int, res int32) int32 { return pick(n%3 == 0, -int32(unix.EAGAIN), res) },
		"EINTR sometimes":   func(n int, res int32) int32 { return pick(n%3 == 0, -int32(unix.EINTR), res) },
		"EAGAIN every time": func(int, int32) int32 { return -int32(unix.EAGAIN) },
	}
	for name, change := range trouble {
		t.Run(name, func(t *testing.T) {
			n := 0
			_, f, buf := hookedFile(t, &hooks{result: func(res int32) int32 { n++; return change(n, res) }})
			transfer(t, f, buf)
		})
	}
}

func pick(cond bool, a, b int32) int32 {
	if cond {
		return a
	}
	return b
}

// TestErrorAtEveryCompletion fails one completion after the other.
func TestErrorAtEveryCompletion(t *testing.T) {
	for bad := range 16 {
		n := -1
		_, f, buf := hookedFile(t, &hooks{result: func(res int32) int32 {
			n++
			return pick(n == bad, -int32(unix.EIO), res)
		}})
		ops := make([]Op, 16)
		for i := range ops {
			ops[i] = Op{Write: true, Off: int64(i) * sectorSize, Buf: buf[i*sectorSize:][:sectorSize]}
		}
		if err := f.Do(ops); !errors.Is(err, unix.EIO) {
			t.Errorf("batch: %v", err)
		}
		failed := 0
		for i := range ops {
			if ops[i].Err != nil {
				failed++
			}
		}
		if failed != 1 {
			t.Errorf("%d operations failed", failed)
		}
		if st := f.size(t); st != 16*sectorSize {
			t.Errorf("file has %d bytes: not all operations were done", st)
		}
	}
}

func (f *File) size(t *testing.T) int64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Fstat(f.fd, &st); err != nil {
		t.Fatal(err)
	}
	return st.Size
}

// TestOverflow has more completions than the completion queue holds.
func TestOverflow(t *testing.T) {
	q, _, err := openQueues(4)
	need(t, err)
	defer q.close()
	const rounds = 16
	for range rounds { // nobody reaps
		tail := q.sqTail.Load()
		for i := range q.sqes {
			q.sqes[i] = sqe{opcode: opNop}
		}
		q.sqTail.Store(tail + uint32(len(q.sqes)))
		if n, errno := q.enter(uint32(len(q.sqes)), 0); errno != 0 || n != len(q.sqes) {
			t.Fatalf("submitted %d: %v", n, errno)
		}
	}
	got := 0
	for range rounds {
		head, tail := q.cqHead.Load(), q.cqTail.Load()
		got += int(tail - head)
		q.cqHead.Store(tail)
		if _, errno := q.enter(0, 0); errno != 0 {
			t.Fatal(errno)
		}
	}
	if got != rounds*len(q.sqes) {
		t.Errorf("%d completions, expected %d", got, rounds*len(q.sqes))
	}
}

// TestWithoutTables is an old kernel that knows no registration.
func TestWithoutTables(t *testing.T) {
	p, f, buf := hookedFile(t, nil)
	p.rings[0].tables = false
	p.rings[0].files.Store(0)
	if err := p.AddBuffer(buf); err != nil {
		t.Fatal(err)
	}
	transfer(t, f, buf)
	if n := p.rings[0].nbufs.Load(); n != 0 {
		t.Errorf("%d buffers in a ring without tables", n)
	}
}

// TestWithoutClone registers with each ring on its own.
func TestWithoutClone(t *testing.T) {
	p, f, buf := hookedFile(t, nil)
	need(t, p.rings[0].setBuffer(0, buf))
	p.slabs = append(p.slabs, buf)
	p.rings[0].nbufs.Store(1)
	p.bufs.Store(&[]bufRange{{address(buf), address(buf) + uintptr(len(buf)), 0}})
	transfer(t, f, buf)
	more, err := unix.Mmap(-1, 0, 1<<16, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(more)
	if err := p.AddBuffer(more); err != nil {
		t.Fatal(err)
	}
	if n := p.rings[0].nbufs.Load(); n != 2 || p.master != nil {
		t.Errorf("%d buffers, master %v", n, p.master)
	}
}

func TestFindBuf(t *testing.T) {
	mem := make([]byte, 100)
	at := address(mem)
	bufs := []bufRange{{at + 10, at + 20, 1}, {at + 20, at + 30, 0}, {at + 50, at + 60, 2}}
	for _, tc := range []struct{ from, to, want int }{
		{0, 5, -1}, {9, 11, -1}, {10, 20, 1}, {11, 12, 1}, {15, 25, -1}, {20, 30, 0},
		{29, 31, -1}, {30, 40, -1}, {50, 60, 2}, {59, 60, 2}, {60, 61, -1}, {90, 99, -1},
	} {
		if got := findBuf(bufs, mem[tc.from:tc.to]); got != tc.want {
			t.Errorf("findBuf(%d..%d) = %d, expected %d", tc.from, tc.to, got, tc.want)
		}
	}
}
