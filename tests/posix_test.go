// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

//go:build system

package tests

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/hanwen/go-fuse/v2/posixtest"
	"golang.org/x/sys/unix"
)

// notOurs are posixtest cases that cannot pass here, each with its reason.
var notOurs = map[string]string{
	"FdLeak":              "counts the descriptors of the file system's process, which here is another one",
	"FcntlFlockLocksFile": "wants two record locks of one process to conflict; they do not, fcntl(2), nor on ext4",
}

func TestPosixSuite(t *testing.T) {
	v := newVolume(t).mount()
	for name, fn := range posixtest.All {
		if _, skip := notOurs[name]; skip {
			continue
		}
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(v.mnt, name)
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			fn(t, dir)
		})
	}
}

func TestPosix(t *testing.T) {
	v := newVolume(t).mount()
	for _, tc := range []struct {
		name string
		fn   func(t *testing.T, dir string)
	}{
		{"rename flags", testRename},
		{"unlinked open file", testUnlinkedOpen},
		{"tmpfile", testTmpfile},
		{"holes", testHoles},
		{"fallocate", testFallocate},
		{"shared mapping", testMmap},
		{"append by many", testAppend},
		{"xattrs", testXattrs},
		{"readdir while changing", testReaddir},
		{"name lengths", testNames},
		{"set-user-id", testSetuid},
		{"default ACL", testDefaultACL},
		{"handles", testHandles},
		{"direct I/O", testDirect},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := filepath.Join(v.mnt, strings.NewReplacer(" ", "-", "/", "").Replace(tc.name))
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			tc.fn(t, dir)
		})
	}
	v.umount()
	v.check()
}

func write(t *testing.T, path, data string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(data), 0o644); err != nil {
		t.Fatal(err)
	}
}

func wantErr(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

func testRename(t *testing.T, dir string) {
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	write(t, a, "a")
	write(t, b, "b")
	wantErr(t, "NOREPLACE", unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_NOREPLACE), unix.EEXIST)
	wantErr(t, "EXCHANGE", unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE), unix.EINVAL)
	wantErr(t, "into itself", os.MkdirAll(filepath.Join(dir, "d/e"), 0o755), nil)
	wantErr(t, "into itself", unix.Rename(filepath.Join(dir, "d"), filepath.Join(dir, "d/e/f")), unix.EINVAL)
	wantErr(t, "over a full directory", unix.Rename(filepath.Join(dir, "d"), filepath.Join(dir, "d2")), nil)
	wantErr(t, "mkdir", unix.Mkdir(filepath.Join(dir, "empty"), 0o755), nil)
	wantErr(t, "over a full directory", unix.Rename(filepath.Join(dir, "empty"), filepath.Join(dir, "d2")), unix.ENOTEMPTY)
	wantErr(t, "replace", unix.Rename(a, b), nil)
	if got, err := os.ReadFile(b); string(got) != "a" {
		t.Errorf("after rename: %q %v", got, err)
	}
}

func testUnlinkedOpen(t *testing.T, dir string) {
	path := filepath.Join(dir, "f")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("still here"); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 20)
	if n, _ := f.ReadAt(b, 0); string(b[:n]) != "still here" {
		t.Errorf("read %q from an unlinked file", b[:n])
	}
	if err := f.Sync(); err != nil {
		t.Error(err)
	}
}

func testTmpfile(t *testing.T, dir string) {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Nlink != 0 {
		t.Errorf("nlink %d of a file without a name (%v)", st.Nlink, err)
	}
	if _, err := unix.Write(fd, []byte("tmp")); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "linked")
	if err := unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), unix.AT_FDCWD, path, unix.AT_SYMLINK_FOLLOW); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(path); string(b) != "tmp" {
		t.Errorf("%q %v", b, err)
	}
}

func testHoles(t *testing.T, dir string) {
	f, err := os.Create(filepath.Join(dir, "sparse"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const at = 10 << 20
	if _, err := f.WriteAt([]byte("data"), at); err != nil {
		t.Fatal(err)
	}
	data, err := unix.Seek(int(f.Fd()), 0, unix.SEEK_DATA)
	if err != nil || data != at {
		t.Errorf("SEEK_DATA: %d %v", data, err)
	}
	if hole, err := unix.Seek(int(f.Fd()), at, unix.SEEK_HOLE); err != nil || hole != at+4 && hole != at+4096 {
		t.Errorf("SEEK_HOLE: %d %v", hole, err)
	}
	_, err = unix.Seek(int(f.Fd()), at+4096, unix.SEEK_DATA)
	wantErr(t, "SEEK_DATA past the end", err, unix.ENXIO)
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil || st.Blocks != 8 {
		t.Errorf("st_blocks %d, want 8 (%v)", st.Blocks, err)
	}
	// Shrink into a block and grow again: what was cut reads as zeros.
	if _, err := f.WriteAt(bytes.Repeat([]byte{1}, 8192), 0); err != nil {
		t.Fatal(err)
	}
	wantErr(t, "truncate", f.Truncate(100), nil)
	wantErr(t, "truncate", f.Truncate(5000), nil)
	b := make([]byte, 5000)
	if _, err := f.ReadAt(b, 0); err != nil || !bytes.Equal(b, append(bytes.Repeat([]byte{1}, 100), make([]byte, 4900)...)) {
		t.Errorf("after shrinking and growing: %v", err)
	}
}

func testFallocate(t *testing.T, dir string) {
	f, err := os.Create(filepath.Join(dir, "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fd := int(f.Fd())
	wantErr(t, "keep size", unix.Fallocate(fd, unix.FALLOC_FL_KEEP_SIZE, 0, 1<<20), nil)
	if st, _ := f.Stat(); st.Size() != 0 {
		t.Errorf("size %d after KEEP_SIZE", st.Size())
	}
	wantErr(t, "fallocate", unix.Fallocate(fd, 0, 0, 3<<20), nil)
	if st, _ := f.Stat(); st.Size() != 3<<20 {
		t.Errorf("size %d", st.Size())
	}
	wantErr(t, "punch hole", unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, 4096), unix.EOPNOTSUPP)
	b := make([]byte, 3<<20)
	if _, err := f.ReadAt(b, 0); err != nil || len(bytes.Trim(b, "\x00")) != 0 {
		t.Errorf("preallocated space does not read as zeros (%v)", err)
	}
}

func testMmap(t *testing.T, dir string) {
	f, err := os.Create(filepath.Join(dir, "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const size = 1 << 20
	wantErr(t, "truncate", f.Truncate(size), nil)
	m, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < size; i += 4096 {
		m[i] = byte(i>>12) + 1
	}
	wantErr(t, "msync", unix.Msync(m, unix.MS_SYNC), nil)
	b := make([]byte, size)
	if _, err := f.ReadAt(b, 0); err != nil || !bytes.Equal(b, m) {
		t.Errorf("read and mapping differ (%v)", err)
	}
	if _, err := f.WriteAt([]byte("by write"), 4096); err != nil || string(m[4096:4104]) != "by write" {
		t.Errorf("mapping does not see a write: %q", m[4096:4104])
	}
	wantErr(t, "munmap", unix.Munmap(m), nil)
}

func testAppend(t *testing.T, dir string) {
	path := filepath.Join(dir, "log")
	var wg sync.WaitGroup
	const writers, lines = 4, 200
	for w := range writers {
		wg.Go(func() {
			f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
			if err != nil {
				t.Error(err)
				return
			}
			defer f.Close()
			for i := range lines {
				if _, err := fmt.Fprintf(f, "writer %d line %04d\n", w, i); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	b, err := os.ReadFile(path)
	if err != nil || bytes.Count(b, []byte("\n")) != writers*lines || len(b) != writers*lines*len("writer 0 line 0000\n") {
		t.Errorf("%d bytes, %d lines (%v)", len(b), bytes.Count(b, []byte("\n")), err)
	}
}

func testXattrs(t *testing.T, dir string) {
	path := filepath.Join(dir, "f")
	write(t, path, "")
	big := strings.Repeat("0123456789abcdef", 4096)[:65535]
	for name, val := range map[string]string{
		"user.big": big, "user.empty": "", "trusted.t": "1", "security.s": "2", "scoutfs.x": "plain", "scoutfs.hide.a": "hidden",
		"user." + strings.Repeat("n", 250): "long name",
	} {
		wantErr(t, name, unix.Setxattr(path, name, []byte(val), 0), nil)
		if got, err := xattr(path, name); err != nil || got != val {
			t.Errorf("%s: %d bytes (%v)", name, len(got), err)
		}
	}
	wantErr(t, "create existing", unix.Setxattr(path, "user.big", nil, unix.XATTR_CREATE), unix.EEXIST)
	wantErr(t, "replace missing", unix.Setxattr(path, "user.no", nil, unix.XATTR_REPLACE), unix.ENODATA)
	wantErr(t, "remove missing", unix.Removexattr(path, "user.no"), unix.ENODATA)
	wantErr(t, "unknown tag", unix.Setxattr(path, "scoutfs.unknown.abc", nil, 0), unix.EINVAL)
	wantErr(t, "bad total", unix.Setxattr(path, "scoutfs.totl.x.1.2.3", []byte("+5"), 0), unix.EINVAL)
	wantErr(t, "total", unix.Setxattr(path, "scoutfs.totl.x.1.2.3", []byte("5"), 0), nil)
	wantErr(t, "index with a value", unix.Setxattr(path, "scoutfs.indx.i.255.1", []byte("v"), 0), unix.EINVAL)
	wantErr(t, "index", unix.Setxattr(path, "scoutfs.indx.i.255.1", nil, 0), nil)
	wantErr(t, "index out of range", unix.Setxattr(path, "scoutfs.indx.i.256.1", nil, 0), unix.EINVAL)
	wantErr(t, "search", unix.Setxattr(path, "scoutfs.srch.s", []byte("x"), 0), nil)
	wantErr(t, "unsupported namespace", unix.Setxattr(path, "system.other", nil, 0), unix.EOPNOTSUPP)
	buf := make([]byte, 65536)
	n, err := unix.Listxattr(path, buf)
	list := string(buf[:max(n, 0)])
	if err != nil || strings.Contains(list, "hide") || !strings.Contains(list, "user.big\x00") || !strings.Contains(list, "scoutfs.srch.s\x00") {
		t.Errorf("list %q (%v)", list, err)
	}
	wantErr(t, "remove", unix.Removexattr(path, "user.big"), nil)
	_, err = unix.Getxattr(path, "user.big", buf)
	wantErr(t, "removed", err, unix.ENODATA)
}

// Every entry that exists all the time is listed exactly once.
func testReaddir(t *testing.T, dir string) {
	const n = 3000
	for i := range n {
		write(t, filepath.Join(dir, fmt.Sprintf("%05d", i)), "")
	}
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	seen := map[string]int{}
	for round := 0; ; round++ {
		names, err := f.Readdirnames(100)
		if len(names) == 0 || err != nil {
			break
		}
		for _, name := range names {
			seen[name]++
		}
		// Odd ones go, others come, while we list.
		for i := round*100 + 1; i < round*100+100; i += 2 {
			os.Remove(filepath.Join(dir, fmt.Sprintf("%05d", (i+n/2)%n|1)))
		}
		if round < n/100 { // they come behind the cursor, so not for ever
			write(t, filepath.Join(dir, fmt.Sprintf("new%05d", round)), "")
		}
	}
	for i := 0; i < n; i += 2 {
		if c := seen[fmt.Sprintf("%05d", i)]; c != 1 {
			t.Fatalf("entry %05d listed %d times", i, c)
		}
	}
}

func testNames(t *testing.T, dir string) {
	wantErr(t, "256 bytes", os.WriteFile(filepath.Join(dir, strings.Repeat("x", 256)), nil, 0o644), unix.ENAMETOOLONG)
	wantErr(t, "symlink too long", unix.Symlink(strings.Repeat("x", 4096), filepath.Join(dir, "l")), unix.ENAMETOOLONG)
	for _, name := range []string{strings.Repeat("x", 255), "\xff\xfe", "a b\nc", "é"} {
		write(t, filepath.Join(dir, name), name)
	}
	es, err := os.ReadDir(dir)
	if err != nil || len(es) != 4 {
		t.Errorf("%d entries (%v)", len(es), err)
	}
}

func testSetuid(t *testing.T, dir string) {
	path := filepath.Join(dir, "f")
	write(t, path, "x")
	wantErr(t, "chmod", unix.Chmod(path, 0o6755), nil)
	out, err := command(limit, "bash", "-c", "chmod 777 "+dir+"; chown 1000:1000 "+path+"; chmod 6777 "+path+"; setpriv --reuid=1001 --regid=1001 --clear-groups sh -c 'echo y >> "+path+"'; stat -c %a "+path)
	if err != nil || strings.TrimSpace(out) != "777" {
		t.Errorf("mode after a write by another user: %s %v", out, err)
	}
}

func testDefaultACL(t *testing.T, dir string) {
	out, err := command(limit, "bash", "-euxc", "cd "+dir+`; setfacl -d -m u:1000:rwx,g::rx,o::- .; umask 022; mkdir sub; : > f
		getfacl -ncp f | grep -x 'user:1000:rwx.*effective:rw-'; getfacl -ncp sub | grep -x default:user:1000:rwx; stat -c %A f
		chmod 600 f; getfacl -ncp f | grep -x mask::---; setfacl -b f; [ "$(stat -c %a f)" = 600 ]
		chmod 755 .; setfacl -m u:1001:- f; chmod 644 f; setpriv --reuid=1001 --regid=1001 --clear-groups cat f && exit 1; true`)
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func testHandles(t *testing.T, dir string) {
	path := filepath.Join(dir, "f")
	write(t, path, "by handle")
	h, _, err := unix.NameToHandleAt(unix.AT_FDCWD, path, 0)
	if err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	mfd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(mfd)
	// A handle of the original: type 0x81, inode number, 16 bytes.
	b := make([]byte, 16)
	for i := range 8 {
		b[i] = byte(st.Ino >> (8 * i))
	}
	for _, h := range []unix.FileHandle{h, unix.NewFileHandle(0x81, b)} {
		fd, err := unix.OpenByHandleAt(mfd, h, unix.O_RDONLY)
		if err != nil {
			t.Errorf("handle of type %#x: %v", h.Type(), err)
			continue
		}
		buf := make([]byte, 20)
		n, _ := unix.Read(fd, buf)
		unix.Close(fd)
		if string(buf[:n]) != "by handle" {
			t.Errorf("read %q", buf[:n])
		}
	}
}

func testDirect(t *testing.T, dir string) {
	out, err := command(limit, "bash", "-euc", "cd "+dir+`; dd if=/dev/urandom of=src bs=1M count=9 status=none
		dd if=src of=d1 bs=1M oflag=direct status=none; cmp src d1; dd if=d1 of=d2 bs=4096 iflag=direct status=none; cmp src d2
		dd if=src of=d1 bs=4096 skip=3 seek=100 count=500 oflag=direct conv=notrunc status=none
		cmp <(head -c $((4096*503)) src | tail -c $((4096*500))) <(head -c $((4096*600)) d1 | tail -c $((4096*500)))`)
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
