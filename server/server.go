// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"scoutfs/alloc"
	"scoutfs/block"
	"scoutfs/btree"
	"scoutfs/format"
	"scoutfs/quorum"
	"scoutfs/rpc"
)

// Server is a running server. All methods are safe for concurrent use.
type Server struct {
	o      Options
	cache  *block.Cache
	commit *committer
	seq    atomic.Uint64                // the volume's sequence number: the last one handed out
	stable atomic.Pointer[format.Super] // the last one written; never changed

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup // all goroutines
	failed atomic.Pointer[error]
	done   chan struct{} // closed when all has ended
	stop   sync.Once

	// mu protects what commits write. Handlers take it in [Server.update].
	mu      sync.Mutex
	super   format.Super                        // +checklocks:mu; what the next commit writes
	writer  *block.Writer                       // +checklocks:mu
	pair    *alloc.Pair                         // +checklocks:mu
	active  int                                 // +checklocks:mu; index of the pair's lists in super
	source  int                                 // +checklocks:mu; index in super.MetaAlloc to take from
	broken  error                               // +checklocks:mu; why there are no more commits
	mounted map[format.Rid]format.MountedClient // +checklocks:mu; the items of super.MountedClients

	known sync.Map // the rids of mounted, for those who must not wait for mu
	count counts

	locks    lockService
	opens    openMap
	recovery recovery
	farewell farewells
	volopt   sync.Mutex // held by a change of volume options until it is durable
	links    brokenLinks
	doubts   doubts
	up       chan struct{} // closed when all loops run and rpc is set
	rpc      *rpc.Server   // nil without a listener; see net
	handlers map[format.NetCmd]rpc.ServerHandler

	peers  sync.RWMutex
	locals map[format.Rid]*Local // +checklocks:peers
}

// Start runs a server: it waits until earlier leaders are fenced, at most 15
// seconds, reads the volume and begins to serve. ctx only bounds Start. The
// server runs until Stop, or until it fails, which Done tells.
// Source: spec cluster 1.6.
func Start(ctx context.Context, o Options) (*Server, error) {
	s := newServer(o)
	if err := s.prepare(ctx); err != nil {
		s.cancel()
		s.wg.Wait()
		s.o.Fences.clear()
		if s.o.Listener != nil {
			_ = s.o.Listener.Close()
		}
		return nil, err
	}
	s.serve()
	s.o.Log.Info("server is up", "term", s.o.Term, "seq", s.seq.Load(), "recovering", s.recovery.count())
	return s, nil
}

// prepare does what must succeed before anybody is served.
func (s *Server) prepare(ctx context.Context) error {
	if err := s.fenceLeaders(ctx); err != nil {
		if !errors.Is(err, context.Canceled) {
			s.o.Counters.fenceError.Add(1)
		}
		return err
	}
	if s.o.Listener == nil && s.o.Listen != nil {
		l, err := s.o.Listen()
		if err != nil {
			return fmt.Errorf("server: listen: %w", err)
		}
		s.o.Listener = l
	}
	return s.load()
}

func newServer(o Options) *Server {
	o = o.withDefaults()
	s := &Server{
		o: o, cache: o.Cache, commit: newCommitter(o.Counters), done: make(chan struct{}), up: make(chan struct{}),
		mounted: make(map[format.Rid]format.MountedClient),
		locals:  make(map[format.Rid]*Local),
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.locks.init(s)
	s.opens.init(s)
	s.recovery.init(s)
	s.farewell.init()
	s.links.init()
	s.doubts.last = make(map[format.Rid]time.Time)
	s.handlers = s.table()
	return s
}

// fenceLeaders makes sure that no earlier leader writes any more.
// Source: spec cluster 2.7.
func (s *Server) fenceLeaders(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, fenceWait,
		fmt.Errorf("server: earlier leaders were not fenced within %s: %w", fenceWait, context.DeadlineExceeded))
	defer cancel()
	for {
		changed := s.o.Fences.Changed()
		wait, err := s.suspects()
		if err != nil || !wait {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changed:
		case <-time.After(suspectPoll):
			s.o.Fences.prove()
		}
	}
}

// suspects makes fence requests for earlier leaders that may still run, and
// takes back those of leaders that stopped meanwhile. wait is true if any is
// not answered yet.
func (s *Server) suspects() (wait bool, err error) {
	list, greater, err := s.o.Suspects()
	if err != nil {
		return false, fmt.Errorf("server: look for earlier leaders: %w", err)
	}
	if greater {
		return false, fmt.Errorf("server: term %d is over: %w", s.o.Term, errStopped)
	}
	alive := make(map[format.Rid]quorum.Suspect)
	for _, q := range list {
		alive[q.Rid] = q
		if s.o.Fences.add(Request{Rid: q.Rid, Addr: q.Addr.Addr(), Reason: ReasonLeader}) {
			s.o.Counters.fenceLeader.Add(1)
		}
	}
	for _, r := range s.o.Fences.List() {
		_, ok := alive[r.Rid]
		switch {
		case r.Fenced:
		case !ok:
			s.o.Fences.remove(r.Rid)
		case r.Error:
			return false, fmt.Errorf("server: earlier leader %s could not be fenced", ridString(r.Rid))
		default:
			wait = true
		}
	}
	return wait, nil
}

// load reads the volume. Source: spec cluster 1.6.
func (s *Server) load() error {
	sup, err := readSuper(s.o.Meta)
	if err != nil {
		return err
	}
	if sup.Hdr.Fsid != s.o.Super.Hdr.Fsid {
		return fmt.Errorf("server: super has fsid %016x, mounted was %016x", sup.Hdr.Fsid, s.o.Super.Hdr.Fsid)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.super = *sup
	s.stable.Store(sup)
	if err := s.loadSeqLocked(); err != nil {
		return fmt.Errorf("server: read log trees: %w", err)
	}
	if err := s.loadMountedLocked(); err != nil {
		return fmt.Errorf("server: read mounted clients: %w", err)
	}
	if sup.ServerMetaAvail[1].TotalNr > sup.ServerMetaAvail[0].TotalNr {
		s.active = 1
	}
	if sup.MetaAlloc[1].TotalLen > sup.MetaAlloc[0].TotalLen {
		s.source = 1
	}
	s.writer = s.cache.NewWriter()
	s.pair = alloc.NewPair(s.cache, s.writer, sup.ServerMetaAvail[s.active], sup.ServerMetaFreed[s.active])
	if s.roomLocked().least() < 2*holdBudget {
		// Its first block may be used up with others behind it. Without any
		// block the commits that follow turn to the other list.
		if err := s.pair.Prepare(); err != nil && !errors.Is(err, alloc.ErrNoSpace) {
			return err
		}
	}
	s.commit.now = s.roomLocked()
	s.recovery.start(s.mounted)
	return nil
}

// loadSeqLocked finds the greatest sequence number in use.
func (s *Server) loadSeqLocked() error {
	s.seq.Store(s.super.Seq)
	return walkLogTrees(s.cache, &s.super.LogsRoot, func(lt *format.LogTrees) error {
		s.raiseSeq(lt.MaxItemSeq)
		return nil
	})
}

func (s *Server) loadMountedLocked() error {
	from, to := format.KeyMountedClient(0), format.KeyMountedClient(^format.Rid(0))
	return btree.Walk(s.cache, &s.super.MountedClients, &from, &to, func(it *btree.Item) error {
		mc, err := value[format.MountedClient](s.cache, it)
		if err != nil {
			return err
		}
		s.putMountedLocked(format.Rid(it.Key.First), mc)
		return nil
	})
}

// serve starts all that runs in the background.
func (s *Server) serve() {
	s.wg.Go(s.commitLoop)
	s.wg.Go(s.reclaimLoop)
	s.wg.Go(s.farewellLoop)
	s.wg.Go(s.proofLoop)
	if s.o.Listener != nil {
		s.rpc = rpc.NewServer(rpc.ServerOptions{
			Listener: s.o.Listener, Fsid: s.o.Super.Hdr.Fsid, FmtVers: s.o.Super.FmtVers, Term: uint64(s.o.Term),
			Handle: s.handlers, OnGreeting: s.greet, OnAttach: s.attach, OnFail: s.fail,
			OnBroken: s.linkBroke, OnLost: s.lost, OnGone: s.gone,
			ReconnectWindow: s.o.ReconnectWindow, KeepaliveTimeout: s.o.KeepaliveTimeout, Log: s.o.Log,
		})
	}
	close(s.up)
}

// net is the side that talks to mounts, nil without a listener. It calls back
// as soon as it is made, so everybody but serve has to ask here.
func (s *Server) net() *rpc.Server {
	<-s.up
	return s.rpc
}

// Done is closed when the server has ended, by Stop or because it failed.
func (s *Server) Done() <-chan struct{} { return s.done }

// Err is why the server failed, nil if it did not.
func (s *Server) Err() error {
	if err := s.failed.Load(); err != nil {
		return *err
	}
	return nil
}

// fail stops the server because of err. It does not wait.
func (s *Server) fail(err error) {
	if errors.Is(err, errStopped) || s.ctx.Err() != nil {
		return
	}
	if s.failed.CompareAndSwap(nil, &err) {
		s.o.Log.Error("server fails", "err", err)
		go s.Stop()
	}
}

// Stop ends the server and waits until it will write nothing any more. What
// was not committed is dropped. It is idempotent. Source: spec cluster 1.6.
func (s *Server) Stop() {
	s.stop.Do(func() {
		s.cancel()
		s.commit.shut(errStopped)
		if net := s.net(); net != nil {
			net.Close()
		}
		s.detachLocals()
		s.wg.Wait()
		s.mu.Lock()
		if s.broken == nil {
			s.broken = errStopped
		}
		s.pair.Close()
		s.writer.Discard()
		s.mu.Unlock()
		s.o.Fences.clear()
		s.o.Log.Info("server is down", "term", s.o.Term)
		close(s.done)
	})
	<-s.done
}

// Fences is the table of fence requests.
func (s *Server) Fences() *FenceTable { return s.o.Fences }

// Super is the last super block that was written. It must not be changed.
func (s *Server) Super() *format.Super { return s.stable.Load() }

// Seq is the last sequence number that was handed out.
func (s *Server) Seq() uint64 { return s.seq.Load() }

// nextSeq takes the next sequence number. It is durable with the next commit.
func (s *Server) nextSeq() uint64 { return s.seq.Add(1) }

// raiseSeq makes sure that numbers to be handed out are greater than n.
func (s *Server) raiseSeq(n uint64) {
	for old := s.seq.Load(); old < n && !s.seq.CompareAndSwap(old, n); old = s.seq.Load() {
	}
}

// send sends a request to a mount. cb runs once, on another goroutine, unless
// send returns an error.
func (s *Server) send(rid format.Rid, cmd format.NetCmd, req []byte, cb func(resp []byte, err error)) error {
	s.peers.RLock()
	l := s.locals[rid]
	s.peers.RUnlock()
	if l != nil {
		return l.deliver(cmd, req, cb)
	}
	if net := s.net(); net != nil {
		return net.Send(rid, cmd, req, cb)
	}
	return fmt.Errorf("server: send %s to %s: %w", cmd, ridString(rid), errNotConnected)
}

// disconnect breaks the connection of a mount that was fenced.
func (s *Server) disconnect(rid format.Rid) {
	s.peers.RLock()
	l := s.locals[rid]
	s.peers.RUnlock()
	if l != nil {
		l.detach()
	}
	if net := s.net(); net != nil {
		net.Disconnect(rid)
	}
}

// DumpConnections writes a line for each mount's connection, for the status
// tree.
func (s *Server) DumpConnections(w io.Writer) error {
	if net := s.net(); net != nil {
		return net.DumpConnections(w)
	}
	return nil
}

// DumpMessages writes a line for each message that waits, for the status tree.
func (s *Server) DumpMessages(w io.Writer) error {
	if net := s.net(); net != nil {
		return net.DumpMessages(w)
	}
	return nil
}

// Addr is where the server listens, nil without a listener.
func (s *Server) Addr() net.Addr {
	if s.o.Listener == nil {
		return nil
	}
	return s.o.Listener.Addr()
}
