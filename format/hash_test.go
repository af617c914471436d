// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package format_test

import (
	"strings"
	"testing"

	"scoutfs/format"
)

// TestChecksum has the vectors of spec format 2.2.
func TestChecksum(t *testing.T) {
	if got := format.CRC32C([]byte("123456789")); got != 0x1cf96d7c {
		t.Errorf("123456789: %08x", got)
	}
	if got := format.Checksum(make([]byte, format.SmallSize)); got != 0x58cda791 {
		t.Errorf("4096 zeros: %08x", got)
	}
	if got := format.Checksum(make([]byte, format.LargeSize)); got != 0xe8a56956 {
		t.Errorf("65536 zeros: %08x", got)
	}
	for blkno, want := range map[format.Blkno]uint32{17: 0x3f9e405e, 18: 0x6b78a600} {
		b := make([]byte, format.SmallSize)
		format.FillHeader(b, format.BlockHeader{Magic: format.MagicQuorum, Fsid: 0xa6e3826df4a791e0, Seq: 1, Blkno: blkno})
		if h, _ := format.Load[format.BlockHeader](b); h.CRC != want {
			t.Errorf("quorum block %d: %08x, want %08x", blkno, h.CRC, want)
		}
	}
}

// TestKeyHash has the vectors of spec format 13.1.
func TestKeyHash(t *testing.T) {
	for _, v := range []struct {
		key    format.Key
		text   string
		h32    uint32
		bucket uint32
		h64    uint64
	}{
		{format.Key{}, "0.0.0.0.0.0", 0x0b2ae445, 845, 0x0c8210784d8af5a5},
		{format.KeyMetaSeq(0, 1), "4.0.4.0.1.0", 0xf6d1cdfc, 252, 0x1a939d52aaedaadc},
		{format.KeyInode(1), "16.1.4.0.0.0", 0x1aacbf90, 1040, 0xe9f7856b100ac9f0},
		{format.KeyDirent(1024, 0x6162630000001234, 2), "16.1024.12.7017280021047808564.2.0", 0x94f85cfd, 453, 0x0ff1c0860e49595d},
		{format.KeyFreeBlkno(64, 262080), "36.262143.0.262080.0.0", 0x8ad872aa, 818, 0x9fd3a4283e302e0a},
		{format.KeyLogTrees(0x1122334455667788, 1), "24.1234605616436508552.0.1.0.0", 0x278d028c, 868, 0xdcc32a4c846a0c6c},
	} {
		if got := v.key.String(); got != v.text {
			t.Errorf("%s: text %s", v.text, got)
		}
		if got := v.key.Hash32(); got != v.h32 || got%format.BtreeHashNr != v.bucket {
			t.Errorf("%s: FNV32 %08x bucket %d, want %08x %d", v.text, got, got%format.BtreeHashNr, v.h32, v.bucket)
		}
		if got := v.key.Hash64(); got != v.h64 {
			t.Errorf("%s: FNV64 %016x, want %016x", v.text, got, v.h64)
		}
	}
	k := format.KeyDirent(1024, 0x6162630000001234, 2)
	const bytes = "\x00\x04\x00\x00\x00\x00\x00\x00\x34\x12\x00\x00\x00\x63\x62\x61\x02\x00\x00\x00\x00\x00\x00\x00\x00\x10\x0c\x00\x00\x00\x00\x00"
	if got := string(format.Bytes(&k)); got != bytes {
		t.Errorf("encoding %x, want %x", got, bytes)
	}
}

// TestHash has the vectors of spec format 13.1 and filesystem 11.
func TestHash(t *testing.T) {
	for s, want := range map[string]struct {
		h32 uint32
		h64 uint64
	}{
		"":    {0x811c9dc5, 0xcbf29ce484222325},
		"a":   {0xe40c292c, 0xaf63dc4c8601ec8c},
		"abc": {0x1a47e90b, 0xe71fa2190541574b},
	} {
		if h32, h64 := format.Hash32(s), format.Hash64([]byte(s)); h32 != want.h32 || h64 != want.h64 {
			t.Errorf("%q: %08x %016x, want %08x %016x", s, h32, h64, want.h32, want.h64)
		}
	}
	for s, want := range map[string]uint64{
		"scoutfs.srch.test": 0x2590d44734868b58,
		"scoutfs.srch.tag":  0x5c3ed93b9a431d74,
		"user.test":         0x9dda95d0cb1dd6b0,
	} {
		if got := format.Hash64(s); got != want {
			t.Errorf("srch hash of %s: %016x, want %016x", s, got, want)
		}
	}
}

// TestNameHash has the vectors of spec format 9.3 and filesystem 11.
func TestNameHash(t *testing.T) {
	for name, want := range map[string]uint64{
		"a":                      0x61000000e40c292c,
		"abc":                    0x616263001a47e90b,
		"abcd":                   0x61626364ce3479bd,
		"abcde":                  0x61626364749bcf08,
		"file":                   0x66696c65aaea5743,
		"hello":                  0x68656c6c4f9f2cab,
		"Documents":              0x075464745a036285,
		"lost+found":             0x67547574a3603574,
		"\xc3\xa9\x74\xc3\xa9":   0xc3a974c3ffb58817,
		strings.Repeat("x", 255): 0x0f0f0f0f6318963f,
		alphabet(255):            0x0145117dccc8dfa9,
		"a-rather-long-file-name-for-testing.dat": 0x206c67730bc121cd,
	} {
		if got := format.NameHash(name); got != want {
			t.Errorf("%q: %016x, want %016x", name, got, want)
		}
	}
}

func alphabet(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = 'A' + byte(i%26)
	}
	return string(b)
}

// TestXattrNameHash has the vectors of spec format 9.4 and filesystem 11.
func TestXattrNameHash(t *testing.T) {
	for name, want := range map[string]uint32{
		"user.test":               0xf21778d1,
		"security.selinux":        0x118241bd,
		"scoutfs.srch.test":       0xf0648c09,
		"system.posix_acl_access": 0x0cad41c7,
		"scoutfs.hide.sam_flags":  0x378e3457,
	} {
		if got := format.XattrNameHash(name); got != want {
			t.Errorf("%s: %08x, want %08x", name, got, want)
		}
	}
}

// TestBloomBits has the vectors of spec format 7.4, 10.6 and filesystem 11.
func TestBloomBits(t *testing.T) {
	for _, v := range []struct {
		key  format.Key
		want [3]uint32
	}{
		{format.Key{Zone: 16}, [3]uint32{349301, 400905, 383775}},
		{format.Key{Zone: 16, First: 1024}, [3]uint32{410633, 362016, 181083}},
		{format.Key{Zone: 4, Type: 4}, [3]uint32{30749, 251904, 427980}},
		{format.Key{Zone: 4, Type: 8}, [3]uint32{280001, 336889, 13967}},
		{format.Key{Zone: 4, Type: 8, Second: 1024}, [3]uint32{257053, 505895, 283397}},
		{format.Key{Zone: 8, Type: 4}, [3]uint32{418537, 160996, 431949}},
		{format.Key{Zone: 10}, [3]uint32{64599, 21928, 350900}},
		{format.Key{Zone: 12}, [3]uint32{509345, 323443, 200855}},
		{format.Key{Zone: 14}, [3]uint32{430123, 100990, 9851}},
	} {
		if got := format.BloomBitNrs(&v.key); got != v.want {
			t.Errorf("%s: %v, want %v", v.key, got, v.want)
		}
	}
	for k, want := range map[format.Key]uint64{
		{Zone: 16}:              0xb75a57d3304dc7f5,
		{Zone: 16, First: 1024}: 0xe68ce6e805057c09,
		{Zone: 4, Type: 4}:      0x6991b31abe02c31d,
		{Zone: 12}:              0xcca445fc779d1361,
	} {
		if got := k.Hash64(); got != want {
			t.Errorf("%s: %016x, want %016x", k, got, want)
		}
	}
	if got := 40 + 30749/8; got != 0xf2b || 1<<(30749%8) != 0x20 {
		t.Error("bit 30749 is not in byte 0xf2b as the example of spec format 10.6 has it")
	}
}

// TestQuotaHash has the vectors of spec format 9.9 and filesystem 11.
func TestQuotaHash(t *testing.T) {
	r := format.QuotaRule{NameVal: [3]uint64{7, 1000, 0}, Limit: 1048576, Prio: 10, Op: format.QuotaOpData,
		NameSource: [3]uint8{0, format.QuotaUID, 0}, NameFlags: [3]uint8{0, format.QuotaSelect, 0}}
	const bytes = "\x07\x00\x00\x00\x00\x00\x00\x00\xe8\x03\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" +
		"\x00\x00\x10\x00\x00\x00\x00\x00\x0a\x01\x00\x00\x02\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00"
	if got := string(format.Bytes(&r)); got != bytes {
		t.Errorf("encoding %x, want %x", got, bytes)
	}
	if got := r.Hash(); got != 0x25ad6a6cc73472eb {
		t.Errorf("hash %016x", got)
	}
	lit := format.QuotaRule{NameVal: [3]uint64{13, 15, 17}, Limit: 33, Prio: 7}
	if got := lit.Hash(); got != 0xffcb3f2017fdfad0 {
		t.Errorf("hash %016x of the literal rule", got)
	}
	dirty, _ := format.Load[format.QuotaRule]([]byte(bytes[:41] + "garbage"))
	if got := dirty.Hash(); got != 0x25ad6a6cc73472eb {
		t.Errorf("hash %016x with dirty padding", got)
	}
	clean := dirty.Clean()
	if string(format.Bytes(&clean)) != bytes {
		t.Error("Clean leaves the padding")
	}
}
