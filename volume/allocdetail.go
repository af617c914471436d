// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package volume

import (
	"errors"
	"syscall"

	"scoutfs/btree"
	"scoutfs/format"
)

// AllocDetail lists all allocators of the volume as they were last committed,
// in the order of spec interfaces 1.13.
func (v *Volume) AllocDetail(_ *Caller) ([]AllocEntry, error) {
	var prev format.NetRoots
	for {
		super, err := v.readSuper()
		if err != nil {
			return nil, err
		}
		d := allocDetail{v: v}
		err = d.collect(super)
		if !isStale(err) {
			return d.out, err
		}
		r := format.NetRoots{FSRoot: super.LogMerge, LogsRoot: super.LogsRoot, SrchRoot: super.SrchRoot}
		if r == prev {
			return nil, errors.Join(syscall.EIO, err)
		}
		prev = r
	}
}

// allocDetail collects the allocators of one version of the super block.
type allocDetail struct {
	v   *Volume
	out []AllocEntry
}

func (d *allocDetail) meta(id, avail, freed uint64) {
	d.out = append(d.out, AllocEntry{ID: id, Blocks: avail, Meta: true, Avail: true}, AllocEntry{ID: id, Blocks: freed, Meta: true})
}

func (d *allocDetail) collect(s *format.Super) error {
	for i := range s.MetaAlloc {
		d.out = append(d.out, AllocEntry{Blocks: s.MetaAlloc[i].TotalLen, Meta: true, Avail: true})
	}
	d.out = append(d.out, AllocEntry{Blocks: s.DataAlloc.TotalLen, Avail: true})
	for i := range s.ServerMetaAvail {
		d.out = append(d.out, AllocEntry{ID: 1, Blocks: s.ServerMetaAvail[i].TotalNr, Meta: true, Avail: true})
	}
	for i := range s.ServerMetaFreed {
		d.out = append(d.out, AllocEntry{ID: 1, Blocks: s.ServerMetaFreed[i].TotalNr, Meta: true})
	}
	trees, err := d.v.logTrees(&s.LogsRoot)
	if err != nil {
		return err
	}
	for i := range trees {
		lt := &trees[i]
		d.meta(uint64(lt.Rid), lt.MetaAvail.TotalNr, lt.MetaFreed.TotalNr)
		d.out = append(d.out,
			AllocEntry{ID: uint64(lt.Rid), Blocks: lt.DataAvail.TotalLen, Avail: true},
			AllocEntry{ID: uint64(lt.Rid), Blocks: lt.DataFreed.TotalLen})
	}
	if err := d.compactions(&s.SrchRoot); err != nil {
		return err
	}
	return d.merges(&s.LogMerge)
}

// compactions adds the pending, then the busy compactions of srch files.
func (d *allocDetail) compactions(root *format.BtreeRoot) error {
	for _, typ := range [...]uint8{format.TypeSrchPend, format.TypeSrchBusy} {
		from, to := format.Key{Zone: format.ZoneSrch, Type: typ}, format.KeyMax
		to.Zone, to.Type, to.First = format.ZoneSrch, typ, 0
		err := btree.Walk(d.v.cache, root, &from, &to, func(it *btree.Item) error {
			sc, ok := format.Load[format.SrchCompact](it.Val)
			if !ok {
				return corrupt("srch compaction item %v of %d bytes", it.Key, len(it.Val))
			}
			d.meta(sc.ID, sc.MetaAvail.TotalNr, sc.MetaFreed.TotalNr)
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// merges adds the requests, then the completions of log merges.
func (d *allocDetail) merges(root *format.BtreeRoot) error {
	for _, zone := range [...]uint8{format.ZoneMergeRequest, format.ZoneMergeComplete} {
		from, to := format.Key{Zone: zone}, format.KeyMax
		to.Zone = zone
		err := btree.Walk(d.v.cache, root, &from, &to, func(it *btree.Item) error {
			if zone == format.ZoneMergeRequest {
				r, ok := format.Load[format.MergeRequest](it.Val)
				if !ok {
					return corrupt("log merge request item %v of %d bytes", it.Key, len(it.Val))
				}
				d.meta(uint64(r.Rid), r.MetaAvail.TotalNr, r.MetaFreed.TotalNr)
				return nil
			}
			r, ok := format.Load[format.MergeComplete](it.Val)
			if !ok {
				return corrupt("log merge completion item %v of %d bytes", it.Key, len(it.Val))
			}
			d.meta(uint64(r.Rid), r.MetaAvail.TotalNr, r.MetaFreed.TotalNr)
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
