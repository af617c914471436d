// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package sim_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"syscall"

	"github.com/google/go-cmp/cmp"

	"scoutfs/block"
	"scoutfs/format"
	"scoutfs/volume"
)

const (
	sIFMT  = 0o170000
	sIFDIR = 0o040000
	sIFREG = 0o100000
	sIFLNK = 0o120000
)

// state is an inode at some moment. It never changes.
type state struct {
	attr   volume.Attr
	data   []byte
	mapped []bool // of a file: which 4 KiB blocks have data, so that they are overwritten in place
	target string
	ents   map[string]format.Ino
	xattrs map[string]string
}

func (s *state) kind() uint32 { return s.attr.Mode & sIFMT }

// snapshot is all inodes at some moment, also those in use that have no name.
type snapshot map[format.Ino]*state

// inode is an inode of the model as it is now.
type inode struct {
	*state
	refs   uint64
	parent *inode // of directories
}

func (n *inode) dir() bool { return n.kind() == sIFDIR }

// model follows a workload.
type model struct {
	root  *inode
	nodes map[format.Ino]*inode // with a link or a reference
}

func newModel(a volume.Attr) *model {
	n := &inode{state: &state{attr: a, ents: map[string]format.Ino{}}}
	n.parent = n
	return &model{root: n, nodes: map[format.Ino]*inode{a.Ino: n}}
}

func (m *model) snap() snapshot {
	s := make(snapshot, len(m.nodes))
	for ino, n := range m.nodes {
		s[ino] = n.state
	}
	return s
}

// named is what can be reached by names.
func (s snapshot) named() snapshot {
	s = maps.Clone(s)
	maps.DeleteFunc(s, func(_ format.Ino, st *state) bool { return st.attr.Nlink == 0 })
	return s
}

// all returns some of the inodes in order.
func (m *model) all(keep func(n *inode) bool) (list []*inode) {
	for _, ino := range slices.Sorted(maps.Keys(m.nodes)) {
		if n := m.nodes[ino]; keep(n) {
			list = append(list, n)
		}
	}
	return list
}

// change replaces the state of n by a changed copy.
func (n *inode) change(fn func(s *state)) {
	s := *n.state
	fn(&s)
	n.state = &s
}

func (n *inode) setEntry(name string, ino format.Ino) {
	n.change(func(s *state) {
		if s.ents = maps.Clone(s.ents); s.ents == nil {
			s.ents = map[string]format.Ino{}
		}
		if ino == 0 {
			delete(s.ents, name)
		} else {
			s.ents[name] = ino
		}
	})
}

func (n *inode) setXattr(name string, val *string) {
	n.change(func(s *state) {
		if s.xattrs = maps.Clone(s.xattrs); s.xattrs == nil {
			s.xattrs = map[string]string{}
		}
		if val == nil {
			delete(s.xattrs, name)
		} else {
			s.xattrs[name] = *val
		}
	})
}

func (n *inode) setSize(size int) {
	n.change(func(s *state) {
		s.data = append(slices.Clone(s.data[:min(size, len(s.data))]), make([]byte, max(0, size-len(s.data)))...)
		s.mapped = s.mapped[:min(len(s.mapped), (size+sectorSize-1)/sectorSize)]
	})
}

// below reports whether n is top or inside of it.
func (m *model) below(n, top *inode) bool {
	for ; n != m.root; n = n.parent {
		if n == top {
			return true
		}
	}
	return n == top
}

// settle forgets an inode that has neither links nor references.
func (m *model) settle(n *inode) {
	if n.attr.Nlink == 0 && n.refs == 0 {
		delete(m.nodes, n.attr.Ino)
	}
}

// readState reads everything about an inode.
func readState(v *volume.Volume, ino format.Ino) (*state, error) {
	a, err := v.Getattr(root, ino)
	if err != nil {
		return nil, fmt.Errorf("attributes of %d: %w", ino, err)
	}
	s := &state{attr: a}
	if s.xattrs, err = readXattrs(v, ino); err != nil {
		return nil, fmt.Errorf("xattrs of %d: %w", ino, err)
	}
	switch s.kind() {
	case sIFDIR:
		s.ents = map[string]format.Ino{}
		err = v.ReadDir(root, ino, 2, func(e *volume.DirEntry) bool {
			s.ents[string(e.Name)] = e.Ino
			return true
		})
	case sIFLNK:
		s.target, err = v.Readlink(root, ino)
	case sIFREG:
		s.data, err = readData(v, ino, int(a.Size))
	}
	if err != nil {
		return nil, fmt.Errorf("contents of %d: %w", ino, err)
	}
	return s, nil
}

func readData(v *volume.Volume, ino format.Ino, size int) ([]byte, error) {
	buf := block.AlignedBuf(1 << 18)
	defer block.FreeBuf(buf)
	var data []byte
	for len(data) < size {
		n, err := v.Read(root, ino, int64(len(data)), buf)
		if err != nil {
			return nil, err
		}
		if n == 0 {
			return nil, fmt.Errorf("ends at %d of %d", len(data), size)
		}
		data = append(data, buf[:n]...)
	}
	return data, nil
}

func readXattrs(v *volume.Volume, ino format.Ino) (map[string]string, error) {
	buf := make([]byte, 1<<16)
	n, err := v.Listxattr(root, ino, buf)
	if err != nil {
		return nil, err
	}
	names := strings.Split(string(buf[:n]), "\x00")
	n, _, _, err = v.ListHidden(root, ino, 0, 0, buf)
	if err != nil {
		return nil, err
	}
	var xattrs map[string]string
	for _, name := range append(names, strings.Split(string(buf[:n]), "\x00")...) {
		if name == "" {
			continue
		}
		n, err := v.Getxattr(root, ino, name, buf)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if xattrs == nil {
			xattrs = map[string]string{}
		}
		xattrs[name] = string(buf[:n])
	}
	return xattrs, nil
}

// readVolume reads all that can be reached from the root.
func readVolume(v *volume.Volume) (snapshot, error) {
	snap := snapshot{}
	queue := []format.Ino{format.RootIno}
	for len(queue) > 0 {
		ino := queue[0]
		queue = queue[1:]
		if snap[ino] != nil {
			continue
		}
		s, err := readState(v, ino)
		if err != nil {
			return nil, err
		}
		snap[ino] = s
		for _, name := range slices.Sorted(maps.Keys(s.ents)) {
			a, err := v.Lookup(root, ino, name)
			if err != nil || a.Ino != s.ents[name] {
				return nil, fmt.Errorf("lookup of %q in %d gives %d, the list says %d: %w", name, ino, a.Ino, s.ents[name], err)
			}
			v.Forget(a.Ino, 1)
			queue = append(queue, a.Ino)
		}
	}
	return snap, nil
}

// differ tells the first difference between an inode and what it should be, in words; "" if
// there is none. Data is left to sameData.
func differ(got, want *state) string {
	switch {
	case got == nil && want == nil:
		return ""
	case got == nil:
		return "is missing"
	case want == nil:
		return "should not be there"
	}
	if got.attr != want.attr {
		return "attributes: " + cmp.Diff(want.attr, got.attr)
	}
	if !maps.Equal(got.ents, want.ents) {
		return "entries: " + cmp.Diff(want.ents, got.ents)
	}
	if !maps.Equal(got.xattrs, want.xattrs) {
		return fmt.Sprintf("xattrs %v, want %v", slices.Sorted(maps.Keys(got.xattrs)), slices.Sorted(maps.Keys(want.xattrs)))
	}
	if got.target != want.target {
		return "target"
	}
	return ""
}

// compare tells the first difference of a volume to history[k]. File data may also
// be as in a later state up to history[last], in pieces of tornSize, where
// history[k] has data already: that is overwritten in place.
func compare(got snapshot, history []snapshot, k, last int) string {
	want := history[k].named()
	for _, inos := range [][]format.Ino{slices.Sorted(maps.Keys(want)), slices.Sorted(maps.Keys(got))} {
		for _, ino := range inos {
			if d := differ(got[ino], want[ino]); d != "" {
				return fmt.Sprintf("inode %d: %s", ino, d)
			}
		}
	}
	for ino, s := range want {
		if at := wrongData(got[ino].data, s, ino, history[k+1:last+1]); at >= 0 {
			return fmt.Sprintf("inode %d of %d bytes: wrong data at %d", ino, len(s.data), at)
		}
	}
	return ""
}

// wrongData returns the offset of the first piece that is neither as it should
// be nor as it was in a later state; -1 if there is none.
func wrongData(got []byte, want *state, ino format.Ino, later []snapshot) int {
	if bytes.Equal(got, want.data) {
		return -1
	}
	for at := 0; at < len(want.data); at += tornSize {
		end := min(at+tornSize, len(want.data))
		if bytes.Equal(got[at:end], want.data[at:end]) {
			continue
		}
		if b := at / sectorSize; b >= len(want.mapped) || !want.mapped[b] || !isOneOf(got[at:end], ino, at, later) {
			return at
		}
	}
	return -1
}

// isOneOf reports whether a piece of a file is as in one of the states, where a file
// that is shorter goes on with zeros.
func isOneOf(got []byte, ino format.Ino, at int, states []snapshot) bool {
	for _, snap := range states {
		s := snap[ino]
		if s == nil {
			continue
		}
		piece := make([]byte, len(got))
		if at < len(s.data) {
			copy(piece, s.data[at:])
		}
		if bytes.Equal(got, piece) {
			return true
		}
	}
	return false
}

// isIO reports whether an error is an injected one, or one that follows from it.
func isIO(err error) bool { return errors.Is(err, syscall.EIO) }
