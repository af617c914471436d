// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package txn_test

import (
	"testing"

	"scoutfs/check"
)

// structure is how many of the checker's rules hold for any items.
const structure = 24

// others are those among them that do not: quorum blocks of running mounts,
// lengths of items, and the mounts that the server knows.
var others = map[int]bool{5: true, 13: true, 23: true}

// checkVolume runs the offline checker.
func checkVolume(t testing.TB, d disks) {
	t.Helper()
	r, err := check.Run(ctx, d.meta, d.data, check.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range r.Findings {
		if f.Rule <= structure && f.Severity != check.Oddity && !others[f.Rule] {
			t.Errorf("check: %v", f)
		}
	}
}
