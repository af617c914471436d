// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package format_test

import (
	"errors"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"scoutfs/format"
)

// goodSuper is a plausible super block of a metadata device.
func goodSuper() format.Super {
	root := format.BtreeRoot{Ref: format.BlockRef{Blkno: 2, Seq: 9}, Height: 1}
	return format.Super{
		Hdr:             format.BlockHeader{Magic: format.MagicSuper, Fsid: 0xf51d, Seq: 3, Blkno: format.SuperBlkno},
		FmtVers:         2,
		Flags:           format.SuperFlagMeta,
		UUID:            [16]byte{1, 2, 3},
		TotalMetaBlocks: 4096,
		TotalDataBlocks: 262144,
		FSRoot:          root,
		MetaAlloc:       [2]format.AllocRoot{{TotalLen: 5, Root: root}},
		ServerMetaAvail: [2]format.AllocList{{Ref: root.Ref, TotalNr: 7, FirstNr: 7}},
	}
}

func superBytes(s *format.Super) []byte {
	b := make([]byte, format.SmallSize)
	copy(b, format.Bytes(s))
	format.SetChecksum(b)
	return b
}

func TestVerifySuper(t *testing.T) {
	s := goodSuper()
	got, err := format.VerifySuper(superBytes(&s), "/dev/meta")
	if err != nil {
		t.Fatal(err)
	}
	if got.FmtVers != 2 || !got.IsMeta() || got.VerifyRoots("/dev/meta") != nil || got.VerifySize("/dev/meta", 4096<<16) != nil {
		t.Errorf("%+v", got)
	}
	for _, v := range []struct {
		change func(s *format.Super)
		reason string
	}{
		{func(s *format.Super) { s.Hdr.Magic++ }, "magic 103c428c is not that of a super block, 103c428b"},
		{func(s *format.Super) { s.Hdr.Blkno = 17 }, "blkno 17 in the header"},
		{func(s *format.Super) { s.FmtVers = 0 }, "format version 0 is not in the supported range 1-2"},
		{func(s *format.Super) { s.FmtVers = 3 }, "format version 3 is not in the supported range 1-2"},
		{func(s *format.Super) { s.Flags = 2 }, "unknown flags 0x2"},
		{func(s *format.Super) { s.TotalMetaBlocks = 1032 }, "1032 metadata blocks"},
		{func(s *format.Super) { s.TotalMetaBlocks = 1 << 60 }, "1152921504606846976 metadata blocks"},
		{func(s *format.Super) { s.TotalDataBlocks = 64 }, "64 data blocks"},
	} {
		s := goodSuper()
		v.change(&s)
		_, err := format.VerifySuper(superBytes(&s), "/dev/meta")
		var corrupt *format.CorruptError
		if !errors.As(err, &corrupt) || !errors.Is(err, syscall.EIO) {
			t.Errorf("%s: %v", v.reason, err)
			continue
		}
		if want := "corrupt: device /dev/meta block 16: super: " + v.reason; err.Error() != want {
			t.Errorf("%q, want %q", err, want)
		}
	}
	b := superBytes(&s)
	b[4095]++
	if _, err := format.VerifySuper(b, ""); err == nil || !strings.Contains(err.Error(), "super: crc ") {
		t.Errorf("changed byte: %v", err)
	}
	if _, err := format.VerifySuper(b[:100], ""); err == nil {
		t.Error("a short block is accepted")
	}
}

func TestVerifyRoots(t *testing.T) {
	for _, v := range []struct {
		change func(s *format.Super)
		reason string
	}{
		{func(s *format.Super) { s.FSRoot.Height = 0 }, "fs_root: height 0 with a reference to block 2"},
		{func(s *format.Super) { s.SrchRoot.Height = 1 }, "srch_root: height 1 with a reference to block 0"},
		{func(s *format.Super) { s.LogsRoot.Height = 21 }, "logs_root: height 21 is above 20"},
		{func(s *format.Super) { s.FSRoot.Ref.Blkno = 1 }, "fs_root: block 1 is outside the metadata device's 4096 blocks"},
		{func(s *format.Super) { s.MetaAlloc[0].Root.Ref.Blkno = 4096 }, "meta_alloc[0]: block 4096 is outside the metadata device's 4096 blocks"},
		{func(s *format.Super) { s.ServerMetaFreed[1].TotalNr = 1 }, "server_meta_freed[1]: 1 entries but no block"},
		{func(s *format.Super) { s.ServerMetaAvail[0].FirstNr = 8 }, "server_meta_avail[0]: 8 entries in the first block of 7 in all"},
		{func(s *format.Super) { s.VolOpt.SetBits = 2 }, "unknown volume options 0x2"},
		{func(s *format.Super) { s.VolOpt.SetBits, s.VolOpt.Values[0] = 1, 5 }, "data_alloc_zone_blocks 5 is not in 1048576 .. 262144"},
	} {
		s := goodSuper()
		v.change(&s)
		want := "corrupt: device d block 16: super: " + v.reason
		if err := s.VerifyRoots("d"); err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

func TestVerifyZoneBlocks(t *testing.T) {
	const mi = 1 << 20
	for _, v := range []struct {
		zone, total uint64
		ok          bool
	}{{mi, mi, true}, {mi - 1, mi, false}, {mi + 1, mi, false}, {mi, 1024 * mi, true}, {mi, 1025 * mi, false}, {2 * mi, 1025 * mi, true}} {
		if err := format.VerifyZoneBlocks(v.zone, v.total); (err == nil) != v.ok {
			t.Errorf("%d of %d: %v", v.zone, v.total, err)
		}
	}
}

func TestVerifySupers(t *testing.T) {
	for _, v := range []struct {
		change func(meta, data *format.Super)
		reason string
	}{
		{func(m, d *format.Super) {}, ""},
		{func(m, d *format.Super) { m.Flags, d.Flags = d.Flags, m.Flags },
			"device M block 16: super: this is the data device and D the metadata device: swap them"},
		{func(m, d *format.Super) { m.Flags = 0 }, "device M block 16: super: this is not a metadata device"},
		{func(m, d *format.Super) { d.Flags = 1 }, "device D block 16: super: this is a metadata device, not the data device"},
		{func(m, d *format.Super) { d.UUID[0]++ }, "uuid 02020300-0000-0000-0000-000000000000 is another volume's than 01020300-0000-0000-0000-000000000000 on M"},
		{func(m, d *format.Super) { d.FmtVers = 1 }, "device D block 16: super: format version 1, but 2 on M"},
		{func(m, d *format.Super) { d.Hdr.Fsid++ }, ""}, // never compared
	} {
		meta, data := goodSuper(), goodSuper()
		data.Flags = 0
		v.change(&meta, &data)
		err := format.VerifySupers(&meta, &data, "M", "D")
		if (err == nil) != (v.reason == "") || err != nil && !strings.HasSuffix(err.Error(), v.reason) {
			t.Errorf("%v, want %q", err, v.reason)
		}
	}
	s := goodSuper()
	if err := s.VerifySize("M", 4096<<16-1); err == nil || !strings.Contains(err.Error(), "4096 64 KiB metadata blocks, but the device has only 4095") {
		t.Error(err)
	}
	s.Flags = 0
	if err := s.VerifySize("D", 262143<<12); err == nil || !strings.Contains(err.Error(), "262144 4 KiB data blocks, but the device has only 262143") {
		t.Error(err)
	}
}

func TestVerifyQuorumBlock(t *testing.T) {
	b := make([]byte, format.SmallSize)
	q := format.QuorumBlock{WriteNr: 5}
	q.Events[format.QuorumBegin].WriteNr = 5
	copy(b, format.Bytes(&q))
	format.FillHeader(b, format.BlockHeader{Magic: format.MagicQuorum, Fsid: 7, Seq: 1, Blkno: 19})
	got, err := format.VerifyQuorumBlock(b, "d", 7, 2)
	if err != nil || got.WriteNr != 5 || !got.InUse() {
		t.Fatalf("%+v %v", got, err)
	}
	got.Events[format.QuorumEnd].WriteNr = 6
	if got.InUse() {
		t.Error("in use after END")
	}
	for reason, f := range map[string]func() error{
		"device d block 20: quorum slot 3: blkno 19 in the header": func() error { _, err := format.VerifyQuorumBlock(b, "d", 7, 3); return err },
		"quorum slot 2: fsid 0000000000000007 is not the volume's, 0000000000000008": func() error {
			_, err := format.VerifyQuorumBlock(b, "d", 8, 2)
			return err
		},
		"quorum slot 2: 4095 bytes instead of 4096": func() error { _, err := format.VerifyQuorumBlock(b[1:], "d", 7, 2); return err },
	} {
		if err := f(); err == nil || !strings.HasSuffix(err.Error(), reason) {
			t.Errorf("%v, want %s", err, reason)
		}
	}
}

func TestVerifyHeader(t *testing.T) {
	b := make([]byte, format.LargeSize)
	h := format.BlockHeader{Magic: format.MagicBtree, Fsid: 1, Seq: 2, Blkno: 3}
	format.FillHeader(b, h)
	if err := format.VerifyHeader(b, h); err != nil {
		t.Error(err)
	}
	h.Seq++
	if err := format.VerifyHeader(b, h); err == nil || err.Error() != "seq 0000000000000002 in the header, the reference has 0000000000000003" {
		t.Error(err)
	}
	if err := format.VerifyHeader(b[:31], h); err == nil {
		t.Error("a short block is accepted")
	}
}

func FuzzVerifySuper(f *testing.F) {
	s := goodSuper()
	f.Add(superBytes(&s))
	f.Fuzz(func(t *testing.T, b []byte) {
		b = append(b, make([]byte, format.SmallSize)...)[:format.SmallSize]
		h, _ := format.Load[format.BlockHeader](b)
		h.Magic, h.Blkno = format.MagicSuper, format.SuperBlkno
		format.FillHeader(b, h)
		s, err := format.VerifySuper(b, "d")
		if err != nil {
			return
		}
		if err := s.VerifyRoots("d"); err == nil && s.FSRoot.Height > format.MaxHeight {
			t.Fatal("height")
		}
	})
}

func TestInet(t *testing.T) {
	a := netip.MustParseAddrPort("127.0.0.1:53000")
	i := format.InetOf(a)
	if got := string(format.Bytes(&i)[:8]); got != "\x01\x00\x08\xcf\x01\x00\x00\x7f" { // spec format 3.2
		t.Errorf("%x", got)
	}
	if i.AddrPort() != a || i.String() != a.String() {
		t.Errorf("%s %s", i.AddrPort(), i)
	}
	unused := format.InetOf(netip.MustParseAddrPort("[::1]:1"))
	if unused != (format.Inet{}) || unused.AddrPort().IsValid() || unused.String() != "unused" {
		t.Errorf("%+v", unused)
	}
}

func TestTimespec(t *testing.T) {
	for _, want := range []time.Time{time.Unix(0, 0), time.Unix(1795358265, 232000000), time.Unix(-2, 5)} {
		if got := format.TimespecOf(want); !time.Unix(int64(got.Sec), int64(got.Nsec)).Equal(want) {
			t.Errorf("%v, want %v", got, want)
		}
	}
}

func TestUUIDString(t *testing.T) {
	u := [16]byte{0x2b, 0x95, 0xc9, 0xcd, 0x7e, 0x05, 0x44, 0x49, 0x9a, 0x1f, 0x3b, 0x91, 0xa0, 0xe5, 0xd4, 0x8b}
	if got := format.UUIDString(u); got != "2b95c9cd-7e05-4449-9a1f-3b91a0e5d48b" {
		t.Error(got)
	}
}

func TestNames(t *testing.T) {
	for got, want := range map[string]string{
		format.MagicBtree.String(): "btree", format.MagicSrchParent.String(): "srch parent", format.Magic(0).String(): "unknown",
		format.LockWriteOnly.String(): "write_only", format.LockMode(9).String(): "unknown",
		format.CmdFarewell.String(): "FAREWELL", format.CmdNr.String(): "UNKNOWN",
	} {
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestErrors(t *testing.T) {
	var err error = &format.StaleError{Device: "d", Ref: format.BlockRef{Blkno: 5, Seq: 6}, Reason: "why"}
	if !errors.Is(err, syscall.ESTALE) || err.Error() != "stale or corrupt: device d block 5 seq 0000000000000006: why" {
		t.Error(err)
	}
}
