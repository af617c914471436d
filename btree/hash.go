// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package btree

import (
	"encoding/binary"

	"scoutfs/format"
)

// The hash table at the end of a leaf: open addressing, linear probing. A
// bucket holds an item's offset from the block's start, or 0. There are more
// buckets than a leaf can have items, so that probing ends.
// Source: spec format 5.4.

const (
	fnvOffset = 0x811c9dc5
	fnvPrime  = 0x01000193
)

// primePower[i] is fnvPrime to the power i: what i bytes of zero do to a hash.
var primePower = func() (p [9]uint32) {
	p[0] = 1
	for i := range len(p) - 1 {
		p[i+1] = p[i] * fnvPrime
	}
	return p
}()

// hashKey is key.Hash32 for a key whose padding is zero. Runs of zero bytes, of
// which most keys have many, are one multiplication.
func hashKey(key *format.Key) uint32 {
	h := hash64(fnvOffset, key.First)
	h = hash64(h, key.Second)
	h = hash64(h, key.Third)
	h = (h ^ uint32(key.Fourth)) * fnvPrime
	h = (h ^ uint32(key.Zone)) * fnvPrime
	h = (h ^ uint32(key.Type)) * fnvPrime
	return h * primePower[keyPad]
}

// hash64 adds the eight bytes of v to the hash.
func hash64(h uint32, v uint64) uint32 {
	zeros := 8
	for ; v != 0; v >>= 8 {
		h = (h ^ uint32(v&0xff)) * fnvPrime
		zeros--
	}
	return h * primePower[zeros]
}

// home is the bucket at which probing for the key starts.
func home(key *format.Key) int { return int(hashKey(key) % format.BtreeHashNr) }

func after(bucket int) int {
	if bucket++; bucket < format.BtreeHashNr {
		return bucket
	}
	return 0
}

func (n *node) bucket(i int) uint16 {
	return binary.LittleEndian.Uint16(n[format.BtreeHashOff+2*i:])
}

func (n *node) setBucket(i int, off uint16) {
	binary.LittleEndian.PutUint16(n[format.BtreeHashOff+2*i:], off)
}

// find returns the slot of the leaf's item with exactly the key, or 0.
func (n *node) find(key *format.Key) uint16 { return n.findFrom(key, home(key)) }

// findFrom is find with the key's home bucket.
func (n *node) findFrom(key *format.Key, i int) uint16 {
	for ; ; i = after(i) {
		off := n.bucket(i)
		if off == 0 {
			return 0
		}
		if slot := off - format.AvlBase; n.item(slot).Key == *key {
			return slot
		}
	}
}

// hashInsert adds the slot of an item whose home bucket is i.
func (n *node) hashInsert(slot uint16, i int) {
	for n.bucket(i) != 0 {
		i = after(i)
	}
	n.setBucket(i, slot+format.AvlBase)
}

// hashBucket returns the bucket that holds the slot.
func (n *node) hashBucket(slot uint16) int {
	i := home(&n.item(slot).Key)
	for n.bucket(i) != slot+format.AvlBase {
		i = after(i)
	}
	return i
}

// hashDelete removes the slot, whose item still has its key, and moves those
// behind it that could not be found any more.
func (n *node) hashDelete(slot uint16) {
	i := n.hashBucket(slot)
	n.setBucket(i, 0)
	for i = after(i); n.bucket(i) != 0; i = after(i) {
		moved := n.bucket(i) - format.AvlBase
		n.setBucket(i, 0)
		n.hashInsert(moved, home(&n.item(moved).Key))
	}
}

// hashMove notes that an item moves to another slot. Its key must still be at
// the old one.
func (n *node) hashMove(from, to uint16) { n.setBucket(n.hashBucket(from), to+format.AvlBase) }

// hashRebuild fills the table from the items.
func (n *node) hashRebuild() {
	clear(n[format.BtreeHashOff:])
	for i := range n.nr() {
		slot := slotOf(i)
		n.hashInsert(slot, home(&n.item(slot).Key))
	}
}
