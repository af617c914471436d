// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package volume_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"scoutfs/block"
	"scoutfs/format"
	"scoutfs/volume"
)

// allowed are the errors that racing operations on names may have.
func allowed(err error) bool {
	for _, e := range []error{syscall.ENOENT, syscall.EEXIST, syscall.ENOTEMPTY, syscall.ENOTDIR, syscall.EISDIR, syscall.EINVAL, syscall.ESTALE, syscall.EPERM, syscall.ELOOP} {
		if errors.Is(err, e) {
			return true
		}
	}
	return err == nil
}

// storm runs random operations on few names in few directories.
func storm(t *testing.T, v *volume.Volume, rng *rand.Rand, dirs []format.Ino, n int) {
	c := &volume.Caller{}
	held := map[format.Ino]uint64{}
	hold := func(a volume.Attr, err error) error {
		if err == nil {
			held[a.Ino]++
		}
		return err
	}
	buf := block.AlignedBuf(8192)
	defer block.FreeBuf(buf)
	for range n {
		d, d2 := pick(rng, dirs), pick(rng, dirs)
		name, name2 := fmt.Sprint("n", rng.IntN(8)), fmt.Sprint("n", rng.IntN(8))
		var err error
		switch rng.IntN(12) {
		case 0, 1:
			err = hold(v.Create(c, d, name, 0o600))
		case 2:
			err = hold(v.Mkdir(c, d, name, 0o700))
		case 3:
			err = v.Unlink(c, d, name)
		case 4:
			err = v.Rmdir(c, d, name)
		case 5, 6:
			err = v.Rename(c, d, name, d2, name2, 0)
		case 7, 8:
			var a volume.Attr
			if a, err = v.Lookup(c, d, name); err == nil {
				held[a.Ino]++
				if a.Mode&sIFMT == sIFREG {
					_, _, err = v.Write(c, a.Ino, int64(rng.IntN(20000)), buf[:1+rng.IntN(8192)], 0)
				}
				if err == nil && rng.IntN(2) == 0 {
					err = hold(v.Link(c, a.Ino, d2, name2))
				}
			}
		case 9:
			err = v.ReadDirPlus(c, d, 0, func(e *volume.DirEntry, a *volume.Attr) bool {
				if a != nil {
					held[a.Ino]++
				}
				return true
			})
		case 10:
			for ino, n := range held {
				v.Forget(ino, n)
				delete(held, ino)
				break
			}
		case 11:
			for ino := range held {
				if rng.IntN(2) == 0 {
					err = v.Setxattr(c, ino, "scoutfs.totl.x.1.2.3", []byte(strconv.Itoa(rng.IntN(100))), 0)
				} else {
					_, err = v.Setattr(c, ino, &volume.SetAttr{Valid: volume.SetMtimeNow})
				}
				break
			}
		}
		if !allowed(err) {
			t.Errorf("unexpected error %v", err)
			return
		}
	}
	for ino, n := range held {
		v.Forget(ino, n)
	}
}

// TestStorm lets tasks of one and of two mounts work on the same names.
func TestStorm(t *testing.T) {
	for _, mounts := range []int{1, 2} {
		t.Run(fmt.Sprint("mounts=", mounts), func(t *testing.T) {
			w := newWorld(t, 2)
			var ms []*mount
			for range mounts {
				ms = append(ms, w.mount(mountOptions{}))
			}
			dirs := []format.Ino{rootIno}
			for i := range 3 {
				dirs = append(dirs, must[volume.Attr](t)(ms[0].v().Mkdir(root, rootIno, fmt.Sprint("base", i), 0o755)).Ino)
			}
			rng := newRand(t)
			var wg sync.WaitGroup
			for _, m := range ms {
				for range 3 {
					seed := rng.Uint64()
					wg.Go(func() { storm(t, m.v(), rand.New(rand.NewPCG(seed, 1)), dirs, *stepsFlag/len(ms)/len(ms)/3) })
				}
			}
			wg.Wait()
			for _, m := range ms {
				m.close()
			}
			w.check()
		})
	}
}

// TestRenameIsAtomic looks a name up that another task always replaces.
func TestRenameIsAtomic(t *testing.T) {
	m := one(t)
	v := m.v()
	must[volume.Attr](t)(v.Create(root, rootIno, "target", 0o600))
	var stop atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; i < 300; i++ {
			a := must[volume.Attr](t)(v.Create(root, rootIno, "new", 0o600))
			ok(t, v.Rename(root, rootIno, "new", rootIno, "target", 0))
			v.Forget(a.Ino, 1)
		}
		stop.Store(true)
	})
	for !stop.Load() {
		a, err := v.Lookup(root, rootIno, "target")
		if err != nil {
			t.Errorf("the name vanished: %v", err)
			break
		}
		v.Forget(a.Ino, 1)
	}
	wg.Wait()
}

// TestMountsSeeEachOther writes on one mount and reads on another at once.
func TestMountsSeeEachOther(t *testing.T) {
	w := newWorld(t, 2)
	ms := []*mount{w.mount(mountOptions{}), w.mount(mountOptions{})}
	f := must[volume.Attr](t)(ms[0].v().Create(root, rootIno, "log", 0o600)).Ino
	var want strings.Builder
	for i := range 60 {
		m := ms[i%2]
		line := fmt.Sprintf("line %d of mount %d\n", i, i%2)
		want.WriteString(line)
		_, a, err := m.v().Write(root, f, 0, []byte(line), volume.WriteAppend)
		ok(t, err)
		if a.Size != uint64(want.Len()) {
			t.Fatalf("size %d after %d bytes", a.Size, want.Len())
		}
		if got := ms[1-i%2].read(t, f); string(got) != want.String() {
			t.Fatalf("the other mount reads %q", got)
		}
	}
	for i, m := range ms {
		must[volume.Attr](t)(m.v().Mkdir(root, rootIno, fmt.Sprint("d", i), 0o755))
		got := ms[1-i].list(t, rootIno)
		if got[len(got)-1] != fmt.Sprint("d", i) {
			t.Errorf("the other mount lists %v", got)
		}
	}
	for _, m := range ms {
		m.close()
	}
	w.check()
}

func TestDataDeviceFull(t *testing.T) {
	w := newSized(t, 2, diskSize, 64<<20)
	m := w.mount(mountOptions{})
	v := m.v()
	chunk := pattern(1<<20, 1)
	f := must[volume.Attr](t)(v.Create(root, rootIno, "f", 0o600)).Ino
	size := int64(0)
	for {
		n, _, err := v.Write(root, f, size, chunk, 0)
		size += int64(n)
		if err != nil {
			wantErr(t, "write to a full device", err, syscall.ENOSPC)
			break
		}
		if size > 80<<20 {
			t.Fatal("more data than the device holds")
		}
	}
	if size < 40<<20 {
		t.Errorf("full after %d bytes", size)
	}
	if a := must[volume.Attr](t)(v.Getattr(root, f)); a.Size != uint64(size) {
		t.Errorf("size %d, written %d", a.Size, size)
	}
	wantErr(t, "fallocate", v.Fallocate(root, f, 0, size, 1<<30), syscall.ENOSPC)
	must[volume.Attr](t)(v.Setattr(root, f, &volume.SetAttr{Valid: volume.SetSize, Size: 0}))
	ok(t, v.Fsync(root, f))
	ok(t, v.Fsync(root, f))
	m.write(t, f, 0, chunk)
	m.close()
	w.check()
}

func TestMetadataLow(t *testing.T) {
	w := newSized(t, 2, 1<<30, diskSize) // low from the start
	m := w.mount(mountOptions{})
	v := m.v()
	ok(t, v.Fsync(root, rootIno))
	_, err := v.Create(root, rootIno, "f", 0o600)
	wantErr(t, "create", err, syscall.ENOSPC)
	must[volume.Attr](t)(v.Setattr(root, rootIno, &volume.SetAttr{Valid: volume.SetMode, Mode: 0o700}))
	m.close()
	w.check()
}
