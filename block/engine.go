// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package block

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"scoutfs/format"
)

// way is how operations reach the kernel.
type way string

const (
	viaRing  way = "io_uring"
	viaPlain way = "pread/pwrite"
)

// engine says how a file's batches of one and of more operations are done,
// and why.
type engine struct {
	single, batch way
	why           string
}

const (
	trialReads  = 16                    // operations of one trial batch
	trialRounds = 4                     // of each way
	trialLimit  = 20 * time.Millisecond // after which no further round starts
	trialFactor = 2                     // so many times slower must a ring be to be left
)

// Engine tells in words how the file's I/O is done and why, for a status page.
func (f *File) Engine() string {
	if f.how.single == f.how.batch {
		return fmt.Sprintf("%s (%s)", f.how.single, f.how.why)
	}
	return fmt.Sprintf("%s, single operations %s (%s)", f.how.batch, f.how.single, f.how.why)
}

// choose decides how f's I/O is done.
func (f *File) choose(o OpenOptions) {
	f.how = engine{viaPlain, viaPlain, "asked for"}
	if o.NoRing {
		return
	}
	pool, err := sharedPool()
	if err != nil {
		f.how.why = err.Error()
		return
	}
	f.file = pool.AddFile(f.fd)
	f.how = engine{viaRing, viaRing, "device takes requests without blocking"}
	if !f.nowait() {
		f.how = engine{viaPlain, viaRing, "device may block, so that the kernel hands ring requests to threads"}
	}
	f.measure()
}

// nowait reports whether the kernel can submit to f without blocking. If it
// cannot, every ring request costs a switch to a kernel thread.
func (f *File) nowait() bool {
	buf := AlignedBuf(format.SmallSize)
	defer FreeBuf(buf)
	_, err := unix.Preadv2(f.fd, [][]byte{buf}, 0, unix.RWF_NOWAIT)
	return err != unix.EOPNOTSUPP
}

// measure leaves the ring where it is much slower than plain calls. Times are
// the best of a few rounds, taken in turns, because noise only adds.
func (f *File) measure() {
	blocks := f.Size() / format.SmallSize
	if blocks == 0 {
		return
	}
	ops := make([]Op, trialReads)
	for i := range ops {
		ops[i] = Op{Off: blocks * int64(i) / trialReads * format.SmallSize, Buf: AlignedBuf(format.SmallSize)}
	}
	defer func() {
		for i := range ops {
			FreeBuf(ops[i].Buf)
		}
	}()
	single := func(do func([]Op)) func() { return func() { do(ops[:1]) } }
	batch := func(do func([]Op)) func() { return func() { do(ops) } }
	start := time.Now()
	if f.how.single == viaRing && slower(start, single(f.ringDo), single(f.performPlain)) {
		f.how.single, f.how.why = viaPlain, "measured"
	}
	if slower(start, batch(f.ringDo), batch(f.performPlain)) {
		f.how.batch, f.how.why = viaPlain, "measured"
	}
}

func (f *File) ringDo(ops []Op) { _ = f.file.Do(ops) } // errors come again in use

// slower reports whether ring takes much longer than plain. It stays with the ring if
// there was no time to find out.
func slower(start time.Time, ring, plain func()) bool {
	var best [2]time.Duration
	for round := range trialRounds {
		if time.Since(start) > trialLimit {
			return false
		}
		for i, fn := range []func(){ring, plain} {
			t := time.Now()
			fn()
			if d := time.Since(t); round == 0 || d < best[i] {
				best[i] = d
			}
		}
	}
	return best[0] > trialFactor*best[1]
}
