// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"scoutfs/block"
	"scoutfs/format"
	"scoutfs/internal/simdisk"
	"scoutfs/server"
)

// commitFault makes one step of a commit fail: the flush behind the blocks, the
// write of the super, or the flush behind it.
type commitFault struct {
	flush, super bool
}

// arm makes the disk fail once, and drop what it had not flushed if a flush
// fails. left counts down to 0 when it has happened.
func (c commitFault) arm(d *simdisk.Disk) *atomic.Int64 {
	left := new(atomic.Int64)
	left.Store(1)
	var mu sync.Mutex
	superSeen := false
	d.SetFault(func(op simdisk.FaultOp) error {
		mu.Lock()
		defer mu.Unlock()
		isSuper := op.Write && op.Off == int64(format.SuperBlkno)<<format.SmallShift
		hit := c.super && !c.flush && isSuper || c.flush && op.Flush && superSeen == c.super
		superSeen = superSeen && !op.Flush || isSuper
		if !hit || left.Add(-1) < 0 {
			return nil
		}
		if op.Flush {
			d.Drop()
		}
		return simdisk.ErrInjected
	})
	return left
}

// TestFailedFlush makes each durable step of a commit fail once: the commit is
// not answered as done, and when it is at last, no power cut can take it back.
func TestFailedFlush(t *testing.T) {
	for name, fault := range map[string]commitFault{
		"flush of blocks": {flush: true}, "write of super": {super: true}, "flush of super": {flush: true, super: true},
	} {
		t.Run(name, func(t *testing.T) {
			v := newVolume(t, 1)
			s := v.start()
			m := v.mount(s, 7, 0, nil)
			for range 3 {
				must(t, m.open(t.Context()))
				must(t, m.write(20, 100))
				must(t, m.remove(5))
				must(t, m.flush())
				before := v.meta.Crash(rand.New(rand.NewPCG(1, 1)), 0)
				left := fault.arm(v.meta)
				if err := m.l.CommitLogTrees(t.Context(), &m.lt); !errors.Is(err, syscall.EIO) {
					t.Fatalf("commit that failed: %v", err)
				}
				if left.Load() > 0 {
					t.Fatal("no fault")
				}
				lost := v.on(v.meta.Crash(rand.New(rand.NewPCG(1, 1)), 0))
				if sup, was := lost.readSuper(), v.on(before).readSuper(); *sup != *was {
					t.Errorf("super after a failed commit: %+v, before %+v", sup, was)
				}
				lost.audit()
				must(t, m.l.CommitLogTrees(t.Context(), &m.lt))
				v.meta.SetFault(nil)
				cv := v.on(v.meta.Crash(rand.New(rand.NewPCG(1, 1)), 0))
				sup, trees := cv.audit()
				if got := cv.counters(sup, trees)[7]; got != m.lt.GetTransSeq {
					t.Fatalf("counter %d after a power cut, committed %d", got, m.lt.GetTransSeq)
				}
			}
			must(t, m.l.Farewell(t.Context()))
			s.Stop()
			v.audit()
		})
	}
}

// shared is a device that somebody else uses too.
type shared struct {
	block.Device
	failures atomic.Uint64
}

func (d *shared) FlushFailures() uint64 { return d.failures.Load() }

// TestForeignFlushFails lets a flush of somebody else fail while the super is
// written: what the device lost then may be the super.
func TestForeignFlushFails(t *testing.T) {
	v := newVolume(t, 1)
	dev := &shared{Device: v.meta}
	s := v.start(func(o *server.Options) { o.Meta = dev })
	m := v.mount(s, 7, 0, nil)
	v.meta.OnWrite(func(op simdisk.FaultOp) {
		if op.Off == int64(format.SuperBlkno)<<format.SmallShift {
			v.meta.OnWrite(nil)
			v.meta.Drop()
			dev.failures.Add(1)
		}
	})
	if _, err := m.l.AllocInodes(t.Context(), 1); !errors.Is(err, syscall.EIO) {
		t.Errorf("commit whose super was lost: %v", err)
	}
	r, err := m.l.AllocInodes(t.Context(), 1)
	must(t, err)
	if sup := v.readSuper(); sup.NextIno != r.Ino+1 {
		t.Errorf("next inode on disk %d, handed out %d", sup.NextIno, r.Ino)
	}
}
