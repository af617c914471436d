// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package txn

import "encoding/binary"

// undoLog is what takes an operation's changes of items back, in the order of
// the changes. Each record is a body and, so that the log can be read from its
// end, the body's length:
//
//	kind u8 | flags u8 | key 4 x u64 | seq u64 | value | length of all before u16
type undoLog struct{ b []byte }

// Kinds of records.
const (
	undoAbsent = iota // there was no item
	undoOld           // there was this one
	undoDelta         // add this value
)

const undoHdr = 2 + 32 + 8

func (u *undoLog) add(kind, flags uint8, k *pkey, seq uint64, val []byte) {
	b := append(u.b, kind, flags)
	b = binary.LittleEndian.AppendUint64(b, k.a)
	b = binary.LittleEndian.AppendUint64(b, k.b)
	b = binary.LittleEndian.AppendUint64(b, k.c)
	b = binary.LittleEndian.AppendUint64(b, k.d)
	b = binary.LittleEndian.AppendUint64(b, seq)
	b = append(b, val...)
	u.b = binary.LittleEndian.AppendUint16(b, uint16(undoHdr+len(val)))
}

func (u *undoLog) addAbsent(k *pkey) { u.add(undoAbsent, 0, k, 0, nil) }

func (u *undoLog) addOld(it *item) { u.add(undoOld, it.flags, &it.key, it.seq, it.val) }

// addDelta notes a delta. Others may add to the same item meanwhile, so it is
// taken back by adding its negative.
func (u *undoLog) addDelta(it *item) {
	var neg [16]byte
	for i := 0; i < 16; i += 8 {
		binary.LittleEndian.PutUint64(neg[i:], -binary.LittleEndian.Uint64(it.val[i:]))
	}
	u.add(undoDelta, 0, &it.key, it.seq, neg[:])
}

// pop takes the last record off the log. it.val shares memory with the log.
func (u *undoLog) pop() (kind uint8, it item, ok bool) {
	if len(u.b) == 0 {
		return 0, item{}, false
	}
	end := len(u.b) - 2
	n := int(binary.LittleEndian.Uint16(u.b[end:]))
	b := u.b[end-n : end]
	u.b = u.b[:end-n]
	k := pkey{
		a: binary.LittleEndian.Uint64(b[2:]), b: binary.LittleEndian.Uint64(b[10:]),
		c: binary.LittleEndian.Uint64(b[18:]), d: binary.LittleEndian.Uint64(b[26:]),
	}
	return b[0], item{key: k, flags: b[1], seq: binary.LittleEndian.Uint64(b[34:]), val: b[undoHdr:]}, true
}

// undo takes every change of the log back, the last one first.
func (c *itemCache) undo(u *undoLog) {
	for {
		kind, it, ok := u.pop()
		if !ok {
			return
		}
		switch kind {
		case undoAbsent:
			c.restore(&it.key, nil)
		case undoOld:
			c.restore(&it.key, &it)
		case undoDelta:
			for c.change(opDelta, it, &undoLog{}) == full {
				c.split(&it.key)
			}
		}
	}
}
