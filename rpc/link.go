// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package rpc

import (
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"scoutfs/format"
)

// DefaultKeepalive is how long a peer may be silent before the connection is
// given up. Source: spec cluster 4.7.
const DefaultKeepalive = 24 * time.Second

// link is one socket.
type link struct {
	conn   net.Conn
	frames *frameReader
	addr   netip.AddrPort // of the peer; zero for what is not TCP
}

func newLink(conn net.Conn, keepalive time.Duration) (*link, error) {
	l := &link{conn: conn, frames: newFrameReader(conn)}
	if a, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		ap := a.AddrPort()
		l.addr = netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	if c, ok := conn.(*net.TCPConn); ok {
		if err := setOptions(c, keepalive); err != nil {
			return nil, fmt.Errorf("rpc: set socket options: %w", err)
		}
	}
	return l, nil
}

// setOptions makes a silent or unreachable peer an error after the timeout,
// both on idle connections and on those with unacknowledged data.
func setOptions(c *net.TCPConn, timeout time.Duration) error {
	const interval, probes = time.Second, 3
	if err := c.SetNoDelay(true); err != nil {
		return err
	}
	idle := (timeout - probes*interval).Truncate(time.Second)
	err := c.SetKeepAliveConfig(net.KeepAliveConfig{
		Enable: true, Idle: max(idle, time.Second), Interval: interval, Count: probes,
	})
	if err != nil {
		return err
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var opt error
	err = raw.Control(func(fd uintptr) {
		opt = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(timeout.Milliseconds()))
	})
	if err != nil {
		return err
	}
	return opt
}

// kill closes the socket. What the kernel has not sent yet is not sent any more.
func (l *link) kill() {
	if c, ok := l.conn.(*net.TCPConn); ok {
		_ = c.SetLinger(0)
	}
	_ = l.conn.Close()
}

// send writes one message outside of the session.
func (l *link) send(h *format.NetHeader, data []byte) error {
	h.DataLen = uint16(len(data))
	_, err := l.conn.Write(appendFrame(nil, h, data))
	return err
}

// writeLoop sends what the session queues: one write a batch. It ends when the
// session has another link or the write fails.
func (l *link) writeLoop(s *session) {
	buf := make([]byte, 0, batchSize+headerSize+format.NetMaxData)
	for {
		b := s.batch(l, buf[:0])
		if b == nil {
			return
		}
		if _, err := l.conn.Write(b); err != nil {
			s.count.sendErrors.Add(1)
			_ = l.conn.Close()
			return
		}
	}
}

// readLoop hands messages to take until that or the socket fails.
func (l *link) readLoop(c *counters, take func(h *format.NetHeader, data []byte) error) error {
	for {
		h, data, err := l.frames.next()
		if err != nil {
			c.recvErrors.Add(1)
			return err
		}
		c.recvMessages.Add(1)
		c.recvBytes.Add(uint64(headerSize + len(data)))
		if err := take(&h, data); err != nil {
			c.invalid.Add(1)
			return err
		}
	}
}

// runner runs functions on a bounded number of goroutines, which end when there
// is nothing to do. A function that has to wait for its turn does not hold up
// whoever added it.
//
// add is only called while the WaitGroup has another member.
type runner struct {
	wg *sync.WaitGroup

	mu      sync.Mutex
	queue   []func() // +checklocks:mu
	running int      // +checklocks:mu
}

func (r *runner) add(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.queue = append(r.queue, f)
	if r.running < maxRunning {
		r.running++
		r.wg.Go(r.runLoop)
	}
}

func (r *runner) runLoop() {
	for {
		r.mu.Lock()
		if len(r.queue) == 0 {
			r.running--
			r.mu.Unlock()
			return
		}
		f := r.queue[0]
		r.queue = r.queue[1:]
		r.mu.Unlock()
		f()
	}
}
