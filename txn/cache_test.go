// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package txn

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"scoutfs/format"
)

func randKey(r *rand.Rand) format.Key {
	return format.Key{
		Zone: uint8(r.Uint32()), First: r.Uint64() >> (r.Uint32() % 64), Type: uint8(r.Uint32()),
		Second: r.Uint64() << (r.Uint32() % 64), Third: r.Uint64(), Fourth: uint8(r.Uint32()),
	}
}

func TestPackedKeys(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	edge := []format.Key{{}, format.KeyMax, {Fourth: 255}, {Third: ^uint64(0), Fourth: 255}, {Type: 255, Second: ^uint64(0), Third: ^uint64(0), Fourth: 255}}
	for i := range 20000 {
		x, y := randKey(r), randKey(r)
		if i < len(edge) {
			x = edge[i]
		}
		if i%3 == 0 {
			y = x
			y.Third ^= 1 << (r.Uint32() % 64)
		}
		px, py := packKey(&x), packKey(&y)
		if px.unpack() != x {
			t.Fatalf("%v unpacks as %v", x, px.unpack())
		}
		if got, want := px.compare(&py), x.Compare(&y); got != want {
			t.Fatalf("compare %v %v: %d, want %d", x, y, got, want)
		}
		up, down := px.inc(), px.dec()
		if up.unpack() != x.Inc() || down.unpack() != x.Dec() {
			t.Fatalf("neighbours of %v: %v %v", x, down.unpack(), up.unpack())
		}
	}
}

// model is a map with the cache's rules, and the trees below it.
type model struct {
	t     *testing.T
	r     *rand.Rand
	c     *itemCache
	tree  map[uint64]string // committed
	now   map[uint64]string // as users see it
	seq   uint64
	space uint64
}

func newModel(t *testing.T, seed, space uint64, budget int64) *model {
	t.Logf("seed %d", seed)
	m := &model{
		t: t, r: rand.New(rand.NewPCG(seed, 0)), c: &itemCache{budget: budget},
		tree: map[uint64]string{}, now: map[uint64]string{}, space: space,
	}
	for range space / 4 {
		m.tree[m.key()] = m.val()
	}
	m.now = maps.Clone(m.tree)
	return m
}

func (m *model) key() uint64 { return m.r.Uint64N(m.space) }

func (m *model) val() string {
	n := m.r.IntN(100)
	if m.r.IntN(20) == 0 {
		n = m.r.IntN(format.MaxValue + 1)
	}
	return string(fmt.Appendf(nil, "%0*d", n, m.r.Uint32())[:n])
}

func mkey(n uint64) pkey { k := format.KeyInode(format.Ino(n)); return packKey(&k) }

func unmkey(k pkey) uint64 { return k.unpack().First }

// load reads a random range around n from the tree.
func (m *model) load(n uint64) {
	lo := n - min(n, m.r.Uint64N(300))
	hi := n + m.r.Uint64N(300)
	var items []item
	for k := lo; k <= hi; k++ {
		if v, ok := m.tree[k]; ok {
			items = append(items, item{key: mkey(k), seq: 1, val: []byte(v)})
		}
	}
	from, to := mkey(lo), mkey(hi+1).dec()
	if !m.c.addRange(from, to, items, m.c.barrier.Load()) {
		m.t.Fatal("barrier")
	}
}

func (m *model) change(o op, n uint64, val string, u *undoLog) outcome {
	m.seq++
	it := item{key: mkey(n), seq: m.seq, val: []byte(val)}
	for {
		switch res := m.c.change(o, it, u); res {
		case missing:
			m.load(n)
		case full:
			m.c.split(&it.key)
		default:
			m.c.shrink()
			return res
		}
	}
}

// step does one random change in cache and model and compares the results.
func (m *model) step(u *undoLog) {
	n, v := m.key(), m.val()
	_, have := m.now[n]
	o := []op{opCreate, opUpdate, opDelete, opForce, opDeleteForce}[m.r.IntN(5)]
	want := done
	switch {
	case o == opCreate && have:
		want = exists
	case (o == opUpdate || o == opDelete) && !have:
		want = notFound
	case o == opDelete || o == opDeleteForce:
		delete(m.now, n)
	default:
		m.now[n] = v
	}
	if got := m.change(o, n, v, u); got != want {
		m.t.Fatalf("op %d of %d: %d, want %d", o, n, got, want)
	}
}

func (m *model) lookup(n uint64) {
	buf := make([]byte, format.MaxValue)
	k := mkey(n)
	for {
		size, res := m.c.lookup(&k, buf)
		if res == missing {
			m.load(n)
			continue
		}
		v, ok := m.now[n]
		if ok != (res == done) || ok && string(buf[:size]) != v {
			m.t.Fatalf("lookup %d: %d %q, want %v %q", n, res, buf[:size], ok, v)
		}
		return
	}
}

func (m *model) next(n uint64) {
	last := n + m.r.Uint64N(40)
	want := uint64(0)
	for k := n; k <= last; k++ {
		if _, ok := m.now[k]; ok {
			want = k
			break
		}
	}
	buf := make([]byte, format.MaxValue)
	k := mkey(n)
	for {
		size, res := m.c.next(&k, mkey(last), buf)
		switch res {
		case missing:
			m.load(unmkey(k))
			continue
		case notFound:
			if _, ok := m.now[want]; ok && want >= n {
				m.t.Fatalf("next %d..%d: none, want %d", n, last, want)
			}
		default:
			if got := unmkey(k); got != want || string(buf[:size]) != m.now[want] {
				m.t.Fatalf("next %d..%d: %d, want %d", n, last, got, want)
			}
		}
		return
	}
}

// commit writes what is dirty to the tree.
func (m *model) commit() {
	next := m.c.dirtyItems()
	prev := pkey{}
	for it, ok := next(); ok; it, ok = next() {
		if !prev.less(&it.key) {
			m.t.Fatal("dirty items out of order")
		}
		prev = it.key
		if it.flags&itemDeletion != 0 {
			delete(m.tree, unmkey(it.key))
		} else {
			m.tree[unmkey(it.key)] = string(it.val)
		}
	}
	m.c.clean()
	if diff := cmp.Diff(m.now, m.tree); diff != "" {
		m.t.Fatalf("tree after commit (-want +got):\n%s", diff)
	}
	m.check()
}

// check compares the sums that the cache keeps with what it holds.
func (m *model) check() {
	var bytes, dirty, dirtyBytes int64
	var prev *page
	m.c.idx.each(func(p *page) {
		if prev != nil && !prev.end.less(&p.start) || p.end.less(&p.start) {
			m.t.Fatalf("ranges overlap at %v", p.start)
		}
		prev = p
		bytes += int64(len(p.buf) + pageOverhead)
		n, size, live := 0, 0, 0
		for i := range p.n {
			it := p.at(i)
			if it.key.less(&p.start) || p.end.less(&it.key) || i > 0 && p.search2(i-1, &it.key) {
				m.t.Fatal("item out of place")
			}
			live += p.sizeAt(i)
			if it.flags&itemDirty != 0 {
				n++
				size += p.sizeAt(i)
			}
		}
		if n != p.dirty || size != p.bytes || live != p.live || (n > 0) != (p.dirtyIdx >= 0) {
			m.t.Fatalf("page sums: %d %d %d, want %d %d %d", p.dirty, p.bytes, p.live, n, size, live)
		}
		if n > 0 {
			dirty++
		}
		dirtyBytes += int64(size)
	})
	got := []int64{m.c.bytes.Load(), m.c.dirtyNr.Load(), m.c.dirtyBytes.Load()}
	if diff := cmp.Diff([]int64{bytes, dirty, dirtyBytes}, got); diff != "" {
		m.t.Fatalf("sums of the cache (-want +got):\n%s", diff)
	}
}

// search2 reports whether item i is not below k.
func (p *page) search2(i int, k *pkey) bool { prev := p.keyAt(i); return !prev.less(k) }

func (x *index) each(fn func(*page)) {
	for _, c := range x.chunks {
		for i, p := range c.pages {
			if c.starts[i] != p.start {
				panic("index out of step")
			}
			fn(p)
		}
	}
}

func TestCacheModel(t *testing.T) {
	for _, budget := range []int64{1 << 30, 256 << 10, 20 << 10} {
		t.Run(fmt.Sprint("budget=", budget), func(t *testing.T) {
			m := newModel(t, rand.Uint64(), 20000, budget)
			for i := range 15000 {
				switch m.r.IntN(10) {
				case 0, 1, 2:
					m.lookup(m.key())
				case 3, 4:
					m.next(m.key())
				case 5:
					m.undone()
				default:
					m.step(&undoLog{})
				}
				if i%1500 == 0 {
					m.check()
					m.commit()
				}
			}
			m.commit()
			m.c.shrink()
			if got := m.c.bytes.Load(); got > max(budget, minClean) {
				t.Errorf("%d bytes cached, budget %d", got, budget)
			}
			m.c.drop(pkeyMin, pkeyMax)
			m.check()
			if m.c.idx.nr != 0 {
				t.Errorf("%d pages left", m.c.idx.nr)
			}
		})
	}
}

// undone does some changes and takes them back.
func (m *model) undone() {
	was := maps.Clone(m.now)
	var u undoLog
	for range 1 + m.r.IntN(12) {
		m.step(&u)
	}
	m.c.undo(&u)
	m.now = was
}

func TestDeltas(t *testing.T) {
	c := &itemCache{budget: 1 << 20}
	k := format.KeyTotl(1, 2, 3)
	pk := packKey(&k)
	c.addEmpty(&pk, pkeyMin, pkeyMax)
	add := func(total, count byte, u *undoLog) {
		v := make([]byte, 16)
		v[0], v[8] = total, count
		if res := c.change(opDelta, item{key: pk, seq: 7, val: v}, u); res != done {
			t.Fatal(res)
		}
	}
	var keep, back undoLog
	add(5, 1, &keep)
	add(7, 1, &back)
	add(9, 1, &keep)
	c.undo(&back)
	it, ok := c.dirtyItems()()
	if !ok || it.val[0] != 14 || it.val[8] != 2 || it.flags != itemDirty|itemDelta {
		t.Errorf("delta %v %+v", ok, it)
	}
	if res := c.change(opForce, item{key: pk.inc()}, &keep); res != done {
		t.Fatal(res)
	}
	if res := c.change(opDelta, item{key: pk.inc(), val: make([]byte, 16)}, &keep); res != mixed {
		t.Errorf("delta on another item: %d", res)
	}
	c.clean()
	buf := make([]byte, 16)
	if _, res := c.lookup(&pk, buf); res != notFound {
		t.Errorf("delta is there after its commit: %d", res)
	}
}

func TestBarrier(t *testing.T) {
	c := &itemCache{budget: 1 << 20}
	old := c.barrier.Load()
	c.clean()
	if c.addRange(pkeyMin, pkeyMax, nil, old) {
		t.Error("range of old roots was added")
	}
	if !c.addRange(pkeyMin, pkeyMax, nil, c.barrier.Load()) {
		t.Error("range was refused")
	}
}

func BenchmarkCacheLookup(b *testing.B) {
	c := &itemCache{budget: 1 << 30}
	fillCache(c, 1000000)
	buf := make([]byte, 168)
	r := rand.New(rand.NewPCG(1, 1))
	keys := make([]pkey, 4096)
	for i := range keys {
		keys[i] = mkey(r.Uint64N(1000000))
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, res := c.lookup(&keys[i%len(keys)], buf); res != done {
			b.Fatal(res)
		}
	}
}

func fillCache(c *itemCache, n uint64) {
	if c.idx.nr == 0 {
		c.addEmpty(&pkeyMin, pkeyMin, pkeyMax)
	}
	it := item{val: make([]byte, 168)}
	var u undoLog
	for i := range n {
		it.key = mkey(i)
		for c.change(opCreate, it, &u) == full {
			c.split(&it.key)
		}
		u.b = u.b[:0]
	}
}

func BenchmarkCacheCreate(b *testing.B) {
	for _, order := range []string{"ascending", "random"} {
		b.Run("order="+order, func(b *testing.B) {
			c := &itemCache{budget: 1 << 30}
			c.addEmpty(&pkeyMin, pkeyMin, pkeyMax)
			r := rand.New(rand.NewPCG(1, 1))
			it := item{val: make([]byte, 60)}
			var u undoLog
			b.ReportAllocs()
			for i := uint64(0); b.Loop(); i++ {
				it.key = mkey(i)
				if order == "random" {
					it.key = mkey(r.Uint64() >> 20)
				}
				for c.change(opCreate, it, &u) == full {
					c.split(&it.key)
				}
				u.b = u.b[:0]
			}
			b.ReportMetric(float64(c.bytes.Load())/float64(b.N), "B/item")
		})
	}
}
