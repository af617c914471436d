// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package mount_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"scoutfs/block"
	"scoutfs/mount"
)

// TestLeaderAborts: with proof that the leader is dead another member does not
// wait for its heartbeats, and its own work goes on. The heartbeat timeout is a
// minute: the test's wait would not last that long.
func TestLeaderAborts(t *testing.T) {
	v := newVol(t, 2)
	o := v.options(0)
	o.QuorumHeartbeatMS = 60000
	a := v.open(o)
	o = v.options(1)
	o.QuorumHeartbeatMS = 60000
	b := v.open(o)
	mkfile(t, b, "before")
	a.Abort()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		mkfile(t, b, "after")
		if err := b.Volume().Fsync(&root, 1); err != nil {
			t.Error(err)
		}
	}()
	select {
	case <-ended:
	case <-time.After(50 * time.Second):
		t.Fatal("nobody took over")
	}
	if d := cmp.Diff([]string{"before", "after"}, names(t, b)); d != "" {
		t.Error(d)
	}
	v.close(b)
}

// TestLeaderLeavesLast: the only member's farewell is answered when the mounts
// that need its server are gone.
func TestLeaderLeavesLast(t *testing.T) {
	v := newVol(t, 1)
	a := v.open(v.options(0))
	b := v.open(v.options(mount.NoSlot))
	mkfile(t, b, "b")
	var wg sync.WaitGroup
	wg.Go(func() { v.close(a) })
	time.Sleep(100 * time.Millisecond)
	select {
	case <-a.Done():
		t.Error("the last member left before the mounts that need it")
	default:
	}
	v.close(b)
	wg.Wait()
	checkRegistryEmpty(t, v)
}

// TestCloseWithoutServer: a clean unmount that cannot reach a server ends when
// its context does, as a forced one.
func TestCloseWithoutServer(t *testing.T) {
	v := newVol(t, 1)
	a := v.open(v.options(0))
	b := v.open(v.options(mount.NoSlot))
	mkfile(t, b, "b")
	a.Abort()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := b.Close(ctx); err == nil {
		t.Error("Close without a server succeeded")
	}
	select {
	case <-b.Done():
	default:
		t.Error("Close returned before the mount was down")
	}
	a = v.open(v.options(0)) // reclaims both
	mkfile(t, a, "new")
	v.close(a)
}

// TestAbortWhileClosing: a forced unmount ends a clean one that waits.
func TestAbortWhileClosing(t *testing.T) {
	v := newVol(t, 1)
	a := v.open(v.options(0))
	b := v.open(v.options(mount.NoSlot))
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := a.Close(context.Background()); err == nil {
			t.Error("Close succeeded")
		}
	})
	time.Sleep(100 * time.Millisecond)
	a.Abort()
	wg.Wait()
	b.Abort()
	b.Abort()
	v.close(v.open(v.options(0)))
}

// TestRegistrySweep: entries of dead mounts go when nothing needs them as proof
// any more; those of living ones stay.
func TestRegistrySweep(t *testing.T) {
	v := newVol(t, 1)
	m := v.open(v.options(0))
	dead := m.Rid()
	m.Abort()
	m = v.open(v.options(0))
	b := v.open(v.options(mount.NoSlot))
	entry := func(rid uint64) string { return filepath.Join(v.registry, hex(m.Super().Hdr.Fsid), hex(rid)) }
	exists := func(path string) bool { _, err := os.Stat(path); return err == nil }
	if !exists(entry(uint64(dead))) {
		t.Error("the entry of the dead mount is gone before anybody cleaned up")
	}
	for range 500 { // its reclaim and the record of the new leader take a moment
		m.Sweep()
		if !exists(entry(uint64(dead))) {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if exists(entry(uint64(dead))) {
		t.Error("the entry of the dead mount stays")
	}
	for _, x := range []*mount.Mount{m, b} {
		if !exists(entry(uint64(x.Rid()))) {
			t.Error("the entry of a living mount is gone")
		}
	}
	v.close(b)
	v.close(m)
}

// TestOfflineWriter: mkfs and a mount exclude each other.
func TestOfflineWriter(t *testing.T) {
	t.Parallel()
	v := newVol(t, 1)
	f, err := block.Open(v.meta, block.OpenOptions{})
	must(t, err)
	must(t, f.LockWhole())
	_, err = v.tryOpen(v.options(mount.NoSlot))
	if !errors.Is(err, syscall.EBUSY) || !strings.HasPrefix(err.Error(), v.meta+" is in use by a program that needs it alone") {
		t.Errorf("mount beside an offline writer: %v", err)
	}
	must(t, f.Close())
	m := v.open(v.options(0))
	f, err = block.Open(v.meta, block.OpenOptions{})
	must(t, err)
	if err := f.LockWhole(); !errors.Is(err, block.ErrBusy) {
		t.Errorf("offline writer beside a mount: %v", err)
	}
	must(t, f.Close())
	v.close(m)
}

// TestReadOnlyDevice needs root for a read-only bind mount.
func TestReadOnlyDevice(t *testing.T) {
	if os.Getuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("not root")
		}
		t.Skip("needs root")
	}
	v := newVol(t, 1)
	ro := filepath.Join(v.dir, "ro")
	must(t, os.Mkdir(ro, 0o755))
	must(t, unix.Mount(v.dir, ro, "", unix.MS_BIND, ""))
	t.Cleanup(func() {
		if err := unix.Unmount(ro, 0); err != nil {
			t.Error(err)
		}
	})
	must(t, unix.Mount("", ro, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	o := v.options(0)
	o.MetadevPath = filepath.Join(ro, "meta")
	_, err := v.tryOpen(o)
	if !errors.Is(err, syscall.EROFS) || !strings.HasPrefix(err.Error(), "metadata device "+o.MetadevPath+" is read-only or may not be opened for writing") {
		t.Errorf("got %v", err)
	}
}

// TestThreeMembers: members that need a majority start together, lose their
// leader, go on, and leave together.
func TestThreeMembers(t *testing.T) {
	v := newVol(t, 3)
	members := make([]*mount.Mount, 3)
	var wg sync.WaitGroup
	for i := range members {
		wg.Go(func() {
			m, err := v.tryOpen(v.options(i))
			if err != nil {
				t.Error(err)
				return
			}
			members[i] = m
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	mkfile(t, members[0], "one")
	must(t, members[0].Volume().Fsync(&root, 1))
	leader := -1
	for i, m := range members {
		if b, err := m.Status().Find("sysfs/quorum/is_leader").Read(); string(b) == "1" && err == nil {
			leader = i
		}
	}
	if leader < 0 {
		t.Fatal("no leader")
	}
	members[leader].Abort()
	rest := append(append([]*mount.Mount(nil), members[:leader]...), members[leader+1:]...)
	for i, m := range rest {
		mkfile(t, m, []string{"two", "three"}[i])
	}
	for _, m := range rest {
		if d := cmp.Diff([]string{"one", "two", "three"}, names(t, m)); d != "" {
			t.Error(d)
		}
		wg.Go(func() { v.close(m) })
	}
	wg.Wait()
}
