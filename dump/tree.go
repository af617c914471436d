// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package dump

import (
	"encoding/binary"
	"fmt"

	"scoutfs/block"
	"scoutfs/format"
)

// item is one item of a btree block. val is only valid while it is printed.
type item struct {
	blkno  format.Blkno
	parent bool
	key    format.Key
	seq    uint64
	flags  uint8
	val    []byte
}

// bitmap has a bit for each block that was seen.
type bitmap []uint64

// set sets bit n and reports whether it was set before.
func (m bitmap) set(n format.Blkno) bool {
	was := m[n/64]&(1<<(n%64)) != 0
	m[n/64] |= 1 << (n % 64)
	return was
}

func (p *printer) newBitmap() bitmap { return make(bitmap, p.blocks/64+1) }

// tree prints all blocks of a tree level by level from its root.
func (p *printer) tree(name string, root format.BtreeRoot, decode func(*item)) {
	if root.Ref.IsNull() {
		return
	}
	if root.Height == 0 || root.Height > format.MaxHeight {
		p.f("%s btree blkno %d\n", name, root.Ref.Blkno)
		p.bad(root.Ref.Blkno, "%s: height %d of a root with a block", name, root.Height)
		if root.Height == 0 {
			return
		}
		root.Height = format.MaxHeight
	}
	t := treePrinter{p: p, name: name, decode: decode}
	for range root.Height {
		t.bufs = append(t.bufs, block.AlignedBuf(format.LargeSize))
	}
	defer func() {
		for _, b := range t.bufs {
			block.FreeBuf(b)
		}
	}()
	for level := int(root.Height) - 1; level >= 0; level-- {
		t.target, t.seen = level, p.newBitmap()
		t.visit(root.Ref, int(root.Height)-1)
	}
}

// treePrinter prints the blocks of one level in one pass from the root, so
// that the memory it needs does not grow with the tree. Blocks above the level
// are read again in each pass.
type treePrinter struct {
	p      *printer
	name   string
	decode func(*item)
	target int    // level that this pass prints
	seen   bitmap // blocks of this pass
	bufs   [][]byte
}

// visit handles the block that should have the level, which is not below the
// target.
func (t *treePrinter) visit(ref format.BlockRef, level int) {
	p, b := t.p, t.bufs[level]
	if uint64(ref.Blkno) < p.blocks && t.seen.set(ref.Blkno) {
		if level == t.target {
			p.f("%s btree blkno %d\n", t.name, ref.Blkno)
			p.bad(ref.Blkno, "another reference of the same tree leads to this block")
		}
		return
	}
	if level > t.target {
		t.descend(ref, level, b)
		return
	}
	if !p.read(t.name+" btree", ref.Blkno, b) {
		return
	}
	p.btreeBlock(t.name, ref, level, b, t.decode)
}

// descend visits the children of a block that an earlier pass has printed, so
// it is silent about damage.
func (t *treePrinter) descend(ref format.BlockRef, level int, b []byte) {
	p := t.p
	if p.broken || uint64(ref.Blkno) >= p.blocks || block.ReadAt(p.dev, b, int64(ref.Blkno)<<format.LargeShift) != nil {
		return
	}
	h, _ := format.Load[format.BtreeBlock](b)
	if h.Hdr.Magic != format.MagicBtree || int(h.Level) != level {
		return
	}
	order, _ := itemOrder(b, &h)
	for _, i := range order {
		it, err := loadItem(b, i, level)
		if err != nil {
			continue
		}
		if child, ok := format.Load[format.BlockRef](it.val); ok && !child.IsNull() {
			t.visit(child, level-1)
		}
	}
}

// btreeBlock prints one block.
func (p *printer) btreeBlock(name string, ref format.BlockRef, level int, b []byte, decode func(*item)) {
	h, _ := format.Load[format.BtreeBlock](b)
	p.f("%s btree blkno %d\n", name, ref.Blkno)
	p.f("  crc %08x fsid %016x seq %d blkno %d \n", h.Hdr.CRC, h.Hdr.Fsid, h.Hdr.Seq, h.Hdr.Blkno)
	if !p.check(b, format.MagicBtree, ref) {
		return
	}
	p.f("  total_item_bytes %d mid_free_len %d\n", h.TotalItemBytes, h.MidFreeLen)
	p.f("  level %d nr_items %d item_root.node %d\n", h.Level, h.NrItems, h.ItemRoot)
	if int(h.Level) != level {
		p.bad(ref.Blkno, "level %d where %d is expected", h.Level, level)
		return
	}
	if level == 0 {
		p.buckets(b)
	}
	order, err := itemOrder(b, &h)
	if err != nil {
		p.bad(ref.Blkno, "%v", err)
	}
	for n, i := range order {
		p.item(n, i, level, ref.Blkno, b, decode)
	}
}

// item prints the n-th item in key order, which is the i-th of the array.
func (p *printer) item(n, i, level int, blkno format.Blkno, b []byte, decode func(*item)) {
	off := format.BtreeHdrSize + i*format.BtreeItemSize
	raw, _ := format.Load[format.BtreeItem](b[off:])
	p.f("  [%d] off %d par %d l %d r %d h %d vo %d vl %d\n", n, off, raw.Node.Parent, raw.Node.Left, raw.Node.Right,
		raw.Node.Height, raw.ValOff, raw.ValLen)
	it, err := loadItem(b, i, level)
	if err != nil {
		p.bad(blkno, "item %s: %v", raw.Key, err)
		return
	}
	it.blkno = blkno
	decode(&it)
}

// keyLine prints the key of an item of a tree of the server, and for a parent
// the reference; it then returns true.
func (p *printer) keyLine(it *item) (parent bool) {
	p.f("    %s\n", it.key)
	return p.ref(it)
}

// ref prints the reference of a parent's item.
func (p *printer) ref(it *item) (parent bool) {
	if it.parent {
		ref, _ := format.Load[format.BlockRef](it.val)
		p.f("    ref blkno %d seq %d\n", ref.Blkno, ref.Seq)
	}
	return it.parent
}

// loadItem decodes item i of a block whose nr_items was checked.
func loadItem(b []byte, i, level int) (it item, err error) {
	raw, _ := format.Load[format.BtreeItem](b[format.BtreeHdrSize+i*format.BtreeItemSize:])
	it = item{parent: level > 0, key: raw.Key, seq: raw.Seq, flags: raw.Flags}
	end := format.BtreeLeafEnd
	if level > 0 {
		end = format.BtreeParentEnd
	}
	if raw.ValLen > 0 {
		if raw.ValLen > format.MaxValue || int(raw.ValOff) < format.BtreeHdrSize || int(raw.ValOff)+int(raw.ValLen) > end {
			return it, fmt.Errorf("a value of %d bytes at %d", raw.ValLen, raw.ValOff)
		}
		it.val = b[raw.ValOff:][:raw.ValLen]
	}
	if it.parent && len(it.val) != format.Size[format.BlockRef]() {
		return it, fmt.Errorf("a value of %d bytes in a parent", len(it.val))
	}
	return it, nil
}

// itemOrder is the array indexes of a block's items in the order of its AVL
// tree. With an error they are all those that the tree reaches, and after them
// those it does not.
func itemOrder(b []byte, h *format.BtreeBlock) (order []int, err error) {
	end := format.BtreeLeafEnd
	if h.Level > 0 {
		end = format.BtreeParentEnd
	}
	nr := int(h.NrItems)
	if most := (end - format.BtreeHdrSize) / format.BtreeItemSize; nr > most {
		return nil, fmt.Errorf("%d items, %d have room", nr, most)
	}
	seen := make([]bool, nr)
	order = make([]int, 0, nr)
	// Every node is entered once, so the stack is bounded by nr.
	var stack []int
	node := h.ItemRoot
	for node != 0 || len(stack) > 0 {
		if node != 0 {
			i, ok := avlIndex(node, nr)
			if !ok || seen[i] {
				err = fmt.Errorf("the AVL tree leads to %d, which is no other item", node)
				node = 0
				continue
			}
			seen[i] = true
			stack = append(stack, i)
			node = avlNode(b, i).Left
			continue
		}
		i := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		order = append(order, i)
		node = avlNode(b, i).Right
	}
	if len(order) < nr && err == nil {
		err = fmt.Errorf("the AVL tree reaches %d of %d items", len(order), nr)
	}
	for i := range seen {
		if !seen[i] {
			order = append(order, i)
		}
	}
	return order, err
}

func avlIndex(node uint16, nr int) (i int, ok bool) {
	n := int(node) - format.AvlFirst
	return n / format.BtreeItemSize, n >= 0 && n%format.BtreeItemSize == 0 && n/format.BtreeItemSize < nr
}

func avlNode(b []byte, i int) format.AvlNode {
	n, _ := format.Load[format.AvlNode](b[format.BtreeHdrSize+i*format.BtreeItemSize:])
	return n
}

// buckets prints the hash table of a leaf.
func (p *printer) buckets(b []byte) {
	p.f("  item hash: ")
	line := wrapper{p: p, col: 13, indent: 3}
	used := 0
	for i := range format.BtreeHashNr {
		if off := binary.LittleEndian.Uint16(b[format.BtreeHashOff+2*i:]); off != 0 {
			used++
			line.word(fmt.Sprintf("%d,%d ", i, off))
		}
	}
	p.f("\n    (%d / %d populated, %d%% load)\n", used, format.BtreeHashNr, used*100/format.BtreeHashNr)
}

// wrapper breaks long lines of words as the original does: the word that goes
// to a new line does not count for the length of that line.
type wrapper struct {
	p      *printer
	col    int
	indent int
}

const lineLimit = 77

func (w *wrapper) word(s string) {
	if w.col+len(s) > lineLimit {
		w.p.f("\n%*s", w.indent, "")
		w.col = w.indent
	} else {
		w.col += len(s)
	}
	w.p.f("%s", s)
}
