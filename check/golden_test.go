// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package check_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"scoutfs/block"
	"scoutfs/check"
	"scoutfs/internal/simdisk"
)

// golden is a volume that the original wrote.
const golden = "../../shared/golden/original-v2.tar.zst"

func goldenVol(t *testing.T) *vol {
	t.Helper()
	f, err := os.Open(golden)
	if errors.Is(err, os.ErrNotExist) && os.Getenv("CI") != "true" {
		t.Skipf("the original's volume is not there: %v", err)
	}
	must(t, err)
	defer f.Close()
	z, err := zstd.NewReader(f)
	must(t, err)
	defer z.Close()
	v := &vol{t: t}
	for range 2 {
		name, d, err := unpack(z)
		must(t, err)
		switch name {
		case "meta.img":
			v.meta = d
		case "data.img":
			v.data = d
		}
	}
	if v.meta == nil || v.data == nil {
		t.Fatal("the archive has not both devices")
	}
	return v
}

// unpack reads the next file of a tar archive in GNU's old format for sparse
// files. archive/tar would read gigabytes of holes.
func unpack(r io.Reader) (name string, d *simdisk.Disk, err error) {
	head := make([]byte, 512)
	if _, err := io.ReadFull(r, head); err != nil {
		return "", nil, err
	}
	text, _, _ := bytes.Cut(head[:100], []byte{0})
	if head[156] != 'S' {
		return "", nil, fmt.Errorf("%q has type %c", text, head[156])
	}
	size, err := tarNumber(head[483:495])
	if err != nil {
		return "", nil, err
	}
	maps, more := bytes.Clone(head[386:482]), head[482] != 0
	for more {
		ext := make([]byte, 512)
		if _, err := io.ReadFull(r, ext); err != nil {
			return "", nil, err
		}
		maps, more = append(maps, ext[:504]...), ext[504] != 0
	}
	d = simdisk.New(size, simdisk.Options{Name: string(text)})
	total := int64(0)
	for ; len(maps) >= 24 && maps[0] != 0; maps = maps[24:] {
		off, err1 := tarNumber(maps[:12])
		n, err2 := tarNumber(maps[12:24])
		if err := errors.Join(err1, err2); err != nil {
			return "", nil, err
		}
		if err := copyOut(d, r, off, n); err != nil {
			return "", nil, err
		}
		total += n
	}
	_, err = io.CopyN(io.Discard, r, -total&511)
	return string(text), d, err
}

func copyOut(d *simdisk.Disk, r io.Reader, off, n int64) error {
	buf := block.AlignedBuf(1 << 20)
	defer block.FreeBuf(buf)
	for n > 0 {
		b := buf[:min(n, int64(len(buf)))]
		if _, err := io.ReadFull(r, b); err != nil {
			return err
		}
		if err := block.WriteAt(d, b, off); err != nil {
			return err
		}
		off, n = off+int64(len(b)), n-int64(len(b))
	}
	return nil
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

// TestGolden checks the original's volume: it is clean, but a merge has left a
// level 1 parent behind.
func TestGolden(t *testing.T) {
	v := goldenVol(t)
	r := v.run()
	if !r.Clean() || r.ExitCode() != check.ExitClean || r.Doubtful != 0 {
		t.Errorf("%+v", r)
	}
	if len(r.Findings) != 1 || r.Findings[0].Rule != 17 || r.Findings[0].Severity != check.Oddity {
		t.Errorf("findings: %v", r.Findings)
	}
	if r.Inodes != 344 || r.Items != 2450 || r.DataUsed != 9122 || r.SrchEntries != 61 {
		t.Errorf("%+v", r)
	}
}
