// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package volume_test

import (
	"flag"
	"math/rand/v2"
	"testing"

	"scoutfs/volume"
)

var (
	seedFlag  = flag.Uint64("seed", 0, "seed of random tests, 0: a new one")
	stepsFlag = flag.Int("steps", 3000, "operations of random tests")
)

// newRand returns a generator whose seed the log shows.
func newRand(t *testing.T) *rand.Rand {
	t.Helper()
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// TestAgainstModel runs random operations with remounts, and with so small an
// item cache that most reads go to the trees.
func TestAgainstModel(t *testing.T) {
	for name, opts := range map[string]mountOptions{"cached": {}, "uncached": {budget: 1 << 18}, "version1": {}} {
		t.Run(name, func(t *testing.T) {
			vers := uint64(2)
			if name == "version1" {
				vers = 1
			}
			w := newWorld(t, vers)
			m := w.mount(opts)
			f := &tester{t: t, rng: newRand(t), v: m.v(), c: &volume.Caller{}, v1: vers == 1}
			a, err := f.v.Getattr(f.c, rootIno)
			f.want(err, 0)
			f.m = newModel(a)
			for range *stepsFlag {
				f.step()
				if f.rng.IntN(300) == 0 {
					ok(t, f.v.Fsync(f.c, rootIno))
				}
				if f.rng.IntN(700) == 0 {
					f.compareAll()
					f.forgetAll()
					m.close()
					w.check()
					m = w.mount(opts)
					f.v = m.v()
					f.compareAll()
				}
			}
			f.compareAll()
			m.close()
			w.check()
		})
	}
}
