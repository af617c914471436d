// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package txn

import (
	"context"
	"syscall"

	"scoutfs/format"
	"scoutfs/lock"
)

// Lookup copies the value of an item to buf, as far as it fits, and returns its
// full length. lk covers the key and is held R or W. It sees the changes of open
// operations of this mount. A hit neither blocks nor allocates; a miss asks the
// server for roots and reads the device.
//
// It fails with ENOENT, EINVAL for a wrong lock, EINTR when ctx is done, ENOLINK
// after Abort, or as reading blocks does, EIO at the latest.
func (e *Engine) Lookup(ctx context.Context, lk *lock.Lock, key *format.Key, buf []byte) (int, error) {
	if err := e.readable(lk, key); err != nil {
		return 0, err
	}
	k := packKey(key)
	for {
		n, res := e.cache.lookup(&k, buf)
		switch res {
		case done:
			return n, nil
		case notFound:
			return 0, syscall.ENOENT
		}
		if err := e.miss(ctx, lk, k); err != nil {
			return 0, err
		}
	}
}

// Next finds the first item with a key from *key to *last, or to the end of
// lk's range if that is less, sets *key to its key and returns its value and
// errors as Lookup does. last may be nil. On an error *key is unchanged.
func (e *Engine) Next(ctx context.Context, lk *lock.Lock, key, last *format.Key, buf []byte) (int, error) {
	if err := e.readable(lk, key); err != nil {
		return 0, err
	}
	k, end := packKey(key), packKey(&lk.End)
	if last != nil {
		end = minKey(end, packKey(last))
	}
	for {
		n, res := e.cache.next(&k, end, buf)
		switch res {
		case done:
			*key = k.unpack()
			return n, nil
		case notFound:
			return 0, syscall.ENOENT
		}
		if err := e.miss(ctx, lk, k); err != nil {
			return 0, err
		}
	}
}

// readable refuses reads that a lock does not allow.
func (e *Engine) readable(lk *lock.Lock, key *format.Key) error {
	if lk.Mode() == format.LockWriteOnly || !lk.Covers(key) {
		return syscall.EINVAL
	}
	if e.dead.Load() {
		return syscall.ENOLINK
	}
	return nil
}

// miss loads the range around a key and keeps to the budget.
func (e *Engine) miss(ctx context.Context, lk *lock.Lock, k pkey) error {
	e.cache.shrink()
	return e.load(ctx, lk, k)
}

// Revoke is the items' part of a lock's revocation: it commits what is dirty
// under lk and, unless W becomes R, forgets all items in its range. Nobody uses
// lk meanwhile in a mode that new does not serve. It waits for a commit as long
// as that takes and fails only after Abort. Source: spec filesystem 1.6.
func (e *Engine) Revoke(lk *lock.Lock, old, new format.LockMode, lastDirty uint64) error {
	start, end := packKey(&lk.Start), packKey(&lk.End)
	if old == format.LockWrite || old == format.LockWriteOnly {
		if lastDirty != 0 && lastDirty >= e.Seq() {
			if err := e.Commit(e.ctx); err != nil {
				return err
			}
		}
		for e.cache.isDirty(start, end) {
			if err := e.Commit(e.ctx); err != nil {
				return err
			}
		}
	}
	if old == format.LockWrite && new == format.LockRead {
		return nil
	}
	e.cache.drop(start, end)
	return nil
}
