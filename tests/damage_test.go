// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

//go:build system

package tests

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	damageLimit  = 90 * time.Second // for each program
	mountLimit   = 15               // seconds until a mount that waits is interrupted
	damageMemory = 6 << 20          // KiB of address space
	largeBlock   = 64 << 10
)

func checksum(b []byte) uint32 {
	return ^crc32.Checksum(b[4:], crc32.MakeTable(crc32.Castagnoli))
}

// goodBlocks finds the metadata blocks of a device file that are in use:
// offset and length.
func goodBlocks(t *testing.T, path string) (list [][2]int64) {
	t.Helper()
	printed, err := command(limit, bin, "print", path)
	if err != nil {
		t.Fatalf("print: %v %s", err, printed[:min(len(printed), 1000)])
	}
	used := map[string]bool{}
	for _, m := range regexp.MustCompile(`blkno (\d+) seq`).FindAllStringSubmatch(printed, -1) {
		used[m[1]] = true
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	add := func(off, n int64) {
		b := make([]byte, n)
		if n == largeBlock && !used[fmt.Sprint(off/n)] {
			return
		}
		if _, err := f.ReadAt(b, off); err == nil && binary.LittleEndian.Uint32(b) == checksum(b) && binary.LittleEndian.Uint32(b[4:]) != 0 {
			list = append(list, [2]int64{off, n})
		}
	}
	add(superOff, pageSize)
	add(superOff+pageSize, pageSize) // the quorum block of slot 0
	for off := int64(2 * largeBlock); ; off += largeBlock {
		data, err := unix.Seek(int(f.Fd()), off, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return list
		}
		if err != nil {
			t.Fatal(err)
		}
		off = data &^ (largeBlock - 1)
		add(off, largeBlock)
	}
}

// damage changes bytes in some blocks of a device file, most with a checksum that is right again.
func damage(t *testing.T, path string, good [][2]int64, rng *rand.Rand) (text string) {
	t.Helper()
	for range 1 + rng.IntN(6) {
		at := good[rng.IntN(len(good))]
		b := peek(t, path, at[0], int(at[1]))
		for range 1 + rng.IntN(4) {
			off := 4 + rng.IntN(len(b)-4)
			if rng.IntN(2) == 0 {
				off = 32 + rng.IntN(2000)
			}
			if rng.IntN(2) == 0 {
				b[off] ^= 1 << rng.IntN(8)
			} else {
				b[off] = []byte{0, 1, 0x7f, 0x80, 0xff, byte(rng.Uint32())}[rng.IntN(6)]
			}
		}
		repaired := rng.IntN(5) > 0
		if repaired {
			binary.LittleEndian.PutUint32(b, checksum(b))
		}
		poke(t, path, at[0], b)
		text += fmt.Sprintf(" %d bytes at %d, checksum repaired %v;", at[1], at[0], repaired)
	}
	return text
}

// limited runs a program with little memory and time, and looks for signs of a crash.
func limited(t *testing.T, what string, args ...string) (string, error) {
	t.Helper()
	out, err := command(damageLimit, "bash", append([]string{"-c", fmt.Sprintf("ulimit -v %d; exec \"$@\"", damageMemory), "limited"}, args...)...)
	crashless(t, what+": "+strings.Join(args, " "), out)
	if err != nil && strings.Contains(err.Error(), "no end within") {
		t.Errorf("%s: %s: %v", what, strings.Join(args, " "), err)
	}
	return out, err
}

func crashless(t *testing.T, what, out string) {
	t.Helper()
	for _, sign := range []string{"panic:", "fatal error:", "goroutine 1 [", "SIGSEGV", "SIGBUS", "out of memory", "cannot allocate memory"} {
		if i := strings.Index(out, sign); i >= 0 {
			t.Errorf("%s:\n%s", what, out[max(0, i-500):min(len(out), i+6000)])
			return
		}
	}
}

// TestDamagedMetadata changes bytes of metadata at random, then checks, prints,
// mounts, reads and changes the volume: errors are fine, crashes and hangs are not.
func TestDamagedMetadata(t *testing.T) {
	seed, _ := seeded(t)
	v := newVolume(t).mount()
	v.damaged = true
	l := v.begin("d", seed, nil)
	v.sh("cp -a " + filepath.Join(runtime.GOROOT(), "src/net") + " net; for i in $(seq 300); do echo $i > f$i; setfattr -n user.a -v $i f$i; done; sync f1")
	dir := openDir(t)
	base := [2][2]string{}
	for i, how := range []string{"killed", "unmounted"} {
		if i == 0 {
			v.kill()
			l.wait()
		} else {
			v.mount().umount()
		}
		for j, p := range []string{v.meta, v.data} {
			base[i][j] = filepath.Join(dir, how+fmt.Sprint(j))
			if out, err := command(limit, "cp", "--sparse=always", p, base[i][j]); err != nil {
				t.Fatalf("cp: %v %s", err, out)
			}
		}
	}
	good := [2][][2]int64{goodBlocks(t, base[0][0]), goodBlocks(t, base[1][0])}
	mounted := 0
	for round := range rounds(t) {
		k := round % 2
		c := *v
		c.meta, c.data = filepath.Join(dir, "meta"), filepath.Join(dir, "data")
		for j, p := range []string{c.meta, c.data} {
			if out, err := command(limit, "cp", "--sparse=always", base[k][j], p); err != nil {
				t.Fatalf("cp: %v %s", err, out)
			}
		}
		what := fmt.Sprintf("round %d:%s", round, damage(t, c.meta, good[k], rand.New(rand.NewPCG(seed, uint64(round)))))
		if c.survive(t, what) {
			mounted++
		}
		if t.Failed() {
			t.Fatalf("%s\nlog:\n%s", what, c.log()[max(0, len(c.log())-5000):])
		}
	}
	t.Logf("campaign: damaged metadata: seed %d, %d and %d blocks, %d rounds, %d of them could be mounted", seed, len(good[0]), len(good[1]), rounds(t), mounted)
}

// survive runs the programs on a damaged volume. It reports whether that could be mounted.
func (v *volume) survive(t *testing.T, what string) (mounted bool) {
	t.Helper()
	logged := len(v.log())
	_, _ = limited(t, what, bin, "check", "--no-progress", v.meta, v.data)
	_, _ = limited(t, what, "bash", "-c", "exec \"$0\" print "+v.meta+" > /dev/null", bin)
	_, err := limited(t, what, append([]string{"timeout", "-s", "INT", fmt.Sprint(mountLimit), bin}, v.mountArgs()...)...)
	if mounted = err == nil; mounted {
		script := "find . -xdev -print0 2>/dev/null | xargs -0 -n 20 stat >/dev/null 2>&1; find . -type f -print0 2>/dev/null | xargs -0 -n 20 cat >/dev/null 2>&1; getfattr -R -d -m - . >/dev/null 2>&1"
		out, err := command(damageLimit, "bash", "-c", "cd "+v.mnt+"; "+script)
		if err != nil && strings.Contains(err.Error(), "no end within") {
			t.Errorf("%s: reading everything: %v %s", what, err, out)
		}
		script = "mkdir new; echo a > new/a; rm -rf net/http; mv d-0 d-9; timeout 10 sync new; timeout 10 df ."
		// A commit that cannot be made is repeated for ever, and so may wait whoever needs its space.
		_, _ = command(15*time.Second, "bash", "-c", "cd "+v.mnt+"; "+script)
	}
	if pid := v.pid(); pid != 0 {
		if _, err := command(20*time.Second, bin, "umount", v.mnt); err != nil {
			if out, err := command(damageLimit, bin, "umount", "-f", v.mnt); err != nil && v.pid() != 0 {
				t.Errorf("%s: forced unmount: %v %s", what, err, out)
			}
		}
		if running(pid) {
			t.Errorf("%s: the daemon is still there after a forced unmount", what)
		}
	}
	crashless(t, what+": the log", v.log()[logged:])
	return mounted
}
