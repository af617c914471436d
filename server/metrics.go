// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package server

import "sync/atomic"

// Metrics is a snapshot of what one server has done.
type Metrics struct {
	Commits      uint64
	CommitErrors uint64
	Mounts       int // mounted clients
}

// counts are the sources of Metrics.
type counts struct {
	commits, commitErrors atomic.Uint64
	mounts                atomic.Int64
}

// Metrics returns a snapshot. It does not block.
func (s *Server) Metrics() Metrics {
	return Metrics{
		Commits: s.count.commits.Load(), CommitErrors: s.count.commitErrors.Load(),
		Mounts: int(s.count.mounts.Load()),
	}
}

// Counters count what all servers of a mount have done. They only grow. The
// zero value is ready; all methods are safe for concurrent use.
type Counters struct {
	commitHold, commitQueue, commitWorker atomic.Uint64
	fenceLeader, fenceError               atomic.Uint64
	openLogs, rotateLog                   atomic.Uint64
	allocMeta, freeMeta, move             atomic.Uint64
	availLo, freedHi                      atomic.Uint64
}

// CounterValues is a snapshot of Counters. The fields have the names of the
// counters of spec interfaces 4.3.
type CounterValues struct {
	ServerCommitHold   uint64 // handlers that entered a commit
	ServerCommitQueue  uint64 // handlers that waited for the end of one
	ServerCommitWorker uint64 // commits that were made, or failed
	QuorumFenceLeader  uint64 // requests to fence an earlier leader
	QuorumFenceError   uint64 // starts that ended because of earlier leaders
	ReclaimedOpenLogs  uint64 // open log trees of mounts that left or were fenced
	SrchRotateLog      uint64
	AllocAllocMeta     uint64 // metadata blocks that handlers took
	AllocFreeMeta      uint64 // metadata blocks that handlers freed
	AllocMove          uint64 // moves of data extents between the server and mounts
	AllocListAvailLo   uint64 // commits made for want of blocks to allocate
	AllocListFreedHi   uint64 // commits made for want of room for freed blocks
}

// Snapshot returns the values.
func (c *Counters) Snapshot() CounterValues {
	return CounterValues{
		ServerCommitHold: c.commitHold.Load(), ServerCommitQueue: c.commitQueue.Load(), ServerCommitWorker: c.commitWorker.Load(),
		QuorumFenceLeader: c.fenceLeader.Load(), QuorumFenceError: c.fenceError.Load(),
		ReclaimedOpenLogs: c.openLogs.Load(), SrchRotateLog: c.rotateLog.Load(),
		AllocAllocMeta: c.allocMeta.Load(), AllocFreeMeta: c.freeMeta.Load(), AllocMove: c.move.Load(),
		AllocListAvailLo: c.availLo.Load(), AllocListFreedHi: c.freedHi.Load(),
	}
}
