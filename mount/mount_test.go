// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package mount_test

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"scoutfs/block"
	"scoutfs/mount"
)

func TestMain(m *testing.M) {
	if os.Getenv("MOUNT_TEST_CHILD") != "" {
		child()
		return
	}
	os.Exit(m.Run())
}

func TestCreateCloseReopen(t *testing.T) {
	v := newVol(t, 1)
	m := v.open(v.options(0))
	mkfile(t, m, "a")
	mkfile(t, m, "b")
	if d := cmp.Diff([]string{"a", "b"}, names(t, m)); d != "" {
		t.Error(d)
	}
	v.close(m)
	checkRegistryEmpty(t, v)
	for range 3 {
		m = v.open(v.options(0))
		if d := cmp.Diff([]string{"a", "b"}, names(t, m)); d != "" {
			t.Error(d)
		}
		v.close(m)
	}
	checkRegistryEmpty(t, v)
}

func TestSlotInUse(t *testing.T) {
	t.Parallel()
	v := newVol(t, 1)
	m := v.open(v.options(0))
	_, err := v.tryOpen(v.options(0))
	if !errors.Is(err, block.ErrBusy) || !strings.Contains(err.Error(), "quorum slot 0 of "+v.meta+" is in use by a living mount on this host") {
		t.Errorf("second mount of one slot: %v", err)
	}
	v.close(m)
	v.close(v.open(v.options(0)))
}

// TestAbortAndRemount: the next mount of the slot finds the dead one, proves it
// dead, and goes on with what was committed.
func TestAbortAndRemount(t *testing.T) {
	v := newVol(t, 1)
	o := v.options(0)
	o.QuorumHeartbeatMS = 60000 // whoever waited for the dead leader would be noticed
	m := v.open(o)
	mkfile(t, m, "kept")
	must(t, m.Volume().Fsync(&root, 1))
	mkfile(t, m, "lost")
	m.Abort()
	if err := func() error { _, err := m.Volume().Create(&root, 1, "x", 0o644); return err }(); err == nil {
		t.Error("a create after the forced unmount succeeded")
	}
	m = v.open(o)
	if d := cmp.Diff([]string{"kept"}, names(t, m)); d != "" {
		t.Error(d)
	}
	mkfile(t, m, "new")
	v.close(m)
	m = v.open(o)
	if d := cmp.Diff([]string{"kept", "new"}, names(t, m)); d != "" {
		t.Error(d)
	}
	v.close(m)
}

// TestTwoMounts: two mounts of one host see each other's changes.
func TestTwoMounts(t *testing.T) {
	v := newVol(t, 1)
	a := v.open(v.options(0))
	b := v.open(v.options(mount.NoSlot))
	mkfile(t, a, "from a")
	mkfile(t, b, "from b")
	for _, m := range []*mount.Mount{a, b} {
		got := names(t, m)
		slices.Sort(got)
		if d := cmp.Diff([]string{"from a", "from b"}, got); d != "" {
			t.Error(d)
		}
	}
	v.close(b)
	v.close(a)
}

// TestClientAbort: a mount without a slot dies; the server reclaims it and the
// others go on with what it had committed.
func TestClientAbort(t *testing.T) {
	v := newVol(t, 1)
	a := v.open(v.options(0))
	b := v.open(v.options(mount.NoSlot))
	mkfile(t, b, "from b")
	must(t, b.Volume().Fsync(&root, 1))
	b.Abort()
	if d := cmp.Diff([]string{"from b"}, names(t, a)); d != "" {
		t.Error(d)
	}
	v.close(a)
}

// TestFailover: the leader ends; another member takes over while a third mount
// keeps working.
func TestFailover(t *testing.T) {
	v := newVol(t, 2)
	a := v.open(v.options(0))
	b := v.open(v.options(1))
	mkfile(t, a, "one")
	v.close(a)
	mkfile(t, b, "two")
	if d := cmp.Diff([]string{"one", "two"}, names(t, b)); d != "" {
		t.Error(d)
	}
	v.close(b)
}

// TestNoServer: a mount that waits for a server has a status tree, and ends when
// it is told to, leaving nothing.
func TestNoServer(t *testing.T) {
	v := newVol(t, 1)
	ctx, cancel := context.WithCancel(context.Background())
	o := v.options(mount.NoSlot)
	o.OnStatus = func(id string, tree *mount.Node) {
		if !strings.HasPrefix(id, "f.") || tree.Find("sysfs/rid") == nil || tree.Find("sysfs/quorum") != nil {
			t.Errorf("status of %s has no rid, or a quorum directory", id)
		}
		time.AfterFunc(300*time.Millisecond, cancel)
	}
	_, err := mount.Open(ctx, o)
	if !errors.Is(err, syscall.EINTR) {
		t.Errorf("Open = %v", err)
	}
	checkRegistryEmpty(t, v)
	v.close(v.open(v.options(0)))
}

func TestStatusTree(t *testing.T) {
	v := newVol(t, 1)
	m := v.open(v.options(0))
	defer v.close(m)
	read := func(path string) string {
		t.Helper()
		n := m.Status().Find(path)
		if n == nil || n.Read == nil {
			t.Fatalf("no file %s", path)
		}
		b, err := n.Read()
		if err != nil {
			t.Errorf("read %s: %v", path, err)
		}
		return string(b)
	}
	want := map[string]string{
		"sysfs/rid":              hex(uint64(m.Rid())) + "\n",
		"sysfs/fsid":             hex(m.Super().Hdr.Fsid) + "\n",
		"sysfs/format_version":   "2\n",
		"sysfs/quorum/is_leader": "1",
		"sysfs/mount_options/data_prealloc_blocks":      "2048",
		"sysfs/mount_options/data_prealloc_contig_only": "1",
		"sysfs/mount_options/metadev_path":              v.meta,
		"sysfs/mount_options/quorum_slot_nr":            "0\n",
		"sysfs/volume_options/data_alloc_zone_blocks":   "",
		"sysfs/counters/quorum_elected":                 "1\n",
		"sysfs/counters/statfs":                         "0\n",
	}
	for path, text := range want {
		if got := read(path); got != text {
			t.Errorf("%s is %q, want %q", path, got, text)
		}
	}
	if got := read("sysfs/quorum/status"); !strings.Contains(got, "role 2 (leader)\n") {
		t.Errorf("quorum/status:\n%s", got)
	}
	for _, f := range []string{"client_locks", "server_locks", "server_lock_stats", "connections"} {
		if got := read("debugfs/" + f); got == "" {
			t.Errorf("debugfs/%s is empty", f)
		}
	}
	if m.Status().Find("sysfs/fence").Children() != nil {
		t.Error("there are fence requests")
	}
	writeOptions(t, m)
}

func hex(v uint64) string {
	return strings.Repeat("0", 16-len(strconv.FormatUint(v, 16))) + strconv.FormatUint(v, 16)
}

func writeOptions(t *testing.T, m *mount.Mount) {
	t.Helper()
	tests := []struct {
		file, text, want string
		err              error
	}{
		{"sysfs/mount_options/lock_idle_count", "0x20\n", "32", nil},
		{"sysfs/mount_options/lock_idle_count", "31", "32", syscall.EINVAL},
		{"sysfs/mount_options/quorum_heartbeat_timeout_ms", "2000", "2000", nil},
		{"sysfs/mount_options/orphan_scan_delay_ms", "x", "10000", syscall.EINVAL},
		{"sysfs/volume_options/data_alloc_zone_blocks", "1048576", "1048576", nil},
		{"sysfs/volume_options/data_alloc_zone_blocks", "5", "1048576", syscall.EINVAL},
		{"sysfs/volume_options/data_alloc_zone_blocks", strings.Repeat("1", 32), "1048576", syscall.ERANGE},
		{"sysfs/volume_options/data_alloc_zone_blocks", "\n", "", nil},
	}
	for _, tt := range tests {
		n := m.Status().Find(tt.file)
		if err := n.Write([]byte(tt.text)); !errors.Is(err, tt.err) {
			t.Errorf("write %q to %s: %v, want %v", tt.text, tt.file, err, tt.err)
		}
		if b, err := n.Read(); string(b) != tt.want || err != nil {
			t.Errorf("%s reads %q, %v, want %q", tt.file, b, err, tt.want)
		}
	}
	for _, f := range []string{"metadev_path", "quorum_slot_nr"} {
		if n := m.Status().Find("sysfs/mount_options/" + f); n.Write != nil || n.Mode&0o200 != 0 {
			t.Errorf("%s is writable", f)
		}
	}
}

// child mounts in a process of its own, makes a durable file, says so, and
// waits to be killed.
func child() {
	opts, err := mount.ParseOptions(os.Getenv("MOUNT_TEST_OPTIONS"))
	exitOn(err)
	m, err := mount.Open(context.Background(), mount.Options{
		Device: os.Getenv("MOUNT_TEST_CHILD"), MountOptions: opts, RegistryDir: os.Getenv("MOUNT_TEST_REGISTRY"),
	})
	exitOn(err)
	_, err = m.Volume().Create(&root, 1, "durable", 0o644)
	exitOn(err)
	exitOn(m.Volume().Fsync(&root, 1))
	_, err = os.Stdout.WriteString("ready\n")
	exitOn(err)
	select {}
}

func exitOn(err error) {
	if err != nil {
		_, _ = os.Stderr.WriteString(err.Error() + "\n")
		os.Exit(1)
	}
}

// startChild runs child for a slot until it is ready.
func (v *vol) startChild(slot int) *exec.Cmd {
	v.t.Helper()
	exe, err := os.Executable()
	must(v.t, err)
	c := exec.Command(exe)
	c.Env = append(os.Environ(), "MOUNT_TEST_CHILD="+v.data, "MOUNT_TEST_REGISTRY="+v.registry,
		"MOUNT_TEST_OPTIONS=metadev_path="+v.meta+",quorum_heartbeat_timeout_ms=60000,quorum_slot_nr="+strconv.Itoa(slot))
	c.Stderr = os.Stderr
	out, err := c.StdoutPipe()
	must(v.t, err)
	must(v.t, c.Start())
	v.t.Cleanup(func() {
		_ = c.Process.Kill() // it may be dead already
		_ = c.Wait()         // killed
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		v.t.Fatalf("child said %q, %v", line, err)
	}
	return c
}

// TestKilledDaemon: after kill -9 the next mount of the slot takes over at once.
// The heartbeat timeout is a minute, so that waiting for the dead one would show
// in the wait of the test.
func TestKilledDaemon(t *testing.T) {
	v := newVol(t, 1)
	c := v.startChild(0)
	must(t, c.Process.Kill())
	o := v.options(0)
	o.QuorumHeartbeatMS = 60000
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Second)
	defer cancel()
	m, err := mount.Open(ctx, o)
	must(t, err)
	if d := cmp.Diff([]string{"durable"}, names(t, m)); d != "" {
		t.Error(d)
	}
	v.close(m)
}

// TestStoppedDaemon: a stopped leader is killed before its slot's successor
// writes, and only then.
func TestStoppedDaemon(t *testing.T) {
	v := newVol(t, 2)
	c := v.startChild(0)
	must(t, c.Process.Signal(syscall.SIGSTOP))
	o := v.options(1)
	o.QuorumHeartbeatMS = 2000
	m := v.open(o)
	if d := cmp.Diff([]string{"durable"}, names(t, m)); d != "" {
		t.Error(d)
	}
	if err := c.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("the stopped process: %v", err)
	}
	v.close(m)
}

// TestUnprovenDeath: without proof the request waits for an agent, who answers
// through the status tree.
func TestUnprovenDeath(t *testing.T) {
	v := newVol(t, 1)
	m := v.open(v.options(0))
	rid := m.Rid()
	mkfile(t, m, "kept")
	must(t, m.Volume().Fsync(&root, 1))
	m.Abort()
	must(t, os.RemoveAll(filepath.Join(v.registry)))

	o := v.options(0)
	o.OnStatus = func(_ string, tree *mount.Node) {
		go func() {
			for t.Context().Err() == nil {
				time.Sleep(10 * time.Millisecond)
				if n := tree.Find("sysfs/fence/" + hex(uint64(rid))); n != nil {
					reason, err := n.Child("reason").Read()
					if string(reason) != "quorum_block_leader" && string(reason) != "client_recovery" || err != nil {
						t.Errorf("reason %q, %v", reason, err)
					}
					if err := n.Child("fenced").Write([]byte("1")); err != nil {
						t.Errorf("write fenced: %v", err)
					}
				}
			}
		}()
	}
	m = v.open(o)
	if d := cmp.Diff([]string{"kept"}, names(t, m)); d != "" {
		t.Error(d)
	}
	v.close(m)
}
