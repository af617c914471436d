// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package txn_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"scoutfs/btree"
	"scoutfs/format"
	"scoutfs/internal/simdisk"
	"scoutfs/lock"
	"scoutfs/srch"
	"scoutfs/txn"
)

// state is what a volume should contain.
type state struct {
	items  map[format.Key]string      // read under W
	blind  map[format.Key]string      // written under WO
	totals map[format.Key]format.Totl // sums
	inodes int64
	srch   int
}

func newState() *state {
	return &state{items: map[format.Key]string{}, blind: map[format.Key]string{}, totals: map[format.Key]format.Totl{}}
}

func (s *state) clone() *state {
	c := *s
	c.items, c.blind, c.totals = maps.Clone(s.items), maps.Clone(s.blind), maps.Clone(s.totals)
	return &c
}

// world is a mount, what it should contain, and random operations.
type world struct {
	t     testing.TB
	m     *mount
	r     *rand.Rand
	now   *state
	inos  uint64 // inode numbers used are 0..inos, every 8th
	big   bool   // values may be long
	held  map[format.Key]*lock.Lock
	fails func(error) bool
}

// dataIno is the file whose extents the world allocates.
const dataIno = 1 << 20

func newWorld(t testing.TB, m *mount, seed uint64) *world {
	t.Logf("seed %d", seed)
	return &world{t: t, m: m, r: rand.New(rand.NewPCG(seed, 1)), now: newState(), inos: 8000, held: map[format.Key]*lock.Lock{}}
}

// lock returns a lock that the world keeps.
func (w *world) lock(r lock.Range, mode format.LockMode) *lock.Lock {
	w.t.Helper()
	lk := w.held[r.Start]
	if lk == nil {
		lk = w.m.lock(r, mode)
		w.held[r.Start] = lk
	}
	return lk
}

func (w *world) key() format.Key {
	ino := format.Ino(w.r.Uint64N(w.inos/8)*8) + 3
	switch w.r.IntN(3) {
	case 0:
		return format.KeyInode(ino)
	case 1:
		return format.KeyReaddir(ino, w.r.Uint64N(20))
	}
	return format.KeyExtent(ino, w.r.Uint64N(8), 1)
}

func (w *world) val() string {
	n := w.r.IntN(200)
	if w.big && w.r.IntN(4) == 0 {
		n = w.r.IntN(format.MaxValue + 1)
	}
	return fmt.Sprintf("%0*d", n, w.r.Uint32())[:n]
}

// operation does some random changes in one Tx and keeps them, or takes them
// back at random or because of an error. It returns the error.
func (w *world) operation() error {
	w.t.Helper()
	kind := txn.Allocating
	if w.r.IntN(4) == 0 {
		kind = txn.Freeing
	}
	keys := make([]format.Key, 1+w.r.IntN(6))
	for i := range keys {
		keys[i] = w.key()
		w.lock(rangeOf(keys[i]), format.LockWrite)
	}
	w.lock(lock.InodeGroup(dataIno), format.LockWrite)
	index := w.lock(lock.Index(format.TypeMetaSeq, 5000), format.LockWriteOnly)
	totl := w.lock(lock.Totl(), format.LockWriteOnly)
	tx, err := w.m.engine.Begin(ctx, kind)
	if err != nil {
		w.t.Fatal(err)
	}
	defer tx.Undo()
	was := w.now.clone()
	for _, k := range keys {
		if err = w.change(tx, k); err != nil {
			break
		}
	}
	if err == nil && w.r.IntN(3) == 0 {
		err = w.blind(tx, index)
	}
	if err == nil && w.r.IntN(3) == 0 {
		err = w.delta(tx, totl)
	}
	if err == nil && w.r.IntN(3) == 0 {
		err = w.space(tx)
	}
	if err != nil || w.r.IntN(5) == 0 {
		w.now = was
		tx.Undo()
		return err
	}
	tx.Done()
	return nil
}

func (w *world) change(tx *txn.Tx, k format.Key) error {
	lk := w.lock(rangeOf(k), format.LockWrite)
	_, have := w.now.items[k]
	v := w.val()
	var err, want error
	switch w.r.IntN(3) {
	case 0:
		if have {
			want = syscall.EEXIST
		}
		err = tx.Create(lk, &k, []byte(v))
	case 1:
		if !have {
			want = syscall.ENOENT
		}
		err = tx.Update(lk, &k, []byte(v))
	default:
		if !have {
			want = syscall.ENOENT
		}
		v = ""
		err = tx.Delete(lk, &k)
		if err == nil {
			delete(w.now.items, k)
			return nil
		}
	}
	if err != want && err != nil && w.fails != nil && w.fails(err) {
		return err
	}
	if err != want {
		w.t.Fatalf("change %v: %v, want %v", k, err, want)
	}
	if err == nil {
		w.now.items[k] = v
	}
	return nil
}

func (w *world) blind(tx *txn.Tx, lk *lock.Lock) error {
	k := format.KeyMetaSeq(4096+w.r.Uint64N(1024), format.Ino(w.r.Uint64N(4)))
	if w.r.IntN(2) == 0 {
		w.now.blind[k] = ""
		return tx.CreateForce(lk, &k, nil, nil)
	}
	delete(w.now.blind, k)
	return tx.DeleteForce(lk, &k, nil)
}

func (w *world) delta(tx *txn.Tx, lk *lock.Lock) error {
	k := format.KeyTotl(1, 2, w.r.Uint64N(5))
	total, count := uint64(w.r.IntN(100))-50, uint64(w.r.IntN(3))-1
	s := w.now.totals[k]
	s.Total += total
	s.Count += count
	w.now.totals[k] = s
	return tx.Delta(lk, &k, total, count)
}

func (w *world) space(tx *txn.Tx) error {
	tx.AddInodes(1)
	w.now.inodes++
	if err := tx.AddSrch(format.SrchEntry{Hash: w.r.Uint64(), Ino: 1, ID: w.r.Uint64()}); err != nil {
		return err
	}
	w.now.srch++
	for range w.r.IntN(4) {
		if err := w.extent(tx); err != nil {
			return err
		}
	}
	return nil
}

// extent maps new data blocks, or gives up some that are mapped.
func (w *world) extent(tx *txn.Tx) error {
	lk := w.lock(lock.InodeGroup(dataIno), format.LockWrite)
	last := w.r.Uint64N(200) * 5000
	for k, v := range w.now.items {
		if k.First == dataIno && k.Second/5000 == last/5000 {
			x, _ := format.Load[format.Extent]([]byte(v))
			if err := tx.Delete(lk, &k); err != nil {
				return w.noSpace(err)
			}
			delete(w.now.items, k)
			return w.noSpace(tx.FreeData(x.Blkno, k.Third))
		}
	}
	start, n, err := tx.AllocData(1 + w.r.Uint64N(3000))
	if err != nil {
		return w.noSpace(err)
	}
	k, x := format.KeyExtent(dataIno, last+n-1, n), format.Extent{Blkno: start}
	if err := tx.Create(lk, &k, format.Bytes(&x)); err != nil {
		return w.noSpace(err)
	}
	w.now.items[k] = string(format.Bytes(&x))
	return nil
}

func (w *world) noSpace(err error) error {
	if err == nil || err == syscall.ENOBUFS || w.fails != nil && w.fails(err) {
		return err
	}
	w.t.Fatal(err)
	return err
}

// look compares single items and ranges with the model.
func (w *world) look() error {
	w.t.Helper()
	k := w.key()
	lk := w.lock(rangeOf(k), format.LockWrite)
	var buf [format.MaxValue]byte
	n, err := w.m.engine.Lookup(ctx, lk, &k, buf[:])
	if err != nil && w.fails != nil && w.fails(err) {
		return err
	}
	want, ok := w.now.items[k]
	if ok != (err == nil) || !ok && err != syscall.ENOENT || string(buf[:n]) != want {
		w.t.Fatalf("lookup %v: %q %v, want %v %q", k, buf[:n], err, ok, want)
	}
	return w.scan(lk, k, w.r.IntN(50))
}

// scan reads at most max items from k on.
func (w *world) scan(lk *lock.Lock, k format.Key, limit int) error {
	got := map[format.Key]string{}
	from := k
	var buf [format.MaxValue]byte
	for range limit {
		n, err := w.m.engine.Next(ctx, lk, &k, nil, buf[:])
		if err == syscall.ENOENT {
			k = lk.End
			break
		}
		if err != nil && w.fails != nil && w.fails(err) {
			return err
		}
		if err != nil {
			w.t.Fatal(err)
		}
		got[k] = string(buf[:n])
		k = k.Inc()
	}
	if k != lk.End {
		k = k.Dec()
	}
	want := map[format.Key]string{}
	for key, v := range w.now.items {
		if !key.Less(&from) && !k.Less(&key) {
			want[key] = v
		}
	}
	if diff := cmp.Diff(want, got); diff != "" && limit > 0 {
		w.t.Fatalf("items from %v to %v (-want +got):\n%s", from, k, diff)
	}
	return nil
}

// forest is what the log trees of a volume hold, and the counts beside them.
func forest(t testing.TB, s *testServer) *state {
	t.Helper()
	got := newState()
	seqs := map[format.Key]uint64{}
	for _, lt := range s.logTrees(t) {
		got.inodes += int64(lt.InodeCountDelta)
		err := srch.Walk(s.cache, &lt.SrchFile, func(*format.SrchEntry) error { got.srch++; return nil })
		if err != nil {
			t.Fatal(err)
		}
		err = btree.Walk(s.cache, &lt.ItemRoot, &format.Key{}, &format.KeyMax, func(it *btree.Item) error {
			if it.Seq > lt.MaxItemSeq {
				t.Errorf("seq %d of %v is above the tree's %d", it.Seq, it.Key, lt.MaxItemSeq)
			}
			if it.Key.Zone == format.ZoneTotl {
				sum := got.totals[it.Key]
				sum.Total += binary.LittleEndian.Uint64(it.Val)
				sum.Count += binary.LittleEndian.Uint64(it.Val[8:])
				got.totals[it.Key] = sum
				return nil
			}
			if old, ok := seqs[it.Key]; ok && old == it.Seq {
				t.Errorf("two versions of %v have seq %d", it.Key, old)
			} else if old > it.Seq {
				return nil
			}
			seqs[it.Key] = it.Seq
			got.put(it)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return got
}

func (s *state) put(it *btree.Item) {
	m := s.items
	if it.Key.Zone != format.ZoneFS {
		m = s.blind
	}
	if it.Deletion() {
		delete(m, it.Key)
	} else {
		m[it.Key] = string(it.Val)
	}
}

// differs compares states; totals of zero are as good as none.
func (s *state) differs(o *state) string {
	a, b := s.clone(), o.clone()
	for _, m := range []map[format.Key]format.Totl{a.totals, b.totals} {
		maps.DeleteFunc(m, func(_ format.Key, v format.Totl) bool { return v == format.Totl{} })
	}
	return cmp.Diff(a, b, cmp.AllowUnexported(state{}))
}

func (w *world) expectForest(s *testServer) {
	w.t.Helper()
	if diff := w.now.differs(forest(w.t, s)); diff != "" {
		w.t.Fatalf("committed state (-want +got):\n%s", diff)
	}
}

func TestModel(t *testing.T) {
	for _, budget := range []int64{0, 300 << 10} {
		for _, rotate := range []int{0, 3} {
			t.Run(fmt.Sprintf("budget=%d,rotate=%d", budget, rotate), func(t *testing.T) {
				testModel(t, budget, rotate)
			})
		}
	}
}

func testModel(t *testing.T, budget int64, rotate int) {
	c := newCluster(t, newDisks(t))
	if rotate > 0 {
		n := 0
		c.server.rotate = func() bool { n++; return n%rotate == 0 }
	}
	w := newWorld(t, c.mount(options{budget: budget}), rand.Uint64())
	w.big = true
	for i := range 2000 {
		switch {
		case i%200 == 199:
			w.m.sync()
			w.expectForest(c.server)
		case i%500 == 350: // the locks go and come back
			for _, lk := range w.held {
				if err := w.m.engine.Revoke(lk, lk.Mode(), format.LockNull, w.m.engine.Seq()); err != nil {
					t.Fatal(err)
				}
			}
		case i%3 == 0:
			_ = w.look()
		default:
			_ = w.operation()
		}
	}
	if got, limit := w.m.engine.Metrics().ItemBytes, max(budget, 256<<20); budget > 0 && got > limit {
		t.Errorf("%d bytes cached, limit %d", got, limit)
	}
	w.m.close()
	w.expectForest(c.server)
	w.remount(c, 99)
}

// remount reads everything through a new mount.
func (w *world) remount(c *cluster, rid format.Rid) {
	w.t.Helper()
	w.m, w.held = c.mount(options{rid: rid}), map[format.Key]*lock.Lock{}
	for g := uint64(0); g <= w.inos; g += format.LockGroup {
		lk := w.lock(lock.InodeGroup(format.Ino(g)), format.LockRead)
		if err := w.scan(lk, format.KeyInode(max(format.Ino(g), 2)), 1<<20); err != nil {
			w.t.Fatal(err)
		}
	}
	w.m.close()
}

func injected(err error) bool {
	return errors.Is(err, simdisk.ErrInjected) || errors.Is(err, syscall.EIO) || errors.Is(err, errTest)
}

var errTest = errors.New("test")
