// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package lock

import (
	"io"

	"scoutfs/format"
)

type OutKind uint8

const (
	Grant      OutKind = iota // answer request ReqID of Rid with Lock
	Invalidate                // send Lock as a request to Rid; its response goes to InvalidateDone
)

type Out struct {
	Rid   format.Rid
	ReqID uint64 // of a Grant
	Kind  OutKind
	Lock  format.NetLock
}

// Server: not safe for concurrent use. The caller must queue the outs in order before it makes the next call.
type Server struct{}

func NewServer(nextSeq func() uint64) *Server { panic("todo") }

// CheckRequest: bad modes; the connection must be closed.
func CheckRequest(l format.NetLock) error { panic("todo") }

func (s *Server) Request(rid format.Rid, reqID uint64, l format.NetLock) []Out { panic("todo") }
func (s *Server) InvalidateDone(rid format.Rid, l format.NetLock) []Out        { panic("todo") }
func (s *Server) Remove(rid format.Rid) []Out                                  { panic("todo") }
func (s *Server) StartRecovery(rids []format.Rid)                              { panic("todo") }

// Recovered takes a LOCK_RECOVER response. The caller raises the global seq to each WriteSeq BEFORE the call.
func (s *Server) Recovered(rid format.Rid, locks []format.NetLock) (next format.Key, done bool, outs []Out, err error) {
	panic("todo")
}
func (s *Server) FinishRecovery(rid format.Rid) []Out { panic("todo") }
func (s *Server) Recovering(rid format.Rid) bool      { panic("todo") }
func (s *Server) DumpLocks(w io.Writer)               { panic("todo") }
func (s *Server) DumpStats(w io.Writer)               { panic("todo") }
func (s *Server) Stats() ServerStats                  { panic("todo") }

type ServerStats struct{ Locks int }
