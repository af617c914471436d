// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package check

import (
	"encoding/binary"

	"scoutfs/block"
	"scoutfs/format"
)

// tree is a btree to walk.
type tree struct {
	name    string // for messages, and its blocks' owner
	kind    treeKind
	root    format.BtreeRoot
	subtree bool       // part of a taller tree: bounds and number of children are its own
	lo      format.Key // smallest and greatest key; the zero hi means all
	hi      format.Key
	items   bool // an item tree, or one of such: what is unreadable makes absence of items meaningless
	files   bool // the same for entries of srch files
	batch   int  // leaves read at once; 0: batchBlocks

	// shared tells of a block that something else owns though the tree refers to it.
	shared func(ref format.BlockRef, level int) bool
	// gone tells of a child, by its upper bound, that was freed already.
	gone func(hi *format.Key, level int) bool
	// soft tells of a parent that may have been freed already, or not.
	soft func(hi *format.Key, level int) bool
	// leaves gets the leaves in order and must free their buffers; false ends the walk.
	leaves func([]*node) bool
}

// child is a block of a tree and the keys that it may hold.
type child struct {
	ref    format.BlockRef
	lo, hi format.Key
	unsure bool // maybe freed: damage says nothing
	shared bool // owned by another structure
}

// walk reads a tree and checks rules 3, 7 to 13 and the ownership of its blocks.
func (c *checker) walk(t *tree) {
	if !c.checkRoot(t.name, &t.root) {
		(&walker{c: c, t: t}).loses()
		return
	}
	if t.root.Height == 0 {
		return
	}
	if t.batch == 0 {
		t.batch = batchBlocks
	}
	if t.hi == (format.Key{}) {
		t.hi = format.KeyMax
	}
	w := &walker{c: c, t: t, owner: c.ownerID(t.name)}
	w.visit([]child{{ref: t.root.Ref, lo: t.lo, hi: t.hi}}, int(t.root.Height)-1)
}

// walkItems walks a tree and calls fn for each item in order.
func (c *checker) walkItems(t *tree, fn func(p place, key *format.Key, seq uint64, val []byte)) {
	t.leaves = func(leaves []*node) bool {
		for _, n := range leaves {
			p := place{structure: t.name, block: n.hdr.Hdr.Blkno}
			for _, i := range n.order {
				it, val := n.item(int(i))
				if val != nil && it.Flags&format.ItemFlagDeletion == 0 {
					p.key = &it.Key
					fn(p, &it.Key, it.Seq, val)
				}
			}
			block.FreeBuf(n.buf)
		}
		return c.ctx.Err() == nil
	}
	c.walk(t)
}

// checkRoot checks rule 3 and reports whether the tree can be walked.
func (c *checker) checkRoot(name string, r *format.BtreeRoot) bool {
	p := place{structure: name, block: r.Ref.Blkno}
	if r.Height > format.MaxHeight {
		c.err(3, p, "height %d is above %d", r.Height, format.MaxHeight)
		return false
	}
	if (r.Height == 0) != r.Ref.IsNull() {
		c.err(3, p, "height %d with a reference to block %d", r.Height, r.Ref.Blkno)
		return false
	}
	return true
}

// walker is one walk.
type walker struct {
	c     *checker
	t     *tree
	owner owner
}

// loses notes that a part of the tree is not known.
func (w *walker) loses() {
	w.c.lost.Store(true)
	if w.t.items {
		w.c.fsLost.Store(true)
	}
	if w.t.items || w.t.files {
		w.c.srchLost.Store(true)
	}
}

// visit reads blocks of one level and all below them, in order.
func (w *walker) visit(children []child, level int) bool {
	for len(children) > 0 {
		n := min(len(children), w.t.batch)
		if level > 0 {
			n = min(n, 8) // parents are kept until their children were visited
		}
		if !w.visitBatch(children[:n], level) || w.c.ctx.Err() != nil {
			return false
		}
		children = children[n:]
	}
	return true
}

func (w *walker) visitBatch(children []child, level int) bool {
	batch := make([]child, 0, len(children))
	refs := make([]format.BlockRef, 0, len(children))
	for _, ch := range children {
		if w.admit(&ch, level) {
			batch = append(batch, ch)
			refs = append(refs, ch.ref)
		}
	}
	nodes := w.read(batch, refs, level)
	if level == 0 {
		return w.emit(nodes)
	}
	for i, n := range nodes {
		if n == nil {
			continue
		}
		below := w.children(n, &batch[i], level)
		block.FreeBuf(n.buf)
		nodes[i] = nil
		if !w.visit(below, level-1) {
			for _, rest := range nodes[i+1:] {
				if rest != nil {
					block.FreeBuf(rest.buf)
				}
			}
			return false
		}
	}
	return true
}

// admit claims a block and reports whether it is to be read.
func (w *walker) admit(ch *child, level int) bool {
	if w.t.shared != nil && !ch.shared {
		ch.shared = w.t.shared(ch.ref, level)
	}
	switch {
	case w.t.gone != nil && w.t.gone(&ch.hi, level):
		return false
	case w.t.soft != nil && w.t.soft(&ch.hi, level):
		ch.unsure = true
		return w.c.claimSoft(ch.ref.Blkno) && level > 1
	case ch.shared:
		return true
	}
	if !w.c.claim(ch.ref.Blkno, w.owner) {
		w.loses()
		return false
	}
	return true
}

// read reads blocks and checks each; nodes are nil where that is in vain.
func (w *walker) read(batch []child, refs []format.BlockRef, level int) []*node {
	c := w.c
	nodes := make([]*node, len(batch))
	for i := range batch {
		if batch[i].unsure {
			nodes[i] = w.peek(&batch[i], level)
			refs[i] = format.BlockRef{}
		}
	}
	bufs := c.readBlocks(w.t.name, refs, format.MagicBtree)
	c.parallel(len(batch), func(i int) {
		switch {
		case batch[i].unsure:
			return
		case bufs[i] == nil:
			w.loses()
			return
		}
		var p problems
		n, ok := parseNode(bufs[i], level, &p)
		if n != nil {
			w.checkNode(n, &batch[i], level, &p)
		}
		if !ok {
			w.loses()
		}
		p.report(c, w.t.name, refs[i].Blkno)
		if n == nil {
			block.FreeBuf(bufs[i])
		}
		nodes[i] = n
	})
	return nodes
}

// peek reads a parent that may have been freed and reused, without complaint.
func (w *walker) peek(ch *child, level int) *node {
	if ch.ref.Blkno < format.FirstMetaBlkno || uint64(ch.ref.Blkno) >= w.c.total {
		return nil
	}
	buf := block.AlignedBuf(format.LargeSize)
	err := block.ReadAt(w.c.meta, buf, int64(ch.ref.Blkno)<<format.LargeShift)
	if err == nil {
		err = w.c.verifyHeader(buf, ch.ref, format.MagicBtree)
	}
	if err == nil {
		if n, _ := parseNode(buf, level, &problems{}); n != nil {
			return n
		}
	}
	block.FreeBuf(buf)
	return nil
}

// emit hands leaves on.
func (w *walker) emit(nodes []*node) bool {
	leaves := nodes[:0]
	for _, n := range nodes {
		if n != nil {
			leaves = append(leaves, n)
		}
	}
	if len(leaves) == 0 {
		return true
	}
	if w.t.leaves == nil {
		freeLeaves(leaves)
		return true
	}
	return w.t.leaves(leaves)
}

// checkNode checks a block in its place in the tree. Rules 11 to 13.
func (w *walker) checkNode(n *node, ch *child, level int, p *problems) {
	root := level == int(w.t.root.Height)-1
	at := place{structure: w.t.name, block: n.hdr.Hdr.Blkno}
	if len(n.order) > 0 {
		first, last := &n.keys[n.order[0]], &n.keys[n.order[len(n.order)-1]]
		if first.Less(&ch.lo) {
			p.add(11, first, "the parent's keys start at %v", ch.lo)
		}
		if ch.hi.Less(last) {
			p.add(11, last, "the parent's keys end at %v", ch.hi)
		}
	}
	switch {
	case level > 0:
		w.checkParent(n, ch, root, p)
	case len(n.order) == 0 && !root:
		w.c.warn(12, at, "empty leaf")
	}
	if !root && len(n.order) > 0 && n.hdr.TotalItemBytes < format.BtreeLowWater {
		w.c.odd(12, at, "%d bytes of items are below the low-water mark", n.hdr.TotalItemBytes)
	}
	if n.hdr.Hdr.Seq == 1 && len(n.keys) == 2 && n.mkfsHeights() {
		w.c.odd(8, at, "AVL heights as mkfs of the original stores them")
	}
	if level == 0 {
		w.checkShapes(n, p)
	}
}

func (w *walker) checkParent(n *node, ch *child, root bool, p *problems) {
	whole := !w.t.subtree || !root
	if len(n.order) == 0 || whole && len(n.order) < 2 {
		p.add(11, nil, "parent with %d children", len(n.order))
	}
	if len(n.order) > 0 && ch.hi == format.KeyMax && !w.t.subtree {
		if last := n.keys[n.order[len(n.order)-1]]; last != format.KeyMax {
			p.add(11, &last, "the last key on the right edge is not all ones")
		}
	}
	for _, i := range n.order {
		it, val := n.item(int(i))
		if len(val) != format.Size[format.BlockRef]() {
			p.add(11, &it.Key, "parent item with a value of %d bytes", it.ValLen)
			w.loses()
		}
		if it.Flags != 0 {
			p.add(13, &it.Key, "parent item with flags %#x", it.Flags)
		}
	}
}

// checkShapes checks the items of a leaf on their own. Rule 13.
func (w *walker) checkShapes(n *node, p *problems) {
	seqs := false
	for i := range n.keys {
		it, val := n.item(i)
		if val == nil {
			continue
		}
		if rule, why := w.t.kind.wrong(&it, val, w.c.super.FmtVers); why != "" {
			p.add(rule, &it.Key, "%s", why)
		}
		seqs = seqs || it.Seq != 0 && !w.t.kind.forest()
	}
	if seqs {
		w.c.odd(13, place{structure: w.t.name, block: n.hdr.Hdr.Blkno}, "items with seqs in a tree that has none, as mkfs of the original writes them")
	}
}

// children returns the blocks that a parent refers to.
func (w *walker) children(n *node, ch *child, level int) []child {
	out := make([]child, 0, len(n.order))
	lo := ch.lo
	for _, i := range n.order {
		it, val := n.item(int(i))
		hi := it.Key
		if ch.hi.Less(&hi) {
			hi = ch.hi
		}
		if len(val) == 16 {
			out = append(out, child{lo: lo, hi: hi, unsure: ch.unsure, shared: ch.shared, ref: format.BlockRef{
				Blkno: format.Blkno(binary.LittleEndian.Uint64(val)), Seq: binary.LittleEndian.Uint64(val[8:])}})
		}
		lo = it.Key.Inc()
	}
	return out
}
