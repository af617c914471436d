// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package alloc

import (
	"fmt"
	"slices"

	"scoutfs/block"
	"scoutfs/btree"
	"scoutfs/format"
	"scoutfs/internal/invariants"
)

// freshFreedBelow is the number of free slots below which the first use in a
// transaction starts a new freed block. Source: spec format 6.3.
const freshFreedBelow = 2046

// Pair is one transaction's use of a list of blocks to allocate and a list of
// blocks freed. Only the first block of each list is used. It implements
// [btree.Allocator] and [Roomer]. It belongs to one transaction at a time and
// is not safe for concurrent use. Source: spec format 6.3.
type Pair struct {
	c            *block.Cache
	w            *block.Writer
	avail, freed format.AllocList
	ab, fb       *block.Block // the dirty heads, pinned; nil before Prepare
}

var (
	_ btree.Allocator = (*Pair)(nil)
	_ Roomer          = (*Pair)(nil)
)

// NewPair starts a transaction that writes its list blocks with w.
func NewPair(c *block.Cache, w *block.Writer, avail, freed format.AllocList) *Pair {
	return &Pair{c: c, w: w, avail: whole(avail), freed: whole(freed)}
}

// Reset starts the next transaction with the given lists. The blocks of the
// one before must have been written or discarded.
func (p *Pair) Reset(w *block.Writer, avail, freed format.AllocList) {
	p.Close()
	p.w, p.avail, p.freed = w, whole(avail), whole(freed)
}

// Close lets go of the list blocks. The pair's lists remain what they are.
func (p *Pair) Close() {
	if p.ab != nil {
		p.ab.Release()
		p.fb.Release()
		p.ab, p.fb = nil, nil
	}
}

// Avail is the current head of the list of blocks to allocate.
func (p *Pair) Avail() format.AllocList { return p.avail }

// Freed is the current head of the list of freed blocks.
func (p *Pair) Freed() format.AllocList { return p.freed }

// SetLow sets or clears the LOW flag of the avail list.
func (p *Pair) SetLow(low bool) {
	p.avail.Flags &^= format.AllocFlagLow
	if low {
		p.avail.Flags |= format.AllocFlagLow
	}
}

// Dirty reports whether anything was allocated or freed since the last write
// of the writer's blocks.
func (p *Pair) Dirty() bool { return p.ab != nil && p.w.IsDirty(p.ab) }

// Room is how many more blocks this transaction can allocate and free. Before
// the first use it counts what that use itself takes.
// Source: spec cluster 5.2.
func (p *Pair) Room() (avail, freed int) {
	avail, freed = int(p.avail.FirstNr), format.AllocListNr-int(p.freed.FirstNr)
	if p.Dirty() {
		return avail, freed
	}
	if freed < freshFreedBelow {
		freed = format.AllocListNr
	}
	return max(avail-2, 0), freed - 2
}

// AllocBlock takes a block that was free before this transaction. It returns
// ErrNoSpace if the first avail block is empty, ErrAgain if the first use
// needs more than there is.
func (p *Pair) AllocBlock() (format.Blkno, error) {
	if err := p.Prepare(); err != nil {
		return 0, err
	}
	l := overlayList(p.ab)
	if l.Nr == 0 {
		return 0, fmt.Errorf("alloc: take block: %w", ErrNoSpace)
	}
	e := l.Blknos[l.Start]
	if err := checkEntry(p.c, e); err != nil {
		return 0, err
	}
	popFront(l, 1)
	p.avail.FirstNr--
	p.avail.TotalNr--
	return format.Blkno(e), nil
}

// FreeBlock notes that the last written tree does not need blkno once this
// transaction is durable. It returns ErrNoSpace if the freed block is full.
// The caller takes care of the block's own dirty contents.
func (p *Pair) FreeBlock(blkno format.Blkno) error {
	if err := checkEntry(p.c, uint64(blkno)); err != nil {
		return err
	}
	if err := p.Prepare(); err != nil {
		return err
	}
	l := overlayList(p.fb)
	if l.Nr == format.AllocListNr {
		return fmt.Errorf("alloc: free block %d: %w", blkno, ErrNoSpace)
	}
	if invariants.Enabled {
		invariants.Check(!slices.Contains(live(l), uint64(blkno)), "alloc: block %d freed twice", blkno)
	}
	p.pushFreed(blkno)
	return nil
}

func (p *Pair) pushFreed(blkno format.Blkno) {
	push(overlayList(p.fb), blkno)
	p.freed.FirstNr++
	p.freed.TotalNr++
}

// headPlan is what the first use of a pair changes.
type headPlan struct {
	avail   *block.Block     // first avail block that stays in the list; nil if it has no block
	list    format.AllocList // avail from that block on
	loose   []uint64         // entries of blocks before it, at most one each
	emptied []format.Blkno   // those blocks
}

// Prepare makes the first blocks of both lists dirty, which the first
// AllocBlock or FreeBlock does by itself. It is idempotent. A transaction that
// goes on after its blocks were written, because what should have followed
// failed, copies them again. It returns
// ErrNoSpace if the avail list has less than the two blocks that this takes;
// on error nothing has changed. Source: spec format 6.3.
func (p *Pair) Prepare() error {
	if p.Dirty() {
		return nil
	}
	p.Close()
	if p.avail.TotalNr < 2 {
		return fmt.Errorf("alloc: start transaction: %w", ErrNoSpace)
	}
	plan, err := p.planAvail()
	if err != nil {
		return err
	}
	defer plan.avail.Release()
	freed, err := p.readFreed()
	if err != nil {
		return err
	}
	if freed != nil {
		defer freed.Release()
	}
	entries := append(slices.Clone(plan.loose), live(overlayList(plan.avail))...)
	slices.Sort(entries)
	for _, e := range entries {
		if err := checkEntry(p.c, e); err != nil {
			return err
		}
	}
	p.install(plan, freed, entries)
	return nil
}

// planAvail finds the first block of the avail list that has enough entries
// together with what blocks before it hold, so that a nearly empty first block
// does not make the whole list unusable.
func (p *Pair) planAvail() (*headPlan, error) {
	plan := &headPlan{list: p.avail}
	for {
		b, err := readHead(p.c, &plan.list)
		if err != nil {
			return nil, err
		}
		nr := len(live(overlayList(b))) + len(plan.loose)
		if nr >= 2 {
			plan.avail = b
			return plan, nil
		}
		next, err := headAfter(p.c, &plan.list, b)
		if err == nil && (next.Ref.IsNull() || len(plan.emptied) == moveReserve) {
			err = fmt.Errorf("alloc: start transaction: %w", ErrNoSpace)
		}
		if err != nil {
			b.Release()
			return nil, err
		}
		plan.loose = append(plan.loose, live(overlayList(b))...)
		plan.emptied = append(plan.emptied, b.Blkno())
		plan.list = next
		b.Release()
	}
}

// readFreed returns the freed list's first block if it is to be copied, nil if
// a fresh one is to be put in front.
func (p *Pair) readFreed() (*block.Block, error) {
	if p.freed.Ref.IsNull() {
		return nil, nil
	}
	b, err := readHead(p.c, &p.freed)
	if err != nil {
		return nil, err
	}
	if format.AllocListNr-p.freed.FirstNr < freshFreedBelow {
		b.Release()
		return nil, nil
	}
	return b, nil
}

// install makes the new heads. entries are the sorted entries of the avail
// list's new first block; the first two become the places of the heads.
func (p *Pair) install(plan *headPlan, freed *block.Block, entries []uint64) {
	p.ab = p.w.Copy(plan.avail, format.Blkno(entries[0]))
	l := overlayList(p.ab)
	l.Start = 0
	l.Nr = uint32(copy(l.Blknos[:], entries[2:]))
	p.avail = format.AllocList{
		Ref: p.ab.Ref(), FirstNr: l.Nr, Flags: p.avail.Flags,
		TotalNr: plan.list.TotalNr + uint64(len(plan.loose)) - 2,
	}
	if freed != nil {
		p.fb = p.w.Copy(freed, format.Blkno(entries[1]))
	} else {
		p.fb = p.w.New(format.Blkno(entries[1]), ListKind)
		overlayList(p.fb).Next = p.freed.Ref
		p.freed.FirstNr = 0
	}
	p.freed.Ref = p.fb.Ref()
	p.pushFreed(plan.avail.Blkno())
	for _, blkno := range plan.emptied {
		p.pushFreed(blkno)
	}
	if freed != nil {
		p.pushFreed(freed.Blkno())
	}
}
