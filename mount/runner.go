// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package mount

import (
	"context"
	"io"
	"sync"

	"scoutfs/format"
	"scoutfs/quorum"
)

// serverRunner runs the server of this mount while it is the elected leader. It
// is the quorum agent's Server.
type serverRunner struct {
	m *Mount

	mu     sync.Mutex
	st     quorum.State       // +checklocks:mu
	cancel context.CancelFunc // +checklocks:mu
}

func newServerRunner(m *Mount) *serverRunner { return &serverRunner{m: m} }

// State implements quorum.Server.
func (s *serverRunner) State() quorum.State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.st
}
func (s *serverRunner) Start(format.Term)                 {}
func (s *serverRunner) Stop()                             {}
func (s *serverRunner) clients() (n int, serving bool)    { return 0, false }
func (s *serverRunner) fenceRequests() []fenceRequest     { return nil }
func (s *serverRunner) markFenced(format.Rid) error       { return nil }
func (s *serverRunner) markError(format.Rid) error        { return nil }
func (s *serverRunner) dumpLocks(w io.Writer) error       { return nil }
func (s *serverRunner) dumpLockStats(w io.Writer) error   { return nil }
func (s *serverRunner) dumpConnections(w io.Writer) error { return nil }
func (s *serverRunner) dumpMessages(w io.Writer) error    { return nil }
