// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package btree

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"scoutfs/block"
	"scoutfs/format"
	"scoutfs/internal/invariants"
)

// newTestNode returns an empty block of its own memory.
func newTestNode(level uint8) *node {
	n := (*node)(block.AlignedBuf(format.LargeSize))
	clear(n[:])
	n.hdr().Hdr.Magic = format.MagicBtree
	n.init(level)
	return n
}

func (n *node) freeForTest() { block.FreeBuf(n[:]) }

func testKey(i int) *format.Key {
	k := format.KeyExtent(format.Ino(i%7), uint64(i), uint64(i%3))
	return &k
}

// fillNode returns a block with about nr items after some were deleted and
// updated.
func fillNode(level uint8, nr int, rng *rand.Rand) *node {
	n := newTestNode(level)
	for i := range nr {
		size := 16
		if level == 0 {
			size = rng.IntN(200)
		}
		if !n.hasRoom(size) {
			break
		}
		k := testKey(rng.IntN(1 << 30))
		if slot := n.ge(k); slot != 0 && n.item(slot).Key == *k {
			continue // drawn before; a node never has a key twice
		}
		n.create(k, rng.Uint64(), 0, testValue(size))
		if slot := slotOf(rng.IntN(n.nr())); i%5 == 0 && n.hasRoom(size) {
			n.update(slot, testValue(size))
		} else if i%7 == 0 {
			n.remove(slot)
		}
	}
	return n
}

// testValue starts like a reference to a block.
func testValue(size int) []byte {
	v := make([]byte, size)
	if size >= 8 {
		binary.LittleEndian.PutUint64(v, 1000)
	}
	return v
}

// exercise uses a verified block in all ways and verifies it after each change.
func exercise(n *node) error {
	seen := 0
	for slot := n.first(); slot != 0; slot = n.next(slot) {
		k := &n.item(slot).Key
		if n.ge(k) != slot || n.le(k) != slot || n.isLeaf() && n.find(k) != slot {
			return fmt.Errorf("item %v is not found", *k)
		}
		seen++
	}
	for slot := n.last(); slot != 0; slot = n.prev(slot) {
		seen--
	}
	if seen != 0 {
		return fmt.Errorf("%d items more forwards than backwards", seen)
	}
	n.fixQuirk()
	steps := []struct {
		name string
		do   func()
	}{
		{"create", func() { createSome(n, 3) }},
		{"remove", func() { removeSome(n, 3) }},
		{"compact", n.compact},
		{"fill", func() { createSome(n, 2000) }},
		{"split", func() {
			l := newTestNode(n.hdr().Level)
			defer l.freeForTest()
			l.moveItems(n, int(n.hdr().TotalItemBytes)/2, false)
		}},
		{"empty", func() { removeSome(n, n.nr()-int(min(n.hdr().Level, 1))) }},
	}
	for _, s := range steps {
		s.do()
		if err := VerifyBlock(n[:]); err != nil {
			return fmt.Errorf("after %s: %w", s.name, err)
		}
	}
	return nil
}

func createSome(n *node, nr int) {
	for i := range nr {
		size := 16
		if n.isLeaf() {
			size = i % 50
		}
		k := testKey(1<<31 + i)
		if slot := n.ge(k); n.hasRoom(size) && (slot == 0 || n.item(slot).Key != *k) {
			n.create(k, 0, 0, testValue(size))
		}
	}
}

func removeSome(n *node, nr int) {
	for i := range nr {
		if n.nr() == 0 || n.nr() == 1 && !n.isLeaf() {
			return
		}
		n.remove(slotOf(i * 7 % n.nr()))
	}
}

func TestNodeExercise(t *testing.T) {
	rng := NewRand(t)
	for i := range 200 {
		n := fillNode(uint8(i%2), rng.IntN(1200), rng)
		if n.nr() > 0 {
			if err := VerifyBlock(n[:]); err != nil {
				t.Fatal(err)
			}
			if err := exercise(n); err != nil {
				t.Fatal(err)
			}
		}
		n.freeForTest()
	}
}

// TestMutations changes valid blocks at places that matter. What still passes
// verification must be safe to use.
func TestMutations(t *testing.T) {
	rng := NewRand(t)
	scratch := newTestNode(0)
	defer scratch.freeForTest()
	var passed, failed int
	rounds := 3000
	if invariants.Enabled { // everything is slower then
		rounds = 500
	}
	for _, base := range baseBlocks(rng) {
		for range rounds {
			*scratch = *base
			for range 1 + rng.IntN(3) {
				mutateSomewhere(scratch, rng)
			}
			if VerifyBlock(scratch[:]) != nil {
				failed++
				continue
			}
			passed++
			if err := exercise(scratch); err != nil {
				t.Fatal(err)
			}
		}
		base.freeForTest()
	}
	t.Logf("%d passed verification, %d did not", passed, failed)
	if failed < 1000 || passed < 100 {
		t.Fatal("the mutations are not well chosen")
	}
}

// mutateSomewhere changes 1 to 8 bytes in the header, the items or the table.
func mutateSomewhere(n *node, rng *rand.Rand) {
	items := max(1, n.nr()*format.BtreeItemSize)
	var off int
	switch rng.IntN(4) {
	case 0:
		off = format.AvlBase + rng.IntN(9)
	case 1, 2:
		off = format.BtreeHdrSize + rng.IntN(items)
	default:
		off = format.BtreeHashOff + rng.IntN(format.LargeSize-format.BtreeHashOff-8)
	}
	switch off = min(off, format.LargeSize-8); rng.IntN(4) {
	case 0:
		n[off] ^= 1 << rng.IntN(8)
	case 1:
		binary.LittleEndian.PutUint16(n[off:], uint16(rng.Uint32()))
	case 2:
		binary.LittleEndian.PutUint16(n[off&^1:], slotOf(rng.IntN(1200))+uint16(32*rng.IntN(2)))
	default:
		binary.LittleEndian.PutUint64(n[off&^7:], rng.Uint64())
	}
}

func baseBlocks(rng *rand.Rand) []*node {
	quirk := newTestNode(0)
	for i := range 2 {
		quirk.create(testKey(i), 1, 0, nil)
	}
	if quirk.hdr().ItemRoot == slotOf(0) { // mkfs makes the second item the root
		quirk.rotateLeft(slotOf(0))
	}
	quirk.avl(slotOf(1)).Height = 0
	return []*node{
		quirk, newTestNode(0), fillNode(0, 1, rng), fillNode(0, 5, rng), fillNode(0, 400, rng),
		fillNode(0, 5000, rng), fillNode(1, 3, rng), fillNode(1, 5000, rng),
	}
}

// FuzzVerifyBlock takes a base block and triples of an offset and a byte to
// store there.
func FuzzVerifyBlock(f *testing.F) {
	rng := rand.New(rand.NewPCG(1, 2))
	bases := baseBlocks(rng)
	for i := range bases {
		f.Add(uint8(i), []byte{})
		f.Add(uint8(i), []byte{34, 0, 1})
		f.Add(uint8(i), []byte{48, 0, 72, 54, 0, 2, 0xb0, 0xf4, 9})
	}
	scratch := newTestNode(0)
	f.Fuzz(func(t *testing.T, base uint8, edits []byte) {
		*scratch = *bases[int(base)%len(bases)]
		for ; len(edits) >= 3; edits = edits[3:] {
			scratch[binary.LittleEndian.Uint16(edits)] = edits[2]
		}
		if VerifyBlock(scratch[:]) != nil {
			return
		}
		if err := exercise(scratch); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzVerifyRaw takes the first bytes of an otherwise empty block.
func FuzzVerifyRaw(f *testing.F) {
	n := fillNode(0, 3, rand.New(rand.NewPCG(1, 2)))
	f.Add(append([]byte{}, n[:300]...))
	scratch := newTestNode(0)
	f.Fuzz(func(t *testing.T, b []byte) {
		clear(scratch[:])
		copy(scratch[:], b)
		if VerifyBlock(scratch[:]) == nil {
			if err := exercise(scratch); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestVerifyRejects(t *testing.T) {
	if VerifyBlock(make([]byte, 4096)) == nil {
		t.Error("short block passes")
	}
	base := newTestNode(0)
	defer base.freeForTest()
	for i := range 5 {
		base.create(testKey(i), 0, 0, testValue(16))
	}
	n := newTestNode(0)
	defer n.freeForTest()
	for name, spoil := range map[string]func(){
		"level":             func() { n.hdr().Level = 20 },
		"too many items":    func() { n.hdr().NrItems = 1116 },
		"items and gap":     func() { n.hdr().MidFreeLen += 8 * 11 },
		"odd gap":           func() { n.hdr().MidFreeLen -= 3 },
		"total":             func() { n.hdr().TotalItemBytes += 8 },
		"root":              func() { n.hdr().ItemRoot = 0 },
		"root inside item":  func() { n.hdr().ItemRoot += 8 },
		"height":            func() { n.avl(n.hdr().ItemRoot).Height++ },
		"parent link":       func() { n.avl(n.first()).Parent = n.first() },
		"loop":              func() { n.avl(n.first()).Left = n.hdr().ItemRoot },
		"same child twice":  func() { nd := n.avl(n.hdr().ItemRoot); nd.Left = nd.Right },
		"order":             func() { n.item(n.first()).Key.Zone = 200 },
		"duplicate":         func() { n.item(n.first()).Key = n.item(n.next(n.first())).Key },
		"value offset":      func() { n.item(n.first()).ValOff += 4 },
		"value in the gap":  func() { n.item(n.first()).ValOff = 400 },
		"value in the hash": func() { n.item(n.first()).ValOff = format.BtreeHashOff },
		"overlap":           func() { n.item(n.first()).ValOff = n.item(n.last()).ValOff },
		"long value":        func() { n.item(n.first()).ValLen = 897 },
		"key padding":       func() { n[format.AvlBase+int(n.first())+8+30] = 1 },
		"bucket cleared":    func() { n.setBucket(n.hashBucket(n.first()), 0) },
		"bucket wrong":      func() { n.setBucket(n.hashBucket(n.first()), 50) },
		"bucket doubled":    func() { n.setBucket(n.hashBucket(n.first()), n.bucket(n.hashBucket(n.last()))) },
		"bucket too many":   func() { n.setBucket(0, 48) },
		"null reference":    func() { n.hdr().Level = 1; clear(n.val(n.item(n.first()))) },
	} {
		*n = *base
		if err := VerifyBlock(n[:]); err != nil {
			t.Fatal(err)
		}
		spoil()
		if VerifyBlock(n[:]) == nil {
			t.Errorf("%s: passes", name)
		}
	}
}

// TestVerifyTolerates lists what spec format 5.7 asks of readers.
func TestVerifyTolerates(t *testing.T) {
	for name, make := range map[string]func(n *node){
		"empty leaf":     func(*node) {},
		"smaller gap":    func(n *node) { n.create(testKey(1), 0, 0, nil); n.hdr().MidFreeLen -= 800 },
		"seqs and flags": func(n *node) { n.create(testKey(1), 99, 1, nil) },
		"stale bytes": func(n *node) {
			for i := range 9 {
				n.create(testKey(i), 0, 0, testValue(30))
			}
			for range 5 {
				n.remove(slotOf(0))
			}
		},
		"heights of mkfs": func(n *node) { *n = *baseBlocks(rand.New(rand.NewPCG(1, 1)))[0] },
		"item padding":    func(n *node) { n.create(testKey(1), 0, 0, nil); n[format.BtreeHdrSize+55] = 1 },
		"single child":    func(n *node) { n.hdr().Level = 1; n.init(1); n.create(testKey(1), 0, 0, testValue(16)) },
	} {
		n := newTestNode(0)
		make(n)
		if err := VerifyBlock(n[:]); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		n.freeForTest()
	}
}
