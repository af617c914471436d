// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package volume_test

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"scoutfs/format"
	"scoutfs/internal/simdisk"
	"scoutfs/volume"
)

const maxCrashes = 12

// crashImage is what the disks held when the power failed.
type crashImage struct {
	meta, data *simdisk.Disk
	synced     int // rounds that were durable then
}

// crashRound makes a directory with files of all kinds, changes what the round
// before made, and syncs.
func crashRound(t *testing.T, m *mount, i int) {
	t.Helper()
	v := m.v()
	d := must[volume.Attr](t)(v.Mkdir(root, rootIno, fmt.Sprint("round", i), 0o755)).Ino
	for j := range 6 {
		f := must[volume.Attr](t)(v.Create(root, d, fmt.Sprint("f", j), 0o600)).Ino
		m.write(t, f, 0, pattern(1000+j*9000, byte(i)))
		ok(t, v.Setxattr(root, f, "scoutfs.totl.x.1.2.3", []byte("5"), 0))
		if j%2 == 0 {
			v.Forget(f, 1)
		}
	}
	must[volume.Attr](t)(v.Symlink(root, d, "link", "target"))
	must[volume.Attr](t)(v.Tmpfile(root, d, 0o600))
	ok(t, v.Unlink(root, d, "f0"))
	ok(t, v.Rename(root, d, "f1", d, "g1", 0))
	if i > 0 {
		prev := must[volume.Attr](t)(v.Lookup(root, rootIno, fmt.Sprint("round", i-1))).Ino
		f := must[volume.Attr](t)(v.Lookup(root, prev, "f5")).Ino
		must[volume.Attr](t)(v.Setattr(root, f, &volume.SetAttr{Valid: volume.SetSize, Size: 0}))
		ok(t, v.Rename(root, prev, "f4", d, "f4", 0))
	}
	ok(t, v.Fsync(root, d))
}

// checkRound verifies a round that was synced before the crash. Only the newest
// files may have been changed by a round that was under way.
func checkRound(t *testing.T, m *mount, i, synced int) {
	t.Helper()
	v := m.v()
	d := must[volume.Attr](t)(v.Lookup(root, rootIno, fmt.Sprint("round", i))).Ino
	for name, j := range map[string]int{"g1": 1, "f2": 2, "f3": 3} {
		f := must[volume.Attr](t)(v.Lookup(root, d, name)).Ino
		if !bytes.Equal(m.read(t, f), pattern(1000+j*9000, byte(i))) {
			t.Errorf("round %d: %s lost its contents", i, name)
		}
	}
	f := must[volume.Attr](t)(v.Lookup(root, d, "f5"))
	if i < synced-1 && f.Size != 0 {
		t.Errorf("round %d: f5 has size %d", i, f.Size)
	}
	if _, err := v.Lookup(root, d, "f0"); err == nil {
		t.Errorf("round %d: f0 came back", i)
	}
}

// TestCrash cuts the power at random writes and mounts what is left.
func TestCrash(t *testing.T) {
	rng := newRand(t)
	var mu sync.Mutex
	var images []crashImage
	w := newWorld(t, 2)
	m := w.mount(mountOptions{})
	var synced atomic.Int64
	shoot := func(simdisk.FaultOp) {
		mu.Lock()
		defer mu.Unlock()
		if rng.IntN(5) > 0 || len(images) >= maxCrashes {
			return
		}
		// Metadata first: what it refers to must be durable already.
		img := crashImage{synced: int(synced.Load())}
		keep := rng.IntN(101)
		img.meta = w.meta.Crash(rng, keep)
		img.data = w.data.Crash(rng, keep)
		images = append(images, img)
	}
	w.meta.OnWrite(shoot)
	for i := range maxCrashes {
		crashRound(t, m, i)
		synced.Store(int64(i + 1))
	}
	w.meta.OnWrite(nil)
	m.close()
	w.check()
	t.Logf("%d crashes", len(images))
	for i, img := range images {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			images[i] = crashImage{}
			synctest.Test(t, func(t *testing.T) { mountAfterCrash(t, img) })
		})
	}
}

// mountAfterCrash checks everything on the disks of an image.
func mountAfterCrash(t *testing.T, img crashImage) {
	w := openWorld(t, img.meta, img.data)
	defer w.confirmDeath()()
	m := w.mount(mountOptions{})
	for i := range img.synced {
		checkRound(t, m, i, img.synced)
	}
	w.check()
	ok(t, m.v().ScanOrphans(context.Background()))
	for range img.synced { // deleted, or never committed
		ok(t, m.v().Fsync(root, rootIno))
	}
	m.close()
	w.check()
	m = w.mount(mountOptions{})
	ok(t, m.v().ScanOrphans(context.Background()))
	if got := m.v().Metrics(); got.OrphanScanEmpty != 1 {
		t.Errorf("orphans are left: %+v", got)
	}
	m.close()
}

// confirmDeath confirms all requests to fence, since the mounts that a crash
// ended are surely dead, until the function that it returns is called.
func (w *world) confirmDeath() (stop func()) {
	done := make(chan struct{})
	go func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(100 * time.Millisecond):
			}
			for _, r := range w.srv.Fences().List() {
				_ = w.srv.Fences().MarkFenced(r.Rid)
			}
		}
	}()
	return func() { close(done) }
}

// TestStaleTail crashes after data was written in place behind the end that is
// durable. When the file grows again that must be zeros.
func TestStaleTail(t *testing.T) {
	rng := newRand(t)
	w := newWorld(t, 2)
	m := w.mount(mountOptions{})
	v := m.v()
	for _, name := range []string{"write", "truncate", "fallocate"} {
		f := must[volume.Attr](t)(v.Create(root, rootIno, name, 0o600)).Ino
		m.write(t, f, 0, pattern(100, 1))
	}
	ok(t, v.Fsync(root, rootIno))
	img := crashImage{meta: w.meta.Crash(rng, 0)}
	for _, name := range []string{"write", "truncate", "fallocate"} {
		m.write(t, must[volume.Attr](t)(v.Lookup(root, rootIno, name)).Ino, 100, pattern(200, 2))
	}
	img.data = w.data.Crash(rng, 100)
	m.close()
	synctest.Test(t, func(t *testing.T) {
		w := openWorld(t, img.meta, img.data)
		defer w.confirmDeath()()
		m := w.mount(mountOptions{})
		ino := func(name string) format.Ino {
			return must[volume.Attr](t)(m.v().Lookup(root, rootIno, name)).Ino
		}
		m.write(t, ino("write"), 9999, []byte{0})
		must[volume.Attr](t)(m.v().Setattr(root, ino("truncate"), &volume.SetAttr{Valid: volume.SetSize, Size: 10000}))
		ok(t, m.v().Fallocate(root, ino("fallocate"), 0, 0, 10000))
		for _, name := range []string{"write", "truncate", "fallocate"} {
			if got := m.read(t, ino(name)); !bytes.Equal(got, append(pattern(100, 1), make([]byte, 9900)...)) {
				t.Errorf("%s: what was never committed came up in the file", name)
			}
		}
		m.close()
		w.check()
	})
}
