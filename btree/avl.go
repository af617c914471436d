// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package btree

import "scoutfs/format"

// The AVL tree that orders a block's items. Source: spec format 5.3.

func (n *node) avl(slot uint16) *format.AvlNode {
	return format.Overlay[format.AvlNode](n[format.AvlBase+int(slot):])
}

func (n *node) height(slot uint16) int {
	if slot == 0 {
		return 0
	}
	return int(n.avl(slot).Height)
}

// first returns the slot of the smallest item, or 0.
func (n *node) first() uint16 {
	slot := n.hdr().ItemRoot
	if slot == 0 {
		return 0
	}
	return n.leftmost(slot)
}

// last returns the slot of the greatest item, or 0.
func (n *node) last() uint16 {
	slot := n.hdr().ItemRoot
	if slot == 0 {
		return 0
	}
	return n.rightmost(slot)
}

func (n *node) leftmost(slot uint16) uint16 {
	for l := n.avl(slot).Left; l != 0; l = n.avl(slot).Left {
		slot = l
	}
	return slot
}

func (n *node) rightmost(slot uint16) uint16 {
	for r := n.avl(slot).Right; r != 0; r = n.avl(slot).Right {
		slot = r
	}
	return slot
}

// next returns the slot of the item that follows, or 0.
func (n *node) next(slot uint16) uint16 {
	nd := n.avl(slot)
	if nd.Right != 0 {
		return n.leftmost(nd.Right)
	}
	for up := nd.Parent; up != 0; up = n.avl(slot).Parent {
		if n.avl(up).Left == slot {
			return up
		}
		slot = up
	}
	return 0
}

// prev returns the slot of the item that precedes, or 0.
func (n *node) prev(slot uint16) uint16 {
	nd := n.avl(slot)
	if nd.Left != 0 {
		return n.rightmost(nd.Left)
	}
	for up := nd.Parent; up != 0; up = n.avl(slot).Parent {
		if n.avl(up).Right == slot {
			return up
		}
		slot = up
	}
	return 0
}

// ge returns the slot of the first item with a key >= key, or 0.
func (n *node) ge(key *format.Key) uint16 {
	found := uint16(0)
	for slot := n.hdr().ItemRoot; slot != 0; {
		it := n.item(slot)
		c := key.Compare(&it.Key)
		if c == 0 {
			return slot
		}
		if c < 0 {
			found, slot = slot, it.Node.Left
		} else {
			slot = it.Node.Right
		}
	}
	return found
}

// le returns the slot of the last item with a key <= key, or 0.
func (n *node) le(key *format.Key) uint16 {
	found := uint16(0)
	for slot := n.hdr().ItemRoot; slot != 0; {
		it := n.item(slot)
		c := key.Compare(&it.Key)
		if c == 0 {
			return slot
		}
		if c > 0 {
			found, slot = slot, it.Node.Right
		} else {
			slot = it.Node.Left
		}
	}
	return found
}

// avlInsert links the slot, whose item has a key but no links yet.
func (n *node) avlInsert(slot uint16) {
	key := &n.item(slot).Key
	parent, left := uint16(0), false
	for cur := n.hdr().ItemRoot; cur != 0; {
		it := n.item(cur)
		parent, left = cur, key.Less(&it.Key)
		if left {
			cur = it.Node.Left
		} else {
			cur = it.Node.Right
		}
	}
	*n.avl(slot) = format.AvlNode{Parent: parent, Height: 1}
	switch {
	case parent == 0:
		n.hdr().ItemRoot = slot
	case left:
		n.avl(parent).Left = slot
	default:
		n.avl(parent).Right = slot
	}
	n.avlFix(parent)
}

// avlDelete unlinks the slot. Its own links become meaningless.
func (n *node) avlDelete(slot uint16) {
	nd := n.avl(slot)
	if nd.Left != 0 && nd.Right != 0 {
		n.avlSwap(slot, n.leftmost(nd.Right))
	}
	child, parent := nd.Left, nd.Parent
	if child == 0 {
		child = nd.Right
	}
	n.avlRelink(parent, slot, child)
	if child != 0 {
		n.avl(child).Parent = parent
	}
	n.avlFix(parent)
}

// avlSwap exchanges the places of a and of its in-order successor s, which is
// below a's right child.
func (n *node) avlSwap(a, s uint16) {
	an, sn := *n.avl(a), *n.avl(s)
	n.avlRelink(an.Parent, a, s)
	if sn.Parent == a {
		an.Right, sn.Parent = a, s
	} else {
		n.avl(an.Right).Parent = s
		n.avl(sn.Parent).Left = a
	}
	n.avl(an.Left).Parent = s
	if sn.Right != 0 {
		n.avl(sn.Right).Parent = a
	}
	*n.avl(a), *n.avl(s) = sn, an
}

// avlRelink makes parent, or the root if that is 0, refer to slot to instead of
// slot from.
func (n *node) avlRelink(parent, from, to uint16) {
	if parent == 0 {
		n.hdr().ItemRoot = to
		return
	}
	if nd := n.avl(parent); nd.Left == from {
		nd.Left = to
	} else {
		nd.Right = to
	}
}

// avlMoved redirects all links after an item was copied from one slot to
// another, links included.
func (n *node) avlMoved(from, to uint16) {
	nd := n.avl(to)
	n.avlRelink(nd.Parent, from, to)
	if nd.Left != 0 {
		n.avl(nd.Left).Parent = to
	}
	if nd.Right != 0 {
		n.avl(nd.Right).Parent = to
	}
}

// avlFix recomputes heights and rotates from the slot upwards, until a subtree
// is as high as it was. The original always goes on to the root, with the same
// result where stored heights are true; [node.fixQuirk] sees to that.
func (n *node) avlFix(slot uint16) {
	for slot != 0 {
		nd := n.avl(slot)
		before := nd.Height
		switch n.balance(nd) {
		case 2:
			if n.balance(n.avl(nd.Right)) < 0 {
				n.rotateRight(nd.Right)
			}
			slot = n.rotateLeft(slot)
			nd = n.avl(slot)
		case -2:
			if n.balance(n.avl(nd.Left)) > 0 {
				n.rotateLeft(nd.Left)
			}
			slot = n.rotateRight(slot)
			nd = n.avl(slot)
		default:
			n.setHeight(nd)
		}
		if nd.Height == before {
			return
		}
		slot = nd.Parent
	}
}

func (n *node) balance(nd *format.AvlNode) int { return n.height(nd.Right) - n.height(nd.Left) }

func (n *node) setHeight(nd *format.AvlNode) {
	nd.Height = uint8(1 + max(n.height(nd.Left), n.height(nd.Right)))
}

// rotateLeft puts the right child in the place of slot and returns it.
func (n *node) rotateLeft(slot uint16) uint16 {
	nd := n.avl(slot)
	top := nd.Right
	td := n.avl(top)
	n.avlRelink(nd.Parent, slot, top)
	td.Parent = nd.Parent
	if nd.Right = td.Left; nd.Right != 0 {
		n.avl(nd.Right).Parent = slot
	}
	td.Left, nd.Parent = slot, top
	n.setHeight(nd)
	n.setHeight(td)
	return top
}

// rotateRight puts the left child in the place of slot and returns it.
func (n *node) rotateRight(slot uint16) uint16 {
	nd := n.avl(slot)
	top := nd.Left
	td := n.avl(top)
	n.avlRelink(nd.Parent, slot, top)
	td.Parent = nd.Parent
	if nd.Left = td.Right; nd.Left != 0 {
		n.avl(nd.Left).Parent = slot
	}
	td.Right, nd.Parent = slot, top
	n.setHeight(nd)
	n.setHeight(td)
	return top
}
