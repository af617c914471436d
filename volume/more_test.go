// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package volume_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"scoutfs/format"
	"scoutfs/volume"
)

// TestWritersShareBlocks lets tasks of two mounts write to parts of one file
// that meet inside of blocks.
func TestWritersShareBlocks(t *testing.T) {
	const part, parts = 10000, 4
	w := newWorld(t, 2)
	ms := []*mount{w.mount(mountOptions{}), w.mount(mountOptions{})}
	f := must[volume.Attr](t)(ms[0].v().Create(root, rootIno, "f", 0o600)).Ino
	want := make([]byte, part*parts)
	rng := newRand(t)
	var wg sync.WaitGroup
	for i := range parts {
		rng := rand.New(rand.NewPCG(rng.Uint64(), 1))
		own := want[i*part : (i+1)*part]
		v := ms[i%2].v()
		wg.Go(func() {
			for range 50 {
				off := rng.IntN(part)
				n := 1 + rng.IntN(part-off)
				for j := range n {
					own[off+j] = byte(rng.Uint32())
				}
				if got, _, err := v.Write(root, f, int64(i*part+off), own[off:off+n], 0); got != n || err != nil {
					t.Errorf("write: %d, %v", got, err)
				}
			}
		})
	}
	wg.Wait()
	got := ms[1].read(t, f)
	if !bytes.Equal(got, want[:len(got)]) || !bytes.Equal(want[len(got):], make([]byte, len(want)-len(got))) {
		t.Error("writers lost each other's data")
	}
	for _, m := range ms {
		m.close()
	}
	w.check()
}

func TestSetattr(t *testing.T) {
	m := one(t)
	v := m.v()
	f := must[volume.Attr](t)(v.Create(root, rootIno, "f", 0o600))
	at, mt := format.Timespec{Sec: 5, Nsec: 6}, format.Timespec{Sec: 1 << 40, Nsec: 8}
	a := must[volume.Attr](t)(v.Setattr(root, f.Ino, &volume.SetAttr{
		Valid: volume.SetAtime | volume.SetMtime | volume.SetGID | volume.SetMode, Atime: at, Mtime: mt, GID: 9, Mode: 0o6711,
	}))
	want := f
	want.Atime, want.Mtime, want.Ctime, want.GID, want.Mode, want.Version = at, mt, a.Ctime, 9, sIFREG|0o6711, f.Version+1
	want.MetaSeq = a.MetaSeq
	if d := cmp.Diff(want, a, cmp.Comparer(func(a, b format.Inode) bool { return a == b })); d != "" {
		t.Error(d)
	}
	b := must[volume.Attr](t)(v.Setattr(root, f.Ino, &volume.SetAttr{Valid: volume.SetUID | volume.SetKillPriv | volume.SetMtimeNow, UID: 4}))
	if b.Mode&0o7777 != 0o711 || b.UID != 4 || b.Mtime == mt || b.Atime != at || b.Ctime != b.Mtime {
		t.Errorf("chown: %+v", b)
	}
	ct := format.Timespec{Sec: 77}
	c := must[volume.Attr](t)(v.Setattr(root, f.Ino, &volume.SetAttr{Valid: volume.SetCtime, Ctime: ct}))
	if c.Ctime != ct {
		t.Errorf("ctime %+v", c.Ctime)
	}
	// Writing does not take the bits away.
	must[volume.Attr](t)(v.Setattr(root, f.Ino, &volume.SetAttr{Valid: volume.SetMode, Mode: 0o4755}))
	m.write(t, f.Ino, 0, []byte("x"))
	if got := must[volume.Attr](t)(v.Getattr(root, f.Ino)); got.Mode&0o7777 != 0o4755 || got.Ctime != got.Mtime || got.Ctime == ct {
		t.Errorf("after a write: %+v", got)
	}
}

func TestScanLoop(t *testing.T) {
	w := newWorld(t, 2)
	m := w.mount(mountOptions{vol: func(o *volume.Options) {
		o.NoOrphanScan = false
		o.Tunables.OrphanScanDelay.Store(int64(time.Hour))
	}})
	v := m.v()
	m.tun.OrphanScanDelay.Store(int64(100 * time.Microsecond))
	v.RescheduleScan()
	eventually(t, "a scan", func() bool { return v.Metrics().OrphanScanEmpty > 2 })
	m.close()
	w.check()
}

func TestForcedUnmount(t *testing.T) {
	w := newWorld(t, 2)
	m := w.mount(mountOptions{})
	v := m.v()
	f := must[volume.Attr](t)(v.Create(root, rootIno, "f", 0o600)).Ino
	tmp := must[volume.Attr](t)(v.Tmpfile(root, rootIno, 0o600)).Ino
	m.eng.Abort()
	v.Abort()
	_, err := v.Create(root, rootIno, "g", 0o600)
	wantErr(t, "create", err, syscall.ENOLINK)
	_, _, err = v.Write(root, f, 0, []byte("x"), 0)
	wantErr(t, "write", err, syscall.ENOLINK)
	wantErr(t, "fsync", v.Fsync(root, f), syscall.ENOLINK)
	v.Forget(tmp, 1)
	ok(t, v.Close(t.Context()))
	m.local.Lose()
	m.locks.Close()
}

// TestInterrupted has calls wait for a lock that another mount does not give
// back, because one of its tasks uses it.
func TestInterrupted(t *testing.T) {
	w := newWorld(t, 2)
	m := w.mount(mountOptions{})
	v := m.v()
	f := must[volume.Attr](t)(v.Create(root, rootIno, "f", 0o600)).Ino
	other := w.mount(mountOptions{})
	release := other.hold(t, f)
	for name, call := range map[string]func(c *volume.Caller) error{
		"getattr": func(c *volume.Caller) error { _, err := v.Getattr(c, f); return err },
		"write":   func(c *volume.Caller) error { _, _, err := v.Write(c, f, 0, []byte("x"), 0); return err },
		"unlink":  func(c *volume.Caller) error { return v.Unlink(c, rootIno, "f") },
		"create":  func(c *volume.Caller) error { _, err := v.Create(c, f, "x", 0o600); return err },
	} {
		cancel := make(chan struct{})
		done := make(chan error, 1)
		go func() { done <- call(&volume.Caller{Cancel: cancel}) }()
		time.Sleep(time.Millisecond)
		close(cancel)
		wantErr(t, fmt.Sprint(name, " interrupted"), <-done, syscall.EINTR)
	}
	release()
	must[volume.Attr](t)(v.Getattr(root, f))
	m.close()
	other.close()
	w.check()
}
