// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package block

import (
	"fmt"
	"sync"
	"syscall"

	"scoutfs/format"
	"scoutfs/iouring"
)

// Op is one read or write of a batch: Write says which, Off is the offset on
// the device in bytes and a multiple of 4096, Buf has an address and a length
// that are multiples of 4096, Err is set by [Device.Do]. Buf belongs to the
// device until Do returns.
type Op = iouring.Op

// Device is a block device, or what behaves as one. Its methods may be called
// by many goroutines at once, Close last.
type Device interface {
	// Do performs all operations, in no particular order, and returns when all
	// are complete. It sets every Err and returns the first of them. One that
	// fails does not keep the others from being done. Short transfers are
	// continued. What was written is durable only after a Flush.
	Do(ops []Op) error
	// Flush makes every write that has returned durable, by a real flush of
	// the device's cache.
	Flush() error
	// Size is the number of bytes that can be addressed.
	Size() int64
	// Name is the device's path, for messages.
	Name() string
	// Close gives back what the device holds. It waits for running operations.
	Close() error
}

// Resizer is a device that can look how large it is now: it may have grown
// since Size was taken.
type Resizer interface {
	Resize() (int64, error)
}

// Reaches reports whether d has end bytes. A device that seems too small is
// asked whether it has grown: another mount may have begun to use what it has
// gained.
func Reaches(d Device, end int64) bool {
	if end <= d.Size() {
		return true
	}
	r, ok := d.(Resizer)
	if !ok {
		return false
	}
	size, err := r.Resize()
	return err == nil && end <= size
}

// FlushCounter is a device that knows how many of its flushes have failed.
// Several users of one device need it: what a failed flush loses may be
// anybody's, but only the one who asked for it gets the error.
type FlushCounter interface {
	FlushFailures() uint64
}

// flushFailures is how many flushes of d have failed, 0 if it does not know.
func flushFailures(d Device) uint64 {
	if c, ok := d.(FlushCounter); ok {
		return c.FlushFailures()
	}
	return 0
}

// ErrBusy says that another opener holds a conflicting lock on the device. It
// matches syscall.EBUSY.
var ErrBusy = fmt.Errorf("block: device is in use: %w", syscall.EBUSY)

// errAlign matches syscall.EINVAL.
var errAlign = fmt.Errorf("not aligned to 4096: %w", syscall.EINVAL)

// errRange matches syscall.EINVAL.
var errRange = fmt.Errorf("outside of the device: %w", syscall.EINVAL)

// oneOp recycles the batches of ReadAt and WriteAt, since a batch that goes
// through an interface cannot live on the stack.
var oneOp = sync.Pool{New: func() any { return new([1]Op) }}

// ReadAt reads len(buf) bytes at offset off. It has the rules of [Device.Do].
func ReadAt(d Device, buf []byte, off int64) error { return doOne(d, false, buf, off) }

// WriteAt writes buf at offset off. It has the rules of [Device.Do].
func WriteAt(d Device, buf []byte, off int64) error { return doOne(d, true, buf, off) }

func doOne(d Device, write bool, buf []byte, off int64) error {
	ops := oneOp.Get().(*[1]Op)
	ops[0] = Op{Write: write, Off: off, Buf: buf}
	err := d.Do(ops[:])
	ops[0] = Op{}
	oneOp.Put(ops)
	return err
}

// CheckOp tells what is wrong with op on a device of the given size: nil, or
// an error that matches syscall.EINVAL. Every Device calls it, so that a simulated one
// refuses what O_DIRECT would refuse.
func CheckOp(op *Op, size int64) error {
	n := int64(len(op.Buf))
	if n == 0 || n%format.SmallSize != 0 || op.Off%format.SmallSize != 0 || !aligned(op.Buf) {
		return errAlign
	}
	if op.Off < 0 || op.Off > size-n {
		return errRange
	}
	return nil
}

// OpError adds to a failed operation's error what was done, where and how much.
func OpError(device string, op *Op, err error) error {
	verb := "read"
	if op.Write {
		verb = "write"
	}
	return fmt.Errorf("block: %s %s offset %d length %d: %w", verb, device, op.Off, len(op.Buf), err)
}

// firstError is the error of the first failed operation.
func firstError(ops []Op) error {
	for i := range ops {
		if ops[i].Err != nil {
			return ops[i].Err
		}
	}
	return nil
}
