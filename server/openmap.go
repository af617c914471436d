// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package server

import (
	"slices"
	"sync"

	"scoutfs/format"
)

// openMap finds out which inodes of a group any mount has open.
// Source: spec cluster 11.3.
type openMap struct {
	s *Server

	mu      sync.Mutex
	clients map[format.Rid]struct{} // +checklocks:mu; those who can be asked
	asks    map[uint64]*openAsk     // +checklocks:mu; by id
	lastID  uint64                  // +checklocks:mu
	held    []*openAsk              // +checklocks:mu; not sent until all mounts are back
}

// openAsk is one request and the answers so far.
type openAsk struct {
	rid     format.Rid // who asked
	args    format.NetOpenInoMapArgs
	reply   replyFunc
	waiting map[format.Rid]struct{}
	bits    [16]uint64
}

func (m *openMap) init(s *Server) {
	m.s = s
	m.clients = make(map[format.Rid]struct{})
	m.asks = make(map[uint64]*openAsk)
}

func (m *openMap) add(rid format.Rid) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.clients[rid] = struct{}{}
}

// request takes an OPEN_INO_MAP request. It does not block.
func (m *openMap) request(rid format.Rid, args format.NetOpenInoMapArgs, reply replyFunc) {
	a := &openAsk{rid: rid, args: args, reply: reply}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.s.recovery.greeting() {
		m.held = append(m.held, a)
		return
	}
	m.askLocked(a)
}

// release sends what was held back.
func (m *openMap) release() {
	m.mu.Lock()
	defer m.mu.Unlock()
	held := m.held
	m.held = nil
	for _, a := range held {
		m.askLocked(a)
	}
}

func (m *openMap) askLocked(a *openAsk) {
	m.lastID++
	id := m.lastID
	a.waiting = make(map[format.Rid]struct{})
	m.asks[id] = a
	args := format.NetOpenInoMapArgs{Group: a.args.Group, ReqID: id}
	for rid := range m.clients {
		if rid == a.rid {
			continue
		}
		a.waiting[rid] = struct{}{}
		err := m.s.send(rid, format.CmdOpenInoMap, slices.Clone(format.Bytes(&args)), func(resp []byte, err error) {
			if err == nil {
				m.answered(rid, args, resp)
			}
		})
		if err != nil {
			// The mount is gone; it will be removed, which counts as an answer.
			m.s.o.Log.Debug("open map request not sent", "rid", ridString(rid), "err", err)
		}
	}
	m.finishLocked(id)
}

// answered takes a mount's bits. An answer that is not to the question counts
// as if everything was open.
func (m *openMap) answered(rid format.Rid, args format.NetOpenInoMapArgs, resp []byte) {
	r, ok := format.Load[format.NetOpenInoMap](resp)
	if !ok || r.Args != args {
		m.s.o.Log.Error("wrong open map answer", "rid", ridString(rid))
		for i := range r.Bits {
			r.Bits[i] = ^uint64(0)
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	a := m.asks[args.ReqID]
	if a == nil {
		return
	}
	if _, ok := a.waiting[rid]; !ok {
		return
	}
	for i := range a.bits {
		a.bits[i] |= r.Bits[i]
	}
	delete(a.waiting, rid)
	m.finishLocked(args.ReqID)
}

// finishLocked replies when nobody's answer is missing.
func (m *openMap) finishLocked(id uint64) {
	a := m.asks[id]
	if len(a.waiting) > 0 {
		return
	}
	delete(m.asks, id)
	r := format.NetOpenInoMap{Args: a.args, Bits: a.bits}
	a.reply(format.Bytes(&r), nil)
}

// remove forgets a mount; nobody waits for its answer any more.
func (m *openMap) remove(rid format.Rid) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.clients, rid)
	m.held = slices.DeleteFunc(m.held, func(a *openAsk) bool { return a.rid == rid })
	for id, a := range m.asks {
		if a.rid == rid {
			delete(m.asks, id)
			continue
		}
		if _, ok := a.waiting[rid]; ok {
			delete(a.waiting, rid)
			m.finishLocked(id)
		}
	}
}
