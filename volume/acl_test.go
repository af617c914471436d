// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package volume

import (
	"errors"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// aclOf builds an ACL from (tag, perm, id) triples.
func aclOf(v ...uint32) acl {
	var a acl
	for i := 0; i < len(v); i += 3 {
		a = append(a, aclEntry{uint16(v[i]), uint16(v[i+1]), v[i+2]})
	}
	return a
}

var (
	plainACL = aclOf(aclUserObj, 7, aclNoID, aclGroupObj, 5, aclNoID, aclOther, 1, aclNoID)
	fullACL  = aclOf(aclUserObj, 7, aclNoID, aclUser, 6, 1000, aclGroupObj, 5, aclNoID, aclGroup, 7, 50, aclMask, 6, aclNoID, aclOther, 4, aclNoID)
	sameACL  = cmp.AllowUnexported(aclEntry{})
)

func TestACLValid(t *testing.T) {
	for _, tc := range []struct {
		name string
		a    acl
		ok   bool
	}{
		{"plain", plainACL, true},
		{"full", fullACL, true},
		{"mask without names", aclOf(aclUserObj, 7, 0, aclGroupObj, 5, 0, aclMask, 7, 0, aclOther, 1, 0), true},
		{"empty", nil, false},
		{"no other", plainACL[:2], false},
		{"wrong order", aclOf(aclGroupObj, 5, 0, aclUserObj, 7, 0, aclOther, 1, 0), false},
		{"name without mask", aclOf(aclUserObj, 7, 0, aclUser, 7, 5, aclGroupObj, 5, 0, aclOther, 1, 0), false},
		{"name without id", aclOf(aclUserObj, 7, 0, aclUser, 7, aclNoID, aclGroupObj, 5, 0, aclMask, 7, 0, aclOther, 1, 0), false},
		{"permission", aclOf(aclUserObj, 8, 0, aclGroupObj, 5, 0, aclOther, 1, 0), false},
		{"unknown tag", aclOf(aclUserObj, 7, 0, aclGroupObj, 5, 0, 0x40, 1, 0, aclOther, 1, 0), false},
		{"twice", append(append(acl{}, plainACL...), plainACL...), false},
	} {
		if got := tc.a.valid(); got != tc.ok {
			t.Errorf("%s: valid %v", tc.name, got)
		}
	}
}

func TestACLCodec(t *testing.T) {
	a, err := parseACL(fullACL.bytes())
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(fullACL, a, sameACL); d != "" {
		t.Error(d)
	}
	if a, err := parseACL([]byte{2, 0, 0, 0}); a != nil || err != nil {
		t.Errorf("header alone: %v, %v", a, err)
	}
	if _, err := parseACL([]byte{3, 0, 0, 0}); !errors.Is(err, syscall.EOPNOTSUPP) {
		t.Errorf("version 3: %v", err)
	}
	for _, n := range []int{1, 3, 5, 11} {
		if _, err := parseACL(fullACL.bytes()[:n]); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

func TestACLModes(t *testing.T) {
	for _, tc := range []struct {
		a    acl
		mode uint32
		same bool
	}{{plainACL, 0o751, true}, {fullACL, 0o764, false}} {
		if mode, same := tc.a.mode(); mode != tc.mode || same != tc.same {
			t.Errorf("mode %o %v, want %o %v", mode, same, tc.mode, tc.same)
		}
	}
	for _, tc := range []struct {
		a          acl
		mode, want uint32
		same       bool
		then       acl
	}{
		{plainACL, 0o666, 0o640, true, aclOf(aclUserObj, 6, aclNoID, aclGroupObj, 4, aclNoID, aclOther, 0, aclNoID)},
		{fullACL, 0o640, 0o640, false, aclOf(aclUserObj, 6, aclNoID, aclUser, 6, 1000, aclGroupObj, 5, aclNoID, aclGroup, 7, 50, aclMask, 4, aclNoID, aclOther, 0, aclNoID)},
	} {
		a := append(acl(nil), tc.a...)
		mode, same := a.create(tc.mode)
		if mode != tc.want || same != tc.same {
			t.Errorf("create with %o: mode %o %v, want %o %v", tc.mode, mode, same, tc.want, tc.same)
		}
		if d := cmp.Diff(tc.then, a, sameACL); d != "" {
			t.Errorf("create with %o:\n%s", tc.mode, d)
		}
	}
	a := append(acl(nil), fullACL...)
	a.chmod(0o521)
	want := aclOf(aclUserObj, 5, aclNoID, aclUser, 6, 1000, aclGroupObj, 5, aclNoID, aclGroup, 7, 50, aclMask, 2, aclNoID, aclOther, 1, aclNoID)
	if d := cmp.Diff(want, a, sameACL); d != "" {
		t.Error(d)
	}
}

func FuzzACL(f *testing.F) {
	f.Add(fullACL.bytes())
	f.Add([]byte{2, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := parseACL(b)
		if err != nil || !a.valid() {
			return
		}
		again, err := parseACL(a.bytes())
		if err != nil || !again.valid() {
			t.Fatalf("%x does not survive: %v", b, err)
		}
		mode, _ := a.mode()
		a.chmod(mode)
		if got, _ := a.mode(); got != mode {
			t.Errorf("mode %o after chmod to %o", got, mode)
		}
		if got, _ := a.create(0o777); got&^0o777 != 0 {
			t.Errorf("create gives mode %o", got)
		}
	})
}
