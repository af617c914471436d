// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package format

import "hash/crc32"

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Checksum is the value for a block's CRC field: CRC-32C without the final
// inversion over bytes 4..end. b is the whole block. Source: spec format 2.2.
func Checksum(b []byte) uint32 { return ^crc32.Checksum(b[4:], castagnoli) }

// CRC32C is CRC-32C of all of b without the final inversion.
func CRC32C(b []byte) uint32 { return ^crc32.Checksum(b, castagnoli) }

// XattrNameHash is the hash in the keys of an xattr's items.
func XattrNameHash(name string) uint32 { return CRC32C(stringBytes(name)) }

const (
	fnvOffset32 = 0x811c9dc5
	fnvPrime32  = 0x01000193
	fnvOffset64 = 0xcbf29ce484222325
	fnvPrime64  = 0x100000001b3
)

// Hash32 is FNV-1a of b.
func Hash32[T string | []byte](b T) uint32 {
	h := uint32(fnvOffset32)
	for i := 0; i < len(b); i++ {
		h = (h ^ uint32(b[i])) * fnvPrime32
	}
	return h
}

// Hash64 is FNV-1a of b.
func Hash64[T string | []byte](b T) uint64 {
	h := uint64(fnvOffset64)
	for i := 0; i < len(b); i++ {
		h = (h ^ uint64(b[i])) * fnvPrime64
	}
	return h
}

// Hash32 is FNV-1a over the 32 bytes of the encoded key.
func (k *Key) Hash32() uint32 { return Hash32(Bytes(k)) }

// Hash64 is FNV-1a over the 32 bytes of the encoded key.
func (k *Key) Hash64() uint64 { return Hash64(Bytes(k)) }

// BloomBitNrs are the three bits of a bloom block that stand for the lock
// whose range starts with k. Source: spec format 7.4.
func BloomBitNrs(k *Key) (nrs [3]uint32) {
	h := k.Hash64()
	for i := range nrs {
		nrs[i] = uint32(h) % BloomBits
		h >>= 19
	}
	return nrs
}

// NameHash is the hash of a directory entry's name: in the high half a
// fingerprint whose order is like that of names, in the low half FNV-1a.
// Source: spec format 9.3.
func NameHash(name string) uint64 {
	nbits := len(name) * 8
	step := max(nbits/32, 1)
	var fp uint32
	for out, in := 31, 0; out >= 0 && in < nbits; out, in = out-1, in+step {
		bit := name[in/8] >> (7 - in%8) & 1
		fp |= uint32(bit) << out
	}
	return uint64(fp)<<32 | uint64(Hash32(name))
}
