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

	"scoutfs/internal/simdisk"
	"scoutfs/volume"
)

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
		if rng.IntN(5) > 0 {
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
	for i := range 12 {
		crashRound(t, m, i)
		synced.Store(int64(i + 1))
	}
	w.meta.OnWrite(nil)
	m.close()
	w.check()
	t.Logf("%d crashes", len(images))
	for i, img := range images {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { mountAfterCrash(t, img) })
		})
	}
}

// mountAfterCrash checks everything on the disks of an image.
func mountAfterCrash(t *testing.T, img crashImage) {
	w := openWorld(t, img.meta, img.data)
	stop := make(chan struct{})
	defer close(stop)
	go func() { // the mounts that the crash ended are surely dead
		for {
			select {
			case <-stop:
				return
			case <-time.After(100 * time.Millisecond):
			}
			for _, r := range w.srv.Fences().List() {
				_ = w.srv.Fences().MarkFenced(r.Rid)
			}
		}
	}()
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
	if n := w.check(); n != 0 {
		t.Errorf("%d orphans are left", n)
	}
}
