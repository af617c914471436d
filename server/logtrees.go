// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"scoutfs/alloc"
	"scoutfs/btree"
	"scoutfs/format"
)

// What a mount's transaction gets. Source: spec format 6.6.
const (
	fillLow    = 4092 // metadata blocks in the first list block
	fillTarget = format.AllocListNr
	dataLow    = 262144 // data blocks: 1 GiB
	dataTarget = 1048576

	// openLeast is how many metadata blocks a transaction needs at least.
	openLeast = 64
)

// notMounted is the error for a rid that the server does not know, because it
// was reclaimed: it must not write any more.
func notMounted(rid format.Rid) error {
	return fmt.Errorf("server: mount %s is not known: %w", ridString(rid), syscall.ENOLINK)
}

func (s *Server) checkMountedLocked(rid format.Rid) error {
	if _, ok := s.mounted[rid]; !ok {
		return notMounted(rid)
	}
	return nil
}

// opening is the state of a GET_LOG_TREES that takes several commits.
type opening struct {
	rid  format.Rid
	lt   format.LogTrees
	more bool // a part of the work is left
}

// getLogTrees opens a transaction of a mount, or returns the one that is open
// already. Source: spec cluster 6.2.
func (s *Server) getLogTrees(ctx context.Context, rid format.Rid) (format.LogTrees, error) {
	op := opening{rid: rid}
	err := s.update(ctx, op.start)
	for err == nil && op.more {
		err = s.update(ctx, op.proceed)
	}
	return op.lt, err
}

// start opens the transaction and does a hold's worth of refilling.
func (op *opening) start(h *hold) error {
	s := h.s
	if err := s.checkMountedLocked(op.rid); err != nil {
		return err
	}
	lt, exists, err := s.lastLogTreesLocked(op.rid)
	switch {
	case err != nil:
		return err
	case !exists:
		lt = format.LogTrees{Rid: op.rid, Nr: 1}
	case lt.Flags&format.LogTreesFinalized != 0:
		lt, exists = format.LogTrees{Rid: op.rid, Nr: lt.Nr + 1}, false
	case lt.GetTransSeq < lt.CommitTransSeq:
		return fmt.Errorf("server: log trees of %s: opened at %d, committed at %d: %w",
			ridString(op.rid), lt.GetTransSeq, lt.CommitTransSeq, syscall.EINVAL)
	case lt.GetTransSeq > lt.CommitTransSeq:
		op.lt = lt
		return nil
	}
	if err := s.dirtyLogTreesLocked(h, &lt, exists); err != nil {
		return err
	}
	err = op.fill(h, &lt)
	if err == nil {
		lt.GetTransSeq = s.nextSeq()
	}
	op.lt = lt
	return s.storeLogTreesLocked(h, &lt, err)
}

// proceed does another hold's worth for the transaction that start opened.
func (op *opening) proceed(h *hold) error {
	s := h.s
	lt, exists, err := s.lastLogTreesLocked(op.rid)
	if err != nil {
		return err
	}
	if !exists || lt.Nr != op.lt.Nr || lt.GetTransSeq != op.lt.GetTransSeq || lt.CommitTransSeq == lt.GetTransSeq {
		return fmt.Errorf("server: log trees of %s changed while they were opened: %w", ridString(op.rid), syscall.EIO)
	}
	if err := s.dirtyLogTreesLocked(h, &lt, true); err != nil {
		return err
	}
	err = op.fill(h, &lt)
	op.lt = lt
	return s.storeLogTreesLocked(h, &lt, err)
}

// fill takes what the mount freed and gives it blocks to allocate, as far as
// the hold allows. Source: spec cluster 6.2 step 4.
func (op *opening) fill(h *hold, lt *format.LogTrees) error {
	s := h.s
	if err := alloc.SpliceList(&h.Tx, s.otherFreedLocked(), &lt.MetaFreed); err != nil && !errors.Is(err, alloc.ErrAgain) {
		return err
	}
	freedDone, err := s.moveLocked(h, &s.super.DataAlloc, &lt.DataFreed, alloc.MoveOptions{})
	if err != nil {
		return err
	}
	metaDone, err := s.fillMetaLocked(h, &lt.MetaAvail)
	if err != nil {
		return err
	}
	dataDone, err := s.fillDataLocked(h, lt)
	if err != nil {
		return err
	}
	op.more = !freedDone || !metaDone || !dataDone
	return s.zonesLocked(h, lt)
}

// fillMetaLocked refills a mount's list. done is false if the hold did not
// suffice.
func (s *Server) fillMetaLocked(h *hold, list *format.AllocList) (done bool, err error) {
	err = s.fillLocked(&h.Tx, list)
	if errors.Is(err, alloc.ErrNoSpace) && list.FirstNr >= openLeast {
		err = nil
	} else if err != nil {
		return false, fmt.Errorf("server: metadata blocks for a mount: %w", err)
	} else if list.FirstNr < fillLow {
		return false, nil
	}
	setLow(&list.Flags, s.metaAvailLocked().TotalLen <= s.reservedLocked())
	return true, nil
}

// fillDataLocked refills a mount's data space if it has less than dataLow. It
// is done when it has that or nothing more is there.
func (s *Server) fillDataLocked(h *hold, lt *format.LogTrees) (done bool, err error) {
	if lt.DataAvail.TotalLen < dataLow && s.super.DataAlloc.TotalLen > 0 {
		zones, err := s.preferLocked(lt.Rid)
		if err != nil {
			return false, err
		}
		_, err = s.moveLocked(h, &lt.DataAvail, &s.super.DataAlloc, alloc.MoveOptions{
			Total: dataTarget - lt.DataAvail.TotalLen, Zones: zones,
		})
		if err != nil {
			return false, err
		}
	}
	low := lt.DataAvail.TotalLen < dataLow
	if low && s.super.DataAlloc.TotalLen > 0 {
		return false, nil
	}
	setLow(&lt.DataAvail.Flags, low)
	return true, nil
}

// moveLocked moves data extents, as far as one move may go.
func (s *Server) moveLocked(h *hold, dst, src *format.AllocRoot, o alloc.MoveOptions) (done bool, err error) {
	o.Budget = moveBudget
	s.o.Counters.move.Add(1)
	_, done, err = alloc.MoveExtents(&h.Tx, dst, src, o)
	return done, err
}

func setLow(flags *uint32, low bool) {
	*flags &^= format.AllocFlagLow
	if low {
		*flags |= format.AllocFlagLow
	}
}

// zoneBlocksLocked is the volume option data_alloc_zone_blocks, 0 if not set.
func (s *Server) zoneBlocksLocked() uint64 {
	o := &s.super.VolOpt
	if o.SetBits>>format.VolOptDataAllocZoneBlocks&1 == 0 {
		return 0
	}
	return o.Values[format.VolOptDataAllocZoneBlocks]
}

// preferLocked finds the zones that a mount should get data blocks from: those
// that only it has, then those that nobody has. Source: spec cluster 10.3.
func (s *Server) preferLocked(rid format.Rid) (z alloc.Zones, err error) {
	z.Blocks = s.zoneBlocksLocked()
	if z.Blocks == 0 {
		return z, nil
	}
	var mine, others alloc.ZoneSet
	err = walkLogTrees(s.cache, &s.super.LogsRoot, func(lt *format.LogTrees) error {
		set := &others
		if lt.Rid == rid {
			set = &mine
		}
		addZones(set, z.Blocks, lt)
		return nil
	})
	if err != nil {
		return z, err
	}
	var exclusive, vacant alloc.ZoneSet
	for i := range mine {
		exclusive[i] = mine[i] &^ others[i]
		vacant[i] = ^(mine[i] | others[i])
	}
	z.Prefer = []alloc.ZoneSet{exclusive, vacant}
	return z, nil
}

// addZones adds the zones of an item, which may be of another size.
func addZones(set *alloc.ZoneSet, size uint64, lt *format.LogTrees) {
	have := alloc.ZoneSet(lt.DataAllocZones)
	if lt.DataAllocZoneBlocks == 0 || have.Empty() {
		return
	}
	for n := range uint64(alloc.MaxZones) {
		if have.Has(n) && n < ^uint64(0)/lt.DataAllocZoneBlocks {
			set.AddExtent(size, format.Blkno(n*lt.DataAllocZoneBlocks), lt.DataAllocZoneBlocks)
		}
	}
}

// zonesLocked records which zones the mount's data space touches.
func (s *Server) zonesLocked(h *hold, lt *format.LogTrees) error {
	lt.DataAllocZoneBlocks, lt.DataAllocZones = s.zoneBlocksLocked(), [16]uint64{}
	if lt.DataAllocZoneBlocks == 0 {
		return nil
	}
	var set alloc.ZoneSet
	err := alloc.WalkExtents(&h.Tx, &lt.DataAvail, func(start format.Blkno, n uint64) error {
		set.AddExtent(lt.DataAllocZoneBlocks, start, n)
		return nil
	})
	lt.DataAllocZones = set
	return err
}

// commitLogTrees records what a mount's transaction has written. Repeating it
// does nothing. Source: spec cluster 6.3.
func (s *Server) commitLogTrees(ctx context.Context, rid format.Rid, lt format.LogTrees) error {
	return s.update(ctx, func(h *hold) error {
		if err := s.checkMountedLocked(rid); err != nil {
			return err
		}
		if lt.Rid != rid {
			return fmt.Errorf("server: mount %s commits log trees of %s: %w", ridString(rid), ridString(lt.Rid), syscall.EIO)
		}
		key := format.KeyLogTrees(rid, lt.Nr)
		it, err := btree.Lookup(s.cache, &s.super.LogsRoot, &key, nil)
		if err != nil {
			return fmt.Errorf("server: log trees of %s: %w", ridString(rid), err)
		}
		stored, err := value[format.LogTrees](s.cache, &it)
		switch {
		case err != nil:
			return err
		case stored.GetTransSeq != lt.GetTransSeq:
			return fmt.Errorf("server: mount %s commits transaction %d, open is %d: %w",
				ridString(rid), lt.GetTransSeq, stored.GetTransSeq, syscall.EIO)
		case stored.CommitTransSeq == lt.GetTransSeq:
			return nil
		}
		if err := s.dirtyLogTreesLocked(h, &stored, true); err != nil {
			return err
		}
		// What is the server's to decide stays what it is.
		lt.Flags, lt.FinalizeSeq = stored.Flags, stored.FinalizeSeq
		lt.DataAllocZoneBlocks, lt.DataAllocZones = stored.DataAllocZoneBlocks, stored.DataAllocZones
		if lt.SrchFile.Blocks >= format.SrchRotateBlocks {
			if err := s.rotateSrchLocked(h, &lt); err != nil {
				return err
			}
		}
		lt.CommitTransSeq = lt.GetTransSeq
		return s.storeLogTreesLocked(h, &lt, nil)
	})
}

// rotateSrchLocked moves the log file of an item to the tree of srch files. On
// error nothing has changed. Once it is moved the item must be stored.
// Source: spec cluster 6.3.
func (s *Server) rotateSrchLocked(h *hold, lt *format.LogTrees) error {
	if lt.SrchFile.Ref.IsNull() {
		return nil
	}
	key := format.Key{Zone: format.ZoneSrch, Type: format.TypeSrchLog, Second: uint64(lt.SrchFile.Ref.Blkno)}
	// A file that is there already was rotated by a server that could not answer.
	if err := h.Force(&s.super.SrchRoot, &key, format.Bytes(&lt.SrchFile)); err != nil {
		return fmt.Errorf("server: rotate srch log: %w", err)
	}
	lt.SrchFile = format.SrchFile{}
	s.o.Counters.rotateLog.Add(1)
	return nil
}

// getLastSeq is a sequence number so small that no transaction that can still
// commit has one that is not greater. Source: spec cluster 6.6.
func (s *Server) getLastSeq() (last uint64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	last = s.seq.Load() - 1
	err = walkLogTrees(s.cache, &s.super.LogsRoot, func(lt *format.LogTrees) error {
		_, mounted := s.mounted[lt.Rid]
		if mounted && lt.GetTransSeq > lt.CommitTransSeq && lt.GetTransSeq <= last {
			last = lt.GetTransSeq - 1
		}
		return nil
	})
	return last, err
}
