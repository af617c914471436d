// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

//go:build system

package tests

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// script is what one of several processes does: an actor of its own, and now
// and then something in a directory that all share.
type script struct {
	dir   string
	seed  uint64
	steps int
	plain bool
}

const (
	scriptEnv  = "SCOUTFS_TEST_SCRIPT"
	recordSize = 64 // of the log that all append to
	shareEvery = 5  // actions
)

// A process that was started for a script runs it instead of the tests.
func init() {
	s := os.Getenv(scriptEnv)
	if s == "" {
		return
	}
	var c script
	if _, err := fmt.Sscanf(s, "%d %d %t %s", &c.seed, &c.steps, &c.plain, &c.dir); err != nil {
		fmt.Println(err)
		os.Exit(2)
	}
	if err := c.run(); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	os.Exit(0)
}

func (c *script) actor() *actor {
	a := newActor(c.dir, c.seed, nil)
	a.plain = c.plain
	return a
}

func (c *script) run() error {
	a := c.actor()
	if err := a.start(); err != nil {
		return err
	}
	won := 0
	for i := range c.steps {
		if err := a.step(); err != nil {
			return fmt.Errorf("action %d: %w\n  %s", i, err, a.lastTexts(len(a.texts)-1))
		}
		a.trim()
		if i%shareEvery == 0 {
			n, err := c.share(i / shareEvery)
			if err != nil {
				return fmt.Errorf("in the shared directory: %w", err)
			}
			won += n
		}
	}
	fmt.Printf("won %d\n", won)
	return a.verify(a.acked, a.acked, false)
}

// share appends to the common log and tries to be the first to make a
// directory. It returns 1 if it was.
func (c *script) share(i int) (won int, err error) {
	shared := filepath.Join(filepath.Dir(c.dir), "shared")
	record := fmt.Appendf(nil, "%s %d", filepath.Base(c.dir), i)
	record = append(record, bytes.Repeat([]byte{' '}, recordSize-1-len(record))...)
	err = withFile(filepath.Join(shared, "log"), unix.O_WRONLY|unix.O_APPEND|unix.O_CREAT, func(fd int) error {
		n, err := unix.Write(fd, append(record, '\n'))
		if err == nil && n != recordSize {
			err = fmt.Errorf("appended %d bytes", n)
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	err = unix.Mkdir(filepath.Join(shared, fmt.Sprint("token", i)), 0o755)
	if errors.Is(err, syscall.EEXIST) {
		return 0, nil
	}
	return 1, err
}

// again verifies without doing anything: the model runs once more from the seed.
func (c *script) again() error {
	a := c.actor()
	a.dry = true
	for range c.steps {
		if err := a.step(); err != nil {
			return err
		}
		a.trim()
	}
	return a.verify(a.acked, a.acked, false)
}

// runScripts runs processes and verifies what they share.
func runScripts(t *testing.T, top string, scripts []script) {
	t.Helper()
	if err := os.Mkdir(filepath.Join(top, "shared"), 0o755); err != nil {
		t.Fatal(err)
	}
	outs := make([]bytes.Buffer, len(scripts))
	cmds := make([]*exec.Cmd, len(scripts))
	for i, c := range scripts {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d %d %t %s", scriptEnv, c.seed, c.steps, c.plain, c.dir))
		cmd.Stdout, cmd.Stderr = &outs[i], &outs[i]
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		cmds[i] = cmd
	}
	stop := make(chan struct{})
	defer close(stop)
	go signalLoop(cmds, stop)
	timer := time.AfterFunc(10*time.Minute, func() {
		for _, c := range cmds {
			_ = c.Process.Kill()
		}
	})
	defer timer.Stop()
	won := 0
	for i, c := range cmds {
		if err := c.Wait(); err != nil {
			t.Errorf("seed %d, %d actions: %v\n%s", scripts[i].seed, scripts[i].steps, err, outs[i].String())
		}
		var n int
		_, _ = fmt.Sscanf(outs[i].String(), "won %d", &n)
		won += n
	}
	if want := (scripts[0].steps + shareEvery - 1) / shareEvery; won != want && !t.Failed() {
		t.Errorf("%d directories were made by somebody, should be %d", won, want)
	}
	verifyLog(t, top, scripts)
}

// signalLoop sends signals that the processes handle, as timers and children
// do: no call may end early because of them.
func signalLoop(cmds []*exec.Cmd, stop <-chan struct{}) {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		for _, c := range cmds {
			_ = c.Process.Signal(unix.SIGURG)
		}
	}
}

// verifyLog makes sure that each process's records are all there, whole and in order.
func verifyLog(t *testing.T, top string, scripts []script) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(top, "shared", "log"))
	if err != nil {
		t.Fatal(err)
	}
	next := map[string]int{}
	for at := 0; at < len(b); at += recordSize {
		var name string
		var i int
		rec := string(b[at:min(at+recordSize, len(b))])
		if _, err := fmt.Sscanf(rec, "%s %d", &name, &i); err != nil || !strings.HasSuffix(rec, "\n") || i != next[name] {
			t.Fatalf("record at %d is %q, expected number %d", at, rec, next[name])
		}
		next[name]++
	}
	for _, c := range scripts {
		if n, want := next[filepath.Base(c.dir)], (c.steps+shareEvery-1)/shareEvery; n != want {
			t.Errorf("%s has %d records, should have %d", c.dir, n, want)
		}
	}
}

// TestProcesses runs random system calls in several processes, compares
// with the model, and again after the next mount.
func TestProcesses(t *testing.T) {
	seed, _ := seeded(t)
	steps := 300 * rounds(t)
	t.Run("model", func(t *testing.T) { // the model itself, on a file system of the kernel
		top, err := os.MkdirTemp("/dev/shm", "scoutfs-test")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(top)
		runScripts(t, top, []script{{dir: filepath.Join(top, "p0"), seed: seed, steps: 1000, plain: true}})
	})
	v := newVolume(t).mount()
	var scripts []script
	for i := range 4 {
		scripts = append(scripts, script{dir: filepath.Join(v.mnt, fmt.Sprint("p", i)), seed: seed + uint64(i), steps: steps})
	}
	runScripts(t, v.mnt, scripts)
	for _, how := range []string{"umount", "kill"} {
		v.sh("sync .")
		if how == "kill" {
			v.kill()
		} else {
			v.umount()
		}
		v.check()
		v.mount()
		for _, c := range scripts {
			if err := c.again(); err != nil {
				t.Errorf("after %s and mount: %v", how, err)
			}
		}
		verifyLog(t, v.mnt, scripts)
	}
	t.Logf("campaign: processes against the model: seed %d, 4 processes, %d actions each", seed, steps)
}
