// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package lock_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"scoutfs/format"
	"scoutfs/lock"
)

// cluster is a lock server and several clients with a network between them
// that reorders whatever it may: only messages from the server about one key
// stay in order.
type cluster struct {
	t   *testing.T
	rng *rand.Rand

	mu       sync.Mutex
	cond     *sync.Cond
	srv      *lock.Server
	epoch    int
	seq      uint64
	toServer []func()
	toClient map[route][]func()
	nodes    map[format.Rid]*node
	tokens   map[uint64]*token
	stop     bool
	stopped  chan struct{}

	model model
}

type route struct {
	rid format.Rid
	key format.Key
}

// token is an invalidation; what never reached its client needs no answer.
type token struct {
	epoch               int
	delivered, answered bool
}

// node is a mount with a cache that the lock protects.
type node struct {
	c    *cluster
	rid  format.Rid
	cl   *lock.Client
	idle int

	nextID uint64 // guarded by cluster.mu
	sent   map[uint64]format.NetLock

	mu    sync.Mutex
	cache map[format.Key]*value
	trans uint64
}

// value is what a node has cached under a lock.
type value struct {
	n     int // the current number, if read or written under R or W
	dirty bool
	delta int // added under WO, not written yet
}

// model is the truth: who uses what, what is stored and what it should be.
type model struct {
	mu     sync.Mutex
	users  map[format.Key]map[format.Rid]map[format.LockMode]int
	store  map[format.Key]int
	expect map[format.Key]int
}

func newCluster(t *testing.T, rng *rand.Rand, rids int) *cluster {
	c := &cluster{
		t: t, rng: rng, toClient: map[route][]func(){}, nodes: map[format.Rid]*node{},
		tokens: map[uint64]*token{}, stopped: make(chan struct{}),
		model: model{
			users: map[format.Key]map[format.Rid]map[format.LockMode]int{},
			store: map[format.Key]int{}, expect: map[format.Key]int{},
		},
	}
	c.cond = sync.NewCond(&c.mu)
	c.srv = lock.NewServer(c.nextSeq)
	for i := range rids {
		n := &node{c: c, rid: format.Rid(i + 1), sent: map[uint64]format.NetLock{}, cache: map[format.Key]*value{},
			trans: 1, idle: 4 + i*1000}
		n.cl = lock.NewClient(lock.ClientOptions{
			Send: n.send, Respond: n.respond, Revoker: n, IdleCount: func() int { return n.idle }, Workers: 4,
		})
		c.nodes[n.rid] = n
	}
	go c.deliverLoop()
	return c
}

func (c *cluster) nextSeq() uint64 { c.seq++; return c.seq }

func (n *node) send(l format.NetLock) {
	c := n.c
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, o := range n.sent {
		if o.Key == l.Key {
			c.t.Errorf("rid %d has two requests for %v", n.rid, l.Key)
		}
	}
	n.nextID++
	n.sent[n.nextID] = l
	n.post(n.nextID, l)
}

// post queues a request to the server.
func (n *node) post(id uint64, l format.NetLock) {
	c := n.c
	c.toServer = append(c.toServer, func() { c.route(c.srv.Request(n.rid, id, l)) })
	c.cond.Signal()
}

func (n *node) respond(id uint64, l format.NetLock) {
	c := n.c
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.tokens[id]
	if k == nil || k.answered {
		c.t.Errorf("rid %d: invalidation %d of %v answered twice or never sent", n.rid, id, l.Key)
		return
	}
	k.answered = true
	if k.epoch != c.epoch {
		return
	}
	c.toServer = append(c.toServer, func() { c.route(c.srv.InvalidateDone(n.rid, l)) })
	c.cond.Signal()
}

// route queues what the server sends. Called with c.mu.
func (c *cluster) route(outs []lock.Out) {
	for _, o := range outs {
		n := c.nodes[o.Rid]
		r := route{o.Rid, o.Lock.Key}
		l := o.Lock
		switch o.Kind {
		case lock.Grant:
			id := o.ReqID
			c.toClient[r] = append(c.toClient[r], func() {
				c.mu.Lock()
				_, ok := n.sent[id]
				delete(n.sent, id)
				c.mu.Unlock()
				if !ok {
					c.t.Errorf("rid %d: request %d granted twice", n.rid, id)
				}
				n.cl.HandleGrant(l)
			})
		case lock.Invalidate:
			id := uint64(len(c.tokens) + 1)
			k := &token{epoch: c.epoch}
			c.tokens[id] = k
			c.toClient[r] = append(c.toClient[r], func() {
				c.mu.Lock()
				k.delivered = true
				c.mu.Unlock()
				n.cl.HandleInvalidate(id, l)
			})
		}
	}
	c.cond.Signal()
}

func (c *cluster) deliverLoop() {
	defer close(c.stopped)
	for {
		c.mu.Lock()
		for !c.stop && len(c.toServer) == 0 && len(c.toClient) == 0 {
			c.cond.Wait()
		}
		if c.stop {
			c.mu.Unlock()
			return
		}
		i := c.rng.IntN(len(c.toServer) + len(c.toClient))
		if i < len(c.toServer) {
			f := c.toServer[i]
			c.toServer = append(c.toServer[:i], c.toServer[i+1:]...)
			f()
			c.mu.Unlock()
			continue
		}
		f := c.popClient(i - len(c.toServer))
		pause := time.Duration(c.rng.IntN(200)) * time.Microsecond
		c.mu.Unlock()
		f()
		time.Sleep(pause)
	}
}

func (c *cluster) popClient(i int) func() {
	for r, q := range c.toClient {
		if i--; i >= 0 {
			continue
		}
		f := q[0]
		if c.toClient[r] = q[1:]; len(q) == 1 {
			delete(c.toClient, r)
		}
		return f
	}
	panic("no such queue")
}

// failover replaces the server: everything in flight is lost, the clients
// resend their requests and tell what they hold.
func (c *cluster) failover() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.epoch++
	c.toServer, c.toClient = nil, map[route][]func(){}
	c.srv = lock.NewServer(c.nextSeq)
	var rids []format.Rid
	for rid := range c.nodes {
		rids = append(rids, rid)
	}
	c.srv.StartRecovery(rids)
	for _, n := range c.nodes {
		for id, l := range n.sent {
			n.post(id, l)
		}
		c.askRecover(n, format.Key{}, c.epoch)
	}
}

func (c *cluster) askRecover(n *node, from format.Key, epoch int) {
	r := route{n.rid, format.Key{Zone: 255}}
	c.toClient[r] = append(c.toClient[r], func() {
		locks := n.cl.Recover(from)
		c.mu.Lock()
		defer c.mu.Unlock()
		if epoch != c.epoch {
			return
		}
		c.toServer = append(c.toServer, func() {
			c.seq = max(c.seq, lock.MaxWriteSeq(locks))
			next, done, outs, err := c.srv.Recovered(n.rid, locks)
			if err != nil {
				c.t.Errorf("recovery: %v", err)
				return
			}
			c.route(outs)
			if !done {
				c.askRecover(n, next, epoch)
			}
		})
		c.cond.Signal()
	})
	c.cond.Signal()
}

// Revoke is the node's side of a revocation.
func (n *node) Revoke(lk *lock.Lock, old, to format.LockMode, lastDirty uint64) error {
	time.Sleep(50 * time.Microsecond)
	n.mu.Lock()
	defer n.mu.Unlock()
	v := n.cache[lk.Start]
	if v == nil {
		return nil
	}
	if (v.dirty || v.delta != 0) && lastDirty != n.trans {
		n.c.t.Errorf("rid %d: dirty under %v but last dirty %d, transaction %d", n.rid, lk.Start, lastDirty, n.trans)
	}
	n.c.model.write(lk.Start, v)
	if old != format.LockWrite || to != format.LockRead {
		delete(n.cache, lk.Start)
	}
	return nil
}

func (m *model) write(key format.Key, v *value) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if v.dirty {
		m.store[key] = v.n
		v.dirty = false
	}
	m.store[key] += v.delta
	v.delta = 0
}

// use is one task's work under a lock that it holds.
func (n *node) use(lk *lock.Lock, mode format.LockMode) {
	n.mu.Lock()
	defer n.mu.Unlock()
	m := &n.c.model
	m.mu.Lock()
	defer m.mu.Unlock()
	v := n.cache[lk.Start]
	if v == nil {
		v = &value{n: m.store[lk.Start]}
		n.cache[lk.Start] = v
	}
	switch mode {
	case format.LockWriteOnly:
		v.delta++
		m.expect[lk.Start]++
		return
	case format.LockWrite:
		if v.n != m.expect[lk.Start] {
			n.c.t.Errorf("rid %d writes %v: cached %d, should be %d", n.rid, lk.Start, v.n, m.expect[lk.Start])
		}
		v.n++
		v.dirty = true
		m.expect[lk.Start]++
	default:
		if v.n != m.expect[lk.Start] {
			n.c.t.Errorf("rid %d reads %v: cached %d, should be %d", n.rid, lk.Start, v.n, m.expect[lk.Start])
		}
	}
}

// enter and leave check that users of different mounts never exclude each other.
func (m *model) enter(t *testing.T, key format.Key, rid format.Rid, mode format.LockMode) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.users[key] == nil {
		m.users[key] = map[format.Rid]map[format.LockMode]int{}
	}
	if m.users[key][rid] == nil {
		m.users[key][rid] = map[format.LockMode]int{}
	}
	m.users[key][rid][mode]++
	for other, modes := range m.users[key] {
		for om, n := range modes {
			ok := om == mode && mode != format.LockWrite
			if other != rid && n > 0 && !ok {
				t.Errorf("%v: rid %d has %v while rid %d has %v", key, rid, mode, other, om)
			}
		}
	}
}

func (m *model) leave(key format.Key, rid format.Rid, mode format.LockMode) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.users[key][rid][mode]--
}

func (n *node) task(seed uint64, rounds, keys int) {
	rng := rand.New(rand.NewPCG(seed, uint64(n.rid)))
	for range rounds {
		r := lock.InodeGroup(format.Ino(rng.IntN(keys) * format.LockGroup))
		mode := format.LockMode(1 + rng.IntN(3))
		ctx, cancel := context.WithCancel(context.Background())
		if rng.IntN(10) == 0 {
			ctx, cancel = context.WithTimeout(ctx, time.Duration(rng.IntN(300))*time.Microsecond)
		}
		lk, err := n.cl.Acquire(ctx, r, mode)
		cancel()
		if err != nil {
			if !errors.Is(err, syscall.EINTR) {
				n.c.t.Errorf("acquire: %v", err)
			}
			continue
		}
		n.c.model.enter(n.c.t, lk.Start, n.rid, mode)
		n.use(lk, mode)
		time.Sleep(time.Duration(rng.IntN(100)) * time.Microsecond)
		if rng.IntN(8) == 0 {
			n.cl.Again(lk, mode)
			n.cl.Release(lk, mode, 0)
		}
		n.c.model.leave(lk.Start, n.rid, mode)
		var dirtied uint64
		if mode != format.LockRead {
			dirtied = n.trans
		}
		n.cl.Release(lk, mode, dirtied)
		if rng.IntN(4) == 0 {
			time.Sleep(time.Duration(rng.IntN(500)) * time.Microsecond)
		}
	}
}

// settle waits until nothing moves, then checks that nothing is left over.
func (c *cluster) settle() {
	for range 100 {
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range c.nodes {
		if len(n.sent) != 0 {
			c.t.Errorf("rid %d: %d requests were never granted", n.rid, len(n.sent))
		}
	}
	for id, k := range c.tokens {
		if k.answered != k.delivered {
			c.t.Errorf("invalidation %d was never answered", id)
		}
	}
	if s := c.srv.Stats(); s.Ignored != 0 || s.Recovering != 0 {
		c.t.Errorf("server: %+v", s)
	}
}

// end gives everything back and compares what is stored with the truth.
func (c *cluster) end() {
	for _, n := range c.nodes {
		n.cl.PurgeIdle()
	}
	c.settle()
	for _, n := range c.nodes {
		if m := n.cl.Metrics(); m.Locks != 0 || m.Lock != m.Unlock || m.Shrinking != 0 {
			c.t.Errorf("rid %d: left over: %+v", n.rid, m)
		}
		n.cl.Close()
	}
	if s := c.srv.Stats(); s.Locks != 0 {
		c.t.Errorf("server: %+v", s)
	}
	for key, want := range c.model.expect {
		if got := c.model.store[key]; got != want {
			c.t.Errorf("%v: stored %d, should be %d", key, got, want)
		}
	}
	c.mu.Lock()
	c.stop = true
	c.cond.Broadcast()
	c.mu.Unlock()
	<-c.stopped
}

func seeds(t *testing.T, n int) []uint64 {
	if s := os.Getenv("SEED"); s != "" {
		v, err := strconv.ParseUint(s, 0, 64)
		if err != nil {
			t.Fatal(err)
		}
		return []uint64{v}
	}
	out := make([]uint64, n)
	for i := range out {
		out[i] = rand.Uint64()
	}
	return out
}

func runCluster(t *testing.T, seed uint64, failovers int) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, rand.New(rand.NewPCG(seed, 0)), 3)
		var wg sync.WaitGroup
		for _, n := range c.nodes {
			for i := range 4 {
				wg.Go(func() { n.task(seed+uint64(i)<<32, 60, 6) })
			}
		}
		for range failovers {
			time.Sleep(3 * time.Millisecond)
			c.failover()
		}
		wg.Wait()
		c.settle()
		c.end()
	})
}

// TestCluster: random requests of several mounts; exclusion and coherence hold
// always, everybody is served, every invalidation is answered once.
func TestCluster(t *testing.T) {
	for _, seed := range seeds(t, 20) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) { runCluster(t, seed, 0) })
	}
}

// TestClusterFailover does the same while servers come and go.
func TestClusterFailover(t *testing.T) {
	for _, seed := range seeds(t, 20) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) { runCluster(t, seed, 6) })
	}
}
