// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

// Package checktest lets tests check the volumes that they made. Only tests may
// import it. It keeps no state and takes no lock.
package checktest

import (
	"testing"

	"scoutfs/block"
	"scoutfs/check"
)

// maxShown is how many findings a failed test prints.
const maxShown = 40

// Verify checks a volume that nobody uses any more and fails the test with the
// findings unless it is clean: no error, no warning and no leak, not even of the
// blocks that merges of the original leave behind. Other known oddities pass. It
// blocks until everything was read. The devices stay the caller's.
func Verify(t testing.TB, meta, data block.Device) {
	t.Helper()
	verify(t, meta, data, unclean)
}

func unclean(f check.Finding) bool { return f.Severity != check.Oddity || f.Rule == 17 }

// VerifyCrashed is Verify for a volume whose mounts or server died at any moment:
// log trees whose mount the server does not know (rule 23) pass as well.
func VerifyCrashed(t testing.TB, meta, data block.Device) {
	t.Helper()
	verify(t, meta, data, func(f check.Finding) bool { return unclean(f) && f.Rule != 23 })
}

// VerifyErrors is Verify that lets warnings and leaks pass.
func VerifyErrors(t testing.TB, meta, data block.Device) {
	t.Helper()
	verify(t, meta, data, func(f check.Finding) bool { return f.Severity == check.Error })
}

func verify(t testing.TB, meta, data block.Device, bad func(check.Finding) bool) {
	t.Helper()
	r, err := check.Run(t.Context(), meta, data, check.Options{})
	if err != nil {
		t.Errorf("the volume cannot be checked: %v", err)
		return
	}
	shown := 0
	for _, f := range r.Findings {
		if !bad(f) {
			continue
		}
		if shown++; shown > maxShown {
			t.Errorf("check: and more: %+v", r.Counts)
			return
		}
		t.Errorf("check: %v", f)
	}
}
