// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package dump_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"scoutfs/block"
	"scoutfs/dump"
	"scoutfs/format"
	"scoutfs/internal/simdisk"
	"scoutfs/mkfs"
)

const testFsid = 0xf51d

// volume is a new volume on a simulated disk whose super a test can change.
type volume struct {
	t     *testing.T
	meta  *simdisk.Disk
	data  *simdisk.Disk
	super format.Super
}

func newVolume(t *testing.T) *volume {
	t.Helper()
	v := &volume{t: t, meta: simdisk.New(128<<20, simdisk.Options{Name: "meta"}), data: simdisk.New(128<<20, simdisk.Options{Name: "data"})}
	s, err := mkfs.Format(v.meta, v.data, mkfs.Options{
		Slots:      map[int]netip.AddrPort{0: netip.MustParseAddrPort("127.0.0.1:53000")},
		AllowSmall: true, Fsid: testFsid, UUID: [16]byte{1}, Time: time.Unix(1, 2000),
	})
	if err != nil {
		t.Fatal(err)
	}
	v.super = *s
	return v
}

func (v *volume) put(off int64, b []byte) {
	v.t.Helper()
	buf := block.AlignedBuf(len(b))
	defer block.FreeBuf(buf)
	copy(buf, b)
	if err := block.WriteAt(v.meta, buf, off); err != nil {
		v.t.Fatal(err)
	}
}

// putSuper writes the changed super.
func (v *volume) putSuper() {
	v.t.Helper()
	b := make([]byte, format.SmallSize)
	copy(b, format.Bytes(&v.super))
	format.SetChecksum(b)
	v.put(int64(format.SuperBlkno)<<format.SmallShift, b)
}

// putLarge writes a large block with a proper header and returns its reference.
func (v *volume) putLarge(blkno format.Blkno, magic format.Magic, fill func(b []byte)) format.BlockRef {
	v.t.Helper()
	b := make([]byte, format.LargeSize)
	fill(b)
	format.FillHeader(b, format.BlockHeader{Magic: magic, Fsid: testFsid, Seq: 7, Blkno: blkno})
	v.put(int64(blkno)<<format.LargeShift, b)
	return format.BlockRef{Blkno: blkno, Seq: 7}
}

type kv struct {
	key format.Key
	val []byte
}

// putTree writes a btree block of items in order. Its AVL tree is a list to
// the right, which print does not mind.
func (v *volume) putTree(blkno format.Blkno, level uint8, items ...kv) format.BlockRef {
	return v.putLarge(blkno, format.MagicBtree, func(b []byte) {
		h := format.BtreeBlock{NrItems: uint16(len(items)), Level: level, ItemRoot: format.AvlFirst}
		end := format.BtreeLeafEnd
		if level > 0 {
			end = format.BtreeParentEnd
		}
		for i, it := range items {
			item := format.BtreeItem{Key: it.key, ValLen: uint16(len(it.val)), Node: format.AvlNode{Height: 1}}
			if i < len(items)-1 {
				item.Node.Right = uint16(format.AvlFirst + (i+1)*format.BtreeItemSize)
			}
			if len(it.val) > 0 {
				end -= (len(it.val) + 7) &^ 7
				item.ValOff = uint16(end)
				copy(b[end:], it.val)
			}
			copy(b[format.BtreeHdrSize+i*format.BtreeItemSize:], format.Bytes(&item))
		}
		copy(b, format.Bytes(&h))
	})
}

func ref(r format.BlockRef) []byte { return bytes.Clone(format.Bytes(&r)) }

func (v *volume) print(o dump.Options) (string, error) {
	v.t.Helper()
	var out bytes.Buffer
	done := make(chan error, 1)
	go func() { done <- dump.Print(&out, v.meta, o) }()
	select {
	case err := <-done:
		return out.String(), err
	case <-time.After(time.Minute):
		panic("Print does not end")
	}
}

func (v *volume) wants(text string, err error, wants ...string) {
	v.t.Helper()
	for _, want := range wants {
		if !strings.Contains(text, want) {
			v.t.Errorf("no %q in the text", want)
		}
	}
	if v.t.Failed() {
		v.t.Logf("error %v, text\n%s", err, text[:min(len(text), 6000)])
	}
}

func TestNewVolume(t *testing.T) {
	v := newVolume(t)
	v.super.VolOpt.SetBits, v.super.VolOpt.Values[0] = 1, 1<<20
	text, err := v.print(dump.Options{})
	if err != nil {
		t.Error(err)
	}
	v.wants(text, err, "super blkno 16\n", "fmt_vers 2 uuid 01000000-", "    quorum slot  0: 127.0.0.1:53000\n", "quorum blkno 31 (slot 14)\n",
		"server_meta_avail[0] alloc_list_block blkno 3\n", "  exts: 4,1024 \n", "data_alloc btree blkno 1028\n",
		"    free extent: blkno 64 len 32704 end 32767\n", "  level 0 nr_items 2 item_root.node 72\n",
		"    16.1.4.0.0.0 1 -\n    inode: ino 1 size 0 version 0 proj 0 nlink 2\n", "ctime 1.00002000\n")
	skipped, err := v.print(dump.Options{SkipLarge: true})
	if err != nil || strings.Contains(skipped, "fs_root btree") || strings.Contains(skipped, "alloc btree") {
		t.Errorf("%v, with -S\n%s", err, skipped)
	}
}

func TestNotAVolume(t *testing.T) {
	v := newVolume(t)
	var out bytes.Buffer
	err := dump.Print(&out, v.data, dump.Options{})
	if !errors.Is(err, syscall.EINVAL) || !strings.HasPrefix(out.String(), "super blkno 16\n") || strings.Contains(out.String(), "quorum blkno") {
		t.Errorf("data device: %v\n%s", err, out.String())
	}
	out.Reset()
	err = dump.Print(&out, simdisk.New(1<<20, simdisk.Options{}), dump.Options{})
	var corrupt *format.CorruptError
	if !errors.As(err, &corrupt) || out.Len() != 0 {
		t.Errorf("empty device: %v %q", err, out.String())
	}
	if err := dump.Print(&out, simdisk.New(4096, simdisk.Options{}), dump.Options{}); err == nil {
		t.Error("a device of one block is accepted")
	}
}

// TestServerTrees prints every kind of item that the golden volume lacks.
func TestServerTrees(t *testing.T) {
	v := newVolume(t)
	val := func(b []byte) []byte { return bytes.Clone(b) }
	client := format.MountedClient{Addr: format.InetOf(netip.MustParseAddrPort("127.0.0.1:1023")), Flags: 1}
	v.super.MountedClients = format.BtreeRoot{Height: 1, Ref: v.putTree(4, 0, kv{format.KeyMountedClient(5), val(format.Bytes(&client))})}

	status := format.MergeStatus{NextRangeKey: format.KeyInode(9), NrRequests: 1, Seq: 4}
	rng := format.MergeRange{Start: format.KeyOrphan(5), End: format.KeyMax}
	request := format.MergeRequest{Rid: 5, Seq: 6, Flags: 1}
	complete := format.MergeComplete{Rid: 5, Seq: 7, Flags: 2}
	freeing := format.MergeFreeing{Seq: 8}
	v.super.LogMerge = format.BtreeRoot{Height: 1, Ref: v.putTree(5, 0,
		kv{format.KeyMergeStatus(), val(format.Bytes(&status))}, kv{format.KeyMergeRange(rng.Start), val(format.Bytes(&rng))},
		kv{format.KeyMergeRequest(5, 6), val(format.Bytes(&request))}, kv{format.KeyMergeComplete(7), val(format.Bytes(&complete))},
		kv{format.KeyMergeFreeing(8), val(format.Bytes(&freeing))})}

	file := format.SrchFile{Blocks: 2, Entries: 3, Height: 2}
	file.Ref = v.putLarge(8, format.MagicSrchParent, func(b []byte) {
		for i, blkno := range []format.Blkno{9, 10} {
			copy(b[32+16*i:], ref(v.putLarge(blkno, format.MagicSrchBlock, func(b []byte) {
				h := format.SrchBlock{EntryNr: 2, EntryBytes: 14}
				copy(b, format.Bytes(&h))
				// Examples of spec format 8.2.
				copy(b[112:], "\x28\x00\xe0\xbd\x79\x35\xf1\xac\x68\x24\x02\x08\x10\x00\x02")
			})))
		}
	})
	compact := format.SrchCompact{ID: 8, Nr: 1, Flags: format.SrchCompactSorted}
	v.super.SrchRoot = format.BtreeRoot{Height: 1, Ref: v.putTree(6, 0, kv{format.KeySrchFile(2, 8), val(format.Bytes(&file))},
		kv{format.KeySrchBusy(5, 8), val(format.Bytes(&compact))})}
	v.putSuper()

	text, err := v.print(dump.Options{})
	if err != nil {
		t.Error(err)
	}
	v.wants(text, err, "mounted_clients btree blkno 4\n", "    rid 0000000000000005 addr 127.0.0.1:1023 flags 0x1\n",
		"      status: next_range_key 16.9.4.0.0.0 nr_requests 1 nr_complete 0 seq 4\n",
		"      range: start 8.0.4.5.0.0 end 255.18446744073709551615.", "      request: start 0.0.0.0.0.0 end", "      complete: start ", "      freeing: root ",
		"srch parent block blkno 8\n", "  [1]: blkno 10 seq 7\n", "srch block blkno 10\n",
		"  [0]: (12) 123456789abcdef0.1025.0\n  [1]: (3) 123456789abcdef0.1026.0\n", "      id 8 nr 1 flags 0x2\n", "      in[0]: blk 0 pos 0 f ")
}

// TestTallLogsRoot has a logs_root of height 2, with which the original does
// not end.
func TestTallLogsRoot(t *testing.T) {
	v := newVolume(t)
	leaf := func(blkno format.Blkno, from, to uint64) format.BlockRef {
		var items []kv
		for nr := from; nr <= to; nr++ {
			lt := format.LogTrees{Rid: 5, Nr: nr}
			items = append(items, kv{format.KeyLogTrees(5, nr), bytes.Clone(format.Bytes(&lt))})
		}
		return v.putTree(blkno, 0, items...)
	}
	a, b := leaf(10, 1, 100), leaf(11, 101, 200)
	v.super.LogsRoot = format.BtreeRoot{Height: 2, Ref: v.putTree(12, 1, kv{format.KeyLogTrees(5, 100), ref(a)}, kv{format.KeyMax, ref(b)})}
	v.putSuper()
	text, err := v.print(dump.Options{})
	if err != nil {
		t.Error(err)
	}
	v.wants(text, err, "    24.5.0.100.0.0\n    ref blkno 10 seq 7\n", "    rid 5 nr 200\n")
	if n := strings.Count(text, "      meta_avail: "); n != 200 {
		t.Errorf("%d log trees", n)
	}
}

// TestCycles has trees, lists and srch files that lead back to themselves.
func TestCycles(t *testing.T) {
	v := newVolume(t)
	self := format.BlockRef{Blkno: 12, Seq: 7}
	v.putTree(12, 3, kv{format.KeyInode(5), ref(self)}, kv{format.KeyMax, ref(self)})
	v.super.FSRoot = format.BtreeRoot{Height: 4, Ref: self}
	var parents []format.BlockRef
	for i := range format.Blkno(4) { // each refers to the level below 900 times
		items := []kv{}
		for n := range 900 {
			below := format.BlockRef{Blkno: 19 + i, Seq: 7}
			items = append(items, kv{format.KeyInode(format.Ino(n)), ref(below)})
		}
		parents = append(parents, v.putTree(20+i, uint8(i+1), items...))
	}
	v.putTree(19, 0)
	v.super.LogsRoot = format.BtreeRoot{Height: 5, Ref: parents[3]}

	v.super.ServerMetaAvail[0].Ref = v.putLarge(13, format.MagicAllocList, func(b []byte) {
		l := format.AllocListBlock{Next: format.BlockRef{Blkno: 13, Seq: 7}, Nr: 1}
		copy(b, format.Bytes(&l))
	})
	file := format.SrchFile{Blocks: 2, Height: 3, Ref: format.BlockRef{Blkno: 14, Seq: 7}}
	v.putLarge(14, format.MagicSrchParent, func(b []byte) { copy(b[32:], ref(file.Ref)) })
	v.super.SrchRoot = format.BtreeRoot{Height: 1, Ref: v.putTree(6, 0, kv{format.KeySrchLog(14), bytes.Clone(format.Bytes(&file))})}
	v.putSuper()
	text, err := v.print(dump.Options{})
	var corrupt *format.CorruptError
	if !errors.As(err, &corrupt) || corrupt.Device != "meta" {
		t.Errorf("%v", err)
	}
	v.wants(text, err, "server_meta_avail[0]: the chain comes back to this block", "another reference of the same srch file",
		"another reference of the same tree leads to this block")
}

// TestDamage has one damaged block of each kind; the rest must be printed.
func TestDamage(t *testing.T) {
	change := func(off int64, size int, fn func(b []byte)) func(v *volume) {
		return func(v *volume) {
			b := block.AlignedBuf(size)
			defer block.FreeBuf(b)
			if err := block.ReadAt(v.meta, b, off); err != nil {
				v.t.Fatal(err)
			}
			fn(b)
			v.put(off, b)
		}
	}
	large := func(blkno int64, fn func(b []byte)) func(v *volume) { return change(blkno<<16, format.LargeSize, fn) }
	fixed := func(fn func(b []byte)) func(b []byte) {
		return func(b []byte) {
			fn(b)
			format.SetChecksum(b)
		}
	}
	put16 := binary.LittleEndian.PutUint16
	for _, c := range []struct {
		name   string
		damage func(v *volume)
		want   string
	}{
		{"super crc", change(16<<12, 4096, func(b []byte) { b[4000]++ }), "block 16: super: crc "},
		{"quorum magic", change(20<<12, 4096, func(b []byte) { b[4]++ }), "quorum slot 3: magic"},
		{"list magic", large(3, func(b []byte) { b[4]++ }), "corrupt: alloc list block: magic"},
		{"list count", large(3, fixed(func(b []byte) { b[55] = 0xff })), "corrupt: entries 0 + "},
		{"leaf crc", large(1028, func(b []byte) { b[300]++ }), "corrupt: btree block: crc"},
		{"leaf seq", large(1028, fixed(func(b []byte) { b[16] = 9 })), "corrupt: btree block: seq 0000000000000009 in the header, the reference has 0000000000000001"},
		{"leaf magic", large(1028, func(b []byte) { b[4]++ }), "corrupt: btree block: magic"},
		{"leaf level", large(1028, fixed(func(b []byte) { b[40] = 1 })), "corrupt: level 1 where 0 is expected"},
		{"items", large(1028, fixed(func(b []byte) { put16(b[34:], 60000) })), "corrupt: 60000 items, 1115 have room"},
		{"AVL loop", large(1028, fixed(func(b []byte) { put16(b[48+2:], 72) })), "corrupt: the AVL tree leads to 72, which is no other item"},
		{"AVL offset", large(1028, fixed(func(b []byte) { put16(b[32:], 17) })), "corrupt: the AVL tree leads to 17, which is no other item"},
		{"AVL lost", large(1028, fixed(func(b []byte) { put16(b[106:], 0) })), "corrupt: the AVL tree reaches 1 of 2 items"},
		{"value", large(2, fixed(func(b []byte) { put16(b[104+48:], 65530) })), "corrupt: item 16.1.4.0.0.0: a value of 168 bytes at 65530"},
		{"inode", large(2, fixed(func(b []byte) { put16(b[104+50:], 167) })), "corrupt: item 16.1.4.0.0.0 with a value of 167 bytes is not known"},
		{"type", large(2, fixed(func(b []byte) { b[48+8+25] = 5 })), "corrupt: item 5.0.4.0.1.0 with a value of 0 bytes is not known"},
		{"root", func(v *volume) { v.super.LogsRoot.Ref.Blkno = 5000; v.super.LogsRoot.Height = 1; v.putSuper() },
			"logs_root btree blkno 5000\n  corrupt: logs_root btree block is outside the device's 2048 blocks"},
		{"height", func(v *volume) { v.super.FSRoot.Height = 200; v.putSuper() }, "corrupt: fs_root: height 200 of a root with a block"},
		{"read", func(v *volume) {
			v.meta.SetFault(func(op simdisk.FaultOp) error {
				if op.Off == 1029<<16 {
					return simdisk.ErrInjected
				}
				return nil
			})
		}, "meta_alloc[0] btree blkno 1029\n  cannot be read: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := newVolume(t)
			c.damage(v)
			text, err := v.print(dump.Options{})
			if !errors.Is(err, syscall.EIO) && !errors.Is(err, simdisk.ErrInjected) {
				t.Errorf("error %v", err)
			}
			v.wants(text, err, c.want, "fs_root btree blkno 2\n") // the last block of the text
		})
	}
}

// TestRandomDamage changes bytes anywhere in the blocks that are in use.
func TestRandomDamage(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	good := newVolume(t)
	var file format.SrchFile
	file.Height, file.Ref = 1, good.putLarge(9, format.MagicSrchBlock, func(b []byte) {
		h := format.SrchBlock{EntryNr: 5000, EntryBytes: 65000}
		copy(b, format.Bytes(&h))
		for i := 112; i < len(b); i++ {
			b[i] = byte(rng.Uint32())
		}
	})
	lt := format.LogTrees{Rid: 5, Nr: 1, SrchFile: file, ItemRoot: good.super.FSRoot, MetaAvail: good.super.ServerMetaAvail[0]}
	good.super.LogsRoot = format.BtreeRoot{Height: 1, Ref: good.putTree(10, 0, kv{format.KeyLogTrees(5, 1), bytes.Clone(format.Bytes(&lt))})}
	good.putSuper()
	used := []int64{1 << 16, 2 << 16, 3 << 16, 9 << 16, 10 << 16, 1028 << 16, 1029 << 16, 1030 << 16}
	for range 300 {
		v := *good
		v.meta = good.meta.Clone()
		base := used[rng.IntN(len(used))]
		b := block.AlignedBuf(format.LargeSize)
		if err := block.ReadAt(v.meta, b, base); err != nil {
			t.Fatal(err)
		}
		for range 1 + rng.IntN(8) {
			at := rng.IntN(200)
			if rng.IntN(3) == 0 {
				at = rng.IntN(len(b))
			}
			b[at] = byte(rng.Uint32())
		}
		v.put(base, b)
		block.FreeBuf(b)
		v.print(dump.Options{}) // must end and not panic
	}
}

// failingWriter takes a few bytes and then fails, like a closed pipe.
type failingWriter struct{ left int }

func (w *failingWriter) Write(b []byte) (int, error) {
	if w.left -= len(b); w.left < 0 {
		return 0, syscall.EPIPE
	}
	return len(b), nil
}

func TestBrokenPipe(t *testing.T) {
	v := newVolume(t)
	if err := dump.Print(&failingWriter{left: 10}, v.meta, dump.Options{}); !errors.Is(err, syscall.EPIPE) {
		t.Error(err)
	}
}

// FuzzPrint puts bytes at an offset of a block of some kind.
func FuzzPrint(f *testing.F) {
	f.Add(uint8(0), uint16(32), []byte{0xff, 0xff})
	f.Add(uint8(1), uint16(48), []byte{1, 2, 3, 4, 5, 6, 7, 8})
	f.Add(uint8(2), uint16(104), []byte{0xff, 0xff, 0, 0})
	f.Add(uint8(3), uint16(600), []byte{1})
	f.Fuzz(func(t *testing.T, kind uint8, off uint16, change []byte) {
		v := newVolume(t)
		at := []int64{2 << 16, 3 << 16, 9 << 16, 16 << 12}[kind%4]
		v.putLarge(9, format.MagicSrchBlock, func(b []byte) {
			h := format.SrchBlock{EntryNr: 3, EntryBytes: 60}
			copy(b, format.Bytes(&h))
		})
		lt := format.LogTrees{Rid: 5, Nr: 1, SrchFile: format.SrchFile{Height: 1, Ref: format.BlockRef{Blkno: 9, Seq: 7}}}
		v.super.LogsRoot = format.BtreeRoot{Height: 1, Ref: v.putTree(10, 0, kv{format.KeyLogTrees(5, 1), bytes.Clone(format.Bytes(&lt))})}
		v.putSuper()
		b := block.AlignedBuf(format.LargeSize)
		defer block.FreeBuf(b)
		if err := block.ReadAt(v.meta, b, at); err != nil {
			t.Fatal(err)
		}
		copy(b[off:], change)
		v.put(at, b)
		v.print(dump.Options{})
	})
}
