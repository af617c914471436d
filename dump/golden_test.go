// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package dump_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"scoutfs/block"
	"scoutfs/dump"
)

// goldenDir holds a volume that the original wrote and what it said about it.
const goldenDir = "../../shared/golden"

// goldenMeta unpacks the metadata device of the original's volume.
func goldenMeta(t *testing.T) string {
	t.Helper()
	f, err := os.Open(filepath.Join(goldenDir, "original-v2.tar.zst"))
	if errors.Is(err, os.ErrNotExist) && os.Getenv("CI") != "true" {
		t.Skipf("the original's volume is not there: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := zstd.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	path := filepath.Join(t.TempDir(), "meta.img")
	if err := unpackSparse(z, "meta.img", path); err != nil {
		t.Fatal(err)
	}
	return path
}

// unpackSparse writes the file name, which must be the first of a tar archive
// and in GNU's old format for sparse files, to path. archive/tar would read
// its 12 GiB of holes.
func unpackSparse(r io.Reader, name, path string) error {
	head := make([]byte, 512)
	if _, err := io.ReadFull(r, head); err != nil {
		return err
	}
	if got, _, _ := bytes.Cut(head[:100], []byte{0}); string(got) != name || head[156] != 'S' {
		return fmt.Errorf("the archive starts with %q of type %c", got, head[156])
	}
	size, err := tarNumber(head[483:495])
	if err != nil {
		return err
	}
	maps, more := head[386:482], head[482] != 0
	for more {
		ext := make([]byte, 512)
		if _, err := io.ReadFull(r, ext); err != nil {
			return err
		}
		maps, more = append(bytes.Clone(maps), ext[:504]...), ext[504] != 0
	}
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	defer out.Close()
	for ; len(maps) >= 24 && maps[0] != 0; maps = maps[24:] {
		off, err1 := tarNumber(maps[:12])
		n, err2 := tarNumber(maps[12:24])
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
		if _, err := io.CopyN(io.NewOffsetWriter(out, off), r, n); err != nil {
			return err
		}
		if _, err := io.CopyN(io.Discard, r, -n&511); err != nil {
			return err
		}
	}
	return out.Truncate(size)
}

// tarNumber decodes 12 bytes of octal digits, or of a big endian number if the
// first has its high bit set.
func tarNumber(b []byte) (n int64, err error) {
	if b[0]&0x80 == 0 {
		return strconv.ParseInt(strings.Trim(string(b), " \x00"), 8, 64)
	}
	for _, c := range b[1:] {
		n = n<<8 | int64(c)
	}
	return n, nil
}

// TestGolden compares with what the original prints for its own volume.
func TestGolden(t *testing.T) {
	dev, err := block.Open(goldenMeta(t), block.OpenOptions{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	want, err := os.ReadFile(filepath.Join(goldenDir, "original-v2", "print.txt"))
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	if err := dump.Print(&got, dev, dump.Options{}); err != nil {
		t.Error(err)
	}
	compareLines(t, string(want), got.String())

	got.Reset()
	if err := dump.Print(&got, dev, dump.Options{SkipLarge: true}); err != nil {
		t.Error(err)
	}
	compareLines(t, withoutLarge(string(want)), got.String())
}

// withoutLarge takes out what the original marks as large.
func withoutLarge(text string) string {
	var out strings.Builder
	large := false
	for _, line := range strings.SplitAfter(text, "\n") {
		if len(line) > 1 && line[0] != ' ' || strings.HasPrefix(line, " btree") {
			large = false
			for _, prefix := range []string{"meta_alloc[", "data_alloc ", "fs_root ", "srch block "} {
				large = large || strings.HasPrefix(line, prefix)
			}
		}
		if !large {
			out.WriteString(line)
		}
	}
	return out.String()
}

func compareLines(t *testing.T, want, got string) {
	t.Helper()
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range min(len(w), len(g)) {
		if w[i] != g[i] {
			t.Errorf("line %d:\n%q, want\n%q", i+1, g[i], w[i])
			return
		}
	}
	if len(w) != len(g) {
		t.Errorf("%d lines, want %d", len(g), len(w))
	}
}
