// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package quorum_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"scoutfs/format"
	"scoutfs/quorum"
)

// TestTranscripts runs the scripts in testdata. Commands:
//
//	new slot=N slots=(0,1,2) [term=T] [seen]   a member starts at time 0
//	msg from=N term=T type                     a datagram arrives
//	tick                                       time is told, the socket is empty
//	server STATE                               the server reports a state
//	hurry, shutdown, status
//
// Each takes at=MS, the new time in milliseconds. The output is what the core
// asks for, in order, and the time left until its deadline.
func TestTranscripts(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		s := &script{}
		datadriven.RunTest(t, path, s.run)
	})
}

type script struct {
	core *quorum.Core
	now  time.Duration
}

func (s *script) run(t *testing.T, d *datadriven.TestData) string {
	if d.HasArg("at") {
		var ms int
		d.ScanArgs(t, "at", &ms)
		s.now = time.Duration(ms) * time.Millisecond
	}
	switch d.Cmd {
	case "new":
		s.start(t, d)
	case "msg":
		s.core.Step(s.now, message(t, d))
	case "tick":
		s.core.Tick(s.now)
	case "server":
		s.core.ServerState(s.now, state(t, d))
	case "hurry":
		s.core.Hurry(s.now)
	case "shutdown":
		s.core.Shutdown(s.now)
	case "status":
		st := s.core.Status(s.now)
		return st.Text()
	default:
		t.Fatalf("%s: unknown command %q", d.Pos, d.Cmd)
	}
	return s.ready()
}

func (s *script) start(t *testing.T, d *datadriven.TestData) {
	s.now = 0
	cfg := quorum.Config{ServerSeen: d.HasArg("seen"), Rand: rand.New(rand.NewPCG(1, 2))}
	var slots []string
	for _, a := range d.CmdArgs {
		if a.Key == "slots" {
			slots = a.Vals
		}
	}
	for _, v := range slots {
		nr, err := strconv.Atoi(v)
		if err != nil {
			t.Fatal(err)
		}
		cfg.Present[nr] = true
	}
	d.ScanArgs(t, "slot", &cfg.Slot)
	if d.HasArg("term") {
		var term uint64
		d.ScanArgs(t, "term", &term)
		cfg.Term = format.Term(term)
	}
	s.core = quorum.NewCore(s.now, cfg)
}

func (s *script) ready() string {
	var b strings.Builder
	r := s.core.Ready()
	for _, a := range r.Actions {
		fmt.Fprintln(&b, a)
	}
	st := s.core.Status(s.now)
	fmt.Fprintf(&b, "%s of term %d", st.Role, st.Term)
	if r.Done {
		fmt.Fprintln(&b, ", done")
		return b.String()
	}
	fmt.Fprintf(&b, ", %s left\n", class(r.Deadline-s.now))
	return b.String()
}

// class hides the random part of an election timeout.
func class(d time.Duration) string {
	if d >= quorum.ElectionTimeout && d < quorum.ElectionTimeout+100*time.Millisecond {
		return "an election timeout"
	}
	return d.String()
}

func message(t *testing.T, d *datadriven.TestData) quorum.Msg {
	var m quorum.Msg
	var term uint64
	d.ScanArgs(t, "from", &m.From)
	d.ScanArgs(t, "term", &term)
	m.Term = format.Term(term)
	types := []string{"request", "vote", "heartbeat", "resignation"}
	for _, a := range d.CmdArgs {
		if i := slices.Index(types, a.Key); i >= 0 {
			m.Type = uint8(i)
			return m
		}
	}
	t.Fatalf("%s: no type", d.Pos)
	return m
}

func state(t *testing.T, d *datadriven.TestData) quorum.State {
	for st := quorum.Down; st <= quorum.Stopping; st++ {
		if d.HasArg(st.String()) {
			return st
		}
	}
	t.Fatalf("%s: unknown state", d.Pos)
	return 0
}

// TestOneLeader runs members of random sizes of cluster over a network that
// loses, delays and reorders, with restarts that keep only what was recorded.
// No term ever has two leaders, and no member votes twice in a term.
func TestOneLeader(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			newCluster(t, seed).run(4000)
		})
	}
}

type flight struct {
	to  int
	msg quorum.Msg
	at  time.Duration
}

type cluster struct {
	t       *testing.T
	rng     *rand.Rand
	n       int
	now     time.Duration
	cores   []*quorum.Core
	terms   []format.Term // durable
	servers []quorum.State
	due     []time.Duration
	net     []flight
	leaders map[format.Term]int
	votes   map[string]int
}

func newCluster(t *testing.T, seed uint64) *cluster {
	c := &cluster{t: t, rng: rand.New(rand.NewPCG(seed, 7)), leaders: map[format.Term]int{}, votes: map[string]int{}}
	c.n = 3 + c.rng.IntN(4)
	c.cores = make([]*quorum.Core, c.n)
	c.terms = make([]format.Term, c.n)
	c.servers = make([]quorum.State, c.n)
	c.due = make([]time.Duration, c.n)
	for i := range c.n {
		c.restart(i)
	}
	return c
}

func (c *cluster) restart(i int) {
	cfg := quorum.Config{Slot: i, Term: slices.Max(c.terms), Rand: c.rng}
	for s := range c.n {
		cfg.Present[s] = true
	}
	c.servers[i] = quorum.Down
	c.cores[i] = quorum.NewCore(c.now, cfg)
	c.perform(i)
}

// perform does a member's actions; a crash may come between any two of them.
func (c *cluster) perform(i int) {
	r := c.cores[i].Ready()
	c.due[i] = r.Deadline
	for _, a := range r.Actions {
		if c.rng.IntN(2000) == 0 {
			c.restart(i)
			return
		}
		c.action(i, a)
	}
}

func (c *cluster) action(i int, a quorum.Action) {
	switch a.Kind {
	case quorum.ActRecord:
		c.terms[i] = max(c.terms[i], a.Term)
		if a.Event == format.QuorumElect {
			if old, ok := c.leaders[a.Term]; ok && old != i {
				c.t.Fatalf("slots %d and %d were both elected in term %d", old, i, a.Term)
			}
			c.leaders[a.Term] = i
		}
	case quorum.ActStart:
		c.servers[i] = quorum.Starting
	case quorum.ActStop:
		c.servers[i] = quorum.Stopping
	case quorum.ActSend:
		c.post(i, a)
	}
}

func (c *cluster) post(i int, a quorum.Action) {
	if a.Type == format.QuorumMsgVote {
		key := fmt.Sprint(i, a.Term)
		if to, ok := c.votes[key]; ok && to != a.To {
			c.t.Fatalf("slot %d voted for both %d and %d in term %d", i, to, a.To, a.Term)
		}
		c.votes[key] = a.To
	}
	for to := range c.n {
		if to == i || (a.To != quorum.ToAll && a.To != to) || c.rng.IntN(10) == 0 {
			continue
		}
		delay := time.Duration(c.rng.IntN(20)) * time.Millisecond
		if c.rng.IntN(20) == 0 {
			delay *= 40
		}
		c.net = append(c.net, flight{to: to, msg: quorum.Msg{Type: a.Type, From: i, Term: a.Term}, at: c.now + delay})
	}
}

func (c *cluster) run(steps int) {
	for range steps {
		c.now += 5 * time.Millisecond
		c.deliver()
		for i := range c.n {
			c.server(i)
			if c.now >= c.due[i] {
				c.cores[i].Tick(c.now)
				c.perform(i)
			}
		}
	}
	if len(c.leaders) == 0 {
		c.t.Fatal("nobody was ever elected")
	}
}

func (c *cluster) deliver() {
	var arrived []flight
	c.net = slices.DeleteFunc(c.net, func(f flight) bool {
		if f.at <= c.now {
			arrived = append(arrived, f)
		}
		return f.at <= c.now
	})
	for _, f := range arrived {
		c.cores[f.to].Step(c.now, f.msg)
		c.perform(f.to)
	}
}

// server moves a member's server on now and then; it fails at times.
func (c *cluster) server(i int) {
	st := c.servers[i]
	switch {
	case st == quorum.Starting && c.rng.IntN(20) == 0:
		st = quorum.Up
	case st == quorum.Up && c.rng.IntN(2000) == 0:
		st = quorum.Down
	case st == quorum.Stopping && c.rng.IntN(10) == 0:
		st = quorum.Down
	}
	if st != c.servers[i] {
		c.servers[i] = st
		c.cores[i].ServerState(c.now, st)
		c.perform(i)
	}
}
