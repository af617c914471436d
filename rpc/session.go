// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package rpc

import (
	"errors"
	"sync"
	"syscall"

	"scoutfs/format"
	"scoutfs/internal/invariants"
)

// defaultBacklog bounds the messages that one side keeps for a peer, and the
// requests of the peer that wait for an answer. It is several times the number
// of locks that a mount may have.
const defaultBacklog = 1 << 19

// errBacklog ends a conversation whose peer does not take its part.
var errBacklog = errors.New("rpc: peer neither answers nor acknowledges")

// message is one that was queued. A request is kept until its response came, a
// response until the peer acknowledged it.
type message struct {
	hdr  format.NetHeader
	data []byte
	done func(resp []byte, err error) // of a request

	list       *msgList // the one it is on
	prev, next *message
}

// msgList is a doubly linked list; all its operations take constant time.
type msgList struct {
	head, tail *message
	n          int
}

func (l *msgList) push(m *message) {
	m.list, m.prev, m.next = l, l.tail, nil
	if l.tail != nil {
		l.tail.next = m
	} else {
		l.head = m
	}
	l.tail = m
	l.n++
}

func (m *message) unlink() {
	l := m.list
	if l == nil {
		return
	}
	if m.prev != nil {
		m.prev.next = m.next
	} else {
		l.head = m.next
	}
	if m.next != nil {
		m.next.prev = m.prev
	} else {
		l.tail = m.prev
	}
	m.list, m.prev, m.next = nil, nil, nil
	l.n--
}

// call names a request: ids count per sender and not per command, but the
// protocol matches both. era tells apart the servers that a client talks to.
type call struct {
	era uint16
	id  uint64
	cmd format.NetCmd
}

// session is one side of a conversation: everything that outlives a socket.
// Messages of a side have increasing seqs; after a socket broke all that are not
// known to be processed are sent again with their old seqs, in order, and the
// receiver drops those that it has seen.
//
// The mutex is never held while a callback runs or while a socket is read or
// written. Nothing else is locked under it.
type session struct {
	count   *counters
	backlog int

	mu      sync.Mutex
	wake    *sync.Cond // something to send, or a change of link
	link    *link      // +checklocks:mu nil while not connected
	failed  error      // +checklocks:mu non-nil: nothing is queued any more
	era     uint16     // +checklocks:mu counts the servers that a client met
	seq     uint64     // +checklocks:mu last one used
	id      uint64     // +checklocks:mu last one used
	recvSeq uint64     // +checklocks:mu greatest one received
	acked   uint64     // +checklocks:mu greatest own one that the peer received

	queue     msgList           // +checklocks:mu to be sent, seqs ascending
	requests  msgList           // +checklocks:mu sent, not answered, seqs ascending
	responses msgList           // +checklocks:mu sent, not acknowledged, seqs ascending
	pending   map[call]*message // +checklocks:mu own requests by id (era 0)
	open      map[call]struct{} // +checklocks:mu the peer's requests that wait for an answer
}

func (s *session) init(c *counters, backlog int) {
	s.count, s.backlog = c, backlog
	s.wake = sync.NewCond(&s.mu)
	s.pending = make(map[call]*message)
	s.open = make(map[call]struct{})
}

// pushLocked gives the message a seq and queues it.
func (s *session) pushLocked(m *message) error {
	if s.failed != nil {
		return s.failed
	}
	if s.queue.n+s.requests.n+s.responses.n >= s.backlog {
		s.failLocked(errBacklog)
		return s.failed
	}
	s.seq++
	m.hdr.Seq = s.seq
	m.hdr.DataLen = uint16(len(m.data))
	s.queue.push(m)
	s.wake.Broadcast()
	return nil
}

// failLocked ends the conversation: the socket is closed and whoever reads it
// finds out why.
func (s *session) failLocked(err error) {
	if s.failed == nil {
		s.failed = err
	}
	if s.link != nil {
		s.link.kill()
	}
	s.wake.Broadcast()
}

// request queues a request; done is called once unless the request is
// cancelled. data is copied.
func (s *session) request(cmd format.NetCmd, data []byte, done func([]byte, error)) (*message, error) {
	if len(data) > format.NetMaxData {
		return nil, syscall.EMSGSIZE
	}
	m := &message{done: done, data: append([]byte(nil), data...)}
	s.mu.Lock()
	defer s.mu.Unlock()
	m.hdr.Cmd = cmd
	m.hdr.ID = s.id + 1
	if err := s.pushLocked(m); err != nil {
		return nil, err
	}
	s.id++
	s.pending[call{id: m.hdr.ID, cmd: cmd}] = m
	return m, nil
}

// cancel forgets a request; false if it was answered already. If it was sent,
// the response will be dropped.
func (s *session) cancel(m *message) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := call{id: m.hdr.ID, cmd: m.hdr.Cmd}
	if s.pending[k] != m {
		return false
	}
	delete(s.pending, k)
	m.unlink()
	return true
}

// respond queues the answer to a request of the peer, once: later calls, and
// answers to an earlier server, do nothing. data is copied.
func (s *session) respond(k call, data []byte, code format.NetErr) bool {
	invariants.Check(len(data) <= format.NetMaxData, "response to %s of %d bytes", k.cmd, len(data))
	if len(data) > format.NetMaxData {
		code = format.NetEIO
	}
	if code != format.NetOK {
		data = nil
	}
	m := &message{data: append([]byte(nil), data...)}
	m.hdr = format.NetHeader{ID: k.id, Cmd: k.cmd, Flags: format.NetFlagResponse, Error: code}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.open[k]; !ok {
		return false
	}
	delete(s.open, k)
	return s.pushLocked(m) == nil
}

// greeting makes the header of a greeting: a request takes an id too.
func (s *session) greeting(isRequest bool) format.NetHeader {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seq++
	h := format.NetHeader{Seq: s.seq, RecvSeq: s.recvSeq, Cmd: format.CmdGreeting}
	if isRequest {
		s.id++
		h.ID = s.id
	}
	return h
}

// receive accounts for a message that came from the link. fresh is false for a
// duplicate, and for anything from a link that was replaced. For a response m is
// the request, or nil if there is none; for a request k names it.
func (s *session) receive(l *link, h *format.NetHeader) (m *message, k call, fresh bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.link != l {
		return nil, k, false, nil
	}
	// A server that forgot us answers a repeated farewell with a low seq; that
	// the request is pending proves that the answer is new.
	if h.Seq <= s.recvSeq && (h.Cmd != format.CmdFarewell || !isResponse(h)) {
		s.count.duplicates.Add(1)
		return nil, k, false, nil
	}
	s.recvSeq = max(s.recvSeq, h.Seq)
	s.acked = max(s.acked, min(h.RecvSeq, s.seq))
	for r := s.responses.head; r != nil && r.hdr.Seq <= s.acked; r = s.responses.head {
		r.unlink()
	}
	if isResponse(h) {
		k = call{id: h.ID, cmd: h.Cmd}
		m = s.pending[k]
		if m == nil {
			s.count.strays.Add(1)
			return nil, k, true, nil
		}
		delete(s.pending, k)
		m.unlink()
		return m, k, true, nil
	}
	k = call{era: s.era, id: h.ID, cmd: h.Cmd}
	if _, ok := s.open[k]; ok {
		return nil, k, true, badMessage("two open requests %s %d", h.Cmd, h.ID)
	}
	if len(s.open) >= s.backlog {
		s.failLocked(errBacklog)
		return nil, k, true, errBacklog
	}
	s.open[k] = struct{}{}
	return nil, k, true, nil
}

// newServer prepares a client's session for a server that it has not met: it
// asked nothing yet, so there is nothing to answer; our requests remain.
func (s *session) newServer() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.era++
	s.recvSeq, s.acked = 0, 0
	clear(s.open)
	for _, l := range []*msgList{&s.queue, &s.responses} {
		for m := l.head; m != nil; {
			next := m.next
			if isResponse(&m.hdr) {
				m.unlink()
			}
			m = next
		}
	}
}

// attach makes l the session's link and queues again whatever was sent.
func (s *session) attach(l *link) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed != nil {
		return s.failed
	}
	var all msgList
	for s.requests.n+s.responses.n > 0 {
		m := s.requests.head
		if m == nil || s.responses.head != nil && s.responses.head.hdr.Seq < m.hdr.Seq {
			m = s.responses.head
		}
		m.unlink()
		all.push(m)
	}
	for m := s.queue.head; m != nil; m = s.queue.head {
		invariants.Check(all.tail == nil || all.tail.hdr.Seq < m.hdr.Seq, "queue out of order")
		m.unlink()
		all.push(m)
	}
	for m := all.head; m != nil; m = all.head {
		m.unlink()
		s.queue.push(m)
	}
	s.link = l
	s.wake.Broadcast()
	return nil
}

// detach makes the session unconnected if l is its link.
func (s *session) detach(l *link) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.link != l {
		return false
	}
	s.link = nil
	s.wake.Broadcast()
	return true
}

// batch waits until there is something to send over l, and encodes as much as
// fits. It returns nil when l is not the session's link any more.
func (s *session) batch(l *link, buf []byte) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(buf) == 0 {
		for s.queue.head == nil && s.link == l && s.failed == nil {
			s.wake.Wait()
		}
		if s.link != l || s.failed != nil {
			return nil
		}
		buf = s.encodeLocked(buf)
	}
	s.count.sentBytes.Add(uint64(len(buf)))
	return buf
}

// encodeLocked moves messages from the queue into the batch.
func (s *session) encodeLocked(buf []byte) []byte {
	for m := s.queue.head; m != nil && len(buf) < batchSize; m = s.queue.head {
		m.unlink()
		if isResponse(&m.hdr) && m.hdr.Seq <= s.acked {
			continue // acknowledged before it was sent again
		}
		m.hdr.RecvSeq = s.recvSeq
		buf = appendFrame(buf, &m.hdr, m.data)
		if isResponse(&m.hdr) {
			s.responses.push(m)
		} else {
			s.requests.push(m)
		}
		s.count.sentMessages.Add(1)
	}
	return buf
}

// fail ends the conversation. It returns the requests that wait for an answer:
// the caller calls their done functions with an error.
func (s *session) fail(err error) []*message {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failLocked(err)
	s.link = nil
	var out []*message
	for _, l := range []*msgList{&s.requests, &s.queue} {
		for m := l.head; m != nil; m = m.next {
			if !isResponse(&m.hdr) {
				out = append(out, m)
			}
		}
	}
	s.queue, s.requests, s.responses = msgList{}, msgList{}, msgList{}
	clear(s.pending)
	clear(s.open)
	return out
}

// failure is why nothing can be queued any more, or nil.
func (s *session) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed
}
