// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package mkfs_test

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"scoutfs/block"
	"scoutfs/format"
	"scoutfs/internal/simdisk"
	"scoutfs/mkfs"
)

const (
	exampleMeta = 256 << 20
	exampleData = 1 << 30
)

// exampleOptions are those of the worked example of spec format 10.5.
func exampleOptions(vers uint64) mkfs.Options {
	o := mkfs.Options{
		Slots:      map[int]netip.AddrPort{},
		Version:    vers,
		AllowSmall: true,
		Fsid:       0xa6e3826df4a791e0,
		Time:       time.Unix(0x6b02f7b3, 0x0b25be98),
	}
	hex.Decode(o.UUID[:], []byte("a3dd06cedea34e679d74eb85d5aa6662"))
	for i := range 3 {
		o.Slots[i] = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(53000+i))
	}
	return o
}

func disks(metaSize, dataSize int64) (meta, data *simdisk.Disk) {
	return simdisk.New(metaSize, simdisk.Options{Name: "meta"}), simdisk.New(dataSize, simdisk.Options{Name: "data"})
}

func read(t *testing.T, d block.Device, size int, blkno format.Blkno) []byte {
	t.Helper()
	b := block.AlignedBuf(size)
	t.Cleanup(func() { block.FreeBuf(b) })
	if err := block.ReadAt(d, b, int64(blkno)*int64(size)); err != nil {
		t.Fatal(err)
	}
	return b
}

// dump is the non-zero 16 byte lines of a block, as in the spec's example.
func dump(b []byte) map[int]string {
	lines := map[int]string{}
	for off := 0; off < len(b); off += 16 {
		if l := hex.EncodeToString(b[off : off+16]); l != strings.Repeat("0", 32) {
			lines[off] = l
		}
	}
	return lines
}

// stored is the crc in the block's header.
func stored(b []byte) uint32 { return binary.LittleEndian.Uint32(b) }

// TestWorkedExample makes the volume of spec format 10.5. What the original
// did differently is put in before checksums are compared: garbage behind the
// slots and AVL heights 0 and 1.
func TestWorkedExample(t *testing.T) {
	meta, data := disks(exampleMeta, exampleData)
	s, err := mkfs.Format(meta, data, exampleOptions(2))
	if err != nil {
		t.Fatal(err)
	}
	super := read(t, meta, format.SmallSize, format.SuperBlkno)
	if got := string(format.Bytes(s)); got != string(super[:len(got)]) {
		t.Error("the super that Format returns is not the one on the device")
	}
	checkExampleSuper(t, super, 0x4b3a3221)
	dataSuper := read(t, data, format.SmallSize, format.SuperBlkno)
	if dataSuper[48] != 0 {
		t.Error("the data device's super has flags")
	}
	checkExampleSuper(t, dataSuper, 0xcdfff083)

	for i, want := range []uint32{0x3f9e405e, 0x6b78a600} {
		q := read(t, meta, format.SmallSize, format.QuorumBlkno+format.Blkno(i))
		if stored(q) != want || len(dump(q)) != 2 {
			t.Errorf("quorum block %d: crc %08x, want %08x", i, stored(q), want)
		}
	}
	if _, err := format.VerifyQuorumBlock(read(t, meta, format.SmallSize, 31), "meta", s.Hdr.Fsid, 14); err != nil {
		t.Error(err)
	}
	if b := read(t, meta, format.LargeSize, 3); stored(b) != 0x3b966cf4 {
		t.Errorf("list block: crc %08x", stored(b))
	}
	for blkno, want := range map[format.Blkno]uint32{2: 0x6fd4e343, 1028: 0xdea6388e, 1029: 0xd437137b, 1030: 0xc965c27a} {
		b := read(t, meta, format.LargeSize, blkno)
		if b[0x36] != 1 || b[0x6e] != 2 {
			t.Errorf("block %d: AVL heights %d and %d, want 1 and 2", blkno, b[0x36], b[0x6e])
		}
		if format.Checksum(b) != stored(b) {
			t.Errorf("block %d: its own crc is wrong", blkno)
		}
		b[0x6e] = 0
		if got := format.Checksum(b); got != want {
			t.Errorf("block %d: crc %08x with the original's heights, want %08x", blkno, got, want)
		}
	}
	want := map[int]string{
		0x0000: "00000000" + "6df997e5e091a7f46d82e3a6", // crc taken out
		0x0010: "01000000000000000200000000000000",
		0x0020: "480002001801e8f20000000000000000",
		0x0030: "48000000000001000000000000000000",
		0x0040: "00000000000000000100000000000000",
		0x0050: "00040400000000000100000000000000",
		0x0060: "00000000000000000000100000000000",
		0x0070: "01000000000000000000000000000000",
		0x0080: "00000000000000000010040000000000",
		0x0090: "010000000000000088f3a80000000000",
		0xf3b0: "00000000000000000200000000000000",
		0xf3d0: "020000000000000000000000ed410000",
		0xf3e0: "0000000000000000b3f7026b00000000",
		0xf3f0: "98be250b00000000b3f7026b00000000",
		0xf400: "98be250b00000000b3f7026b00000000",
		0xf410: "98be250b00000000b3f7026b00000000",
		0xf420: "98be250b000000000000000000000000",
		0xf620: "00000000000000003000000000000000",
		0xfc50: "68000000000000000000000000000000",
	}
	b := read(t, meta, format.LargeSize, 2)
	clear(b[:4])
	b[0x6e] = 0
	if diff := cmp.Diff(want, dump(b)); diff != "" {
		t.Errorf("fs_root leaf (-spec +ours):\n%s", diff)
	}
}

// checkExampleSuper puts the garbage of the spec's example behind the slots
// and compares the checksum, which covers every other byte.
func checkExampleSuper(t *testing.T, b []byte, want uint32) {
	t.Helper()
	if format.Checksum(b) != stored(b) {
		t.Error("super: its own crc is wrong")
	}
	for i, n := range []byte{4, 6, 8} {
		garbage, _ := hex.DecodeString("004c06f1fc7f00000400000000000000c094963b3f560000")
		garbage[8] = n
		copy(b[0x80+32*i:], garbage)
	}
	if got := format.Checksum(b); got != want {
		t.Errorf("super: crc %08x with the original's garbage, want %08x", got, want)
	}
}

func TestVersion1(t *testing.T) {
	meta, data := disks(exampleMeta, exampleData)
	s, err := mkfs.Format(meta, data, exampleOptions(1))
	if err != nil {
		t.Fatal(err)
	}
	if s.FmtVers != 1 {
		t.Errorf("version %d", s.FmtVers)
	}
	b := read(t, meta, format.LargeSize, 2)
	h, _ := format.Load[format.BtreeBlock](b)
	it, _ := format.Load[format.BtreeItem](b[104:])
	if h.TotalItemBytes != 272 || h.MidFreeLen != 62192 || it.ValOff != 62352 || it.ValLen != 160 {
		t.Errorf("%+v %+v", h, it)
	}
}

// verify checks a volume that mkfs has made, as far as it can be told without
// walking trees.
func verify(t *testing.T, meta, data block.Device) error {
	t.Helper()
	ms, err := format.VerifySuper(read(t, meta, format.SmallSize, format.SuperBlkno), "meta")
	if err != nil {
		return err
	}
	ds, err := format.VerifySuper(read(t, data, format.SmallSize, format.SuperBlkno), "data")
	if err != nil {
		return err
	}
	for _, err := range []error{ms.VerifyRoots("meta"), ms.VerifySize("meta", meta.Size()), ds.VerifySize("data", data.Size()),
		format.VerifySupers(ms, ds, "meta", "data")} {
		if err != nil {
			return err
		}
	}
	for blkno, magic := range map[format.Blkno]format.Magic{2: format.MagicBtree, 3: format.MagicAllocList, 1028: format.MagicBtree,
		1029: format.MagicBtree, 1030: format.MagicBtree} {
		want := format.BlockHeader{Magic: magic, Fsid: ms.Hdr.Fsid, Seq: 1, Blkno: blkno}
		if err := format.VerifyHeader(read(t, meta, format.LargeSize, blkno), want); err != nil {
			return err
		}
	}
	for i := range format.QuorumSlots {
		if _, err := format.VerifyQuorumBlock(read(t, meta, format.SmallSize, format.QuorumBlkno+format.Blkno(i)), "meta", ms.Hdr.Fsid, i); err != nil {
			return err
		}
	}
	return nil
}

// TestCrash cuts the power after every write of a mkfs over an older volume:
// either no metadata super is valid, or the whole new volume is there.
func TestCrash(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	meta, data := disks(exampleMeta, exampleData)
	if _, err := mkfs.Format(meta, data, exampleOptions(2)); err != nil {
		t.Fatal(err)
	}
	points, complete := 0, 0
	crash := func(simdisk.FaultOp) {
		for i := range 5 {
			points++
			m, d := meta.Crash(rng, rng.IntN(101)), data.Crash(rng, rng.IntN(101))
			if i == 0 { // all that was written is kept: so the last cut has a volume
				m, d = meta.Crash(rng, 100), data.Crash(rng, 100)
			}
			s, err := format.VerifySuper(read(t, m, format.SmallSize, format.SuperBlkno), "meta")
			if err != nil || s.Hdr.Fsid == 0xa6e3826df4a791e0 {
				continue // none, or the old one before anything was written
			}
			complete++
			if err := verify(t, m, d); err != nil {
				t.Errorf("a valid super of a volume that is not complete: %v", err)
			}
		}
	}
	meta.OnWrite(crash)
	data.OnWrite(crash)
	o := exampleOptions(2)
	o.Fsid, o.Force = 5, true
	if _, err := mkfs.Format(meta, data, o); err != nil {
		t.Fatal(err)
	}
	if points < 20*4 || complete == 0 {
		t.Errorf("%d crashes, %d of them with a volume", points, complete)
	}
	// After the end nothing may depend on luck.
	if err := verify(t, meta.Crash(rng, 0), data.Crash(rng, 0)); err != nil {
		t.Error(err)
	}
}

// TestOldVolumeIsGoneFirst cuts the power between the writes of a mkfs over an
// older volume: the old super must never refer to new blocks.
func TestOldVolumeIsGoneFirst(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	meta, data := disks(exampleMeta, exampleData)
	if _, err := mkfs.Format(meta, data, exampleOptions(2)); err != nil {
		t.Fatal(err)
	}
	first := true
	meta.OnWrite(func(op simdisk.FaultOp) {
		if op.Off == int64(format.SuperBlkno)<<format.SmallShift && first {
			first = false
			return
		}
		if first {
			t.Errorf("write at %d before the old super is gone", op.Off)
		}
		if s, err := format.VerifySuper(read(t, meta.Crash(rng, 0), format.SmallSize, format.SuperBlkno), ""); err == nil && s.Hdr.Fsid != 5 {
			t.Errorf("the old super is still durable at the write at %d", op.Off)
		}
	})
	o := exampleOptions(2)
	o.Fsid, o.Force = 5, true
	if _, err := mkfs.Format(meta, data, o); err != nil {
		t.Fatal(err)
	}
}

// TestFaults fails every operation in turn: each must surface.
func TestFaults(t *testing.T) {
	for _, which := range []string{"meta", "data"} {
		for n := int64(1); ; n++ {
			meta, data := disks(exampleMeta, exampleData)
			d := map[string]*simdisk.Disk{"meta": meta, "data": data}[which]
			hit := false
			d.SetFault(func(op simdisk.FaultOp) error {
				if op.N != n {
					return nil
				}
				hit = true
				return simdisk.ErrInjected
			})
			_, err := mkfs.Format(meta, data, exampleOptions(2))
			if !hit {
				if n < 4 || err != nil {
					t.Fatalf("%s: only %d operations, %v", which, n, err)
				}
				break
			}
			if !errors.Is(err, simdisk.ErrInjected) || !strings.Contains(err.Error(), which) {
				t.Errorf("%s operation %d: %v", which, n, err)
			}
		}
	}
}

func TestRefusals(t *testing.T) {
	addr := netip.MustParseAddrPort
	slots := func(m map[int]netip.AddrPort) func(*mkfs.Options) {
		return func(o *mkfs.Options) { o.Slots = m }
	}
	for _, v := range []struct {
		name       string
		meta, data int64
		change     func(*mkfs.Options)
		want       string
	}{
		{"no slots", exampleMeta, exampleData, slots(nil), "a volume needs at least one quorum slot"},
		{"slot 15", exampleMeta, exampleData, slots(map[int]netip.AddrPort{15: addr("10.0.0.1:5")}), "quorum slot number 15 is not in 0 to 14"},
		{"slot -1", exampleMeta, exampleData, slots(map[int]netip.AddrPort{-1: addr("10.0.0.1:5"), 0: addr("10.0.0.2:5")}), "quorum slot numbers are 0 to 14"},
		{"unspecified", exampleMeta, exampleData, slots(map[int]netip.AddrPort{0: addr("0.0.0.0:5")}), "quorum slot 0: 0.0.0.0:5 is not a unicast"},
		{"broadcast", exampleMeta, exampleData, slots(map[int]netip.AddrPort{0: addr("255.255.255.255:5")}), "is not a unicast"},
		{"multicast", exampleMeta, exampleData, slots(map[int]netip.AddrPort{0: addr("224.0.0.1:5")}), "is not a unicast"},
		{"port 0", exampleMeta, exampleData, slots(map[int]netip.AddrPort{0: addr("10.0.0.1:0")}), "is not a unicast"},
		{"IPv6", exampleMeta, exampleData, slots(map[int]netip.AddrPort{0: addr("[::1]:5")}), "is not a unicast"},
		{"twice", exampleMeta, exampleData, slots(map[int]netip.AddrPort{2: addr("10.0.0.1:5"), 7: addr("10.0.0.1:5")}),
			"quorum slots 2 and 7 have the same address 10.0.0.1:5"},
		{"version", exampleMeta, exampleData, func(o *mkfs.Options) { o.Version = 3 }, "format version 3 is not in the supported range 1-2"},
		{"small", exampleMeta, exampleData, func(o *mkfs.Options) { o.AllowSmall = false },
			"meta: metadata device of 256.00 MB is smaller than the recommended minimum of 64 GB, -A allows it"},
		{"tiny metadata", 1032 << 16, exampleData, func(*mkfs.Options) {}, "meta: metadata device of 67633152 bytes is too small, the format needs 67698688"},
		{"tiny data", exampleMeta, 64 << 12, func(*mkfs.Options) {}, "data: data device of 262144 bytes is too small, the format needs 266240"},
		{"max meta", exampleMeta, exampleData, func(o *mkfs.Options) { o.MaxMetaSize = 65535 }, "maximum metadata size is less than one block"},
		{"zone too large", exampleMeta, exampleData, func(o *mkfs.Options) { o.ZoneBlocks = 1 << 20 }, "data_alloc_zone_blocks 1048576 is not in"},
		{"zone too small", exampleMeta, 4 << 32, func(o *mkfs.Options) { o.ZoneBlocks = 1<<20 - 1 }, "data_alloc_zone_blocks 1048575 is not in 1048576 .. 4194304"},
	} {
		meta, data := disks(v.meta, v.data)
		o := exampleOptions(2)
		v.change(&o)
		_, err := mkfs.Format(meta, data, o)
		if !errors.Is(err, syscall.EINVAL) || !strings.Contains(err.Error(), v.want) {
			t.Errorf("%s: %v, want %s", v.name, err, v.want)
		}
		if c := meta.Counters().Writes + data.Counters().Writes; c != 0 {
			t.Errorf("%s: %d writes before the refusal", v.name, c)
		}
	}
	meta, _ := disks(exampleMeta, exampleData)
	if _, err := mkfs.Format(meta, meta, exampleOptions(2)); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("the same device twice: %v", err)
	}
}

func TestSizes(t *testing.T) {
	meta, data := disks(exampleMeta, 8<<30)
	o := exampleOptions(2)
	o.MaxMetaSize = 128<<20 + 5
	o.MaxDataSize = 1 << 40
	o.ZoneBlocks = 1 << 20
	var notes, informs []string
	o.Note = func(s string) { notes = append(notes, s) }
	o.Inform = func(s string) { informs = append(informs, s) }
	s, err := mkfs.Format(meta, data, o)
	if err != nil {
		t.Fatal(err)
	}
	if s.TotalMetaBlocks != 2048 || s.TotalDataBlocks != 2<<20 || s.VolOpt.SetBits != 1 || s.VolOpt.Values[0] != 1<<20 {
		t.Errorf("%d %d %+v", s.TotalMetaBlocks, s.TotalDataBlocks, s.VolOpt.Values[:2])
	}
	if err := verify(t, meta, data); err != nil {
		t.Error(err)
	}
	want := []string{
		"maximum metadata size 134217733 is not a multiple of 65536, using 134217728",
		"meta: warning: metadata device of 128.00 MB is smaller than the recommended minimum of 64 GB, allowing with -A",
		"maximum data size 1099511627776 is larger than the device's 8589934592, ignoring it",
		"data: warning: data device of 8.00 GB is smaller than the recommended minimum of 64 GB, allowing with -A",
		"warning: metadata space is low from the start even with one mount, 5.30 GB would suffice",
	}
	if diff := cmp.Diff(want, notes); diff != "" {
		t.Errorf("notes (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"meta: limiting metadata device from 268435456 to 134217728 bytes"}, informs); diff != "" {
		t.Errorf("informs (-want +got):\n%s", diff)
	}
}

func TestMaxMounts(t *testing.T) {
	for gib, want := range map[int64]uint64{4: 0, 5: 0, 6: 1, 14: 3, 32: 7, 64: 14} {
		meta, data := disks(gib<<30, exampleData)
		s, err := mkfs.Format(meta, data, exampleOptions(2))
		if err != nil {
			t.Fatal(err)
		}
		if got := mkfs.MaxMounts(s); got != want {
			t.Errorf("%d GiB: %d mounts, want %d", gib, got, want)
		}
	}
}

func TestRandomIdentity(t *testing.T) {
	meta, data := disks(exampleMeta, exampleData)
	o := exampleOptions(2)
	o.Fsid, o.UUID, o.Time = 0, [16]byte{}, time.Time{}
	before := time.Now().Truncate(time.Microsecond)
	a, err := mkfs.Format(meta, data, o)
	if err != nil {
		t.Fatal(err)
	}
	in, _ := format.LoadInode(read(t, meta, format.LargeSize, 2)[62344:62512], 2)
	if ct := time.Unix(int64(in.Crtime.Sec), int64(in.Crtime.Nsec)); ct.Before(before) || ct.After(time.Now()) || in.Crtime.Nsec%1000 != 0 || in.Atime != in.Crtime {
		t.Errorf("time %v", ct)
	}
	o.Force = true
	b, err := mkfs.Format(meta, data, o)
	if err != nil {
		t.Fatal(err)
	}
	if a.Hdr.Fsid == b.Hdr.Fsid || a.UUID == b.UUID || a.UUID[6]>>4 != 4 || a.UUID[8]>>6 != 2 {
		t.Errorf("%x %x, %x %x", a.Hdr.Fsid, b.Hdr.Fsid, a.UUID, b.UUID)
	}
}

func TestSummary(t *testing.T) {
	s := &format.Super{
		Hdr: format.BlockHeader{Fsid: 0x59d1a2c3b4e5f607}, FmtVers: 2, TotalMetaBlocks: 1048576, TotalDataBlocks: 16777216,
		Quorum: format.QuorumConfig{Version: 1},
	}
	hex.Decode(s.UUID[:], []byte("5d0c1f5e1a6b4f7a9d510c2e3a4b5c6d"))
	s.Quorum.Slots[0] = format.InetOf(netip.MustParseAddrPort("10.0.0.1:12345"))
	s.Quorum.Slots[1] = format.InetOf(netip.MustParseAddrPort("10.0.0.2:12345"))
	want := `Created scoutfs filesystem:
  meta device path:       /dev/vg/meta
  data device path:       /dev/vg/data
  fsid:                   59d1a2c3b4e5f607
  uuid:                   5d0c1f5e-1a6b-4f7a-9d51-0c2e3a4b5c6d
  format version:         2
  64KB metadata blocks:   1048576 (64.00 GB)
  4KB data blocks:        16777216 (64.00 GB)
  quorum config version:  1
  quorum slots:           0: 10.0.0.1:12345
                          1: 10.0.0.2:12345
`
	if diff := cmp.Diff(want, mkfs.Summary("/dev/vg/meta", "/dev/vg/data", s)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// busy is a device that another process uses.
type busy struct{ block.Device }

func (busy) LockWhole() error { return block.ErrBusy }

func TestBusy(t *testing.T) {
	meta, data := disks(exampleMeta, exampleData)
	o := exampleOptions(2)
	o.Force = true
	if _, err := mkfs.Format(meta, busy{data}, o); !errors.Is(err, syscall.EBUSY) || !strings.HasPrefix(err.Error(), "data: is in use by a mount or another tool") {
		t.Errorf("%v", err)
	}
	if meta.Counters().Writes != 0 {
		t.Error("writes before the refusal")
	}
}
