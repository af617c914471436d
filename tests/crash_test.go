// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

//go:build system

package tests

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"
	"golang.org/x/sys/unix"
)

// A worker writes files in a directory of its own, syncs some of them, and
// remembers which: those must be there after any crash.
type worker struct {
	dir    string
	rng    *rand.Rand
	mu     sync.Mutex
	synced map[string]uint64 // name -> hash of the contents
	gone   map[string]bool   // names whose removal was synced
}

// step does one file. Errors mean that the daemon was killed.
func (w *worker) step(i int) error {
	name := fmt.Sprintf("f%06d", i)
	path := filepath.Join(w.dir, name)
	data := make([]byte, w.rng.IntN(200_000))
	for j := 0; j+8 <= len(data); j += 8 {
		binary.LittleEndian.PutUint64(data[j:], w.rng.Uint64())
	}
	fd, err := unix.Open(path+".tmp", unix.O_CREAT|unix.O_WRONLY|unix.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for off := 0; off < len(data); {
		n, err := unix.Pwrite(fd, data[off:min(len(data), off+1+w.rng.IntN(50_000))], int64(off))
		if err != nil {
			return err
		}
		off += n
	}
	if err := unix.Rename(path+".tmp", path); err != nil {
		return err
	}
	old := fmt.Sprintf("f%06d", i-20)
	if err := unix.Unlink(filepath.Join(w.dir, old)); err != nil && err != unix.ENOENT {
		return err
	}
	if w.rng.IntN(4) != 0 {
		w.mu.Lock()
		delete(w.synced, old)
		w.mu.Unlock()
		return nil
	}
	w.mu.Lock()
	delete(w.synced, old) // its state is open until the sync returns
	w.mu.Unlock()
	if err := unix.Fsync(fd); err != nil {
		return err
	}
	w.mu.Lock()
	w.synced[name] = xxhash.Sum64(data)
	w.gone[old] = true
	w.mu.Unlock()
	return nil
}

func (w *worker) verify(t *testing.T) {
	t.Helper()
	for name, want := range w.synced {
		b, err := os.ReadFile(filepath.Join(w.dir, name))
		if err != nil {
			t.Errorf("synced file is lost: %v", err)
		} else if got := xxhash.Sum64(b); got != want {
			t.Errorf("synced file %s/%s has other contents", w.dir, name)
		}
	}
	for name := range w.gone {
		if _, err := os.Lstat(filepath.Join(w.dir, name)); err == nil {
			t.Errorf("%s/%s is back although its removal was synced", w.dir, name)
		}
	}
}

func TestKillUnderLoad(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	v := newVolume(t).mount()
	for round := range 5 {
		var ws []*worker
		var wg sync.WaitGroup
		for i := range 3 {
			w := &worker{dir: filepath.Join(v.mnt, fmt.Sprintf("r%d-%d", round, i)), rng: rand.New(rand.NewPCG(seed, uint64(round*10+i+2))), synced: map[string]uint64{}, gone: map[string]bool{}}
			if err := os.Mkdir(w.dir, 0o755); err != nil {
				t.Fatal(err)
			}
			ws = append(ws, w)
			wg.Go(func() {
				for i := 0; w.step(i) == nil; i++ {
				}
			})
		}
		time.Sleep(time.Duration(500+rng.IntN(2500)) * time.Millisecond)
		v.kill()
		wg.Wait()
		v.check()
		start := time.Now()
		v.mount()
		t.Logf("round %d: mounted again after %v", round, time.Since(start).Round(time.Millisecond))
		n := 0
		for _, w := range ws {
			w.verify(t)
			n += len(w.synced)
		}
		t.Logf("round %d: %d synced files verified", round, n)
	}
	v.umount()
	v.check()
}

// SIGTERM while programs write ends cleanly: what was acknowledged is there.
func TestTerminateUnderLoad(t *testing.T) {
	v := newVolume(t).mount()
	dir, err := unix.Open(v.mnt, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan int)
	go func() {
		defer unix.Close(dir)
		n := 0
		for ; ; n++ {
			fd, err := unix.Openat(dir, fmt.Sprint(n), unix.O_CREAT|unix.O_WRONLY, 0o644)
			if err != nil {
				break
			}
			_, err = unix.Write(fd, []byte("data"))
			unix.Close(fd)
			if err != nil {
				break
			}
		}
		done <- n
	}()
	time.Sleep(time.Second)
	pid := v.pid()
	if err := unix.Kill(pid, unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for start := time.Now(); unix.Kill(pid, 0) == nil; time.Sleep(10 * time.Millisecond) {
		if time.Since(start) > time.Minute {
			t.Fatal("the daemon does not end after SIGTERM")
		}
	}
	n := <-done
	v.check()
	v.mount()
	t.Logf("%d files", n)
	for i := range n {
		if b, err := os.ReadFile(filepath.Join(v.mnt, fmt.Sprint(i))); err != nil || string(b) != "data" {
			t.Fatalf("file %d of %d, written before SIGTERM: %q %v", i, n, b, err)
		}
	}
}

// A forced unmount loses what was not committed, nothing else, and never hangs.
func TestForcedUnmount(t *testing.T) {
	v := newVolume(t).mount()
	v.sh("echo kept > kept; sync kept; echo lost > lost")
	v.must("umount", "-f", v.mnt)
	if v.pid() != 0 {
		t.Error("the daemon is still there")
	}
	v.check()
	v.mount()
	if got := v.sh("cat kept; ls"); got != "kept\nkept\n" {
		t.Errorf("after a forced unmount: %q", got)
	}
}
