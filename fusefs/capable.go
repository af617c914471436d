// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package fusefs

import (
	"os"
	"strconv"
	"strings"

	"scoutfs/volume"
)

// capable reports whether the thread that asks has a capability in the
// initial user namespace. FUSE hands over only user, group and thread id, so
// the rest is read from /proc. A caller that cannot be looked at has none.
func capable(c *volume.Caller, capability int) bool {
	dir := "/proc/" + strconv.Itoa(int(c.PID))
	if c.PID == 0 || !sameUserNamespace(dir) {
		return false
	}
	b, err := os.ReadFile(dir + "/status")
	if err != nil {
		return false
	}
	_, rest, ok := strings.Cut(string(b), "\nCapEff:")
	if !ok {
		return false
	}
	line, _, _ := strings.Cut(rest, "\n")
	caps, err := strconv.ParseUint(strings.TrimSpace(line), 16, 64)
	return err == nil && caps>>capability&1 != 0
}

func sameUserNamespace(dir string) bool {
	ours, err := os.Readlink("/proc/self/ns/user")
	if err != nil {
		return false
	}
	theirs, err := os.Readlink(dir + "/ns/user")
	return err == nil && ours == theirs
}
