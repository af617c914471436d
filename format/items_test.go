// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package format_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"scoutfs/format"
)

func TestDirent(t *testing.T) {
	for _, name := range []string{"x", "name", strings.Repeat("n", 255)} {
		d := format.DirentHdr{Ino: 1024, Hash: format.NameHash(name), Pos: 2, Type: format.DirentReg}
		b := format.AppendDirent(nil, d, name)
		if len(b) != 32+len(name) {
			t.Errorf("%d bytes for a name of %d", len(b), len(name))
		}
		got, n, ok := format.ParseDirent(b)
		if !ok || got != d || string(n) != name {
			t.Errorf("%q: parsed %+v %q %v", name, got, n, ok)
		}
	}
	for _, n := range []int{0, 31, 32, 288} {
		if _, _, ok := format.ParseDirent(make([]byte, n)); ok {
			t.Errorf("%d bytes are accepted", n)
		}
	}
}

func FuzzParseDirent(f *testing.F) {
	f.Add(format.AppendDirent(nil, format.DirentHdr{Ino: 1, Type: 2}, "name"))
	f.Add(make([]byte, 32))
	f.Add(make([]byte, 288))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, name, ok := format.ParseDirent(b)
		if !ok {
			return
		}
		if len(name) < 1 || len(name) > format.MaxNameLen {
			t.Fatalf("name of %d bytes", len(name))
		}
		again := format.AppendDirent(nil, d, string(name))
		copy(again[25:32], b[25:32]) // padding
		if !bytes.Equal(again, b) {
			t.Fatalf("%x became %x", b, again)
		}
	})
}

func xattrPart0(name, val string) []byte {
	h := format.XattrHdr{ValLen: uint16(len(val)), NameLen: uint8(len(name))}
	b := append(bytes.Clone(format.Bytes(&h)), name+val...)
	return b[:min(len(b), format.MaxValue)]
}

func TestXattr(t *testing.T) {
	for _, v := range []struct{ name, val string }{
		{"user.a", ""}, {"user.a", "value"}, {"u", strings.Repeat("v", 887)}, {"u", strings.Repeat("v", 888)},
		{strings.Repeat("n", 255), strings.Repeat("v", 65535)},
	} {
		b := xattrPart0(v.name, v.val)
		h, name, val, ok := format.ParseXattr(b)
		if !ok || string(name) != v.name || !strings.HasPrefix(v.val, string(val)) || int(h.ValLen) != len(v.val) {
			t.Errorf("%d byte name, %d byte value: %+v %q %v", len(v.name), len(v.val), h, name, ok)
		}
		whole := format.XattrHdrSize + len(v.name) + len(v.val)
		if parts := format.XattrParts(len(v.name), len(v.val)); parts != (whole+895)/896 {
			t.Errorf("%d parts of %d bytes", parts, whole)
		}
		if _, _, _, ok := format.ParseXattr(b[:len(b)-1]); ok {
			t.Error("a part that is a byte short is accepted")
		}
		if _, _, _, ok := format.ParseXattr(append(b, 0)); ok {
			t.Error("a part with a byte too many is accepted")
		}
	}
	if n := format.XattrParts(255, 65535); n != 74 {
		t.Errorf("the greatest xattr has %d parts", n)
	}
	if n := format.XattrParts(1, 0); n != 1 {
		t.Errorf("the smallest xattr has %d parts", n)
	}
}

func FuzzParseXattr(f *testing.F) {
	f.Add(xattrPart0("user.a", "value"))
	f.Add(xattrPart0("user.a", strings.Repeat("v", 5000)))
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		h, name, val, ok := format.ParseXattr(b)
		if !ok {
			return
		}
		if len(name) != int(h.NameLen) || len(name) == 0 || len(val) > int(h.ValLen) || len(b) > format.MaxValue {
			t.Fatalf("%+v: name of %d, value of %d bytes", h, len(name), len(val))
		}
		if len(val) < int(h.ValLen) && len(b) != format.MaxValue {
			t.Fatalf("%+v: value cut in a part of %d bytes", h, len(b))
		}
	})
}

func TestLoadInode(t *testing.T) {
	in := format.Inode{Size: 1, Nlink: 2, Mode: 0o040755, Proj: 77, Crtime: format.Timespec{Sec: 3, Nsec: 4}}
	b := format.Bytes(&in)
	for _, v := range []struct {
		n    int
		vers uint64
		ok   bool
	}{{160, 1, true}, {168, 1, false}, {160, 2, true}, {168, 2, true}, {0, 2, false}, {159, 2, false}, {161, 2, false}, {167, 2, false}} {
		got, ok := format.LoadInode(b[:v.n], v.vers)
		if ok != v.ok {
			t.Errorf("%d bytes in version %d: %v", v.n, v.vers, ok)
		}
		want := in
		if v.n == 160 {
			want.Proj = 0
		}
		if ok && got != want {
			t.Errorf("%d bytes: %+v", v.n, got)
		}
	}
	if format.InodeSize(1) != 160 || format.InodeSize(2) != 168 {
		t.Error("InodeSize")
	}
}

func FuzzLoadInode(f *testing.F) {
	f.Add(make([]byte, 160), uint64(1))
	f.Add(make([]byte, 168), uint64(2))
	f.Fuzz(func(t *testing.T, b []byte, vers uint64) {
		in, ok := format.LoadInode(b, vers)
		if ok && !bytes.HasPrefix(format.Bytes(&in), b) {
			t.Fatalf("%x became %+v", b, in)
		}
	})
}

func TestDirentTypes(t *testing.T) {
	for mode, want := range map[uint32][2]uint8{
		0o010644: {format.DirentFifo, 1}, 0o020644: {format.DirentChr, 2}, 0o040755: {format.DirentDir, 4},
		0o060644: {format.DirentBlk, 6}, 0o100644: {format.DirentReg, 8}, 0o120777: {format.DirentLnk, 10}, 0o140644: {format.DirentSock, 12},
	} {
		typ := format.DirentType(mode)
		if typ != want[0] || format.DirentDT(typ) != want[1] {
			t.Errorf("mode %o: type %d, DT %d", mode, typ, format.DirentDT(typ))
		}
	}
	if format.DirentDT(7) != 0 || format.DirentDT(255) != 0 {
		t.Error("unknown types have a DT value")
	}
}

func TestParsersDoNotAllocate(t *testing.T) {
	inode := make([]byte, format.InodeSizeV2)
	dirent := format.AppendDirent(nil, format.DirentHdr{Ino: 1}, "some name")
	xattr := xattrPart0("user.name", "value")
	buf := make([]byte, 0, 512)
	var n uint64
	if got := testing.AllocsPerRun(100, func() {
		in, _ := format.LoadInode(inode, 2)
		d, name, _ := format.ParseDirent(dirent)
		h, _, _, _ := format.ParseXattr(xattr)
		buf = format.AppendDirent(buf[:0], d, "another name")
		n += in.Size + uint64(len(name)) + uint64(h.ValLen) + format.NameHash("name") + uint64(format.Checksum(inode)) +
			uint64(format.XattrNameHash("user.name")) + uint64(format.TimespecOf(time.Unix(1, 2)).Nsec)
	}); got != 0 {
		t.Errorf("%v allocations", got)
	}
}
