// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package check_test

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"scoutfs/alloc"
	"scoutfs/btree"
	"scoutfs/check"
	"scoutfs/format"
)

// breakage breaks one rule.
type breakage struct {
	rule    int
	name    string
	sev     check.Severity
	want    string // in the finding's line
	version uint64 // default 2
	also    []int  // rules that this cannot but break as well
	merge   bool   // in a volume with a running merge
	do      func(v *vol)
}

func put16(b []byte, off int, n uint16) { binary.LittleEndian.PutUint16(b[off:], n) }
func add16(b []byte, off int, n int) {
	put16(b, off, uint16(int(binary.LittleEndian.Uint16(b[off:]))+n))
}

// fsLeaf edits the second leaf of fs_root.
func fsLeaf(change func(b []byte)) func(v *vol) {
	return func(v *vol) { v.edit(v.blocks(v.super().FSRoot, 0)[1], change) }
}

func mergeRoot(s *format.Super) *format.BtreeRoot { return &s.LogMerge }

var superBreakages = []breakage{
	{rule: 1, name: "data uuid", want: "data super: block 16: uuid", do: func(v *vol) { v.superOf(v.data, func(s *format.Super) { s.UUID[3]++ }) }},
	{rule: 1, name: "data fsid", want: "fsid", do: func(v *vol) { v.superOf(v.data, func(s *format.Super) { s.Hdr.Fsid++ }) }},
	{rule: 1, name: "data version", want: "format version 1", do: func(v *vol) { v.superOf(v.data, func(s *format.Super) { s.FmtVers = 1 }) }},
	{rule: 1, name: "data flag", want: "META flag", do: func(v *vol) { v.superOf(v.data, func(s *format.Super) { s.Flags = 1 }) }},
	{rule: 1, name: "data crc", want: "crc", do: func(v *vol) { v.data.Corrupt(16<<12+100, 1) }},
	{rule: 1, name: "meta crc", want: "metadata super: block 16: crc", do: func(v *vol) { v.meta.Corrupt(16<<12+3000, 1) }},
	{rule: 1, name: "meta version", want: "format version 3", do: func(v *vol) { v.setSuper(func(s *format.Super) { s.FmtVers = 3 }) }},
	{rule: 1, name: "meta blkno", want: "blkno 17", do: func(v *vol) { v.setSuper(func(s *format.Super) { s.Hdr.Blkno = 17 }) }},
	{rule: 2, name: "meta size", want: "total_meta_blocks is 8193, the device has 8192", do: func(v *vol) { v.setSuper(func(s *format.Super) { s.TotalMetaBlocks++ }) }},
	{rule: 2, name: "data size", want: "the device has 262144", also: []int{21}, do: func(v *vol) { v.setSuper(func(s *format.Super) { s.TotalDataBlocks++ }) }},
	{rule: 3, name: "null ref", want: "log_merge: height 1 with a reference to block 0", do: func(v *vol) { v.setSuper(func(s *format.Super) { s.LogMerge.Height = 1 }) }},
	{rule: 3, name: "height 0", want: "fs_root: block", do: func(v *vol) { v.setSuper(func(s *format.Super) { s.FSRoot.Height = 0 }) }},
	{rule: 3, name: "height 21", want: "height 21 is above 20", do: func(v *vol) { v.setSuper(func(s *format.Super) { s.SrchRoot.Height = 21 }) }},
	{rule: 4, name: "unknown option", want: "unknown options 0x2", do: func(v *vol) { v.setSuper(func(s *format.Super) { s.VolOpt.SetBits = 2 }) }},
	{rule: 4, name: "zones", want: "data_alloc_zone_blocks 5", do: func(v *vol) { v.setSuper(func(s *format.Super) { s.VolOpt.SetBits, s.VolOpt.Values[0] = 1, 5 }) }},
	{rule: 5, name: "quorum block", sev: check.Warning, want: "quorum slot 1: block 18: crc", do: func(v *vol) { v.meta.Corrupt(18<<12+40, 1) }},
	{rule: 6, name: "trans seq", want: "get_trans_seq 40 is above the super's seq 39", do: func(v *vol) { v.setSuper(func(s *format.Super) { s.Seq = 39 }) }},
}

var treeBreakages = []breakage{
	{rule: 7, name: "crc", want: "fs_root: block", do: func(v *vol) { v.corrupt(v.blocks(v.super().FSRoot, 0)[1], 60000) }},
	{rule: 7, name: "ref seq", want: "seq", do: func(v *vol) { v.setSuper(func(s *format.Super) { s.FSRoot.Ref.Seq++ }) }},
	{rule: 7, name: "outside", want: "outside the metadata device's blocks 2 to 8191", do: func(v *vol) { v.setSuper(func(s *format.Super) { s.FSRoot.Ref.Blkno = 1 << 40 }) }},
	{rule: 7, name: "magic", want: "not that of a btree block", do: func(v *vol) {
		v.edit(v.super().FSRoot.Ref.Blkno, func(b []byte) { binary.LittleEndian.PutUint32(b[4:], uint32(format.MagicBloom)) })
	}},
	{rule: 8, name: "level", want: "level 3, but level 0 belongs here", do: fsLeaf(func(b []byte) { b[40] = 3 })},
	{rule: 8, name: "AVL parent", want: "AVL parent", do: fsLeaf(func(b []byte) { add16(b, 48, 56) })},
	{rule: 8, name: "AVL height", want: "AVL height", do: fsLeaf(func(b []byte) { b[54] += 4 })},
	{rule: 8, name: "AVL link", want: "leads to no item", do: fsLeaf(func(b []byte) { put16(b, 32, 3) })},
	{rule: 8, name: "AVL cycle", want: "links item", do: fsLeaf(func(b []byte) { put16(b, 50, binary.LittleEndian.Uint16(b[32:])) })},
	{rule: 8, name: "item padding", want: "padding", do: fsLeaf(func(b []byte) { b[48+55] = 1 })},
	{rule: 8, name: "too many items", want: "65535 items do not fit", do: fsLeaf(func(b []byte) { put16(b, 34, 65535) })},
	{rule: 9, name: "total_item_bytes", want: "total_item_bytes is", do: fsLeaf(func(b []byte) { add16(b, 36, 8) })},
	{rule: 9, name: "gap", want: "free gap", do: fsLeaf(func(b []byte) { add16(b, 38, 4) })},
	{rule: 9, name: "value", want: "has a value at", do: func(v *vol) {
		v.edit(v.super().LogsRoot.Ref.Blkno, func(b []byte) { add16(b, 48+48, 4) })
	}},
	{rule: 10, name: "hash", want: "hash table", do: fsLeaf(func(b []byte) { clear(b[format.BtreeHashOff : format.BtreeHashOff+1000]) })},
	{rule: 11, name: "child's keys", want: "the parent's keys end at", do: func(v *vol) {
		v.edit(v.super().FSRoot.Ref.Blkno, func(b []byte) { firstItem(b, func(k []byte) { k[16]-- }) })
	}},
	{rule: 11, name: "right edge", want: "not all ones", do: func(v *vol) {
		v.edit(v.super().FSRoot.Ref.Blkno, func(b []byte) {
			i := bytes.LastIndex(b[:48+56*int(binary.LittleEndian.Uint16(b[34:]))], bytes.Repeat([]byte{255}, 24))
			b[i+16] = 5
		})
	}},
	{rule: 12, name: "empty leaf", sev: check.Warning, want: "item_root: block", do: func(v *vol) {
		lt := loadLog(v, deadRid)
		v.edit(v.blocks(lt.ItemRoot, 0)[0], func(b []byte) {
			clear(b[32:])
			put16(b, 38, format.BtreeLeafFree)
		})
	}},
	{rule: 13, name: "unknown type", want: "type 9 does not belong into zone 16", do: func(v *vol) {
		v.setFS(itemMap{{Zone: format.ZoneFS, First: fileIno, Type: 9}: {1}})
	}},
	{rule: 13, name: "zone", want: "zone 24 does not belong", do: func(v *vol) { v.setFS(itemMap{{Zone: 24}: {1}}) }},
	{rule: 13, name: "key field", want: "fields of the key", do: func(v *vol) { v.setFS(itemMap{{Zone: format.ZoneTotl, Fourth: 3}: make([]byte, 16)}) }},
	{rule: 13, name: "deletion", want: "deletion item", do: func(v *vol) {
		v.tx(func(t *btree.Tx, s *format.Super) {
			must(v.t, put(t, &s.FSRoot, itemMap{format.KeyInode(9999): nil}, 5))
		})
	}},
	{rule: 13, name: "length", want: "value of 3 bytes instead of 472", do: func(v *vol) {
		v.tx(func(t *btree.Tx, s *format.Super) {
			k := format.KeyLogTrees(0x3333, 1)
			must(v.t, t.Insert(&s.LogsRoot, &k, []byte{1, 2, 3}))
		})
	}},
}

// firstItem calls change with the bytes of the smallest key of a parent that is
// not all ones.
func firstItem(b []byte, change func(key []byte)) {
	best := -1
	var min format.Key
	for i := range int(binary.LittleEndian.Uint16(b[34:])) {
		k, _ := format.Load[format.Key](b[48+56*i+8:])
		if best < 0 || k.Less(&min) {
			best, min = i, k
		}
	}
	change(b[48+56*best+8:])
}

func loadLog(v *vol, rid format.Rid) format.LogTrees {
	lt, _ := format.Load[format.LogTrees](v.get(v.super().LogsRoot, format.KeyLogTrees(rid, 1)))
	return lt
}

var allocBreakages = []breakage{
	{rule: 14, name: "total_len", want: "data_alloc: block", do: func(v *vol) { v.setSuper(func(s *format.Super) { s.DataAlloc.TotalLen++ }) }},
	{rule: 14, name: "no item by size", want: "no item by size", do: func(v *vol) { v.freeItem(func(k *format.Key) bool { return k.Zone == format.ZoneFreeOrder }) }},
	{rule: 14, name: "no item by position", want: "no item by position", also: []int{21}, do: func(v *vol) { v.freeItem(func(k *format.Key) bool { return k.Zone == format.ZoneFreeBlkno }) }},
	{rule: 14, name: "outside", want: "outside of blocks 64 to", do: func(v *vol) {
		v.tx(func(t *btree.Tx, s *format.Super) {
			for _, k := range []format.Key{format.KeyFreeBlkno(1<<30, 5), format.KeyFreeOrder(1<<30, 5)} {
				must(v.t, t.Insert(&s.DataAlloc.Root, &k, nil))
			}
		})
	}},
	{rule: 14, name: "adjacent", sev: check.Warning, want: "adjacent", do: func(v *vol) {
		v.tx(func(t *btree.Tx, s *format.Super) {
			start, n, err := alloc.TakeExtent(t, &s.DataAlloc, 10)
			must(v.t, err)
			for _, k := range []format.Key{format.KeyFreeBlkno(start, n), format.KeyFreeOrder(start, n)} {
				must(v.t, t.Insert(&s.DataAlloc.Root, &k, nil))
			}
			s.DataAlloc.TotalLen += n
		})
	}},
	{rule: 15, name: "total_nr", want: "total_nr is", do: func(v *vol) { v.setSuper(func(s *format.Super) { s.ServerMetaAvail[0].TotalNr++ }) }},
	{rule: 15, name: "first_nr", want: "first_nr is", do: func(v *vol) { v.setSuper(func(s *format.Super) { s.ServerMetaAvail[0].FirstNr++ }) }},
	{rule: 15, name: "start", want: "of 8185", do: func(v *vol) {
		v.edit(v.super().ServerMetaAvail[0].Ref.Blkno, func(b []byte) { binary.LittleEndian.PutUint32(b[48:], 8000) })
	}},
	{rule: 15, name: "duplicate", want: "for the second time", also: []int{17}, do: func(v *vol) {
		v.edit(v.super().ServerMetaAvail[0].Ref.Blkno, func(b []byte) {
			at := 56 + 8*int(binary.LittleEndian.Uint32(b[48:]))
			copy(b[at:at+8], b[at+8:])
		})
	}},
	{rule: 15, name: "outside", want: "outside of blocks 2 to", also: []int{17}, do: func(v *vol) {
		v.edit(v.super().ServerMetaAvail[0].Ref.Blkno, func(b []byte) {
			binary.LittleEndian.PutUint64(b[56+8*int(binary.LittleEndian.Uint32(b[48:])):], 1<<50)
		})
	}},
	{rule: 16, name: "finalized", want: "not empty: data_avail", do: func(v *vol) {
		var a format.AllocRoot
		v.changeLog(liveRid, func(lt *format.LogTrees) { a, lt.DataAvail = lt.DataAvail, format.AllocRoot{} })
		v.changeLog(deadRid, func(lt *format.LogTrees) { lt.DataAvail = a })
	}},
	{rule: 17, name: "leak", sev: check.Leak, want: "3 blocks without owner", do: func(v *vol) {
		v.tx(func(t *btree.Tx, _ *format.Super) {
			for range 3 {
				_, err := t.Alloc.AllocBlock()
				must(v.t, err)
			}
		})
	}},
	{rule: 17, name: "free and used", want: "free here, but it belongs to", do: func(v *vol) {
		v.tx(func(t *btree.Tx, s *format.Super) { must(v.t, t.Alloc.FreeBlock(s.SrchRoot.Ref.Blkno)) })
	}},
	{rule: 17, name: "used twice", want: "used here, but it belongs to", do: func(v *vol) {
		v.changeLog(deadRid, func(lt *format.LogTrees) { lt.BloomRef = loadLog(v, liveRid).BloomRef })
	}, also: []int{22}},
	{rule: 17, name: "extent and used", want: "in a free extent, but it belongs to", do: func(v *vol) {
		v.tx(func(t *btree.Tx, s *format.Super) {
			must(v.t, alloc.InsertExtent(t, &s.MetaAlloc[0], s.SrchRoot.Ref.Blkno, 1))
		})
	}},
	{rule: 21, name: "overlap", want: "data blocks", do: func(v *vol) {
		v.changeFS(format.KeyExtent(fileIno, 14, 5), func([]byte) []byte {
			return bytes.Clone(format.Bytes(&format.Extent{Blkno: 100000, Flags: format.ExtentUnwritten}))
		})
	}},
	{rule: 21, name: "leak", sev: check.Leak, want: "7 data blocks from", do: func(v *vol) {
		v.tx(func(t *btree.Tx, s *format.Super) {
			_, _, err := alloc.TakeExtent(t, &s.DataAlloc, 7)
			must(v.t, err)
		})
	}},
}

// freeItem removes one item of a free data extent.
func (v *vol) freeItem(which func(k *format.Key) bool) {
	v.tx(func(t *btree.Tx, s *format.Super) {
		var key format.Key
		var from format.Key
		must(v.t, btree.Walk(t.Cache, &s.DataAlloc.Root, &from, &format.KeyMax, func(it *btree.Item) error {
			if which(&it.Key) {
				key = it.Key
			}
			return nil
		}))
		must(v.t, t.Delete(&s.DataAlloc.Root, &key))
	})
}

var logBreakages = []breakage{
	{rule: 22, name: "key", want: "the value says rid", do: func(v *vol) { v.changeLog(deadRid, func(lt *format.LogTrees) { lt.Nr = 9 }) }},
	{rule: 22, name: "commit above get", want: "commit_trans_seq 41", do: func(v *vol) { v.changeLog(liveRid, func(lt *format.LogTrees) { lt.CommitTransSeq = 41 }) }},
	{rule: 22, name: "max_item_seq", want: "item seq 20 is above max_item_seq 19", do: func(v *vol) { v.changeLog(liveRid, func(lt *format.LogTrees) { lt.MaxItemSeq = 19 }) }},
	{rule: 22, name: "finalize_seq", want: "finalize_seq 5 with flags", do: func(v *vol) { v.changeLog(liveRid, func(lt *format.LogTrees) { lt.FinalizeSeq = 5 }) }},
	{rule: 22, name: "no bloom", want: "items but no bloom block", also: []int{17}, do: func(v *vol) {
		v.changeLog(liveRid, func(lt *format.LogTrees) { lt.BloomRef = format.BlockRef{} })
	}},
	{rule: 22, name: "bloom bit", want: "lacks a bit of lock", do: func(v *vol) {
		v.edit(loadLog(v, liveRid).BloomRef.Blkno, func(b []byte) {
			clear(b[40:])
			binary.LittleEndian.PutUint64(b[32:], 0)
		})
	}},
	{rule: 22, name: "total_set", want: "total_set is", do: func(v *vol) { v.edit(loadLog(v, liveRid).BloomRef.Blkno, func(b []byte) { b[32]++ }) }},
	{rule: 22, name: "earlier open", want: "has a later log tree", do: func(v *vol) {
		v.tx(func(t *btree.Tx, s *format.Super) {
			k := format.KeyLogTrees(liveRid, 2)
			must(v.t, t.Insert(&s.LogsRoot, &k, format.Bytes(&format.LogTrees{Rid: liveRid, Nr: 2})))
		})
	}},
	{rule: 23, name: "no client", sev: check.Warning, want: "open transaction", do: func(v *vol) {
		v.tx(func(t *btree.Tx, s *format.Super) {
			k := format.KeyMountedClient(liveRid)
			must(v.t, t.Delete(&s.MountedClients, &k))
		})
	}},
	{rule: 24, name: "range without status", want: "1 ranges, 0 requests and 0 completions without a status", do: func(v *vol) {
		r := format.MergeRange{End: format.KeyMax}
		v.insert(mergeRoot, format.KeyMergeRange(r.Start), format.Bytes(&r))
	}},
	{rule: 24, name: "overlap", want: "ends at", merge: true, do: func(v *vol) {
		r := format.MergeRange{Start: format.KeyInode(3000), End: format.KeyMax}
		v.insert(mergeRoot, format.KeyMergeRange(r.Start), format.Bytes(&r))
	}},
	{rule: 24, name: "nr_requests", want: "nr_requests is 9", merge: true, do: func(v *vol) {
		changeItem(v, mergeRoot, format.KeyMergeStatus(), func(m *format.MergeStatus) { m.NrRequests = 9 })
	}},
	{rule: 6, name: "merge seq", want: "seq 1000 is above", merge: true, do: func(v *vol) {
		changeItem(v, mergeRoot, format.KeyMergeStatus(), func(m *format.MergeStatus) { m.Seq = 1000 })
	}},
	{rule: 18, name: "completion's block", want: "merge completion", merge: true, do: func(v *vol) {
		c, _ := format.Load[format.MergeComplete](v.get(v.super().LogMerge, format.KeyMergeComplete(completeSeq)))
		v.tx(func(t *btree.Tx, _ *format.Super) { must(v.t, t.Alloc.FreeBlock(c.Root.Ref.Blkno)) })
	}},
	{rule: 19, name: "freeing's block", want: "merge freeing", merge: true, do: func(v *vol) {
		f, _ := format.Load[format.MergeFreeing](v.get(v.super().LogMerge, format.KeyMergeFreeing(freeingSeq)))
		v.tx(func(t *btree.Tx, _ *format.Super) { must(v.t, t.Alloc.FreeBlock(f.Root.Ref.Blkno)) })
	}},
	{rule: 20, name: "same block", want: "covers the same block of fs_root", merge: true, also: []int{18, 24}, do: func(v *vol) {
		c, _ := format.Load[format.MergeComplete](v.get(v.super().LogMerge, format.KeyMergeComplete(completeSeq)))
		c.Seq++
		v.insert(mergeRoot, format.KeyMergeComplete(c.Seq), format.Bytes(&c))
	}},
}

func (v *vol) insert(root func(s *format.Super) *format.BtreeRoot, key format.Key, val []byte) {
	v.tx(func(t *btree.Tx, s *format.Super) { must(v.t, t.Insert(root(s), &key, val)) })
}

func TestRules(t *testing.T) {
	base := map[uint64]*vol{1: rich(t, 1), 2: rich(t, 2)}
	merging := base[2].clone(t)
	startMerge(merging)
	seen := map[int]bool{}
	for _, list := range [][]breakage{superBreakages, treeBreakages, allocBreakages, logBreakages, fsBreakages, srchBreakages} {
		for _, b := range list {
			seen[b.rule] = true
			t.Run(strings.ReplaceAll(b.name, " ", "_"), func(t *testing.T) {
				v := base[max(b.version, 1)]
				if b.version == 0 {
					v = base[2]
				}
				if b.merge {
					v = merging
				}
				v = v.clone(t)
				b.do(v)
				checkBreakage(t, &b, v.run())
			})
		}
	}
	for rule := 1; rule <= check.Rules; rule++ {
		if !seen[rule] {
			t.Errorf("rule %d is not broken", rule)
		}
	}
}

func checkBreakage(t *testing.T, b *breakage, r *check.Report) {
	found, others := false, 0
	for _, f := range r.Findings {
		if f.Severity == check.Oddity {
			continue
		}
		if f.Rule == b.rule && f.Severity == b.sev && strings.Contains(f.String(), b.want) {
			found = true
		}
		if f.Rule != b.rule && !slices.Contains(b.also, f.Rule) {
			if others++; others <= 5 {
				t.Errorf("another rule: %v", f)
			}
		}
	}
	if !found {
		t.Errorf("rule %d is not found by %q", b.rule, b.want)
	}
	if t.Failed() {
		for _, f := range r.Findings[:min(len(r.Findings), 10)] {
			t.Log(f)
		}
	}
	if r.Clean() || r.ByRule[b.rule] == 0 {
		t.Errorf("the report is %+v", r.Counts)
	}
}
