// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"syscall"

	"scoutfs/format"
	"scoutfs/rpc"
)

// errNotConnected says that a mount cannot be reached. It matches ENOTCONN.
var errNotConnected error = syscall.ENOTCONN

// Local is a mount in the server's own process that talks to it without a
// connection: for tests and tools. It has the calls of an rpc.Client and obeys
// the same rules: messages to it arrive in order, one after the other.
// All methods are safe for concurrent use.
type Local struct {
	s      *Server
	rid    format.Rid
	flags  uint64
	handle map[format.NetCmd]rpc.Handler
	done   chan struct{} // closed when nothing is delivered any more

	mu      sync.Mutex
	queue   []func()             // +checklocks:mu; deliveries
	wake    chan struct{}        // of capacity 1
	lastID  uint64               // +checklocks:mu
	answers map[uint64]replyFunc // +checklocks:mu; of requests to the mount
	calls   map[uint64]replyFunc // +checklocks:mu; of requests from the mount
	gone    bool                 // +checklocks:mu
}

// Local greets the server as a mount that never saw one (first) or comes from
// another, and returns its connection. handle answers requests of the server;
// it has the rules of rpc.ClientOptions. It may block for a commit.
func (s *Server) Local(rid format.Rid, flags uint64, first bool, handle map[format.NetCmd]rpc.Handler) (*Local, error) {
	addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 1)
	if err := s.greet(rid, flags, addr, first); err != nil {
		return nil, err
	}
	l := &Local{
		s: s, rid: rid, flags: flags, handle: handle, done: make(chan struct{}), wake: make(chan struct{}, 1),
		answers: make(map[uint64]replyFunc), calls: make(map[uint64]replyFunc),
	}
	s.peers.Lock()
	if s.locals[rid] != nil || s.ctx.Err() != nil {
		s.peers.Unlock()
		return nil, fmt.Errorf("server: local mount %s: %w", ridString(rid), syscall.EEXIST)
	}
	s.locals[rid] = l
	s.wg.Go(l.deliverLoop)
	s.peers.Unlock()
	s.attach(rid, addr)
	return l, nil
}

// detachLocals ends all local connections.
func (s *Server) detachLocals() {
	s.peers.RLock()
	locals := make([]*Local, 0, len(s.locals))
	for _, l := range s.locals {
		locals = append(locals, l)
	}
	s.peers.RUnlock()
	for _, l := range locals {
		l.detach()
	}
}

// detach ends the connection: calls fail with ECONNABORTED, the server's
// requests with ENOTCONN.
func (l *Local) detach() {
	l.s.peers.Lock()
	if l.s.locals[l.rid] == l {
		delete(l.s.locals, l.rid)
	}
	l.s.peers.Unlock()
	l.mu.Lock()
	if l.gone {
		l.mu.Unlock()
		return
	}
	l.gone = true
	calls, answers := l.calls, l.answers
	l.calls, l.answers = nil, nil
	l.mu.Unlock()
	close(l.done)
	for _, cb := range calls {
		cb(nil, syscall.ECONNABORTED)
	}
	for _, cb := range answers {
		go cb(nil, errNotConnected)
	}
}

// Lose breaks the connection as if the mount had died and its time to
// reconnect had passed: the server asks for it to be fenced.
func (l *Local) Lose() {
	l.detach()
	l.s.lost(l.rid, netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 1))
}

// Close ends the connection without telling the server.
func (l *Local) Close() { l.detach() }

// push queues a delivery.
func (l *Local) push(fn func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.gone {
		return false
	}
	l.queue = append(l.queue, fn)
	select {
	case l.wake <- struct{}{}:
	default:
	}
	return true
}

// deliverLoop runs deliveries one after the other.
func (l *Local) deliverLoop() {
	for {
		select {
		case <-l.done:
			return
		case <-l.wake:
		}
		l.mu.Lock()
		queue := l.queue
		l.queue = nil
		l.mu.Unlock()
		for _, fn := range queue {
			fn()
		}
	}
}

// deliver sends a request of the server to the mount.
func (l *Local) deliver(cmd format.NetCmd, req []byte, cb replyFunc) error {
	h := l.handle[cmd]
	if h == nil {
		return fmt.Errorf("server: %s to %s: no handler: %w", cmd, ridString(l.rid), errNotConnected)
	}
	l.mu.Lock()
	if l.gone {
		l.mu.Unlock()
		return errNotConnected
	}
	l.lastID++
	id := l.lastID
	l.answers[id] = cb
	l.mu.Unlock()
	l.push(func() { h(id, req, func(resp []byte, err error) { l.Respond(id, resp, err) }) })
	return nil
}

// Respond answers request id of the server. Only the first answer counts.
func (l *Local) Respond(id uint64, resp []byte, err error) {
	l.mu.Lock()
	cb := l.answers[id]
	delete(l.answers, id)
	l.mu.Unlock()
	if cb != nil {
		go cb(slices.Clone(resp), err)
	}
}

// Send sends a request. cb runs once, in order with other messages to the
// mount, and must not block. After the connection has ended it gets
// ECONNABORTED.
func (l *Local) Send(cmd format.NetCmd, req []byte, cb func(resp []byte, err error)) {
	l.mu.Lock()
	if l.gone {
		l.mu.Unlock()
		cb(nil, syscall.ECONNABORTED)
		return
	}
	l.lastID++
	id := l.lastID
	l.calls[id] = cb
	l.mu.Unlock()
	reply := func(resp []byte, err error) {
		resp = slices.Clone(resp)
		l.push(func() { l.complete(id, resp, err) })
	}
	h := l.s.handlers[cmd]
	switch {
	case h == nil:
		reply(nil, syscall.EINVAL)
	case inline(cmd):
		h(l.s.ctx, l.rid, id, slices.Clone(req), reply)
	default:
		go h(l.s.ctx, l.rid, id, slices.Clone(req), reply)
	}
}

func (l *Local) complete(id uint64, resp []byte, err error) {
	l.mu.Lock()
	cb := l.calls[id]
	delete(l.calls, id)
	l.mu.Unlock()
	if cb != nil {
		cb(resp, err)
	}
}

// Call sends a request and waits for the answer.
func (l *Local) Call(ctx context.Context, cmd format.NetCmd, req []byte) ([]byte, error) {
	type result struct {
		resp []byte
		err  error
	}
	done := make(chan result, 1)
	l.Send(cmd, req, func(resp []byte, err error) { done <- result{resp, err} })
	select {
	case r := <-done:
		return r.resp, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// call is Call with a result of a fixed type.
func call[T format.Fixed](ctx context.Context, l *Local, cmd format.NetCmd, req []byte) (v T, err error) {
	resp, err := l.Call(ctx, cmd, req)
	if err != nil {
		return v, err
	}
	if len(resp) != format.Size[T]() {
		return v, fmt.Errorf("server: answer to %s has %d bytes: %w", cmd, len(resp), syscall.EMSGSIZE)
	}
	v, _ = format.Load[T](resp)
	return v, nil
}

// AllocInodes gets at most count inode numbers; none if there are no more.
func (l *Local) AllocInodes(ctx context.Context, count uint64) (format.NetInoRange, error) {
	return call[format.NetInoRange](ctx, l, format.CmdAllocInodes, u64(count))
}

// GetLogTrees opens a transaction, or returns the one that is open.
func (l *Local) GetLogTrees(ctx context.Context) (format.LogTrees, error) {
	return call[format.LogTrees](ctx, l, format.CmdGetLogTrees, nil)
}

// CommitLogTrees commits the open transaction. It can be repeated.
func (l *Local) CommitLogTrees(ctx context.Context, lt *format.LogTrees) error {
	_, err := l.Call(ctx, format.CmdCommitLogTrees, format.Bytes(lt))
	return err
}

// GetRoots are the roots of the last super that was written.
func (l *Local) GetRoots(ctx context.Context) (format.NetRoots, error) {
	return call[format.NetRoots](ctx, l, format.CmdGetRoots, nil)
}

// GetLastSeq is the sequence number up to which nothing can change any more.
func (l *Local) GetLastSeq(ctx context.Context) (uint64, error) {
	resp, err := l.Call(ctx, format.CmdGetLastSeq, nil)
	if err != nil {
		return 0, err
	}
	if len(resp) != 8 {
		return 0, fmt.Errorf("server: last seq of %d bytes: %w", len(resp), syscall.EMSGSIZE)
	}
	return binary.LittleEndian.Uint64(resp), nil
}

// Statfs counts free space and inodes.
func (l *Local) Statfs(ctx context.Context) (format.NetStatfs, error) {
	return call[format.NetStatfs](ctx, l, format.CmdStatfs, nil)
}

// Farewell leaves the volume: what the mount has open is reclaimed. It waits
// until the mount may go, and ends the connection.
func (l *Local) Farewell(ctx context.Context) error {
	if _, err := l.Call(ctx, format.CmdFarewell, nil); err != nil {
		return err
	}
	l.detach()
	return nil
}
