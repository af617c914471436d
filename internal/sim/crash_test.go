// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package sim_test

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"scoutfs/check"
	"scoutfs/internal/invariants"
	"scoutfs/internal/simdisk"
)

var campaign = flag.Bool("campaign", false, "run the long form: every cut, several seeds")

// number is an environment variable, or a default.
func number(t testing.TB, name string, other uint64) uint64 {
	t.Helper()
	s := os.Getenv(name)
	if s == "" {
		return other
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// seeds returns the seeds to run: SEED alone, or RUNS new ones.
func seeds(t testing.TB, short, long uint64) (list []uint64) {
	t.Helper()
	if s := number(t, "SEED", 0); s != 0 {
		return []uint64{s}
	}
	runs := short
	if *campaign {
		runs = long
	}
	for range number(t, "RUNS", runs) {
		list = append(list, 1+rand.Uint64N(1_000_000))
	}
	return list
}

// few is how many cases a short form runs: less where everything is slow.
func few(n int) int {
	if invariants.Enabled {
		return n / 3
	}
	return n
}

// stepsOf is how many operations a workload has.
func stepsOf(t testing.TB, short, long uint64) int {
	t.Helper()
	if *campaign {
		short = long
	}
	return int(number(t, "STEPS", short))
}

// history is what a workload did and when.
type history struct {
	base   [2]*simdisk.Disk
	events []event
	states []snapshot // states[k] is after operation k
	began  []int      // began[k] is how many events there were before operation k
	synced []int      // synced[k] is how many there were when sync k returned; -1: k is no sync
	trace  *workload
}

// perform runs a workload from a seed and records it.
func perform(t *testing.T, seed uint64, steps int) *history {
	t.Helper()
	h := &history{base: newDisks(t)}
	switch seed % 3 {
	case 1:
		fill(t, h.base, 40)
	case 2:
		h.base = sizedDisks(t, diskSize, wornData)
		wear(t, h.base)
	}
	work := [2]*simdisk.Disk{h.base[0].Clone(), h.base[1].Clone()}
	tape, d := record(work)
	rng := rand.New(rand.NewPCG(seed, 0))
	n, err := startNode(t, d, rng)
	if err != nil {
		t.Fatal(err)
	}
	w, err := newWorkload(n, rng)
	if err != nil {
		t.Fatal(err)
	}
	h.trace = w
	h.states, h.began, h.synced = []snapshot{w.m.snap()}, []int{0}, []int{0}
	for range steps {
		h.began = append(h.began, tape.pos())
		sync, err := w.step()
		if err != nil {
			t.Fatalf("seed %d: %v\n  %s", seed, err, w.last(len(w.trace)))
		}
		h.states = append(h.states, w.m.snap())
		at := -1
		if sync {
			at = tape.pos()
		}
		h.synced = append(h.synced, at)
	}
	if err := w.verify(); err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
	h.began = append(h.began, tape.pos()) // an operation that changes nothing that has a name: the unmount
	w.forgetAll()
	if err := n.close(); err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
	h.states, h.synced = append(h.states, w.m.snap()), append(h.synced, tape.pos())
	h.events = tape.events
	checkDisks(t, fmt.Sprintf("seed %d: after the workload", seed), disks{work[0], work[1]})
	return h
}

// fill makes files with many xattrs, so that trees have several blocks.
func fill(t *testing.T, d [2]*simdisk.Disk, files int) {
	t.Helper()
	n, err := startNode(t, disks{d[0], d[1]}, rand.New(rand.NewPCG(1, 2)))
	if err != nil {
		t.Fatal(err)
	}
	for i := range files {
		a, err := n.v().Create(root, 1, fmt.Sprint("filled", i), 0o600)
		for j := range 12 {
			if err == nil {
				err = n.v().Setxattr(root, a.Ino, fmt.Sprint("user.filled", j), make([]byte, 600), 0)
			}
		}
		if err == nil {
			_, _, err = n.v().Write(root, a.Ino, int64(i)<<12, make([]byte, 100), 0)
		}
		if err != nil {
			t.Fatal(err)
		}
		n.v().Forget(a.Ino, 1)
	}
	if err := n.close(); err != nil {
		t.Fatal(err)
	}
}

// wornData is the size of a data device that a workload uses up again and
// again, so that blocks are reused soon.
const wornData = 96 << 20

// wear writes and deletes more than the data device holds.
func wear(t *testing.T, d [2]*simdisk.Disk) {
	t.Helper()
	n, err := startNode(t, disks{d[0], d[1]}, rand.New(rand.NewPCG(1, 3)))
	if err != nil {
		t.Fatal(err)
	}
	data := bytes.Repeat([]byte{0xee}, 256<<10)
	for i := range wornData / len(data) * 5 / 4 {
		a, err := n.v().Create(root, 1, "worn", 0o600)
		if err == nil {
			_, _, err = n.v().Write(root, a.Ino, 0, data, 0)
		}
		if err == nil {
			err = n.v().Unlink(root, 1, "worn")
		}
		if err != nil {
			t.Fatal(err)
		}
		n.v().Forget(a.Ino, 1)
		synctest.Wait()
		if i%8 == 0 {
			if err := n.v().Fsync(root, 1); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := n.close(); err != nil {
		t.Fatal(err)
	}
}

// window is which states may be found after a cut.
func (h *history) window(cut int) (first, last int) {
	for k := range h.states {
		if h.synced[k] >= 0 && h.synced[k] <= cut {
			first = k
		}
		if h.began[k] < cut {
			last = k
		}
	}
	return first, max(first, last)
}

// checkDisks runs the checker. A log tree whose mount is gone is normal after
// a crash, a leak is not.
func checkDisks(t testing.TB, what string, d disks) {
	t.Helper()
	r, err := check.Run(context.Background(), d[0], d[1], check.Options{})
	if err != nil {
		t.Errorf("%s: check: %v", what, err)
		return
	}
	for i, f := range r.Findings {
		if f.Severity != check.Oddity && f.Rule != 23 && i < 20 {
			t.Errorf("%s: check: %v", what, f)
		}
	}
}

// recover starts a node on what a power cut left and compares everything. It
// ends the node in the middle of its recovery instead if again says so, and does the
// same once more with what is left then.
func recoverFrom(t *testing.T, h *history, img [2]*simdisk.Disk, what string, cut int, rng *rand.Rand, again bool) {
	t.Helper()
	checkDisks(t, what+": before recovery", disks{img[0], img[1]})
	base := [2]*simdisk.Disk{img[0].Clone(), img[1].Clone()}
	tape, d := record(img)
	n, err := startNode(t, d, rng)
	if err != nil {
		t.Errorf("%s: %v", what, err)
		return
	}
	for end := time.Now().Add(5 * time.Minute); !n.settled() && n.alive() && time.Now().Before(end); {
		time.Sleep(100 * time.Millisecond)
	}
	if !n.settled() || !n.alive() {
		t.Errorf("%s: dead mounts are not reclaimed: %v", what, n.srv.Err())
	}
	h.find(t, n, what, cut)
	recovered := tape.pos()
	useNode(t, n, what)
	if err := n.close(); err != nil {
		t.Errorf("%s: %v", what, err)
	}
	checkDisks(t, what+": at the end", disks{img[0], img[1]})
	if again && recovered > 0 && !t.Failed() {
		p := newPlayer(t, base, tape.events)
		second := rng.IntN(recovered + 1)
		p.seek(second)
		recoverFrom(t, h, p.cut(rng), fmt.Sprintf("%s: cut again at %d of its recovery", what, second), cut, rng, false)
	}
}

// find looks for the state that the volume is in.
func (h *history) find(t *testing.T, n *node, what string, cut int) {
	t.Helper()
	got, err := readVolume(n.v())
	if err != nil {
		t.Errorf("%s: read everything: %v", what, err)
		return
	}
	first, last := h.window(cut)
	var diffs string
	for k := last; k >= first; k-- {
		d := compare(got, h.states, k, last)
		if d == "" {
			return
		}
		if k == last || k == first {
			diffs += fmt.Sprintf("\n  not as after operation %d: %s", k, d)
		}
	}
	t.Errorf("%s: the volume is in no state between operations %d, which was synced, and %d:%s\noperations:\n  %s", what, first, last, diffs, h.trace.last(last))
}

// useNode makes sure that the node works and that what nobody can reach goes away.
func useNode(t *testing.T, n *node, what string) {
	t.Helper()
	v := n.v()
	if err := v.ScanOrphans(context.Background()); err != nil {
		t.Errorf("%s: scan for orphans: %v", what, err)
	}
	a, err := v.Create(root, 1, "after the crash", 0o600)
	if err == nil {
		_, _, err = v.Write(root, a.Ino, 0, []byte("works"), 0)
	}
	if err == nil {
		err = v.Fsync(root, a.Ino)
	}
	if err == nil {
		err = v.Unlink(root, 1, "after the crash")
	}
	if err == nil {
		v.Forget(a.Ino, 1)
		err = v.Fsync(root, 1)
	}
	if err != nil {
		t.Errorf("%s: the node does not work: %v", what, err)
	}
}

// TestPowerCut cuts the power during a workload. The short form takes some of the
// cuts, the long form every one.
func TestPowerCut(t *testing.T) {
	steps := stepsOf(t, 150, 400)
	only := number(t, "CUT", ^uint64(0))
	for _, seed := range seeds(t, 1, 3) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			var h *history
			if !t.Run("workload", func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { h = perform(t, seed, steps) })
			}) {
				return
			}
			stride := 1
			if !*campaign {
				stride = max(1, len(h.events)/few(40))
			}
			p := newPlayer(t, h.base, h.events)
			cuts := 0
			for cut := range len(h.events) + 1 {
				p.seek(cut)
				if only != ^uint64(0) && uint64(cut) != only || only == ^uint64(0) && cut%stride != 0 {
					continue
				}
				rng := rand.New(rand.NewPCG(seed, uint64(cut)+1))
				img := p.cut(rng)
				what := fmt.Sprintf("repeat with SEED=%d STEPS=%d CUT=%d", seed, steps, cut)
				synctest.Test(t, func(t *testing.T) { recoverFrom(t, h, img, what, cut, rng, rng.IntN(4) == 0) })
				if cuts++; cuts%50 == 0 {
					runtime.GC() // gives back what caches hold outside of the heap
				}
				if t.Failed() {
					break
				}
			}
			t.Logf("campaign: power cut: seed %d, %d operations, %d writes and flushes, %d cuts", seed, steps, len(h.events), cuts)
		})
	}
}
