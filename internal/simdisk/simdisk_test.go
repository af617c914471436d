// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package simdisk_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"scoutfs/block"
	"scoutfs/block/blocktest"
	"scoutfs/internal/simdisk"
)

const sector = 4096

func TestConformance(t *testing.T) {
	blocktest.Run(t, func(*testing.T) block.Device {
		return simdisk.New(blocktest.MinSize, simdisk.Options{})
	})
	t.Run("Opener", func(t *testing.T) {
		d := simdisk.New(blocktest.MinSize, simdisk.Options{})
		open := func(*testing.T) block.Device { return d.Opener("host") }
		blocktest.Run(t, open)
		blocktest.RunClosed(t, open)
	})
}

// write puts sectors with one byte each, from the given one on.
func write(t *testing.T, d block.Device, at int64, vals ...byte) {
	t.Helper()
	buf := block.AlignedBuf(len(vals) * sector)
	defer block.FreeBuf(buf)
	for i, v := range vals {
		copy(buf[i*sector:], bytes.Repeat([]byte{v}, sector))
	}
	if err := block.WriteAt(d, buf, at*sector); err != nil {
		t.Fatal(err)
	}
}

func flush(t *testing.T, d block.Device) {
	t.Helper()
	if err := d.Flush(); err != nil {
		t.Fatal(err)
	}
}

// read returns the first byte of n sectors, which must be uniform.
func read(t *testing.T, d block.Device, n int) []byte {
	t.Helper()
	buf := block.AlignedBuf(n * sector)
	defer block.FreeBuf(buf)
	if err := block.ReadAt(d, buf, 0); err != nil {
		t.Fatal(err)
	}
	vals := make([]byte, n)
	for i := range vals {
		vals[i] = buf[i*sector]
		if !bytes.Equal(buf[i*sector:][:sector], bytes.Repeat(vals[i:i+1], sector)) {
			t.Fatalf("sector %d is torn", i)
		}
	}
	return vals
}

func TestCrash(t *testing.T) {
	d := simdisk.New(1<<20, simdisk.Options{})
	write(t, d, 0, 1, 1, 1, 1)
	flush(t, d)
	write(t, d, 1, 2, 2)
	write(t, d, 2, 3, 3)
	if d.Unflushed() != 3 {
		t.Errorf("%d unflushed sectors", d.Unflushed())
	}
	rng := rand.New(rand.NewPCG(1, 1))
	if diff := cmp.Diff([]byte{1, 1, 1, 1}, read(t, d.Crash(rng, 0), 4)); diff != "" {
		t.Errorf("nothing kept: %s", diff)
	}
	seen := map[string]bool{}
	for seed := range uint64(400) {
		c := d.Crash(rand.New(rand.NewPCG(seed, 0)), 50)
		if c.Unflushed() != 0 {
			t.Error("a disk after a crash has unflushed sectors")
		}
		got := read(t, c, 4)
		seen[string(got)] = true
		if again := read(t, d.Crash(rand.New(rand.NewPCG(seed, 0)), 50), 4); !bytes.Equal(got, again) {
			t.Errorf("seed %d: %v, then %v", seed, got, again)
		}
	}
	if len(seen) != 2*3*2 { // every combination, also the version between
		t.Errorf("%d states", len(seen))
	}
	for s := range seen {
		if s[0] != 1 || !strings.Contains("\x01\x02", s[1:2]) || !strings.Contains("\x01\x02\x03", s[2:3]) || !strings.Contains("\x01\x03", s[3:]) {
			t.Errorf("impossible state %v", []byte(s))
		}
	}
	if diff := cmp.Diff([]byte{1, 2, 3, 3}, read(t, d, 4)); diff != "" {
		t.Errorf("the disk itself changed: %s", diff)
	}
	flush(t, d)
	if diff := cmp.Diff([]byte{1, 2, 3, 3}, read(t, d.Crash(rng, 0), 4)); diff != "" {
		t.Errorf("flushed sectors were lost: %s", diff)
	}
}

func TestCrashTorn(t *testing.T) {
	d := simdisk.New(1<<20, simdisk.Options{Torn: true})
	write(t, d, 0, 1)
	flush(t, d)
	write(t, d, 0, 2)
	buf := block.AlignedBuf(sector)
	defer block.FreeBuf(buf)
	torn := 0
	for seed := range uint64(200) {
		if err := block.ReadAt(d.Crash(rand.New(rand.NewPCG(seed, 0)), 100), buf, 0); err != nil {
			t.Fatal(err)
		}
		olds, news := bytes.Count(buf, []byte{1}), bytes.Count(buf, []byte{2})
		if olds+news != sector || olds%512 != 0 {
			t.Fatalf("%d old and %d new bytes", olds, news)
		}
		if olds > 0 {
			torn++
		}
	}
	if torn == 0 || torn == 200 {
		t.Errorf("%d of 200 torn", torn)
	}
}

func TestClone(t *testing.T) {
	d := simdisk.New(1<<20, simdisk.Options{})
	write(t, d, 0, 1, 2)
	flush(t, d)
	write(t, d, 1, 3)
	c := d.Clone()
	write(t, d, 0, 9)
	write(t, c, 2, 7)
	flush(t, c)
	if diff := cmp.Diff([]byte{1, 3, 7}, read(t, c, 3)); diff != "" {
		t.Errorf("clone: %s", diff)
	}
	if diff := cmp.Diff([]byte{9, 3, 0}, read(t, d, 3)); diff != "" {
		t.Errorf("original: %s", diff)
	}
	if got := read(t, d.Clone().Crash(rand.New(rand.NewPCG(0, 0)), 0), 3); !bytes.Equal(got, []byte{1, 2, 0}) {
		t.Errorf("crash of a clone: %v", got)
	}
}

// TestFaultAtEveryOperation fails each operation in turn and checks that it
// alone was not done.
func TestFaultAtEveryOperation(t *testing.T) {
	for bad := int64(1); bad <= 5; bad++ {
		d := simdisk.New(1<<20, simdisk.Options{})
		var asked []simdisk.FaultOp
		d.SetFault(func(op simdisk.FaultOp) error {
			asked = append(asked, op)
			if op.N == bad {
				return simdisk.ErrInjected
			}
			return nil
		})
		buf := block.AlignedBuf(4 * sector)
		defer block.FreeBuf(buf)
		copy(buf, bytes.Repeat([]byte{8}, len(buf)))
		ops := make([]block.Op, 4)
		for i := range ops {
			ops[i] = block.Op{Write: true, Off: int64(i) * sector, Buf: buf[i*sector:][:sector]}
		}
		err := d.Do(ops)
		if (err != nil) != (bad <= 4) || err != nil && !errors.Is(err, simdisk.ErrInjected) {
			t.Errorf("fault at %d: %v", bad, err)
		}
		if err := d.Flush(); (err != nil) != (bad == 5) {
			t.Errorf("fault at %d: flush %v", bad, err)
		}
		want := []byte{8, 8, 8, 8}
		if bad <= 4 {
			want[bad-1] = 0
		}
		d.SetFault(nil)
		if got := read(t, d, 4); !bytes.Equal(got, want) {
			t.Errorf("fault at %d: disk has %v", bad, got)
		}
		if (d.Unflushed() != 0) != (bad == 5) {
			t.Errorf("fault at %d: %d sectors unflushed", bad, d.Unflushed())
		}
		if diff := cmp.Diff(simdisk.FaultOp{Write: true, Off: 2 * sector, Len: sector, N: 3, Opener: "sim"}, asked[2]); diff != "" {
			t.Errorf("operation: %s", diff)
		}
		if diff := cmp.Diff(simdisk.FaultOp{Flush: true, N: 5, Opener: "sim"}, asked[4]); diff != "" {
			t.Errorf("flush: %s", diff)
		}
	}
}

func TestOnWriteMayClone(t *testing.T) {
	d := simdisk.New(1<<20, simdisk.Options{})
	var states [][]byte
	d.OnWrite(func(op simdisk.FaultOp) { states = append(states, read(t, d.Clone(), 2)) })
	write(t, d, 0, 1)
	write(t, d, 1, 2)
	if diff := cmp.Diff([][]byte{{1, 0}, {1, 2}}, states); diff != "" {
		t.Error(diff)
	}
}

func TestOpeners(t *testing.T) {
	d := simdisk.New(1<<20, simdisk.Options{})
	a, b := d.Opener("a"), d.Opener("b")
	write(t, a, 0, 1)
	if got := read(t, b, 1); got[0] != 1 {
		t.Errorf("b reads %v", got)
	}
	a.Kill()
	buf := block.AlignedBuf(sector)
	defer block.FreeBuf(buf)
	for what, err := range map[string]error{"read": block.ReadAt(a, buf, 0), "write": block.WriteAt(a, buf, 0), "flush": a.Flush()} {
		if !errors.Is(err, simdisk.ErrKilled) {
			t.Errorf("%s after Kill: %v", what, err)
		}
	}
	if d.Unflushed() != 1 {
		t.Error("Kill changed the disk")
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	if err := b.Close(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("second close: %v", err)
	}
	write(t, d, 0, 2)
}

func TestCorrupt(t *testing.T) {
	d := simdisk.New(1<<20, simdisk.Options{})
	write(t, d, 0, 0xf0, 0xf0)
	d.Corrupt(0, sector)
	flush(t, d)
	if got := read(t, d, 2); !bytes.Equal(got, []byte{0x0f, 0xf0}) {
		t.Errorf("%x", got)
	}
}

func TestCounters(t *testing.T) {
	d := simdisk.New(1<<20, simdisk.Options{})
	write(t, d, 0, 1, 2)
	read(t, d, 4)
	flush(t, d)
	want := simdisk.Counters{Ops: 3, Reads: 1, Writes: 1, Flushes: 1, Batches: 2, BytesRead: 4 * sector, BytesWritten: 2 * sector}
	if diff := cmp.Diff(want, d.Counters()); diff != "" {
		t.Error(diff)
	}
}
