// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package volume

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"scoutfs/format"
)

func windowOf(cur ...Extent) *window { return &window{to: format.MaxIblock + 1, cur: cur} }

func TestPreallocationPlan(t *testing.T) {
	contig := policy{blocks: 2048}
	regions := policy{blocks: 16, regions: true}
	un, off := uint8(format.ExtentUnwritten), uint8(format.ExtentOffline)
	for _, tc := range []struct {
		name  string
		p     policy
		w     *window
		b, on uint64
		want  request
	}{
		{"first block", contig, windowOf(), 0, 0, request{0, 1, un}},
		{"second block", contig, windowOf(Extent{0, 1, 100, 0}), 1, 1, request{1, 1, un}},
		{"streaming doubles", contig, windowOf(Extent{0, 2, 100, 0}), 2, 2, request{2, 2, un}},
		{"streaming doubles more", contig, windowOf(Extent{0, 64, 100, 0}), 64, 64, request{64, 64, un}},
		{"streaming is limited", contig, windowOf(Extent{0, 9000, 100, 0}), 9000, 9000, request{9000, 2048, un}},
		{"streaming stops at the next extent", contig, windowOf(Extent{0, 64, 100, 0}, Extent{70, 1, 900, 0}), 64, 64, request{64, 6, un}},
		{"random", contig, windowOf(Extent{0, 64, 100, 0}), 500, 64, request{500, 1, un}},
		{"staging wants the rest", contig, windowOf(Extent{0, 500, 0, off}), 10, 0, request{10, 490, un | off}},
		{"staging is limited", contig, windowOf(Extent{0, 5000, 0, off}), 10, 0, request{10, 2048, un | off}},
		{"empty region, small file", regions, windowOf(), 20, 0, request{16, 1, un}},
		{"empty region", regions, windowOf(Extent{0, 16, 100, 0}), 20, 16, request{16, 16, un}},
		{"empty region, few blocks", regions, windowOf(Extent{0, 3, 100, 0}), 20, 3, request{16, 3, un}},
		{"region with something before", regions, windowOf(Extent{0, 17, 100, 0}), 20, 17, request{20, 12, un}},
		{"region with something behind", regions, windowOf(Extent{0, 16, 100, 0}, Extent{25, 3, 500, 0}), 20, 19, request{16, 9, un}},
		{"region with both", regions, windowOf(Extent{0, 17, 100, 0}, Extent{25, 3, 500, 0}), 20, 20, request{20, 5, un}},
		{"region touched by the one before", regions, windowOf(Extent{0, 16, 100, 0}), 16, 16, request{16, 16, un}},
	} {
		got := tc.p.plan(tc.w, tc.b, tc.on)
		if d := cmp.Diff(tc.want, got, cmp.AllowUnexported(request{})); d != "" {
			t.Errorf("%s:\n%s", tc.name, d)
		}
	}
}

func TestPreallocationApply(t *testing.T) {
	un, off := uint8(format.ExtentUnwritten), uint8(format.ExtentOffline)
	for _, tc := range []struct {
		name string
		cur  []Extent
		r    request
		b, n uint64
		want []Extent
	}{
		{"one block", nil, request{5, 1, un}, 5, 1, []Extent{{5, 1, 900, 0}}},
		{"merges", []Extent{{0, 5, 895, 0}}, request{5, 4, un}, 5, 4, []Extent{{0, 6, 895, 0}, {6, 3, 901, un}}},
		{"short run is shifted", nil, request{16, 16, un}, 20, 3, []Extent{{18, 2, 900, un}, {20, 1, 902, 0}}},
		{"around", nil, request{16, 16, un}, 20, 16, []Extent{{16, 4, 900, un}, {20, 1, 904, 0}, {21, 11, 905, un}}},
		{"staging", []Extent{{0, 100, 0, off}}, request{10, 90, un | off}, 10, 5, []Extent{{0, 10, 0, off}, {10, 1, 900, 0}, {11, 4, 901, un | off}, {15, 85, 0, off}}},
	} {
		w := windowOf(tc.cur...)
		if err := tc.r.apply(w, tc.b, 900, tc.n); err != nil {
			t.Errorf("%s: %v", tc.name, err)
		}
		if d := cmp.Diff(tc.want, w.cur); d != "" {
			t.Errorf("%s:\n%s", tc.name, d)
		}
	}
}
