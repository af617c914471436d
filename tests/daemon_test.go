// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

//go:build system

package tests

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Exactly one process has the daemon's command line, which ends with DATA DIR.
func TestCommandLine(t *testing.T) {
	v := newVolume(t).mount()
	procs, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	n := 0
	for _, p := range procs {
		b, _ := os.ReadFile(p)
		args := strings.Split(strings.TrimSuffix(string(b), "\x00"), "\x00")
		if len(args) < 4 || !slices.Equal(args[len(args)-2:], []string{v.data, v.mnt}) {
			continue
		}
		n++
		if !strings.HasSuffix(args[0], "bin/scoutfs") || args[1] != "mount" {
			t.Errorf("command line %q", args)
		}
	}
	if n != 1 {
		t.Errorf("%d processes with the mount's command line, want 1", n)
	}
	out, err := command(limit, "findmnt", "-n", "-o", "FSTYPE,SOURCE", "--mountpoint", v.mnt)
	if f := strings.Fields(out); err != nil || len(f) != 2 || f[0] != "fuse.scoutfs" || f[1] != v.data {
		t.Errorf("mount table: %q %v", out, err)
	}
	v.umount()
	if v.pid() != 0 {
		t.Error("umount returned before the daemon had ended")
	}
}

func TestStatusTree(t *testing.T) {
	v := newVolume(t).mount()
	fsid, rid := field(t, v.must("statfs", "-s", "fsid", "-p", v.mnt)), field(t, v.must("statfs", "-s", "rid", "-p", v.mnt))
	dir := "/run/scoutfs/sysfs/f." + fsid[:6] + ".r." + rid[:6] + "/"
	for name, want := range map[string]string{
		"fsid": fsid + "\n", "rid": rid + "\n", "format_version": "2\n", "quorum/is_leader": "1",
		"mount_options/data_prealloc_blocks": "2048", "mount_options/metadev_path": v.meta, "mount_options/quorum_slot_nr": "0\n",
	} {
		if b, err := os.ReadFile(dir + name); err != nil || string(b) != want {
			t.Errorf("%s: %q, want %q (%v)", name, b, want, err)
		}
	}
	b, err := os.ReadFile(dir + "quorum/status")
	for _, line := range []string{"quorum_slot_nr 0", "role 2 (leader)"} {
		if err != nil || !strings.Contains(string(b), line+"\n") {
			t.Errorf("quorum/status has no line %q: %s %v", line, b, err)
		}
	}
	if _, err := os.ReadDir(dir + "fence"); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(dir+"mount_options/data_prealloc_blocks", []byte("512"), 0o644); err != nil {
		t.Error(err)
	}
	if b, _ := os.ReadFile(dir + "mount_options/data_prealloc_blocks"); string(b) != "512" {
		t.Errorf("changed option reads %q", b)
	}
	if err := os.WriteFile(dir+"mount_options/data_prealloc_blocks", []byte("nonsense"), 0o644); err == nil {
		t.Error("a bad value was taken")
	}
	v.umount()
	if _, err := os.Stat(dir); err == nil {
		t.Error("the status tree is still there after umount")
	}
}

// A mount without a quorum slot waits for a server. Its status tree is there
// meanwhile, and interrupting the command ends everything.
func TestWaitingMount(t *testing.T) {
	v := newVolume(t)
	before, _ := filepath.Glob("/run/scoutfs/sysfs/*/rid")
	c := exec.Command(bin, "mount", "-o", "metadev_path="+v.meta, v.data, v.mnt)
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	var found []string
	for range 200 {
		now, _ := filepath.Glob("/run/scoutfs/sysfs/*/rid")
		found = slices.DeleteFunc(now, func(p string) bool { return slices.Contains(before, p) })
		if len(found) > 0 {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if len(found) != 1 {
		t.Fatalf("status trees of a waiting mount: %q", found)
	}
	if b, err := os.ReadFile(found[0]); err != nil || len(b) != 17 {
		t.Errorf("rid %q %v", b, err)
	}
	if err := c.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	select {
	case err := <-ended:
		if err == nil || !strings.Contains(out.String(), "nterrupted") {
			t.Errorf("interrupted mount: %v %s", err, out.String())
		}
	case <-time.After(30 * time.Second):
		_ = c.Process.Kill()
		t.Fatal("an interrupted mount does not end")
	}
	if _, err := os.Stat(found[0]); err == nil {
		t.Error("the status tree is still there")
	}
	v.mount()
}

// In the foreground the daemon is the command itself, as for systemd.
func TestForeground(t *testing.T) {
	v := newVolume(t)
	c := exec.Command(bin, "mount", "-f", "-o", "metadev_path="+v.meta+",quorum_slot_nr=0", v.data, v.mnt)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	for i := 0; v.pid() == 0; i++ {
		if i > 500 {
			t.Fatal("not mounted")
		}
		time.Sleep(20 * time.Millisecond)
	}
	if v.pid() != c.Process.Pid {
		t.Errorf("daemon %d is not the command %d", v.pid(), c.Process.Pid)
	}
	v.sh("echo x > f")
	if err := c.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v", err)
	}
	v.check()
	v.mount()
	v.sh("cat f")
}

func field(t *testing.T, s string) string {
	t.Helper()
	s = strings.TrimSpace(s)
	if len(s) != 16 {
		t.Fatalf("%q is not 16 hex digits", s)
	}
	return s
}

func TestInfoCommands(t *testing.T) {
	v := newVolume(t).mount()
	v.sh("mkdir d; echo hello > d/f; ln d/f d/g; sync d/f")
	out := v.must("stat", filepath.Join(v.mnt, "d/f"))
	for _, want := range []string{"data_version      1\n", "online_blocks     1\n", "offline_blocks    0\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("stat: no %q in\n%s", want, out)
		}
	}
	ino := strings.TrimSpace(v.sh("stat -c %i d/f"))
	if out := v.must("ino-path", "-p", v.mnt, ino); out != "d/f\nd/g\n" {
		t.Errorf("ino-path: %q", out)
	}
	if out := v.must("get-referring-entries", "-p", v.mnt, ino); strings.Count(out, "\n") != 2 || !strings.Contains(out, "type 8 name g") {
		t.Errorf("get-referring-entries: %q", out)
	}
	if out := v.must("walk-inodes", "-p", v.mnt, "--", "data_seq", "0", "-1"); !strings.Contains(out, ino) {
		t.Errorf("walk-inodes has no %s:\n%s", ino, out)
	}
	if out := v.must("df", "-p", v.mnt); !strings.Contains(out, "MetaData") || !strings.Contains(out, "Data") {
		t.Errorf("df: %s", out)
	}
}

// mount(8), umount(8) and fstab reach our helpers.
func TestMountHelpers(t *testing.T) {
	v := newVolume(t)
	for _, p := range []string{"/sbin/mount.scoutfs", "/sbin/umount.fuse"} {
		if _, err := os.Lstat(p); err == nil {
			t.Fatalf("%s exists already: this test will not replace it", p)
		}
	}
	if err := os.Symlink(bin, "/sbin/mount.scoutfs"); err != nil {
		t.Fatal(err)
	}
	defer os.Remove("/sbin/mount.scoutfs")
	helper, err := filepath.Abs("../packaging/umount.fuse")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(helper, "/sbin/umount.fuse"); err != nil {
		t.Fatal(err)
	}
	defer os.Remove("/sbin/umount.fuse")
	if out, err := command(limit, "mount", "-t", "scoutfs", "-o", "noatime,metadev_path="+v.meta+",quorum_slot_nr=0", v.data, v.mnt); err != nil {
		t.Fatalf("mount: %v %s", err, out)
	}
	v.sh("echo by mount > f; grep -q noatime <(findmnt -n -o OPTIONS --mountpoint .)")
	if out, err := command(limit, "umount", v.mnt); err != nil {
		t.Fatalf("umount: %v %s", err, out)
	}
	if v.pid() != 0 {
		t.Error("umount(8) returned before the daemon had ended")
	}
	v.mount()
	v.sh("[ \"$(cat f)\" = 'by mount' ]")
}
