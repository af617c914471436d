// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"scoutfs/format"
)

// memory is n bytes at the address that an ioctl's argument carries. Inlined,
// it breaks the compiler of Go 1.26.
//
//go:noinline
func memory(ptr uint64, n int) []byte {
	return unsafe.Slice(*(**byte)(unsafe.Pointer(&ptr)), n)
}

// fake answers ioctls for a test.
func fake(t *testing.T, fn func(nr format.IoctlNr, arg []byte) (int, error)) string {
	t.Helper()
	real := sysIoctl
	sysIoctl = func(_ int, nr format.IoctlNr, arg []byte) (int, error) {
		if len(arg) != nr.Size() {
			t.Errorf("ioctl %08x with %d bytes", uint32(nr), len(arg))
		}
		return fn(nr, arg)
	}
	t.Cleanup(func() { sysIoctl = real })
	return t.TempDir()
}

func TestStat(t *testing.T) {
	dir := fake(t, func(nr format.IoctlNr, arg []byte) (int, error) {
		switch nr {
		case format.IocStatMore:
			copy(arg, format.Bytes(&format.IocStatMoreResult{MetaSeq: 4217, DataSeq: 4218, DataVersion: 3, OnlineBlocks: 256,
				CrtimeSec: 1767225600, CrtimeNsec: 12345678}))
		case format.IocStatfsMore:
			copy(arg, format.Bytes(&format.IocStatfsMoreResult{Fsid: 0x245e92838d217ba5, Rid: 0x1dc3342e900076, CommittedSeq: 31,
				TotalMetaBlocks: 196608, TotalDataBlocks: 1048576}))
		}
		return 0, nil
	})
	scoutfs("stat", dir).check(t, 0, `meta_seq          4217
data_seq          4218
data_version      3
online_blocks     256
offline_blocks    0
crtime            1767225600.012345678
`, "")
	scoutfs("stat", "-s", "data_seq", dir).check(t, 0, "4218\n", "")
	scoutfs("stat", "-s", "frob", dir).check(t, 1, "", "unknown field 'frob': invalid argument\nscoutfs: stat failed: Invalid argument (22)\n")
	scoutfs("stat", "--json", dir).check(t, 0,
		`{"crtime":"1767225600.012345678","data_seq":4218,"data_version":3,"meta_seq":4217,"offline_blocks":0,"online_blocks":256}`+"\n", "")
	scoutfs("statfs", "-p", dir).check(t, 0, `fsid              245e92838d217ba5
rid               001dc3342e900076
committed_seq     31
total_meta_blocks 196608
total_data_blocks 1048576
`, "")
	scoutfs("statfs", "-p", dir, "-s", "rid").check(t, 0, "001dc3342e900076\n", "")
}

// TestDf has the numbers of the volume that the original wrote.
func TestDf(t *testing.T) {
	calls := 0
	dir := fake(t, func(nr format.IoctlNr, arg []byte) (int, error) {
		if nr == format.IocStatfsMore {
			copy(arg, format.Bytes(&format.IocStatfsMoreResult{TotalMetaBlocks: 196608, TotalDataBlocks: 1048576, ReservedMetaBlocks: 34681}))
			return 0, nil
		}
		a, _ := format.Load[format.IocAllocDetailArgs](arg)
		if calls++; a.EntriesNr < 300 {
			return 0, syscall.EOVERFLOW
		}
		for i, e := range []format.IocAllocDetailEntry{
			{Blocks: 190000, Bits: format.IocAllocMeta | format.IocAllocAvail}, {Blocks: 6582, Bits: format.IocAllocMeta},
			{Blocks: 1039000, Bits: format.IocAllocAvail}, {Blocks: 454}} {
			copy(memory(a.EntriesPtr+uint64(24*i), 24), format.Bytes(&e))
		}
		return 4, nil
	})
	scoutfs("df", "-p", dir).check(t, 0, "    Type  Size    Total   Used     Free  Use%  \n"+
		"MetaData  64KB   196608  34707   161901    17  \n"+
		"    Data   4KB  1048576   9122  1039454     0  \n", "")
	if calls != 4 { // room for 170, 212, 265, 331
		t.Errorf("%d calls", calls)
	}
	scoutfs("df", "-h", "-p", dir).check(t, 0, "    Type  Size    Total     Used    Free  Use%  \n"+
		"MetaData  64KB  12.00GB   2.12GB  9.88GB    17  \n"+
		"    Data   4KB   4.00GB  35.63MB  3.97GB     0  \n", "")
	scoutfs("df", "--json", "-p", dir).check(t, 0, `[{"type":"MetaData","block_size":65536,"total":196608,"used":34707,"free":161901},`+
		`{"type":"Data","block_size":4096,"total":1048576,"used":9122,"free":1039454}]`+"\n", "")
}

func TestDfLowSpace(t *testing.T) {
	lines := usageOf(&format.IocStatfsMoreResult{TotalMetaBlocks: 100, TotalDataBlocks: 100, ReservedMetaBlocks: 34681},
		[]format.IocAllocDetailEntry{{Blocks: 90, Bits: format.IocAllocMeta}})
	if lines[0].Free != 0 || lines[0].Used != 100 || lines[1].Used != 100 {
		t.Errorf("%+v", lines)
	}
}

func TestWalkInodes(t *testing.T) {
	var index []format.IocWalkEntry
	for i := range 300 {
		index = append(index, format.IocWalkEntry{Major: 2 + uint64(i/200), Ino: format.Ino(1000 + i)})
	}
	calls := 0
	dir := fake(t, func(nr format.IoctlNr, arg []byte) (int, error) {
		calls++
		a, _ := format.Load[format.IocWalkInodesArgs](arg)
		if nr != format.IocWalkInodes || a.Index != 1 {
			t.Errorf("ioctl %08x index %d", uint32(nr), a.Index)
		}
		n := 0
		for _, e := range index {
			after := e.Major > a.First.Major || e.Major == a.First.Major && e.Ino >= a.First.Ino
			before := e.Major < a.Last.Major || e.Major == a.Last.Major && e.Ino <= a.Last.Ino
			if after && before && n < int(a.NrEntries) {
				copy(memory(a.EntriesPtr+uint64(24*n), 24), format.Bytes(&e))
				n++
			}
		}
		return n, nil
	})
	r := scoutfs("walk-inodes", "-p", dir, "--", "DATA_SEQ", "0", "-1")
	lines := strings.Split(r.out, "\n")
	if r.code != 0 || len(lines) != 300+12+1 || calls != 4 {
		t.Errorf("exit %d, %d lines, %d calls", r.code, len(lines), calls)
	}
	header := "#                    major                minor      ino                 "
	if lines[0] != header || lines[26] != header || lines[1] != "0                    2                    0          1000                " ||
		lines[27] != "25                   2                    0          1025                " {
		t.Errorf("lines\n%s\n%s\n%s\n%s", lines[0], lines[1], lines[26], lines[27])
	}
	r = scoutfs("walk-inodes", "-p", dir, "--json", "data_seq", "2.0.1198", "3.0.0x4b1")
	r.check(t, 0, `{"major":2,"minor":0,"ino":1198}`+"\n"+`{"major":2,"minor":0,"ino":1199}`+"\n"+
		`{"major":3,"minor":0,"ino":1200}`+"\n"+`{"major":3,"minor":0,"ino":1201}`+"\n", "")
	for s, want := range map[string]string{"1.2.3": "{1 3 2 ", "7": "{7 0 0 ", "-1.-1.-1": "{18446744073709551615 18446744073709551615 4294967295 "} {
		e, err := parseWalkEntry("first", s)
		if err != nil || !strings.HasPrefix(fmt.Sprint(e), want) {
			t.Errorf("%s: %v %v", s, e, err)
		}
	}
	for _, s := range []string{"", "1.2.3.4", "1..2", "1.4294967296", "x"} {
		if _, err := parseWalkEntry("first", s); err == nil {
			t.Errorf("%q is accepted", s)
		}
	}
	if _, ok := nextWalkEntry(format.IocWalkEntry{Major: ^uint64(0), Minor: ^uint32(0), Ino: ^format.Ino(0)}); ok {
		t.Error("there is something after the last position")
	}
}

func TestInoPath(t *testing.T) {
	paths := map[uint64]string{3: "files/f0002", 4: "links/hard1"}
	dir := fake(t, func(_ format.IoctlNr, arg []byte) (int, error) {
		a, _ := format.Load[format.IocInoPathArgs](arg)
		if a.Ino == 5 {
			return 0, syscall.EPERM
		}
		for pos := a.DirPos; pos < 10; pos++ {
			if p, ok := paths[pos]; ok && a.DirIno <= 1028 {
				buf := memory(a.ResultPtr, int(a.ResultBytes))
				copy(buf, format.Bytes(&format.IocInoPathResult{DirIno: 1028, DirPos: pos, PathBytes: uint16(len(p) + 1)}))
				copy(buf[24:], p+"\x00")
				return 0, nil
			}
		}
		return 0, syscall.ENOENT
	})
	scoutfs("ino-path", "-p", dir, "1031").check(t, 0, "files/f0002\nlinks/hard1\n", "")
	scoutfs("ino-path", "-p", dir, "--json", "1031").check(t, 0, `{"dir_ino":1028,"dir_pos":3,"path":"files/f0002"}`+"\n"+
		`{"dir_ino":1028,"dir_pos":4,"path":"links/hard1"}`+"\n", "")
	scoutfs("ino-path", "-p", dir, "5").check(t, 1, "", "ino_path ioctl failed: operation not permitted\nscoutfs: ino-path failed: Operation not permitted (1)\n")
}

func TestReferringEntries(t *testing.T) {
	all := []format.ReferringEntry{
		{DirIno: 1028, DirPos: 3, Ino: 9, DType: 8, Name: []byte("f0002")},
		{DirIno: 1030, DirPos: 4, Ino: 9, DType: 8, Name: []byte("hard1")},
		{DirIno: 1030, DirPos: 5, Ino: 9, DType: 8, Name: []byte("hard2"), Last: true},
	}
	calls := 0
	dir := fake(t, func(_ format.IoctlNr, arg []byte) (int, error) {
		calls++
		a, _ := format.Load[format.IocGetReferringArgs](arg)
		if a.Ino != 9 {
			return 0, nil
		}
		var b []byte
		n := 0
		for i := range all {
			if e := &all[i]; n < 2 && (e.DirIno > a.DirIno || e.DirIno == a.DirIno && e.DirPos >= a.DirPos) {
				b = format.AppendReferringEntry(b, e)
				n++
			}
		}
		copy(memory(a.EntriesPtr, int(a.EntriesBytes)), b)
		return n, nil
	})
	scoutfs("get-referring-entries", "-p", dir, "9").check(t, 0, "dir 1028 pos 3 type 8 name f0002\ndir 1030 pos 4 type 8 name hard1\ndir 1030 pos 5 type 8 name hard2\n", "")
	if calls != 2 {
		t.Errorf("%d calls", calls)
	}
	scoutfs("get-referring-entries", "-p", dir, "10").check(t, 0, "", "")
	scoutfs("get-referring-entries", "-p", dir, "--json", "0x9")
}
