// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package server

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"scoutfs/format"
)

// FenceOptions say how the requests of a table get answered.
type FenceOptions struct {
	// Proof reports whether the mount is known to be dead, by what this host
	// can tell; then a request is fenced as soon as it is made. May be nil.
	Proof func(format.Rid) bool
	// Fencer is asked for each request; nil: requests wait for somebody to
	// call MarkFenced or MarkError.
	Fencer Fencer
	Log    *slog.Logger // nil: none
}

// FenceStatus is one request as others see it.
type FenceStatus struct {
	Request
	Created time.Time
	Fenced  bool
	Error   bool
}

// FenceTable holds the fence requests of a mount's servers. It is safe for
// concurrent use. Source: spec cluster 3.2.
type FenceTable struct {
	o FenceOptions

	mu      sync.Mutex
	reqs    map[format.Rid]*fenceReq // +checklocks:mu
	changed chan struct{}            // +checklocks:mu; closed and replaced at each change
}

type fenceReq struct {
	FenceStatus
	timer  *time.Timer
	cancel context.CancelFunc
}

// NewFenceTable returns an empty table.
func NewFenceTable(o FenceOptions) *FenceTable {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &FenceTable{o: o, reqs: make(map[format.Rid]*fenceReq), changed: make(chan struct{})}
}

// List returns the requests, oldest first.
func (f *FenceTable) List() []FenceStatus {
	f.mu.Lock()
	defer f.mu.Unlock()
	list := make([]FenceStatus, 0, len(f.reqs))
	for _, r := range f.reqs {
		list = append(list, r.FenceStatus)
	}
	slices.SortFunc(list, func(a, b FenceStatus) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.Rid, b.Rid))
	})
	return list
}

// Changed is closed at the next change of the table.
func (f *FenceTable) Changed() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.changed
}

// MarkFenced says that the mount can write to neither device any more. It
// returns ENOENT if there is no such request.
func (f *FenceTable) MarkFenced(rid format.Rid) error {
	return f.mark(rid, f.fenced)
}

func (f *FenceTable) fenced(r *fenceReq) {
	r.Fenced = true
	f.o.Log.Info("mount is fenced", "rid", ridString(r.Rid), "reason", r.Reason)
}

// MarkError says that the mount could not be fenced. It returns ENOENT if
// there is no such request.
func (f *FenceTable) MarkError(rid format.Rid) error {
	return f.mark(rid, f.notFenced)
}

func (f *FenceTable) notFenced(r *fenceReq) {
	r.Error = true
	f.o.Log.Error("mount could not be fenced", "rid", ridString(r.Rid), "reason", r.Reason)
}

func (f *FenceTable) mark(rid format.Rid, fn func(*fenceReq)) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := f.reqs[rid]
	if r == nil {
		return fmt.Errorf("server: fence request of %s: %w", ridString(rid), syscall.ENOENT)
	}
	f.markLocked(r, fn)
	return nil
}

func (f *FenceTable) markLocked(r *fenceReq, fn func(*fenceReq)) {
	if !r.Fenced && !r.Error {
		fn(r)
		r.timer.Stop()
		f.touchLocked()
	}
}

func (f *FenceTable) touchLocked() {
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *FenceTable) has(rid format.Rid) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.reqs[rid] != nil
}

// add makes a request unless there is one for the mount already, which it
// reports.
func (f *FenceTable) add(q Request) (fresh bool) {
	if f.has(q.Rid) {
		return false
	}
	proven := f.proven(q.Rid) // reads files: not under the lock
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.reqs[q.Rid] != nil {
		return false
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &fenceReq{FenceStatus: FenceStatus{Request: q, Created: time.Now()}, cancel: cancel}
	r.timer = time.AfterFunc(fenceTimeout, func() { f.timeout(r) })
	f.reqs[q.Rid] = r
	f.touchLocked()
	f.o.Log.Warn("mount is to be fenced", "rid", ridString(q.Rid), "address", q.Addr, "reason", q.Reason)
	if proven {
		r.Fenced = true
		r.timer.Stop()
		f.o.Log.Info("mount is known to be dead", "rid", ridString(q.Rid))
		return true
	}
	if f.o.Fencer != nil {
		go f.run(ctx, r)
	}
	return true
}

// proven reports whether the mount is known to be dead.
func (f *FenceTable) proven(rid format.Rid) bool { return f.o.Proof != nil && f.o.Proof(rid) }

// run lets the fencer answer a request. It ends at the latest soon after the
// request is removed.
func (f *FenceTable) run(ctx context.Context, r *fenceReq) {
	err := f.o.Fencer.Fence(ctx, r.Request)
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.reqs[r.Rid] != r: // it is gone; another one for the mount has its own answer
	case err != nil:
		f.o.Log.Error("fencing failed", "rid", ridString(r.Rid), "err", err)
		f.markLocked(r, f.notFenced)
	default:
		f.markLocked(r, f.fenced)
	}
}

// timeout turns a request that nobody answered into an error.
func (f *FenceTable) timeout(r *fenceReq) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.reqs[r.Rid] == r {
		f.o.Log.Error("fence request was not answered in time", "rid", ridString(r.Rid))
		f.markLocked(r, f.notFenced)
	}
}

// prove looks again whether mounts with open requests are known to be dead.
// left is true if some are not.
func (f *FenceTable) prove() (left bool) {
	for _, r := range f.List() {
		switch {
		case r.Fenced || r.Error:
		case f.proven(r.Rid):
			_ = f.MarkFenced(r.Rid) // the request may be gone
		default:
			left = true
		}
	}
	return left
}

func (f *FenceTable) remove(rid format.Rid) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r := f.reqs[rid]; r != nil {
		r.stop()
		delete(f.reqs, rid)
		f.touchLocked()
	}
}

func (r *fenceReq) stop() {
	r.timer.Stop()
	r.cancel()
}

// clear removes all requests, when a server ends.
func (f *FenceTable) clear() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.reqs {
		r.stop()
	}
	clear(f.reqs)
	f.touchLocked()
}

func ridString(rid format.Rid) string { return fmt.Sprintf("%016x", uint64(rid)) }

func inetOf(addr netip.AddrPort) (in format.Inet) {
	ip := addr.Addr().Unmap()
	if !ip.Is4() {
		return in
	}
	b := ip.As4()
	in.Family = format.InetV4
	in.Port = addr.Port()
	in.Addr = uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
	return in
}

func addrOf(in *format.Inet) netip.Addr {
	if in.Family != format.InetV4 {
		return netip.Addr{}
	}
	return netip.AddrFrom4([4]byte{byte(in.Addr >> 24), byte(in.Addr >> 16), byte(in.Addr >> 8), byte(in.Addr)})
}
