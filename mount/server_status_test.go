// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package mount_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"scoutfs/mount"
)

// TestServerStatus looks at what the leader's mount shows of its server.
func TestServerStatus(t *testing.T) {
	v := newVol(t, 1)
	a := v.open(v.options(0))
	b := v.open(v.options(mount.NoSlot))
	read := func(m *mount.Mount, path string) string {
		t.Helper()
		text, err := m.Status().Find(path).Read()
		must(t, err)
		return string(text)
	}
	// a's client and its server's two connections; b has only its client.
	for m, want := range map[*mount.Mount]int{a: 3, b: 1} {
		if text := read(m, "debugfs/connections"); strings.Count(text, "\n") != want {
			t.Errorf("want %d connections, have:\n%s", want, text)
		}
		read(m, "debugfs/messages")
	}
	before := a.Counters()
	if before["server_commit_hold"] == 0 || before["server_commit_queue"] == 0 || before["server_commit_worker"] == 0 {
		t.Errorf("commits are not counted: %v", before)
	}
	if n := b.Counters()["server_commit_worker"]; n != 0 {
		t.Errorf("a mount without a server counts %d commits", n)
	}
	b.Abort()
	v.close(a)
	after := a.Counters()
	if after["reclaimed_open_logs"] <= before["reclaimed_open_logs"] || after["server_commit_worker"] <= before["server_commit_worker"] {
		t.Errorf("counters before %v, after the end %v", before, after)
	}
}

// TestAllDie ends the leader and another mount without a farewell. The next
// leader knows that both are dead and does not wait for them to come back.
func TestAllDie(t *testing.T) {
	v := newVol(t, 1)
	a := v.open(v.options(0))
	b := v.open(v.options(mount.NoSlot))
	mkfile(t, b, "from b")
	must(t, b.Volume().Fsync(&root, 1))
	a.Abort()
	b.Abort()
	c := v.open(v.options(0))
	if d := cmp.Diff([]string{"from b"}, names(t, c)); d != "" {
		t.Error(d)
	}
	if n := c.Counters()["reclaimed_open_logs"]; n != 2 {
		t.Errorf("%d log trees were reclaimed", n)
	}
	v.close(c)
}
