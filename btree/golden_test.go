// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package btree_test

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"strconv"
	"strings"
	"testing"

	"scoutfs/btree"
	"scoutfs/format"
)

// Listings of spec format 10.5: offset, then 16 bytes, the rest zero.
var examples = map[string]struct {
	blkno format.Blkno
	crc   uint32
	lines string
	keys  []string
}{
	"fs root": {2, 0x6fd4e343, `
0010 0100000000000000 0200000000000000
0020 48000200 1801e8f2 0000000000000000
0030 480000000000 0100 0000000000000000
0040 0000000000000000 0100000000000000
0050 0004040000000000 0100000000000000
0060 0000000000000000 0000100000000000
0070 0100000000000000 0000000000000000
0080 0000000000000000 0010040000000000
0090 0100000000000000 88f3a80000000000
f3b0 0000000000000000 0200000000000000
f3d0 0200000000000000 00000000ed410000
f3e0 0000000000000000 b3f7026b00000000
f3f0 98be250b00000000 b3f7026b00000000
f400 98be250b00000000 b3f7026b00000000
f410 98be250b00000000 b3f7026b00000000
f420 98be250b00000000 0000000000000000
f620 0000000000000000 3000000000000000
fc50 6800000000000000 0000000000000000`, []string{"4.0.4.0.1.0", "16.1.4.0.0.0"}},
	"data extents": {1028, 0xdea6388e, `
0010 0100000000000000 0404000000000000
0020 48000200 700090f3 0000000000000000
0030 480000000000 0100 ffff030000000000
0040 c0ff030000000000 0000000000000000
0050 0024000000000000 0100000000000000
0060 0000000000000000 0000100000000000
0070 faffffffffffffff ffff030000000000
0080 c0ff030000000000 0028000000000000
0090 0100000000000000 0000000000000000
f5d0 000000000000 6800 0000000000000000
fa90 00000000 3000 0000 0000000000000000`, []string{"36.262143.0.262080.0.0", "40.18446744073709551610.0.262143.262080.0"}},
}

// TestExamples rebuilds blocks that mkfs wrote from their listings: their
// checksums prove that no byte is missing, and they must verify and be usable.
func TestExamples(t *testing.T) {
	for name, ex := range examples {
		b := make([]byte, format.LargeSize)
		for line := range strings.Lines(ex.lines) {
			off, data, ok := strings.Cut(strings.TrimSpace(line), " ")
			if !ok {
				continue
			}
			at, _ := strconv.ParseUint(off, 16, 16)
			raw, err := hex.DecodeString(strings.ReplaceAll(data, " ", ""))
			if err != nil || len(raw) != 16 {
				t.Fatalf("%s: line %q: %v", name, line, err)
			}
			copy(b[at:], raw)
		}
		head, _ := hex.DecodeString("6df997e5e091a7f46d82e3a6")
		copy(b[4:], head)
		if got := format.Checksum(b); got != ex.crc {
			t.Errorf("%s: crc %08x, want %08x", name, got, ex.crc)
		}
		if err := btree.VerifyBlock(alignedCopy(b)); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		binary.LittleEndian.PutUint64(b[8:], testFsid)
		e := newEnv(t)
		e.install(b, ex.blkno, 1)
		var keys []string
		for _, it := range e.check() {
			keys = append(keys, it.Key.String())
			if _, err := btree.Lookup(e.cache, &e.root, &it.Key, nil); err != nil {
				t.Errorf("%s: lookup %v: %v", name, it.Key, err)
			}
		}
		if strings.Join(keys, " ") != strings.Join(ex.keys, " ") {
			t.Errorf("%s: keys %v", name, keys)
		}
	}
}

// TestMkfsExtents makes the other two allocator leaves of the example with
// this package's own inserts and compares their buckets.
func TestMkfsExtents(t *testing.T) {
	for _, ex := range []struct {
		start   format.Blkno
		n       uint64
		buckets map[int]int
	}{
		{1031, 1533, map[int]int{626: 48, 1441: 104}},
		{2564, 1532, map[int]int{100: 48, 1295: 104}},
	} {
		e := newEnv(t)
		pos, order := format.KeyFreeBlkno(ex.start, ex.n), format.KeyFreeOrder(ex.start, ex.n)
		e.must(e.tx.Insert(&e.root, &pos, nil))
		e.must(e.tx.Insert(&e.root, &order, nil))
		got := parseLeaf(e.blockBytes(e.root.Ref))
		for i, off := range ex.buckets {
			if got.Buckets[i] != off {
				t.Errorf("extent %d: buckets %v", ex.start, got.Buckets)
			}
		}
	}
}

// TestParentExample compares a parent of 476 children with spec format 10.6.
func TestParentExample(t *testing.T) {
	e := newEnv(t)
	n := e.putLong(0, 66+474*33+5)
	b := e.blockBytes(e.root.Ref)
	st, items := stateOf(b), parseItems(b)
	if st != (blockState{476, 34272, 31216}) || e.root.Height != 2 {
		t.Fatalf("%d items: parent %+v, height %d", n, st, e.root.Height)
	}
	if items[0].Key != format.KeyMax || items[0].ValOff != 0xfff0 || items[0].ValLen != 16 || items[0].Seq != 0 {
		t.Fatalf("item 0: %+v", items[0])
	}
	for i, it := range items {
		if int(it.ValOff) != format.LargeSize-16*(i+1) {
			t.Fatalf("value %d at %d", i, it.ValOff)
		}
	}
}

// TestCheckRejects changes committed trees behind the package's back in ways
// that each single block allows.
func TestCheckRejects(t *testing.T) {
	for name, spoil := range map[string]func(root, leaf []byte){
		"leaf key beyond its bound": func(_, leaf []byte) { leaf[format.BtreeHdrSize+8+25] = 200 },
		"right edge":                func(root, _ []byte) { root[format.BtreeHdrSize+8+24] = 7 },
		"item padding":              func(_, leaf []byte) { leaf[format.BtreeHdrSize+53] = 1 },
		"node padding":              func(_, leaf []byte) { leaf[format.BtreeHdrSize+7] = 1 },
		"flags":                     func(_, leaf []byte) { leaf[format.BtreeHdrSize+52] = 2 },
		"deletion with a value":     func(_, leaf []byte) { leaf[format.BtreeHdrSize+52] = 1 },
		"parent flags":              func(root, _ []byte) { root[format.BtreeHdrSize+52] = 1 },
		"child":                     func(root, _ []byte) { root[format.LargeSize-8]++ },
	} {
		e := filled(t, 600, 100)
		root := e.blockBytes(e.root.Ref)
		items := parseItems(root)
		ref, _ := format.Load[format.BlockRef](root[items[0].ValOff:])
		leaf := e.blockBytes(ref)
		spoil(root, leaf)
		e.rewrite(root, e.root.Ref.Blkno)
		e.rewrite(leaf, ref.Blkno)
		e.reopen()
		err := btree.Check(e.cache, &e.root, btree.CheckOptions{})
		var ce *format.CorruptError
		var se *format.StaleError
		if !errors.As(err, &ce) && !errors.As(err, &se) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

// rewrite stores a block with a new checksum.
func (e *env) rewrite(b []byte, blkno format.Blkno) {
	e.t.Helper()
	buf := alignedCopy(b)
	binary.LittleEndian.PutUint32(buf, format.Checksum(buf))
	e.must(writeBlock(e.disk, buf, blkno))
}

func TestCheckWarns(t *testing.T) {
	e := filled(t, 500, 100)
	var reasons []string
	warn := func(_ format.BlockRef, reason string) { reasons = append(reasons, reason) }
	e.must(btree.Check(e.cache, &e.root, btree.CheckOptions{Warn: warn}))
	for n := 1; n <= 94; n++ { // the 93rd delete goes below the mark, the next one joins
		e.must(e.tx.Delete(&e.root, key(n)))
		reasons = nil
		e.must(btree.Check(e.cache, &e.root, btree.CheckOptions{Warn: warn}))
		if (len(reasons) > 0) != (n == 93) {
			t.Fatalf("after delete %d: warnings %v", n, reasons)
		}
	}
}

// TestReadersOfOldRoots reads a committed tree while a transaction changes it.
func TestReadersOfOldRoots(t *testing.T) {
	e := filled(t, 3000, 60)
	old := e.root
	done := make(chan error)
	for g := range 2 {
		go func() {
			var err error
			for i := 0; i < 2000 && err == nil; i++ {
				_, err = btree.Lookup(e.cache, &old, key(1+(i*17+g)%3000), nil)
			}
			if err == nil {
				err = btree.Check(e.cache, &old, btree.CheckOptions{})
			}
			done <- err
		}()
	}
	for n := 1; n <= 3000; n++ {
		e.must(e.tx.Delete(&e.root, key(n)))
		e.must(e.tx.Insert(&e.root, key(n+5000), value(n, 200)))
	}
	for range 2 {
		e.must(<-done)
	}
	e.commit()
	e.check()
}
