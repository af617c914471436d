// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package check_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"scoutfs/block"
	"scoutfs/check"
	"scoutfs/check/checktest"
	"scoutfs/format"
	"scoutfs/mkfs"
	"scoutfs/mount"
	"scoutfs/volume"
)

// real is a volume in two files that mounts of this process use.
type real struct {
	t    *testing.T
	dir  string
	vers uint64
}

// waitAll bounds what a test waits for.
const waitAll = 2 * time.Minute

func newReal(t *testing.T, vers uint64) *real {
	t.Helper()
	r := &real{t: t, dir: t.TempDir(), vers: vers}
	for _, name := range []string{"meta", "data"} {
		f, err := os.Create(filepath.Join(r.dir, name))
		must(t, err)
		must(t, f.Truncate(16<<30))
		must(t, f.Close())
	}
	r.devices(func(meta, data block.Device) {
		_, err := mkfs.Format(meta, data, mkfs.Options{Slots: map[int]netip.AddrPort{0: freePort(t)}, Version: vers, AllowSmall: true, Force: true})
		must(t, err)
	})
	return r
}

// freePort is an address whose ports were free a moment ago.
func freePort(t *testing.T) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

func (r *real) devices(fn func(meta, data block.Device)) {
	r.t.Helper()
	meta, err := block.Open(filepath.Join(r.dir, "meta"), block.OpenOptions{})
	must(r.t, err)
	defer meta.Close()
	data, err := block.Open(filepath.Join(r.dir, "data"), block.OpenOptions{})
	must(r.t, err)
	defer data.Close()
	fn(meta, data)
}

func (r *real) open() *mount.Mount {
	r.t.Helper()
	o := mount.DefaultOptions()
	o.MetadevPath, o.QuorumSlot = filepath.Join(r.dir, "meta"), 0
	ctx, cancel := context.WithTimeout(r.t.Context(), waitAll)
	defer cancel()
	m, err := mount.Open(ctx, mount.Options{Device: filepath.Join(r.dir, "data"), MountOptions: o,
		RegistryDir: filepath.Join(r.dir, "registry"), Log: slog.New(slog.DiscardHandler)})
	must(r.t, err)
	r.t.Cleanup(m.Abort)
	return m
}

func (r *real) close(m *mount.Mount) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), waitAll)
	defer cancel()
	must(r.t, m.Close(ctx))
}

// TestRealVolumes checks what mounts wrote, after they were unmounted and after
// they were killed.
func TestRealVolumes(t *testing.T) {
	for _, vers := range []uint64{1, 2} {
		t.Run(fmt.Sprintf("version=%d", vers), func(t *testing.T) {
			t.Parallel()
			seed := uint64(time.Now().UnixNano())
			t.Logf("seed %d", seed)
			rng := rand.New(rand.NewPCG(seed, vers))
			r := newReal(t, vers)
			m := r.open()
			w := &worker{t: t, v: m.Volume(), rng: rng, vers: vers}
			w.work(3000)
			r.close(m)
			r.devices(func(meta, data block.Device) {
				checktest.Verify(t, meta, data)
				report, err := check.Run(t.Context(), meta, data, check.Options{})
				must(t, err)
				t.Logf("%d inodes, %d items, %d data blocks, %d srch entries", report.Inodes, report.Items, report.DataUsed, report.SrchEntries)
				if report.Inodes < 20 || report.DataUsed < 100 {
					t.Errorf("the volume has little in it: %+v", report)
				}
			})

			m = r.open()
			w.v = m.Volume()
			w.work(400)
			must(t, w.v.Fsync(&w.c, 1))
			w.work(400)
			m.Abort()
			r.devices(func(meta, data block.Device) { checktest.VerifyCrashed(t, meta, data) })

			m = r.open()
			w.v = m.Volume()
			w.dirs = nil // what the crash has left is not known
			w.work(300)
			r.close(m)
			r.devices(func(meta, data block.Device) { checktest.Verify(t, meta, data) })
		})
	}
}

// worker makes random changes.
type worker struct {
	t    *testing.T
	v    *volume.Volume
	c    volume.Caller
	rng  *rand.Rand
	vers uint64
	dirs []format.Ino
}

func (w *worker) work(steps int) {
	w.t.Helper()
	if len(w.dirs) == 0 {
		w.dirs = []format.Ino{format.RootIno}
	}
	for range steps {
		if err := w.step(); err != nil && !w.expected(err) {
			w.t.Fatal(err)
		}
	}
}

// expected reports whether a random change may fail like this.
func (w *worker) expected(err error) bool {
	for _, e := range []error{syscall.ENOENT, syscall.EEXIST, syscall.ENOTEMPTY, syscall.EISDIR, syscall.ENOTDIR, syscall.ENODATA, syscall.EINVAL,
		syscall.ELOOP, syscall.ESTALE, syscall.EPERM} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func (w *worker) dir() format.Ino { return w.dirs[w.rng.IntN(len(w.dirs))] }
func (w *worker) name() string    { return fmt.Sprintf("n%d", w.rng.IntN(40)) }

// keep forgets the reference of an inode that was made.
func (w *worker) keep(a volume.Attr, err error) error {
	if err == nil {
		w.v.Forget(a.Ino, 1)
	}
	return err
}

func (w *worker) step() error {
	v, c := w.v, &w.c
	switch w.rng.IntN(12) {
	case 0:
		a, err := v.Mkdir(c, w.dir(), w.name(), 0o755)
		if err == nil && len(w.dirs) < 20 {
			w.dirs = append(w.dirs, a.Ino)
		}
		return w.keep(a, err)
	case 1:
		return w.keep(v.Symlink(c, w.dir(), w.name(), fmt.Sprintf("%0*d", 1+w.rng.IntN(2000), 7)))
	case 2:
		return v.Unlink(c, w.dir(), w.name())
	case 3:
		return v.Rmdir(c, w.dir(), w.name())
	case 4:
		return v.Rename(c, w.dir(), w.name(), w.dir(), w.name(), 0)
	case 5:
		return w.keep(v.Tmpfile(c, w.dir(), 0o600))
	case 6, 7:
		return w.keep(v.Create(c, w.dir(), w.name(), 0o644))
	}
	a, err := v.Lookup(c, w.dir(), w.name())
	if err != nil {
		return err
	}
	defer v.Forget(a.Ino, 1)
	return w.change(a)
}

// change changes an inode.
func (w *worker) change(a volume.Attr) error {
	v, c := w.v, &w.c
	regular := a.Mode&0o170000 == 0o100000
	switch w.rng.IntN(6) {
	case 0:
		return w.keep(v.Link(c, a.Ino, w.dir(), w.name()))
	case 1:
		if !regular {
			return nil
		}
		_, _, err := v.Write(c, a.Ino, int64(w.rng.IntN(1<<20)), make([]byte, 1+w.rng.IntN(1<<17)), 0)
		return err
	case 2:
		if !regular {
			return nil
		}
		_, err := v.Setattr(c, a.Ino, &volume.SetAttr{Valid: volume.SetSize, Size: uint64(w.rng.IntN(1 << 20))})
		return err
	case 3:
		if !regular {
			return nil
		}
		return v.Fallocate(c, a.Ino, 0, int64(w.rng.IntN(1<<20)), int64(1+w.rng.IntN(1<<22)))
	case 4:
		return v.Removexattr(c, a.Ino, w.xattr())
	}
	name := w.xattr()
	val := fmt.Sprint(w.rng.IntN(1000))
	switch name {
	case "scoutfs.indx.x.3.44":
		val = ""
	case "user.big":
		val = string(make([]byte, w.rng.IntN(5000)))
	}
	return v.Setxattr(c, a.Ino, name, []byte(val), 0)
}

func (w *worker) xattr() string {
	names := []string{"trusted.a", "user.big", "scoutfs.srch.name", "scoutfs.totl.x.1.2.3", "scoutfs.totl.srch.y.1.2.4", "scoutfs.hide.z"}
	if w.vers >= 2 {
		names = append(names, "scoutfs.indx.x.3.44")
	}
	return names[w.rng.IntN(len(names))]
}
