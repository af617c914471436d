// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package format_test

import (
	"bytes"
	"encoding/binary"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"scoutfs/format"
)

// big35 is the key as one number whose digits are its fields in comparison
// order, as spec format 4.2 defines its arithmetic: 27 bytes, big endian.
func big35(k format.Key) []byte {
	b := []byte{k.Zone}
	b = binary.BigEndian.AppendUint64(b, k.First)
	b = append(b, k.Type)
	b = binary.BigEndian.AppendUint64(b, k.Second)
	b = binary.BigEndian.AppendUint64(b, k.Third)
	return append(b, k.Fourth)
}

// someKeys has many keys at the places where a field wraps.
func someKeys(rng *rand.Rand, n int) []format.Key {
	u64 := func() uint64 {
		switch rng.IntN(4) {
		case 0:
			return 0
		case 1:
			return format.MaxKeyU64
		case 2:
			return rng.Uint64N(3)
		}
		return rng.Uint64()
	}
	u8 := func() uint8 { return uint8(u64()) }
	keys := []format.Key{{}, format.KeyMax}
	for range n {
		keys = append(keys, format.Key{Zone: u8(), First: u64(), Type: u8(), Second: u64(), Third: u64(), Fourth: u8()})
	}
	return keys
}

// TestKeyOrder compares Compare, Inc and Dec with big integers.
func TestKeyOrder(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	keys := someKeys(rand.New(rand.NewPCG(seed, 0)), 300)
	one, mod := big.NewInt(1), new(big.Int).Lsh(big.NewInt(1), 27*8)
	for _, k := range keys {
		n := new(big.Int).SetBytes(big35(k))
		inc := new(big.Int).Mod(new(big.Int).Add(n, one), mod)
		dec := new(big.Int).Mod(new(big.Int).Sub(n, one), mod)
		if got := new(big.Int).SetBytes(big35(k.Inc())); got.Cmp(inc) != 0 {
			t.Errorf("%s.Inc() = %s", k, k.Inc())
		}
		if got := new(big.Int).SetBytes(big35(k.Dec())); got.Cmp(dec) != 0 {
			t.Errorf("%s.Dec() = %s", k, k.Dec())
		}
		if k.Inc().Dec() != k || k.Dec().Inc() != k {
			t.Errorf("Inc and Dec do not undo each other at %s", k)
		}
		for _, o := range keys {
			want := bytes.Compare(big35(k), big35(o))
			if got := k.Compare(&o); got != want || k.Less(&o) != (want < 0) {
				t.Errorf("%s.Compare(%s) = %d, want %d", k, o, got, want)
			}
		}
	}
	if (format.Key{}).Dec() != format.KeyMax || format.KeyMax.Inc() != (format.Key{}) {
		t.Error("the ends of the key space do not meet")
	}
	var pad [5]byte
	if !slices.Equal(format.Bytes(&format.KeyMax)[27:], pad[:]) {
		t.Error("KeyMax has padding that is not zero")
	}
}

func TestKeyDoesNotAllocate(t *testing.T) {
	a, b := format.KeyInode(1), format.KeyInode(2)
	var n uint64
	if got := testing.AllocsPerRun(100, func() {
		if a.Compare(&b) < 0 && a.Less(&b) {
			n += a.Hash64() + uint64(b.Hash32())
			b = b.Inc()
			n += uint64(format.BloomBitNrs(&a)[0])
		}
	}); got != 0 {
		t.Errorf("%v allocations", got)
	}
}

// TestXattrIndexKey has the vectors of spec format 9.7 and filesystem 11.
func TestXattrIndexKey(t *testing.T) {
	for _, v := range []struct {
		major     uint8
		minor, id uint64
		ino       format.Ino
		want      format.Key
	}{
		{7, 1000, 3, 1026, format.Key{Zone: 14, First: 0x0700000000000003, Second: 0xe800000000000004, Third: 0x0200000000000000, Fourth: 3}},
		{5, 0x0102030405060708, 0x2122232425262728, 0x1112131415161718,
			format.Key{Zone: 14, First: 0x0501020304050607, Second: 0x0811121314151617, Third: 0x1821222324252627, Fourth: 0x28}},
		{255, format.MaxKeyU64, format.MaxKeyU64, format.Ino(format.MaxKeyU64),
			format.Key{Zone: 14, First: format.MaxKeyU64, Second: format.MaxKeyU64, Third: format.MaxKeyU64, Fourth: 255}},
	} {
		k := format.KeyXattrIndex(v.major, v.minor, v.ino, v.id)
		if k != v.want {
			t.Errorf("%x %x %x %x: %x", v.major, v.minor, v.ino, v.id, k)
		}
		if major, minor, ino, id := k.XattrIndex(); major != v.major || minor != v.minor || ino != v.ino || id != v.id {
			t.Errorf("%s decodes as %x %x %x %x", k, major, minor, ino, id)
		}
	}
}

// TestFreeOrder has the values of spec format 6.1 and the golden volume.
func TestFreeOrder(t *testing.T) {
	for n, want := range map[uint64]uint64{0: 0, 1: 0, 7: 0, 8: 1, 63: 1, 64: 2, 511: 2, 512: 3, 4095: 3, 4096: 4, 8138: 4,
		32767: 4, 32768: 5, 74252: 5, 262080: 5, 262143: 5, 262144: 6, 1037343: 6, format.MaxKeyU64: 21} {
		if got := format.FreeOrder(n); got != want {
			t.Errorf("FreeOrder(%d) = %d, want %d", n, got, want)
		}
	}
	start, n := format.Blkno(64), uint64(262080)
	if k := format.KeyFreeOrder(start, n); k != (format.Key{Zone: 40, First: ^uint64(5), Second: 262143, Third: 262080}) {
		t.Errorf("order key %s", k)
	}
	for _, k := range []format.Key{format.KeyFreeBlkno(start, n), format.KeyFreeOrder(start, n)} {
		if s, l := k.FreeExtent(); s != start || l != n {
			t.Errorf("%s describes %d,%d", k, s, l)
		}
	}
}

// TestKeyConstructors compares every constructor with the table of spec format 4.3.
func TestKeyConstructors(t *testing.T) {
	for _, v := range []struct {
		key  format.Key
		want string
	}{
		{format.KeyMetaSeq(5, 6), "4.0.4.5.6.0"},
		{format.KeyDataSeq(5, 6), "4.0.8.5.6.0"},
		{format.KeyOrphan(7), "8.0.4.7.0.0"},
		{format.KeyQuota(8, 9), "10.0.4.8.9.0"},
		{format.KeyTotl(1, 2, 3), "12.1.0.2.3.0"},
		{format.KeyInode(7), "16.7.4.0.0.0"},
		{format.KeyXattr(7, 8, 9, 1), "16.7.8.8.9.1"},
		{format.KeyDirent(7, 8, 9), "16.7.12.8.9.0"},
		{format.KeyReaddir(7, 9), "16.7.16.9.0.0"},
		{format.KeyBackref(7, 8, 9), "16.7.20.8.9.0"},
		{format.KeySymlink(7, 1), "16.7.24.1.0.0"},
		{format.KeyExtent(7, 8, 9), "16.7.28.8.9.0"},
		{format.KeyLogTrees(7, 1), "24.7.0.1.0.0"},
		{format.KeyMountedClient(7), "28.7.0.0.0.0"},
		{format.KeySrchLog(7), "32.0.4.7.0.0"},
		{format.KeySrchFile(7, 8), "32.0.8.7.8.0"},
		{format.KeySrchPending(7), "32.0.12.7.0.0"},
		{format.KeySrchBusy(7, 8), "32.0.16.7.8.0"},
		{format.KeyMergeStatus(), "44.0.0.0.0.0"},
		{format.KeyMergeRange(format.KeyDirent(7, 8, 9)), "48.7.12.8.9.0"},
		{format.KeyMergeRequest(7, 8), "52.7.0.8.0.0"},
		{format.KeyMergeComplete(8), "56.8.0.0.0.0"},
		{format.KeyMergeFreeing(8), "60.8.0.0.0.0"},
	} {
		if got := v.key.String(); got != v.want {
			t.Errorf("%s, want %s", got, v.want)
		}
	}
}
