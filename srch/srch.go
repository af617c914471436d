// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

// Package srch keeps the files of entries that tell which inodes have an
// xattr of a given name.
//
// A file is a radix tree of 64 KiB metadata blocks. Data blocks are numbered
// densely from 0 and hold delta coded entries; parents hold 4094 references.
//
//	SrchFile -> parent -> parent -> data block: header | first last tail | nr bytes | entries ...
//	entry: u16 (bytes of hash | bytes of ino << 4 | bytes of id << 8), then the
//	low bytes of the three zigzag coded differences to the entry before
//
// A log file holds entries in the order of arrival; a mount appends to it in
// each transaction, copying on write. Two equal entries cancel each other.
//
// Lengths of files count data blocks, lengths of entries bytes. Nothing here
// locks: a file belongs to the transaction that changes it.
// Source: spec format 8.
package srch

import (
	"encoding/binary"
	"errors"
	"math/bits"

	"scoutfs/format"
)

// MaxEntrySize is the longest encoding of an entry in bytes.
const MaxEntrySize = 2 + 3*8

// ErrShort says that the bytes end within an entry.
var ErrShort = errors.New("srch: entry is cut off")

// Compare orders entries by hash, inode number and id.
func Compare(a, b *format.SrchEntry) int {
	switch {
	case a.Hash != b.Hash:
		return cmpU64(a.Hash, b.Hash)
	case a.Ino != b.Ino:
		return cmpU64(uint64(a.Ino), uint64(b.Ino))
	}
	return cmpU64(a.ID, b.ID)
}

func cmpU64(a, b uint64) int {
	if a < b {
		return -1
	}
	if a > b {
		return 1
	}
	return 0
}

// zigzag codes a wrapped difference so that small ones of both signs are small.
func zigzag(d uint64) uint64 { return d<<1 ^ uint64(int64(d)>>63) }

func unzigzag(z uint64) uint64 {
	if z&1 != 0 {
		return ^(z >> 1)
	}
	return z >> 1
}

// AppendEntry appends e's encoding after the entry prev, which is zero at the
// start of a block. Source: spec format 8.2.
func AppendEntry(b []byte, prev, e *format.SrchEntry) []byte {
	z := [3]uint64{zigzag(e.Hash - prev.Hash), zigzag(uint64(e.Ino - prev.Ino)), zigzag(e.ID - prev.ID)}
	at := len(b)
	b = append(b, 0, 0)
	var lens uint16
	for i, v := range z {
		n := (bits.Len64(v) + 7) / 8
		lens |= uint16(n) << (4 * i)
		for range n {
			b = append(b, byte(v))
			v >>= 8
		}
	}
	binary.LittleEndian.PutUint16(b[at:], lens)
	return b
}

// DecodeEntry decodes the entry at the start of b that follows prev, and
// returns how many bytes it takes. It returns ErrShort if b is too short.
func DecodeEntry(b []byte, prev *format.SrchEntry) (e format.SrchEntry, n int, err error) {
	if len(b) < 2 {
		return e, 0, ErrShort
	}
	lens := binary.LittleEndian.Uint16(b)
	n = 2
	var d [3]uint64
	for i := range d {
		l := min(int(lens>>(4*i)&15), 8)
		if len(b) < n+l {
			return e, 0, ErrShort
		}
		var z uint64
		for j := range l {
			z |= uint64(b[n+j]) << (8 * j)
		}
		d[i] = unzigzag(z)
		n += l
	}
	return format.SrchEntry{Hash: prev.Hash + d[0], Ino: prev.Ino + format.Ino(d[1]), ID: prev.ID + d[2]}, n, nil
}
