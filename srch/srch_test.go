// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package srch_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"

	"scoutfs/alloc"
	"scoutfs/block"
	"scoutfs/btree"
	"scoutfs/format"
	"scoutfs/internal/simdisk"
	"scoutfs/srch"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestVectors checks the codec against the sequence of spec format 8.2.
func TestVectors(t *testing.T) {
	var prev format.SrchEntry
	for i, c := range []struct {
		e   format.SrchEntry
		hex string
	}{
		{format.SrchEntry{Hash: 0x123456789abcdef0, Ino: 1025, ID: 0}, "28 00 e0bd7935f1ac6824 0208"},
		{format.SrchEntry{Hash: 0x123456789abcdef0, Ino: 1026, ID: 0}, "10 00 02"},
		{format.SrchEntry{Hash: 0x123456789abcdef0, Ino: 1026, ID: 0}, "00 00"},
		{format.SrchEntry{Hash: 0x0fedcba987654321, Ino: 1024, ID: 300}, "18 02 9d37af269e158d04 03 5802"},
		{format.SrchEntry{Hash: 0xffffffffffffffff, Ino: 5, ID: 1}, "28 02 4386ca0e5397db1f f507 5502"},
		{format.SrchEntry{Hash: 0, Ino: 1, ID: 0}, "11 01 02 07 01"},
	} {
		want, err := hex.DecodeString(strings.ReplaceAll(c.hex, " ", ""))
		must(t, err)
		got := srch.AppendEntry([]byte("x"), &prev, &c.e)[1:]
		if !bytes.Equal(got, want) {
			t.Errorf("%d: %x, want %x", i, got, want)
		}
		e, n, err := srch.DecodeEntry(append(want, 0xff), &prev)
		if err != nil || e != c.e || n != len(want) {
			t.Errorf("%d: decoded %v, %d bytes, %v", i, e, n, err)
		}
		for l := range want {
			if _, _, err := srch.DecodeEntry(want[:l], &prev); !errors.Is(err, srch.ErrShort) {
				t.Errorf("%d: %d bytes: %v", i, l, err)
			}
		}
		prev = c.e
	}
}

func FuzzEntry(f *testing.F) {
	f.Add(uint64(1), uint64(2), uint64(3), uint64(4), uint64(5), uint64(6), []byte{0xff, 0xff})
	f.Add(uint64(0), uint64(0), uint64(0), ^uint64(0), uint64(1)<<63, uint64(1), []byte{})
	f.Fuzz(func(t *testing.T, a, b, c, x, y, z uint64, raw []byte) {
		prev, e := format.SrchEntry{Hash: a, Ino: format.Ino(b), ID: c}, format.SrchEntry{Hash: x, Ino: format.Ino(y), ID: z}
		enc := srch.AppendEntry(nil, &prev, &e)
		got, n, err := srch.DecodeEntry(enc, &prev)
		if err != nil || got != e || n != len(enc) || n > srch.MaxEntrySize {
			t.Fatalf("%v after %v: %v, %d, %v", e, prev, got, n, err)
		}
		if _, n, err := srch.DecodeEntry(raw, &prev); err == nil && n > len(raw) {
			t.Fatalf("%d of %d bytes", n, len(raw))
		}
	})
}

// volume is a disk with blocks to allocate.
type volume struct {
	disk *simdisk.Disk
	c    *block.Cache
	w    *block.Writer
	pair *alloc.Pair
	tx   *btree.Tx
}

func newVolume(t testing.TB) *volume {
	v := &volume{disk: simdisk.New(32<<30, simdisk.Options{})}
	v.c = block.NewCache(v.disk, block.CacheOptions{Fsid: 5, Budget: 32 << 20})
	v.w = v.c.NewWriter()
	v.refill(t)
	return v
}

// refill starts a transaction with a full avail list. Blocks do not come back.
func (v *volume) refill(t testing.TB) {
	first := uint64(10000)
	if v.pair != nil {
		var next uint64
		must(t, alloc.WalkList(v.c, ptr(v.pair.Avail()), func(_ format.BlockRef, es []uint64) error {
			next = es[len(es)-1]
			return nil
		}))
		first = next + 1
		v.pair.Close()
	}
	b := v.w.New(format.Blkno(first), alloc.ListKind)
	l := format.Overlay[format.AllocListBlock](b.Bytes())
	l.Nr = format.AllocListNr
	for i := range l.Blknos {
		l.Blknos[i] = first + 1 + uint64(i)
	}
	head := format.AllocList{Ref: b.Ref(), FirstNr: l.Nr, TotalNr: uint64(l.Nr)}
	b.Release()
	must(t, v.w.Write())
	v.pair = alloc.NewPair(v.c, v.w, head, format.AllocList{})
	v.tx = &btree.Tx{Cache: v.c, Writer: v.w, Alloc: v.pair}
}

func ptr[T any](v T) *T { return &v }

func entries(t testing.TB, c *block.Cache, f *format.SrchFile) (out []format.SrchEntry) {
	t.Helper()
	must(t, srch.Walk(c, f, func(e *format.SrchEntry) error {
		out = append(out, *e)
		return nil
	}))
	return out
}

func randEntry(r *rand.Rand) format.SrchEntry {
	e := format.SrchEntry{Hash: r.Uint64(), Ino: format.Ino(r.Uint64N(1 << 20)), ID: r.Uint64N(100)}
	if r.IntN(3) == 0 {
		e = format.SrchEntry{Hash: uint64(r.IntN(3)), Ino: format.Ino(r.IntN(3)), ID: r.Uint64()}
	}
	return e
}

// check verifies a file's head against its contents.
func check(t testing.TB, c *block.Cache, f *format.SrchFile, want []format.SrchEntry) {
	t.Helper()
	got := entries(t, c, f)
	if !slices.Equal(want, got) {
		t.Fatalf("%d entries, want %d others", len(got), len(want))
	}
	if f.Entries != uint64(len(want)) {
		t.Fatalf("%d entries, want %d", f.Entries, len(want))
	}
	for i := range want {
		if srch.Compare(&want[i], &f.First) < 0 || srch.Compare(&want[i], &f.Last) > 0 {
			t.Fatalf("entry %v outside of the bounds %v..%v", want[i], f.First, f.Last)
		}
	}
	blocks := uint64(0)
	must(t, srch.Blocks(c, f, func(_ format.BlockRef, level int) error {
		if level == 0 {
			blocks++
		}
		return nil
	}))
	if blocks != f.Blocks {
		t.Fatalf("%d blocks, want %d", blocks, f.Blocks)
	}
}

// TestAppend appends in several transactions and reads what each version of
// the file contains, also the old ones.
func TestAppend(t *testing.T) {
	const seed = 3
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	v := newVolume(t)
	var f format.SrchFile
	check(t, v.c, &f, nil)
	must(t, srch.AppendLog(v.tx, &f, nil))
	if f != (format.SrchFile{}) {
		t.Errorf("nothing appended: %+v", f)
	}
	type version struct {
		f format.SrchFile
		n int
	}
	var all []format.SrchEntry
	var old []version
	for range 12 {
		for range 3 {
			add := make([]format.SrchEntry, r.IntN(4000))
			for i := range add {
				add[i] = randEntry(r)
			}
			must(t, srch.AppendLog(v.tx, &f, add))
			all = append(all, add...)
		}
		check(t, v.c, &f, all)
		must(t, v.w.Write())
		v.pair.Reset(v.w, v.pair.Avail(), v.pair.Freed())
		old = append(old, version{f, len(all)})
	}
	if f.Blocks < 8 || f.Height != 2 {
		t.Errorf("file has %d blocks, height %d", f.Blocks, f.Height)
	}
	c := block.NewCache(v.disk, block.CacheOptions{Fsid: 5, Budget: 32 << 20})
	for i := range old {
		check(t, c, &old[i].f, all[:old[i].n])
	}
}

// TestHeight3 grows a file beyond what one parent can refer to. Its blocks are
// made full by hand, which is quicker.
func TestHeight3(t *testing.T) {
	v := newVolume(t)
	var f format.SrchFile
	e := []format.SrchEntry{{Hash: 1, Ino: 2, ID: 3}}
	must(t, srch.AppendLog(v.tx, &f, e))
	for n := uint64(1); n < format.SrchParentRefs+3; n++ {
		fillTail(t, v, &f, n-1)
		if avail, freed := v.pair.Room(); min(avail, freed) < 100 {
			must(t, v.w.Write())
			v.refill(t)
		}
		must(t, srch.AppendLog(v.tx, &f, e))
		if f.Blocks != n+1 {
			t.Fatalf("%d blocks, want %d", f.Blocks, n+1)
		}
	}
	if f.Height != 3 {
		t.Errorf("height %d", f.Height)
	}
	want := []uint64{1, 0, 0}
	must(t, srch.Blocks(v.c, &f, func(_ format.BlockRef, level int) error {
		if level == 1 {
			want[1]++
		}
		if level == 0 {
			want[2]++
		}
		return nil
	}))
	if want[1] != 2 || want[2] != format.SrchParentRefs+3 {
		t.Errorf("blocks by level %v", want)
	}
}

// fillTail pads the last block with differences of zero, coded as long as can be.
func fillTail(t *testing.T, v *volume, f *format.SrchFile, n uint64) {
	t.Helper()
	var last format.BlockRef
	i := uint64(0)
	ref := f.Ref
	if f.Height > 1 {
		for level := int(f.Height) - 1; level > 0; level-- {
			b, err := v.c.Read(ref, srch.ParentKind)
			must(t, err)
			i = n
			for range level - 1 {
				i /= format.SrchParentRefs
			}
			ref = format.Overlay[format.SrchParent](b.Bytes()).Refs[i%format.SrchParentRefs]
			b.Release()
		}
	}
	last = ref
	b, err := v.c.Read(last, srch.BlockKind)
	must(t, err)
	defer b.Release()
	h := format.Overlay[format.SrchBlock](b.Bytes())
	for h.EntryBytes <= format.SrchMaxStart {
		binary.LittleEndian.PutUint16(b.Bytes()[format.SrchHdrSize+h.EntryBytes:], 0x888)
		h.EntryBytes += srch.MaxEntrySize
		h.EntryNr++
	}
}

// TestLastStart puts an entry at the last legal offset, of the greatest size.
func TestLastStart(t *testing.T) {
	v := newVolume(t)
	var f format.SrchFile
	var add []format.SrchEntry
	// 16-byte steps: 65398 = 4087*16 + 6.
	add = append(add, format.SrchEntry{Hash: 1 << 30}) // 2+4 bytes
	for len(add) < 1+4087 {
		e := add[len(add)-1]
		e.Hash += 1 << 62 // 8 bytes
		e.Ino += 1 << 44  // 6 bytes
		add = append(add, e)
	}
	must(t, srch.AppendLog(v.tx, &f, add))
	b, err := v.c.Read(f.Ref, srch.BlockKind)
	must(t, err)
	h := format.Overlay[format.SrchBlock](b.Bytes())
	if f.Blocks != 1 || h.EntryBytes != format.SrchMaxStart {
		t.Fatalf("%d blocks, %d bytes", f.Blocks, h.EntryBytes)
	}
	last := add[len(add)-1]
	last.Hash += 1 << 62
	last.Ino += 1 << 62
	last.ID += 1 << 62
	add = append(add, last, last)
	must(t, srch.AppendLog(v.tx, &f, add[len(add)-2:]))
	if h.EntryBytes != format.LargeSize-format.SrchHdrSize || f.Blocks != 2 {
		t.Errorf("%d blocks, %d bytes in the first", f.Blocks, h.EntryBytes)
	}
	b.Release()
	check(t, v.c, &f, add)
}

// TestNoRoom makes sure that nothing is appended if not all fits.
func TestNoRoom(t *testing.T) {
	v := newVolume(t)
	var f format.SrchFile
	must(t, srch.AppendLog(v.tx, &f, []format.SrchEntry{{Hash: 1}}))
	for {
		if avail, _ := v.pair.Room(); avail == 10 {
			break
		}
		_, err := v.pair.AllocBlock()
		must(t, err)
	}
	before := f
	if err := srch.AppendLog(v.tx, &f, []format.SrchEntry{{Hash: 2}}); !errors.Is(err, syscall.ENOBUFS) {
		t.Errorf("without room: %v", err)
	}
	if f != before {
		t.Errorf("file changed: %+v", f)
	}
}

// TestCorruptFiles makes sure that files that contradict themselves are
// reported and do not hang.
func TestCorruptFiles(t *testing.T) {
	v := newVolume(t)
	var f format.SrchFile
	must(t, srch.AppendLog(v.tx, &f, make([]format.SrchEntry, 70000)))
	if f.Height != 2 {
		t.Fatalf("height %d", f.Height)
	}
	for name, damage := range map[string]func(f *format.SrchFile){
		"height":      func(f *format.SrchFile) { f.Height = 200 },
		"no height":   func(f *format.SrchFile) { f.Height = 0 },
		"wrong level": func(f *format.SrchFile) { f.Height = 1; f.Blocks = 1 },
		"blocks":      func(f *format.SrchFile) { f.Blocks++ },
		"many blocks": func(f *format.SrchFile) { f.Blocks = 1 << 60 },
		"no ref":      func(f *format.SrchFile) { f.Ref = format.BlockRef{} },
	} {
		g := f
		damage(&g)
		err := srch.Walk(v.c, &g, func(*format.SrchEntry) error { return nil })
		var ce *format.CorruptError
		if !errors.As(err, &ce) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzBlock makes sure that arbitrary blocks are refused or can be decoded.
func FuzzBlock(f *testing.F) {
	f.Add(uint32(1), uint32(2), []byte{0, 0})
	f.Add(uint32(2), uint32(65424), []byte{0x88, 8})
	f.Fuzz(func(_ *testing.T, nr, size uint32, data []byte) {
		b := make([]byte, format.LargeSize)
		h := format.Overlay[format.SrchBlock](b)
		h.EntryNr, h.EntryBytes = nr, size
		copy(b[format.SrchHdrSize:], data)
		_ = srch.BlockKind.Verify(b)
		_ = srch.ParentKind.Verify(b)
	})
}
