// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package btree

import (
	"fmt"

	"scoutfs/block"
	"scoutfs/format"
)

// Splits and joins. Both first do everything that can fail and then change the
// blocks. Source: spec format 5.6.

// split moves the smaller half of cur's items to a new left neighbour. The
// parent has room for its item.
func (d *descent) split() error {
	t, level := d.t, nodeOf(d.cur).hdr().Level
	blkno, err := t.alloc()
	if err != nil {
		return err
	}
	if d.par == nil {
		if err := d.grow(level + 1); err != nil {
			t.free(blkno)
			return err
		}
	}
	left := t.newNode(blkno, level)
	defer left.Release()
	l, r := nodeOf(left), nodeOf(d.cur)
	l.moveItems(r, int(r.hdr().TotalItemBytes)/2, false)
	ref := left.Ref()
	nodeOf(d.par).create(&l.item(l.last()).Key, 0, 0, format.Bytes(&ref))
	return nil
}

// grow puts a new root of the level above cur.
func (d *descent) grow(level uint8) error {
	if level >= format.MaxHeight {
		return corrupt(d.t.Cache, d.root.Ref, "root of height %d would have to grow", d.root.Height)
	}
	blkno, err := d.t.alloc()
	if err != nil {
		return err
	}
	d.par = d.t.newNode(blkno, level)
	n, ref := nodeOf(d.par), d.cur.Ref()
	n.create(&format.KeyMax, 0, 0, format.Bytes(&ref))
	d.slot = n.first()
	d.root.Ref, d.root.Height = d.par.Ref(), level+1
	return nil
}

// joinSibling fills cur, which is too empty and has a parent, from a sibling.
// It reports whether the walk has to start again.
func (d *descent) joinSibling() (changed bool, err error) {
	p := nodeOf(d.par)
	sibSlot, isLeft := p.prev(d.slot), true
	if sibSlot == 0 {
		sibSlot, isLeft = p.next(d.slot), false
	}
	if sibSlot == 0 { // the original never writes that
		return d.collapse()
	}
	sib, err := d.t.dirty(p.child(sibSlot), int(nodeOf(d.cur).hdr().Level), &span{hi: format.KeyMax})
	if err != nil {
		return false, err
	}
	defer sib.Release()
	if err := d.checkSiblings(sib, isLeft); err != nil {
		return false, err
	}
	all := int(nodeOf(sib).hdr().TotalItemBytes) <= format.BtreeJoinAll
	if all {
		if err := d.t.Alloc.FreeBlock(sib.Blkno()); err != nil {
			return false, fmt.Errorf("btree: free block %d: %w", sib.Blkno(), err)
		}
		d.t.Writer.Forget(sib)
	}
	d.pull(sib, sibSlot, isLeft, all)
	if p.nr() == 1 {
		_, err = d.collapse()
	}
	return true, err
}

// checkSiblings checks that the sibling's keys are all on its side of cur's,
// which neither block can know of the other.
func (d *descent) checkSiblings(sib *block.Block, isLeft bool) error {
	l, r := nodeOf(sib), nodeOf(d.cur)
	if !isLeft {
		l, r = r, l
	}
	if l.nr() > 0 && r.nr() > 0 && !l.item(l.last()).Key.Less(&r.item(r.first()).Key) {
		return corrupt(d.t.Cache, sib.Ref(), "keys overlap those of block %d", d.cur.Blkno())
	}
	return nil
}

// pull moves items from the sibling to cur, all or as many as make cur full
// enough, and corrects the parent's keys.
func (d *descent) pull(sib *block.Block, sibSlot uint16, isLeft, all bool) {
	p, b, s := nodeOf(d.par), nodeOf(d.cur), nodeOf(sib)
	amount := format.BtreeLowWater
	if all {
		amount = int(s.hdr().TotalItemBytes)
	}
	if int(b.hdr().MidFreeLen) < amount+itemBytes(format.MaxValue) {
		b.compact()
	}
	b.moveItems(s, amount, isLeft)
	if !isLeft {
		bound := d.rightBound(sibSlot, all)
		p.setKey(p.item(d.slot), d.slot, &bound)
	}
	if all {
		p.remove(sibSlot)
	} else if isLeft {
		p.setKey(p.item(sibSlot), sibSlot, &s.item(s.last()).Key)
	}
}

// rightBound is the new bound of cur after it got items from its right
// sibling. A bound of all keys must stay, and an empty block has no last key.
func (d *descent) rightBound(sibSlot uint16, all bool) format.Key {
	p, b := nodeOf(d.par), nodeOf(d.cur)
	if old := p.item(sibSlot).Key; all && (old == format.KeyMax || b.nr() == 0) {
		return old
	}
	return b.item(b.last()).Key
}

// collapse makes cur, the only child of the root, the root. Other parents with
// one child are left as they are. It reports whether it did.
func (d *descent) collapse() (changed bool, err error) {
	if d.par.Ref() != d.root.Ref {
		return false, nil
	}
	d.root.Ref = d.cur.Ref()
	d.root.Height--
	d.t.Writer.Forget(d.par)
	if err := d.t.Alloc.FreeBlock(d.par.Blkno()); err != nil {
		d.t.spare = append(d.t.spare, d.par.Blkno())
		return true, fmt.Errorf("btree: free block %d: %w", d.par.Blkno(), err)
	}
	return true, nil
}
