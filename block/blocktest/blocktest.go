// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

// Package blocktest is the conformance suite that every [block.Device] passes.
package blocktest

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"

	"scoutfs/block"
)

// MinSize is the least size in bytes of the devices that Run is given.
const MinSize = 8 << 20

const sector = 4096

// Run checks all that [block.Device] promises. open returns a new device of at
// least MinSize bytes each time; its contents do not matter, and Run closes it.
func Run(t *testing.T, open func(t *testing.T) block.Device) {
	tests := []struct {
		name string
		fn   func(*testing.T, block.Device)
	}{
		{"Facts", testFacts},
		{"RoundTrip", testRoundTrip},
		{"LastSector", testLastSector},
		{"LongBatch", testLongBatch},
		{"HeapBuffers", testHeapBuffers},
		{"EmptyBatch", testEmptyBatch},
		{"BadOperations", testBadOperations},
		{"OldErrorsGo", testOldErrorsGo},
		{"Concurrent", testConcurrent},
		{"RandomModel", testRandomModel},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			d := open(t)
			t.Cleanup(func() {
				if err := d.Close(); err != nil {
					t.Errorf("close: %v", err)
				}
			})
			tc.fn(t, d)
		})
	}
}

// RunClosed checks a device's answers after its Close; for those that end.
func RunClosed(t *testing.T, open func(t *testing.T) block.Device) {
	d := open(t)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	buf := buffer(t, sector)
	for what, err := range map[string]error{
		"read": block.ReadAt(d, buf, 0), "write": block.WriteAt(d, buf, 0), "flush": d.Flush(), "close": d.Close(),
	} {
		if !errors.Is(err, os.ErrClosed) {
			t.Errorf("%s of a closed device: %v", what, err)
		}
	}
}

// buffer returns n bytes that are given back at the end of the test.
func buffer(t *testing.T, n int) []byte {
	t.Helper()
	b := block.AlignedBuf(n)
	t.Cleanup(func() { block.FreeBuf(b) })
	return b
}

// fill makes bytes that tell seed and position.
func fill(b []byte, seed uint64) {
	rng := rand.NewPCG(seed, 1)
	for i := 0; i+8 <= len(b); i += 8 {
		v := rng.Uint64()
		for j := range 8 {
			b[i+j] = byte(v >> (8 * j))
		}
	}
}

func filled(t *testing.T, n int, seed uint64) []byte {
	b := buffer(t, n)
	fill(b, seed)
	return b
}

func mustRead(t *testing.T, d block.Device, off int64, want []byte) {
	t.Helper()
	got := buffer(t, len(want))
	if err := block.ReadAt(d, got, off); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("read at %d, length %d: other bytes than were written", off, len(want))
	}
}

func testFacts(t *testing.T, d block.Device) {
	if d.Size() < MinSize {
		t.Errorf("size %d", d.Size())
	}
	if d.Name() == "" {
		t.Error("no name")
	}
	if err := d.Flush(); err != nil {
		t.Error(err)
	}
}

func testRoundTrip(t *testing.T, d block.Device) {
	for n := sector; n <= 2<<20; n *= 2 {
		off := int64(n+sector) % (4 << 20)
		b := filled(t, n, uint64(n))
		if err := block.WriteAt(d, b, off); err != nil {
			t.Fatal(err)
		}
		mustRead(t, d, off, b)
		if err := d.Flush(); err != nil {
			t.Fatal(err)
		}
		mustRead(t, d, off, b)
	}
}

func testLastSector(t *testing.T, d block.Device) {
	last := (d.Size() - sector) / sector * sector
	b := filled(t, sector, 3)
	if err := block.WriteAt(d, b, last); err != nil {
		t.Fatal(err)
	}
	mustRead(t, d, last, b)
	if err := block.WriteAt(d, b, last+sector); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("write beyond the end: %v", err)
	}
	if err := block.ReadAt(d, buffer(t, 2*sector), last); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("read across the end: %v", err)
	}
}

// testLongBatch has more operations than any queue.
func testLongBatch(t *testing.T, d block.Device) {
	const n = 600
	order := rand.New(rand.NewPCG(1, 2)).Perm(n)
	ops := make([]block.Op, n)
	for i, at := range order {
		ops[i] = block.Op{Write: true, Off: int64(at) * sector, Buf: filled(t, sector, uint64(at))}
	}
	if err := d.Do(ops); err != nil {
		t.Fatal(err)
	}
	for i, at := range order {
		ops[i] = block.Op{Off: int64(at) * sector, Buf: buffer(t, sector)}
	}
	if err := d.Do(ops); err != nil {
		t.Fatal(err)
	}
	want := make([]byte, sector)
	for i, at := range order {
		if fill(want, uint64(at)); !bytes.Equal(ops[i].Buf, want) {
			t.Fatalf("sector %d: wrong bytes", at)
		}
	}
}

// testHeapBuffers uses memory that is not from the arena.
func testHeapBuffers(t *testing.T, d block.Device) {
	whole := make([]byte, 3*sector)
	for at := range sector {
		b := whole[at : at+2*sector]
		if block.CheckOp(&block.Op{Buf: b}, d.Size()) != nil {
			continue // not aligned
		}
		fill(b, 5)
		if err := block.WriteAt(d, b, 8*sector); err != nil {
			t.Fatal(err)
		}
		mustRead(t, d, 8*sector, b)
		return
	}
	t.Fatal("no aligned address")
}

func testEmptyBatch(t *testing.T, d block.Device) {
	if err := d.Do(nil); err != nil {
		t.Error(err)
	}
}

// testBadOperations checks that each bad operation fails alone and says where.
func testBadOperations(t *testing.T, d block.Device) {
	page := filled(t, 2*sector, 9)
	bad := []block.Op{
		{Write: true, Off: 100, Buf: page},
		{Write: true, Off: 0, Buf: page[:1000]},
		{Write: true, Off: 0, Buf: page[512 : 512+sector]},
		{Write: true, Off: 0, Buf: nil},
		{Write: true, Off: -sector, Buf: page},
		{Write: true, Off: d.Size() / sector * sector, Buf: page},
		{Off: 1<<62 + sector, Buf: page},
	}
	for i, op := range bad {
		good := filled(t, sector, uint64(100+i))
		ops := []block.Op{{Write: true, Off: 0, Buf: good}, op, {Write: true, Off: 16 * sector, Buf: good}}
		err := d.Do(ops)
		if !errors.Is(err, syscall.EINVAL) || !errors.Is(ops[1].Err, syscall.EINVAL) {
			t.Errorf("operation %d: batch %v, operation %v, expected EINVAL", i, err, ops[1].Err)
			continue
		}
		for _, part := range []string{d.Name(), fmt.Sprintf("offset %d", op.Off), fmt.Sprintf("length %d", len(op.Buf))} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("error %q does not have %q", err, part)
			}
		}
		if ops[0].Err != nil || ops[2].Err != nil {
			t.Errorf("operation %d: the others failed too: %v, %v", i, ops[0].Err, ops[2].Err)
		}
		mustRead(t, d, 0, good)
		mustRead(t, d, 16*sector, good)
	}
}

// testOldErrorsGo checks that a batch may be used again after an error.
func testOldErrorsGo(t *testing.T, d block.Device) {
	ops := []block.Op{{Off: 0, Buf: buffer(t, sector), Err: syscall.EIO}}
	if err := d.Do(ops); err != nil || ops[0].Err != nil {
		t.Errorf("batch %v, operation %v", err, ops[0].Err)
	}
}

func testConcurrent(t *testing.T, d block.Device) {
	const workers, rounds, width = 16, 20, 8
	var wg sync.WaitGroup
	for w := range workers {
		bufs := make([][]byte, width)
		for i := range bufs {
			bufs[i] = buffer(t, sector)
		}
		wg.Go(func() { concurrentWorker(t, d, w, rounds, bufs) })
	}
	wg.Wait()
}

// concurrentWorker writes and reads its own range.
func concurrentWorker(t *testing.T, d block.Device, w, rounds int, bufs [][]byte) {
	ops := make([]block.Op, len(bufs))
	want := make([]byte, sector)
	for round := range rounds {
		n := 1 + round%len(bufs)
		for i, b := range bufs[:n] {
			fill(b, uint64(w<<20|round<<8|i))
			ops[i] = block.Op{Write: true, Off: int64(w*len(bufs)+i) * sector, Buf: b}
		}
		err := d.Do(ops[:n])
		for i, b := range bufs[:n] {
			clear(b)
			ops[i].Write = false
		}
		err = errors.Join(err, d.Do(ops[:n]))
		if round%8 == 0 {
			err = errors.Join(err, d.Flush())
		}
		for i, b := range bufs[:n] {
			if fill(want, uint64(w<<20|round<<8|i)); !bytes.Equal(b, want) {
				err = errors.Join(err, fmt.Errorf("worker %d round %d: wrong bytes in sector %d", w, round, i))
			}
		}
		if err != nil {
			t.Error(err)
			return
		}
	}
}

// testRandomModel compares random batches with an array.
func testRandomModel(t *testing.T, d block.Device) {
	const sectors = 256
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	model := make([]byte, sectors*sector)
	fill(model, seed)
	whole := buffer(t, len(model))
	copy(whole, model)
	if err := block.WriteAt(d, whole, 0); err != nil {
		t.Fatal(err)
	}
	for range 60 {
		var ops []block.Op
		for at := 0; at < sectors; { // operations of one batch do not overlap
			n := min(1+rng.IntN(20), sectors-at)
			op := block.Op{Write: rng.IntN(2) == 0, Off: int64(at) * sector, Buf: whole[at*sector : (at+n)*sector]}
			if op.Write {
				fill(op.Buf, rng.Uint64())
				copy(model[op.Off:], op.Buf)
			} else {
				clear(op.Buf)
			}
			ops = append(ops, op)
			at += n + rng.IntN(10)
		}
		rng.Shuffle(len(ops), func(i, j int) { ops[i], ops[j] = ops[j], ops[i] })
		if err := d.Do(ops); err != nil {
			t.Fatal(err)
		}
		for _, op := range ops {
			if !bytes.Equal(op.Buf, model[op.Off:op.Off+int64(len(op.Buf))]) {
				t.Fatalf("offset %d length %d write %t: other bytes than the model", op.Off, len(op.Buf), op.Write)
			}
		}
	}
}
