// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package lock

import (
	"fmt"
	"io"
)

// Stats returns a snapshot.
func (s *Server) Stats() ServerStats {
	n := s.count
	n.Locks, n.Recovering = len(s.locks), len(s.pending)
	return n
}

// DumpLocks writes one line for each part that a mount has in a lock, in key
// order, as the server_locks file of spec interfaces 4.4 has it.
func (s *Server) DumpLocks(w io.Writer) error {
	for _, k := range s.sorted() {
		for _, l := range []struct {
			name string
			list []entry
		}{{"granted", k.granted}, {"requested", k.requested}, {"invalidated", k.invalidated}} {
			for _, e := range l.list {
				if _, err := fmt.Fprintf(w, "%v %s %s rid %016x net_id %d\n", k.key, e.mode, l.name, e.rid, e.id); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// DumpStats writes one line a lock with the numbers of its requests,
// invalidations, their responses, and grants: the server_lock_stats file.
func (s *Server) DumpStats(w io.Writer) error {
	for _, k := range s.sorted() {
		if _, err := fmt.Fprintf(w, "%v req %d inv %d rsp %d gr %d\n", k.key, k.req, k.inv, k.rsp, k.gr); err != nil {
			return err
		}
	}
	return nil
}
