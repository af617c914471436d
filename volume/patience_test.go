// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package volume_test

import (
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"scoutfs/internal/simdisk"
	"scoutfs/volume"
)

// TestSignals interrupts calls that wait for a commit. They go on waiting unless
// the caller is dying.
func TestSignals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		m := w.mount(mountOptions{})
		release := make(chan struct{})
		w.data.SetFault(func(op simdisk.FaultOp) error {
			if op.Flush {
				<-release
			}
			return nil
		})
		f := must[volume.Attr](t)(m.v().Create(root, rootIno, "f", 0o600)).Ino
		var dying atomic.Bool
		cancel := make(chan struct{})
		c := &volume.Caller{Cancel: cancel, Dying: func(*volume.Caller) bool { return dying.Load() }}
		results := make(chan error, 3)
		calls := []func() error{
			func() error { return m.v().Fsync(c, f) },
			func() error { _, err := m.v().Mkdir(c, rootIno, "d", 0o700); return err },
			func() error { _, _, err := m.v().Write(c, f, 0, []byte("data"), 0); return err },
		}
		for _, fn := range calls[:1] {
			go func() { results <- fn() }()
		}
		synctest.Wait() // the commit runs
		for _, fn := range calls[1:] {
			go func() { results <- fn() }()
		}
		time.Sleep(time.Second)
		close(cancel)
		time.Sleep(10 * time.Second)
		select {
		case err := <-results:
			t.Fatalf("a signal ended a call: %v", err)
		default:
		}
		dying.Store(true)
		for range calls {
			if err := <-results; err != syscall.EINTR {
				t.Errorf("a call of a caller that dies: %v", err)
			}
		}
		dying.Store(false)
		go func() { results <- m.v().Fsync(c, f) }()
		time.Sleep(time.Second)
		close(release)
		ok(t, <-results)
		w.data.SetFault(nil)
		m.v().Forget(f, 1)
		m.close()
	})
}
