// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package check

import (
	"fmt"

	"scoutfs/format"
)

// srchItems are the items of srch_root.
type srchItems struct {
	files    []srchFileItem
	compacts []mergeItem[format.SrchCompact]
}

type srchFileItem struct {
	at   place
	file format.SrchFile
}

// readSrchItems walks srch_root.
func (c *checker) readSrchItems() *srchItems {
	s := &srchItems{}
	c.walkItems(&tree{name: "srch_root", kind: treeSrch, root: c.super.SrchRoot, files: true}, func(p place, key *format.Key, _ uint64, val []byte) {
		switch key.Type {
		case format.TypeSrchLog, format.TypeSrchFile:
			if v, ok := format.Load[format.SrchFile](val); ok {
				k := *key
				p.key = &k
				s.files = append(s.files, srchFileItem{at: p, file: v})
			}
		case format.TypeSrchPend, format.TypeSrchBusy:
			v, ok := format.Load[format.SrchCompact](val)
			s.compacts = appendItem(s.compacts, p, key, v, ok)
		}
	})
	return s
}

// checkSrch walks all srch files: rule 40. What is in them an odd number of
// times is left in c.srch.
func (c *checker) checkSrch(s *srchItems) {
	refs := map[format.BlockRef]struct{}{}
	for i := range s.files {
		it := &s.files[i]
		refs[it.file.Ref] = struct{}{}
		sorted := it.at.key.Type == format.TypeSrchFile
		want := format.KeySrchLog(it.file.Ref.Blkno)
		if sorted {
			want = format.KeySrchFile(it.file.Blocks, it.file.Ref.Blkno)
		}
		if *it.at.key != want {
			c.err(40, it.at, "the key of this file must be %v", want)
		}
		c.checkSrchFile(&srchWalk{name: fmt.Sprintf("srch file %v", it.at.key), file: it.file, sorted: sorted, counted: true})
	}
	for _, l := range c.logs {
		c.checkSrchFile(&srchWalk{name: l.name + " srch_file", file: l.SrchFile, counted: true})
	}
	for i := range s.compacts {
		c.checkCompact(&s.compacts[i], refs)
	}
	c.srch.settle()
	c.report.SrchEntries = uint64(len(c.srch.all))
}

// checkCompact checks a compaction and walks what it owns.
func (c *checker) checkCompact(m *mergeItem[format.SrchCompact], refs map[format.BlockRef]struct{}) {
	v := &m.val
	name := fmt.Sprintf("srch compaction %v", m.at.key)
	c.checkList(name+" meta_avail", &v.MetaAvail)
	c.checkList(name+" meta_freed", &v.MetaFreed)
	id := m.at.key.Second
	if m.at.key.Type == format.TypeSrchBusy {
		id = m.at.key.Third
	}
	if id != v.ID {
		c.err(40, m.at, "the value says id %d", v.ID)
	}
	if v.Nr > 4 {
		c.err(40, m.at, "%d inputs", v.Nr)
		c.lost.Store(true)
		return
	}
	switch v.Flags & (format.SrchCompactLog | format.SrchCompactSorted | format.SrchCompactDelete) {
	case format.SrchCompactLog, format.SrchCompactSorted:
		c.checkSrchFile(&srchWalk{name: name + " out", file: v.Out, sorted: true})
		for i := range v.In[:v.Nr] {
			if _, ok := refs[v.In[i].File.Ref]; !ok {
				c.err(40, m.at, "input %d, block %d, is no file of srch_root", i, v.In[i].File.Ref.Blkno)
			}
		}
	case format.SrchCompactDelete:
		for i := range v.In[:v.Nr] {
			in := &v.In[i]
			c.checkSrchFile(&srchWalk{name: fmt.Sprintf("%s input %d", name, i), file: in.File, sorted: true,
				partial: true, freed: freedPart(in)})
		}
	default:
		c.err(40, m.at, "flags %#x are no phase", v.Flags)
		c.lost.Store(true)
	}
}

// freedPart tells which blocks of an input in phase DELETE are freed, by level
// and first data block that they cover. Source: spec format 8.5.
func freedPart(in *format.SrchInput) func(level int, first uint64) bool {
	at := max(in.Pos, 1)
	return func(level int, first uint64) bool {
		switch {
		case at > uint64(in.File.Height):
			return true
		case uint64(level) < at-1:
			return true
		}
		return uint64(level) == at-1 && first < in.Blk
	}
}
