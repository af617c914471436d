// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package format_test

import (
	"testing"

	"scoutfs/format"
)

func TestQuotaValid(t *testing.T) {
	sel := func(s0, s1 uint8, v0, v1 uint64) format.QuotaRule {
		return format.QuotaRule{NameVal: [3]uint64{v0, v1}, NameSource: [3]uint8{s0, s1}, NameFlags: [3]uint8{1, 1}}
	}
	for _, v := range []struct {
		rule format.QuotaRule
		ok   bool
	}{
		{format.QuotaRule{}, true},
		{format.QuotaRule{Op: format.QuotaOpData, RuleFlags: format.QuotaCount, Prio: 255}, true},
		{format.QuotaRule{Op: 2}, false},
		{format.QuotaRule{RuleFlags: 2}, false},
		{format.QuotaRule{NameFlags: [3]uint8{2}}, false},
		{format.QuotaRule{NameSource: [3]uint8{4}}, true}, // behaves as a literal
		{format.QuotaRule{NameSource: [3]uint8{4}, NameFlags: [3]uint8{1}}, false},
		{format.QuotaRule{NameFlags: [3]uint8{1}}, false}, // a literal cannot select
		{sel(format.QuotaUID, format.QuotaGID, 1, 2), true},
		{sel(format.QuotaUID, format.QuotaUID, 1, 1), true},
		{sel(format.QuotaUID, format.QuotaUID, 1, 2), false},
	} {
		if got := v.rule.Valid(); got != v.ok {
			t.Errorf("%+v: %v", v.rule, got)
		}
	}
}

// TestQuotaOrder has rules that ascend by one field after the other.
func TestQuotaOrder(t *testing.T) {
	rules := []format.QuotaRule{
		{},
		{RuleFlags: 1},
		{Limit: 1},
		{Op: 1},
		{NameFlags: [3]uint8{0, 0, 1}},
		{NameSource: [3]uint8{0, 0, 1}},
		{NameVal: [3]uint64{0, 0, 1}},
		{NameFlags: [3]uint8{0, 1}},
		{NameSource: [3]uint8{0, 1}},
		{NameVal: [3]uint64{0, 1}},
		{NameFlags: [3]uint8{1}},
		{NameSource: [3]uint8{1}},
		{NameVal: [3]uint64{1}},
		{NameVal: [3]uint64{format.MaxKeyU64}},
		{Prio: 1},
		{Prio: 255},
	}
	for i := range rules {
		for j := range rules {
			want := 0
			if i < j {
				want = -1
			} else if i > j {
				want = 1
			}
			if got := rules[i].Compare(&rules[j]); got != want {
				t.Errorf("rule %d compared with %d: %d", i, j, got)
			}
		}
	}
}
