// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"context"
	"syscall"
	"testing"

	"scoutfs/format"
	"scoutfs/quorum"
	"scoutfs/server"
)

// TestCounters checks what is counted, and that it goes on with the next server.
func TestCounters(t *testing.T) {
	v := newVolume(t, 1)
	counts := new(server.Counters)
	with := func(o *server.Options) { o.Counters = counts }
	s := v.start(with)
	m := v.mount(s, 7, 0, nil) // one commit
	must(t, m.open(t.Context()))
	must(t, m.write(5, 130000)) // enough entries to rotate the log file
	must(t, m.commit(t.Context(), 1))
	must(t, m.open(t.Context()))
	first := counts.Snapshot()
	if first.ServerCommitHold < 4 || first.ServerCommitQueue < 4 || first.ServerCommitWorker < 4 ||
		first.AllocAllocMeta == 0 || first.AllocFreeMeta == 0 || first.AllocMove == 0 || first.SrchRotateLog != 1 {
		t.Errorf("counters %+v", first)
	}
	if first.QuorumFenceLeader != 0 || first.QuorumFenceError != 0 || first.ReclaimedOpenLogs != 0 {
		t.Errorf("nothing happened, but counters are %+v", first)
	}
	s.Stop()

	suspects := func(o *server.Options) {
		o.Suspects = func() ([]quorum.Suspect, bool, error) { return []quorum.Suspect{{Rid: 7, Term: 1}}, false, nil }
	}
	_, err := v.tryStart(with, suspects, func(o *server.Options) {
		o.Fences = server.NewFenceTable(server.FenceOptions{Fencer: refuser{}})
	})
	if err == nil {
		t.Fatal("server starts though an earlier leader is not fenced")
	}
	if c := counts.Snapshot(); c.QuorumFenceLeader != 1 || c.QuorumFenceError != 1 {
		t.Errorf("counters %+v", c)
	}
	s = v.start(with, suspects, allDead)
	waitFor(t, func() bool { return s.Metrics().Mounts == 0 && len(s.Fences().List()) == 0 })
	c := counts.Snapshot()
	if c.QuorumFenceLeader != 2 || c.QuorumFenceError != 1 || c.ReclaimedOpenLogs != 1 || c.ServerCommitWorker <= first.ServerCommitWorker {
		t.Errorf("counters %+v", c)
	}
	if _, trees := v.audit(); len(trees) != 1 || trees[0].Flags != format.LogTreesFinalized {
		t.Errorf("log trees %+v", trees)
	}
}

// refuser cannot fence anybody.
type refuser struct{}

func (refuser) Fence(context.Context, server.Request) error { return syscall.EIO }
