// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"scoutfs/block"
	"scoutfs/format"
)

// result is what a command line gave.
type result struct {
	code        int
	out, errOut string
}

func scoutfs(args ...string) result {
	var out, errOut bytes.Buffer
	code := run(args, &out, &errOut)
	return result{code, out.String(), errOut.String()}
}

func (r result) check(t *testing.T, code int, out, errOut string) {
	t.Helper()
	if diff := cmp.Diff(result{code, out, errOut}, r, cmp.AllowUnexported(result{})); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestUsage(t *testing.T) {
	none := scoutfs()
	if none.code != 1 || none.out != "" {
		t.Errorf("without a command: %+v", none)
	}
	for _, want := range []string{"\nCore admin:\n", "\nAdditional Information:\n", "\nSearch Acceleration:\n", "\nDebugging commands:\n",
		"                   mkfs  -Q NR,ADDR,PORT [-Q ..] [-f] [-A] [-m SIZE] [-d SIZE] [-z BLOCKS] [-V VERS] META DATA\n" +
			"                         make a new file system\n",
		"  get-referring-entries  [-p PATH] INO\n", "\nSupported format version: 1-2\n"} {
		if !strings.Contains(none.errOut, want) {
			t.Errorf("no %q in\n%s", want, none.errOut)
		}
	}
	scoutfs("frob", "--x", "-y").check(t, 1, "", "scoutfs: unrecognized command: 'frob'\n"+none.errOut)
	scoutfs("--help").check(t, 0, none.errOut, "")
}

func TestArgumentErrors(t *testing.T) {
	const try = "Try `CMD --help' or `CMD --usage' for more information.\n"
	for _, v := range []struct {
		args []string
		want string
	}{
		{[]string{"stat"}, "accepts 1 arg(s), received 0"},
		{[]string{"df", "x"}, `unknown command "x" for "scoutfs df"`},
		{[]string{"stat", "--frob", "x"}, "unrecognized option '--frob'"},
		{[]string{"stat", "-q", "x"}, "invalid option -- 'q'"},
		{[]string{"stat", "x", "-s"}, "option requires an argument -- 's'"},
		{[]string{"stat", "x", "--single-field"}, "option '--single-field' requires an argument"},
		{[]string{"mkfs", "a", "b"}, "must provide at least one quorum slot with -Q NR,ADDR,PORT"},
		{[]string{"mkfs", "-Q", "1,10.0.0.1,5", "-Q", "1,10.0.0.2,5", "a", "b"}, "quorum slot 1 was given twice"},
		{[]string{"ino-path", "0"}, "must provide an inode number that is not 0"},
		{[]string{"walk-inodes", "meta_seq", "0", "-1"}, "invalid option -- '1'"},
	} {
		scoutfs(v.args...).check(t, 64, "", v.args[0]+": "+v.want+"\n"+strings.ReplaceAll(try, "CMD", v.args[0]))
	}
}

func TestHelpAndUsage(t *testing.T) {
	for _, help := range []string{"--help", "-?", "--he"} {
		r := scoutfs("df", help)
		if r.code != 0 || r.errOut != "" || !strings.Contains(r.out, "--human-readable") {
			t.Errorf("%s: %+v", help, r)
		}
	}
	scoutfs("stat", "--usage").check(t, 0, "Usage: scoutfs stat [-s FIELD] FILE\n", "")
	scoutfs("mount", "a", "b").check(t, 1, "", "mount options: metadev_path is required\nscoutfs: mount failed: Invalid argument (22)\n")
	if r := scoutfs("completion", "bash"); r.code != 0 || !strings.Contains(r.out, "complete") {
		t.Errorf("completion: %+v", r)
	}
}

func TestFailures(t *testing.T) {
	t.Setenv(mountPathEnv, "")
	scoutfs("stat", "/nonexistent").check(t, 1, "",
		"failed to open '/nonexistent': no such file or directory\nscoutfs: stat failed: No such file or directory (2)\n")
	scoutfs("statfs", "-p", "/nonexistent").check(t, 1, "",
		"failed to open '/nonexistent': no such file or directory\nscoutfs: statfs failed: No such file or directory (2)\n")
	scoutfs("walk-inodes", "-p", "/", "atime", "0", "1").check(t, 1, "",
		"unknown index 'atime', there are meta_seq and data_seq: invalid argument\nscoutfs: walk-inodes failed: Invalid argument (22)\n")
	scoutfs("ino-path", "7x").check(t, 1, "", "inode number '7x': invalid argument\nscoutfs: ino-path failed: Invalid argument (22)\n")
	// A real ioctl on a file system that does not know it.
	dir := t.TempDir()
	scoutfs("stat", dir).check(t, 1, "", "ioctl failed: Inappropriate ioctl for device (25): '"+dir+
		"' is not in a mounted ScoutFS file system: inappropriate ioctl for device\nscoutfs: stat failed: Inappropriate ioctl for device (25)\n")
	t.Setenv(mountPathEnv, dir)
	if r := scoutfs("df"); r.code != 1 || !strings.Contains(r.errOut, dir) {
		t.Errorf("the environment is not used: %+v", r)
	}
}

func TestErrno(t *testing.T) {
	for _, v := range []struct {
		err  error
		want syscall.Errno
		text string
	}{
		{&format.CorruptError{}, syscall.EIO, "Input/output error"},
		{&format.StaleError{}, syscall.ESTALE, "Stale file handle"},
		{&os.PathError{Err: syscall.EPERM}, syscall.EPERM, "Operation not permitted"},
		{block.ErrBusy, syscall.EBUSY, "Device or resource busy"},
		{errors.New("?"), syscall.EIO, "Input/output error"},
	} {
		if got := errnoIn(v.err); got != v.want || errnoText(got) != v.text {
			t.Errorf("%v: %d %s", v.err, got, errnoText(got))
		}
	}
}

func TestNumbers(t *testing.T) {
	for s, want := range map[string]uint64{"0": 0, "12": 12, "0x10": 16, "010": 8, " +5": 5, "-1": math.MaxUint64, "18446744073709551615": math.MaxUint64} {
		if got, err := parseU64("n", s); err != nil || got != want {
			t.Errorf("%q: %d %v", s, got, err)
		}
	}
	for s, want := range map[string]syscall.Errno{"": syscall.EINVAL, "x": syscall.EINVAL, "1x": syscall.EINVAL, "08": syscall.EINVAL, "0x": syscall.EINVAL,
		"1K": syscall.EINVAL, "18446744073709551616": syscall.ERANGE, "--1": syscall.EINVAL} {
		if got, err := parseU64("n", s); !errors.Is(err, want) {
			t.Errorf("%q: %d %v, want %v", s, got, err, want)
		}
	}
	for s, want := range map[string]uint64{"0": 0, "7": 7, "1K": 1 << 10, "0x10M": 16 << 20, "010G": 8 << 30, "3T": 3 << 40, "16383P": 16383 << 50} {
		if got, err := parseSize("n", s); err != nil || got != want {
			t.Errorf("%q: %d %v", s, got, err)
		}
	}
	for s, want := range map[string]syscall.Errno{"1KB": syscall.ERANGE, "1k": syscall.ERANGE, "1E": syscall.ERANGE, "16384P": syscall.ERANGE, "K": syscall.EINVAL} {
		if got, err := parseSize("n", s); !errors.Is(err, want) {
			t.Errorf("%q: %d %v, want %v", s, got, err, want)
		}
	}
	for n, want := range map[uint64]string{0: "0.00B", 1023: "1023.00B", 1536: "1.50KB", 64 << 30: "64.00GB", math.MaxUint64: "16.00EB"} {
		if got := base(n); got != want {
			t.Errorf("%d: %s", n, got)
		}
	}
}

// devices makes two sparse files.
func devices(t *testing.T, metaSize, dataSize int64) (meta, data string) {
	t.Helper()
	dir := t.TempDir()
	meta, data = filepath.Join(dir, "meta"), filepath.Join(dir, "data")
	for path, size := range map[string]int64{meta: metaSize, data: dataSize} {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(path, size); err != nil {
			t.Fatal(err)
		}
	}
	return meta, data
}

func TestMkfsAndPrint(t *testing.T) {
	meta, data := devices(t, 256<<20, 1<<30)
	r := scoutfs("mkfs", "-A", "-Q", "0,127.0.0.1,53000", "--quorum=4,10.0.0.1,0x", meta, data)
	r.check(t, 1, "", "quorum slot '4,10.0.0.1,0x': PORT must be 1 to 65535: invalid argument\nscoutfs: mkfs failed: Invalid argument (22)\n")
	r = scoutfs("mkfs", meta, "-A", "-Q", "3", data, "-m128M", "-V", "1")
	if r.code != 0 || !strings.Contains(r.out, "limiting metadata device from 268435456 to 134217728 bytes\nCreated scoutfs filesystem:\n  meta device path:       "+meta+"\n") ||
		!strings.Contains(r.out, "  format version:         1\n  64KB metadata blocks:   2048 (128.00 MB)\n  4KB data blocks:        262144 (1.00 GB)\n") ||
		!strings.HasSuffix(r.out, "  quorum slots:           0: 127.0.0.1:53000\n                          1: 127.0.0.1:53001\n                          2: 127.0.0.1:53002\n") {
		t.Errorf("%+v", r)
	}
	if !strings.Contains(r.errOut, "note: -Q COUNT is an older form for tests on one host, using ports 53000 to 53002 of 127.0.0.1\n") ||
		!strings.Contains(r.errOut, ", allowing with -A\n") {
		t.Errorf("notes %q", r.errOut)
	}
	p := scoutfs("print", "-S", meta)
	if p.code != 0 || !strings.Contains(p.out, "  fmt_vers 1 uuid ") || !strings.Contains(p.out, "quorum slot  2: 127.0.0.1:53002\n") || strings.Contains(p.out, "fs_root btree") {
		t.Errorf("%+v", p)
	}
	if p = scoutfs("print", meta); p.code != 0 || !strings.Contains(p.out, "fs_root btree blkno 2\n") {
		t.Errorf("%+v", p)
	}
	if p = scoutfs("print", data); p.code != 1 || !strings.Contains(p.errOut, "scoutfs: print failed: Invalid argument (22)\n") {
		t.Errorf("%+v", p)
	}
	again := scoutfs("mkfs", "-A", "-Q", "0,127.0.0.1,53000", meta, data)
	again.check(t, 1, "", meta+": appears to contain an existing scoutfs superblock, use -f to overwrite it\nscoutfs: mkfs failed: Invalid argument (22)\n")
	j := scoutfs("mkfs", "-fA", "-Q", "0,127.0.0.1,53000", "--json", meta, data)
	if j.code != 0 || !strings.Contains(j.out, `"total_meta_blocks":4096,"total_data_blocks":262144,"quorum_config_version":1,"quorum_slots":[{"nr":0,"addr":"127.0.0.1:53000"}],"max_mounts":0}`) {
		t.Errorf("%+v", j)
	}
}

func TestMkfsRefusals(t *testing.T) {
	meta, data := devices(t, 256<<20, 1<<30)
	slot := []string{"mkfs", "-A", "-Q", "0,127.0.0.1,53000"}
	link := meta + ".link"
	if err := os.Symlink(meta, link); err != nil {
		t.Fatal(err)
	}
	scoutfs(append(slot, meta, link)...).check(t, 1, "", "'"+meta+"' and '"+link+"' are the same device: invalid argument\nscoutfs: mkfs failed: Invalid argument (22)\n")
	scoutfs(append(slot, meta, "/dev/null")...).check(t, 1, "", "'/dev/null' is neither a block device nor a plain file: invalid argument\nscoutfs: mkfs failed: Invalid argument (22)\n")
	scoutfs(append(slot, meta, data+"x")...).check(t, 1, "", "failed to open '"+data+"x': no such file or directory\nscoutfs: mkfs failed: No such file or directory (2)\n")
	scoutfs("mkfs", "-Q", "0,127.0.0.1,53000", meta, data).check(t, 1, "", meta+": metadata device of 256.00 MB is smaller than the recommended minimum of 64 GB, -A allows it\n"+
		"scoutfs: mkfs failed: Invalid argument (22)\n")
	for _, args := range [][]string{{"-m", "0"}, {"-z", "0"}, {"-V", "0"}, {"-V", "3"}, {"-z", "5"}, {"-Q", "1,127.0.0.1,53000"}, {"-Q", "1,255.255.255.255,1"},
		{"-Q", "15,1.1.1.1,1"}, {"-Q", "1,1.1.1.1"}, {"-Q", "1,::1,1"}, {"-Q", "1,localhost,1"}, {"-Q", "1,1.1.1.1,65536"}} {
		r := scoutfs(append(append(slot, args...), meta, data)...)
		if r.code != 1 || !strings.HasSuffix(r.errOut, "\nscoutfs: mkfs failed: Invalid argument (22)\n") {
			t.Errorf("%v: %+v", args, r)
		}
	}
	if r := scoutfs(append(slot, "-d", "5X", meta, data)...); r.code != 1 || !strings.HasSuffix(r.errOut, "scoutfs: mkfs failed: Numerical result out of range (34)\n") {
		t.Errorf("%+v", r)
	}
	for _, count := range []string{"0", "16"} {
		if r := scoutfs("mkfs", "-Q", count, meta, data); r.code != 1 || !strings.Contains(r.errOut, "is not in 1 to 15") {
			t.Errorf("%s: %+v", count, r)
		}
	}
	dev, err := block.Open(data, block.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	if err := dev.LockRid(7); err != nil {
		t.Fatal(err)
	}
	r := scoutfs(append(slot, meta, data)...)
	if r.code != 1 || !strings.HasPrefix(r.errOut, data+": is in use by a mount or another tool") || !strings.HasSuffix(r.errOut, "scoutfs: mkfs failed: Device or resource busy (16)\n") {
		t.Errorf("%+v", r)
	}
}
