// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package rpc

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"scoutfs/format"
)

// ErrClose as the error of a reply closes the connection without an answer.
var ErrClose = errors.New("rpc: close the connection")

// ServerHandler answers a request of a client. reply may be called later, from any goroutine; only the first call counts. req belongs to the handler.
// Handlers of LOCK run inline in receive order of their connection and must not block.
type ServerHandler func(ctx context.Context, rid format.Rid, reqID uint64, req []byte, reply func(resp []byte, err error))

type ServerOptions struct {
	Listener            net.Listener
	Fsid, FmtVers, Term uint64
	Handle              map[format.NetCmd]ServerHandler
	// OnGreeting runs before a greeting is answered, not for reconnections to this server: first = client never saw any server (insert mounted_clients
	// item); !first = it comes from another server (refuse if it has no item, unless flags has FAREWELL). An error refuses it: reply EINVAL, close. May block.
	OnGreeting func(rid format.Rid, flags uint64, addr netip.AddrPort, first bool) error
	// OnAttach runs after the reply was queued in the same cases: from now on Send(rid) works. (LOCK_RECOVER, open map)
	OnAttach func(rid format.Rid, addr netip.AddrPort)
	// OnLost: the rid did not reconnect within ReconnectWindow: fence it.
	OnLost func(rid format.Rid, addr netip.AddrPort)
	// OnGone: the connection of a rid whose farewell was answered is over.
	OnGone           func(rid format.Rid)
	ReconnectWindow  time.Duration
	GreetTimeout     time.Duration
	MaxUngreeted     int
	KeepaliveTimeout time.Duration
	Log              *slog.Logger
}

type ClientInfo struct {
	Rid       format.Rid
	Flags     uint64
	Addr      netip.AddrPort
	Connected bool
}

type Server struct{}

// NewServer starts to accept at once.
func NewServer(o ServerOptions) *Server { panic("todo") }

// Send: error ENOTCONN if the rid is not known. cb runs once: response, or ENOTCONN when the rid is gone, ECONNABORTED at Close. Must not block.
func (s *Server) Send(rid format.Rid, cmd format.NetCmd, req []byte, cb func(resp []byte, err error)) error {
	panic("todo")
}
func (s *Server) Clients() []ClientInfo       { panic("todo") }
func (s *Server) Disconnect(rid format.Rid)   { panic("todo") }
func (s *Server) Close()                      { panic("todo") }
func (s *Server) DumpConnections(w io.Writer) { panic("todo") }
func (s *Server) DumpMessages(w io.Writer)    { panic("todo") }

// ToWire maps an error to the code that goes over the wire; others than those of the table are EINVAL.
func ToWire(err error) format.NetErr { panic("todo") }

// FromWire is its inverse: nil or a syscall.Errno.
func FromWire(e format.NetErr) error { panic("todo") }
