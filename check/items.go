// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package check

import (
	"fmt"

	"scoutfs/format"
)

// treeKind says which items a tree holds.
type treeKind uint8

const (
	treeFS treeKind = iota
	treeLog
	treeLogs
	treeMerge
	treeClients
	treeSrch
	treeAlloc
)

// forest reports whether the tree holds filesystem items.
func (k treeKind) forest() bool { return k == treeFS || k == treeLog }

// wrong tells what of an item does not belong into the tree, "" if nothing, and
// which rule it breaks: 13, or 39 for what version 1 does not have.
func (k treeKind) wrong(it *format.BtreeItem, val []byte, vers uint64) (rule int, why string) {
	if it.Flags&^format.ItemFlagDeletion != 0 {
		return 13, fmt.Sprintf("item flags %#x", it.Flags)
	}
	deleted := it.Flags != 0
	switch {
	case deleted && k != treeLog:
		return 13, "deletion item"
	case deleted && len(val) != 0:
		return 13, fmt.Sprintf("deletion item with a value of %d bytes", len(val))
	case deleted && it.Key.Zone == format.ZoneTotl:
		return 13, "deletion item of a total"
	}
	if k.forest() {
		return fsItemWrong(&it.Key, len(val), deleted, vers)
	}
	zones, ok := serverItems[k]
	if !ok {
		return 13, "unknown tree"
	}
	want, ok := zones[it.Key.Zone]
	switch {
	case !ok:
		return 13, fmt.Sprintf("zone %d does not belong into this tree", it.Key.Zone)
	case k == treeSrch:
		return srchItemWrong(&it.Key, len(val))
	case len(val) != want:
		return 13, fmt.Sprintf("value of %d bytes instead of %d", len(val), want)
	case it.Key.Zone != format.ZoneMergeRange && badServerKey(&it.Key):
		return 13, "fields of the key that must be zero are not"
	}
	return 0, ""
}

// serverItems are the zones of the server's trees and their values' lengths.
var serverItems = map[treeKind]map[uint8]int{
	treeLogs:    {format.ZoneLogTrees: 472},
	treeClients: {format.ZoneMountedClient: 40},
	treeSrch:    {format.ZoneSrch: 0},
	treeAlloc:   {format.ZoneFreeBlkno: 0, format.ZoneFreeOrder: 0},
	treeMerge: {format.ZoneMergeStatus: 56, format.ZoneMergeRange: 64, format.ZoneMergeRequest: 208,
		format.ZoneMergeComplete: 208, format.ZoneMergeFreeing: 64},
}

func badServerKey(k *format.Key) bool {
	two := k.Zone == format.ZoneLogTrees || k.Zone == format.ZoneMergeRequest || k.Zone == format.ZoneFreeBlkno
	three := k.Zone == format.ZoneFreeOrder
	switch {
	case k.Type != 0 || k.Fourth != 0, k.Third != 0 && !three, k.Second != 0 && !two && !three:
		return true
	}
	return k.Zone == format.ZoneMergeStatus && k.First != 0
}

func srchItemWrong(k *format.Key, n int) (int, string) {
	want := 0
	switch k.Type {
	case format.TypeSrchLog, format.TypeSrchFile:
		want = 88
	case format.TypeSrchPend, format.TypeSrchBusy:
		want = 584
	default:
		return 13, fmt.Sprintf("type %d does not belong into this tree", k.Type)
	}
	if n != want {
		return 13, fmt.Sprintf("value of %d bytes instead of %d", n, want)
	}
	third := k.Type == format.TypeSrchFile || k.Type == format.TypeSrchBusy
	if k.First != 0 || k.Fourth != 0 || k.Third != 0 && !third {
		return 13, "fields of the key that must be zero are not"
	}
	return 0, ""
}

// fsShape is what a kind of filesystem items looks like.
type fsShape struct {
	min, max              int // bytes of the value
	second, third, fourth bool
}

// fsShapes are the types of zone 16.
var fsShapes = map[uint8]fsShape{
	format.TypeInode:   {min: format.InodeSizeV1, max: format.InodeSizeV2},
	format.TypeXattr:   {min: 1, max: format.MaxValue, second: true, third: true, fourth: true},
	format.TypeDirent:  {min: 33, max: 287, second: true, third: true},
	format.TypeReaddir: {min: 33, max: 287, second: true},
	format.TypeBackref: {min: 33, max: 287, second: true, third: true},
	format.TypeSymlink: {min: 1, max: format.MaxValue, second: true},
	format.TypeExtent:  {min: 16, max: 16, second: true, third: true},
}

func fsItemWrong(k *format.Key, n int, deleted bool, vers uint64) (int, string) {
	s, why := fsShapeOf(k)
	if why != "" {
		return 13, why
	}
	if vers < 2 && (k.Zone == format.ZoneQuota || k.Zone == format.ZoneXattrIndex) {
		return 39, "a volume of format version 1 does not have such items"
	}
	switch {
	case k.Second != 0 && !s.second, k.Third != 0 && !s.third, k.Fourth != 0 && !s.fourth:
		return 13, "fields of the key that must be zero are not"
	case deleted:
		return 0, ""
	case n < s.min || n > s.max:
		return 13, fmt.Sprintf("value of %d bytes instead of %d to %d", n, s.min, s.max)
	case k.Zone != format.ZoneFS || k.Type != format.TypeInode || n == format.InodeSizeV1:
		return 0, ""
	case n != format.InodeSizeV2:
		return 13, fmt.Sprintf("value of %d bytes instead of 160 or 168", n)
	case vers < 2:
		return 39, "inode of format version 2 in a volume of version 1"
	}
	return 0, ""
}

func fsShapeOf(k *format.Key) (s fsShape, why string) {
	ok, zero := false, k.First != 0
	switch k.Zone {
	case format.ZoneInodeIndex:
		s, ok = fsShape{second: true, third: true}, k.Type == format.TypeMetaSeq || k.Type == format.TypeDataSeq
	case format.ZoneOrphan:
		s, ok = fsShape{second: true}, k.Type == format.TypeOrphan
	case format.ZoneQuota:
		s, ok = fsShape{min: 48, max: 48, second: true, third: true}, k.Type == format.TypeQuota
	case format.ZoneTotl:
		s, ok, zero = fsShape{min: 16, max: 16, second: true, third: true}, k.Type == 0, false
	case format.ZoneXattrIndex:
		s, ok, zero = fsShape{second: true, third: true, fourth: true}, k.Type == 0, false
	case format.ZoneFS:
		s, ok = fsShapes[k.Type]
		zero = false
	default:
		return s, fmt.Sprintf("zone %d does not belong into this tree", k.Zone)
	}
	switch {
	case !ok:
		return s, fmt.Sprintf("type %d does not belong into zone %d", k.Type, k.Zone)
	case zero:
		return s, "fields of the key that must be zero are not"
	}
	return s, ""
}
