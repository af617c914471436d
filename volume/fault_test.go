// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package volume_test

import (
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"scoutfs/internal/simdisk"
	"scoutfs/volume"
)

// TestInjectedErrors fails reads and writes of both devices at random. An
// operation that fails must leave everything as it was, except what the
// system calls allow to be done in part.
func TestInjectedErrors(t *testing.T) {
	for _, dev := range []string{"meta", "data"} {
		t.Run(dev, func(t *testing.T) {
			w := newWorld(t, 2)
			// The server has openers of its own, which do not fail.
			opts := mountOptions{budget: 1 << 18, cache: 1 << 20, meta: w.meta.Opener("mount"), data: w.data.Opener("mount")}
			m := w.mount(opts)
			f := &tester{t: t, rng: newRand(t), v: m.v(), c: &volume.Caller{}}
			a, err := f.v.Getattr(f.c, rootIno)
			f.want(err, 0)
			f.m = newModel(a)
			var on atomic.Bool
			f.faults = func(b bool) { on.Store(b) }
			disk := map[string]*simdisk.Disk{"meta": w.meta, "data": w.data}[dev]
			disk.SetFault(func(op simdisk.FaultOp) error {
				if op.Opener == "mount" && on.Load() && rand.IntN(8) == 0 {
					return simdisk.ErrInjected
				}
				return nil
			})
			for i := range *stepsFlag / 2 {
				f.step()
				if i%300 == 299 {
					f.compareAll()
				}
			}
			f.compareAll()
			t.Logf("%d of %d operations failed", f.failed, f.steps)
			if f.failed == 0 {
				t.Error("no error was injected")
			}
			disk.SetFault(nil)
			m.close()
			w.check()
		})
	}
}
