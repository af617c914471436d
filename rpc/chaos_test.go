// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package rpc_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"scoutfs/format"
	"scoutfs/rpc"
)

// TestChaos: several clients, connections that break anywhere, servers that
// replace each other. On one server each request is processed once, each call
// gets its own answer once, and no client that comes back is lost.
func TestChaos(t *testing.T) {
	n := 10
	first := rand.Uint64()
	if s := os.Getenv("SEED"); s != "" {
		first, _ = strconv.ParseUint(s, 0, 64)
		n = 1
	}
	for i := range n {
		seed := first + uint64(i)
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { chaos(t, seed) })
		})
	}
}

// chaosRun is what the parts of one run share.
type chaosRun struct {
	t    *testing.T
	nets *network
	ev   events

	mu   sync.Mutex
	rng  *rand.Rand
	calm bool // connections do not break any more
}

func (r *chaosRun) wrap(c net.Conn) net.Conn {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.calm || r.rng.IntN(4) == 0 {
		return c
	}
	return &cutConn{Conn: c, read: r.rng.IntN(4000), write: r.rng.IntN(4000)}
}

// server starts one that answers after a while and expects no request twice.
func (r *chaosRun) server(term uint64) *rpc.Server {
	handled := map[string]bool{}
	o := r.ev.options(r.nets.listen(), term)
	o.Handle[format.CmdGetVolopt] = func(ctx context.Context, rid format.Rid, id uint64, req []byte, reply func([]byte, error)) {
		r.mu.Lock()
		k := fmt.Sprint(rid, string(req))
		if handled[k] {
			r.t.Errorf("rid %d request %s processed twice", rid, req)
		}
		handled[k] = true
		pause := time.Duration(r.rng.IntN(30)) * time.Millisecond
		r.mu.Unlock()
		go func() {
			time.Sleep(pause)
			reply(append([]byte("re:"), req...), nil)
		}()
	}
	return rpc.NewServer(o)
}

// client starts one whose tasks make calls.
func (r *chaosRun) client(rid format.Rid, wg *sync.WaitGroup) *rpc.Client {
	seen := map[string]bool{}
	c := newClient(r.nets, rid, map[format.NetCmd]rpc.Handler{
		format.CmdOpenInoMap: func(_ uint64, req []byte, reply func([]byte, error)) {
			r.mu.Lock()
			if seen[string(req)] {
				r.t.Errorf("rid %d: request %s of the server processed twice", rid, req)
			}
			seen[string(req)] = true
			r.mu.Unlock()
			reply(append([]byte("cl:"), req...), nil)
		},
	})
	for task := range 3 {
		wg.Go(func() {
			for i := range 60 {
				req := fmt.Sprintf("%d/%d/%d", rid, task, i)
				want(r.t, "call", call(r.t, c, format.CmdGetVolopt, req), "re:"+req)
			}
		})
	}
	return c
}

// ask sends requests to all clients for a while, then closes the server, and
// waits until each has its answer or an error.
func (r *chaosRun) ask(s *rpc.Server, term uint64) {
	var answers sync.WaitGroup
	for i := range 100 {
		for rid := format.Rid(1); rid <= 3; rid++ {
			req := fmt.Sprintf("s%d/%d/%d", term, rid, i)
			answers.Add(1)
			err := s.Send(rid, format.CmdOpenInoMap, []byte(req), func(resp []byte, err error) {
				defer answers.Done()
				if err == nil && string(resp) != "cl:"+req || err != nil && !errors.Is(err, syscall.ECONNABORTED) {
					r.t.Errorf("request %s answered %s, %v", req, resp, err)
				}
			})
			if err != nil {
				answers.Done()
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	s.Close()
	answers.Wait()
}

func chaos(t *testing.T, seed uint64) {
	r := &chaosRun{t: t, nets: &network{}, rng: rand.New(rand.NewPCG(seed, 1))}
	r.nets.setWrap(r.wrap)
	s := r.server(1)
	var wg sync.WaitGroup
	var clients []*rpc.Client
	for rid := format.Rid(1); rid <= 3; rid++ {
		clients = append(clients, r.client(rid, &wg))
	}
	for term := uint64(1); term < 5; term++ {
		r.ask(s, term)
		s = r.server(term + 1)
	}
	r.mu.Lock()
	r.calm = true
	r.mu.Unlock()
	wg.Wait()
	for _, c := range clients {
		c.Close()
	}
	s.Close()
	if e := r.ev.take(); strings.Contains(e, "lost") {
		t.Error(e)
	}
}
