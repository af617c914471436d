// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package rpc

import (
	"bytes"
	"testing"

	"scoutfs/format"
)

// FuzzFrames reads any stream of bytes: it gives messages that are within the
// limits and then an error, and what was read encodes to what was there.
func FuzzFrames(f *testing.F) {
	g := format.NetGreeting{Fsid: 1, FmtVers: 2, Rid: 3}
	f.Add(appendFrame(nil, &format.NetHeader{Seq: 1, ID: 1, DataLen: 40}, format.Bytes(&g)))
	f.Add(appendFrame(nil, &format.NetHeader{Seq: 1, ID: 1, Cmd: format.CmdLock, Flags: 1, Error: 3}, nil))
	f.Add(appendFrame(nil, &format.NetHeader{Seq: 1, ID: 1, DataLen: 1101}, make([]byte, 1101)))
	f.Add(make([]byte, 100))
	f.Fuzz(func(t *testing.T, stream []byte) {
		r := newFrameReader(bytes.NewReader(stream))
		var again []byte
		for {
			h, data, err := r.next()
			if err != nil {
				break
			}
			if len(data) > format.NetMaxData || len(data) != int(h.DataLen) || h.Seq == 0 || h.ID == 0 || h.Cmd >= format.CmdNr {
				t.Fatalf("%+v with %d bytes", h, len(data))
			}
			start := len(again)
			again = appendFrame(again, &h, data)
			copy(again[start+29:start+32], stream[start+29:]) // padding is ignored
		}
		if !bytes.HasPrefix(stream, again) {
			t.Fatal("messages differ from the stream")
		}
	})
}

// TestEncodeAllocs: a batch needs no memory besides its buffer.
func TestEncodeAllocs(t *testing.T) {
	buf := make([]byte, 0, 4096)
	h := format.NetHeader{Seq: 1, ID: 1}
	data := make([]byte, 48)
	if n := testing.AllocsPerRun(100, func() { buf = appendFrame(buf[:0], &h, data) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
