// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package format_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"scoutfs/format"
)

func TestParseTags(t *testing.T) {
	const hide, indx, srch, totl = format.TagHide, format.TagIndx, format.TagSrch, format.TagTotl
	for _, v := range []struct {
		name string
		want format.Tags
		ok   bool
	}{
		{"user.test", 0, true},
		{"user.hide.srch.name", 0, true},
		{"scoutfs.", 0, true},
		{"scoutfs.short", 0, true}, // 13 bytes: not parsed
		{"scoutfs.hide.", 0, true}, // the same
		{"scoutfs.hide.x", hide, true},
		{"scoutfs.longer", 0, false}, // 14 bytes: needs a tag
		{"scoutfs.x.hide.a", 0, false},
		{"scoutfs.hid.eeeeeee", 0, false},
		{"scoutfs.srch.tag", srch, true},
		{"scoutfs.indx.k1.1.10", indx, true},
		{"scoutfs.totl.1.2.3", totl, true},
		{"scoutfs.hide.srch.totl.combo.1.2.3", hide | srch | totl, true},
		{"scoutfs.totl.srch.hide.combo.1.2.3", hide | srch | totl, true},
		{"scoutfs.srch.indx.a.1.2", srch | indx, true},
		{"scoutfs.hide.hide.x", hide, true},
		{"scoutfs.hide.name.srch.", hide, true}, // parsing stops at the first other word
		{"scoutfs.hide.srch.", 0, false},        // no name
		{"scoutfs.totl.indx.1.2.3", 0, false},
		{"scoutfs.indx.totl.1.2.3", 0, false},
		{"scoutfs.hide.srch", hide, true}, // "srch" without a dot is the name
		{"scoutfs.HIDE.name", 0, false},
		{"scoutfs." + strings.Repeat("srch.", 49) + "x", srch, true},
	} {
		if got, ok := format.ParseTags(v.name); got != v.want || ok != v.ok {
			t.Errorf("%s: %04b %v, want %04b %v", v.name, got, ok, v.want, v.ok)
		}
	}
}

func TestParseNumber(t *testing.T) {
	for s, want := range map[string]uint64{
		"0": 0, "1": 1, "00": 0, "010": 8, "0x10": 16, "0X1f": 31, "0xDeadBeef": 0xdeadbeef, "18446744073709551615": format.MaxKeyU64,
		"01777777777777777777777": format.MaxKeyU64, "0xffffffffffffffff": format.MaxKeyU64, "0x0000000000000000000ff": 255,
	} {
		if got, ok := format.ParseNumber(s); !ok || got != want {
			t.Errorf("%s: %d %v, want %d", s, got, ok, want)
		}
	}
	for _, s := range []string{"", "-1", "+1", " 1", "1 ", "1\n", "0x", "08", "1a", "0xg", "1_0", "18446744073709551616",
		"0x10000000000000000", "02000000000000000000000", "000000000000000000000001", "b101", "1.0"} {
		if got, ok := format.ParseNumber(s); ok {
			t.Errorf("%q: %d", s, got)
		}
	}
}

// FuzzParseNumber compares with strconv where the syntax agrees.
func FuzzParseNumber(f *testing.F) {
	f.Add("0x12")
	f.Add("077")
	f.Add("99999999999999999999")
	f.Fuzz(func(t *testing.T, s string) {
		got, ok := format.ParseNumber(s)
		want, err := strconv.ParseUint(s, 0, 64)
		wantOK := err == nil && len(s) <= 23 && !strings.ContainsAny(s, "_bBoO") || isHex(s) && err == nil && len(s) <= 23
		if ok != wantOK || ok && got != want {
			t.Fatalf("%q: %d %v, want %d %v", s, got, ok, want, wantOK)
		}
	})
}

// isHex is about the "b" that is a hexadecimal digit.
func isHex(s string) bool {
	return len(s) > 2 && (strings.HasPrefix(s, "0x") || strings.HasPrefix(s, "0X")) && !strings.Contains(s, "_")
}

func TestParseTotlName(t *testing.T) {
	for name, want := range map[string][3]uint64{
		"scoutfs.totl.1.2.3":                        {1, 2, 3},
		"scoutfs.hide.totl.acct.1.0x7.9":            {1, 7, 9},
		"scoutfs.totl.4.1.2.3":                      {1, 2, 3},
		"scoutfs.totl.x.010.0.18446744073709551615": {8, 0, format.MaxKeyU64},
	} {
		if got, ok := format.ParseTotlName(name); !ok || got != want {
			t.Errorf("%s: %v %v", name, got, ok)
		}
	}
	for _, name := range []string{"", "1.2.3", "scoutfs.totl.2.3", "scoutfs.totl.a.2.3", "scoutfs.totl.1.2.3.", "scoutfs.totl.1..3", "scoutfs.totl.1.2.3\n"} {
		if got, ok := format.ParseTotlName(name); ok {
			t.Errorf("%q: %v", name, got)
		}
	}
}

func TestParseIndxName(t *testing.T) {
	for name, want := range map[string]string{
		"scoutfs.indx.1.2":                      "1.2",
		"scoutfs.hide.indx.k1.1.10":             "1.10",
		"scoutfs.indx.255.18446744073709551615": "255.18446744073709551615",
		"scoutfs.indx.7.0xff.0x10":              "255.16",
	} {
		if major, minor, ok := format.ParseIndxName(name); !ok || fmt.Sprintf("%d.%d", major, minor) != want {
			t.Errorf("%s: %d.%d %v", name, major, minor, ok)
		}
	}
	for _, name := range []string{"", "1.2", "scoutfs.indx.2", "scoutfs.indx.256.1", "scoutfs.indx.1.2.", "scoutfs.indx.1.x", "scoutfs.indx.-1.2"} {
		if major, minor, ok := format.ParseIndxName(name); ok {
			t.Errorf("%q: %d.%d", name, major, minor)
		}
	}
}

func TestTagsDoNotAllocate(t *testing.T) {
	if n := testing.AllocsPerRun(100, func() {
		if _, ok := format.ParseTags("scoutfs.hide.totl.acct.1.2.3"); !ok {
			t.Fatal("tags")
		}
		if _, ok := format.ParseTotlName("scoutfs.hide.totl.acct.1.2.3"); !ok {
			t.Fatal("totl")
		}
		if _, _, ok := format.ParseIndxName("scoutfs.indx.1.2"); !ok {
			t.Fatal("indx")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
