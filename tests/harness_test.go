// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

//go:build system

package tests

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// bin is the program under test.
var bin string

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if os.Getuid() != 0 {
		fmt.Fprintln(os.Stderr, "tests on real mounts need root")
		return 1
	}
	if _, err := os.Stat("/dev/fuse"); err != nil {
		fmt.Fprintln(os.Stderr, "tests on real mounts need /dev/fuse:", err)
		return 1
	}
	dir, err := os.MkdirTemp("", "scoutfs-system")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	bin = filepath.Join(dir, "bin", "scoutfs")
	if out, err := exec.Command("go", "build", "-o", bin, "../cmd/scoutfs").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// volume is a formatted pair of devices with at most one mount.
type volume struct {
	t          *testing.T
	meta, data string
	mnt        string
	port       int
	options    string // more mount options
	damaged    bool   // on purpose: not checked at the end
}

// newVolume makes two sparse files, 32 and 16 GiB unless sizes are given, and
// formats them. At the test's end the mount is ended and the volume checked.
func newVolume(t *testing.T, sizes ...int64) *volume {
	t.Helper()
	v := unformatted(t, sizes...)
	v.must("mkfs", "-A", "-Q", fmt.Sprintf("0,127.0.0.1,%d", v.port), v.meta, v.data)
	return v
}

func unformatted(t *testing.T, sizes ...int64) *volume {
	t.Helper()
	dir := openDir(t)
	v := &volume{t: t, meta: filepath.Join(dir, "meta"), data: filepath.Join(dir, "data"), mnt: filepath.Join(dir, "mnt"), port: freePort(t)}
	size := []int64{32 << 30, 16 << 30}
	copy(size, sizes)
	for i, p := range []string{v.meta, v.data} {
		if err := os.WriteFile(p, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(p, size[i]); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(v.mnt, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.cleanup)
	return v
}

// openDir is a temporary directory that every user can enter.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "scoutfs-test")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// freePort finds a port that is free for TCP and UDP.
func freePort(t *testing.T) int {
	t.Helper()
	for range 100 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := l.Addr().(*net.TCPAddr).Port
		u, err := net.ListenPacket("udp", l.Addr().String())
		l.Close()
		if err == nil {
			u.Close()
			return port
		}
	}
	t.Fatal("no free port")
	return 0
}

// command runs the program with a time limit; nothing here may hang.
func command(limit time.Duration, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	c := exec.CommandContext(ctx, name, args...)
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	c.WaitDelay = time.Second
	err := c.Run()
	if ctx.Err() != nil {
		err = fmt.Errorf("no end within %v: %w", limit, err)
	}
	return out.String(), err
}

const limit = 2 * time.Minute

func (v *volume) scoutfs(args ...string) (string, error) { return command(limit, bin, args...) }

func (v *volume) must(args ...string) string {
	v.t.Helper()
	out, err := v.scoutfs(args...)
	if err != nil {
		v.t.Fatalf("scoutfs %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func (v *volume) mountArgs() []string {
	o := "metadev_path=" + v.meta + ",quorum_slot_nr=0"
	if v.options != "" {
		o += "," + v.options
	}
	return []string{"mount", "-o", o, v.data, v.mnt}
}

func (v *volume) mount() *volume {
	v.t.Helper()
	v.must(v.mountArgs()...)
	return v
}

func (v *volume) umount() {
	v.t.Helper()
	v.must("umount", v.mnt)
}

// log is all that daemons of this mount point have logged.
func (v *volume) log() string {
	b, _ := os.ReadFile("/run/scoutfs/log/" + v.escaped() + ".log")
	return string(b)
}

// escaped is the mount point as part of a file name.
func (v *volume) escaped() string {
	return strings.ReplaceAll(strings.ReplaceAll(v.mnt[1:], "_", "__"), "/", "_")
}

// pid is the daemon's process, 0 if there is none.
func (v *volume) pid() int {
	b, err := os.ReadFile("/run/scoutfs/mounts/" + v.escaped() + ".json")
	if err != nil {
		return 0
	}
	var r struct{ PID int }
	if json.Unmarshal(b, &r) != nil || syscall.Kill(r.PID, 0) != nil {
		return 0
	}
	return r.PID
}

// kill ends the daemon as a crash would and waits until it is gone. The dead
// mount stays, as it does in real life.
func (v *volume) kill() {
	v.t.Helper()
	pid := v.pid()
	if pid == 0 {
		v.t.Fatal("no daemon to kill")
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		v.t.Fatal(err)
	}
	for syscall.Kill(pid, 0) == nil {
		time.Sleep(5 * time.Millisecond)
	}
}

func (v *volume) check() {
	v.t.Helper()
	if out, err := v.scoutfs("check", "--no-progress", v.meta, v.data); err != nil {
		v.t.Errorf("check: %v\n%s", err, out)
	}
}

func (v *volume) cleanup() {
	if pid := v.pid(); pid != 0 {
		if out, err := v.scoutfs("umount", v.mnt); err != nil {
			v.t.Logf("umount at the end: %v %s", err, out)
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	_ = syscall.Unmount(v.mnt, syscall.MNT_DETACH)
	if v.t.Failed() {
		log := v.log()
		v.t.Logf("the daemon's log:\n%s", log[max(len(log)-8192, 0):])
	}
	if b := make([]byte, 4); formatted(v.meta, b) && !v.damaged {
		v.check()
	}
}

// formatted reports whether the file has a super block.
func formatted(path string, magic []byte) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	_, err = f.ReadAt(magic, 64<<10+4)
	return err == nil && bytes.Equal(magic, []byte{0x8b, 0x42, 0x3c, 0x10})
}

// sh runs a shell script in the mount.
func (v *volume) sh(script string) string {
	v.t.Helper()
	out, err := v.trySh(script)
	if err != nil {
		v.t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return out
}

func (v *volume) trySh(script string) (string, error) {
	return command(5*time.Minute, "bash", "-euc", "cd "+v.mnt+"; "+script)
}
