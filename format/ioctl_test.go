// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package format_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"scoutfs/format"
)

// TestIoctlNumbers checks the parts of every number and the size of its
// argument's type.
func TestIoctlNumbers(t *testing.T) {
	sizes := map[format.IoctlNr]int{
		format.IocWalkInodes:          format.Size[format.IocWalkInodesArgs](),
		format.IocInoPath:             format.Size[format.IocInoPathArgs](),
		format.IocRelease:             format.Size[format.IocReleaseArgs](),
		format.IocStage:               format.Size[format.IocStageArgs](),
		format.IocStatMore:            format.Size[format.IocStatMoreResult](),
		format.IocDataWaiting:         format.Size[format.IocDataWaitingArgs](),
		format.IocSetattrMore:         format.Size[format.IocSetattrMoreArgs](),
		format.IocListxattrHidden:     format.Size[format.IocListxattrHiddenArgs](),
		format.IocSearchXattrs:        format.Size[format.IocSearchXattrsArgs](),
		format.IocStatfsMore:          format.Size[format.IocStatfsMoreResult](),
		format.IocDataWaitErr:         format.Size[format.IocDataWaitErrArgs](),
		format.IocAllocDetail:         format.Size[format.IocAllocDetailArgs](),
		format.IocMoveBlocks:          format.Size[format.IocMoveBlocksArgs](),
		format.IocResizeDevices:       format.Size[format.NetResize](),
		format.IocReadXattrTotals:     format.Size[format.IocReadXattrTotalsArgs](),
		format.IocGetAllocatedInos:    format.Size[format.IocGetAllocatedInosArgs](),
		format.IocGetReferringEntries: format.Size[format.IocGetReferringArgs](),
		format.IocGetAttrX:            format.Size[format.IocAttrX](),
		format.IocSetAttrX:            format.Size[format.IocAttrX](),
		format.IocGetQuotaRules:       format.Size[format.IocGetQuotaRulesArgs](),
		format.IocAddQuotaRule:        format.Size[format.QuotaRule](),
		format.IocDelQuotaRule:        format.Size[format.QuotaRule](),
		format.IocReadXattrIndex:      format.Size[format.IocReadXattrIndexArgs](),
		format.IocPunchOffline:        format.Size[format.IocPunchOfflineArgs](),
		format.IocInjectTotlDelta:     format.Size[format.IocInjectTotlDeltaArgs](),
	}
	if len(format.Ioctls) != 25 || len(sizes) != 25 {
		t.Fatalf("%d ioctls, %d sizes", len(format.Ioctls), len(sizes))
	}
	for i, info := range format.Ioctls {
		if int(info.Nr&0xff) != i+1 || info.Nr>>8&0xff != 0xe8 || info.Nr.Size() != sizes[info.Nr] || !info.In && !info.Out {
			t.Errorf("%+v: argument of %d bytes, type of %d", info, info.Nr.Size(), sizes[info.Nr])
		}
	}
}

func TestReferringEntry(t *testing.T) {
	var b []byte
	var want []format.ReferringEntry
	for i, name := range []string{"x", "0123456789", strings.Repeat("n", 255)} {
		e := format.ReferringEntry{DirIno: 1, DirPos: uint64(i), Ino: 9, DType: 8, Last: i == 2, Name: []byte(name)}
		before := len(b)
		b = format.AppendReferringEntry(b, &e)
		if n := len(b) - before; n%16 != 0 || n != format.ReferringEntryBytes(len(name)) || n < 30+len(name) || n >= 46+len(name) {
			t.Errorf("%d bytes for a name of %d", n, len(name))
		}
		want = append(want, e)
	}
	var got []format.ReferringEntry
	for rest := b; len(rest) > 0; {
		e, r, ok := format.ParseReferringEntry(rest)
		if !ok {
			t.Fatal("an entry is refused")
		}
		got, rest = append(got, e), r
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// The declared layout is the oracle for what is appended field by field.
func TestReferringEntryLayout(t *testing.T) {
	for n := 1; n <= 255; n++ {
		e := format.ReferringEntry{DirIno: 5, DirPos: 7, Ino: 9, DType: 8, Name: make([]byte, n), Last: n == 255}
		b := format.AppendReferringEntry([]byte("prefix 8"), &e)[8:]
		h, _ := format.Load[format.IocReferringEntry](b)
		if h.DirIno != 5 || h.DirPos != 7 || h.Ino != 9 || h.DType != 8 {
			t.Fatalf("%+v", h)
		}
		if len(b)%16 != 0 || int(h.EntryBytes) != len(b) || int(h.NameLen) != n || b[29+n] != 0 || (h.Flags == 1) != e.Last {
			t.Fatalf("name of %d bytes: %+v in %d bytes", n, h, len(b))
		}
	}
}

func FuzzParseReferringEntry(f *testing.F) {
	f.Add(format.AppendReferringEntry(nil, &format.ReferringEntry{DirIno: 1, Name: []byte("name")}))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, rest, ok := format.ParseReferringEntry(b)
		if ok && (len(rest) >= len(b) || !bytes.Contains(b, e.Name)) {
			t.Fatalf("%+v", e)
		}
	})
}
