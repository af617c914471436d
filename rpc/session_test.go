// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package rpc

import (
	"net"
	"testing"

	"scoutfs/format"
)

// TestReplacedLink: what a socket still delivers after it was replaced counts
// for nothing, because the peer sends it again on the new one.
func TestReplacedLink(t *testing.T) {
	var s session
	s.init(&counters{}, 100)
	here, _ := net.Pipe()
	old, now := &link{conn: here}, &link{conn: here}
	if s.attach(old) != nil || !s.detach(old) || s.attach(now) != nil || s.detach(old) {
		t.Fatal("attach")
	}
	h := format.NetHeader{Seq: 1, ID: 1, Cmd: format.CmdLock}
	if _, _, fresh, err := s.receive(old, &h); fresh || err != nil {
		t.Errorf("fresh %v err %v", fresh, err)
	}
	_, k, fresh, err := s.receive(now, &h)
	if !fresh || err != nil {
		t.Errorf("fresh %v err %v", fresh, err)
	}
	h.Seq = 2
	if _, _, _, err := s.receive(now, &h); err == nil {
		t.Error("a second request with the id of an open one was accepted")
	}
	if !s.respond(k, nil, format.NetOK) || s.respond(k, nil, format.NetOK) {
		t.Error("answered other than once")
	}
	if b := s.batch(old, nil); b != nil {
		t.Error("an old link got a batch")
	}
	if b := s.batch(now, nil); len(b) != headerSize {
		t.Errorf("%d bytes", len(b))
	}
}

// TestTokens: the ids that handlers see lead back to the call.
func TestTokens(t *testing.T) {
	for _, k := range []call{{}, {era: 65535, id: 1<<idBits - 1, cmd: format.CmdFarewell}, {era: 1, id: 7, cmd: format.CmdLock}} {
		if got := fromToken(k.token()); got != k {
			t.Errorf("%+v became %+v", k, got)
		}
	}
}
