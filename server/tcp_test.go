// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"bytes"
	"context"
	"net"
	"slices"
	"sync/atomic"
	"testing"

	"scoutfs/format"
	"scoutfs/rpc"
	"scoutfs/server"
)

// listen makes a server listen on some port.
func listen(t *testing.T, addr *atomic.Value) func(*server.Options) {
	return func(o *server.Options) {
		o.Listen = func() (net.Listener, error) {
			l, err := net.Listen("tcp4", "127.0.0.1:0")
			if err == nil {
				addr.Store(l.Addr().String())
			}
			return l, err
		}
	}
}

// TestTCP talks to servers through real connections, over a failover.
func TestTCP(t *testing.T) {
	v := newVolume(t, 1)
	var addr atomic.Value
	s := v.start(listen(t, &addr))
	var dialer net.Dialer
	var recovers atomic.Int64
	c := rpc.NewClient(rpc.ClientOptions{
		Fsid: v.super.Hdr.Fsid, FmtVers: v.super.FmtVers, Rid: 42, Quorum: true,
		Dial: func(ctx context.Context) (net.Conn, error) {
			return dialer.DialContext(ctx, "tcp4", addr.Load().(string))
		},
		Handle: map[format.NetCmd]rpc.Handler{
			format.CmdLock: func(uint64, []byte, func([]byte, error)) {},
			format.CmdLockRecover: func(_ uint64, _ []byte, reply func([]byte, error)) {
				recovers.Add(1)
				reply(make([]byte, 8), nil)
			},
		},
	})
	defer c.Close()
	r, err := c.AllocInodes(t.Context(), 100)
	must(t, err)
	if r != (format.NetInoRange{Ino: 1024, Nr: 100}) {
		t.Errorf("inodes %+v", r)
	}
	lt, err := c.GetLogTrees(t.Context())
	must(t, err)
	sup, trees := v.audit()
	if len(trees) != 1 || !bytes.Equal(format.Bytes(&trees[0]), format.Bytes(&lt)) {
		t.Errorf("log trees %+v, on disk %+v", lt, trees)
	}
	roots, err := c.GetRoots(t.Context())
	must(t, err)
	if roots.LogsRoot != sup.LogsRoot || roots.FSRoot != sup.FSRoot {
		t.Errorf("roots %+v", roots)
	}
	l := format.NetLock{Key: format.Key{Zone: format.ZoneFS}, NewMode: format.LockWrite}
	resp, err := c.Call(t.Context(), format.CmdLock, slices.Clone(format.Bytes(&l)))
	must(t, err)
	if g, _ := format.Load[format.NetLock](resp); g.Key != l.Key || g.NewMode != format.LockWrite || g.WriteSeq <= lt.GetTransSeq {
		t.Errorf("grant %+v", g)
	}
	var dump bytes.Buffer
	must(t, s.DumpConnections(&dump))
	must(t, s.DumpMessages(&dump))
	if dump.Len() == 0 {
		t.Error("no connection is shown")
	}
	s.Stop()

	s = v.start(listen(t, &addr))
	must(t, c.CommitLogTrees(t.Context(), &lt)) // nothing was written, which is allowed
	again, err := c.GetLogTrees(t.Context())
	must(t, err)
	if again.GetTransSeq <= lt.GetTransSeq || again.CommitTransSeq != lt.GetTransSeq {
		t.Errorf("log trees %+v after %+v", again, lt)
	}
	waitFor(t, func() bool { return s.LockStats().Recovering == 0 })
	if recovers.Load() == 0 {
		t.Error("locks were not asked for")
	}
	st, err := c.Statfs(t.Context())
	must(t, err)
	if st.TotalMeta != metaBlocks {
		t.Errorf("statfs %+v", st)
	}
	must(t, c.Farewell(t.Context(), nil))
	waitFor(t, func() bool { return s.Metrics().Mounts == 0 })
	v.audit()
	s.Stop()
	if err := s.Err(); err != nil {
		t.Error(err)
	}
}
