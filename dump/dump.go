// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

// Package dump writes the metadata of a volume as text for people: the print
// command. It reads the metadata device as it is, whether the volume is
// mounted or not, trusts nothing that it reads, and goes on after damage.
//
// Block numbers and lengths are those of package format. A [Print] ends for
// every volume: no block of a tree is printed twice, whatever refers to it.
// Nothing here locks memory: one call, one goroutine.
package dump

import (
	"bufio"
	"fmt"
	"io"
	"syscall"

	"scoutfs/block"
	"scoutfs/format"
)

// Options say what is printed. The zero value prints everything.
type Options struct {
	SkipLarge bool // leave out allocator trees, srch files of srch_root and fs_root
}

// Print writes the metadata of the volume on dev, a metadata device, to w. It
// blocks for the I/O. What is damaged is named in a line of the text; the
// first such error is returned, after everything else was printed. A data
// device gives an error that matches syscall.EINVAL after its super block.
// Source: spec interfaces 2.7.
func Print(w io.Writer, dev block.Device, o Options) error {
	p := &printer{
		w:      bufio.NewWriterSize(w, 1<<20),
		dev:    dev,
		blocks: uint64(max(dev.Size(), 0)) >> format.LargeShift,
		skip:   o.SkipLarge,
		buf:    block.AlignedBuf(format.LargeSize),
	}
	defer block.FreeBuf(p.buf)
	p.volume()
	if err := p.w.Flush(); err != nil && p.err == nil {
		p.err = fmt.Errorf("dump: write the text: %w", err)
	}
	return p.err
}

// printer is one call of Print.
type printer struct {
	w      *bufio.Writer
	dev    block.Device
	super  format.Super
	blocks uint64 // 64 KiB blocks of the device
	skip   bool
	buf    []byte // for a block that is printed before the next is read
	err    error  // first one
	broken bool   // the text cannot be written any more
}

// f writes text.
func (p *printer) f(text string, args ...any) {
	if _, err := fmt.Fprintf(p.w, text, args...); err != nil && !p.broken {
		p.broken = true
		p.keep(fmt.Errorf("dump: write the text: %w", err))
	}
}

func (p *printer) keep(err error) {
	if p.err == nil {
		p.err = err
	}
}

// bad prints a line about damage in a block and remembers it as the error.
func (p *printer) bad(blkno format.Blkno, text string, args ...any) {
	reason := fmt.Sprintf(text, args...)
	p.f("  corrupt: %s\n", reason)
	p.keep(&format.CorruptError{Device: p.dev.Name(), Blkno: blkno, Reason: reason})
}

// read reads a large block into b. It prints a line and returns false if that
// fails.
func (p *printer) read(what string, blkno format.Blkno, b []byte) bool {
	if p.broken {
		return false
	}
	if uint64(blkno) >= p.blocks {
		p.f("%s blkno %d\n", what, blkno)
		p.bad(blkno, "%s block is outside the device's %d blocks", what, p.blocks)
		return false
	}
	if err := block.ReadAt(p.dev, b, int64(blkno)<<format.LargeShift); err != nil {
		p.f("%s blkno %d\n  cannot be read: %v\n", what, blkno, err)
		p.keep(fmt.Errorf("dump: %w", err))
		return false
	}
	return true
}

// check compares the header of the large block b with the reference and prints
// a line for a difference. It returns false if the block is of another kind,
// so that its contents mean nothing.
func (p *printer) check(b []byte, magic format.Magic, ref format.BlockRef) bool {
	want := format.BlockHeader{Magic: magic, Fsid: p.super.Hdr.Fsid, Seq: ref.Seq, Blkno: ref.Blkno}
	if err := format.VerifyHeader(b, want); err != nil {
		p.bad(ref.Blkno, "%s block: %v", magic, err)
	}
	h, _ := format.Load[format.BlockHeader](b)
	return h.Magic == magic
}

// header prints a block header on one line.
func (p *printer) header(h *format.BlockHeader) {
	p.f("  hdr: crc %08x magic %08x fsid %016x blkno %d seq %d\n", h.CRC, uint32(h.Magic), h.Fsid, h.Blkno, h.Seq)
}

// volume prints everything in the order of the original.
func (p *printer) volume() {
	if !p.readSuper() {
		return
	}
	s := &p.super
	if !s.IsMeta() {
		p.keep(fmt.Errorf("dump: %s is a data device, the metadata device is needed: %w", p.dev.Name(), syscall.EINVAL))
		return
	}
	for slot := range format.QuorumSlots {
		p.quorumBlock(slot)
	}
	p.tree("mounted_clients", s.MountedClients, p.clientItem)
	p.tree("log_merge", s.LogMerge, p.mergeItem)
	for i := range s.ServerMetaAvail {
		p.list(fmt.Sprintf("server_meta_avail[%d]", i), s.ServerMetaAvail[i].Ref)
	}
	for i := range s.ServerMetaFreed {
		p.list(fmt.Sprintf("server_meta_freed[%d]", i), s.ServerMetaFreed[i].Ref)
	}
	if !p.skip {
		for i := range s.MetaAlloc {
			p.tree(fmt.Sprintf("meta_alloc[%d]", i), s.MetaAlloc[i].Root, p.extentItem)
		}
		p.tree("data_alloc", s.DataAlloc.Root, p.extentItem)
	}
	p.logs()
	if !p.skip {
		p.tree("fs_root", s.FSRoot, p.fsItem)
	}
}

// logs prints srch_root, logs_root and what their items refer to.
func (p *printer) logs() {
	var files []format.SrchFile
	p.tree("srch_root", p.super.SrchRoot, func(it *item) {
		if f := p.srchItem(it); f != nil && !p.skip {
			files = append(files, *f)
		}
	})
	var trees []format.LogTrees
	p.tree("logs_root", p.super.LogsRoot, func(it *item) {
		if lt := p.logTreesItem(it); lt != nil {
			trees = append(trees, *lt)
		}
	})
	for i := range files {
		p.srchFile(&files[i])
	}
	for i := range trees {
		lt := &trees[i]
		p.list("meta_avail", lt.MetaAvail.Ref)
		p.list("meta_freed", lt.MetaFreed.Ref)
		p.tree("data_avail", lt.DataAvail.Root, p.extentItem)
		p.tree("data_freed", lt.DataFreed.Root, p.extentItem)
		p.srchFile(&lt.SrchFile)
		p.tree("", lt.ItemRoot, p.fsItem)
	}
}
