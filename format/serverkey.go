// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package format

// KeySrchLog is an unsorted srch file by its root block.
func KeySrchLog(root Blkno) Key { return Key{Zone: ZoneSrch, Type: TypeSrchLog, Second: uint64(root)} }

// KeySrchFile is a sorted srch file by its number of blocks and its root block.
func KeySrchFile(blocks uint64, root Blkno) Key {
	return Key{Zone: ZoneSrch, Type: TypeSrchFile, Second: blocks, Third: uint64(root)}
}

// KeySrchPending is a compaction that nobody works on.
func KeySrchPending(id uint64) Key { return Key{Zone: ZoneSrch, Type: TypeSrchPend, Second: id} }

// KeySrchBusy is a compaction that a mount works on.
func KeySrchBusy(rid Rid, id uint64) Key {
	return Key{Zone: ZoneSrch, Type: TypeSrchBusy, Second: uint64(rid), Third: id}
}

// KeyMergeStatus is the item that exists while a merge runs.
func KeyMergeStatus() Key { return Key{Zone: ZoneMergeStatus} }

// KeyMergeRange is the item of the range that starts with start. The zone of
// start is lost: only the value has it.
func KeyMergeRange(start Key) Key {
	start.Zone = ZoneMergeRange
	return start
}

// KeyMergeRequest is the item of a request that a mount works on.
func KeyMergeRequest(rid Rid, seq uint64) Key {
	return Key{Zone: ZoneMergeRequest, First: uint64(rid), Second: seq}
}

// KeyMergeComplete is the item of a completed request.
func KeyMergeComplete(seq uint64) Key { return Key{Zone: ZoneMergeComplete, First: seq} }

// KeyMergeFreeing is the item of a dead log tree.
func KeyMergeFreeing(seq uint64) Key { return Key{Zone: ZoneMergeFreeing, First: seq} }
