// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package block_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"scoutfs/block"
	"scoutfs/format"
	"scoutfs/internal/simdisk"
)

const (
	testFsid  = 0x1122334455667788
	blockSize = format.LargeSize
	diskSize  = 64 << 20
)

// testKind requires that the bytes after the header are all the same.
var testKind = &block.Kind{Magic: format.MagicBtree, Verify: func(b []byte) error {
	if b[32] != b[len(b)-1] {
		return errors.New("ends differ")
	}
	return nil
}}

var otherKind = &block.Kind{Magic: format.MagicBloom}

func newCache(dev block.Device, blocks int64) *block.Cache {
	return block.NewCache(dev, block.CacheOptions{Fsid: testFsid, Budget: blocks * blockSize})
}

// put makes a dirty block whose body is v.
func put(w *block.Writer, blkno format.Blkno, v byte) format.BlockRef {
	b := w.New(blkno, testKind)
	defer b.Release()
	setBody(b, v)
	return b.Ref()
}

func setBody(b *block.Block, v byte) {
	body := b.Bytes()[32:]
	for i := range body {
		body[i] = v
	}
}

// written puts n blocks on the disk, from number 2, with bodies 0, 1, 2, ...
func written(t testing.TB, dev block.Device, n int) []format.BlockRef {
	t.Helper()
	w := newCache(dev, 1000).NewWriter()
	refs := make([]format.BlockRef, n)
	for i := range refs {
		refs[i] = put(w, format.FirstMetaBlkno+format.Blkno(i), byte(i))
	}
	if err := w.Write(); err != nil {
		t.Fatal(err)
	}
	return refs
}

func mustRead(t testing.TB, c *block.Cache, ref format.BlockRef) *block.Block {
	t.Helper()
	b, err := c.Read(ref, testKind)
	if err != nil {
		t.Fatal(err)
	}
	if b.Ref() != ref || b.Blkno() != ref.Blkno || len(b.Bytes()) != blockSize {
		t.Fatalf("read %v, got %v of %d bytes", ref, b.Ref(), len(b.Bytes()))
	}
	return b
}

func checkBody(t testing.TB, c *block.Cache, ref format.BlockRef, v byte) {
	t.Helper()
	b := mustRead(t, c, ref)
	defer b.Release()
	if !bytes.Equal(b.Bytes()[32:], bytes.Repeat([]byte{v}, blockSize-32)) {
		t.Fatalf("block %v: wrong body", ref)
	}
}

func TestWriteAndRead(t *testing.T) {
	d := simdisk.New(diskSize, simdisk.Options{})
	refs := written(t, d, 10)
	if got := d.Counters(); got.Batches != 1 || got.Writes != 10 || got.Flushes != 0 {
		t.Errorf("the write was not one batch without flush: %+v", got)
	}
	c := newCache(d, 100)
	for i, ref := range refs {
		checkBody(t, c, ref, byte(i))
		checkBody(t, c, ref, byte(i))
		b := mustRead(t, c, ref)
		h, _ := format.Load[format.BlockHeader](b.Bytes())
		want := format.BlockHeader{CRC: format.Checksum(b.Bytes()), Magic: format.MagicBtree, Fsid: testFsid, Seq: ref.Seq, Blkno: ref.Blkno}
		if diff := cmp.Diff(want, h); diff != "" {
			t.Errorf("header: %s", diff)
		}
		b.Release()
	}
	m := c.Metrics()
	if m.Misses != 10 || m.Hits != 20 || m.Blocks != 10 || m.Bytes != 10*blockSize || m.Dirty != 0 {
		t.Errorf("metrics %+v", m)
	}
	if d.Counters().Reads != 10 {
		t.Errorf("%d reads", d.Counters().Reads)
	}
	if c.Device() != block.Device(d) || c.Fsid() != testFsid {
		t.Error("wrong device or fsid")
	}
}

// rewrite changes a block on the disk; change gets its bytes, and the crc is
// made right afterwards if fixCRC.
func rewrite(t *testing.T, d block.Device, blkno format.Blkno, fixCRC bool, change func(b []byte)) {
	t.Helper()
	buf := block.AlignedBuf(blockSize)
	defer block.FreeBuf(buf)
	off := int64(blkno) * blockSize
	if err := block.ReadAt(d, buf, off); err != nil {
		t.Fatal(err)
	}
	change(buf)
	if fixCRC {
		crc := format.Checksum(buf)
		for i := range 4 {
			buf[i] = byte(crc >> (8 * i))
		}
	}
	if err := block.WriteAt(d, buf, off); err != nil {
		t.Fatal(err)
	}
}

func TestStale(t *testing.T) {
	for name, tc := range map[string]struct {
		at     int
		fixCRC bool
	}{
		"crc": {0, false}, "magic": {4, true}, "fsid": {8, true}, "seq": {16, true}, "blkno": {24, true}, "body": {5000, false},
	} {
		t.Run(name, func(t *testing.T) {
			d := simdisk.New(diskSize, simdisk.Options{Name: "/dev/meta"})
			ref := written(t, d, 1)[0]
			flip := func(b []byte) { b[tc.at] ^= 1 }
			rewrite(t, d, ref.Blkno, tc.fixCRC, flip)
			c := newCache(d, 10)
			before := d.Counters().Reads
			_, err := c.Read(ref, testKind)
			var stale *format.StaleError
			if !errors.As(err, &stale) || !errors.Is(err, syscall.ESTALE) || stale.Ref != ref || stale.Device != "/dev/meta" {
				t.Fatalf("error %v", err)
			}
			if n := d.Counters().Reads - before; n != 2 {
				t.Errorf("%d reads of the device, expected 2", n)
			}
			if m := c.Metrics(); m.Stale != 1 || m.Blocks != 0 || m.Bytes != 0 {
				t.Errorf("metrics %+v", m)
			}
			rewrite(t, d, ref.Blkno, true, flip)
			checkBody(t, c, ref, 0)
		})
	}
}

// TestOldAndNewVersion has both versions of one block in memory.
func TestOldAndNewVersion(t *testing.T) {
	d := simdisk.New(diskSize, simdisk.Options{})
	before := written(t, d, 1)[0]
	c := newCache(d, 10)
	checkBody(t, c, before, 0)
	w := c.NewWriter()
	after := put(w, before.Blkno, 9)
	if err := w.Write(); err != nil {
		t.Fatal(err)
	}
	checkBody(t, c, after, 9)
	checkBody(t, c, before, 0)
	if _, err := newCache(d, 10).Read(before, testKind); !errors.Is(err, syscall.ESTALE) {
		t.Errorf("old version without a cache: %v", err)
	}
}

func TestCorrupt(t *testing.T) {
	d := simdisk.New(diskSize, simdisk.Options{})
	refs := written(t, d, 2)
	rewrite(t, d, refs[0].Blkno, true, func(b []byte) { b[40000] = 1; b[blockSize-1] = 1 })
	c := newCache(d, 10)
	checkBody(t, c, refs[1], 1)
	blocks := format.Blkno(diskSize / blockSize)
	for name, tc := range map[string]struct {
		ref    format.BlockRef
		kind   *block.Kind
		reason string
	}{
		"verify":     {refs[0], testKind, "ends differ"},
		"kind":       {refs[1], otherKind, "btree block where a bloom block belongs"},
		"null":       {format.BlockRef{}, testKind, "reference to a block below the first that can be allocated"},
		"super":      {format.BlockRef{Blkno: 1, Seq: 1}, testKind, "reference to a block below the first that can be allocated"},
		"beyond":     {format.BlockRef{Blkno: blocks}, testKind, "reference to a block beyond the device's 1024 blocks"},
		"far beyond": {format.BlockRef{Blkno: 1 << 63}, testKind, "reference to a block beyond the device's 1024 blocks"},
		"overflow":   {format.BlockRef{Blkno: 1 << 48}, testKind, "reference to a block beyond the device's 1024 blocks"},
	} {
		_, err := c.Read(tc.ref, tc.kind)
		var corrupt *format.CorruptError
		if !errors.As(err, &corrupt) {
			t.Errorf("%s: error %v", name, err)
			continue
		}
		want := &format.CorruptError{Device: "sim", Blkno: tc.ref.Blkno, Reason: tc.reason}
		if diff := cmp.Diff(want, corrupt); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	if m := c.Metrics(); m.Corrupt != 7 || m.Blocks != 1 {
		t.Errorf("metrics %+v", m)
	}
	// On the device a wrong magic may be a newer block of another kind.
	if _, err := newCache(d, 10).Read(refs[1], otherKind); !errors.Is(err, syscall.ESTALE) {
		t.Errorf("other kind on the device: %v", err)
	}
}

// hooked calls a function before each batch and after it.
type hooked struct {
	block.Device
	before, after func(ops []block.Op)
}

func (h *hooked) Do(ops []block.Op) error {
	if h.before != nil {
		h.before(ops)
	}
	err := h.Device.Do(ops)
	if h.after != nil {
		h.after(ops)
	}
	return err
}

// TestTornRead sees half of a write at the first look.
func TestTornRead(t *testing.T) {
	d := simdisk.New(diskSize, simdisk.Options{})
	ref := written(t, d, 1)[0]
	n := 0
	h := &hooked{Device: d, after: func(ops []block.Op) {
		if n++; n == 1 {
			ops[0].Buf[9000]++
		}
	}}
	checkBody(t, newCache(h, 10), ref, 0)
	if n != 2 {
		t.Errorf("%d reads", n)
	}
}

func TestReadErrors(t *testing.T) {
	d := simdisk.New(diskSize, simdisk.Options{})
	refs := written(t, d, 4)
	c := newCache(d, 10)
	for bad := range 4 {
		d.SetFault(func(op simdisk.FaultOp) error {
			if op.Off == int64(refs[bad].Blkno)*blockSize {
				return simdisk.ErrInjected
			}
			return nil
		})
		if _, err := c.Read(refs[bad], testKind); !errors.Is(err, simdisk.ErrInjected) {
			t.Errorf("error %v", err)
		}
		out := make([]*block.Block, 4)
		if err := c.ReadBatch(refs, testKind, out); !errors.Is(err, simdisk.ErrInjected) {
			t.Errorf("batch: error %v", err)
		}
		if !slices.Equal(out, make([]*block.Block, 4)) {
			t.Error("blocks of a failed batch")
		}
		d.SetFault(nil)
		checkBody(t, c, refs[bad], byte(bad))
		c = newCache(d, 10)
	}
}

func TestConcurrentMissesReadOnce(t *testing.T) {
	const readers = 20
	d := simdisk.New(diskSize, simdisk.Options{})
	ref := written(t, d, 1)[0]
	var reads atomic.Int32
	var c *block.Cache
	entered, proceed := make(chan bool), make(chan bool)
	c = newCache(&hooked{Device: d, before: func([]block.Op) {
		if reads.Add(1) == 1 {
			close(entered)
			<-proceed
		}
	}}, 10)
	var wg sync.WaitGroup
	read := func() { checkBody(t, c, ref, 0) }
	wg.Go(read)
	<-entered
	for range readers - 1 {
		wg.Go(read)
	}
	for c.Metrics().Misses != readers { // all are waiting
		if reads.Load() > 1 {
			break
		}
	}
	close(proceed)
	wg.Wait()
	if n := reads.Load(); n != 1 {
		t.Errorf("%d reads of the device", n)
	}
}

func TestReadBatch(t *testing.T) {
	d := simdisk.New(diskSize, simdisk.Options{})
	refs := written(t, d, 30)
	c := newCache(d, 100)
	checkBody(t, c, refs[3], 3)
	before := d.Counters()
	ask := append(slices.Clone(refs), refs[7], refs[3])
	out := make([]*block.Block, len(ask)+5)
	if err := c.ReadBatch(ask, testKind, out); err != nil {
		t.Fatal(err)
	}
	for i, ref := range ask {
		if out[i].Ref() != ref || out[i].Bytes()[32] != byte(ref.Blkno-2) {
			t.Errorf("block %d is %v", i, out[i].Ref())
		}
		out[i].Release()
	}
	if after := d.Counters(); after.Batches-before.Batches != 1 || after.Reads-before.Reads != 29 {
		t.Errorf("device did %+v, before %+v", after, before)
	}
	ask[5].Seq++
	if err := c.ReadBatch(ask, testKind, out); !errors.Is(err, syscall.ESTALE) {
		t.Errorf("error %v", err)
	}
	ask[5] = format.BlockRef{}
	if err := c.ReadBatch(ask, testKind, out); !errors.Is(err, syscall.EIO) {
		t.Errorf("error %v", err)
	}
	if err := c.ReadBatch(nil, testKind, nil); err != nil {
		t.Errorf("error %v", err)
	}
	small := newCache(d, 1) // everything that is not pinned goes
	_ = small.ReadBatch(ask, testKind, out)
	if m := small.Metrics(); m.Bytes > blockSize {
		t.Errorf("a failed batch left pins: %+v", m)
	}
}

func TestBudget(t *testing.T) {
	const budget = 8
	d := simdisk.New(diskSize, simdisk.Options{})
	refs := written(t, d, 100)
	c := newCache(d, budget)
	for i, ref := range refs {
		checkBody(t, c, ref, byte(i))
	}
	m := c.Metrics()
	if m.MaxBytes != budget*blockSize || m.Budget != budget*blockSize || m.Evicted != 100-budget || m.Blocks != budget {
		t.Errorf("metrics %+v", m)
	}
	// Pinned and dirty blocks stay although they need more than the budget.
	var pinned []*block.Block
	for _, ref := range refs[:6] {
		pinned = append(pinned, mustRead(t, c, ref))
	}
	w := c.NewWriter()
	var dirty []format.BlockRef
	for i := range 6 {
		dirty = append(dirty, put(w, format.Blkno(200+i), byte(i)))
	}
	for i, ref := range refs {
		checkBody(t, c, ref, byte(i))
	}
	if m := c.Metrics(); m.Blocks < 12 || m.Blocks > 13 || m.Dirty != 6 {
		t.Errorf("metrics %+v", m)
	}
	for i, b := range pinned {
		if b.Bytes()[32] != byte(i) {
			t.Errorf("pinned block %d changed", i)
		}
	}
	reads := d.Counters().Reads
	for i, ref := range dirty {
		checkBody(t, c, ref, byte(i))
	}
	if d.Counters().Reads != reads {
		t.Error("a dirty block was read from the device")
	}
	for _, b := range pinned {
		b.Release()
	}
	if err := w.Write(); err != nil {
		t.Fatal(err)
	}
	if m := c.Metrics(); m.Bytes > budget*blockSize || m.Dirty != 0 || m.Written != 6 {
		t.Errorf("budget not kept again: %+v", m)
	}
}

// TestClockKeepsWhatIsUsed has one block that is read all the time.
func TestClockKeepsWhatIsUsed(t *testing.T) {
	d := simdisk.New(diskSize, simdisk.Options{})
	refs := written(t, d, 100)
	c := newCache(d, 8)
	for i, ref := range refs {
		checkBody(t, c, refs[0], 0)
		checkBody(t, c, ref, byte(i))
	}
	if m := c.Metrics(); m.Misses != 100 {
		t.Errorf("the hot block was evicted: %+v", m)
	}
}

func TestHitDoesNotAllocate(t *testing.T) {
	d := simdisk.New(diskSize, simdisk.Options{})
	refs := written(t, d, 4)
	c := newCache(d, 10)
	out := make([]*block.Block, 4)
	n := testing.AllocsPerRun(100, func() {
		b, err := c.Read(refs[0], testKind)
		if err != nil {
			t.Fatal(err)
		}
		b.Retain()
		b.Release()
		b.Release()
		if err := c.ReadBatch(refs, testKind, out); err != nil {
			t.Fatal(err)
		}
		for _, b := range out {
			b.Release()
		}
	})
	if n != 0 && !raceEnabled {
		t.Errorf("%v allocations", n)
	}
}

// TestConcurrentReadersAndWriter runs readers of published versions against a
// writer that replaces them, with a budget that evicts all the time.
func TestConcurrentReadersAndWriter(t *testing.T) {
	const blocks, readers = 64, 6
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	d := simdisk.New(diskSize, simdisk.Options{})
	c := newCache(d, 16)
	var current [blocks]atomic.Pointer[format.BlockRef]
	for i, ref := range written(t, d, blocks) {
		current[i].Store(&ref)
	}
	var stop atomic.Bool
	var wg sync.WaitGroup
	for r := range readers {
		rng := rand.New(rand.NewPCG(seed, uint64(r)))
		wg.Go(func() {
			for !stop.Load() {
				i := rng.IntN(blocks)
				if err := readVersion(c, *current[i].Load(), rng); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	w := c.NewWriter()
	rng := rand.New(rand.NewPCG(seed, 99))
	for round := range 60 {
		for _, i := range rng.Perm(blocks)[:8] {
			old := *current[i].Load()
			src, err := c.Read(old, testKind)
			if err != nil {
				t.Fatal(err)
			}
			b := w.Copy(src, format.Blkno(2+(int(old.Blkno)-2+blocks)%(4*blocks)))
			src.Release()
			setBody(b, byte(round))
			ref := b.Ref()
			if b.Release(); rng.IntN(8) == 0 {
				w.Forget(b)
				continue
			}
			current[i].Store(&ref)
		}
		if err := w.Write(); err != nil {
			t.Fatal(err)
		}
	}
	stop.Store(true)
	wg.Wait()
	if m := c.Metrics(); m.Bytes > m.Budget || m.Bytes != m.Blocks*blockSize || m.Dirty != 0 {
		t.Errorf("metrics %+v", m)
	}
}

// readVersion reads a version, alone or in a batch. It may have gone.
func readVersion(c *block.Cache, ref format.BlockRef, rng *rand.Rand) error {
	out := make([]*block.Block, 1+rng.IntN(3))
	refs := slices.Repeat([]format.BlockRef{ref}, len(out))
	if err := c.ReadBatch(refs, testKind, out); err != nil {
		if errors.Is(err, syscall.ESTALE) {
			return nil
		}
		return err
	}
	for _, b := range out {
		if b.Ref() != ref || b.Bytes()[32] != b.Bytes()[blockSize-1] {
			return fmt.Errorf("block %v: wrong bytes", ref)
		}
		b.Release()
	}
	return nil
}

func FuzzReadBlock(f *testing.F) {
	f.Add([]byte{}, true, true)
	f.Add(bytes.Repeat([]byte{0xff}, 100), true, false)
	f.Add([]byte("\x00\x00\x00\x00\x6d\xf9\x97\xe5"), false, true)
	f.Fuzz(func(t *testing.T, head []byte, goodHeader, goodCRC bool) {
		d := simdisk.New(4<<20, simdisk.Options{})
		ref := written(t, d, 1)[0]
		rewrite(t, d, ref.Blkno, goodCRC, func(b []byte) {
			if goodHeader {
				copy(b[32:], head)
			} else {
				copy(b, head)
			}
		})
		b, err := newCache(d, 4).Read(ref, testKind)
		if err == nil {
			b.Release()
		} else if !errors.Is(err, syscall.ESTALE) && !errors.Is(err, syscall.EIO) {
			t.Errorf("error %v", err)
		}
	})
}

func BenchmarkCacheHit(b *testing.B) {
	d := simdisk.New(diskSize, simdisk.Options{})
	refs := written(b, d, 100)
	c := newCache(d, 200)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		bl, err := c.Read(refs[i%len(refs)], testKind)
		if err != nil {
			b.Fatal(err)
		}
		bl.Release()
	}
}

func BenchmarkCacheMiss(b *testing.B) {
	f := open(b, plainFile(b, diskSize), block.OpenOptions{})
	defer f.Close()
	refs := written(b, f, 100)
	c := newCache(f, 8)
	b.SetBytes(blockSize)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		bl, err := c.Read(refs[i%len(refs)], testKind)
		if err != nil {
			b.Fatal(err)
		}
		bl.Release()
	}
}
