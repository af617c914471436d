// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package check_test

import (
	"testing"

	"scoutfs/check/checktest"
)

func TestNewVolumes(t *testing.T) {
	for _, version := range []uint64{1, 2} {
		v := newVol(t, version)
		checktest.Verify(t, v.meta, v.data)
		if r := v.run(); r.Inodes != 1 || r.Items != 2 || r.MetaUsed != 7 {
			t.Errorf("version %d: %+v", version, r)
		}
	}
}

func TestRichVolumes(t *testing.T) {
	for _, version := range []uint64{1, 2} {
		v := rich(t, version)
		checktest.Verify(t, v.meta, v.data)
		if r := v.run(); r.Inodes != 1506 || r.Doubtful != 0 {
			t.Errorf("version %d: %+v", version, r)
		}
	}
}

func TestRunningMerge(t *testing.T) {
	v := rich(t, 2)
	startMerge(v)
	checktest.Verify(t, v.meta, v.data)
}
