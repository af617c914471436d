// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package lock_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"scoutfs/format"
	"scoutfs/lock"
)

// TestServer runs conversations with a lock server:
//
//	request rid=1 id=7 key=1024 mode=write    a LOCK request for an inode group
//	done rid=1 key=1024                       the response to an invalidation
//	remove rid=1
//	recover rids=(1,2) | recovered rid=1 [key:mode:seq ...] | finish rid=1
//	locks | stats
func TestServer(t *testing.T) {
	datadriven.Walk(t, "testdata/server", func(t *testing.T, path string) {
		var seq uint64
		s := lock.NewServer(func() uint64 { seq++; return seq })
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			var b strings.Builder
			switch d.Cmd {
			case "request":
				show(&b, s.Request(ridArg(t, d), u64Arg(t, d, "id"), format.NetLock{Key: keyArg(t, d), NewMode: modeArg(t, d)}))
			case "done":
				show(&b, s.InvalidateDone(ridArg(t, d), format.NetLock{Key: keyArg(t, d)}))
			case "remove":
				show(&b, s.Remove(ridArg(t, d)))
			case "recover":
				var rids []format.Rid
				for _, a := range d.CmdArgs[0].Vals {
					n, _ := strconv.ParseUint(a, 0, 64)
					rids = append(rids, format.Rid(n))
				}
				s.StartRecovery(rids)
			case "recovered":
				locks := recoveredArg(t, d)
				seq = max(seq, lock.MaxWriteSeq(locks))
				next, done, outs, err := s.Recovered(ridArg(t, d), locks)
				if err != nil {
					return fmt.Sprintf("error: %v\n", err)
				}
				fmt.Fprintf(&b, "next %v done %v\n", next, done)
				show(&b, outs)
			case "finish":
				show(&b, s.FinishRecovery(ridArg(t, d)))
			case "locks":
				_ = s.DumpLocks(&b)
			case "stats":
				_ = s.DumpStats(&b)
			case "snapshot":
				fmt.Fprintf(&b, "%+v\n", s.Stats())
			default:
				t.Fatalf("unknown command %q", d.Cmd)
			}
			return b.String()
		})
	})
}

func show(b *strings.Builder, outs []lock.Out) {
	for _, o := range outs {
		switch o.Kind {
		case lock.Grant:
			fmt.Fprintf(b, "grant rid %d id %d %v %s->%s seq %d\n", o.Rid, o.ReqID, o.Lock.Key, o.Lock.OldMode, o.Lock.NewMode, o.Lock.WriteSeq)
		case lock.Invalidate:
			fmt.Fprintf(b, "invalidate rid %d %v %s->%s\n", o.Rid, o.Lock.Key, o.Lock.OldMode, o.Lock.NewMode)
		}
	}
}

func u64Arg(t *testing.T, d *datadriven.TestData, name string) uint64 {
	var v uint64
	d.ScanArgs(t, name, &v)
	return v
}

func ridArg(t *testing.T, d *datadriven.TestData) format.Rid { return format.Rid(u64Arg(t, d, "rid")) }

func keyArg(t *testing.T, d *datadriven.TestData) format.Key {
	return lock.InodeGroup(format.Ino(u64Arg(t, d, "key"))).Start
}

func modeArg(t *testing.T, d *datadriven.TestData) format.LockMode {
	var s string
	d.ScanArgs(t, "mode", &s)
	return parseMode(t, s)
}

func parseMode(t *testing.T, s string) format.LockMode {
	for m := range format.LockModes {
		if m.String() == s {
			return m
		}
	}
	n, err := strconv.ParseUint(s, 0, 8)
	if err != nil {
		t.Fatalf("mode %q", s)
	}
	return format.LockMode(n)
}

func recoveredArg(t *testing.T, d *datadriven.TestData) []format.NetLock {
	var out []format.NetLock
	for _, line := range strings.Fields(d.Input) {
		f := strings.Split(line, ":")
		ino, _ := strconv.ParseUint(f[0], 0, 64)
		seq, _ := strconv.ParseUint(f[2], 0, 64)
		mode := parseMode(t, f[1])
		out = append(out, format.NetLock{Key: lock.InodeGroup(format.Ino(ino)).Start, OldMode: mode, NewMode: mode, WriteSeq: seq})
	}
	return out
}

// TestServerKeyMax: a recovered lock at the end of the key space would make the
// conversation start again.
func TestServerKeyMax(t *testing.T) {
	s := lock.NewServer(func() uint64 { return 1 })
	s.StartRecovery([]format.Rid{1})
	_, _, _, err := s.Recovered(1, []format.NetLock{{Key: format.KeyMax, NewMode: format.LockRead}})
	if err == nil {
		t.Fatal("accepted")
	}
	if err := lock.CheckRequest(format.NetLock{NewMode: format.LockModes}); err == nil {
		t.Fatal("accepted")
	}
}
