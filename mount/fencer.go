// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package mount

import (
	"context"
	"net/netip"
	"path/filepath"
	"time"

	"scoutfs/format"
	"scoutfs/quorum"
)

// fenceRequest is a request of this mount's server that some mount be fenced.
type fenceRequest struct {
	rid            format.Rid
	addr           netip.Addr
	reason         string
	since          time.Time
	fenced, failed bool
}

func (r *fenceRequest) elapsed() time.Duration { return time.Since(r.since) }

// How often the local fencer looks for requests, how long it gives the owner of
// one to be proven dead before it says in the log what somebody has to do, and
// how often it cleans the registry.
const (
	fencePoll     = 50 * time.Millisecond
	fencePatience = 2 * time.Second
	registrySweep = time.Minute
)

// fencer is the local fencer: it answers the requests of this mount's server
// about mounts of this host. It belongs to one goroutine.
type fencer struct {
	m         *Mount
	told      map[format.Rid]bool // the log has named what to do
	killed    map[format.Rid]bool
	nextSweep time.Time
}

// fenceLoop serves requests until ctx ends.
func (s *serverRunner) fenceLoop(ctx context.Context) {
	f := &fencer{m: s.m, told: make(map[format.Rid]bool), killed: make(map[format.Rid]bool), nextSweep: time.Now().Add(registrySweep)}
	tick := time.NewTicker(fencePoll)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if s.State() == quorum.Down {
			continue
		}
		for _, r := range s.fenceRequests() {
			if !r.fenced && !r.failed {
				f.answer(&r)
			}
		}
		if s.State() == quorum.Up && time.Now().After(f.nextSweep) {
			f.nextSweep = time.Now().Add(registrySweep)
			f.sweep()
		}
	}
}

// answer confirms a request if there is proof, and says what is missing if
// there is none.
func (f *fencer) answer(r *fenceRequest) {
	verdict, entry := f.m.registry.Judge(r.rid, f.m.dev.metaFile, f.m.dev.dataFile)
	log := f.m.log.With("fence_rid", hex16(uint64(r.rid)), "reason", r.reason, "addr", r.addr.String())
	switch {
	case verdict == Dead:
		log.Info("local proof that the mount is dead")
		if err := f.m.runner.markFenced(r.rid); err != nil {
			log.Debug("fence request is gone", "err", err)
		}
		f.nextSweep = time.Now().Add(fencePatience)
	case verdict == Suspended && !f.killed[r.rid]:
		f.killed[r.rid] = true
		log.Warn("killing a stopped process that may still write", "pid", entry.PID)
		if err := entry.kill(); err != nil {
			log.Error("cannot kill it", "pid", entry.PID, "err", err)
		}
	case r.elapsed() >= fencePatience && !f.told[r.rid]:
		f.told[r.rid] = true
		log.Error("no local proof that the mount is dead; make sure that it cannot write any more, then write 1 to the file",
			"file", f.requestFile(r.rid), "known_here", verdict == Alive || verdict == Suspended, "pid", entry.PID)
	}
}

// requestFile is the file of the status tree by which a request is confirmed.
func (f *fencer) requestFile(rid format.Rid) string {
	return filepath.Join(f.m.o.RunDir, "sysfs", f.m.ID(), "fence", hex16(uint64(rid)), "fenced")
}

// sweep takes mounts out of the registry that are dead and of which neither the
// volume nor a quorum block knows anything that still has to be fenced.
func (f *fencer) sweep() {
	m := f.m
	rids, err := m.registry.List()
	if err != nil {
		m.log.Warn("cannot clean the registry", "err", err)
		return
	}
	for _, rid := range rids {
		if !m.provenDead(rid) || f.needed(rid) {
			continue
		}
		if err := m.registry.Remove(rid); err != nil {
			m.log.Warn("cannot clean the registry", "err", err)
		}
	}
}

// needed reports that a dead mount's entry may still have to serve as proof.
func (f *fencer) needed(rid format.Rid) bool {
	in, err := inMountedClients(f.m.cache, f.m.dev.meta, rid)
	if err != nil || in {
		return true
	}
	for _, r := range f.m.runner.fenceRequests() {
		if r.rid == rid {
			return true
		}
	}
	blocks, err := quorum.Slots(f.m.dev.meta, &f.m.super)
	if err != nil {
		return true
	}
	var fence format.Term
	for _, qb := range blocks {
		fence = max(fence, qb.Events[format.QuorumFence].Term)
	}
	for _, qb := range blocks {
		for _, ev := range qb.Events {
			if ev.Rid == rid && ev.Term >= fence {
				return true
			}
		}
	}
	return false
}
