// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package volume

import "sync/atomic"

// counter is a number that only grows.
type counter = *atomic.Int64

// counters are the live values of [Metrics].
type counters struct {
	fallocateRetry, writeBeginRetry                  atomic.Int64
	backrefRetries, inodeDeleted                     atomic.Int64
	scans, scanAttempts, scanCached, scanEmpty       atomic.Int64
	scanError, scanItem, scanMapSet, statfs          atomic.Int64
	corruptBackref, corruptName, corruptReaddir      atomic.Int64
	corruptBlockCounts, corruptSymlinkSize           atomic.Int64
	corruptSymlinkMissing, corruptSymlinkTermination atomic.Int64
}

// Metrics are the counters of this package since the volume was opened. Names
// are those of spec interfaces 4.3, in the order and spelling given there.
type Metrics struct {
	DataFallocateENOBUFSRetry  int64
	DataWriteBeginENOBUFSRetry int64
	DirBackrefExcessiveRetries int64
	InodeDeleted               int64
	OrphanScan                 int64
	OrphanScanAttempts         int64
	OrphanScanCached           int64
	OrphanScanEmpty            int64
	OrphanScanError            int64
	OrphanScanItem             int64
	OrphanScanOmapSet          int64
	Statfs                     int64

	CorruptDirentBackrefNameLen int64
	CorruptDirentNameLen        int64
	CorruptDirentReaddirNameLen int64
	CorruptInodeBlockCounts     int64
	CorruptSymlinkInodeSize     int64
	CorruptSymlinkMissingItem   int64
	CorruptSymlinkNotNullTerm   int64
}

// Metrics returns the current values of the counters.
func (v *Volume) Metrics() Metrics {
	m := &v.m
	return Metrics{
		DataFallocateENOBUFSRetry:  m.fallocateRetry.Load(),
		DataWriteBeginENOBUFSRetry: m.writeBeginRetry.Load(),
		DirBackrefExcessiveRetries: m.backrefRetries.Load(),
		InodeDeleted:               m.inodeDeleted.Load(),
		OrphanScan:                 m.scans.Load(),
		OrphanScanAttempts:         m.scanAttempts.Load(),
		OrphanScanCached:           m.scanCached.Load(),
		OrphanScanEmpty:            m.scanEmpty.Load(),
		OrphanScanError:            m.scanError.Load(),
		OrphanScanItem:             m.scanItem.Load(),
		OrphanScanOmapSet:          m.scanMapSet.Load(),
		Statfs:                     m.statfs.Load(),

		CorruptDirentBackrefNameLen: m.corruptBackref.Load(),
		CorruptDirentNameLen:        m.corruptName.Load(),
		CorruptDirentReaddirNameLen: m.corruptReaddir.Load(),
		CorruptInodeBlockCounts:     m.corruptBlockCounts.Load(),
		CorruptSymlinkInodeSize:     m.corruptSymlinkSize.Load(),
		CorruptSymlinkMissingItem:   m.corruptSymlinkMissing.Load(),
		CorruptSymlinkNotNullTerm:   m.corruptSymlinkTermination.Load(),
	}
}
