// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package sim_test

import (
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"scoutfs/block"
	"scoutfs/internal/simdisk"
)

const (
	sectorSize = 4096
	tornSize   = 512
)

// event is a write or a flush that a disk has done.
type event struct {
	disk  int
	flush bool
	off   int64
	data  []byte
}

// tape is what both disks of a node have done, in order.
type tape struct {
	mu     sync.Mutex
	events []event
}

// pos is how many events there are.
func (p *tape) pos() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.events)
}

// tap is a disk that records.
type tap struct {
	block.Device
	tape *tape
	disk int
	late time.Duration // before each flush; in fake time it makes the order of concurrent flushes the same always
}

// record returns devices that write to the tape what they do.
func record(d [2]*simdisk.Disk) (*tape, disks) {
	p := &tape{}
	return p, disks{&tap{Device: d[0], tape: p, disk: 0}, &tap{Device: d[1], tape: p, disk: 1, late: time.Microsecond}}
}

func (r *tap) Do(ops []block.Op) error {
	if !slices.ContainsFunc(ops, func(op block.Op) bool { return op.Write }) {
		return r.Device.Do(ops)
	}
	r.tape.mu.Lock()
	defer r.tape.mu.Unlock()
	err := r.Device.Do(ops)
	for i := range ops {
		if op := &ops[i]; op.Write && op.Err == nil {
			r.tape.events = append(r.tape.events, event{disk: r.disk, off: op.Off, data: slices.Clone(op.Buf)})
		}
	}
	return err
}

func (r *tap) Flush() error {
	time.Sleep(r.late)
	r.tape.mu.Lock()
	defer r.tape.mu.Unlock()
	err := r.Device.Flush()
	if err == nil {
		r.tape.events = append(r.tape.events, event{disk: r.disk, flush: true})
	}
	return err
}

// piece is a written sector that is not flushed.
type piece struct {
	num    int64
	data   []byte
	atomic bool // cannot be torn
}

// player goes forward through a tape and makes images of what a power cut
// leaves.
type player struct {
	t       testing.TB
	base    [2]*simdisk.Disk // all durable
	pending [2][]piece       // oldest first
	events  []event
	at      int
}

func newPlayer(t testing.TB, base [2]*simdisk.Disk, events []event) *player {
	return &player{t: t, base: [2]*simdisk.Disk{base[0].Clone(), base[1].Clone()}, events: events}
}

// seek goes forward to event n.
func (p *player) seek(n int) {
	for ; p.at < n; p.at++ {
		e := &p.events[p.at]
		if e.flush {
			put(p.t, p.base[e.disk], p.pending[e.disk])
			p.pending[e.disk] = nil
			continue
		}
		for at := 0; at < len(e.data); at += sectorSize {
			p.pending[e.disk] = append(p.pending[e.disk], piece{
				num: (e.off + int64(at)) / sectorSize, data: e.data[at:][:sectorSize],
				// The format relies on single 4 KiB blocks of metadata.
				atomic: e.disk == metaDisk && len(e.data) == sectorSize,
			})
		}
	}
}

// put writes sectors and makes them durable.
func put(t testing.TB, d *simdisk.Disk, pieces []piece) {
	last := make(map[int64][]byte, len(pieces))
	for _, p := range pieces {
		last[p.num] = p.data
	}
	buf := block.AlignedBuf(sectorSize)
	defer block.FreeBuf(buf)
	for _, num := range slices.Sorted(maps.Keys(last)) {
		copy(buf, last[num])
		if err := block.WriteAt(d, buf, num*sectorSize); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Flush(); err != nil {
		t.Fatal(err)
	}
}

// cut returns what the disks hold if the power fails now. Which of the writes
// that were not flushed are there is up to rng.
func (p *player) cut(rng *rand.Rand) (img [2]*simdisk.Disk) {
	how := rng.IntN(8)
	torn := rng.IntN(2) == 0
	for i := range img {
		img[i] = p.base[i].Clone()
		kept := keep(p.pending[i], how, rng)
		if torn {
			kept = p.tear(img[i], kept, rng)
		}
		put(p.t, img[i], kept)
	}
	return img
}

// keep chooses from sectors that were not flushed.
func keep(pending []piece, how int, rng *rand.Rand) (kept []piece) {
	switch how {
	case 0:
		return nil
	case 1:
		return pending
	case 2: // as on a disk that keeps the order
		return pending[:rng.IntN(len(pending)+1)]
	case 3: // all but one
		if len(pending) == 0 {
			return nil
		}
		n := rng.IntN(len(pending))
		return append(slices.Clone(pending[:n]), pending[n+1:]...)
	case 4: // the newest only
		return pending[max(0, len(pending)-1-rng.IntN(3)):]
	}
	pct := rng.IntN(101)
	for _, p := range pending {
		if rng.IntN(100) < pct {
			kept = append(kept, p)
		}
	}
	return kept
}

// tear makes some sectors a mixture of what they were and what was written.
func (p *player) tear(d *simdisk.Disk, kept []piece, rng *rand.Rand) (out []piece) {
	old := block.AlignedBuf(sectorSize)
	defer block.FreeBuf(old)
	for _, k := range kept {
		if k.atomic || rng.IntN(8) != 0 {
			out = append(out, k)
			continue
		}
		if err := block.ReadAt(d, old, k.num*sectorSize); err != nil {
			p.t.Fatal(err)
		}
		mixed := slices.Clone(k.data)
		for at := 0; at < sectorSize; at += tornSize {
			if rng.IntN(2) == 0 {
				copy(mixed[at:at+tornSize], old[at:])
			}
		}
		out = append(out, piece{num: k.num, data: mixed})
	}
	return out
}
