// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"errors"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"scoutfs/format"
)

// TestFirstMount follows one mount from its greeting to its farewell.
func TestFirstMount(t *testing.T) {
	v := newVolume(t, 1)
	s := v.start()
	m := v.mount(s, 7, format.NetGreetingQuorum, nil)
	v.audit()
	must(t, m.open(t.Context()))
	lt := m.lt
	if lt.Rid != 7 || lt.Nr != 1 || lt.GetTransSeq <= lt.CommitTransSeq || lt.MetaAvail.FirstNr != format.AllocListNr {
		t.Errorf("log trees %+v", lt)
	}
	if lt.DataAvail.TotalLen != 1048576 || lt.DataAvail.Flags != 0 {
		t.Errorf("data avail %+v", lt.DataAvail)
	}
	if lt.MetaAvail.Flags != format.AllocFlagLow {
		t.Errorf("a small volume is not low: %+v", lt.MetaAvail)
	}
	v.audit()

	// Opening again returns the same, without a commit in between.
	again, err := m.l.GetLogTrees(t.Context())
	must(t, err)
	if d := cmp.Diff(lt, again, cmp.AllowUnexported(format.LogTrees{}, format.AllocRoot{}, format.BtreeRoot{}, format.SrchFile{})); d != "" {
		t.Error(d)
	}

	for range 5 {
		must(t, m.write(10, 100))
		must(t, m.remove(3))
		must(t, m.commit(t.Context(), 1))
		v.audit()
		must(t, m.l.CommitLogTrees(t.Context(), &m.lt)) // a resend
		sup, trees := v.audit()
		if got := v.counters(sup, trees)[7]; got != m.lt.GetTransSeq {
			t.Errorf("counter %d, want %d", got, m.lt.GetTransSeq)
		}
		before := m.lt
		must(t, m.open(t.Context()))
		if m.lt.GetTransSeq <= before.GetTransSeq || m.lt.MetaFreed.TotalNr != 0 || m.lt.DataFreed.TotalLen != 0 {
			t.Errorf("log trees %+v", m.lt)
		}
		v.audit()
		// An old commit is refused: its sequence number is not the open one.
		if err := m.l.CommitLogTrees(t.Context(), &before); !errors.Is(err, syscall.EIO) {
			t.Errorf("old commit: %v", err)
		}
	}
	must(t, m.l.Farewell(t.Context()))
	sup, trees := v.audit()
	if len(trees) != 1 || trees[0].Flags != format.LogTreesFinalized || trees[0].CommitTransSeq != trees[0].GetTransSeq {
		t.Errorf("log trees %+v", trees)
	}
	if !sup.MountedClients.Ref.IsNull() {
		t.Errorf("mounted clients %+v", sup.MountedClients)
	}
	s.Stop()
	v.audit()

	// The next server continues the sequence and gives the next mount a new tree.
	s = v.start()
	if s.Seq() < trees[0].FinalizeSeq {
		t.Errorf("seq %d", s.Seq())
	}
	m = v.mount(s, 8, 0, nil)
	must(t, m.open(t.Context()))
	if m.lt.GetTransSeq <= trees[0].FinalizeSeq {
		t.Errorf("trans seq %d", m.lt.GetTransSeq)
	}
}

// TestCommitChecks sends commits that must be refused.
func TestCommitChecks(t *testing.T) {
	v := newVolume(t, 1)
	s := v.start()
	m := v.mount(s, 7, 0, nil)
	other := v.mount(s, 8, 0, nil)
	must(t, m.open(t.Context()))
	must(t, other.open(t.Context()))
	for name, c := range map[string]struct {
		change func(lt *format.LogTrees)
		want   error
	}{
		"rid of another":  {func(lt *format.LogTrees) { lt.Rid = 8 }, syscall.EIO},
		"no such nr":      {func(lt *format.LogTrees) { lt.Nr = 2 }, syscall.ENOENT},
		"wrong trans seq": {func(lt *format.LogTrees) { lt.GetTransSeq++ }, syscall.EIO},
	} {
		lt := m.lt
		c.change(&lt)
		if err := m.l.CommitLogTrees(t.Context(), &lt); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := m.l.Call(t.Context(), format.CmdCommitLogTrees, make([]byte, 471)); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("short commit: %v", err)
	}
	must(t, m.write(3, 0))
	must(t, m.commit(t.Context(), 1))
	v.audit()
}

// TestSrchRotation fills the srch log until the server takes the file.
func TestSrchRotation(t *testing.T) {
	v := newVolume(t, 1)
	s := v.start()
	m := v.mount(s, 7, 0, nil)
	rotations := 0
	for range 12 {
		must(t, m.open(t.Context()))
		before := m.lt.SrchFile
		if before.Blocks >= format.SrchRotateBlocks {
			t.Fatalf("file of %d blocks was left to the mount", before.Blocks)
		}
		must(t, m.write(0, 20000))
		blocks := m.lt.SrchFile.Blocks
		must(t, m.commit(t.Context(), 1))
		must(t, m.l.CommitLogTrees(t.Context(), &m.lt))
		_, trees := v.audit()
		if now := trees[0].SrchFile.Blocks; blocks >= format.SrchRotateBlocks {
			rotations++
			if now != 0 {
				t.Errorf("file of %d blocks was not taken", blocks)
			}
		} else if now != blocks {
			t.Errorf("file of %d blocks became %d", blocks, now)
		}
	}
	if rotations == 0 {
		t.Error("no rotation")
	}
	must(t, m.open(t.Context()))
	must(t, m.l.Farewell(t.Context()))
	v.audit()
}

// TestLastSeq makes sure that the reported number is below every open
// transaction's.
func TestLastSeq(t *testing.T) {
	v := newVolume(t, 1)
	s := v.start()
	a, b := v.mount(s, 7, 0, nil), v.mount(s, 8, 0, nil)
	must(t, a.open(t.Context()))
	must(t, b.open(t.Context()))
	last := func() uint64 {
		n, err := a.l.GetLastSeq(t.Context())
		must(t, err)
		return n
	}
	if got, want := last(), a.lt.GetTransSeq-1; got != want {
		t.Errorf("last seq %d, want %d", got, want)
	}
	must(t, a.write(1, 0))
	must(t, a.commit(t.Context(), 1))
	if got, want := last(), b.lt.GetTransSeq-1; got != want {
		t.Errorf("last seq %d, want %d", got, want)
	}
	must(t, b.write(1, 0))
	must(t, b.commit(t.Context(), 1))
	if got, want := last(), s.Seq()-1; got != want {
		t.Errorf("last seq %d, want %d", got, want)
	}
}

// TestFragmentedData makes a mount's freed space as fragmented as can be: it
// comes back in several commits, and no block is lost.
func TestFragmentedData(t *testing.T) {
	v := newVolumeOf(t, 1, metaBlocks, 40000)
	s := v.start()
	m := v.mount(s, 7, 0, nil)
	must(t, m.open(t.Context()))
	if m.lt.DataAvail.Flags != format.AllocFlagLow {
		t.Errorf("small data device is not low: %+v", m.lt.DataAvail)
	}
	// Take everything in single blocks, free every second, keep the others.
	n := 0
	for {
		start, _, err := m.data.Alloc(m.tx, 1)
		if errors.Is(err, syscall.ENOSPC) {
			break
		}
		must(t, err)
		if n++; n%2 == 0 {
			must(t, m.data.Free(m.tx, start, 1))
			continue
		}
		m.next++
		m.files[m.next] = extent{start, 1}
		x := format.Extent{Blkno: start}
		key := format.KeyExtent(7, m.next*100, 1)
		must(t, m.tx.Insert(&m.lt.ItemRoot, &key, format.Bytes(&x)))
	}
	must(t, m.commit(t.Context(), 1))
	v.audit()
	must(t, m.open(t.Context()))
	_, trees := v.audit()
	if m.lt.DataFreed.TotalLen != 0 || m.lt.DataAvail.TotalLen == 0 {
		t.Errorf("freed %+v avail %+v", trees[0].DataFreed, trees[0].DataAvail)
	}
	if s.Metrics().Commits < 4 {
		t.Logf("only %d commits", s.Metrics().Commits)
	}
	must(t, m.remove(5000))
	must(t, m.commit(t.Context(), 1))
	must(t, m.open(t.Context()))
	v.audit()
	must(t, m.l.Farewell(t.Context()))
	v.audit()
}
