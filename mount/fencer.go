// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package mount

import (
	"context"
	"path/filepath"
	"time"

	"scoutfs/format"
	"scoutfs/quorum"
	"scoutfs/server"
)

// How often the local fencer looks for proof, how long it waits before it says
// in the log what somebody has to do, and how often the registry is cleaned.
const (
	fencePoll     = 50 * time.Millisecond
	fencePatience = 2 * time.Second
	registrySweep = time.Minute
)

// localFencer answers the requests of this mount's server about mounts of this
// host. It never guesses: without proof a request stays for an agent or the
// administrator, who answer through the status tree.
type localFencer struct{ m *Mount }

var _ server.Fencer = localFencer{}

// Fence waits for proof that the mount is dead. A stopped process is killed
// first: it might wake and write. It returns when there is proof, or with ctx.
func (f localFencer) Fence(ctx context.Context, r server.Request) error {
	log := f.m.log.With("fence_rid", hex16(uint64(r.Rid)), "reason", r.Reason, "addr", r.Addr.String())
	tick := time.NewTicker(fencePoll)
	defer tick.Stop()
	killed, told := false, false
	for began := time.Now(); ; {
		verdict, entry := f.m.registry.Judge(r.Rid, f.m.dev.metaFile, f.m.dev.dataFile)
		switch {
		case verdict == Dead:
			log.Info("local proof that the mount is dead")
			return nil
		case verdict == Suspended && !killed:
			killed = true
			log.Warn("killing a stopped process that may still write", "pid", entry.PID)
			if err := entry.kill(); err != nil {
				log.Error("cannot kill it", "pid", entry.PID, "err", err)
			}
		case time.Since(began) >= fencePatience && !told:
			told = true
			log.Error("no local proof that the mount is dead: make sure that it cannot write any more, then write 1 to the file",
				"file", f.requestFile(r.Rid), "known_here", verdict != Unknown, "pid", entry.PID)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// requestFile is the file of the status tree by which a request is confirmed.
func (f localFencer) requestFile(rid format.Rid) string {
	return filepath.Join(f.m.o.RunDir, "sysfs", f.m.ID(), "fence", hex16(uint64(rid)), "fenced")
}

// sweepLoop cleans the registry now and then while this mount runs the server.
func (m *Mount) sweepLoop(ctx context.Context) {
	tick := time.NewTicker(registrySweep)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if m.runner.State() == quorum.Up {
			m.sweep()
		}
	}
}

// sweep takes mounts out of the registry that are dead and of which neither the
// volume nor a quorum block knows anything that still has to be fenced.
func (m *Mount) sweep() {
	rids, err := m.registry.List()
	if err != nil {
		m.log.Warn("cannot clean the registry", "err", err)
		return
	}
	for _, rid := range rids {
		if !m.provenDead(rid) || m.proofNeeded(rid) {
			continue
		}
		if err := m.registry.Remove(rid); err != nil {
			m.log.Warn("cannot clean the registry", "err", err)
		}
	}
}

// proofNeeded reports that a dead mount's entry may still have to serve.
func (m *Mount) proofNeeded(rid format.Rid) bool {
	in, err := inMountedClients(m.cache, m.dev.meta, rid)
	if err != nil || in {
		return true
	}
	for _, r := range m.runner.fences.List() {
		if r.Rid == rid {
			return true
		}
	}
	blocks, err := quorum.Slots(m.dev.meta, &m.super)
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
