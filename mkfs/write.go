// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package mkfs

import (
	"encoding/binary"
	"time"

	"scoutfs/block"
	"scoutfs/format"
)

// invalidate removes older super blocks, so that a crash before the end leaves
// no volume that refers to blocks that were overwritten.
func invalidate(meta, data block.Device) error {
	for _, d := range []block.Device{meta, data} {
		buf := block.AlignedBuf(format.SmallSize)
		defer block.FreeBuf(buf)
		clear(buf)
		if err := put(d, buf, int64(format.SuperBlkno)<<format.SmallShift); err != nil {
			return err
		}
		if err := flush(d); err != nil {
			return err
		}
	}
	return nil
}

// writeBlocks writes everything that the metadata super refers to, and the
// quorum blocks, in one batch, and flushes.
func writeBlocks(meta block.Device, s *format.Super, now time.Time) error {
	large := []struct {
		blkno format.Blkno
		fill  func(b []byte)
	}{
		{fsRootBlkno, func(b []byte) { fillFSRoot(b, s.FmtVers, now) }},
		{availBlkno, fillAvail},
		{dataAllocBlkno, func(b []byte) { fillExtent(b, format.FirstDataBlkno, s.DataAlloc.TotalLen) }},
		{metaAllocBlkno, func(b []byte) { fillExtent(b, metaFree, s.MetaAlloc[0].TotalLen) }},
		{metaAllocBlkno + 1, func(b []byte) {
			fillExtent(b, metaFree+format.Blkno(s.MetaAlloc[0].TotalLen), s.MetaAlloc[1].TotalLen)
		}},
	}
	var ops []block.Op
	defer func() {
		for i := range ops {
			block.FreeBuf(ops[i].Buf)
		}
	}()
	add := func(size int, off int64, magic format.Magic, blkno format.Blkno, fill func(b []byte)) {
		b := block.AlignedBuf(size)
		clear(b)
		fill(b)
		format.FillHeader(b, format.BlockHeader{Magic: magic, Fsid: s.Hdr.Fsid, Seq: 1, Blkno: blkno})
		ops = append(ops, block.Op{Write: true, Off: off, Buf: b})
	}
	for _, l := range large {
		magic := format.MagicBtree
		if l.blkno == availBlkno {
			magic = format.MagicAllocList
		}
		add(format.LargeSize, int64(l.blkno)<<format.LargeShift, magic, l.blkno, l.fill)
	}
	for i := range format.QuorumSlots {
		blkno := format.QuorumBlkno + format.Blkno(i)
		add(format.SmallSize, int64(blkno)<<format.SmallShift, format.MagicQuorum, blkno, func([]byte) {})
	}
	if err := meta.Do(ops); err != nil {
		return fail(meta, err, "write metadata blocks")
	}
	return flush(meta)
}

// writeSuper writes a device's super block and flushes. s is the metadata
// device's; its crc is set.
func writeSuper(d block.Device, s *format.Super, isMeta bool) error {
	buf := block.AlignedBuf(format.SmallSize)
	defer block.FreeBuf(buf)
	clear(buf)
	c := *s
	if !isMeta {
		c.Flags &^= format.SuperFlagMeta
	}
	copy(buf, format.Bytes(&c))
	format.SetChecksum(buf)
	if isMeta {
		s.Hdr.CRC = binary.LittleEndian.Uint32(buf)
	}
	if err := put(d, buf, int64(format.SuperBlkno)<<format.SmallShift); err != nil {
		return err
	}
	return flush(d)
}

func put(d block.Device, buf []byte, off int64) error {
	if err := block.WriteAt(d, buf, off); err != nil {
		return fail(d, err, "write %d bytes at %d", len(buf), off)
	}
	return nil
}

func flush(d block.Device) error {
	if err := d.Flush(); err != nil {
		return fail(d, err, "flush")
	}
	return nil
}

// fillAvail fills the list block with the server's first metadata blocks.
func fillAvail(b []byte) {
	l := format.AllocListBlock{Nr: availNr}
	for i := range uint64(availNr) {
		l.Blknos[i] = uint64(availFirst) + i
	}
	copy(b, format.Bytes(&l))
}

// fillExtent fills a leaf with the two items of one free extent.
func fillExtent(b []byte, start format.Blkno, n uint64) {
	fillLeaf(b, leafItem{key: format.KeyFreeBlkno(start, n)}, leafItem{key: format.KeyFreeOrder(start, n)})
}

// fillFSRoot fills the leaf that holds the root directory's two items.
func fillFSRoot(b []byte, vers uint64, now time.Time) {
	ts := format.TimespecOf(now)
	root := format.Inode{
		NextReaddirPos: format.FirstReaddirPos,
		Nlink:          2,
		Mode:           0o040755,
		Atime:          ts, Ctime: ts, Mtime: ts, Crtime: ts,
	}
	fillLeaf(b, leafItem{key: format.KeyMetaSeq(0, format.RootIno)},
		leafItem{key: format.KeyInode(format.RootIno), val: format.Bytes(&root)[:format.InodeSize(vers)]})
}

type leafItem struct {
	key format.Key
	val []byte
}

// fillLeaf fills the zeroed 64 KiB b, but for its header, with a btree leaf of
// two items in ascending order: the second is the root of the AVL tree, the
// first its left child. It stores the true heights 2 and 1.
func fillLeaf(b []byte, first, second leafItem) {
	const avlSecond = format.AvlFirst + format.BtreeItemSize
	h := format.BtreeBlock{ItemRoot: avlSecond, NrItems: 2}
	nodes := [2]format.AvlNode{{Parent: avlSecond, Height: 1}, {Left: format.AvlFirst, Height: 2}}
	end, total := format.BtreeLeafEnd, 0
	for i, it := range []leafItem{first, second} {
		item := format.BtreeItem{Node: nodes[i], Key: it.key, Seq: 1, ValLen: uint16(len(it.val))}
		space := (len(it.val) + 7) &^ 7
		if space > 0 {
			end -= space
			item.ValOff = uint16(end)
			copy(b[end:], it.val)
		}
		off := format.BtreeHdrSize + i*format.BtreeItemSize
		copy(b[off:], format.Bytes(&item))
		setBucket(b, &it.key, uint16(off))
		total += format.BtreeItemSize + space
	}
	h.TotalItemBytes = uint16(total)
	h.MidFreeLen = uint16(end - format.BtreeHdrSize - 2*format.BtreeItemSize)
	copy(b, format.Bytes(&h))
}

// setBucket enters the item at byte off in a leaf's hash table.
func setBucket(b []byte, key *format.Key, off uint16) {
	nr := key.Hash32() % format.BtreeHashNr
	for {
		bucket := b[format.BtreeHashOff+2*nr:]
		if binary.LittleEndian.Uint16(bucket) == 0 {
			binary.LittleEndian.PutUint16(bucket, off)
			return
		}
		nr = (nr + 1) % format.BtreeHashNr
	}
}
