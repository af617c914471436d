// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

//go:build system

package tests

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// number is an environment variable, or a default: SCOUTFS_ROUNDS is how often
// random tests repeat, SEED what they begin with.
func number(t *testing.T, name string, other uint64) uint64 {
	t.Helper()
	s := os.Getenv(name)
	if s == "" {
		return other
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

func rounds(t *testing.T) int { return int(number(t, "SCOUTFS_ROUNDS", 3)) }

// seeded returns a generator, and says in the log how to get the same again.
func seeded(t *testing.T) (uint64, *rand.Rand) {
	t.Helper()
	seed := number(t, "SEED", 1+rand.Uint64N(1_000_000))
	t.Logf("repeat with SEED=%d SCOUTFS_ROUNDS=%d", seed, rounds(t))
	return seed, rand.New(rand.NewPCG(seed, 0))
}

// loops makes the volume's devices loop devices over its files, until the test ends.
func (v *volume) loops() {
	v.t.Helper()
	for _, p := range []*string{&v.meta, &v.data} {
		out, err := command(limit, "losetup", "--direct-io=on", "--show", "-f", *p)
		if err != nil {
			v.t.Fatalf("losetup: %v %s", err, out)
		}
		*p = strings.TrimSpace(out)
		dev := *p
		v.t.Cleanup(func() { _, _ = command(limit, "losetup", "-d", dev) })
	}
	v.t.Cleanup(v.cleanup) // before the devices go
}

// loopVolume is a formatted volume on loop devices.
func loopVolume(t *testing.T) *volume {
	t.Helper()
	v := unformatted(t)
	v.loops()
	v.must("mkfs", "-A", "-Q", fmt.Sprintf("0,127.0.0.1,%d", v.port), v.meta, v.data)
	return v
}

// load is actors and writers of larger files at work.
type load struct {
	v       *volume
	actors  []*actor
	writers []*worker
	stop    chan struct{}
	wg      sync.WaitGroup

	mu   sync.Mutex
	errs []error // why actors ended
}

// begin starts three actors and a writer in directories of the given name.
func (v *volume) begin(name string, seed uint64, mark func() int) *load {
	v.t.Helper()
	l := &load{v: v, stop: make(chan struct{})}
	for i := range 3 {
		a := newActor(filepath.Join(v.mnt, fmt.Sprintf("%s-%d", name, i)), seed*10+uint64(i), mark)
		if err := a.start(); err != nil {
			v.t.Fatal(err)
		}
		l.actors = append(l.actors, a)
	}
	w := &worker{dir: filepath.Join(v.mnt, name+"-w"), rng: rand.New(rand.NewPCG(seed, 9)), synced: map[string]uint64{}, gone: map[string]bool{}}
	if err := os.Mkdir(w.dir, 0o755); err != nil {
		v.t.Fatal(err)
	}
	l.writers = append(l.writers, w)
	for _, a := range l.actors {
		l.wg.Go(func() { l.ended(a.act(l.stop)) })
	}
	for _, w := range l.writers {
		l.wg.Go(func() {
			for i := 0; w.step(i) == nil; i++ {
				select {
				case <-l.stop:
					return
				default:
				}
			}
		})
	}
	return l
}

func (l *load) ended(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.errs = append(l.errs, err)
}

// wait waits until all have ended. Errors that say that the mount is gone are
// what a crash gives; others are failures.
func (l *load) wait() {
	l.v.t.Helper()
	l.wg.Wait()
	for _, err := range l.errs {
		if err != nil && !gone(err) && !l.v.cutOff(err) {
			l.v.t.Errorf("actor: %v", err)
		}
	}
}

// cutOff reports whether an error is the EIO that the kernel makes of a reply
// that a daemon was killed in the middle of. What the daemon itself turns into
// EIO it writes to its log.
func (v *volume) cutOff(err error) bool {
	return strings.Contains(err.Error(), syscall.EIO.Error()) && !strings.Contains(v.log(), "failed with EIO")
}

// gone reports whether an error says that the mount has ended.
func gone(err error) bool {
	text := err.Error()
	for _, e := range []syscall.Errno{syscall.ENOTCONN, syscall.ECONNABORTED, syscall.ENODEV, syscall.ESHUTDOWN, syscall.ENOLINK, syscall.EINTR} {
		if strings.Contains(text, e.Error()) {
			return true
		}
	}
	return false
}

// verify compares everything. acked says that all that had returned must be there, synced
// or not.
func (l *load) verify(acked bool) {
	l.v.t.Helper()
	for _, a := range l.actors {
		first, last := a.window(-1)
		if acked {
			first = a.acked
		}
		if err := a.verify(first, last, true); err != nil {
			l.v.t.Errorf("%v", err)
		}
	}
	for _, w := range l.writers {
		w.verify(l.v.t)
	}
}

func (l *load) done() (n int) {
	for _, a := range l.actors {
		n += a.acked
	}
	return n
}

// TestKillRounds kills the daemon at random moments and looks at what is left,
// also at what earlier rounds left.
func TestKillRounds(t *testing.T) {
	seed, rng := seeded(t)
	v := loopVolume(t).mount()
	var before []*load
	actions := 0
	for round := range rounds(t) {
		l := v.begin(fmt.Sprint("r", round), seed+uint64(round), nil)
		time.Sleep(time.Duration(20+rng.IntN(1500)) * time.Millisecond)
		v.kill()
		l.wait()
		actions += l.done()
		v.check()
		v.mount()
		l.verify(false)
		for _, old := range before {
			old.verify(false)
		}
		if before = append(before, l); len(before) > 4 {
			for _, a := range before[0].actors {
				v.sh("rm -rf " + a.dir)
			}
			before = before[1:]
		}
		if t.Failed() {
			t.Fatalf("in round %d", round)
		}
	}
	v.umount()
	v.check()
	t.Logf("campaign: kill -9 under load: seed %d, %d rounds, %d actions", seed, rounds(t), actions)
}

// TestSignalRounds ends the daemon by signals under load: all that system calls
// have returned is there then.
func TestSignalRounds(t *testing.T) {
	seed, rng := seeded(t)
	v := loopVolume(t)
	for round := range rounds(t) {
		sig := []syscall.Signal{unix.SIGTERM, unix.SIGINT}[round%2]
		v.mount()
		l := v.begin(fmt.Sprint("s", round), seed+uint64(round), nil)
		time.Sleep(time.Duration(20+rng.IntN(1000)) * time.Millisecond)
		pid := v.pid()
		if err := unix.Kill(pid, sig); err != nil {
			t.Fatal(err)
		}
		waitGone(t, pid, sig.String())
		l.waitEnded()
		v.check()
		v.mount()
		l.verify(true)
		v.umount()
		if t.Failed() {
			t.Fatalf("in round %d", round)
		}
	}
	t.Logf("campaign: SIGTERM and SIGINT under load: seed %d, %d rounds", seed, rounds(t))
}

// running reports whether a process is there that did not end yet.
func running(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	state := b[strings.LastIndexByte(string(b), ')')+2]
	return state != 'Z' && state != 'X'
}

func waitGone(t *testing.T, pid int, what string) {
	t.Helper()
	for start := time.Now(); running(pid); time.Sleep(10 * time.Millisecond) {
		if time.Since(start) > 2*time.Minute {
			t.Fatalf("the daemon does not end after %s", what)
		}
	}
}

// waitEnded is wait for a mount that went away as one does that is unmounted:
// the directories of the actors do not exist any more then.
func (l *load) waitEnded() {
	l.v.t.Helper()
	l.wg.Wait()
	for _, err := range l.errs {
		if err != nil && !gone(err) && !strings.Contains(err.Error(), syscall.ENOENT.Error()) {
			l.v.t.Errorf("actor: %v", err)
		}
	}
}

// TestUmountRounds unmounts while programs use the mount: it is busy, or what
// system calls have returned is there at the next mount.
func TestUmountRounds(t *testing.T) {
	seed, rng := seeded(t)
	v := loopVolume(t)
	busy := 0
	for round := range rounds(t) {
		v.mount()
		l := v.begin(fmt.Sprint("u", round), seed+uint64(round), nil)
		time.Sleep(time.Duration(20+rng.IntN(1000)) * time.Millisecond)
		pid := v.pid()
		stop := time.AfterFunc(2*time.Second, func() { close(l.stop) }) // it may be busy for ever else
		for start := time.Now(); ; time.Sleep(time.Millisecond) {
			out, err := v.scoutfs("umount", v.mnt)
			if err == nil {
				break
			}
			if busy++; !strings.Contains(out, "busy") || time.Since(start) > 2*time.Minute {
				t.Fatalf("umount: %v %s", err, out)
			}
		}
		stop.Stop()
		if running(pid) {
			t.Error("umount returned before the daemon had ended")
		}
		l.waitEnded()
		v.check()
		v.mount()
		l.verify(true)
		v.umount()
		if t.Failed() {
			t.Fatalf("in round %d", round)
		}
	}
	t.Logf("campaign: umount under load: seed %d, %d rounds, busy %d times", seed, rounds(t), busy)
}
