// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

//go:build system

package tests

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// golden is where the volume that the original wrote is, with what the
// original said of it.
const golden = "../../shared/golden/"

// goldenVolume unpacks a copy. Its quorum slot has a fixed address.
func goldenVolume(t *testing.T) *volume {
	t.Helper()
	if _, err := os.Stat(golden + "original-v2.tar.zst"); err != nil {
		t.Fatalf("the golden volume is missing: %v", err)
	}
	dir := t.TempDir()
	if out, err := command(limit, "tar", "--zstd", "-xSf", golden+"original-v2.tar.zst", "-C", dir); err != nil {
		t.Fatalf("unpack: %v\n%s", err, out)
	}
	find := func(name string) string {
		m, _ := filepath.Glob(filepath.Join(dir, name))
		n, _ := filepath.Glob(filepath.Join(dir, "*", name))
		if m = append(m, n...); len(m) != 1 {
			t.Fatalf("%s in the archive: %v", name, m)
		}
		return m[0]
	}
	v := &volume{t: t, meta: find("meta.img"), data: find("data.img"), mnt: filepath.Join(dir, "mnt"), port: 5000}
	if err := os.Mkdir(v.mnt, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.cleanup)
	return v
}

func said(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(golden + "original-v2/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestGoldenVolume(t *testing.T) {
	v := goldenVolume(t)
	v.check()
	if got, want := v.must("print", v.meta), said(t, "print.txt"); got != want {
		t.Errorf("print differs:\n%s", firstDifference(want, got))
	}
	v.mount()
	t.Run("files", func(t *testing.T) { goldenFiles(t, v) })
	t.Run("xattrs", func(t *testing.T) { goldenXattrs(t, v) })
	t.Run("hidden xattrs", func(t *testing.T) { goldenHidden(t, v) })
	t.Run("ls", func(t *testing.T) {
		// By number: this host may have a name for a user that the other had not.
		got, err := v.trySh("LC_ALL=C TZ=UTC ls -lnRi --full-time")
		got = spaces.ReplaceAllString(got, " ")
		want := strings.ReplaceAll(spaces.ReplaceAllString(said(t, "ls-lRi.txt"), " "), " root", " 0")
		if err != nil || got != want {
			t.Errorf("%v\n%s", err, firstDifference(want, got))
		}
	})
	t.Run("stat", func(t *testing.T) { goldenStat(t, v) })
	for _, index := range []string{"meta_seq", "data_seq"} {
		t.Run("walk "+index, func(t *testing.T) {
			got := v.must("walk-inodes", "-p", v.mnt, "--", index, "0", "-1")
			if want := said(t, "walk_"+index+".txt"); got != want {
				t.Errorf("%s", firstDifference(want, got))
			}
		})
	}
	t.Run("paths", func(t *testing.T) {
		ino := inode(t, v, "files/f0002")
		got := v.must("ino-path", "-p", v.mnt, ino) + v.must("get-referring-entries", "-p", v.mnt, ino)
		if want := said(t, "ino_path.txt"); got != want {
			t.Errorf("%s", firstDifference(want, got))
		}
	})
	v.t = t
	goldenWrite(v)
}

// spaces pad columns; some directories' lines start with them.
var spaces = regexp.MustCompile(`(?m)^ +| +`)

// Reading a released file waits. A signal ends the wait, and so does a forced
// unmount; a plain unmount is refused while somebody waits.
func TestOfflineWaits(t *testing.T) {
	v := goldenVolume(t).mount()
	if out, err := v.trySh("timeout 1 cat hsm/rel"); err == nil || out != "" {
		t.Errorf("reading released data: %q %v", out, err)
	}
	v.sh("timeout 5 stat hsm/rel; timeout 5 cat files/f0050")
	c := exec.Command("cat", filepath.Join(v.mnt, "hsm/rel"))
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	select {
	case err := <-ended:
		t.Fatalf("cat of released data ended: %v", err)
	case <-time.After(500 * time.Millisecond):
	}
	if out, err := v.scoutfs("umount", v.mnt); err == nil {
		t.Errorf("umount while a file is read: %s", out)
	}
	v.must("umount", "-f", v.mnt)
	select {
	case err := <-ended:
		if err == nil {
			t.Error("cat succeeded")
		}
	case <-time.After(30 * time.Second):
		t.Error("cat still waits after a forced unmount")
	}
}

func inode(t *testing.T, v *volume, path string) string {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(filepath.Join(v.mnt, path), &st); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(st.Ino)
}

func goldenFiles(t *testing.T, v *volume) {
	n := 0
	for line := range strings.Lines(said(t, "sha256.txt")) {
		want, path, ok := strings.Cut(strings.TrimSpace(line), "  ")
		if !ok {
			continue
		}
		f, err := os.Open(filepath.Join(v.mnt, path))
		if err != nil {
			t.Error(err)
			continue
		}
		h := sha256.New()
		_, err = io.Copy(h, f)
		f.Close()
		if got := hex.EncodeToString(h.Sum(nil)); err != nil || got != want {
			t.Errorf("%s: sha256 %s, want %s (%v)", path, got, want, err)
		}
		n++
	}
	if n < 300 {
		t.Errorf("only %d files compared", n)
	}
}

func goldenXattrs(t *testing.T, v *volume) {
	var path string
	want := map[string][]string{}
	sc := bufio.NewScanner(strings.NewReader(said(t, "getfattr.txt")))
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		if p, ok := strings.CutPrefix(sc.Text(), "# file: "); ok {
			path = p
			continue
		}
		name, val, ok := strings.Cut(sc.Text(), "=0x")
		if !ok {
			continue
		}
		want[path] = append(want[path], name)
		b, err := hex.DecodeString(val)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := xattr(filepath.Join(v.mnt, path), name); err != nil || got != string(b) {
			t.Errorf("%s %s: %d bytes, want %d (%v)", path, name, len(got), len(b), err)
		}
	}
	for path, names := range want {
		buf := make([]byte, 1<<16)
		n, err := unix.Llistxattr(filepath.Join(v.mnt, path), buf)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		got := strings.Split(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00")
		slices.Sort(got)
		slices.Sort(names)
		if !slices.Equal(got, names) {
			t.Errorf("%s: lists %q, want %q", path, got, names)
		}
	}
}

func xattr(path, name string) (string, error) {
	buf := make([]byte, 1<<16)
	n, err := unix.Lgetxattr(path, name, buf)
	return string(buf[:max(n, 0)]), err
}

// goldenHidden reads the values of hidden xattrs by name; those are in no list.
func goldenHidden(t *testing.T, v *volume) {
	n := 0
	for line := range strings.Lines(said(t, "hidden_xattr_values.txt")) {
		f := strings.Fields(line)
		if len(f) != 3 {
			continue
		}
		want := strings.TrimSuffix(strings.TrimPrefix(f[2], "b'"), "'")
		if got, err := xattr(filepath.Join(v.mnt, f[0]), f[1]); err != nil || got != want {
			t.Errorf("%s %s: %q, want %q (%v)", f[0], f[1], got, want, err)
		}
		n++
	}
	if n == 0 {
		t.Error("nothing compared")
	}
}

// goldenStat compares `scoutfs stat`; in the record, another command's lines
// with colons follow for each file.
func goldenStat(t *testing.T, v *volume) {
	for _, sec := range strings.Split(said(t, "stat.txt"), "## ")[1:] {
		path, rest, _ := strings.Cut(sec, "\n")
		var want strings.Builder
		for line := range strings.Lines(rest) {
			if !strings.Contains(line, ": ") {
				want.WriteString(line)
			}
		}
		if got := v.must("stat", filepath.Join(v.mnt, path)); got != want.String() {
			t.Errorf("%s:\n%s", path, firstDifference(want.String(), got))
		}
	}
}

// goldenWrite changes what the original wrote in many ways, tagged inodes
// included; the check at the end must still find a volume.
func goldenWrite(v *volume) {
	v.t.Helper()
	v.sh(`
		cp -a files files2; rm -rf files/f00[0-4]*; echo more >> files/f0050; truncate -s 5 files/f0051; truncate -s 100000 files/f0052
		mv dirs/second dirs/a/third; ln dirs/a/third dirs/fourth; mv dirs/a srch/a; rmdir empty
		setfattr -n user.big -v 0x$(head -c 3000 /dev/zero | xxd -p | tr -d '\n') xattrs/x; setfattr -x trusted.t xattrs/x
		rm srch/s1 srch/s10; setfattr -n scoutfs.hide.srch.tag1 -v new srch/s12; setfattr -x scoutfs.hide.srch.tag2 srch/s11
		rm -r totl indx; rm srch/combo; chmod 600 srch/s14; cp -a big/16m big/copy; rm big/16m; rm hsm/rel; rm -rf sparse special/[!r]*
		rm -f special/retained && exit 1
		dd if=/dev/urandom of=new bs=1M count=20 conv=fsync status=none; sync -f .`)
	want := v.sh("find . -type f -not -path './hsm/*' -print0 | sort -z | xargs -0 sha256sum")
	v.umount()
	v.check()
	v.mount()
	if got := v.sh("find . -type f -not -path './hsm/*' -print0 | sort -z | xargs -0 sha256sum"); got != want {
		v.t.Errorf("after remount:\n%s", firstDifference(want, got))
	}
	v.umount()
	v.must("print", v.meta)
}
