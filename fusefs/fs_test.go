// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package fusefs

import (
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"syscall"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"scoutfs/format"
)

func TestNodeID(t *testing.T) {
	if NodeID(format.RootIno) != 1 {
		t.Error("the root's node id is not 1")
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	inos := []format.Ino{1, 2, 1 << 32, 1<<32 + 1, 1 << 31, ^format.Ino(0)}
	for range 10000 {
		inos = append(inos, format.Ino(rng.Uint64()>>rng.IntN(64)|1))
	}
	seen := map[uint64]format.Ino{}
	for _, ino := range inos {
		n := NodeID(ino)
		if n == 0 || Ino(n) != ino {
			t.Fatalf("inode %d has node id %d, which is inode %d", ino, n, Ino(n))
		}
		if other, ok := seen[n]; ok && other != ino {
			t.Fatalf("inodes %d and %d share node id %d", ino, other, n)
		}
		seen[n] = ino
	}
	// The kernel stores a node id in a handle as high half, low half; the
	// original's handle has the inode number as little endian u64.
	if n := NodeID(0x1122334455667788); n != 0x5566778811223344 {
		t.Errorf("node id %#x", n)
	}
}

func TestDeviceNumbers(t *testing.T) {
	for _, d := range []struct{ major, minor uint32 }{{0, 0}, {1, 3}, {8, 0}, {259, 1000}, {4095, 1<<20 - 1}} {
		item := d.major<<20 | d.minor
		if got := decodeDev(encodeDev(item)); got != item {
			t.Errorf("%d:%d comes back as %d:%d", d.major, d.minor, got>>20, got&0xfffff)
		}
		if d.minor < 1<<12 && d.major < 256 {
			if want := uint32(unix.Mkdev(d.major, d.minor)); encodeDev(item) != want {
				t.Errorf("%d:%d encodes to %#x, want %#x", d.major, d.minor, encodeDev(item), want)
			}
		}
	}
}

func TestErrno(t *testing.T) {
	f := New(nil, Options{Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	for _, tc := range []struct {
		err  error
		want fuse.Status
	}{
		{nil, fuse.OK},
		{syscall.ENOENT, fuse.ENOENT},
		{fmt.Errorf("volume: lookup: %w", syscall.ENOTEMPTY), fuse.Status(syscall.ENOTEMPTY)},
		{fmt.Errorf("txn: %w", syscall.ENOBUFS), fuse.Status(syscall.ENOSPC)},
		{&format.CorruptError{Reason: "bad"}, fuse.EIO},
		{fmt.Errorf("btree: %w", &format.CorruptError{Reason: "bad"}), fuse.EIO},
		{&format.StaleError{}, fuse.EIO},
		{io.ErrUnexpectedEOF, fuse.EIO},
	} {
		if got := f.errno(tc.err); got != tc.want {
			t.Errorf("%v becomes %v, want %v", tc.err, got, tc.want)
		}
	}
}
