// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package block_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"scoutfs/block"
	"scoutfs/block/blocktest"
	"scoutfs/format"
	"scoutfs/iouring"
)

func plainFile(t testing.TB, size int64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "device")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Truncate(size), f.Close()); err != nil {
		t.Fatal(err)
	}
	return path
}

func open(t testing.TB, path string, o block.OpenOptions) *block.File {
	t.Helper()
	f, err := block.Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// needRoot skips where a root-only kernel feature cannot be had, except in CI.
func needRoot(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(why)
	}
	t.Skip(why)
}

func loopDevice(t *testing.T, size int64) string {
	t.Helper()
	if os.Getuid() != 0 {
		needRoot(t, "loop devices need root")
	}
	out, err := exec.Command("losetup", "--direct-io=on", "--show", "-f", plainFile(t, size)).CombinedOutput()
	if err != nil {
		needRoot(t, fmt.Sprintf("losetup: %v: %s", err, out))
	}
	dev := strings.TrimSpace(string(out))
	t.Cleanup(func() {
		if out, err := exec.Command("losetup", "-d", dev).CombinedOutput(); err != nil {
			t.Errorf("losetup -d %s: %v: %s", dev, err, out)
		}
	})
	return dev
}

func haveRing(t testing.TB) bool {
	_, err := iouring.Probe()
	if err != nil {
		t.Logf("no ring here: %v", err)
	}
	return err == nil
}

func TestPlainFileConformance(t *testing.T) {
	for _, noRing := range []bool{false, true} {
		t.Run(fmt.Sprintf("NoRing=%t", noRing), func(t *testing.T) {
			open := func(t *testing.T) block.Device {
				return open(t, plainFile(t, blocktest.MinSize), block.OpenOptions{NoRing: noRing})
			}
			blocktest.Run(t, open)
			t.Run("Closed", func(t *testing.T) { blocktest.RunClosed(t, open) })
		})
	}
}

func TestOddSizeConformance(t *testing.T) {
	blocktest.Run(t, func(t *testing.T) block.Device {
		return open(t, plainFile(t, blocktest.MinSize+1000), block.OpenOptions{})
	})
}

func TestLoopConformance(t *testing.T) {
	dev := loopDevice(t, blocktest.MinSize)
	for _, noRing := range []bool{false, true} {
		t.Run(fmt.Sprintf("NoRing=%t", noRing), func(t *testing.T) {
			blocktest.Run(t, func(t *testing.T) block.Device {
				f := open(t, dev, block.OpenOptions{NoRing: noRing})
				t.Log(f.Engine())
				if f.Size() != blocktest.MinSize {
					t.Errorf("size %d", f.Size())
				}
				return f
			})
		})
	}
}

func TestEngineIsLogged(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, nil))
	path := plainFile(t, blocktest.MinSize)
	f := open(t, path, block.OpenOptions{NoRing: true, Log: log})
	defer f.Close()
	if n := strings.Count(out.String(), "\n"); n != 1 || !strings.Contains(out.String(), path) || !strings.Contains(out.String(), f.Engine()) {
		t.Errorf("engine %q, log:\n%s", f.Engine(), out.String())
	}
	if f.Engine() != "pread/pwrite (asked for)" {
		t.Errorf("engine %q", f.Engine())
	}
}

func TestRingAndRegisteredBuffersAreUsed(t *testing.T) {
	if !haveRing(t) {
		return
	}
	f := open(t, plainFile(t, blocktest.MinSize), block.OpenOptions{})
	defer f.Close()
	t.Log(f.Engine())
	buf := block.AlignedBuf(64 << 10)
	defer block.FreeBuf(buf)
	before := block.RingMetrics()
	ops := []block.Op{{Off: 0, Buf: buf[:4096]}, {Off: 4096, Buf: buf[4096:]}}
	if err := f.Do(ops); err != nil {
		t.Fatal(err)
	}
	after := block.RingMetrics()
	if strings.Contains(f.Engine(), "io_uring") && after.Batches == before.Batches {
		t.Errorf("batch did not go through a ring: %+v", after)
	}
	if after.Buffers == 0 || after.Unfixed > 0 {
		t.Logf("slabs are not registered: %+v", after)
	}
}

func TestFilesystemWithoutDirectIO(t *testing.T) {
	if os.Getuid() != 0 {
		needRoot(t, "mounting ramfs needs root")
	}
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "ramfs", "none", dir).CombinedOutput(); err != nil {
		needRoot(t, fmt.Sprintf("mount ramfs: %v: %s", err, out))
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	path := filepath.Join(dir, "device")
	if err := os.WriteFile(path, make([]byte, blocktest.MinSize), 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	open(t, path, block.OpenOptions{Log: slog.New(slog.NewTextHandler(&out, nil))}).Close()
	if !strings.Contains(out.String(), "refuses O_DIRECT") || !strings.Contains(out.String(), "direct=false") {
		t.Errorf("log:\n%s", out.String())
	}
	blocktest.Run(t, func(t *testing.T) block.Device { return open(t, path, block.OpenOptions{}) })
}

func TestOpenErrors(t *testing.T) {
	dir := t.TempDir()
	if _, err := block.Open(filepath.Join(dir, "none"), block.OpenOptions{}); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), dir) {
		t.Errorf("missing: %v", err)
	}
	if _, err := block.Open(dir, block.OpenOptions{ReadOnly: true}); err == nil {
		t.Error("directory was opened")
	}
	if _, err := block.Open("/dev/null", block.OpenOptions{}); err == nil {
		t.Error("character device was opened")
	}
}

func TestReadOnly(t *testing.T) {
	f := open(t, plainFile(t, blocktest.MinSize), block.OpenOptions{ReadOnly: true})
	defer f.Close()
	buf := block.AlignedBuf(4096)
	defer block.FreeBuf(buf)
	if err := block.ReadAt(f, buf, 0); err != nil {
		t.Error(err)
	}
	if err := block.WriteAt(f, buf, 0); err == nil || !strings.Contains(err.Error(), "offset 0 length 4096") {
		t.Errorf("write: %v", err)
	}
}

// TestFileShrank has a device error in the middle of a batch.
func TestFileShrank(t *testing.T) {
	for _, noRing := range []bool{false, true} {
		path := plainFile(t, blocktest.MinSize)
		f := open(t, path, block.OpenOptions{NoRing: noRing})
		defer f.Close()
		if err := os.Truncate(path, 4096*3+1000); err != nil {
			t.Fatal(err)
		}
		buf := block.AlignedBuf(5 * 4096)
		defer block.FreeBuf(buf)
		ops := make([]block.Op, 5)
		for i := range ops {
			ops[i] = block.Op{Off: int64(i) * 4096, Buf: buf[i*4096:][:4096]}
		}
		if err := f.Do(ops); err == nil || !strings.Contains(err.Error(), "unexpected EOF") {
			t.Errorf("batch: %v", err)
		}
		for i, op := range ops {
			if (op.Err != nil) != (i >= 3) {
				t.Errorf("operation %d: %v", i, op.Err)
			}
		}
		if err := block.ReadAt(f, buf, 0); err == nil {
			t.Error("read across the end")
		}
	}
}

func TestResize(t *testing.T) {
	path := plainFile(t, blocktest.MinSize)
	f := open(t, path, block.OpenOptions{})
	if err := os.Truncate(path, 2*blocktest.MinSize); err != nil {
		t.Fatal(err)
	}
	if f.Size() != blocktest.MinSize {
		t.Errorf("size %d without Resize", f.Size())
	}
	if n, err := f.Resize(); n != 2*blocktest.MinSize || f.Size() != n || err != nil {
		t.Errorf("Resize %d, %v", n, err)
	}
	f.Close()
	if _, err := f.Resize(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Resize of a closed file: %v", err)
	}
}

func TestLocks(t *testing.T) {
	t.Run("file", func(t *testing.T) { testLocks(t, plainFile(t, blocktest.MinSize)) })
	t.Run("loop", func(t *testing.T) { testLocks(t, loopDevice(t, blocktest.MinSize)) })
}

func testLocks(t *testing.T, path string) {
	a := open(t, path, block.OpenOptions{})
	b := open(t, path, block.OpenOptions{})
	defer b.Close()
	must := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	busy := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, block.ErrBusy) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v, expected ErrBusy", what, err)
		}
	}
	rid := format.Rid(0xfedcba9876543210)
	held := func(want bool) {
		t.Helper()
		byRid, err := b.TestRid(rid)
		must("TestRid", err)
		bySlot, err := b.TestSlot(3)
		must("TestSlot", err)
		if byRid != want || bySlot != want {
			t.Errorf("held: rid %t slot %t, expected %t", byRid, bySlot, want)
		}
	}
	held(false)
	must("slot", a.LockSlot(3))
	must("rid", a.LockRid(rid))
	held(true)
	busy("slot of another", b.LockSlot(3))
	busy("rid of another", b.LockRid(rid))
	busy("whole", b.LockWhole())
	must("other slot", b.LockSlot(4))
	must("other rid", b.LockRid(rid+1))
	busy("whole with others", a.LockWhole())

	// Use every kind of I/O before the end, which must give up the locks at once.
	buf := block.AlignedBuf(8192)
	defer block.FreeBuf(buf)
	must("read", a.Do([]block.Op{{Off: 0, Buf: buf[:4096]}, {Off: 4096, Buf: buf[4096:]}}))
	must("close", a.Close())
	held(false)
	must("whole", b.LockWhole())
	if err := a.LockSlot(1); !errors.Is(err, os.ErrClosed) {
		t.Errorf("lock of a closed device: %v", err)
	}
	c := open(t, path, block.OpenOptions{})
	defer c.Close()
	busy("slot under whole", c.LockSlot(9))
	busy("rid under whole", c.LockRid(7))
}

func TestNoAllocations(t *testing.T) {
	for _, noRing := range []bool{false, true} {
		f := open(t, plainFile(t, blocktest.MinSize), block.OpenOptions{NoRing: noRing})
		defer f.Close()
		buf := block.AlignedBuf(64 << 10)
		defer block.FreeBuf(buf)
		ops := make([]block.Op, 4)
		for i := range ops {
			ops[i] = block.Op{Write: i%2 == 0, Off: int64(i) * 16384, Buf: buf[i*16384:][:16384]}
		}
		var err error
		check := func(what string, fn func()) {
			if n := testing.AllocsPerRun(100, fn); n != 0 && !raceEnabled {
				t.Errorf("%s, noRing %t: %v allocations", what, noRing, n)
			}
			if err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}
		check("ReadAt", func() { err = block.ReadAt(f, buf, 0) })
		check("WriteAt", func() { err = block.WriteAt(f, buf, 0) })
		check("Do", func() { err = f.Do(ops) })
		check("AlignedBuf", func() { block.FreeBuf(block.AlignedBuf(8192)) })
	}
}

func BenchmarkFile(b *testing.B) {
	for _, noRing := range []bool{false, true} {
		f := open(b, plainFile(b, 64<<20), block.OpenOptions{NoRing: noRing})
		b.Cleanup(func() { f.Close() })
		b.Log(f.Engine())
		whole := block.AlignedBuf(64 << 20) // no holes, which are not read from the device
		if err := block.WriteAt(f, whole, 0); err != nil {
			b.Fatal(err)
		}
		block.FreeBuf(whole)
		for _, size := range []int{4096, 65536} {
			for _, n := range []int{1, 32} {
				for _, write := range []bool{true, false} {
					name := fmt.Sprintf("ring=%t/size=%d/batch=%d/write=%t", !noRing, size, n, write)
					b.Run(name, func(b *testing.B) { benchFile(b, f, size, n, write) })
				}
			}
		}
	}
}

func benchFile(b *testing.B, f *block.File, size, n int, write bool) {
	ops := make([]block.Op, n)
	for i := range ops {
		ops[i] = block.Op{Write: write, Buf: block.AlignedBuf(size)}
		defer block.FreeBuf(ops[i].Buf)
	}
	b.SetBytes(int64(size * n))
	b.ReportAllocs()
	slots := f.Size() / int64(size)
	at := int64(0)
	for b.Loop() {
		for i := range ops {
			at = (at + 7919) % slots
			ops[i].Off = at * int64(size)
		}
		if err := f.Do(ops); err != nil {
			b.Fatal(err)
		}
	}
}

// TestFlushFailures counts flushes that fail.
func TestFlushFailures(t *testing.T) {
	f := open(t, plainFile(t, 1<<20), block.OpenOptions{NoRing: true})
	if err := f.Flush(); err != nil || f.FlushFailures() != 0 {
		t.Errorf("error %v, %d failures", err, f.FlushFailures())
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.Flush(); err == nil || f.FlushFailures() != 1 {
		t.Errorf("closed: error %v, %d failures", err, f.FlushFailures())
	}
}

// TestReaches grows a file that is open: what it has gained can be used at once.
func TestReaches(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dev")
	if err := os.WriteFile(path, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := block.Open(path, block.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if !block.Reaches(f, 1<<20) || block.Reaches(f, 1<<20+1) {
		t.Error("wrong size")
	}
	if err := os.Truncate(path, 2<<20); err != nil {
		t.Fatal(err)
	}
	if f.Size() != 1<<20 || !block.Reaches(f, 2<<20) || f.Size() != 2<<20 || block.Reaches(f, 2<<20+1) {
		t.Errorf("size %d of a grown file", f.Size())
	}
	buf := block.AlignedBuf(format.SmallSize)
	defer block.FreeBuf(buf)
	if err := block.WriteAt(f, buf, 2<<20-format.SmallSize); err != nil {
		t.Error(err)
	}
}
