// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package fusefs

import (
	"os"
	"strconv"
	"strings"

	"scoutfs/volume"
)

// dying reports whether nobody will see the reply to an interrupted request:
// its thread is being killed, or the connection is over. The kernel sends one
// INTERRUPT for the first signal of any kind, and none when the thread is killed
// later.
func (f *FS) dying(c *volume.Caller) bool {
	return f.opts.Kernel.ended() || c.PID == 0 || killed(int(c.PID))
}

// ended reports whether the connection is over.
func (k *Kernel) ended() bool {
	if k == nil {
		return false
	}
	c := k.conn.Load()
	return c != nil && c.Ended()
}

// killed reports whether a thread is gone or will never return to its program:
// SIGKILL is pending, which the kernel makes of signals that end a program without a
// core dump.
func killed(tid int) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(tid) + "/status")
	if err != nil {
		return true
	}
	for line := range strings.Lines(string(b)) {
		name, val, _ := strings.Cut(line, ":")
		val = strings.TrimSpace(val)
		switch name {
		case "State":
			if val[:min(1, len(val))] == "Z" || val[:min(1, len(val))] == "X" {
				return true
			}
		case "SigPnd", "ShdPnd":
			const sigkill = 1 << (9 - 1)
			if set, err := strconv.ParseUint(val, 16, 64); err == nil && set&sigkill != 0 {
				return true
			}
		}
	}
	return false
}
