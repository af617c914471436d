// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package lock

import "scoutfs/format"

// Range is what one lock covers: all keys from Start to End, both included.
// The start key is the lock's name. Ranges never overlap.
// Source: spec cluster 7.2, filesystem 1.4.
type Range struct{ Start, End format.Key }

const groupMask = format.LockGroup - 1

// zone covers every key of a zone.
func zone(z uint8) Range {
	end := format.KeyMax
	end.Zone = z
	return Range{Start: format.Key{Zone: z}, End: end}
}

// InodeGroup covers the items of the 1024 inode numbers around ino.
func InodeGroup(ino format.Ino) Range {
	r := zone(format.ZoneFS)
	r.Start.First = uint64(ino) &^ groupMask
	r.End.First = uint64(ino) | groupMask
	return r
}

// Index covers the index items of a type, format.TypeMetaSeq or
// format.TypeDataSeq, with the 1024 sequence numbers around seq.
func Index(typ uint8, seq uint64) Range {
	return Range{
		Start: format.Key{Zone: format.ZoneInodeIndex, Type: typ, Second: seq &^ groupMask},
		End:   format.Key{Zone: format.ZoneInodeIndex, Type: typ, Second: seq | groupMask, Third: format.MaxKeyU64},
	}
}

// Orphans covers the items of all inodes without a link. Used as WO.
func Orphans() Range {
	return Range{
		Start: format.Key{Zone: format.ZoneOrphan, Type: format.TypeOrphan},
		End:   format.Key{Zone: format.ZoneOrphan, Type: format.TypeOrphan, Second: format.MaxKeyU64},
	}
}

// Quota covers the quota rules. Used as R and W.
func Quota() Range { return zone(format.ZoneQuota) }

// Totl covers the totals of totl tagged xattrs. Used as WO only.
func Totl() Range { return zone(format.ZoneTotl) }

// XattrIndex covers the index of indx tagged xattrs. Used as WO only.
func XattrIndex() Range { return zone(format.ZoneXattrIndex) }

// Rename serialises moves of directories in the whole cluster. It covers no
// item. Used as W.
func Rename() Range {
	k := format.Key{Zone: format.ZoneRename, Type: format.TypeRename}
	return Range{Start: k, End: k}
}
