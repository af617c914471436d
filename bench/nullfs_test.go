// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package bench_test

import (
	"context"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"scoutfs/bench"
	"scoutfs/fuseconn"
)

// All operations of the path engine run on the null file system, which is how
// the ceiling of the transport is measured.
func TestNullFS(t *testing.T) {
	if _, err := os.Stat("/dev/fuse"); err != nil || os.Getuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("needs root and /dev/fuse")
		}
		t.Skip("needs root and /dev/fuse")
	}
	dir := t.TempDir()
	ready, served := make(chan struct{}), make(chan error, 1)
	go func() {
		served <- bench.ServeNull(dir, func() { close(ready) }, slog.New(slog.DiscardHandler))
	}()
	select {
	case <-ready:
	case err := <-served:
		t.Fatal(err)
	}
	for _, op := range bench.Operations["path"] {
		jobs, _, err := bench.ParseArgs(strings.Fields("--name=j --ioengine=path --nrfiles=500 --dirfiles=300 --size=256k --directory=" + dir + " --op=" + op))
		if err != nil {
			t.Fatal(err)
		}
		results, err := bench.Run(context.Background(), &jobs[0])
		if err != nil {
			t.Fatal(err)
		}
		want := uint64(500)
		switch op {
		case "read", "write", "randread", "randwrite":
			want = 256 << 10 / 4096
		case "readdir":
			want += 4 // "." and ".." of two directories
		}
		if n := results[0].Ops(); n != want {
			t.Errorf("%s: %d operations, want %d", op, n, want)
		}
	}
	if err := fuseconn.Unmount(dir, false, false); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-served:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("the server does not end")
	}
}
