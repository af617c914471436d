// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package check

import (
	"encoding/binary"
	"fmt"
	"math/bits"

	"scoutfs/block"
	"scoutfs/format"
)

// logTree is a log trees item and what its checks need.
type logTree struct {
	format.LogTrees
	name  string // "log tree RID.NR"
	at    place  // of the item
	bloom []byte // the block, nil if there is none that can be used
}

func (l *logTree) finalized() bool { return l.Flags&format.LogTreesFinalized != 0 }

// readLogTrees walks logs_root.
func (c *checker) readLogTrees() (logs []*logTree) {
	c.walkItems(&tree{name: "logs_root", kind: treeLogs, root: c.super.LogsRoot, items: true}, func(p place, key *format.Key, _ uint64, val []byte) {
		v, ok := format.Load[format.LogTrees](val)
		if !ok {
			return // rule 13
		}
		k := *key
		p.key = &k
		l := &logTree{LogTrees: v, name: fmt.Sprintf("log tree %016x.%d", key.First, key.Second), at: p}
		if uint64(v.Rid) != key.First || v.Nr != key.Second {
			c.err(22, p, "the value says rid %d nr %d", v.Rid, v.Nr)
		}
		logs = append(logs, l)
	})
	return logs
}

// readClients walks mounted_clients.
func (c *checker) readClients() map[format.Rid]struct{} {
	clients := map[format.Rid]struct{}{}
	c.walkItems(&tree{name: "mounted_clients", kind: treeClients, root: c.super.MountedClients}, func(_ place, key *format.Key, _ uint64, _ []byte) {
		clients[format.Rid(key.First)] = struct{}{}
	})
	return clients
}

// checkLogTrees checks everything of log trees but their items and srch files:
// rules 16, 22, 23.
func (c *checker) checkLogTrees(logs []*logTree, clients map[format.Rid]struct{}, s *format.Super) {
	c.logs = logs
	c.report.LogTrees = uint64(len(logs))
	for i, l := range logs {
		c.checkLogFields(l)
		if !l.finalized() {
			if i+1 < len(logs) && logs[i+1].at.key.First == l.at.key.First {
				c.err(22, l.at, "not finalized, but the mount has a later log tree")
			}
			if _, ok := clients[l.Rid]; !ok {
				open := ""
				if l.GetTransSeq > l.CommitTransSeq {
					open = " and has an open transaction"
				}
				c.warn(23, l.at, "not finalized%s, but its mount is not among the mounted clients", open)
			}
		}
		c.checkList(l.name+" meta_avail", &l.MetaAvail)
		c.checkList(l.name+" meta_freed", &l.MetaFreed)
		c.checkExtents(l.name+" data_avail", &l.DataAvail, true)
		c.checkExtents(l.name+" data_freed", &l.DataFreed, true)
		c.readBloom(l)
	}
}

// checkLogFields checks the fields of a log trees item on their own.
func (c *checker) checkLogFields(l *logTree) {
	c.checkSeq(l.at, "get_trans_seq", l.GetTransSeq)
	c.checkSeq(l.at, "commit_trans_seq", l.CommitTransSeq)
	c.checkSeq(l.at, "finalize_seq", l.FinalizeSeq)
	if l.CommitTransSeq > l.GetTransSeq {
		c.err(22, l.at, "commit_trans_seq %d is above get_trans_seq %d", l.CommitTransSeq, l.GetTransSeq)
	}
	if l.Flags&^format.LogTreesFinalized != 0 {
		c.err(22, l.at, "unknown flags %#x", l.Flags)
	}
	if (l.FinalizeSeq != 0) != l.finalized() {
		c.err(22, l.at, "finalize_seq %d with flags %#x", l.FinalizeSeq, l.Flags)
	}
	if l.ItemRoot.Height != 0 && l.BloomRef.IsNull() {
		c.err(22, l.at, "items but no bloom block")
	}
	if !l.finalized() {
		return
	}
	full := ""
	for _, f := range []struct {
		name string
		has  bool
	}{
		{"meta_avail", !l.MetaAvail.Ref.IsNull() || l.MetaAvail.TotalNr != 0},
		{"meta_freed", !l.MetaFreed.Ref.IsNull() || l.MetaFreed.TotalNr != 0},
		{"data_avail", l.DataAvail.Root.Height != 0 || l.DataAvail.TotalLen != 0},
		{"data_freed", l.DataFreed.Root.Height != 0 || l.DataFreed.TotalLen != 0},
		{"srch_file", !l.SrchFile.Ref.IsNull() || l.SrchFile.Blocks != 0},
	} {
		if f.has {
			full += " " + f.name
		}
	}
	if full != "" {
		c.err(16, l.at, "finalized, but not empty:%s", full)
	}
}

// readBloom reads and keeps a log tree's bloom block.
func (c *checker) readBloom(l *logTree) {
	if l.BloomRef.IsNull() {
		return
	}
	name := l.name + " bloom"
	if !c.claim(l.BloomRef.Blkno, c.ownerID(name)) {
		return
	}
	b := c.readBlock(name, l.BloomRef, format.MagicBloom)
	if b == nil {
		c.lost.Store(true)
		return
	}
	set := 0
	for i := 40; i < len(b); i += 8 {
		set += bits.OnesCount64(binary.LittleEndian.Uint64(b[i:]))
	}
	if total := binary.LittleEndian.Uint64(b[32:]); total != uint64(set) {
		c.err(22, place{structure: name, block: l.BloomRef.Blkno}, "total_set is %d, %d bits are set", total, set)
	}
	l.bloom = append([]byte(nil), b...)
	block.FreeBuf(b)
}

// lockStart is the start key of the lock that covers an item's key.
// Source: spec format 7.4.
func lockStart(k *format.Key) format.Key {
	switch k.Zone {
	case format.ZoneFS:
		return format.Key{Zone: k.Zone, First: k.First &^ (format.LockGroup - 1)}
	case format.ZoneInodeIndex:
		return format.Key{Zone: k.Zone, Type: k.Type, Second: k.Second &^ (format.LockGroup - 1)}
	case format.ZoneOrphan:
		return format.Key{Zone: k.Zone, Type: format.TypeOrphan}
	}
	return format.Key{Zone: k.Zone}
}

// hasBits reports whether the bloom block has the three bits of a lock.
func (l *logTree) hasBits(lock *format.Key) bool {
	for _, nr := range format.BloomBitNrs(lock) {
		if l.bloom[40+nr/8]>>(nr%8)&1 == 0 {
			return false
		}
	}
	return true
}
