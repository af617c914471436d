// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package rpc

import (
	"bufio"
	"fmt"
	"io"

	"scoutfs/format"
)

const (
	headerSize = 32
	// batchSize is when a batch of messages is full, in bytes. A message more
	// always fits behind it.
	batchSize = 64 << 10
)

// badMessage is an error of a peer that ends the connection.
func badMessage(f string, args ...any) error {
	return &format.CorruptError{Device: "network", Reason: fmt.Sprintf(f, args...)}
}

// appendFrame appends a message to a batch.
func appendFrame(buf []byte, h *format.NetHeader, data []byte) []byte {
	buf = append(buf, format.Bytes(h)...)
	return append(buf, data...)
}

// parseHeader decodes and checks what does not depend on who receives it. b has
// headerSize bytes. Source: spec cluster 4.1.
func parseHeader(b []byte) (format.NetHeader, error) {
	h, ok := format.Load[format.NetHeader](b)
	switch {
	case !ok:
		return h, badMessage("header of %d bytes", len(b))
	case h.Seq == 0 || h.ID == 0:
		return h, badMessage("seq %d id %d", h.Seq, h.ID)
	case h.Cmd >= format.CmdNr:
		return h, badMessage("command %d", h.Cmd)
	case h.Flags&^format.NetFlagResponse != 0:
		return h, badMessage("flags %#x", h.Flags)
	case h.Error >= format.NetErrNr:
		return h, badMessage("error %d", h.Error)
	case h.DataLen > format.NetMaxData:
		return h, badMessage("%d bytes of data", h.DataLen)
	case h.Error != format.NetOK && !isResponse(&h):
		return h, badMessage("request with error %d", h.Error)
	}
	return h, nil
}

func isResponse(h *format.NetHeader) bool { return h.Flags&format.NetFlagResponse != 0 }

// frameReader splits a stream into messages.
type frameReader struct {
	r   *bufio.Reader
	hdr [headerSize]byte
}

func newFrameReader(r io.Reader) *frameReader {
	return &frameReader{r: bufio.NewReaderSize(r, batchSize)}
}

// next returns the next message. The data belongs to the caller. An error is
// final; io.EOF means that the stream ended between two messages.
func (f *frameReader) next() (format.NetHeader, []byte, error) {
	if _, err := io.ReadFull(f.r, f.hdr[:]); err != nil {
		return format.NetHeader{}, nil, err
	}
	h, err := parseHeader(f.hdr[:])
	if err != nil || h.DataLen == 0 {
		return h, nil, err
	}
	data := make([]byte, h.DataLen)
	if _, err := io.ReadFull(f.r, data); err != nil {
		return h, nil, fmt.Errorf("rpc: read data of %s: %w", h.Cmd, err)
	}
	return h, data, nil
}
