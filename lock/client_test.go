// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package lock_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"scoutfs/format"
	"scoutfs/internal/invariants"
	"scoutfs/lock"
)

const (
	null      = format.LockNull
	read      = format.LockRead
	write     = format.LockWrite
	writeOnly = format.LockWriteOnly
)

// wire records what a client sends and lets a test play the server.
type wire struct {
	mu      sync.Mutex
	sent    []format.NetLock
	answers []uint64
	revoked []string
	onSend  func(format.NetLock)
	revoke  func(lk *lock.Lock, old, to format.LockMode) error
	cl      *lock.Client
	idle    int
}

func newWire() *wire {
	w := &wire{idle: 1 << 20}
	w.cl = lock.NewClient(lock.ClientOptions{Send: w.send, Respond: w.respond, Revoker: w, IdleCount: func() int { return w.idle }})
	return w
}

func (w *wire) send(l format.NetLock) {
	w.mu.Lock()
	w.sent = append(w.sent, l)
	f := w.onSend
	w.mu.Unlock()
	if f != nil {
		f(l)
	}
}

func (w *wire) respond(id uint64, _ format.NetLock) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answers = append(w.answers, id)
}

func (w *wire) Revoke(lk *lock.Lock, old, to format.LockMode, lastDirty uint64) error {
	w.mu.Lock()
	w.revoked = append(w.revoked, fmt.Sprintf("%v %s->%s dirty %d", lk.Start, old, to, lastDirty))
	f := w.revoke
	w.mu.Unlock()
	if f != nil {
		return f(lk, old, to)
	}
	return nil
}

// generous makes the wire a server that grants everything at once.
func (w *wire) generous() {
	w.onSend = func(l format.NetLock) { w.cl.HandleGrant(l) }
}

func (w *wire) take() (sent []format.NetLock, answers []uint64, revoked []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	sent, answers, revoked = w.sent, w.answers, w.revoked
	w.sent, w.answers, w.revoked = nil, nil, nil
	return sent, answers, revoked
}

func get(t *testing.T, w *wire, r lock.Range, mode format.LockMode) *lock.Lock {
	t.Helper()
	lk, err := w.cl.Acquire(context.Background(), r, mode)
	if err != nil {
		t.Fatal(err)
	}
	return lk
}

func group(n int) lock.Range { return lock.InodeGroup(format.Ino(n * format.LockGroup)) }

func msg(r lock.Range, old, to format.LockMode) format.NetLock {
	return format.NetLock{Key: r.Start, OldMode: old, NewMode: to}
}

func equal[T any](t *testing.T, what string, got, want T) {
	t.Helper()
	if d := cmp.Diff(fmt.Sprint(want), fmt.Sprint(got)); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

func TestRanges(t *testing.T) {
	for _, tc := range []struct {
		r          lock.Range
		start, end string
	}{
		{lock.InodeGroup(1), "16.0.0.0.0.0", "16.1023.255.18446744073709551615.18446744073709551615.255"},
		{lock.InodeGroup(2047), "16.1024.0.0.0.0", "16.2047.255.18446744073709551615.18446744073709551615.255"},
		{lock.Index(format.TypeMetaSeq, 5000), "4.0.4.4096.0.0", "4.0.4.5119.18446744073709551615.0"},
		{lock.Orphans(), "8.0.4.0.0.0", "8.0.4.18446744073709551615.0.0"},
		{lock.Quota(), "10.0.0.0.0.0", "10.18446744073709551615.255.18446744073709551615.18446744073709551615.255"},
		{lock.Totl(), "12.0.0.0.0.0", "12.18446744073709551615.255.18446744073709551615.18446744073709551615.255"},
		{lock.XattrIndex(), "14.0.0.0.0.0", "14.18446744073709551615.255.18446744073709551615.18446744073709551615.255"},
		{lock.Rename(), "20.0.4.0.0.0", "20.0.4.0.0.0"},
	} {
		equal(t, "start", tc.r.Start.String(), tc.start)
		equal(t, "end", tc.r.End.String(), tc.end)
	}
}

// TestFastPath: a granted lock costs no message and no allocation.
func TestFastPath(t *testing.T) {
	w := newWire()
	w.generous()
	ctx := context.Background()
	w.cl.Release(get(t, w, group(1), write), write, 0)
	w.take()
	allocs := testing.AllocsPerRun(100, func() {
		for _, mode := range []format.LockMode{write, read} {
			lk, err := w.cl.Acquire(ctx, group(1), mode)
			if err != nil {
				t.Fatal(err)
			}
			w.cl.Release(lk, mode, 7)
		}
	})
	if allocs != 0 && !invariants.Enabled {
		t.Errorf("%v allocations", allocs)
	}
	if sent, _, _ := w.take(); len(sent) != 0 {
		t.Errorf("sent %v", sent)
	}
}

// TestModes: what a grant serves, and the values that come with it.
func TestModes(t *testing.T) {
	w := newWire()
	var seq uint64
	w.onSend = func(l format.NetLock) {
		if seq++; l.NewMode != read {
			l.WriteSeq = seq
		}
		w.cl.HandleGrant(l)
	}
	lk := get(t, w, group(1), read)
	if lk.Mode() != read || lk.RefreshGen() != 1 || lk.WriteSeq() != 0 {
		t.Errorf("mode %v gen %d seq %d", lk.Mode(), lk.RefreshGen(), lk.WriteSeq())
	}
	get(t, w, group(1), write) // upgrade in place: still readable, no refresh
	if lk.Mode() != write || lk.RefreshGen() != 1 || lk.WriteSeq() != 2 {
		t.Errorf("mode %v gen %d seq %d", lk.Mode(), lk.RefreshGen(), lk.WriteSeq())
	}
	w.cl.Release(lk, read, 0)
	w.cl.Release(lk, write, 9)
	wo := get(t, w, group(2), writeOnly)
	if wo.RefreshGen() != 0 {
		t.Errorf("gen %d", wo.RefreshGen())
	}
	w.cl.Release(wo, writeOnly, 9)
	get(t, w, group(2), read)
	if wo.RefreshGen() != 2 {
		t.Errorf("gen %d", wo.RefreshGen())
	}
	sent, _, _ := w.take()
	equal(t, "sent", sent, []format.NetLock{
		msg(group(1), null, read), msg(group(1), read, write), msg(group(2), null, writeOnly), msg(group(2), writeOnly, read)})
	k := format.KeyInode(1500)
	if !lk.Covers(&k) || wo.Covers(&k) {
		t.Error("covers")
	}
	for _, mode := range []format.LockMode{null, 4} {
		if _, err := w.cl.Acquire(context.Background(), group(1), mode); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("mode %d: %v", mode, err)
		}
	}
}

// TestInvalidate: users leave first, then the lock is reduced, and every
// request is answered in order; duplicates and unknown locks at once.
func TestInvalidate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		w.generous()
		lk := get(t, w, group(1), write)
		rd := get(t, w, group(1), read)
		w.cl.HandleInvalidate(1, msg(group(1), write, read))
		w.cl.HandleInvalidate(2, msg(group(1), read, null))
		w.cl.HandleInvalidate(3, msg(group(1), read, null))
		w.cl.HandleInvalidate(4, msg(group(9), write, null))
		synctest.Wait()
		_, answers, revoked := w.take()
		equal(t, "answers", answers, []uint64{4})
		equal(t, "revoked", revoked, nil)
		w.cl.Release(lk, write, 5)
		synctest.Wait()
		_, answers, revoked = w.take()
		equal(t, "answers", answers, []uint64{1})
		equal(t, "revoked", revoked, []string{"16.1024.0.0.0.0 write->read dirty 5"})
		w.cl.Release(rd, read, 0)
		synctest.Wait()
		_, answers, revoked = w.take()
		equal(t, "answers", answers, []uint64{2, 3})
		equal(t, "revoked", revoked, []string{"16.1024.0.0.0.0 read->null dirty 5"})
		if m := w.cl.Metrics(); m.Locks != 0 {
			t.Errorf("%+v", m)
		}
		w.cl.HandleInvalidate(5, msg(group(1), null, write)) // nonsense is answered too
		lk = get(t, w, group(1), write)
		w.cl.HandleInvalidate(6, msg(group(1), null, write))
		w.cl.Release(lk, write, 0)
		synctest.Wait()
		_, answers, revoked = w.take()
		equal(t, "answers", answers, []uint64{5, 6})
		equal(t, "revoked", revoked, nil)
		w.cl.Close()
	})
}

// TestGate: newcomers do not hold up a revocation, except for those that it
// does not concern and those that have waited long.
func TestGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		w.generous()
		lk := get(t, w, group(1), write)
		w.cl.HandleInvalidate(1, msg(group(1), write, read))
		w.cl.Release(get(t, w, group(1), read), read, 0)
		if lk.Mode() != write {
			t.Errorf("mode %v", lk.Mode())
		}
		equal(t, "recovered", w.cl.Recover(format.Key{}), []format.NetLock{msg(group(1), write, write)})
		if _, err := w.cl.TryAcquire(group(1), write); !errors.Is(err, syscall.EAGAIN) {
			t.Errorf("got %v", err)
		}
		w.cl.Again(lk, write)
		w.cl.Release(lk, write, 0)
		start := time.Now()
		again := get(t, w, group(1), write) // the same task once more
		if d := time.Since(start); d != time.Second {
			t.Errorf("waited %v", d)
		}
		w.cl.Release(again, write, 0)
		go func() {
			time.Sleep(time.Millisecond)
			w.cl.Release(lk, write, 0)
		}()
		start = time.Now()
		get(t, w, group(1), write) // another task gets it after the revocation
		if d := time.Since(start); d != time.Millisecond {
			t.Errorf("waited %v", d)
		}
		sent, answers, _ := w.take()
		equal(t, "answers", answers, []uint64{1})
		equal(t, "sent", sent, []format.NetLock{msg(group(1), null, write), msg(group(1), read, write)})
	})
}

// TestCancel: a wait that ends by its context is EINTR, sends nothing more, and
// a late grant is kept for others.
func TestCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_, err := w.cl.Acquire(ctx, group(1), write)
		if !errors.Is(err, syscall.EINTR) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if _, err := w.cl.TryAcquire(group(1), write); !errors.Is(err, syscall.EAGAIN) {
			t.Errorf("got %v", err)
		}
		w.cl.HandleGrant(msg(group(1), null, write))
		lk, err := w.cl.TryAcquire(group(1), write)
		if err != nil {
			t.Fatal(err)
		}
		w.cl.Release(lk, write, 0)
		if sent, _, _ := w.take(); len(sent) != 1 {
			t.Errorf("sent %v", sent)
		}
	})
}

// TestTrim: above the limit each acquire gives back at most one idle lock, and
// not one that was used recently.
func TestTrim(t *testing.T) {
	w := newWire()
	w.generous()
	w.idle = 32
	hot := group(1000)
	for i := range 32 {
		w.cl.Release(get(t, w, group(i), read), read, 0)
	}
	held := get(t, w, hot, write)
	w.onSend = nil
	w.take()
	for range 3 {
		w.cl.Release(get(t, w, hot, write), write, 0)
		sent, _, _ := w.take()
		if len(sent) > 1 || len(sent) == 1 && (sent[0].NewMode != null || sent[0].OldMode != read) {
			t.Errorf("sent %v", sent)
		}
	}
	if m := w.cl.Metrics(); m.Shrinking != 1 || m.ShrinkAttempted != 1 {
		t.Errorf("%+v", m) // 33 locks, one of them going
	}
	if n := w.cl.PurgeIdle(); n != 31 {
		t.Errorf("gave back %d", n)
	}
	sent, _, _ := w.take()
	for _, l := range sent {
		w.cl.HandleInvalidate(1, l)
	}
	w.cl.Close() // waits for the workers
	for i := range 32 {
		w.cl.HandleGrant(msg(group(i), null, null))
	}
	if m := w.cl.Metrics(); m.Locks != 1 || m.Shrinking != 0 {
		t.Errorf("%+v", m)
	}
	w.cl.Release(held, write, 0)
}

// TestShutdown: waiters and newcomers fail, revocations go on until Close and
// are still answered after it.
func TestShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := w.cl.Acquire(context.Background(), group(1), read); !errors.Is(err, syscall.ESHUTDOWN) {
				t.Errorf("got %v", err)
			}
		})
		synctest.Wait()
		w.generous()
		lk := get(t, w, group(2), write)
		w.cl.Release(lk, write, 3)
		lk = get(t, w, group(3), write)
		w.cl.Release(lk, write, 3)
		w.cl.Shutdown()
		wg.Wait()
		if _, err := w.cl.Acquire(context.Background(), group(2), read); !errors.Is(err, syscall.ESHUTDOWN) {
			t.Errorf("got %v", err)
		}
		if _, err := w.cl.TryAcquire(group(2), read); !errors.Is(err, syscall.ESHUTDOWN) {
			t.Errorf("got %v", err)
		}
		w.cl.HandleInvalidate(1, msg(group(2), write, null))
		w.cl.Close()
		_, answers, revoked := w.take()
		equal(t, "answers", answers, []uint64{1})
		equal(t, "revoked", len(revoked), 1)
		w.cl.HandleInvalidate(2, msg(group(3), write, null))
		_, answers, revoked = w.take()
		equal(t, "answers", answers, []uint64{2})
		equal(t, "revoked", len(revoked), 0)
	})
}

// TestPages: page requests are served under the old mode until the revoker
// closes admission; it is told when more came in meanwhile.
func TestPages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		w.generous()
		w.cl.Release(get(t, w, group(1), write), write, 1)
		passes := 0
		w.revoke = func(lk *lock.Lock, old, to format.LockMode) error {
			if lk.Mode() != null {
				t.Errorf("mode %v", lk.Mode())
			}
			for {
				seen := lk.Admitted()
				if passes++; passes == 1 {
					pg, err := w.cl.AcquirePage(context.Background(), group(1), write)
					if err != nil {
						t.Error(err)
					}
					if pg.Mode() != write {
						t.Errorf("mode %v", pg.Mode())
					}
					go func() {
						time.Sleep(time.Second)
						w.cl.Release(pg, write, 2)
					}()
				}
				if w.cl.CloseAdmission(lk, seen) {
					break
				}
			}
			if lk.LastDirty() != 2 {
				t.Errorf("last dirty %d", lk.LastDirty())
			}
			if _, err := w.cl.TryAcquirePage(group(1), read); !errors.Is(err, syscall.EAGAIN) {
				t.Errorf("got %v", err)
			}
			return nil
		}
		w.cl.HandleInvalidate(1, msg(group(1), write, null))
		time.Sleep(2 * time.Second)
		synctest.Wait()
		_, answers, revoked := w.take()
		equal(t, "answers", answers, []uint64{1})
		equal(t, "revoked", len(revoked), 1)
		equal(t, "passes", passes, 2)

		// A revoker that knows nothing of pages is called again.
		w.revoke = func(lk *lock.Lock, old, to format.LockMode) error {
			if passes++; passes == 3 {
				pg, err := w.cl.TryAcquirePage(group(1), read)
				if err != nil {
					t.Error(err)
				}
				w.cl.Release(pg, read, 0)
			}
			return nil
		}
		w.cl.Release(get(t, w, group(1), read), read, 0)
		w.cl.HandleInvalidate(2, msg(group(1), read, null))
		synctest.Wait()
		_, answers, _ = w.take()
		equal(t, "answers", answers, []uint64{2})
		equal(t, "passes", passes, 4)
		w.cl.Close()
	})
}

// TestRecover: key order, 22 at a time, the mode before a revocation; a grant
// of the new server waits for the revocation of the old one.
func TestRecover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		w.generous()
		for i := 49; i >= 0; i-- {
			w.cl.Release(get(t, w, group(i), read), read, 0)
		}
		w.onSend = nil
		w.take()
		gate := make(chan struct{})
		w.revoke = func(*lock.Lock, format.LockMode, format.LockMode) error { <-gate; return nil }
		var wg sync.WaitGroup
		w.cl.HandleInvalidate(1, msg(group(0), read, null))
		var lk *lock.Lock
		wg.Go(func() { lk = get(t, w, group(0), write) })
		synctest.Wait()

		var got []format.NetLock
		var calls []int
		from := format.Key{}
		for {
			locks := w.cl.Recover(from)
			calls = append(calls, len(locks))
			if len(locks) == 0 {
				break
			}
			got = append(got, locks...)
			from = locks[len(locks)-1].Key.Inc()
		}
		equal(t, "calls", calls, []int{22, 22, 6, 0})
		for i, l := range got {
			equal(t, "lock", l, msg(group(i), read, read))
		}
		sent, _, _ := w.take()
		equal(t, "sent", sent, []format.NetLock{msg(group(0), null, write)})
		w.cl.HandleGrant(msg(group(0), read, write))
		synctest.Wait()
		if lk != nil {
			t.Error("a new user came in while the cache is being dropped")
		}
		close(gate)
		wg.Wait()
		if lk.RefreshGen() != 51 {
			t.Errorf("gen %d", lk.RefreshGen())
		}
		w.cl.Release(lk, write, 0)
		w.cl.Close()
	})
}

// TestRevokeError: a revocation that failed is never answered, and recovery
// keeps telling the old mode.
func TestRevokeError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		w.generous()
		w.cl.Release(get(t, w, group(0), write), write, 1)
		w.revoke = func(*lock.Lock, format.LockMode, format.LockMode) error { return syscall.ENOLINK }
		w.cl.HandleInvalidate(1, msg(group(0), write, null))
		synctest.Wait()
		_, answers, _ := w.take()
		equal(t, "answers", answers, nil)
		equal(t, "recovered", w.cl.Recover(format.Key{}), []format.NetLock{msg(group(0), write, write)})
		w.cl.Close()
	})
}

func TestDump(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		w.generous()
		get(t, w, lock.Rename(), write)
		lk := get(t, w, lock.Orphans(), writeOnly)
		w.cl.Again(lk, writeOnly)
		w.onSend = nil
		ctx, cancel := context.WithCancel(context.Background())
		go func() { _, _ = w.cl.Acquire(ctx, lock.Orphans(), read) }()
		synctest.Wait()
		var b strings.Builder
		if err := w.cl.Dump(&b); err != nil {
			t.Fatal(err)
		}
		equal(t, "dump", b.String(), `start 8.0.4.0.0.0 end 8.0.4.18446744073709551615.0.0 refresh_gen 0 mode 3 waiters: rd 1 wr 0 wo 0 users: rd 0 wr 0 wo 2
start 20.0.4.0.0.0 end 20.0.4.0.0.0 refresh_gen 1 mode 2 waiters: rd 0 wr 0 wo 0 users: rd 0 wr 1 wo 0
`)
		cancel()
		synctest.Wait()
	})
}

// TestStrangers: messages that fit nothing do no harm.
func TestStrangers(t *testing.T) {
	w := newWire()
	w.cl.HandleGrant(msg(group(0), null, read))
	w.cl.HandleGrant(msg(group(0), null, 77))
	w.cl.HandleInvalidate(1, msg(group(0), 77, 77))
	w.cl.Close()
}

func BenchmarkAcquire(b *testing.B) {
	w := newWire()
	w.generous()
	for i := range 64 {
		lk, _ := w.cl.Acquire(context.Background(), group(i), write)
		w.cl.Release(lk, write, 0)
	}
	for _, spread := range []int{1, 64} {
		b.Run(fmt.Sprintf("locks=%d", spread), func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				ctx := context.Background()
				for i := 0; pb.Next(); i++ {
					lk, _ := w.cl.Acquire(ctx, group(i%spread), write)
					w.cl.Release(lk, write, 1)
				}
			})
		})
	}
}
