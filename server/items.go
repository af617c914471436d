// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package server

import (
	"errors"
	"fmt"

	"scoutfs/alloc"
	"scoutfs/block"
	"scoutfs/btree"
	"scoutfs/format"
)

// value decodes an item's value, which must have exactly T's length.
func value[T format.Fixed](c *block.Cache, it *btree.Item) (v T, err error) {
	if len(it.Val) != format.Size[T]() {
		return v, &format.CorruptError{Device: c.Device().Name(),
			Reason: fmt.Sprintf("item %v has a value of %d bytes, not %d", it.Key, len(it.Val), format.Size[T]())}
	}
	v, _ = format.Load[T](it.Val)
	return v, nil
}

// walkLogTrees calls fn for every log trees item in key order.
func walkLogTrees(c *block.Cache, root *format.BtreeRoot, fn func(lt *format.LogTrees) error) error {
	from, to := format.KeyLogTrees(0, 0), format.KeyLogTrees(^format.Rid(0), ^uint64(0))
	return btree.Walk(c, root, &from, &to, func(it *btree.Item) error {
		lt, err := value[format.LogTrees](c, it)
		if err == nil && (lt.Rid != format.Rid(it.Key.First) || lt.Nr != it.Key.Second) {
			err = &format.CorruptError{Device: c.Device().Name(),
				Reason: fmt.Sprintf("log trees item %v says rid %s nr %d", it.Key, ridString(lt.Rid), lt.Nr)}
		}
		if err != nil {
			return err
		}
		return fn(&lt)
	})
}

// lastLogTrees returns the rid's newest log trees item.
func (s *Server) lastLogTreesLocked(rid format.Rid) (lt format.LogTrees, ok bool, err error) {
	key := format.KeyLogTrees(rid, ^uint64(0))
	it, err := btree.Prev(s.cache, &s.super.LogsRoot, &key, nil)
	if errors.Is(err, btree.ErrNotFound) {
		return lt, false, nil
	}
	if err != nil {
		return lt, false, fmt.Errorf("server: log trees of %s: %w", ridString(rid), err)
	}
	if it.Key.Zone != format.ZoneLogTrees || it.Key.First != uint64(rid) {
		return lt, false, nil
	}
	lt, err = value[format.LogTrees](s.cache, &it)
	return lt, err == nil, err
}

// dirtyLogTreesLocked makes sure that storing the item later cannot fail for
// want of blocks, before the allocators that it describes are changed.
func (s *Server) dirtyLogTreesLocked(h *hold, lt *format.LogTrees, exists bool) error {
	key := format.KeyLogTrees(lt.Rid, lt.Nr)
	var err error
	if exists {
		err = h.Dirty(&s.super.LogsRoot, &key)
	} else {
		err = h.Insert(&s.super.LogsRoot, &key, format.Bytes(lt))
	}
	if err != nil {
		return fmt.Errorf("server: log trees of %s: %w", ridString(lt.Rid), err)
	}
	return nil
}

// storeLogTreesLocked stores the item after its allocators were changed. cause
// is why that ended early, nil if it did not. If the item cannot be stored the
// trees contradict it, and the server has to stop.
func (s *Server) storeLogTreesLocked(h *hold, lt *format.LogTrees, cause error) error {
	key := format.KeyLogTrees(lt.Rid, lt.Nr)
	if err := h.Update(&s.super.LogsRoot, &key, format.Bytes(lt)); err != nil {
		return &alloc.BrokenError{Cause: fmt.Errorf("server: log trees of %s: %w", ridString(lt.Rid), err), Undo: cause}
	}
	return cause
}
