// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package volume_test

import (
	"fmt"
	"testing"

	"scoutfs/block"
	"scoutfs/volume"
)

// BenchmarkHot measures the calls of this package without a kernel.
func BenchmarkHot(b *testing.B) {
	w := newWorld(b, 2)
	m := w.mount(mountOptions{})
	defer m.close()
	v, c := m.v(), &volume.Caller{}
	a, err := v.Create(c, rootIno, "f", 0o600)
	if err != nil {
		b.Fatal(err)
	}
	buf := block.AlignedBuf(4096)
	defer block.FreeBuf(buf)
	dir, n := rootIno, 0
	for _, op := range []struct {
		name string
		fn   func() error
	}{
		{"getattr", func() error { _, err := v.Getattr(c, a.Ino); return err }},
		{"lookup", func() error { _, err := v.Lookup(c, rootIno, "f"); return err }},
		{"write4k", func() error { _, _, err := v.Write(c, a.Ino, 0, buf, 0); return err }},
		{"read4k", func() error { _, err := v.Read(c, a.Ino, 0, buf); return err }},
		{"create", func() error {
			if n++; n%10000 == 0 {
				d, err := v.Mkdir(c, rootIno, fmt.Sprint("d", n), 0o700)
				if err != nil {
					return err
				}
				dir = d.Ino
			}
			_, err := v.Create(c, dir, fmt.Sprint("new", n), 0o600)
			return err
		}},
	} {
		b.Run("op="+op.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := op.fn(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkHit is a lookup and the getattr that follows it, of files in a
// directory of 10,000, all cached.
func BenchmarkHit(b *testing.B) {
	w := newWorld(b, 2)
	m := w.mount(mountOptions{})
	defer m.close()
	v, c := m.v(), &volume.Caller{}
	const files = 10000
	names := make([]string, files)
	for i := range names {
		names[i] = fmt.Sprintf("f%07d", i)
		a, err := v.Create(c, rootIno, names[i], 0o600)
		if err != nil {
			b.Fatal(err)
		}
		v.Forget(a.Ino, 1)
	}
	if err := v.Fsync(c, rootIno); err != nil {
		b.Fatal(err)
	}
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		a, err := v.Lookup(c, rootIno, names[n%files])
		if err == nil {
			_, err = v.Getattr(c, a.Ino)
		}
		if err != nil {
			b.Fatal(err)
		}
		n++
	}
}
