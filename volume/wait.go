// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package volume

import (
	"slices"
	"sync"
	"syscall"

	"scoutfs/format"
)

// What a waiter for archived data was doing. Source: spec filesystem 4.9.
const (
	waitRead       = 1
	waitWrite      = 2
	waitChangeSize = 4
)

// waiter is a task that waits for archived data of an inode to come back.
type waiter struct {
	ino    format.Ino
	iblock uint64 // the first block it waits for
	op     uint8  // waitRead ...
	wake   chan struct{}
	err    error // what its call returns, nil: look again; set before wake is closed
}

// waiters are the tasks of this mount that wait for archived data.
type waiters struct {
	mu     sync.Mutex
	m      map[format.Ino][]*waiter // +checklocks:mu
	closed error                    // what all waits end with; +checklocks:mu
}

// add registers a waiter. The caller still holds the locks under which it saw
// that data is missing, so no change goes unnoticed.
func (w *waiters) add(ino format.Ino, iblock uint64, op uint8) *waiter {
	t := &waiter{ino: ino, iblock: iblock, op: op, wake: make(chan struct{})}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.m == nil {
		w.m = make(map[format.Ino][]*waiter)
	}
	if w.closed != nil {
		t.err = w.closed
		close(t.wake)
		return t
	}
	w.m[ino] = append(w.m[ino], t)
	return t
}

// close ends all waits, also later ones, with an error.
func (w *waiters) close(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed != nil {
		return
	}
	w.closed = err
	for ino, list := range w.m {
		for _, t := range list {
			t.err = err
		}
		w.wakeLocked(ino)
	}
}

// wakeAll makes all waiters of ino look again.
func (w *waiters) wakeAll(ino format.Ino) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wakeLocked(ino)
}

// wakeGroup makes all waiters of a lock group look again.
func (w *waiters) wakeGroup(grp uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for ino := range w.m {
		if group(ino) == grp {
			w.wakeLocked(ino)
		}
	}
}

func (w *waiters) wakeLocked(ino format.Ino) {
	for _, t := range w.m[ino] {
		close(t.wake)
	}
	delete(w.m, ino)
}

// remove forgets a waiter that gave up.
func (w *waiters) remove(t *waiter) {
	w.mu.Lock()
	defer w.mu.Unlock()
	l := w.m[t.ino]
	if i := slices.Index(l, t); i >= 0 {
		l = slices.Delete(l, i, i+1)
	}
	if len(l) == 0 {
		delete(w.m, t.ino)
	} else {
		w.m[t.ino] = l
	}
}

// offlineError is what an attempt returns that met archived data.
type offlineError struct{ w *waiter }

func (e *offlineError) Error() string { return "volume: data is archived" }

// await repeats a call's attempts until one does not meet archived data. Between
// attempts it holds nothing and waits for the data, or for the caller to be
// interrupted, which gives EINTR.
func (o *op) await(attempt func() error) error {
	for {
		err := attempt()
		off, ok := err.(*offlineError)
		if !ok {
			return err
		}
		o.unlock()
		select {
		case <-off.w.wake:
			if off.w.err != nil {
				return off.w.err
			}
		case <-o.c.Done():
			o.v.waits.remove(off.w)
			return syscall.EINTR
		}
	}
}

// offline registers the call as a waiter and returns the error that says so.
func (o *op) offline(ino format.Ino, iblock uint64, op uint8) error {
	return &offlineError{o.v.waits.add(ino, iblock, op)}
}

// checkOnline returns an offlineError if an extent of ino that intersects the
// blocks [from, to) is archived.
func (o *op) checkOnline(s *slot, from, to uint64, op uint8) error {
	if s.in.OfflineBlocks == 0 {
		return nil
	}
	for b := from; b < to; {
		e, err := o.nextExtent(o.v.engine, s.lk, s.ino, b)
		if notFound(err) {
			return nil
		}
		if err != nil {
			return err
		}
		if e.Iblock >= to {
			return nil
		}
		if e.Flags&format.ExtentOffline != 0 {
			return o.offline(s.ino, max(e.Iblock, from), op)
		}
		b = e.end()
	}
	return nil
}
