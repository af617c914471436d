// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package txn

import (
	"errors"

	"scoutfs/alloc"
	"scoutfs/format"
	"scoutfs/srch"
)

// Triggers of a commit. Source: spec format 6.6, cluster 8.1.
const (
	minMetaRoom  = 16    // metadata blocks
	minDataAvail = 65536 // data blocks
	leafShare    = 8192  // bytes of dirty items that may need one more leaf
)

// need is how many metadata blocks must be left so that the commit can write
// what is dirty: each page may touch a leaf and split it, full pages more.
func (e *Engine) need() int64 {
	items := 2*e.cache.dirtyNr.Load() + e.cache.dirtyBytes.Load()/leafShare
	return max(items, minMetaRoom) + e.space.reserve.Load()
}

// short reports whether the transaction has too few metadata blocks left for
// extra changes besides its commit.
func (e *Engine) short(extra int) bool {
	need := e.need() + int64(extra)
	return e.space.roomAvail.Load() < need || e.space.roomFreed.Load() < need
}

// opShare is how many metadata blocks the commit may need for what one
// operation changes, besides what it frees: a rename changes items in some 14
// pages, each of which may be new, and a long xattr fills eight leaves. It is
// kept for every operation that is in, whose changes are not all known yet.
// Not for a newcomer who is alone: where metadata is nearly used up, single
// operations must still be able to free some.
const opShare = 32

// tight reports whether a newcomer must wait for the next transaction, if so
// many others are in.
func (e *Engine) tight(holders int) bool {
	s, c := &e.space, e.cache
	switch {
	case s.spent.Load(), e.short(opShare * holders):
		return true
	case s.dataAvail.Load() < minDataAvail && !s.dataLow.Load():
		return true
	}
	return c.dirtyBytes.Load() > c.budget/2 || c.dirtyNr.Load() > max(c.budget/maxFrame*3/4, 4)
}

// note publishes what is left. mu is held.
func (s *space) note() {
	avail, freed := s.pair.Room()
	s.roomAvail.Store(int64(avail))
	s.roomFreed.Store(int64(freed))
	s.dataAvail.Store(s.data.TotalAvail())
	da, df := s.data.Roots()
	cost := 2*alloc.ExtentCost(&da) + alloc.ExtentCost(&df) + 2 + extentShare*(s.reserved+len(s.frees)+s.undone)
	if n := len(s.srch); n > 0 {
		cost += n*srch.MaxEntrySize/format.SrchMaxStart + srchPath
	}
	s.reserve.Store(int64(cost))
}

// extentShare is how many blocks a change of an extent tree takes at the most
// where there are many, which mostly meet in the same leaves.
const extentShare = 8

// srchPath is how many blocks appending to a log file takes besides the
// entries' own.
const srchPath = 16

// keep makes an operation's changes of space last.
func (s *space) keep(t *Tx) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reserved -= len(t.frees)
	for _, x := range t.frees {
		s.free(x)
	}
	s.inodes += t.inodes
	s.srch = append(s.srch, t.srch...)
	s.note()
}

// free frees data blocks, now or at the latest in the commit. mu is held.
func (s *space) free(x extent) {
	err := s.broken
	if err == nil {
		err = s.data.Free(&s.tree, x.start, x.n)
	}
	if err != nil {
		s.breaks(err)
		s.frees = append(s.frees, x)
	}
}

// breaks remembers an error after which the trees must not be written.
func (s *space) breaks(err error) {
	if s.broken == nil && alloc.IsBroken(err) {
		s.broken = err
	}
}

// takeBack undoes an operation's allocations.
func (s *space) takeBack(t *Tx) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reserved -= len(t.frees)
	s.undone += len(t.allocs)
	for i := len(t.allocs) - 1; i >= 0; i-- {
		s.data.Unalloc(t.allocs[i].start, t.allocs[i].n)
	}
	s.note()
}

// commitHelps reports whether a commit is worth a try for one who found no data
// blocks: it turns freed blocks into free ones, and the server may have got
// others since the transaction was opened, from a mount that was reclaimed for
// example. After one that brought nothing it is not, for the length of a
// transaction, so that nobody tries for ever. mu is held.
func (s *space) commitHelps() bool {
	if s.hopeless {
		return false
	}
	s.hoping = true
	return true
}

// freeAll repeats the frees that failed. What the transaction has no room for
// is left for the next one: better blocks that a crash would leak than a
// commit that never ends. That does not happen: this is the first step of a
// commit, so all that is reserved for it is there. mu is held.
func (s *space) freeAll() error {
	for len(s.frees) > 0 {
		last := len(s.frees) - 1
		x := s.frees[last]
		err := s.data.Free(&s.tree, x.start, x.n)
		if errors.Is(err, alloc.ErrAgain) {
			return nil
		}
		if err != nil {
			s.breaks(err)
			return err
		}
		s.frees = s.frees[:last]
	}
	return nil
}

// appendSrch writes the search entries to the log file, or leaves them for the
// next transaction as freeAll does, which does not happen either. mu is held.
func (s *space) appendSrch() error {
	err := srch.AppendLog(&s.tree, &s.lt.SrchFile, s.srch)
	if err == nil {
		s.srch = nil
	}
	if errors.Is(err, alloc.ErrAgain) {
		return nil
	}
	return err
}

// install makes what the server opened the open transaction.
func (s *space) install(lt *format.LogTrees) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if lt.GetTransSeq <= s.lt.GetTransSeq || lt.GetTransSeq <= lt.CommitTransSeq {
		return errors.New("server opened a transaction that is not new")
	}
	s.pair.Reset(s.tree.Writer, lt.MetaAvail, lt.MetaFreed)
	s.data.Reset(lt.DataAvail, lt.DataFreed)
	s.lt = *lt
	s.undone = 0
	s.hoping, s.hopeless = false, s.hoping && s.data.TotalAvail() == 0
	s.metaLow.Store(lt.MetaAvail.Flags&format.AllocFlagLow != 0)
	s.dataLow.Store(lt.DataAvail.Flags&format.AllocFlagLow != 0)
	s.spent.Store(false)
	s.note()
	return nil
}
