// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

//go:build system

package tests

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// refused runs a command that must fail soon with one clear line, which
// contains all of the words; a second line may give the errno.
func refused(t *testing.T, words []string, args ...string) {
	t.Helper()
	start := time.Now()
	out, err := command(limit, bin, args...)
	if err == nil {
		t.Errorf("scoutfs %s: succeeded", strings.Join(args, " "))
		return
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if len(lines) > 2 || strings.Contains(out, "panic") || strings.Contains(out, "goroutine ") {
		t.Errorf("scoutfs %s: not one clear line:\n%s", strings.Join(args, " "), out)
	}
	for _, w := range words {
		if !strings.Contains(strings.ToLower(out), strings.ToLower(w)) {
			t.Errorf("scoutfs %s: %q does not say %q", strings.Join(args, " "), strings.TrimSpace(out), w)
		}
	}
	if d := time.Since(start); d > time.Minute {
		t.Errorf("scoutfs %s: took %v", strings.Join(args, " "), d)
	}
}

func mountWith(o, data, dir string) []string { return []string{"mount", "-o", o, data, dir} }

// poke overwrites bytes of a device.
func poke(t *testing.T, path string, off int64, b []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(b, off); err != nil {
		t.Fatal(err)
	}
}

func peek(t *testing.T, path string, off int64, n int) []byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, n)
	if _, err := f.ReadAt(b, off); err != nil {
		t.Fatal(err)
	}
	return b
}

const superOff = 64 << 10

func TestBadDevices(t *testing.T) {
	v, other := newVolume(t), newVolume(t)
	slot := ",quorum_slot_nr=0"
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(empty, 16<<30); err != nil {
		t.Fatal(err)
	}
	refused(t, []string{empty, "scoutfs"}, mountWith("metadev_path="+empty+slot, v.data, v.mnt)...)
	refused(t, []string{empty, "scoutfs"}, mountWith("metadev_path="+v.meta+slot, empty, v.mnt)...)
	refused(t, []string{"swapped"}, mountWith("metadev_path="+v.data+slot, v.meta, v.mnt)...)
	refused(t, []string{"same"}, mountWith("metadev_path="+v.meta+slot, v.meta, v.mnt)...)
	refused(t, []string{v.meta, other.data}, mountWith("metadev_path="+v.meta+slot, other.data, v.mnt)...)
	refused(t, []string{"/nonexistent"}, mountWith("metadev_path=/nonexistent"+slot, v.data, v.mnt)...)
	refused(t, []string{"/nonexistent"}, mountWith("metadev_path="+v.meta+slot, "/nonexistent", v.mnt)...)
	refused(t, []string{"slot 3"}, mountWith("metadev_path="+v.meta+",quorum_slot_nr=3", v.data, v.mnt)...)
	refused(t, []string{"missing"}, mountWith("metadev_path="+v.meta+slot, v.data, v.mnt+"/missing")...)
	refused(t, []string{"/proc", "busy"}, mountWith("metadev_path="+v.meta+slot, v.data, "/proc")...)

	if err := os.Truncate(v.data, 8<<30); err != nil {
		t.Fatal(err)
	}
	refused(t, []string{v.data}, mountWith("metadev_path="+v.meta+slot, v.data, v.mnt)...)
	if err := os.Truncate(v.data, 16<<30); err != nil {
		t.Fatal(err)
	}
	good := peek(t, v.meta, superOff, 4096)
	poke(t, v.meta, superOff+1000, []byte{0xff})
	refused(t, []string{v.meta, "crc"}, mountWith("metadev_path="+v.meta+slot, v.data, v.mnt)...)
	poke(t, v.meta, superOff, good)
	v.mount() // nothing above left anything behind
}

// A volume of a version that does not exist yet is refused by number.
func TestUnknownVersion(t *testing.T) {
	v := newVolume(t)
	v.damaged = true
	for _, dev := range []string{v.meta, v.data} {
		b := peek(t, dev, superOff, 4096)
		b[40] = 3
		binary.LittleEndian.PutUint32(b, ^crc32.Checksum(b[4:], crc32.MakeTable(crc32.Castagnoli)))
		poke(t, dev, superOff, b)
	}
	refused(t, []string{"version 3"}, v.mountArgs()...)
	if out, err := v.scoutfs("check", v.meta, v.data); err == nil || !strings.Contains(out, "version 3") {
		t.Errorf("check: %v %s", err, out)
	}
}

// Without /dev/fuse the mount says so. The test hides it in a mount namespace.
func TestNoFuse(t *testing.T) {
	v := newVolume(t)
	script := "mount -t tmpfs none /dev && mknod -m 666 /dev/null c 1 3 && exec " + bin + " " + strings.Join(v.mountArgs(), " ")
	out, err := command(limit, "unshare", "-m", "sh", "-c", script)
	if err == nil || !strings.Contains(out, "/dev/fuse") {
		t.Errorf("%v %s", err, out)
	}
	v.mount()
}

func TestBadQuorumBlock(t *testing.T) {
	v := newVolume(t)
	off := int64(superOff + 4096)
	good := peek(t, v.meta, off, 4096)
	poke(t, v.meta, off+40, []byte{1, 2, 3})
	refused(t, []string{"quorum", "0"}, v.mountArgs()...)
	poke(t, v.meta, off, good)
	v.mount()
}

func TestBadOptions(t *testing.T) {
	v := newVolume(t)
	for _, tc := range []struct{ option, word string }{
		{"nonsense", "nonsense"}, {"nonsense=1", "nonsense"}, {"data_prealloc_blocks=0", "data_prealloc_blocks"},
		{"data_prealloc_blocks=x", "data_prealloc_blocks"}, {"data_prealloc_blocks", "data_prealloc_blocks"}, {"quorum_slot_nr=15", "quorum_slot_nr"},
		{"ino_alloc_per_lock=1025", "ino_alloc_per_lock"}, {"tcp_keepalive_timeout_ms=3000", "tcp_keepalive_timeout_ms"},
	} {
		refused(t, []string{tc.word}, mountWith("metadev_path="+v.meta+","+tc.option, v.data, v.mnt)...)
	}
	refused(t, []string{"metadev_path"}, mountWith("quorum_slot_nr=0", v.data, v.mnt)...)
}

func TestSlotInUse(t *testing.T) {
	v := newVolume(t).mount()
	dir := t.TempDir()
	refused(t, []string{"slot 0", "in use"}, mountWith("metadev_path="+v.meta+",quorum_slot_nr=0", v.data, dir)...)
	refused(t, []string{"in use"}, "mkfs", "-f", "-A", "-Q", "0,127.0.0.1,1234", v.meta, v.data)
	refused(t, []string{v.mnt}, v.mountArgs()...)
	if out, err := v.scoutfs("check", v.meta, v.data); err == nil {
		t.Errorf("check of a mounted volume: %s", out)
	}
	v.sh("echo fine > f")
}

func TestPortTaken(t *testing.T) {
	v := newVolume(t)
	u, err := net.ListenPacket("udp", fmt.Sprintf("127.0.0.1:%d", v.port))
	if err != nil {
		t.Fatal(err)
	}
	refused(t, []string{fmt.Sprintf("127.0.0.1:%d", v.port), "slot 0"}, v.mountArgs()...)
	u.Close()
	v.mount()
}

func TestMkfsRefusals(t *testing.T) {
	v := newVolume(t)
	refused(t, []string{v.meta}, "mkfs", "-A", "-Q", "0,127.0.0.1,1234", v.meta, v.data)
	refused(t, []string{"quorum"}, "mkfs", "-A", "-f", v.meta, v.data)
	refused(t, []string{"64"}, "mkfs", "-f", "-Q", "0,127.0.0.1,1234", v.meta, v.data)
	refused(t, []string{"same"}, "mkfs", "-f", "-A", "-Q", "0,127.0.0.1,1234", v.meta, v.meta)
	refused(t, nil, "mkfs", "-f", "-A", "-Q", "0,127.0.0.1,99999", v.meta, v.data)
	if out, err := v.scoutfs("frobnicate"); err == nil || !strings.HasPrefix(out, "scoutfs: unrecognized command: 'frobnicate'\n") {
		t.Errorf("unknown command: %v %s", err, out)
	}
	v.mount()
	v.sh("echo not touched > f")
}

func TestReadOnlyDevice(t *testing.T) {
	v := newVolume(t)
	out, err := exec.Command("losetup", "-r", "--show", "-f", v.meta).CombinedOutput()
	if err != nil {
		t.Fatalf("losetup: %v %s", err, out)
	}
	loop := strings.TrimSpace(string(out))
	defer exec.Command("losetup", "-d", loop).Run()
	refused(t, []string{loop, "read-only"}, mountWith("metadev_path="+loop+",quorum_slot_nr=0", v.data, v.mnt)...)
}

// A corrupt leaf of fs_root is EIO for what lies in it; the rest works, and
// the daemon stays.
func TestCorruptBtreeBlock(t *testing.T) {
	v := goldenVolume(t)
	v.damaged = true
	const leaf = 107014
	good := peek(t, v.meta, leaf<<16+100, 4)
	poke(t, v.meta, leaf<<16+100, []byte{0xde, 0xad, 0xbe, 0xef})
	if out, err := v.scoutfs("check", "--no-progress", v.meta, v.data); err == nil || !strings.Contains(out, fmt.Sprint(leaf)) {
		t.Errorf("check does not name block %d: %s", leaf, out)
	}
	v.mount()
	out, _ := v.trySh(`r=0 e=0; for f in $(find . -type f -not -path './hsm/*' -not -name onepib 2>/dev/null); do if cat $f >/dev/null 2>err; then r=$((r+1)); else
		grep -q 'Input/output error' err || cat err; e=$((e+1)); fi; done; ls -lR . >/dev/null 2>&1 || true; echo "readable $r, failed $e"`)
	var readable, failed int
	if _, err := fmt.Sscanf(out, "readable %d, failed %d", &readable, &failed); err != nil || readable < 50 {
		t.Errorf("with one corrupt leaf: %s", out)
	}
	v.sh("echo new > new; sync new; cat new")
	if log := v.log(); !strings.Contains(log, fmt.Sprint(leaf)) {
		t.Errorf("the log does not name block %d", leaf)
	}
	v.umount()
	poke(t, v.meta, leaf<<16+100, good)
	v.check()
	v.mount()
	v.sh("cat new; find . -type f -not -path './hsm/*' -not -name onepib -print0 | xargs -0 cat > /dev/null")
}

// A full disk is ENOSPC, deleting works, and then there is space again.
func TestDiskFull(t *testing.T) {
	v := newVolume(t, 32<<30, 1<<30).mount()
	out, err := v.trySh("dd if=/dev/zero of=big bs=1M 2>&1")
	if err == nil || !strings.Contains(out, "No space left") {
		t.Errorf("filling the data device: %v\n%s", err, out)
	}
	v.sh("echo small >> other || true; sync . ; rm big; dd if=/dev/zero of=again bs=1M count=500 conv=fsync status=none; [ $(stat -c %s again) = $((500<<20)) ]")
	v.umount()
	v.check()
}

// A daemon that was killed leaves a dead mount; the next mount clears it.
func TestDeadMountPoint(t *testing.T) {
	v := newVolume(t).mount()
	v.sh("echo kept > f; sync f")
	v.kill()
	if _, err := os.ReadDir(v.mnt); err == nil {
		t.Fatal("the mount still works after its daemon was killed")
	}
	v.mount()
	v.sh("[ $(cat f) = kept ]")
	var st unix.Stat_t
	if err := unix.Stat(v.mnt, &st); err != nil {
		t.Error(err)
	}
}

// A volume whose metadata is too small for a single mount says so instead of
// waiting for ever.
func TestMetadataTooSmall(t *testing.T) {
	v := newVolume(t, 256<<20, 1<<30)
	refused(t, []string{"metadata", "space"}, v.mountArgs()...)
}

// A corrupt tree of the server is one line at mount, with the block, and not an
// election without end.
func TestCorruptServerTree(t *testing.T) {
	v := newVolume(t).mount()
	v.sh("echo kept > f; sync f")
	v.kill() // so that mounted_clients and logs_root have blocks
	out := v.must("print", v.meta)
	for _, tree := range []string{"mounted_clients", "logs_root"} {
		var blkno int64
		i := strings.Index(out, tree+" btree blkno")
		if i < 0 {
			t.Fatalf("print names no block of %s", tree)
		}
		if _, err := fmt.Sscanf(out[i:], tree+" btree blkno %d", &blkno); err != nil {
			t.Fatal(err)
		}
		good := peek(t, v.meta, blkno<<16+100, 4)
		poke(t, v.meta, blkno<<16+100, []byte{0xde, 0xad, 0xbe, 0xef})
		refused(t, []string{fmt.Sprint(blkno), "scoutfs check"}, v.mountArgs()...)
		poke(t, v.meta, blkno<<16+100, good)
	}
	v.mount()
	v.sh("[ $(cat f) = kept ]")
}
