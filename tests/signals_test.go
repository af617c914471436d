// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

//go:build system

package tests

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// While a commit takes long, signals that a program handles do not end its
// system calls, and a program that is killed ends at once.
func TestSignalsWhileWaiting(t *testing.T) {
	v := newVolume(t)
	v.damaged = true // the files change below it
	r := newRecorder(t, [2]string{v.meta, v.data})
	v.meta, v.data = r.path(0), r.path(1)
	t.Cleanup(v.cleanup) // before the recorder goes
	v.mount()
	v.sh("echo a > f; mkdir one two")
	r.stall.Lock()
	results := make(chan error, 2)
	go func() { results <- fsync(filepath.Join(v.mnt, "f")) }()
	time.Sleep(300 * time.Millisecond) // the commit has begun
	go func() { results <- unix.Mkdir(filepath.Join(v.mnt, "one/d"), 0o755) }()
	killed := exec.Command("mkdir", filepath.Join(v.mnt, "two/k"))
	if err := killed.Start(); err != nil {
		t.Fatal(err)
	}
	for range 500 {
		_ = unix.Kill(os.Getpid(), unix.SIGURG)
		time.Sleep(time.Millisecond)
	}
	_ = killed.Process.Signal(unix.SIGTERM)
	end := time.AfterFunc(time.Minute, func() {
		t.Error("a process that was killed still waits for a commit")
		r.stall.Unlock()
	})
	_ = killed.Wait()
	if end.Stop() {
		r.stall.Unlock()
	}
	for range 2 {
		if err := <-results; err != nil {
			t.Errorf("a call that was interrupted: %v", err)
		}
	}
	v.umount()
}
