// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package btree

import (
	"fmt"

	"scoutfs/block"
	"scoutfs/format"
)

// PutItems writes items into a log tree, in the order in which next returns
// them, which should be that of ascending keys: then a run of neighbours costs
// one walk from the root. An item replaces value, seq and flags of one with its
// key. Items of zone 12 that are not deletions are differences; they are added to an
// existing one, which gets the greater seq. Source: spec format 7.1, 7.6.
//
// The memory of an item must stay valid until the next call of next. maxSeq is
// the greatest seq of the items that were put, 0 without any. On an error all
// items that next returned but the last are in the tree; it fails with
// [ErrInvalid] for values that are too long and for totals of a wrong length.
func (t *Tx) PutItems(root *format.BtreeRoot, next func() (it *Item, ok bool)) (maxSeq uint64, err error) {
	p := putter{t: t, root: root}
	defer p.leave()
	for it, ok := next(); ok; it, ok = next() {
		if err := p.put(it); err != nil {
			return maxSeq, err
		}
		maxSeq = max(maxSeq, it.Seq)
	}
	return maxSeq, nil
}

// putter is one PutItems.
type putter struct {
	t    *Tx
	root *format.BtreeRoot
	leaf *block.Block // pinned and dirty, or nil
	span              // keys for which leaf is the right one
}

// checkItem checks an item of a caller and reports whether it is a difference
// of a total.
func checkItem(it *Item) (isDelta bool, err error) {
	isDelta = it.Key.Zone == format.ZoneTotl && !it.Deletion()
	if len(it.Val) > format.MaxValue || isDelta && len(it.Val) != format.Size[format.Totl]() {
		return false, fmt.Errorf("btree: value of %d bytes for %v: %w", len(it.Val), it.Key, ErrInvalid)
	}
	return isDelta, nil
}

// covers reports whether leaf is the one for the key.
func (p *putter) covers(key *format.Key) bool {
	return p.leaf != nil && !key.Less(&p.lo) && !p.hi.Less(key)
}

// put writes one item.
func (p *putter) put(it *Item) error {
	isDelta, err := checkItem(it)
	if err != nil {
		return err
	}
	if !p.covers(&it.Key) || !nodeOf(p.leaf).makeRoom(len(it.Val)) {
		if err := p.seek(it); err != nil {
			return err
		}
	}
	n := nodeOf(p.leaf)
	bucket := home(&it.Key)
	slot := n.findFrom(&it.Key, bucket)
	switch {
	case slot == 0:
		n.createAt(bucket, &it.Key, it.Seq, it.Flags, it.Val)
	case isDelta && n.item(slot).Flags&format.ItemFlagDeletion == 0:
		return p.add(n, n.item(slot), it)
	default:
		n.replace(slot, it)
	}
	return nil
}

// seek makes leaf the one that covers the item, with room for it.
func (p *putter) seek(it *Item) (err error) {
	p.leave()
	p.leaf, p.hi, err = p.t.leafFor(p.root, &it.Key, len(it.Val))
	p.lo = it.Key
	return err
}

// leave is done with the leaf at hand.
func (p *putter) leave() {
	if p.leaf != nil {
		p.leaf.Release()
		p.leaf = nil
		p.t.changed(p.root, &p.lo)
	}
}

// add adds a difference to an item, in place.
func (p *putter) add(n *node, old *format.BtreeItem, it *Item) error {
	delta, ok := format.Load[format.Totl](it.Val)
	if !ok || int(old.ValLen) != len(it.Val) {
		return corrupt(p.t.Cache, p.leaf.Ref(), "total %v of %d bytes", it.Key, old.ValLen)
	}
	sum := format.Overlay[format.Totl](n.val(old))
	sum.Total += delta.Total
	sum.Count += delta.Count
	old.Seq = max(old.Seq, it.Seq)
	return nil
}
