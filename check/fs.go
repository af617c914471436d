// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package check

import (
	"cmp"
	"fmt"
	"slices"

	"scoutfs/format"
)

// fsCheck checks the merged current items, which come in key order: first those
// of zones 4 to 14, which are kept in arrays, then inode by inode those of zone
// 16, against which the arrays, sorted by inode number, are compared.
type fsCheck struct {
	c *checker

	metaSeqs joined[indexItem]
	dataSeqs joined[indexItem]
	orphans  joined[format.Ino]
	indexes  joined[xattrIndex]
	entries  joined[format.SrchEntry]
	totals   map[format.Key]totals
	started  bool // the arrays are sorted

	cur    inodeCheck
	inodes uint64
	root   bool
	dirs   []dirParent
	links  linkSet

	held     []Finding // that follow from items that are absent
	heldMore int
}

// indexItem is an item of zone 4.
type indexItem struct {
	ino format.Ino
	seq uint64
}

// xattrIndex is an item of zone 14.
type xattrIndex struct {
	ino   format.Ino
	id    uint64
	minor uint64
	major uint8
}

// totals are what a total says and what xattrs add up to.
type totals struct {
	has, want format.Totl
}

// joined is an array that is sorted by inode number and read along with inodes.
type joined[T any] struct {
	all []T
	at  int
	ino func(*T) format.Ino
}

// upTo returns those of inode ino; missed is called for those of smaller ones,
// which have no items.
func (j *joined[T]) upTo(ino format.Ino, missed func(*T)) []T {
	for j.at < len(j.all) && j.ino(&j.all[j.at]) < ino {
		missed(&j.all[j.at])
		j.at++
	}
	start := j.at
	for j.at < len(j.all) && j.ino(&j.all[j.at]) == ino {
		j.at++
	}
	return j.all[start:j.at]
}

// rest calls missed for what is left.
func (j *joined[T]) rest(missed func(*T)) {
	for ; j.at < len(j.all); j.at++ {
		missed(&j.all[j.at])
	}
}

func newFsCheck(c *checker) *fsCheck {
	f := &fsCheck{c: c, totals: map[format.Key]totals{}}
	f.metaSeqs.ino = func(x *indexItem) format.Ino { return x.ino }
	f.dataSeqs.ino = f.metaSeqs.ino
	f.orphans.ino = func(x *format.Ino) format.Ino { return *x }
	f.indexes.ino = func(x *xattrIndex) format.Ino { return x.ino }
	f.entries.ino = func(x *format.SrchEntry) format.Ino { return x.Ino }
	return f
}

// absent records a finding that is worth something only if all item trees
// could be read.
func (f *fsCheck) absent(sev Severity, rule int, p place, msg string, args ...any) {
	if len(f.held) >= 100000 {
		f.heldMore++
		return
	}
	x := Finding{Rule: rule, Severity: sev, Structure: p.structure, Message: fmt.Sprintf(msg, args...)}
	if p.key != nil {
		x.Key = p.key.String()
	}
	f.held = append(f.held, x)
}

// item takes a current item.
func (f *fsCheck) item(key *format.Key, val []byte) {
	f.c.report.Items++
	switch key.Zone {
	case format.ZoneInodeIndex:
		x := indexItem{ino: format.Ino(key.Third), seq: key.Second}
		if key.Type == format.TypeMetaSeq {
			f.metaSeqs.all = append(f.metaSeqs.all, x)
		} else {
			f.dataSeqs.all = append(f.dataSeqs.all, x)
		}
	case format.ZoneOrphan:
		f.orphans.all = append(f.orphans.all, format.Ino(key.Second))
	case format.ZoneQuota:
		f.quota(key, val)
	case format.ZoneXattrIndex:
		major, minor, ino, id := key.XattrIndex()
		f.indexes.all = append(f.indexes.all, xattrIndex{ino: ino, id: id, minor: minor, major: major})
	case format.ZoneFS:
		if !f.started {
			f.start()
		}
		if f.cur.ino != format.Ino(key.First) || !f.cur.any {
			f.endInode()
			f.beginInode(format.Ino(key.First))
		}
		f.inodeItem(key, val)
	}
}

// start sorts the arrays, once all items of zones below 16 have come.
func (f *fsCheck) start() {
	f.started = true
	byIno := func(a, b indexItem) int { return cmp.Or(cmp.Compare(a.ino, b.ino), cmp.Compare(a.seq, b.seq)) }
	slices.SortFunc(f.metaSeqs.all, byIno)
	slices.SortFunc(f.dataSeqs.all, byIno)
	slices.Sort(f.orphans.all)
	slices.SortFunc(f.indexes.all, func(a, b xattrIndex) int { return cmp.Or(cmp.Compare(a.ino, b.ino), cmp.Compare(a.id, b.id)) })
	f.entries.all = f.c.srch.all
}

// quota checks a rule. Rule 38.
func (f *fsCheck) quota(key *format.Key, val []byte) {
	r, ok := format.Load[format.QuotaRule](val)
	if !ok {
		return // rule 13
	}
	p := place{structure: "quota rules", key: key}
	if h := format.Hash64(val); h != key.Second {
		f.c.err(38, p, "the hash of the rule is %016x", h)
	}
	if !r.Valid() || slices.Max(r.NameSource[:]) > format.QuotaGID {
		f.c.err(38, p, "op %d, flags %#x, sources %v and name flags %v are not all legal", r.Op, r.RuleFlags, r.NameSource, r.NameFlags)
	}
}

// finish checks what needs all items.
func (f *fsCheck) finish() {
	if !f.started {
		f.start()
	}
	f.endInode()
	f.metaSeqs.rest(f.lostIndex("meta_seq"))
	f.dataSeqs.rest(f.lostIndex("data_seq"))
	f.orphans.rest(f.lostOrphan)
	f.indexes.rest(f.lostXattrIndex)
	f.entries.rest(f.lostEntry)
	if !f.root {
		f.absent(Error, 25, place{structure: "inode 1"}, "the root directory has no inode item")
	}
	f.checkCount()
	f.checkTotals()
	f.links.finish(f)
	f.checkTree()
	f.c.report.Inodes = f.inodes
	f.release()
}

// release reports the findings about absent items, or counts them if damage may
// be their reason.
func (f *fsCheck) release() {
	if f.c.fsLost.Load() {
		f.c.report.Doubtful += len(f.held) + f.heldMore
		return
	}
	for _, x := range f.held {
		if x.Rule == 37 && f.c.srchLost.Load() {
			f.c.report.Doubtful++
		} else {
			f.c.store(x)
		}
	}
	f.c.report.Counts.Errors += f.heldMore
}

// checkCount checks rule 26.
func (f *fsCheck) checkCount() {
	sum := f.c.super.InodeCount
	for _, l := range f.c.logs {
		sum += l.InodeCountDelta
	}
	if sum != f.inodes {
		f.absent(Error, 26, place{structure: "inode count"}, "inode_count %d and the deltas of log trees give %d, there are %d inodes",
			f.c.super.InodeCount, int64(sum), f.inodes)
	}
}

// checkTotals checks rule 35.
func (f *fsCheck) checkTotals() {
	for key, t := range f.totals {
		if t.has != t.want {
			k := key
			f.absent(Error, 35, place{structure: "totals", key: &k}, "total %d count %d, the xattrs give total %d count %d",
				t.has.Total, t.has.Count, t.want.Total, t.want.Count)
		}
	}
}

func (f *fsCheck) lostIndex(field string) func(*indexItem) {
	return func(x *indexItem) {
		f.absent(Error, 32, place{structure: inodeName(x.ino)}, "index item at %s %d, but the inode does not exist", field, x.seq)
	}
}

func (f *fsCheck) lostOrphan(ino *format.Ino) {
	f.absent(Error, 31, place{structure: inodeName(*ino)}, "orphan item, but the inode does not exist")
}

func (f *fsCheck) lostXattrIndex(x *xattrIndex) {
	k := format.KeyXattrIndex(x.major, x.minor, x.ino, x.id)
	f.absent(Warning, 36, place{structure: inodeName(x.ino), key: &k}, "xattr index item, but the inode does not exist")
}

func (f *fsCheck) lostEntry(e *format.SrchEntry) {
	f.absent(Warning, 37, place{structure: inodeName(e.Ino)}, "srch entry %016x, id %d, but there is no such xattr", e.Hash, e.ID)
}

func inodeName(ino format.Ino) string { return fmt.Sprintf("inode %d", ino) }
