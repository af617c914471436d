// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package mount_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"scoutfs/mount"
	"scoutfs/rpc"
	"scoutfs/txn"
)

// TestSyncRequest lets the server ask for a commit while an operation is open:
// the answer does not wait for it, and the commit comes when it ends.
func TestSyncRequest(t *testing.T) {
	v := newVol(t, 1)
	m := v.open(v.options(0))
	ctx, cancel := context.WithTimeout(t.Context(), waitAll)
	defer cancel()
	tx, err := m.Engine().Begin(ctx, txn.Freeing)
	if err != nil {
		t.Fatal(err)
	}
	before := m.Engine().Metrics().Commits
	answers := 0
	m.HandleSync(func(_ []byte, err error) {
		answers++
		if err != nil {
			t.Error(err)
		}
	})
	if answers != 1 {
		t.Errorf("%d answers", answers)
	}
	tx.Done()
	for m.Engine().Metrics().Commits == before {
		if ctx.Err() != nil {
			t.Fatal("no commit")
		}
		time.Sleep(time.Millisecond)
	}
	v.close(m)
}

// TestEarlyInvalidation checks that a request that comes too early closes the
// connection, so that it comes again.
func TestEarlyInvalidation(t *testing.T) {
	var got error
	mount.InvalidateEarly(func(_ []byte, err error) { got = err })
	if !errors.Is(got, rpc.ErrClose) {
		t.Errorf("answer %v", got)
	}
}

// TestOrphanScanDelay shortens the delay while a scan waits for a minute.
func TestOrphanScanDelay(t *testing.T) {
	v := newVol(t, 1)
	o := v.options(0)
	o.OrphanScanDelayMS = 60000
	m := v.open(o)
	file := m.Status().Find("sysfs/mount_options/orphan_scan_delay_ms")
	if err := file.Write([]byte("99")); err == nil {
		t.Error("99 ms was accepted")
	}
	if err := file.Write([]byte("100\n")); err != nil {
		t.Fatal(err)
	}
	for start := time.Now(); m.Volume().Metrics().OrphanScan == 0; time.Sleep(time.Millisecond) {
		if time.Since(start) > 30*time.Second {
			t.Fatal("the scan goes on waiting")
		}
	}
	v.close(m)
}
