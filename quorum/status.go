// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package quorum

import (
	"fmt"
	"math/bits"
	"strings"
	"time"

	"scoutfs/format"
)

// peerMsg is the last message to or from a peer.
type peerMsg struct {
	Term format.Term // 0: there was none
	Type uint8
	At   time.Duration
}

// maxDelay bounds the histogram of heartbeat delays, in whole seconds.
const maxDelay = 60

// delays is a histogram of the gaps between consecutive heartbeats, sent by a
// leader or received by a follower, by whole seconds.
type delays struct {
	started bool
	last    time.Duration
	longest time.Duration // greatest gap of at least reportDelay
	news    bool          // longest grew and nobody reported it yet
	count   [maxDelay]uint64
	latest  [maxDelay]time.Duration
}

// reportDelay is the smallest gap that is logged.
const reportDelay = 3 * time.Second

func (d *delays) beat(now time.Duration) {
	gap := now - d.last
	first := !d.started
	d.started, d.last = true, now
	if first || gap < time.Second {
		return
	}
	s := min(int(gap/time.Second), maxDelay-1)
	d.count[s]++
	d.latest[s] = now
	if gap >= reportDelay && gap > d.longest {
		d.longest, d.news = gap, true
	}
}

// Delay returns a heartbeat gap of at least three seconds that is longer than
// any before in this role, once.
func (c *Core) Delay() (gap time.Duration, ok bool) {
	ok, c.delays.news = c.delays.news, false
	return c.delays.longest, ok
}

// Peer is the traffic with one other slot. A zero term means that there was
// none.
type Peer struct {
	SendTerm, RecvTerm format.Term
	SendType, RecvType uint8
	SentAgo, RecvAgo   time.Duration
}

// HeartbeatDelay is one line of the histogram.
type HeartbeatDelay struct {
	Seconds int
	Count   uint64
	Ago     time.Duration // since the latest
}

// Status is a snapshot of one member.
type Status struct {
	Slot            int
	Term            format.Term
	ServerStartTerm format.Term
	LastEvent       int // the last that was recorded, format.QuorumBegin ...
	Role            Role
	VoteFor         int // -1 none
	VoteBits        uint16
	Timeout         time.Duration // until the deadline, not negative
	Peers           [format.QuorumSlots]Peer
	Delays          []HeartbeatDelay
	Server          State
	Counts          Counts
}

// Status returns a snapshot at the given time.
func (c *Core) Status(now time.Duration) Status {
	s := Status{
		Slot: c.cfg.Slot, Term: c.term, ServerStartTerm: c.startTerm, LastEvent: c.lastEvent, Role: c.role,
		VoteFor: c.voteFor, VoteBits: c.bits, Timeout: max(c.due-now, 0), Server: c.server, Counts: c.counts,
	}
	for i := range s.Peers {
		s.Peers[i] = Peer{
			SendTerm: c.sent[i].Term, SendType: c.sent[i].Type, SentAgo: now - c.sent[i].At,
			RecvTerm: c.recv[i].Term, RecvType: c.recv[i].Type, RecvAgo: now - c.recv[i].At,
		}
	}
	for sec, n := range c.delays.count {
		if n > 0 {
			s.Delays = append(s.Delays, HeartbeatDelay{Seconds: sec, Count: n, Ago: now - c.delays.latest[sec]})
		}
	}
	return s
}

// Text is the content of the file quorum/status. Source: spec interfaces 4.1.
func (s *Status) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "quorum_slot_nr %d\n", s.Slot)
	fmt.Fprintf(&b, "term %d\n", s.Term)
	fmt.Fprintf(&b, "server_start_term %d\n", s.ServerStartTerm)
	fmt.Fprintf(&b, "server_event %d\n", s.LastEvent)
	fmt.Fprintf(&b, "role %d (%s)\n", s.Role, s.Role)
	fmt.Fprintf(&b, "vote_for %d\n", s.VoteFor)
	fmt.Fprintf(&b, "vote_bits 0x%x (count %d)\n", s.VoteBits, bits.OnesCount16(s.VoteBits))
	fmt.Fprintf(&b, "timeout_in_secs %s\n", seconds(s.Timeout))
	for slot, p := range s.Peers {
		if p.SendTerm != 0 {
			fmt.Fprintf(&b, "last_send to %d term %d type %d secs_since %s\n", slot, p.SendTerm, p.SendType, seconds(p.SentAgo))
		}
		if p.RecvTerm != 0 {
			fmt.Fprintf(&b, "last_recv from %d term %d type %d secs_since %s\n", slot, p.RecvTerm, p.RecvType, seconds(p.RecvAgo))
		}
	}
	if len(s.Delays) > 0 {
		fmt.Fprintf(&b, "%11s  %9s  %s\n", "HB Delay(s)", "Count", "Secs Since")
	}
	for _, d := range s.Delays {
		fmt.Fprintf(&b, "%11d  %9d  %s\n", d.Seconds, d.Count, seconds(d.Ago))
	}
	return b.String()
}

// seconds prints a duration as seconds with nine decimals.
func seconds(d time.Duration) string {
	return fmt.Sprintf("%d.%09d", d/time.Second, d%time.Second)
}
