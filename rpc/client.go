// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

// Package rpc
package rpc

import (
	"context"
	"io"
	"log/slog"
	"net"
	"time"

	"scoutfs/format"
)

// Handler answers a request of the server. id is unique over all servers of this client's life: Client.Respond(id, ...) or reply answer it
// (once). req belongs to the handler. Handlers of LOCK and LOCK_RECOVER run inline in receive order and must not block; others run concurrently.
type Handler func(id uint64, req []byte, reply func(resp []byte, err error))

type ClientOptions struct {
	Fsid, FmtVers    uint64
	Rid              format.Rid
	Quorum           bool
	Dial             func(ctx context.Context) (net.Conn, error)
	KeepaliveTimeout time.Duration
	Handle           map[format.NetCmd]Handler
	OnNewServer      func(term uint64)
	Log              *slog.Logger
}

type Client struct{}

func NewClient(o ClientOptions) *Client { panic("todo") }

func (c *Client) Call(ctx context.Context, cmd format.NetCmd, req []byte) ([]byte, error) {
	panic("todo")
}

// Send: cb runs on the receive goroutine, must not block.
func (c *Client) Send(cmd format.NetCmd, req []byte, cb func(resp []byte, err error)) { panic("todo") }
func (c *Client) Respond(id uint64, resp []byte, err error)                           { panic("todo") }
func (c *Client) Farewell(ctx context.Context, gone func() bool) error                { panic("todo") }
func (c *Client) Abort()                                                              { panic("todo") }
func (c *Client) Close()                                                              { panic("todo") }
func (c *Client) Term() uint64                                                        { panic("todo") }
func (c *Client) Connected() bool                                                     { panic("todo") }
func (c *Client) Kick()                                                               { panic("todo") } // look for the server now
func (c *Client) DumpConnections(w io.Writer)                                         { panic("todo") }
func (c *Client) DumpMessages(w io.Writer)                                            { panic("todo") }

func (c *Client) AllocInodes(ctx context.Context, count uint64) (format.NetInoRange, error) {
	panic("todo")
}
func (c *Client) GetLogTrees(ctx context.Context) (format.LogTrees, error)      { panic("todo") }
func (c *Client) CommitLogTrees(ctx context.Context, lt *format.LogTrees) error { panic("todo") }
func (c *Client) GetRoots(ctx context.Context) (format.NetRoots, error)         { panic("todo") }
func (c *Client) GetLastSeq(ctx context.Context) (uint64, error)                { panic("todo") }
func (c *Client) Statfs(ctx context.Context) (format.NetStatfs, error)          { panic("todo") }
