// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package quorum_test

import (
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"scoutfs/block"
	"scoutfs/format"
	"scoutfs/quorum"
)

const fsid = 0xa6e3826df4a791e0

// testSuper is a volume with n slots.
func testSuper(n int) *format.Super {
	s := &format.Super{Hdr: format.BlockHeader{Fsid: fsid}}
	for i := range n {
		s.Quorum.Slots[i] = format.Inet{Family: format.InetV4, Port: uint16(5000 + i), Addr: 0x7f000001}
	}
	return s
}

// memDev is a device of 1 MiB with hooks.
type memDev struct {
	mu     sync.Mutex
	data   []byte
	fail   error // writes
	onRead func(buf []byte)
	writes int
}

func newDev(t *testing.T) *memDev {
	d := &memDev{data: make([]byte, 1<<20)}
	for slot := range format.QuorumSlots {
		d.put(t, slot, &format.QuorumBlock{})
	}
	return d
}

// put writes a whole valid block of a slot.
func (d *memDev) put(t *testing.T, slot int, qb *format.QuorumBlock) {
	t.Helper()
	buf := make([]byte, format.SmallSize)
	blkno := format.QuorumBlkno + format.Blkno(slot)
	copy(buf, format.Bytes(qb))
	format.FillHeader(buf, format.BlockHeader{Magic: format.MagicQuorum, Fsid: fsid, Seq: 1, Blkno: blkno})
	d.mu.Lock()
	defer d.mu.Unlock()
	copy(d.data[int(blkno)<<format.SmallShift:], buf)
}

func (d *memDev) Do(ops []block.Op) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range ops {
		op := &ops[i]
		at := d.data[op.Off : op.Off+int64(len(op.Buf))]
		switch {
		case op.Write && d.fail != nil:
			op.Err = d.fail
			return d.fail
		case op.Write:
			d.writes++
			copy(at, op.Buf)
		default:
			copy(op.Buf, at)
			if d.onRead != nil {
				d.onRead(op.Buf)
			}
		}
	}
	return nil
}

func (d *memDev) Flush() error { return nil }
func (d *memDev) Size() int64  { return int64(len(d.data)) }
func (d *memDev) Name() string { return "mem" }
func (d *memDev) Close() error { return nil }

func (d *memDev) failWrites(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fail = err
}

func (d *memDev) written() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.writes
}

// hub is a network of datagrams; cut slots hear and say nothing.
type hub struct {
	mu    sync.Mutex
	conns map[string]*hubConn
	cut   map[int]bool
}

func newHub() *hub { return &hub{conns: map[string]*hubConn{}, cut: map[int]bool{}} }

type hubConn struct {
	h      *hub
	slot   int
	addr   *net.UDPAddr
	in     chan []byte
	closed chan struct{}

	mu     sync.Mutex
	until  time.Time
	change chan struct{}
}

func (h *hub) listen(super *format.Super, slot int) *hubConn {
	ap, _ := quorum.SlotAddr(&super.Quorum, slot)
	c := &hubConn{h: h, slot: slot, addr: net.UDPAddrFromAddrPort(ap), in: make(chan []byte, 1000),
		closed: make(chan struct{}), change: make(chan struct{})}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.conns[ap.String()] = c
	return c
}

func (h *hub) setCut(slot int, cut bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.cut[slot] = cut
}

func (c *hubConn) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		c.mu.Lock()
		until, change := c.until, c.change
		c.mu.Unlock()
		left := time.Until(until)
		if left <= 0 {
			return 0, nil, os.ErrDeadlineExceeded
		}
		timer := time.NewTimer(left)
		select {
		case m := <-c.in:
			return copy(b, m), c.addr, nil
		case <-c.closed:
			return 0, nil, net.ErrClosed
		case <-timer.C:
		case <-change:
		}
		timer.Stop()
	}
}

func (c *hubConn) WriteTo(b []byte, to net.Addr) (int, error) {
	c.h.mu.Lock()
	defer c.h.mu.Unlock()
	peer := c.h.conns[to.String()]
	if peer == nil || c.h.cut[c.slot] || c.h.cut[peer.slot] {
		return len(b), nil
	}
	select {
	case peer.in <- append([]byte(nil), b...):
	default:
	}
	return len(b), nil
}

func (c *hubConn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.until = t
	close(c.change)
	c.change = make(chan struct{})
	return nil
}

func (c *hubConn) Close() error {
	c.h.mu.Lock()
	defer c.h.mu.Unlock()
	if c.h.conns[c.addr.String()] == c {
		delete(c.h.conns, c.addr.String())
	}
	close(c.closed)
	return nil
}

func (c *hubConn) LocalAddr() net.Addr              { return c.addr }
func (c *hubConn) SetDeadline(time.Time) error      { return nil }
func (c *hubConn) SetWriteDeadline(time.Time) error { return nil }

// fakeServer takes 50 ms to start and 20 ms to stop.
type fakeServer struct {
	mu    sync.Mutex
	st    quorum.State
	terms []format.Term
}

func (s *fakeServer) set(from, to quorum.State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.st == from {
		s.st = to
	}
}

func (s *fakeServer) Start(term format.Term) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.st = quorum.Starting
	s.terms = append(s.terms, term)
	time.AfterFunc(50*time.Millisecond, func() { s.set(quorum.Starting, quorum.Up) })
}

func (s *fakeServer) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.st = quorum.Stopping
	time.AfterFunc(20*time.Millisecond, func() { s.set(quorum.Stopping, quorum.Down) })
}

func (s *fakeServer) State() quorum.State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.st
}

type member struct {
	*quorum.Agent
	srv *fakeServer
}

func startMember(t *testing.T, dev block.Device, super *format.Super, h *hub, slot int, rid format.Rid) member {
	t.Helper()
	srv := &fakeServer{}
	a, err := quorum.Start(t.Context(), quorum.Options{
		Dev: dev, Super: super, Slot: slot, Rid: rid, Conn: h.listen(super, slot), Server: srv,
		Rand: rand.New(rand.NewPCG(uint64(rid), 3)),
	})
	if err != nil {
		t.Fatal(err)
	}
	return member{a, srv}
}

// leaderOf waits for exactly one leader with a running server.
func leaderOf(t *testing.T, members ...member) int {
	t.Helper()
	for range 3000 {
		time.Sleep(10 * time.Millisecond)
		for i, m := range members {
			if m.IsLeader() && m.srv.State() == quorum.Up {
				return i
			}
		}
	}
	t.Fatal("no leader")
	return -1
}

func mustClose(t *testing.T, m member) {
	t.Helper()
	if err := m.Close(); err != nil {
		t.Error(err)
	}
}

func TestLoneSlotElectsItselfAndEndsCleanly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dev, super, h := newDev(t), testSuper(1), newHub()
		m := startMember(t, dev, super, h, 0, 7)
		began := time.Now()
		leaderOf(t, m)
		if took := time.Since(began); took > 200*time.Millisecond {
			t.Errorf("election took %v of fake time", took)
		}
		time.Sleep(150 * time.Millisecond)
		got, err := quorum.FindServer(dev, super)
		want := quorum.Leader{Slot: 0, Term: 1, Addr: netip.MustParseAddrPort("127.0.0.1:5000"), Rid: 7}
		if err != nil || got != want {
			t.Errorf("FindServer = %+v, %v", got, err)
		}
		if !strings.Contains(m.StatusText(), "role 2 (leader)\n") {
			t.Errorf("status:\n%s", m.StatusText())
		}
		mustClose(t, m)
		checkEvents(t, dev, 0, map[int]format.Term{format.QuorumBegin: 0, format.QuorumTerm: 1, format.QuorumElect: 1,
			format.QuorumFence: 1, format.QuorumStop: 1, format.QuorumEnd: 1})
		if _, err := quorum.FindServer(dev, super); !errors.Is(err, syscall.ENOENT) {
			t.Errorf("FindServer after the end: %v", err)
		}
	})
}

func checkEvents(t *testing.T, dev block.Device, slot int, want map[int]format.Term) {
	t.Helper()
	qb, err := quorum.ReadSlot(dev, fsid, slot)
	if err != nil {
		t.Fatal(err)
	}
	got := map[int]format.Term{}
	for i, ev := range qb.Events {
		if ev.Rid != 0 {
			got[i] = ev.Term
		}
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("events of slot %d: %s", slot, d)
	}
}

func TestFailover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dev, super, h := newDev(t), testSuper(3), newHub()
		all := []member{startMember(t, dev, super, h, 0, 10), startMember(t, dev, super, h, 1, 11), startMember(t, dev, super, h, 2, 12)}
		first := leaderOf(t, all...)
		rest := append(append([]member(nil), all[:first]...), all[first+1:]...)

		all[first].Abort() // as if the host died: no record, no message
		began := time.Now()
		second := leaderOf(t, rest...)
		if took := time.Since(began); took < 8*time.Second || took > 12*time.Second {
			t.Errorf("failover took %v", took)
		}
		list, greater, err := quorum.Suspects(dev, super, rest[second].Status().Term, 99)
		if err != nil || greater {
			t.Fatalf("Suspects: %v, greater %v", err, greater)
		}
		_ = list // the new leader's FENCE already covers the dead one
		time.Sleep(time.Second)

		mustClose(t, rest[second]) // resigns: the last one needs two votes, so none is elected
		time.Sleep(2 * time.Second)
		if rest[1-second].IsLeader() {
			t.Error("elected without a majority")
		}
		mustClose(t, rest[1-second])
	})
}

func TestRemountAfterKillDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dev, super, h := newDev(t), testSuper(1), newHub()
		m := startMember(t, dev, super, h, 0, 7)
		leaderOf(t, m)
		time.Sleep(200 * time.Millisecond)
		m.Abort()

		began := time.Now()
		m = startMember(t, dev, super, h, 0, 8)
		leaderOf(t, m)
		if took := time.Since(began); took > time.Second {
			t.Errorf("election took %v", took)
		}
		mustClose(t, m)
	})
}

func TestSuspects(t *testing.T) {
	dev, super := newDev(t), testSuper(3)
	addr := func(i int) netip.AddrPort { a, _ := quorum.SlotAddr(&super.Quorum, i); return a }
	ev := func(rid format.Rid, term format.Term) format.QuorumEvent {
		return format.QuorumEvent{Rid: rid, Term: term}
	}
	block := func(slot int, elect, fence, stop format.QuorumEvent) {
		qb := &format.QuorumBlock{}
		qb.Events[format.QuorumElect], qb.Events[format.QuorumFence], qb.Events[format.QuorumStop] = elect, fence, stop
		dev.put(t, slot, qb)
	}
	tests := []struct {
		name    string
		set     func()
		term    format.Term
		want    []quorum.Suspect
		greater bool
	}{
		{name: "own election only", term: 5, set: func() { block(0, ev(99, 5), ev(0, 0), ev(0, 0)) }},
		{name: "predecessor in another slot", term: 5, set: func() { block(1, ev(11, 4), ev(0, 0), ev(10, 2)) },
			want: []quorum.Suspect{{Rid: 11, Slot: 1, Term: 4, Addr: addr(1)}}},
		{name: "stopped", term: 5, set: func() { block(1, ev(11, 4), ev(11, 4), ev(11, 4)) }},
		{name: "two of one slot", term: 6, set: func() { block(1, ev(12, 5), ev(11, 4), ev(10, 2)) },
			want: []quorum.Suspect{{Rid: 12, Slot: 1, Term: 5, Addr: addr(1)}, {Rid: 11, Slot: 1, Term: 4, Addr: addr(1)}}},
		{name: "older than the greatest fence", term: 9, set: func() {
			block(1, ev(11, 4), ev(0, 0), ev(10, 2))
			block(2, ev(12, 6), ev(12, 6), ev(12, 6))
		}},
		{name: "greater", term: 5, set: func() { block(1, ev(11, 6), ev(0, 0), ev(0, 0)) }, greater: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for slot := range 3 {
				dev.put(t, slot, &format.QuorumBlock{})
			}
			tt.set()
			got, greater, err := quorum.Suspects(dev, super, tt.term, 99)
			if err != nil || greater != tt.greater {
				t.Fatalf("greater %v, err %v", greater, err)
			}
			if got := quorum.Superseded(dev, super, 0, tt.term); got != tt.greater {
				t.Errorf("superseded %v, want %v", got, tt.greater)
			}
			if d := cmp.Diff(tt.want, got, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestBadBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dev, super := newDev(t), testSuper(2)
		torn := 3
		dev.onRead = func(buf []byte) {
			if torn > 0 {
				torn--
				buf[4000] ^= 1
			}
		}
		if _, err := quorum.ReadSlot(dev, fsid, 0); err != nil {
			t.Errorf("a block that reads torn for a while: %v", err)
		}
		torn = 1 << 30
		_, err := quorum.FindServer(dev, super)
		if corrupt := new(format.CorruptError); !errors.As(err, &corrupt) {
			t.Errorf("FindServer: %v", err)
		}
		if _, _, err := quorum.Suspects(dev, super, 1, 1); !errors.Is(err, syscall.EIO) {
			t.Errorf("Suspects: %v", err)
		}
	})
}

func TestStolenSlotEndsAgentAndServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dev, super, h := newDev(t), testSuper(1), newHub()
		m := startMember(t, dev, super, h, 0, 7)
		for m.srv.State() != quorum.Starting {
			time.Sleep(time.Millisecond)
		}
		thief := &format.QuorumBlock{WriteNr: 50}
		thief.Events[format.QuorumBegin] = format.QuorumEvent{WriteNr: 50, Rid: 8, Term: 1}
		dev.put(t, 0, thief) // before FENCE is recorded
		<-m.Done()
		if m.srv.State() != quorum.Down {
			t.Errorf("server is %s after the agent's end", m.srv.State())
		}
		if err := m.Close(); !errors.Is(err, quorum.ErrSlotStolen) {
			t.Errorf("Close = %v", err)
		}
		checkEvents(t, dev, 0, map[int]format.Term{format.QuorumBegin: 1})
	})
}

func TestWriteErrorEndsAgent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dev, super, h := newDev(t), testSuper(1), newHub()
		m := startMember(t, dev, super, h, 0, 7)
		leaderOf(t, m)
		time.Sleep(200 * time.Millisecond)
		dev.failWrites(syscall.EIO)
		m.srv.Stop() // the server ends by itself; STOP cannot be recorded
		<-m.Done()
		if err := m.Close(); !errors.Is(err, syscall.EIO) {
			t.Errorf("Close = %v", err)
		}
	})
}

func TestAbortLeavesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dev, super, h := newDev(t), testSuper(1), newHub()
		m := startMember(t, dev, super, h, 0, 7)
		leaderOf(t, m)
		time.Sleep(200 * time.Millisecond)
		before := dev.written()
		m.Abort()
		if dev.written() != before {
			t.Error("an aborted agent wrote its block")
		}
		if m.srv.State() != quorum.Down {
			t.Error("server still runs")
		}
	})
}

func TestMinorityLeaderIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dev, super, h := newDev(t), testSuper(3), newHub()
		all := []member{startMember(t, dev, super, h, 0, 10), startMember(t, dev, super, h, 1, 11), startMember(t, dev, super, h, 2, 12)}
		old := leaderOf(t, all...)
		h.setCut(old, true)
		rest := append(append([]member(nil), all[:old]...), all[old+1:]...)
		leaderOf(t, rest...)
		h.setCut(old, false)
		time.Sleep(time.Second) // it hears of the greater term and stops
		if all[old].IsLeader() || all[old].srv.State() != quorum.Down {
			t.Error("the old leader goes on")
		}
		for _, m := range all {
			mustClose(t, m)
		}
	})
}

func TestValidate(t *testing.T) {
	set := func(slot int, addr uint32, port uint16) func(*format.QuorumConfig) {
		return func(c *format.QuorumConfig) {
			c.Slots[slot] = format.Inet{Family: format.InetV4, Addr: addr, Port: port}
		}
	}
	tests := []struct {
		name string
		slot int
		set  func(*format.QuorumConfig)
		want string
	}{
		{"good", 0, set(1, 0x0a000001, 1), ""},
		{"not configured", 5, set(1, 0x0a000001, 1), "slot 5 is not configured"},
		{"zero net", 0, set(1, 0x00000001, 1), "address 0.0.0.1 of slot 1 is not unicast"},
		{"multicast", 0, set(1, 0xe0000001, 1), "address 224.0.0.1 of slot 1 is not unicast"},
		{"broadcast", 0, set(1, 0xffffffff, 1), "address 255.255.255.255 of slot 1 is not unicast"},
		{"port 0", 0, set(1, 0x0a000001, 0), "slot 1 has invalid port 0"},
		{"port 65535", 0, set(1, 0x0a000001, 65535), "slot 1 has invalid port 65535"},
		{"duplicate", 0, set(1, 0x7f000001, 5000), "slots 0 and 1 have the same address 127.0.0.1:5000"},
		{"none", 0, func(c *format.QuorumConfig) { *c = format.QuorumConfig{} }, "no slot is configured"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := testSuper(1).Quorum
			tt.set(&cfg)
			err := quorum.Validate(&cfg, tt.slot)
			if tt.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if !errors.Is(err, syscall.EINVAL) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

// TestRealSocket runs two members over UDP of the loopback interface.
func TestRealSocket(t *testing.T) {
	dev, super := newDev(t), testSuper(2)
	for i := range 2 {
		conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		super.Quorum.Slots[i].Port = conn.LocalAddr().(*net.UDPAddr).AddrPort().Port()
		if err := conn.Close(); err != nil {
			t.Fatal(err)
		}
	}
	srv := &fakeServer{}
	a, err := quorum.Start(t.Context(), quorum.Options{Dev: dev, Super: super, Slot: 0, Rid: 1, Server: srv})
	if err != nil {
		t.Fatal(err)
	}
	leaderOf(t, member{a, srv})
	if _, err := quorum.Start(t.Context(), quorum.Options{Dev: dev, Super: super, Slot: 0, Rid: 3, Server: &fakeServer{}}); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("second member of one address: %v", err)
	}
	srv2 := &fakeServer{}
	b, err := quorum.Start(t.Context(), quorum.Options{Dev: dev, Super: super, Slot: 1, Rid: 2, Server: srv2})
	if err != nil {
		t.Fatal(err)
	}
	for b.Metrics().RecvHeartbeat < 3 {
		time.Sleep(time.Millisecond)
	}
	mustClose(t, member{a, srv})
	leaderOf(t, member{b, srv2}) // by the resignation
	mustClose(t, member{b, srv2})
}

func FuzzDatagram(f *testing.F) {
	f.Add(make([]byte, 32))
	f.Fuzz(func(t *testing.T, b []byte) {
		dev, super, h := newDev(t), testSuper(2), newHub()
		m := startMember(t, dev, super, h, 0, 7)
		conn := h.conns["127.0.0.1:5000"]
		conn.in <- b
		mustClose(t, m)
	})
}
