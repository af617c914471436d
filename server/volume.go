// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"scoutfs/alloc"
	"scoutfs/block"
	"scoutfs/btree"
	"scoutfs/format"
)

// allocInodes hands out inode numbers. Nr 0 means that there are no more.
// Source: spec cluster 6.1.
func (s *Server) allocInodes(ctx context.Context, count uint64) (r format.NetInoRange, err error) {
	err = s.update(ctx, func(*hold) error {
		next := s.super.NextIno
		r = format.NetInoRange{Ino: next, Nr: min(count, ^uint64(0)-uint64(next))}
		s.super.NextIno = next + format.Ino(r.Nr)
		return nil
	})
	if err != nil {
		return format.NetInoRange{}, err
	}
	return r, nil
}

// getRoots are the roots of the last super that was written.
func (s *Server) getRoots() format.NetRoots {
	sup := s.stable.Load()
	return format.NetRoots{FSRoot: sup.FSRoot, LogsRoot: sup.LogsRoot, SrchRoot: sup.SrchRoot}
}

// statfs counts free space and inodes as of the last super that was written.
// Source: spec cluster 6.13.
func (s *Server) statfs(ctx context.Context) (format.NetStatfs, error) {
	var last *format.Super
	for {
		sup := s.stable.Load()
		st, err := s.statfsOf(sup)
		if !errors.Is(err, syscall.ESTALE) || ctx.Err() != nil {
			return st, err
		}
		if last == sup {
			return st, fmt.Errorf("server: statfs: %w: %w", syscall.EIO, err)
		}
		last = sup
	}
}

func (s *Server) statfsOf(sup *format.Super) (format.NetStatfs, error) {
	st := format.NetStatfs{
		UUID: sup.UUID, TotalMeta: sup.TotalMetaBlocks, TotalData: sup.TotalDataBlocks,
		FreeData: sup.DataAlloc.TotalLen, InodeCount: sup.InodeCount,
	}
	for i := range 2 {
		st.FreeMeta += sup.MetaAlloc[i].TotalLen + sup.ServerMetaAvail[i].TotalNr + sup.ServerMetaFreed[i].TotalNr
	}
	err := walkLogTrees(s.cache, &sup.LogsRoot, func(lt *format.LogTrees) error {
		st.FreeMeta += lt.MetaAvail.TotalNr + lt.MetaFreed.TotalNr
		st.FreeData += lt.DataAvail.TotalLen + lt.DataFreed.TotalLen
		st.InodeCount += lt.InodeCountDelta
		return nil
	})
	if err != nil {
		return st, err
	}
	err = addLists[format.SrchCompact](s, &sup.SrchRoot, srchKey(format.TypeSrchPend, 0, 0),
		func(v *format.SrchCompact) { st.FreeMeta += v.MetaAvail.TotalNr + v.MetaFreed.TotalNr })
	if err != nil {
		return st, err
	}
	err = addLists[format.MergeRequest](s, &sup.LogMerge, format.Key{Zone: format.ZoneMergeRequest},
		func(v *format.MergeRequest) { st.FreeMeta += v.MetaAvail.TotalNr + v.MetaFreed.TotalNr })
	if err != nil {
		return st, err
	}
	err = addLists[format.MergeComplete](s, &sup.LogMerge, format.Key{Zone: format.ZoneMergeComplete},
		func(v *format.MergeComplete) { st.FreeMeta += v.MetaAvail.TotalNr + v.MetaFreed.TotalNr })
	return st, err
}

// addLists calls fn for the items of the zone of from, from there on.
func addLists[T format.Fixed](s *Server, root *format.BtreeRoot, from format.Key, fn func(*T)) error {
	to := format.KeyMax
	to.Zone = from.Zone
	return btree.Walk(s.cache, root, &from, &to, func(it *btree.Item) error {
		v, err := value[T](s.cache, it)
		if err == nil {
			fn(&v)
		}
		return err
	})
}

// getVolopt are the options as of the last super that was written.
func (s *Server) getVolopt() format.VolumeOptions { return s.stable.Load().VolOpt }

// Limits of the option data_alloc_zone_blocks. Source: spec cluster 6.11.
const zoneBlocksMin = 1048576

// setVolopt sets the options whose bits are set in o.
// Source: spec cluster 6.11.
func (s *Server) setVolopt(ctx context.Context, o *format.VolumeOptions) error {
	return s.changeVolopt(ctx, o, func(have *format.VolumeOptions) error {
		if o.SetBits == 0 {
			return nil
		}
		z, total := o.Values[format.VolOptDataAllocZoneBlocks], s.super.TotalDataBlocks
		if z < zoneBlocksMin || z < (total+alloc.MaxZones-1)/alloc.MaxZones || z > total {
			return fmt.Errorf("server: data_alloc_zone_blocks %d for %d data blocks: %w", z, total, syscall.EINVAL)
		}
		have.SetBits |= o.SetBits
		have.Values[format.VolOptDataAllocZoneBlocks] = z
		return nil
	})
}

// clearVolopt clears the options whose bits are set in o.
func (s *Server) clearVolopt(ctx context.Context, o *format.VolumeOptions) error {
	return s.changeVolopt(ctx, o, func(have *format.VolumeOptions) error {
		for n := range have.Values {
			if o.SetBits>>n&1 != 0 {
				have.SetBits &^= 1 << n
				have.Values[n] = 0
			}
		}
		return nil
	})
}

// changeVolopt commits a change of the options; if that fails they are as
// before.
func (s *Server) changeVolopt(ctx context.Context, o *format.VolumeOptions, change func(*format.VolumeOptions) error) error {
	if o.SetBits&^(1<<format.VolOptDataAllocZoneBlocks) != 0 {
		return fmt.Errorf("server: volume options %x: %w", o.SetBits, syscall.EINVAL)
	}
	// One after the other, else a change that fails could bring back what
	// another one has set and failed to commit.
	s.volopt.Lock()
	defer s.volopt.Unlock()
	var before format.VolumeOptions
	changed := false
	err := s.update(ctx, func(*hold) error {
		before = s.super.VolOpt
		if err := change(&s.super.VolOpt); err != nil {
			return err
		}
		changed = true
		return nil
	})
	if err != nil && changed {
		s.mu.Lock()
		s.super.VolOpt = before
		s.mu.Unlock()
	}
	return err
}

// resize makes the volume use more of its devices. Zero and equal totals
// change nothing. Source: spec cluster 6.12.
func (s *Server) resize(ctx context.Context, r *format.NetResize) error {
	return s.update(ctx, func(h *hold) error {
		if err := s.checkResizeLocked(r); err != nil {
			return err
		}
		if old := s.super.TotalMetaBlocks; r.MetaBlocks > old {
			if err := alloc.InsertExtent(&h.Tx, s.metaAvailLocked(), format.Blkno(old), r.MetaBlocks-old); err != nil {
				return fmt.Errorf("server: resize: %w", err)
			}
			s.super.TotalMetaBlocks = r.MetaBlocks
		}
		if old := s.super.TotalDataBlocks; r.DataBlocks > old {
			if err := alloc.InsertExtent(&h.Tx, &s.super.DataAlloc, format.Blkno(old), r.DataBlocks-old); err != nil {
				return fmt.Errorf("server: resize: %w", err)
			}
			s.super.TotalDataBlocks = r.DataBlocks
		}
		return nil
	})
}

// deviceSize is the size that a device has now, in bytes; it may have grown.
func deviceSize(dev block.Device) (int64, error) {
	if r, ok := dev.(block.Resizer); ok {
		return r.Resize()
	}
	return dev.Size(), nil
}

func (s *Server) checkResizeLocked(r *format.NetResize) error {
	meta, err := deviceSize(s.o.Meta)
	if err != nil {
		return fmt.Errorf("server: resize: %w", err)
	}
	data, err := deviceSize(s.o.Data)
	if err != nil {
		return fmt.Errorf("server: resize: %w", err)
	}
	for _, c := range []struct {
		what           string
		want, now, max uint64
	}{
		{"metadata", r.MetaBlocks, s.super.TotalMetaBlocks, uint64(meta) >> format.LargeShift},
		{"data", r.DataBlocks, s.super.TotalDataBlocks, uint64(data) >> format.SmallShift},
	} {
		if c.want != 0 && (c.want < c.now || c.want > c.max) {
			return fmt.Errorf("server: resize %s from %d to %d blocks, the device has %d: %w", c.what, c.now, c.want, c.max, syscall.EINVAL)
		}
	}
	return nil
}
