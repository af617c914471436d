// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package quorum

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"scoutfs/block"
	"scoutfs/format"
)

// Server is what a leader runs. Its methods return at once and are called by
// one goroutine. State is Starting when Start has returned, and Stopping or Down
// when Stop has. Down means that all I/O of the server ended. Whoever changes the
// state later calls [Agent.Kick].
type Server interface {
	Start(term format.Term)
	Stop()
	State() State
}

// Options of an agent. Dev, Super, Rid and Server are required.
type Options struct {
	Dev   block.Device  // the metadata device; not closed
	Super *format.Super // as read at mount; not kept after Start except its slots and fsid
	Slot  int
	Rid   format.Rid
	// HeartbeatTimeout is how long a follower waits for its leader; asked each
	// time. Nil: 10 s.
	HeartbeatTimeout func() time.Duration
	// Conn is the socket, owned by the agent from here on. Nil: bind the slot's
	// address.
	Conn   net.PacketConn
	Server Server
	// Dead reports that a mount is proven to be dead; then its slot does not
	// delay the first election. May be nil.
	Dead func(format.Rid) bool
	Rand *rand.Rand // spreads the election timeouts; nil: seeded by the system
	Log  *slog.Logger
}

// Metrics are monotonic counts named as the counters of the status tree.
type Metrics struct {
	Counts
	ReadInvalidBlock, RecvError, RecvInvalid, SendHeartbeatDropped uint64
}

// serverPoll bounds how late the agent notices a state of the server of which
// nobody told it.
const serverPoll = 100 * time.Millisecond

// drainGrace is how long the agent listens once more when its deadline passed,
// so that datagrams that waited while it did not run count first.
const drainGrace = 2 * time.Millisecond

// stopWait bounds how long an aborted agent waits for its server.
const stopWait = 10 * time.Second

// Agent is a running quorum member.
type Agent struct {
	o     Options
	cfg   format.QuorumConfig
	fsid  uint64
	addrs [format.QuorumSlots]*net.UDPAddr // nil: not present, or the own slot
	start time.Time
	conn  net.PacketConn
	buf   [64]byte
	done  chan struct{}

	aborted atomic.Bool
	closing atomic.Bool
	leader  atomic.Bool

	readInvalid, recvError, recvInvalid, hbDropped atomic.Uint64

	mu     sync.Mutex
	core   *Core // +checklocks:mu
	kicked bool  // +checklocks:mu
	hurry  bool  // +checklocks:mu
	err    error // +checklocks:mu
}

// Start validates the slots, binds the socket, records BEGIN and starts the
// agent. It blocks for I/O. Errors: EINVAL for a bad configuration, that of the
// bind, or that of the slot's block.
func Start(ctx context.Context, o Options) (*Agent, error) {
	if err := Validate(&o.Super.Quorum, o.Slot); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("quorum: start: %w", err)
	}
	if o.Rand == nil {
		o.Rand = rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	a := &Agent{o: o, cfg: o.Super.Quorum, fsid: o.Super.Hdr.Fsid, start: time.Now(), done: make(chan struct{})}
	if err := a.open(); err != nil {
		return nil, err
	}
	go a.electionLoop()
	return a, nil
}

// open takes the socket and writes the first record.
func (a *Agent) open() error {
	for slot := range a.addrs {
		if ap, ok := SlotAddr(&a.cfg, slot); ok && slot != a.o.Slot {
			a.addrs[slot] = net.UDPAddrFromAddrPort(ap)
		}
	}
	a.conn = a.o.Conn
	if a.conn == nil {
		ap, _ := SlotAddr(&a.cfg, a.o.Slot)
		conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(ap))
		if err != nil {
			return fmt.Errorf("quorum: bind the address of slot %d: %w", a.o.Slot, err)
		}
		a.conn = conn
	}
	a.newCore()
	if err := a.perform(); err != nil {
		return errors.Join(err, a.conn.Close())
	}
	return nil
}

func (a *Agent) newCore() {
	term, seen, invalid := startState(a.o.Dev, a.o.Super, a.o.Slot, a.o.Dead)
	a.readInvalid.Add(uint64(invalid))
	cfg := Config{Slot: a.o.Slot, Term: term, ServerSeen: seen, HeartbeatTimeout: a.o.HeartbeatTimeout, Rand: a.o.Rand}
	for slot := range cfg.Present {
		_, cfg.Present[slot] = SlotAddr(&a.cfg, slot)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.core = NewCore(a.now(), cfg)
}

// Close stops the server if it runs and waits for it, resigns, records STOP and
// END, and releases the socket. It returns the error that ended the agent
// early, if one did. It may be called again.
func (a *Agent) Close() error {
	a.closing.Store(true)
	a.wake()
	<-a.done
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.err
}

// Abort ends the agent as a forced unmount does: no message and no record
// leaves any more. It waits for the server to be down, at most 10 s.
func (a *Agent) Abort() {
	a.aborted.Store(true)
	a.wake()
	<-a.done
}

// Done is closed when the agent ended, for whatever reason.
func (a *Agent) Done() <-chan struct{} { return a.done }

// Kick makes the agent look at the state of its server at once.
func (a *Agent) Kick() { a.wake() }

// Hurry tells the agent that the leader it follows is known to be dead: it
// stands for election within an election timeout unless it hears of another.
func (a *Agent) Hurry() {
	a.mu.Lock()
	a.hurry = true
	a.mu.Unlock()
	a.wake()
}

// IsLeader reports whether the role is leader.
func (a *Agent) IsLeader() bool { return a.leader.Load() }

// Status returns a snapshot.
func (a *Agent) Status() Status {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.core.Status(a.now())
}

// StatusText is the content of the file quorum/status.
func (a *Agent) StatusText() string {
	s := a.Status()
	return s.Text()
}

// Metrics returns a snapshot of the counts.
func (a *Agent) Metrics() Metrics {
	return Metrics{
		Counts:           a.Status().Counts,
		ReadInvalidBlock: a.readInvalid.Load(), RecvError: a.recvError.Load(),
		RecvInvalid: a.recvInvalid.Load(), SendHeartbeatDropped: a.hbDropped.Load(),
	}
}

func (a *Agent) now() time.Duration { return time.Since(a.start) }

// wake ends the agent's wait for a message.
func (a *Agent) wake() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.kicked = true
	_ = a.conn.SetReadDeadline(time.Unix(1, 0)) // fails only if the agent has ended
}

// electionLoop is the agent's goroutine, started by Start and joined by Close
// and Abort.
func (a *Agent) electionLoop() {
	defer close(a.done)
	err := a.run()
	if err != nil && !a.aborted.Load() {
		a.o.Log.Error("quorum agent ends", "slot", a.o.Slot, "err", err)
		a.mu.Lock()
		a.err = err
		a.mu.Unlock()
	}
	a.leader.Store(false)
	a.stopServer()
	_ = a.conn.Close() // nothing is buffered in a datagram socket
}

// run is the election until it is over or an error ends it.
func (a *Agent) run() error {
	for !a.aborted.Load() {
		err := a.round()
		if err != nil {
			a.giveUp()
			return err
		}
		if a.isDone() {
			return nil
		}
	}
	return nil
}

// round does what each input asks for before it takes the next: a server that
// the core believes to be starting must have been started before its state is
// looked at.
func (a *Agent) round() error {
	a.input()
	if err := a.perform(); err != nil || a.isDone() || a.aborted.Load() {
		return err
	}
	if err := a.wait(); err != nil {
		a.recvError.Add(1)
		return err
	}
	return a.perform()
}

// input hands to the core what did not come as a message.
func (a *Agent) input() {
	st := a.o.Server.State()
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.now()
	if st != a.core.server {
		a.core.ServerState(now, st)
	}
	if a.hurry {
		a.hurry = false
		a.core.Hurry(now)
	}
	if a.closing.Load() {
		a.core.Shutdown(now)
	}
	if gap, ok := a.core.Delay(); ok {
		a.o.Log.Warn("longest heartbeat delay so far", "slot", a.o.Slot, "delay", gap)
	}
}

// perform does what the core asks for, in order. A record that fails is an
// error, and nothing after it is done.
func (a *Agent) perform() error {
	for _, act := range a.ready() {
		if a.aborted.Load() {
			return nil
		}
		switch act.Kind {
		case ActSend:
			a.send(act)
		case ActRecord:
			if err := a.record(act); err != nil {
				return err
			}
		case ActStart:
			a.o.Log.Info("elected leader, starting the server", "slot", a.o.Slot, "term", act.Term)
			a.o.Server.Start(act.Term)
		case ActStop:
			a.o.Server.Stop()
		}
	}
	return nil
}

func (a *Agent) ready() []Action {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.leader.Store(a.core.role == RoleLeader)
	return a.core.Ready().Actions
}

func (a *Agent) isDone() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.core.done
}

func (a *Agent) record(act Action) error {
	return writeEvent(a.o.Dev, a.fsid, a.o.Slot, act.Event, a.o.Rid, act.Term, a.now())
}

// giveUp ends the member after an error: the server is stopped and awaited, and
// what can still be said is said. A slot that is not ours any more refuses the
// records, which is right.
func (a *Agent) giveUp() {
	a.stopServer()
	a.mu.Lock()
	a.core.Ready()
	a.core.server = a.o.Server.State()
	a.core.Shutdown(a.now())
	a.mu.Unlock()
	for _, act := range a.ready() {
		if a.aborted.Load() {
			return
		}
		switch act.Kind {
		case ActSend:
			a.send(act)
		case ActRecord:
			if err := a.record(act); err != nil {
				return
			}
		}
	}
}

// stopServer stops the server, whatever it does, and waits until it is down.
// An aborted mount waits only for a bounded time.
func (a *Agent) stopServer() {
	if st := a.o.Server.State(); st == Starting || st == Up {
		a.o.Server.Stop()
	}
	for began := time.Now(); a.o.Server.State() != Down; time.Sleep(time.Millisecond) {
		if a.aborted.Load() && time.Since(began) > stopWait {
			return
		}
	}
}

// wait reads one message, or lets time pass until the deadline, a kick, or a
// poll of the server's state.
func (a *Agent) wait() error {
	deadline, listen := a.listen()
	if listen {
		m, got, err := a.receive()
		if err != nil || got == message {
			a.step(m, got)
			return err
		}
	}
	if a.now() < deadline {
		return nil
	}
	if !a.leader.Load() {
		m, got, err := a.drain()
		if err != nil || got != silence {
			a.step(m, got)
			return err
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.core.Tick(a.now())
	return nil
}

// listen sets the time until which the socket is read, and returns the core's
// deadline. ok is false if someone kicked the agent meanwhile.
func (a *Agent) listen() (deadline time.Duration, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	deadline = a.core.due
	if a.kicked {
		a.kicked = false
		return deadline, false
	}
	until := deadline
	if a.core.server != Down || a.core.closing {
		until = min(until, a.now()+serverPoll)
	}
	_ = a.conn.SetReadDeadline(a.start.Add(until)) // a closed socket shows in the read
	return deadline, true
}

// drain reads what waited in the socket when the deadline passed. A read that
// was itself delayed, or that a kick ended, says nothing. Only silence allows
// the deadline to be judged.
func (a *Agent) drain() (Msg, received, error) {
	for range 100 {
		began := a.now()
		a.mu.Lock()
		_ = a.conn.SetReadDeadline(time.Now().Add(drainGrace)) // a closed socket shows in the read
		a.mu.Unlock()
		m, got, err := a.receive()
		if err != nil || got == message {
			return m, got, err
		}
		if a.wasKicked() {
			return m, junk, nil
		}
		if got == silence && a.now()-began < 5*drainGrace {
			return m, silence, nil
		}
	}
	return Msg{}, silence, nil
}

func (a *Agent) wasKicked() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.kicked
}

// received is what a read of the socket gave.
type received uint8

const (
	silence received = iota // the time passed
	junk                    // not a message of this volume
	message
)

// receive reads one datagram.
func (a *Agent) receive() (m Msg, got received, err error) {
	n, _, err := a.conn.ReadFrom(a.buf[:])
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return m, silence, nil
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.EINTR):
		return m, junk, nil // an earlier datagram of ours reached nobody
	case err != nil:
		return m, silence, fmt.Errorf("quorum: receive: %w", err)
	}
	m, ok := a.decode(a.buf[:n])
	if !ok {
		a.recvInvalid.Add(1)
		return m, junk, nil
	}
	return m, message, nil
}

func (a *Agent) step(m Msg, got received) {
	if got != message {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.core.Step(a.now(), m)
}

// decode checks the envelope. Source: spec cluster 2.2.
func (a *Agent) decode(b []byte) (Msg, bool) {
	if len(b) != format.Size[format.QuorumMsg]() {
		return Msg{}, false
	}
	q, _ := format.Load[format.QuorumMsg](b)
	if q.CRC != format.CRC32C(b[:28]) || q.Fsid != a.fsid || q.Type >= format.QuorumMsgTypes {
		return Msg{}, false
	}
	if _, present := SlotAddr(&a.cfg, int(q.From)); !present || int(q.From) == a.o.Slot {
		return Msg{}, false
	}
	return Msg{Type: q.Type, From: int(q.From), Term: q.Term}, true
}

// send sends to one slot or to all others. Failures are only counted.
func (a *Agent) send(act Action) {
	q := format.QuorumMsg{Fsid: a.fsid, Term: act.Term, Type: act.Type, From: uint8(a.o.Slot)}
	q.CRC = format.CRC32C(format.Bytes(&q)[:28])
	_ = a.conn.SetWriteDeadline(time.Now().Add(drainGrace)) // a closed socket shows in the write
	for slot, addr := range a.addrs {
		if addr == nil || (act.To != ToAll && act.To != slot) {
			continue
		}
		if _, err := a.conn.WriteTo(format.Bytes(&q), addr); err != nil && act.Type == format.QuorumMsgHeartbeat {
			a.hbDropped.Add(1)
		}
	}
}
