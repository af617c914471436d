// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package quorum

import (
	"fmt"
	"math/bits"
	"math/rand/v2"
	"time"

	"scoutfs/format"
)

// Timers of the election. Source: spec cluster 2.4.
const (
	HeartbeatInterval       = 100 * time.Millisecond
	ElectionTimeout         = 250 * time.Millisecond // plus up to electionSpread
	electionSpread          = 100                    // milliseconds
	DefaultHeartbeatTimeout = 10 * time.Second
)

// Role is what a member is at the moment.
type Role uint8

// The roles, with the numbers that the status file shows.
const (
	RoleFollower Role = iota
	RoleCandidate
	RoleLeader
)

// String names the role as the status file does.
func (r Role) String() string {
	if r <= RoleLeader {
		return [...]string{"follower", "candidate", "leader"}[r]
	}
	return "unknown"
}

// State is what the server of this mount does.
type State uint8

// The states of a server, in the order in which it goes through them.
const (
	Down State = iota
	Starting
	Up
	Stopping
)

// String names the state.
func (s State) String() string {
	if s <= Stopping {
		return [...]string{"down", "starting", "up", "stopping"}[s]
	}
	return "unknown"
}

// Msg is a datagram without its envelope. Type is format.QuorumMsgRequestVote
// and so on.
type Msg struct {
	Type uint8
	From int // the sender's slot
	Term format.Term
}

// ActionKind says what an [Action] asks for.
type ActionKind uint8

// What the core asks of its shell.
const (
	ActSend   ActionKind = iota // send Type with Term to slot To, or to all other slots
	ActRecord                   // write Event with Term into the own block
	ActStart                    // start the server for Term, do not wait
	ActStop                     // stop the server, do not wait
)

// ToAll as an action's To means every other present slot.
const ToAll = -1

// Action is one thing to do.
type Action struct {
	Kind  ActionKind
	Type  uint8 // ActSend
	To    int   // ActSend: a slot, or ToAll
	Event int   // ActRecord: format.QuorumBegin ...
	Term  format.Term
}

// String is one line of an election's transcript.
func (a Action) String() string {
	switch a.Kind {
	case ActSend:
		to := "all"
		if a.To != ToAll {
			to = fmt.Sprint(a.To)
		}
		return fmt.Sprintf("send %s to %s term %d", msgNames[a.Type], to, a.Term)
	case ActRecord:
		return fmt.Sprintf("record %s term %d", eventNames[a.Event], a.Term)
	case ActStart:
		return fmt.Sprintf("start server term %d", a.Term)
	}
	return "stop server"
}

var (
	msgNames   = [format.QuorumMsgTypes]string{"REQUEST_VOTE", "VOTE", "HEARTBEAT", "RESIGNATION"}
	eventNames = [format.QuorumEvents]string{"BEGIN", "TERM", "ELECT", "FENCE", "STOP", "END"}
)

// Config describes one member to [NewCore].
type Config struct {
	Slot    int                      // the own slot
	Present [format.QuorumSlots]bool // slots that have an address
	Term    format.Term              // greatest term found on the device
	// ServerSeen says that another slot advertises a running server: the first
	// deadline is then a whole heartbeat timeout.
	ServerSeen bool
	// HeartbeatTimeout is asked each time such a deadline is set.
	// Nil: DefaultHeartbeatTimeout.
	HeartbeatTimeout func() time.Duration
	// Rand spreads the election timeouts. It is used by the core only.
	Rand *rand.Rand
}

// Ready is what has to be done after an input, in the order of Actions. A
// record that fails ends the agent; no later action may be done then.
type Ready struct {
	Actions  []Action
	Deadline time.Duration // when to call Tick at the latest
	Done     bool          // Shutdown is complete: the agent may end
}

// Core is the election of one member. It is deterministic and does no I/O. Its
// methods must not run at the same time. After each of Step, Tick, ServerState
// and Shutdown the caller takes Ready and does what it says.
type Core struct {
	cfg     Config
	needed  int // votes
	role    Role
	term    format.Term
	voteFor int         // -1 none
	votedIn format.Term // no vote is given in this or an earlier term
	bits    uint16      // slots that voted for us, while CANDIDATE
	due     time.Duration

	server    State
	startTerm format.Term // of the server that was started, 0 none
	fenced    bool        // FENCE was recorded in this leadership
	closing   bool
	done      bool
	lastEvent int

	sent, recv [format.QuorumSlots]peerMsg
	delays     delays
	counts     Counts
	out        []Action
}

// Counts are monotonic numbers of election events, named as the counters of
// the status tree.
type Counts struct {
	CandidateServerStopping, Elected                      uint64
	RecvHeartbeat, RecvResignation, RecvVote              uint64
	SendHeartbeat, SendResignation, SendRequest, SendVote uint64
	ServerShutdown, TermFollower                          uint64
}

// VotesNeeded is how many votes win an election of a volume with so many slots.
// Source: spec cluster 2.1.
func VotesNeeded(present int) int {
	if present < 3 {
		return 1
	}
	return present/2 + 1
}

// NewCore returns a FOLLOWER whose first action is the BEGIN record.
// A restarted member never votes in its starting term, since it cannot know
// whether it already did.
func NewCore(now time.Duration, cfg Config) *Core {
	if cfg.HeartbeatTimeout == nil {
		cfg.HeartbeatTimeout = func() time.Duration { return DefaultHeartbeatTimeout }
	}
	present := 0
	for _, p := range cfg.Present {
		if p {
			present++
		}
	}
	c := &Core{cfg: cfg, needed: VotesNeeded(present), term: cfg.Term, votedIn: cfg.Term, voteFor: -1}
	switch {
	case cfg.ServerSeen:
		c.due = now + cfg.HeartbeatTimeout()
	case present == 1:
		c.due = now // there is nobody to hear
	default:
		c.due = now + c.electionTimeout()
	}
	c.record(format.QuorumBegin, c.term)
	return c
}

// Step takes a message that passed the checks of the envelope. It never judges
// the deadline of a follower: messages that wait in the socket count first.
func (c *Core) Step(now time.Duration, m Msg) {
	c.note(now, m)
	if m.Term < c.term {
		c.pass(now, nil)
		return
	}
	if m.Term > c.term {
		c.raise(now, m)
	}
	switch m.Type {
	case format.QuorumMsgHeartbeat:
		c.heartbeat(now)
	case format.QuorumMsgResignation:
		if c.role == RoleFollower {
			c.due = now + c.electionTimeout()
		}
	}
	c.pass(now, &m)
}

// Tick tells the time. The caller has made sure that no message waits in the
// socket, or a queued heartbeat would come too late.
func (c *Core) Tick(now time.Duration) {
	if c.role != RoleLeader && !c.closing && now >= c.due {
		c.stand(now)
	}
	c.pass(now, nil)
}

// ServerState tells what the server does now.
func (c *Core) ServerState(now time.Duration, st State) {
	c.server = st
	c.pass(now, nil)
}

// Hurry makes a follower stop waiting for a leader that is known to be dead.
func (c *Core) Hurry(now time.Duration) {
	if c.role == RoleFollower {
		c.due = min(c.due, now+c.electionTimeout())
	}
}

// Shutdown ends the member: it stops the server if one runs, and when that is
// down resigns and records STOP and END. It may be called repeatedly.
func (c *Core) Shutdown(now time.Duration) {
	c.closing = true
	c.pass(now, nil)
}

// Ready returns what is to be done and forgets it. The slice is the caller's.
func (c *Core) Ready() Ready {
	r := Ready{Actions: c.out, Deadline: c.due, Done: c.done}
	c.out = nil
	return r
}

// raise takes over a greater term. Source: spec cluster 2.5 step 2.
func (c *Core) raise(now time.Duration, m Msg) {
	c.become(RoleFollower)
	c.term = m.Term
	c.voteFor, c.bits = -1, 0
	if m.Type == format.QuorumMsgHeartbeat {
		c.due = now + c.cfg.HeartbeatTimeout()
	} else {
		c.due = now + c.electionTimeout()
	}
	c.counts.TermFollower++
	c.record(format.QuorumTerm, c.term)
}

// heartbeat of the own term. A leader keeps its own sending deadline: two
// leaders of one term must both be heard.
func (c *Core) heartbeat(now time.Duration) {
	if c.role == RoleLeader {
		return
	}
	c.due = now + c.cfg.HeartbeatTimeout()
	c.delays.beat(now)
}

// stand makes the member a candidate of the next term. The term is recorded
// before anyone is asked for a vote. Source: spec cluster 2.5 step 5.
func (c *Core) stand(now time.Duration) {
	c.due = now + c.electionTimeout()
	if c.server != Down {
		c.counts.CandidateServerStopping++
		return
	}
	c.become(RoleCandidate)
	c.term++
	c.votedIn = c.term
	c.voteFor, c.bits = -1, 1<<c.cfg.Slot
	c.record(format.QuorumTerm, c.term)
	c.send(now, format.QuorumMsgRequestVote, ToAll, c.term)
}

// pass is what every input ends with. Source: spec cluster 2.5 steps 6 to 12.
func (c *Core) pass(now time.Duration, m *Msg) {
	if c.done {
		return
	}
	if m != nil && m.Type == format.QuorumMsgVote && c.role == RoleCandidate {
		c.bits |= 1 << m.From
	}
	if c.role == RoleCandidate && bits.OnesCount16(c.bits) >= c.needed && !c.closing {
		c.lead(now)
	}
	if c.role == RoleLeader && c.server == Up && !c.fenced && !c.closing {
		c.fenced = true
		c.record(format.QuorumFence, c.term)
	}
	mayServe := c.role == RoleLeader && c.term == c.startTerm && !c.closing
	if !mayServe && (c.server == Starting || c.server == Up) {
		c.server = Stopping
		c.counts.ServerShutdown++
		c.out = append(c.out, Action{Kind: ActStop})
	}
	if c.startTerm > 0 && c.server == Down {
		c.resign(now)
	}
	if c.role == RoleLeader && now >= c.due {
		c.beat(now)
	}
	if m != nil && m.Type == format.QuorumMsgRequestVote && c.role == RoleFollower && c.votedIn < c.term && !c.closing {
		c.votedIn, c.voteFor = c.term, m.From
		c.send(now, format.QuorumMsgVote, m.From, c.term)
	}
	if c.closing && c.server == Down {
		c.done = true
		c.record(format.QuorumEnd, c.term)
	}
}

// lead makes the winner the leader: ELECT is durable before the server starts.
func (c *Core) lead(now time.Duration) {
	c.become(RoleLeader)
	c.fenced, c.voteFor = false, -1
	c.counts.Elected++
	c.beat(now)
	c.record(format.QuorumElect, c.term)
	c.startTerm, c.server = c.term, Starting
	c.out = append(c.out, Action{Kind: ActStart, Term: c.term})
}

// resign follows the end of the server. STOP says that all its I/O ended.
func (c *Core) resign(now time.Duration) {
	if c.role == RoleLeader {
		c.become(RoleFollower)
		c.bits = 0
		c.due = now + c.electionTimeout()
		c.send(now, format.QuorumMsgResignation, ToAll, c.term)
	}
	c.record(format.QuorumStop, c.startTerm)
	c.startTerm = 0
}

// beat sends a heartbeat to all and sets the time of the next.
func (c *Core) beat(now time.Duration) {
	c.due = now + HeartbeatInterval
	c.delays.beat(now)
	c.send(now, format.QuorumMsgHeartbeat, ToAll, c.term)
}

// become changes the role; the delays that were measured belong to the old one.
func (c *Core) become(r Role) {
	if c.role != r {
		c.delays = delays{}
	}
	c.role = r
}

func (c *Core) electionTimeout() time.Duration {
	return ElectionTimeout + time.Duration(c.cfg.Rand.IntN(electionSpread))*time.Millisecond
}

func (c *Core) record(event int, term format.Term) {
	c.lastEvent = event
	c.out = append(c.out, Action{Kind: ActRecord, Event: event, Term: term})
}

func (c *Core) send(now time.Duration, typ uint8, to int, term format.Term) {
	for slot, present := range c.cfg.Present {
		if present && slot != c.cfg.Slot && (to == ToAll || to == slot) {
			c.sent[slot] = peerMsg{Term: term, Type: typ, At: now}
		}
	}
	switch typ {
	case format.QuorumMsgHeartbeat:
		c.counts.SendHeartbeat++
	case format.QuorumMsgResignation:
		c.counts.SendResignation++
	case format.QuorumMsgRequestVote:
		c.counts.SendRequest++
	case format.QuorumMsgVote:
		c.counts.SendVote++
	}
	c.out = append(c.out, Action{Kind: ActSend, Type: typ, To: to, Term: term})
}

// note remembers what was received, for the status file.
func (c *Core) note(now time.Duration, m Msg) {
	c.recv[m.From] = peerMsg{Term: m.Term, Type: m.Type, At: now}
	switch m.Type {
	case format.QuorumMsgHeartbeat:
		c.counts.RecvHeartbeat++
	case format.QuorumMsgResignation:
		c.counts.RecvResignation++
	case format.QuorumMsgVote:
		c.counts.RecvVote++
	}
}
