// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package fusefs

import (
	"os"
	"os/exec"
	"syscall"
	"testing"
)

func TestKilled(t *testing.T) {
	if killed(os.Getpid()) {
		t.Error("this process is killed")
	}
	c := exec.Command("sleep", "100")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	pid := c.Process.Pid
	if killed(pid) {
		t.Error("a process that sleeps is killed")
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for !killed(pid) { // as soon as the signal is there, and as a zombie
	}
	_ = c.Wait()
	if !killed(pid) {
		t.Error("a process that is gone is not killed")
	}
}
