// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"

	"scoutfs/alloc"
	"scoutfs/btree"
	"scoutfs/format"
)

const (
	// holdBudget is how many blocks a holder may allocate, and free.
	// Source: spec cluster 5.2.
	holdBudget = 500
	// moveBudget is what one move of extents may use of it.
	moveBudget = 250
	// drainBudget bounds the work of one commit for lists of freed blocks.
	drainBudget = 2048
	// maxRotations is how often in a row a commit is made only to get room.
	maxRotations = 4
)

// errStopped says that the server is stopping. It matches ESHUTDOWN.
var errStopped = fmt.Errorf("server: stopping: %w", syscall.ESHUTDOWN)

// room is what is left of a transaction's lists.
type room struct{ avail, freed int }

func (r room) least() int { return min(r.avail, r.freed) }

// committer decides who may change trees and when a commit runs: never while
// somebody does, and for all at once who did. Those who come while nobody may
// enter queue up and are let in together when the commit ends.
// Source: spec cluster 5.1, 5.2.
type committer struct {
	mu        sync.Mutex
	holders   int            // +checklocks:mu; those in between enter and leave
	waiting   int            // +checklocks:mu; those who left and wait for the commit
	running   bool           // +checklocks:mu
	rotate    bool           // +checklocks:mu; a commit is needed to get room
	rotations int            // +checklocks:mu; such commits in a row
	budget    int            // +checklocks:mu; what the holders of this batch may need
	first     room           // +checklocks:mu; at the batch's first hold
	now       room           // +checklocks:mu; as last reported
	queue     []chan<- error // +checklocks:mu; of capacity 1; those who want to enter
	batch     *batch         // +checklocks:mu; the open one
	stop      error          // +checklocks:mu; why nobody may enter any more
	due       chan struct{}  // of capacity 1; wakes next
	count     *Counters
}

// batch is one commit as those see it who wait for it.
type batch struct {
	done chan struct{}
	err  error // valid when done is closed
}

func newBatch() *batch { return &batch{done: make(chan struct{})} }

func newCommitter(count *Counters) *committer {
	return &committer{batch: newBatch(), due: make(chan struct{}, 1), count: count}
}

// wakeLocked makes next look again.
func (c *committer) wakeLocked() {
	select {
	case c.due <- struct{}{}:
	default:
	}
}

// enter waits until the caller may change trees. It must call leave then.
func (c *committer) enter(ctx context.Context) error {
	c.mu.Lock()
	if c.stop != nil {
		defer c.mu.Unlock()
		return c.stop
	}
	if len(c.queue) == 0 && c.waiting == 0 && c.admitLocked() {
		c.mu.Unlock()
		return nil
	}
	turn := make(chan error, 1)
	c.queue = append(c.queue, turn)
	c.pumpLocked(nil)
	c.mu.Unlock()
	select {
	case err := <-turn:
		return err
	case <-ctx.Done():
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	n := len(c.queue)
	c.queue = slices.DeleteFunc(c.queue, func(q chan<- error) bool { return q == turn })
	if len(c.queue) < n {
		return ctx.Err()
	}
	return <-turn // it was our turn just now
}

// admitLocked lets one in if no commit is running and there is room for it and
// for the commit itself.
func (c *committer) admitLocked() bool {
	if c.running || c.rotate {
		return false
	}
	if c.holders == 0 && c.waiting == 0 {
		c.first = c.now
	}
	need := max(c.budget, (c.holders+2)*holdBudget)
	if c.first.least() < need {
		return false
	}
	c.budget = need
	c.holders++
	c.rotations = 0
	c.count.commitHold.Add(1)
	return true
}

// pumpLocked lets those in who queue, if a commit has just ended or nothing is
// going on. If there is no room even for one it asks for a commit, which turns
// to other lists; if that did not help or failed (err) the first is told so.
func (c *committer) pumpLocked(err error) {
	if c.running || c.waiting > 0 || c.rotate {
		return
	}
	for len(c.queue) > 0 {
		if c.admitLocked() {
			c.answerLocked(nil)
			continue
		}
		if c.holders > 0 {
			return
		}
		if err == nil && c.rotations < maxRotations {
			c.rotations++
			c.rotate = true
			if c.first.avail < c.first.freed {
				c.count.availLo.Add(1)
			} else {
				c.count.freedHi.Add(1)
			}
			c.wakeLocked()
			return
		}
		if err == nil {
			err = fmt.Errorf("server: metadata blocks for a commit: %w", alloc.ErrNoSpace)
		}
		c.answerLocked(err)
		c.rotations = 0
	}
}

// answerLocked tells the first of the queue that it is in, or why not.
func (c *committer) answerLocked(err error) {
	c.queue[0] <- err
	c.queue = slices.Delete(c.queue, 0, 1)
}

// leave ends what enter began. Without err it waits for the commit and returns
// its error. r is the room that is left.
func (c *committer) leave(r room, err error) error {
	c.mu.Lock()
	c.holders--
	c.now = r
	b := c.batch
	if err == nil {
		c.waiting++
		c.count.commitQueue.Add(1)
	}
	if c.holders == 0 {
		if c.waiting == 0 {
			c.budget = 0
		}
		c.pumpLocked(nil)
		c.wakeLocked()
	}
	c.mu.Unlock()
	if err != nil {
		return err
	}
	<-b.done
	return b.err
}

// next waits until a commit is due and closes the door. ok is false when the
// committer was shut and nobody is inside any more.
func (c *committer) next() (ok bool) {
	for range c.due {
		c.mu.Lock()
		if c.holders == 0 && c.stop != nil {
			c.mu.Unlock()
			return false
		}
		if c.holders == 0 && (c.waiting > 0 || c.rotate) {
			c.running = true
			c.mu.Unlock()
			return true
		}
		c.mu.Unlock()
	}
	return false
}

// finish ends a commit: its error goes to all who waited. r is the room of
// the next one.
func (c *committer) finish(r room, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.batch.err = err
	close(c.batch.done)
	c.batch = newBatch()
	c.waiting, c.running, c.rotate, c.budget = 0, false, false, 0
	c.now = r
	c.pumpLocked(err)
	c.wakeLocked()
}

// shut lets nobody in any more and fails those who queue.
func (c *committer) shut(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stop != nil {
		return
	}
	c.stop = err
	for len(c.queue) > 0 {
		c.answerLocked(err)
	}
	c.wakeLocked()
}

// abandon answers those who wait after the last commit.
func (c *committer) abandon() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.batch.err = c.stop
	close(c.batch.done)
	c.batch = newBatch()
	c.waiting = 0
}

// hold is one handler's part in a commit: its way to change trees. It counts
// what the handler uses, so that long work can stop in time.
type hold struct {
	btree.Tx
	s           *Server
	avail, used int
}

var (
	_ btree.Allocator = (*hold)(nil)
	_ alloc.Roomer    = (*hold)(nil)
)

// AllocBlock takes a block of the commit's.
func (h *hold) AllocBlock() (format.Blkno, error) {
	h.avail++
	h.s.o.Counters.allocMeta.Add(1)
	return h.s.pair.AllocBlock()
}

// FreeBlock gives a block back.
func (h *hold) FreeBlock(b format.Blkno) error {
	h.used++
	h.s.o.Counters.freeMeta.Add(1)
	return h.s.pair.FreeBlock(b)
}

// Room is the rest of the handler's budget, or of the commit's if that is less.
func (h *hold) Room() (avail, freed int) {
	avail, freed = h.s.pair.Room()
	return min(avail, max(holdBudget-h.avail, 0)), min(freed, max(holdBudget-h.used, 0))
}

// update lets fn change trees under s.mu and waits until that is durable. If
// fn fails it does not wait, and what fn changed becomes durable with somebody
// else's commit: fn must leave the trees consistent, or return an
// alloc.BrokenError, which stops the server. An error of the commit means that
// the outcome is not known.
func (s *Server) update(ctx context.Context, fn func(h *hold) error) error {
	if err := s.commit.enter(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	err := s.broken
	if err == nil {
		h := &hold{s: s}
		h.Tx = btree.Tx{Cache: s.cache, Writer: s.writer, Alloc: h}
		if err = fn(h); alloc.IsBroken(err) {
			s.breakLocked(err)
		}
	}
	r := s.roomLocked()
	s.mu.Unlock()
	return s.commit.leave(r, err)
}

func (s *Server) roomLocked() (r room) {
	r.avail, r.freed = s.pair.Room()
	return r
}

// breakLocked forbids all further commits and stops the server.
func (s *Server) breakLocked(err error) {
	if s.broken == nil {
		s.broken = err
	}
	s.fail(err)
}

// commitLoop runs commits until the committer is shut.
func (s *Server) commitLoop() {
	defer s.commit.abandon()
	for s.commit.next() {
		err := s.commitOnce()
		s.o.Counters.commitWorker.Add(1)
		if err != nil {
			s.count.commitErrors.Add(1)
			s.o.Log.Error("server commit failed", "err", err)
		} else {
			s.count.commits.Add(1)
		}
		s.mu.Lock()
		r := s.roomLocked()
		s.mu.Unlock()
		s.commit.finish(r, err)
	}
}

// commitOnce writes everything that is dirty and then the super. After an
// error all of it is still to be written. Source: spec cluster 5.3.
func (s *Server) commitOnce() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		return s.broken
	}
	if err := s.turnListsLocked(); err != nil {
		if alloc.IsBroken(err) {
			s.breakLocked(err)
		}
		return err
	}
	// Only a flush that succeeds makes the blocks clean: what a failed one lost
	// is written again by the next commit.
	if err := s.writer.WriteFlush(); err != nil {
		return fmt.Errorf("server: commit: %w", err)
	}
	next := s.super
	next.Seq = s.seq.Load()
	next.Hdr.Seq++
	next.ServerMetaAvail[s.active], next.ServerMetaFreed[s.active] = s.pair.Avail(), s.pair.Freed()
	if err := s.check(); err != nil {
		s.breakLocked(err)
		return err
	}
	if err := writeSuper(s.o.Meta, &next); err != nil {
		return fmt.Errorf("server: commit: %w", err)
	}
	s.super = next
	s.stable.Store(&next)
	s.active = 1 - s.active
	s.startTransLocked()
	return nil
}

// check asks whether this server may still write the super.
func (s *Server) check() error {
	if s.o.Check == nil {
		return nil
	}
	if err := s.o.Check(); err != nil {
		return fmt.Errorf("server: before the super is written: %w", err)
	}
	return nil
}

// turnListsLocked prepares the lists of the next commit with blocks of this
// one: refills those to allocate from and turns freed blocks, which no super
// refers to any more, into free extents.
func (s *Server) turnListsLocked() error {
	t := &btree.Tx{Cache: s.cache, Writer: s.writer, Alloc: s.pair}
	o := 1 - s.active
	if err := s.fillLocked(t, &s.super.ServerMetaAvail[o]); err != nil && !errors.Is(err, alloc.ErrNoSpace) {
		return fmt.Errorf("server: commit: %w", err)
	}
	if _, err := alloc.DrainList(t, s.metaFreedLocked(), &s.super.ServerMetaFreed[o], drainBudget); err != nil {
		return fmt.Errorf("server: commit: %w", err)
	}
	return nil
}

// fillLocked fills a list of blocks to allocate. When the tree that serves as
// source runs out it takes from the other: what is in that one was freed
// before the last super was written, so nothing refers to it.
func (s *Server) fillLocked(t *btree.Tx, list *format.AllocList) error {
	err := alloc.FillList(t, list, s.metaAvailLocked(), fillLow, fillTarget)
	if errors.Is(err, alloc.ErrNoSpace) {
		err = alloc.FillList(t, list, s.metaFreedLocked(), fillLow, fillTarget)
	}
	return err
}

// startTransLocked begins the next transaction with the other pair of lists,
// and exchanges the trees if the source gets low. Source: spec cluster 5.3.
func (s *Server) startTransLocked() {
	s.pair.Reset(s.writer, s.super.ServerMetaAvail[s.active], s.super.ServerMetaFreed[s.active])
	avail, freed := s.metaAvailLocked().TotalLen, s.metaFreedLocked().TotalLen
	if avail < 2*s.reservedLocked() && freed > avail {
		s.source = 1 - s.source
	}
}

func (s *Server) metaAvailLocked() *format.AllocRoot { return &s.super.MetaAlloc[s.source] }
func (s *Server) metaFreedLocked() *format.AllocRoot { return &s.super.MetaAlloc[1-s.source] }

// otherFreedLocked is the list that freed blocks of others are spliced into:
// not the one that this commit fills, but the one that becomes free extents
// after this commit is durable.
func (s *Server) otherFreedLocked() *format.AllocList { return &s.super.ServerMetaFreed[1-s.active] }

// reservedLocked is how many metadata blocks must be free for everybody to go
// on. Source: spec cluster 5.4.
func (s *Server) reservedLocked() uint64 { return reserved(len(s.mounted)) }

func reserved(clients int) uint64 {
	return 2*format.AllocListNr + uint64(max(1, clients))*(2*format.AllocListNr+1028+913)
}
