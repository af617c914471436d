// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package server

import (
	"cmp"
	"context"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"scoutfs/block"
	"scoutfs/format"
	"scoutfs/quorum"
)

// Times of the server. Source: spec cluster 14.
const (
	fenceWait       = 15 * time.Second // for all earlier leaders at start
	fenceTimeout    = 30 * time.Second // for the answer to a request
	recoveryTimeout = 30 * time.Second
	reclaimPoll     = time.Second
	reconnectWindow = 20 * time.Second
	suspectPoll     = 250 * time.Millisecond
	proofPoll       = 100 * time.Millisecond
)

// Why a mount is to be fenced. Source: spec cluster 3.1.
const (
	ReasonLeader    = "quorum_block_leader"
	ReasonRecovery  = "client_recovery"
	ReasonReconnect = "client_reconnect"
)

// Request asks for a mount to be fenced: to make sure that it writes to
// neither device any more.
type Request struct {
	Rid    format.Rid
	Addr   netip.Addr // its host, may be invalid
	Reason string
}

// Fencer carries out requests. Fence runs on a goroutine of its own and may
// take long; nil means that the mount cannot write any more, an error that
// this is not known to be so. It must give up when ctx is done.
type Fencer interface {
	Fence(ctx context.Context, r Request) error
}

// Options say what a server serves. Meta, Data, Super, Rid and Term are
// required.
type Options struct {
	Meta  block.Device
	Data  block.Device  // only its size is used
	Super *format.Super // as read at mount: identity and slots
	Rid   format.Rid    // of the mount that was elected
	Term  format.Term

	// Listener is where mounts connect; the server closes it. Listen is used
	// if it is nil, after earlier leaders were fenced. With neither only
	// [Server.Local] mounts exist.
	Listener net.Listener
	Listen   func() (net.Listener, error)

	// Cache is the mount's cache of metadata blocks; nil: an own one of
	// CacheBudget bytes (0: the default of package block).
	Cache       *block.Cache
	CacheBudget int64

	// Fences is the table that requests are put in; nil: an own one. The
	// mount passes its own so that the status tree can show it while Start is
	// still waiting for it.
	Fences *FenceTable

	// Suspects lists earlier leaders that may still be writing; nil: package
	// quorum's. It is asked again while they are being fenced.
	Suspects func() (list []quorum.Suspect, greaterTerm bool, err error)

	// Check is asked before each super block is written; an error stops the
	// server. nil: not asked.
	Check func() error

	// Counters are added to; nil: own ones. A mount passes its own so that they
	// go on growing with its next server.
	Counters *Counters

	ReconnectWindow  time.Duration // how long a broken connection may come back; 0: 20 s
	KeepaliveTimeout time.Duration // 0: the default of package rpc

	Log *slog.Logger // nil: none
}

func (o Options) withDefaults() Options {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Cache == nil {
		o.Cache = block.NewCache(o.Meta, block.CacheOptions{Fsid: o.Super.Hdr.Fsid, Budget: o.CacheBudget, Log: o.Log})
	}
	if o.Fences == nil {
		o.Fences = NewFenceTable(FenceOptions{Log: o.Log})
	}
	if o.Counters == nil {
		o.Counters = new(Counters)
	}
	o.ReconnectWindow = cmp.Or(o.ReconnectWindow, reconnectWindow)
	if o.Suspects == nil {
		o.Suspects = func() ([]quorum.Suspect, bool, error) {
			return quorum.Suspects(o.Meta, o.Super, o.Term, o.Rid)
		}
	}
	return o
}
