// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package volume_test

import (
	"fmt"
	"testing"

	"scoutfs/block"
	"scoutfs/internal/invariants"
	"scoutfs/volume"
)

// TestHotPathsDoNotAllocate guards what runs for every request of the kernel.
func TestHotPathsDoNotAllocate(t *testing.T) {
	if invariants.Enabled {
		return // checks allocate
	}
	m := one(t)
	v, c := m.v(), &volume.Caller{}
	f := must[volume.Attr](t)(v.Create(c, rootIno, "f", 0o600)).Ino
	m.write(t, f, 0, pattern(8192, 1))
	ok(t, v.Fsync(c, f))
	buf := block.AlignedBuf(4096)
	defer block.FreeBuf(buf)
	names := make([]string, 400)
	for i := range names {
		names[i] = fmt.Sprint("new", i)
	}
	next := 0
	for _, tc := range []struct {
		name string
		want float64
		fn   func() error
	}{
		{"getattr", 0, func() error { _, err := v.Getattr(c, f); return err }},
		{"lookup", 0, func() error { _, err := v.Lookup(c, rootIno, "f"); return err }},
		{"read", 0, func() error { _, err := v.Read(c, f, 0, buf); return err }},
		// The hold is one; the simulated disk makes a new sector for each write.
		{"write", 2, func() error { _, _, err := v.Write(c, f, 0, buf, 0); return err }},
		{"forget", 0, func() error { v.Forget(f, 1); return nil }},
		{"readdir", 0, func() error { return v.ReadDir(c, rootIno, 0, func(*volume.DirEntry) bool { return true }) }},
		{"create", 1, func() error { _, err := v.Create(c, rootIno, names[next], 0o600); next++; return err }},
		{"setattr", 1, func() error {
			_, err := v.Setattr(c, f, &volume.SetAttr{Valid: volume.SetMode, Mode: 0o600})
			return err
		}},
	} {
		got := testing.AllocsPerRun(100, func() {
			if err := tc.fn(); err != nil {
				t.Fatal(tc.name, err)
			}
		})
		t.Logf("%s: %v", tc.name, got)
		if got > tc.want {
			t.Errorf("%s allocates %v times", tc.name, got)
		}
	}
}
