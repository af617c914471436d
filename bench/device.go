// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"sync/atomic"
	"time"

	"scoutfs/block"
)

// A device job of depth N is one caller, or two, each with one batch of N /
// callers operations after the other: that is how this project uses the ring.
// The second keeps a device busy while the first reaps; it pays where batches
// are long or operations large.
const (
	manyDeep     = 16
	manyBytes    = 64 << 10
	deviceLayout = 1 << 20 // bytes of one write that lays out a file
)

// deviceJob is what the callers of one of a job's numjobs share.
type deviceJob struct {
	j     *Job
	f     *block.File
	size  int64 // of the range of offsets, whole blocks
	limit int64 // bytes to transfer; 0: no limit
	next  atomic.Int64
	taken atomic.Int64
}

// deviceWorker is one caller.
type deviceWorker struct {
	*deviceJob
	rng *rand.Rand
	ops []block.Op
}

func openDevice(_ context.Context, j *Job) (*engine, error) {
	if err := layout(j); err != nil {
		return nil, err
	}
	f, err := block.Open(j.Filename, block.OpenOptions{NoRing: j.NoRing, ReadOnly: j.RW == "read" || j.RW == "randread"})
	if err != nil {
		return nil, err
	}
	e := &engine{close: f.Close}
	size := f.Size()
	if j.Size > 0 {
		size = min(size, j.Size)
	}
	if size -= size % int64(j.BlockSize); size == 0 {
		return nil, errors.Join(fmt.Errorf("%s is smaller than one block", j.Filename), f.Close())
	}
	batch, callers := deviceBatch(j)
	for n := range j.NumJobs {
		d := &deviceJob{j: j, f: f, size: size, limit: size}
		if j.TimeBased {
			d.limit = 0
		}
		for c := range callers {
			w := &deviceWorker{deviceJob: d, rng: rand.New(rand.NewPCG(j.Seed, uint64(n*callers+c)))}
			for range batch {
				w.ops = append(w.ops, block.Op{Buf: deviceBuf(j)})
			}
			fill(w)
			e.workers = append(e.workers, w)
		}
	}
	return e, nil
}

// deviceBatch splits a depth into callers and the operations of each.
func deviceBatch(j *Job) (batch, callers int) {
	batch = j.Batch
	if batch == 0 {
		batch = j.Depth
		if j.Depth >= manyDeep || j.BlockSize >= manyBytes {
			batch = max(1, j.Depth/2)
		}
	}
	batch = min(batch, j.Depth)
	return batch, max(1, j.Depth/batch)
}

// deviceBuf is memory that is registered with the ring, or not.
func deviceBuf(j *Job) []byte {
	b := block.AlignedBuf(max(j.BlockSize, 1))
	if j.FixedBufs {
		return b
	}
	block.FreeBuf(b)
	return unregistered(j.BlockSize)
}

// fill gives written blocks contents that no device takes for zeros.
func fill(w *deviceWorker) {
	for i := range w.ops {
		for at := range w.ops[i].Buf {
			w.ops[i].Buf[at] = byte(w.rng.Uint32())
		}
	}
}

func (w *deviceWorker) step() (step, error) {
	n := int64(len(w.ops) * w.j.BlockSize)
	if w.limit > 0 && w.taken.Add(n) > w.limit {
		return step{}, io.EOF
	}
	s := step{ops: len(w.ops), bytes: int(n)}
	switch w.j.RW {
	case "write", "randwrite":
		s.dir = Write
	case "randrw":
		if w.rng.IntN(100) >= w.j.MixRead {
			s.dir = Write
		}
	}
	random := w.j.RW != "read" && w.j.RW != "write"
	at := int64(0)
	if !random {
		at = w.next.Add(n) - n
	}
	for i := range w.ops {
		op := &w.ops[i]
		op.Write = s.dir == Write
		if random {
			op.Off = w.rng.Int64N(w.size/int64(w.j.BlockSize)) * int64(w.j.BlockSize)
		} else {
			op.Off = (at + int64(i*w.j.BlockSize)) % w.size
		}
	}
	start := time.Now()
	err := w.f.Do(w.ops)
	s.took = time.Since(start)
	return s, err
}

// layout writes a plain file in full if it is missing or too short, so that
// reads meet data.
func layout(j *Job) (err error) {
	st, err := os.Stat(j.Filename)
	switch {
	case errors.Is(err, fs.ErrNotExist) && j.Size == 0:
		return fmt.Errorf("%w (give --size to make it)", err)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	case err == nil && (!st.Mode().IsRegular() || st.Size() >= j.Size && st.Size() > 0):
		return nil
	}
	f, err := os.OpenFile(j.Filename, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	buf := make([]byte, deviceLayout)
	rng := rand.NewChaCha8([32]byte{1})
	_, _ = rng.Read(buf) // cannot fail
	for at := int64(0); at < j.Size; at += int64(len(buf)) {
		if _, err := f.WriteAt(buf[:min(int64(len(buf)), j.Size-at)], at); err != nil {
			return err
		}
	}
	return f.Sync()
}
