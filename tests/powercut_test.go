// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

//go:build system

package tests

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// smallBlocks is where the metadata device's single 4 KiB blocks end: the format
// relies on their being written whole.
const smallBlocks = 128 << 10

// player makes images of what recorded devices hold after a power cut.
type player struct {
	t       *testing.T
	base    [2]string // files as before the recording
	events  []event
	at      int
	durable [2]map[int64][]byte // by page
	pending [2][]page           // written and not flushed, oldest first
}

type page struct {
	num  int64
	data []byte
}

func newPlayer(t *testing.T, base [2]string, events []event) *player {
	return &player{t: t, base: base, events: events, durable: [2]map[int64][]byte{{}, {}}}
}

// seek goes forward to event n.
func (p *player) seek(n int) {
	for ; p.at < n; p.at++ {
		e := &p.events[p.at]
		if e.flush {
			for _, w := range p.pending[e.disk] {
				p.durable[e.disk][w.num] = w.data
			}
			p.pending[e.disk] = nil
			continue
		}
		for at := 0; at+pageSize <= len(e.data); at += pageSize {
			p.pending[e.disk] = append(p.pending[e.disk], page{(e.off + int64(at)) / pageSize, e.data[at:][:pageSize]})
		}
	}
}

// image writes to paths what the devices hold when the power fails now. rng
// decides which of the writes that were not flushed are there.
func (p *player) image(paths [2]string, rng *rand.Rand) {
	p.t.Helper()
	how, torn := rng.IntN(4), rng.IntN(2) == 0
	for i, path := range paths {
		if out, err := command(limit, "cp", "--sparse=always", p.base[i], path); err != nil {
			p.t.Fatalf("cp: %v %s", err, out)
		}
		pages := maps.Clone(p.durable[i])
		for _, w := range keep(p.pending[i], how, rng) {
			if torn && rng.IntN(8) == 0 && (i != 0 || w.num*pageSize >= smallBlocks) {
				w.data = tear(p.durable[i][w.num], w.data, rng)
			}
			pages[w.num] = w.data
		}
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			p.t.Fatal(err)
		}
		for _, num := range slices.Sorted(maps.Keys(pages)) {
			if _, err := f.WriteAt(pages[num], num*pageSize); err != nil {
				p.t.Fatal(err)
			}
		}
		if err := f.Close(); err != nil {
			p.t.Fatal(err)
		}
	}
}

func keep(pending []page, how int, rng *rand.Rand) (kept []page) {
	switch how {
	case 0:
		return nil
	case 1:
		return pending[:rng.IntN(len(pending)+1)]
	}
	pct := rng.IntN(101)
	for _, w := range pending {
		if rng.IntN(100) < pct {
			kept = append(kept, w)
		}
	}
	return kept
}

// tear mixes pieces of two versions of a page.
func tear(before, after []byte, rng *rand.Rand) []byte {
	mixed := slices.Clone(after)
	for at := 0; at < pageSize; at += tornSize {
		switch {
		case rng.IntN(2) == 0:
		case before == nil:
			clear(mixed[at : at+tornSize])
		default:
			copy(mixed[at:at+tornSize], before[at:])
		}
	}
	return mixed
}

// TestPowerCuts records what a daemon under load sends to its devices, cuts
// the power at random moments of the recording, and mounts what is left.
func TestPowerCuts(t *testing.T) {
	for _, kind := range []string{"files", "loops"} {
		t.Run(kind, func(t *testing.T) { powerCuts(t, kind == "loops") })
	}
}

func powerCuts(t *testing.T, loops bool) {
	seed, rng := seeded(t)
	v := unformatted(t)
	v.must("mkfs", "-A", "-Q", fmt.Sprintf("0,127.0.0.1,%d", v.port), v.meta, v.data)
	v.damaged = true // the files change below it
	dir := openDir(t)
	base := [2]string{filepath.Join(dir, "meta"), filepath.Join(dir, "data")}
	for i, p := range []string{v.meta, v.data} {
		if out, err := command(limit, "cp", "--sparse=always", p, base[i]); err != nil {
			t.Fatalf("cp: %v %s", err, out)
		}
	}
	r := newRecorder(t, [2]string{v.meta, v.data})
	v.meta, v.data = r.path(0), r.path(1)
	if loops {
		v.loops()
	}
	t.Cleanup(v.cleanup) // before the recorder goes
	v.mount()
	l := v.begin("p", seed, r.pos)
	time.Sleep(1500 * time.Millisecond)
	v.kill() // what it leaves in the host's registry proves that it is dead, in all images
	l.wait()
	p := newPlayer(t, base, r.events)
	begun := l.actors[len(l.actors)-1].at[0]
	t.Logf("%d events, %d actions", len(p.events), l.done())
	image := [2]string{filepath.Join(dir, "meta.cut"), filepath.Join(dir, "data.cut")}
	cuts := make([]int, rounds(t))
	for i := range cuts {
		cuts[i] = begun/2 + rng.IntN(len(p.events)-begun/2+1)
	}
	slices.Sort(cuts)
	for _, cut := range cuts {
		p.seek(cut)
		p.image(image, rand.New(rand.NewPCG(seed, uint64(cut))))
		mountCut(t, v, image, l, cut)
		if t.Failed() {
			t.Fatalf("after a cut at %d of %d", cut, len(p.events))
		}
	}
	t.Logf("campaign: power cuts on a real device path, %s: seed %d, %d events, %d actions, %d cuts", strings.TrimPrefix(t.Name(), "TestPowerCuts/"), seed, len(p.events), l.done(), len(cuts))
}

// mountCut mounts an image in the place of the volume that was recorded and compares.
func mountCut(t *testing.T, v *volume, image [2]string, l *load, cut int) {
	t.Helper()
	c := *v
	c.meta, c.data = image[0], image[1]
	c.check()
	c.mount()
	for _, a := range l.actors {
		first, last := a.window(cut)
		if _, err := os.Lstat(a.dir); err != nil && a.at[0] > cut {
			continue // not there yet
		}
		if err := a.verify(first, last, false); err != nil {
			t.Errorf("%v", err)
		}
	}
	c.sh("echo works > after; sync after; rm after")
	c.umount()
	c.check()
}
