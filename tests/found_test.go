// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

//go:build system

package tests

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// found is an inode as the mount shows it.
type found struct {
	thing
	ino     uint64
	size    int
	entries map[string]uint64
}

// readFound reads everything about a path; of a directory only names and
// numbers of what it holds.
func readFound(path string) (*found, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return nil, fmt.Errorf("lstat: %w", err)
	}
	f := &found{ino: st.Ino, size: int(st.Size)}
	f.kind, f.mode, f.nlink, f.mtime = st.Mode&unix.S_IFMT, st.Mode&0o7777, int(st.Nlink), st.Mtim.Sec
	var err error
	switch f.kind {
	case unix.S_IFREG:
		f.data, err = os.ReadFile(path)
	case unix.S_IFLNK:
		f.target, err = os.Readlink(path)
	case unix.S_IFDIR:
		var list []os.DirEntry
		list, err = os.ReadDir(path)
		f.entries = map[string]uint64{}
		for _, e := range list {
			var st unix.Stat_t
			if err := unix.Lstat(filepath.Join(path, e.Name()), &st); err != nil {
				return nil, fmt.Errorf("lstat of a listed name: %w", err)
			}
			f.entries[e.Name()] = st.Ino
		}
	}
	if err == nil && (f.kind == unix.S_IFREG || f.kind == unix.S_IFDIR) {
		f.xattrs, err = readXattrs(path)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return f, nil
}

func readXattrs(path string) (map[string]string, error) {
	buf := make([]byte, 1<<16)
	n, err := unix.Listxattr(path, buf)
	if err != nil {
		return nil, fmt.Errorf("listxattr: %w", err)
	}
	xattrs := map[string]string{}
	for _, name := range strings.Split(string(buf[:n]), "\x00") {
		if name == "" || strings.HasPrefix(name, "security.") || strings.HasPrefix(name, "system.") {
			continue
		}
		val := make([]byte, 1<<16)
		n, err := unix.Getxattr(path, name, val)
		if err != nil {
			return nil, fmt.Errorf("getxattr %s: %w", name, err)
		}
		xattrs[name] = string(val[:n])
	}
	return xattrs, nil
}

// readTree reads a whole directory by inode number, and that of the directory.
func readTree(dir string) (map[uint64]*found, uint64, error) {
	all := map[uint64]*found{}
	top, err := readFound(dir)
	if err != nil {
		return nil, 0, err
	}
	all[top.ino] = top
	queue := []string{dir}
	for len(queue) > 0 {
		d := queue[0]
		queue = queue[1:]
		st, err := readFound(d)
		if err != nil {
			return nil, 0, err
		}
		for _, name := range slices.Sorted(maps.Keys(st.entries)) {
			path := filepath.Join(d, name)
			f := all[st.entries[name]]
			if f == nil {
				if f, err = readFound(path); err != nil {
					return nil, 0, err
				}
				all[f.ino] = f
			}
			if f.kind == unix.S_IFDIR {
				queue = append(queue, path)
			}
		}
	}
	return all, top.ino, nil
}

// same compares one inode with the model. Where the model has data, pieces of later versions pass.
// In a plain file system sizes of directories and links are its own matter.
func (n *thing) same(f *found, later [][]byte, plain bool) error {
	size := len(n.data)
	switch n.kind {
	case unix.S_IFLNK:
		size = len(n.target) + 1
	case unix.S_IFDIR:
		for name := range n.ents {
			size += len(name)
		}
	}
	switch {
	case f.kind != n.kind || f.mode != n.mode:
		return fmt.Errorf("mode %o, should be %o", f.kind|f.mode, n.kind|n.mode)
	case f.nlink != n.nlink:
		return fmt.Errorf("%d links, should be %d", f.nlink, n.nlink)
	case f.size != size && !(plain && n.kind != unix.S_IFREG):
		return fmt.Errorf("size %d, should be %d", f.size, size)
	case f.target != n.target:
		return fmt.Errorf("target has %d bytes, should have %d", len(f.target), len(n.target))
	case n.mtime != 0 && f.mtime != n.mtime:
		return fmt.Errorf("mtime %d, should be %d", f.mtime, n.mtime)
	case !maps.Equal(f.xattrs, n.xattrs):
		return fmt.Errorf("xattrs %v, should be %v", slices.Sorted(maps.Keys(f.xattrs)), slices.Sorted(maps.Keys(n.xattrs)))
	case !slices.Equal(slices.Sorted(maps.Keys(f.entries)), slices.Sorted(maps.Keys(n.ents))):
		return fmt.Errorf("entries %v, should be %v", slices.Sorted(maps.Keys(f.entries)), slices.Sorted(maps.Keys(n.ents)))
	case len(f.data) != len(n.data):
		return fmt.Errorf("%d bytes of data, should be %d", len(f.data), len(n.data))
	}
	if at := n.wrongData(f.data, later); at >= 0 {
		return fmt.Errorf("wrong data at %d of %d", at, len(n.data))
	}
	return nil
}

func (n *thing) wrongData(got []byte, later [][]byte) int {
	if bytes.Equal(got, n.data) {
		return -1
	}
	for at := 0; at < len(got); at += tornSize {
		end := min(at+tornSize, len(got))
		if bytes.Equal(got[at:end], n.data[at:end]) {
			continue
		}
		b := at / pageSize
		if b >= len(n.mapped) || !n.mapped[b] || !slices.ContainsFunc(later, func(v []byte) bool {
			piece := make([]byte, end-at)
			if at < len(v) {
				copy(piece, v[at:])
			}
			return bytes.Equal(got[at:end], piece)
		}) {
			return at
		}
	}
	return -1
}

// match compares a directory with states[k]. File data may be of states up to last.
func match(all map[uint64]*found, top uint64, states []tree, k, last int, plain bool) error {
	t := states[k]
	inos := map[int]uint64{0: top}
	queue := []int{0}
	for seen := 0; len(queue) > 0; seen++ {
		id := queue[0]
		queue = queue[1:]
		f := all[inos[id]]
		var later [][]byte
		for _, s := range states[k+1 : last+1] {
			if n := s[id]; n != nil {
				later = append(later, n.data)
			}
		}
		if err := t[id].same(f, later, plain); err != nil {
			return fmt.Errorf("inode %d: %w", f.ino, err)
		}
		for _, name := range slices.Sorted(maps.Keys(t[id].ents)) {
			child := t[id].ents[name]
			ino, known := inos[child]
			if known && ino != f.entries[name] {
				return fmt.Errorf("inode %d: %s is not the same file as another name of it", f.ino, name)
			}
			if !known {
				inos[child] = f.entries[name]
				queue = append(queue, child)
			}
		}
	}
	if len(inos) != len(all) {
		return fmt.Errorf("%d inodes, should be %d", len(all), len(inos))
	}
	return nil
}

// verify looks which of the states first to last the directory is in. With
// keep it takes that over as the only one.
func (a *actor) verify(first, last int, keep bool) error {
	all, top, err := readTree(a.dir)
	if err != nil {
		return err
	}
	var why [2]error
	for k := last; k >= first; k-- {
		err := match(all, top, a.states, k, last, a.plain)
		if err == nil {
			if keep {
				a.adopt(all, top, k)
			}
			return nil
		}
		if why[1] == nil {
			why[1] = err
		}
		why[0] = err
	}
	return fmt.Errorf("%s is in no state between actions %d and %d:\n not %d: %v\n not %d: %v\n  %s",
		a.dir, first, last, first, why[0], last, why[1], a.lastTexts(last))
}

// adopt makes state k the only one, with the data that was found.
func (a *actor) adopt(all map[uint64]*found, top uint64, k int) {
	t := maps.Clone(a.states[k])
	inos := map[int]uint64{0: top}
	queue := []int{0}
	for len(queue) > 0 {
		id := queue[0]
		queue = queue[1:]
		f := all[inos[id]]
		t.change(id, func(n *thing) { n.data = f.data })
		for name, child := range t[id].ents {
			if _, known := inos[child]; !known {
				inos[child] = f.entries[name]
				queue = append(queue, child)
			}
		}
	}
	a.states, a.texts, a.began = []tree{t}, []string{"as found"}, []int{0}
	a.acked, a.synced, a.at = 0, []int{0}, []int{0}
}
