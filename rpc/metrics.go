// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package rpc

import (
	"fmt"
	"io"
	"sync/atomic"

	"scoutfs/format"
)

// counters only grow.
type counters struct {
	sentMessages, sentBytes, sendErrors         atomic.Uint64
	recvMessages, recvBytes, recvErrors         atomic.Uint64
	duplicates, strays, invalid, unknown, drops atomic.Uint64
}

// Metrics is a snapshot of counters. They have the names of spec interfaces
// 4.3, without the prefix "net_".
type Metrics struct {
	SendMessages, SendBytes, SendError uint64
	RecvMessages, RecvBytes, RecvError uint64
	RecvDroppedDuplicate               uint64
	RecvInvalidMessage                 uint64
	DroppedResponse                    uint64 // had no request
	UnknownRequest                     uint64
	Ungreeted                          uint64 // connections dropped before a good greeting
}

func (c *counters) snapshot() Metrics {
	return Metrics{
		SendMessages: c.sentMessages.Load(), SendBytes: c.sentBytes.Load(), SendError: c.sendErrors.Load(),
		RecvMessages: c.recvMessages.Load(), RecvBytes: c.recvBytes.Load(), RecvError: c.recvErrors.Load(),
		RecvDroppedDuplicate: c.duplicates.Load(), RecvInvalidMessage: c.invalid.Load(),
		DroppedResponse: c.strays.Load(), UnknownRequest: c.unknown.Load(), Ungreeted: c.drops.Load(),
	}
}

// dumpConnection writes one line about a session.
func (s *session) dumpConnection(w io.Writer, rid format.Rid, addr string) error {
	s.mu.Lock()
	line := fmt.Sprintf("rid %016x peer %s connected %t seq %d id %d recv_seq %d queued %d unanswered %d unacknowledged %d open %d\n",
		rid, addr, s.link != nil, s.seq, s.id, s.recvSeq, s.queue.n, s.requests.n, s.responses.n, len(s.open))
	s.mu.Unlock()
	_, err := io.WriteString(w, line)
	return err
}

// dumpMessages writes one line for each message that is kept.
func (s *session) dumpMessages(w io.Writer, rid format.Rid) error {
	var b []byte
	s.mu.Lock()
	for _, l := range []struct {
		name string
		list *msgList
	}{{"queued", &s.queue}, {"sent", &s.requests}, {"sent", &s.responses}} {
		for m := l.list.head; m != nil; m = m.next {
			b = fmt.Appendf(b, "rid %016x %s seq %d id %d cmd %s flags %d error %d data_len %d\n",
				rid, l.name, m.hdr.Seq, m.hdr.ID, m.hdr.Cmd, m.hdr.Flags, m.hdr.Error, m.hdr.DataLen)
		}
	}
	for k := range s.open {
		b = fmt.Appendf(b, "rid %016x received id %d cmd %s\n", rid, k.id, k.cmd)
	}
	s.mu.Unlock()
	_, err := w.Write(b)
	return err
}
