// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package sim_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"scoutfs/block"
	"scoutfs/internal/simdisk"
)

// fault is what happens to one I/O.
type fault string

const (
	failed  fault = "failed"  // nothing is done, the error is EIO
	short   fault = "short"   // the first half is done, then EIO
	done    fault = "done"    // all is done, but reported as EIO
	dropped fault = "dropped" // a flush fails and what it should have saved is gone; another I/O fails
	delayed fault = "delayed" // it takes long
)

// injector makes one fault, at I/O number at of both disks.
type injector struct {
	at    int64
	kind  fault
	n     atomic.Int64
	fired atomic.Pointer[string] // what was hit
	lost  atomic.Bool            // file data may be lost
}

// hit counts an I/O and reports whether it is the one.
func (f *injector) hit(what func() string) bool {
	if f.n.Add(1) != f.at {
		return false
	}
	s := what()
	f.fired.Store(&s)
	if f.kind == delayed {
		_ = unix.Nanosleep(&unix.Timespec{Nsec: 3e6}, nil) // real time, while others go on
	}
	return f.kind != delayed
}

// faulty is a disk with a fault.
type faulty struct {
	*simdisk.Disk
	f    *injector
	disk int
}

// Do does one operation after the other.
func (d *faulty) Do(ops []block.Op) (first error) {
	for i := range ops {
		op := &ops[i]
		if op.Err = d.one(op); first == nil {
			first = op.Err
		}
	}
	return first
}

func (d *faulty) one(op *block.Op) error {
	what := func() string {
		return fmt.Sprintf("%s: write %v, %d bytes at %d", d.Name(), op.Write, len(op.Buf), op.Off)
	}
	if !d.f.hit(what) {
		return d.Disk.Do([]block.Op{*op})
	}
	part := *op
	switch d.f.kind {
	case short:
		part.Buf = op.Buf[:len(op.Buf)/2&^(sectorSize-1)]
	case done:
	default:
		part.Buf = nil
	}
	if len(part.Buf) > 0 {
		if err := d.Disk.Do([]block.Op{part}); err != nil {
			return err
		}
	}
	return block.OpError(d.Name(), op, simdisk.ErrInjected)
}

func (d *faulty) Flush() error {
	if !d.f.hit(func() string { return d.Name() + ": flush" }) {
		return d.Disk.Flush()
	}
	switch d.f.kind {
	case done:
		if err := d.Disk.Flush(); err != nil {
			return err
		}
	case dropped:
		d.f.lost.Store(d.disk == dataDisk)
		d.Disk.Drop()
	}
	return fmt.Errorf("block: flush %s: %w", d.Name(), simdisk.ErrInjected)
}

// faultRun is one run of a workload with one fault.
type faultRun struct {
	t      *testing.T
	what   string
	f      *injector
	d      [2]*simdisk.Disk
	w      *workload
	states []snapshot
	synced int  // the newest state that a sync has made durable
	errs   int  // operations that failed
	told   bool // by a sync or another operation that failed
}

func (r *faultRun) fail(f string, args ...any) {
	r.t.Helper()
	hit := "nothing yet"
	if s := r.f.fired.Load(); s != nil {
		hit = *s
	}
	trace := ""
	if r.w != nil {
		trace = r.w.last(len(r.w.trace))
	}
	r.t.Errorf("%s: %s\n  hit %s\n  %s", r.what, fmt.Sprintf(f, args...), hit, trace)
}

// lost reports whether file data may be lost: a flush of the data device
// failed, and a sync has said so.
func (r *faultRun) lost() bool { return r.f.lost.Load() && r.told }

// again calls fn once more if the fault hit it.
func again(fn func() error) error {
	err := fn()
	if isIO(err) {
		err = fn()
	}
	return err
}

// run does everything. It returns how many I/Os there were.
func (r *faultRun) run(base [2]*simdisk.Disk, steps int, seed uint64) int64 {
	r.d = [2]*simdisk.Disk{base[0].Clone(), base[1].Clone()}
	rng := rand.New(rand.NewPCG(seed, 7))
	n, err := startNode(r.t, disks{&faulty{r.d[0], r.f, metaDisk}, &faulty{r.d[1], r.f, dataDisk}}, rng)
	if err != nil {
		if !isIO(err) || r.f.fired.Load() == nil {
			r.fail("start: %v", err)
		}
		r.restart(nil)
		return r.f.n.Load()
	}
	if r.work(n, steps, rng) && r.end(n) {
		r.states, r.synced = r.states[len(r.states)-1:], 0
		checkDisks(r.t, r.what+": at the end", disks{r.d[0], r.d[1]})
	} else {
		r.died(n)
	}
	r.restart(r.states)
	return r.f.n.Load()
}

// work runs the operations. ok is false if the node ended.
func (r *faultRun) work(n *node, steps int, rng *rand.Rand) (ok bool) {
	var err error
	if err = again(func() error { r.w, err = newWorkload(n, rng); return err }); err != nil {
		if n.alive() {
			r.fail("read everything at the start: %v", err)
		}
		return false
	}
	r.states = []snapshot{r.w.m.snap()}
	for i := range steps {
		sync, err := r.w.step()
		if i == steps-1 && err == nil {
			sync, err = true, r.sync(n)
		}
		if !n.alive() {
			r.states = append(r.states, r.w.m.snap()) // perhaps
			return false
		}
		if err != nil && !r.excuse(err) {
			return true
		}
		r.states = append(r.states, r.w.m.snap())
		if sync && err == nil {
			r.synced = len(r.states) - 1
		}
	}
	if err := again(r.w.verify); err != nil && n.alive() && !r.lost() {
		r.fail("at the end: %v", err)
	}
	return n.alive()
}

// sync is a sync that is repeated if it fails.
func (r *faultRun) sync(n *node) error {
	return again(func() error {
		err := n.v().Fsync(root, 1)
		r.told = r.told || isIO(err)
		return err
	})
}

// excuse looks at a failed operation. Only the fault can be the reason, and only data of the
// file may have changed.
func (r *faultRun) excuse(err error) bool {
	r.errs++
	r.told = true
	if !isIO(err) || r.f.fired.Load() == nil || r.errs > 2 {
		r.fail("operation: %v", err)
		return false
	}
	synctest.Wait()
	if n := r.w.part; n != nil {
		if err := r.adopt(n); err != nil {
			r.fail("after the operation failed: %v", err)
			return false
		}
	} else if err := r.w.note(); err != nil {
		r.fail("after the operation failed: %v", err)
		return false
	}
	if err := r.w.verify(); err != nil && !r.lost() {
		r.fail("after the operation failed (%v): %v", r.errs, err)
		return false
	}
	return true
}

// adopt takes over a file that an operation may have changed in part: its
// size is the old or the new one or between, and before the place where the
// operation began it is as before.
func (r *faultRun) adopt(n *inode) error {
	s, err := readState(r.w.n.v(), n.attr.Ino)
	if err != nil {
		return err
	}
	same := min(len(n.data), len(s.data))
	for same > 0 && !bytes.Equal(s.data[:same], n.data[:same]) {
		same -= min(same, sectorSize) // the rest may be new, or zeroed
	}
	if s.attr.Nlink != n.attr.Nlink || s.attr.Mode != n.attr.Mode || s.attr.UID != n.attr.UID {
		return fmt.Errorf("inode %d has other attributes: %+v, had %+v", s.attr.Ino, s.attr, n.attr)
	}
	n.change(func(old *state) { old.attr, old.data = s.attr, s.data })
	return nil
}

// end unmounts. ok is false if the node ended before.
func (r *faultRun) end(n *node) (ok bool) {
	r.w.forgetAll()
	r.states = append(r.states, r.w.m.snap())
	err := n.close()
	if err != nil && n.alive() {
		r.fail("unmount: %v", err)
	}
	return err == nil
}

// died takes down a node that ended by itself, which it must have a reason for.
func (r *faultRun) died(n *node) {
	if n.alive() {
		n.kill()
		return
	}
	if err := n.srv.Err(); err == nil || !isIO(err) {
		r.fail("the node ended without a reason: %v", err)
	}
	n.kill()
}

// restart starts a node without a fault on what is there, and compares.
func (r *faultRun) restart(states []snapshot) {
	checkDisks(r.t, r.what+": before the restart", disks{r.d[0], r.d[1]})
	n, err := startNode(r.t, disks{r.d[0], r.d[1]}, rand.New(rand.NewPCG(1, 1)))
	if err != nil {
		r.fail("restart: %v", err)
		return
	}
	for end := time.Now().Add(5 * time.Minute); !n.settled() && n.alive() && time.Now().Before(end); {
		time.Sleep(100 * time.Millisecond)
	}
	got, err := readVolume(n.v())
	if err != nil {
		r.fail("read everything after the restart: %v", err)
	} else if d := r.match(got, states); d != "" && !r.lost() {
		r.fail("after the restart: %s", d)
	}
	useNode(r.t, n, r.what+": after the restart")
	if err := n.close(); err != nil {
		r.fail("unmount after the restart: %v", err)
	}
	checkDisks(r.t, r.what+": after the restart", disks{r.d[0], r.d[1]})
}

func (r *faultRun) match(got snapshot, states []snapshot) (d string) {
	for k := len(states) - 1; k >= r.synced; k-- {
		if d = compare(got, states, k, len(states)-1); d == "" {
			return ""
		}
	}
	return d
}

// crashed makes a volume with something in it and a mount that died.
func crashed(t *testing.T, seed uint64, filled, steps int) (base [2]*simdisk.Disk) {
	t.Helper()
	base = newDisks(t)
	fill(t, base, filled)
	rng := rand.New(rand.NewPCG(seed, 3))
	n, err := startNode(t, disks{base[0], base[1]}, rng)
	if err != nil {
		t.Fatal(err)
	}
	w, err := newWorkload(n, rng)
	if err != nil {
		t.Fatal(err)
	}
	for range steps {
		if _, err := w.step(); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.v().Fsync(root, 1); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if _, err := w.step(); err != nil {
			t.Fatal(err)
		}
	}
	img := [2]*simdisk.Disk{base[0].Crash(rng, 50), base[1].Crash(rng, 50)}
	n.kill()
	return img
}

// TestEveryIO fails, shortens, delays and drops every read, write and flush of a
// recovery, a workload and an unmount once. The short form takes some of them.
func TestEveryIO(t *testing.T) {
	steps := stepsOf(t, 40, 70)
	only := int64(number(t, "IO", 0))
	for _, seed := range seeds(t, 1, 2) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			var base [2]*simdisk.Disk
			var total int64
			synctest.Test(t, func(t *testing.T) {
				base = crashed(t, seed, int(seed%2)*20, 60)
				r := &faultRun{t: t, what: "without a fault", f: &injector{}}
				total = r.run(base, steps, seed)
			})
			stride := int64(1)
			if !*campaign {
				stride = max(1, total/int64(few(25)))
			}
			runs, missed := 0, 0
			for at := int64(1); at <= total && !t.Failed(); at++ {
				if only != 0 && at != only || only == 0 && at%stride != 0 {
					continue
				}
				for _, kind := range []fault{failed, short, done, dropped, delayed} {
					r := &faultRun{f: &injector{at: at, kind: kind}, what: fmt.Sprintf("repeat with SEED=%d STEPS=%d IO=%d: %s", seed, steps, at, kind)}
					synctest.Test(t, func(t *testing.T) {
						r.t = t
						r.run(base, steps, seed)
					})
					if r.f.fired.Load() == nil {
						missed++
					}
					if runs++; runs%50 == 0 {
						runtime.GC() // gives back what caches hold outside of the heap
					}
				}
			}
			t.Logf("campaign: every I/O: seed %d, %d operations, %d I/Os, %d runs, %d without a fault", seed, steps, total, runs, missed)
		})
	}
}
