// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package btree_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"

	"scoutfs/block"
	"scoutfs/btree"
	"scoutfs/format"
	"scoutfs/internal/simdisk"
)

const (
	testFsid = 0x1122334455667788
	diskSize = 256 << 20
)

func newRand(t testing.TB) *rand.Rand { return btree.NewRand(t) }

// arena is an allocator that knows which blocks are in use.
type arena struct {
	t     testing.TB
	next  format.Blkno
	live  map[format.Blkno]bool
	freed []format.Blkno // in the open transaction; usable in the next one
	pool  []format.Blkno
	calls int
	fail  func(call int) error // may be nil
}

func (a *arena) ask() error {
	a.calls++
	if a.fail == nil {
		return nil
	}
	return a.fail(a.calls)
}

func (a *arena) AllocBlock() (format.Blkno, error) {
	if err := a.ask(); err != nil {
		return 0, err
	}
	blkno := a.next
	if n := len(a.pool); n > 0 {
		blkno = a.pool[n-1]
		a.pool = a.pool[:n-1]
	} else {
		a.next++
	}
	a.live[blkno] = true
	return blkno, nil
}

func (a *arena) FreeBlock(blkno format.Blkno) error {
	if err := a.ask(); err != nil {
		return err
	}
	if !a.live[blkno] {
		a.t.Fatalf("block %d is freed but not in use", blkno)
	}
	delete(a.live, blkno)
	a.freed = append(a.freed, blkno)
	return nil
}

// env is a device, its cache and an open transaction.
type env struct {
	t     testing.TB
	disk  *simdisk.Disk
	cache *block.Cache
	alloc *arena
	tx    *btree.Tx
	root  format.BtreeRoot
}

func newEnv(t testing.TB) *env {
	e := &env{t: t, disk: simdisk.New(diskSize, simdisk.Options{})}
	e.alloc = &arena{t: t, next: format.FirstMetaBlkno, live: map[format.Blkno]bool{}}
	e.reopen()
	return e
}

// reopen starts with an empty cache and a new transaction.
func (e *env) reopen() {
	e.cache = block.NewCache(e.disk, block.CacheOptions{Fsid: testFsid, Budget: diskSize})
	e.tx = &btree.Tx{Cache: e.cache, Writer: e.cache.NewWriter(), Alloc: e.alloc}
}

// commit writes the dirty blocks and begins the next transaction.
func (e *env) commit() {
	e.t.Helper()
	if err := e.tx.Writer.Write(); err != nil {
		e.t.Fatal(err)
	}
	e.alloc.pool = append(e.alloc.pool, e.alloc.freed...)
	e.alloc.freed = nil
	e.tx = &btree.Tx{Cache: e.cache, Writer: e.cache.NewWriter(), Alloc: e.alloc}
}

// check verifies the whole tree and that it is exactly the blocks in use, and
// returns its items.
func (e *env) check() []btree.Item {
	e.t.Helper()
	items, err := e.tryCheck()
	if err != nil {
		e.t.Fatal(err)
	}
	return items
}

func (e *env) tryCheck() ([]btree.Item, error) {
	var items []btree.Item
	blocks := map[format.Blkno]bool{}
	err := btree.Check(e.cache, &e.root, btree.CheckOptions{
		Block: func(ref format.BlockRef, _ int) error {
			if blocks[ref.Blkno] {
				return fmt.Errorf("block %d is used twice", ref.Blkno)
			}
			if blocks[ref.Blkno] = true; !e.alloc.live[ref.Blkno] {
				return fmt.Errorf("block %d is used but free", ref.Blkno)
			}
			return nil
		},
		Item: func(it *btree.Item) error {
			items = append(items, cloneItem(it))
			return nil
		},
	})
	if err != nil {
		return nil, err
	}
	if used := len(blocks) + len(e.tx.Spare()); used != len(e.alloc.live) {
		return nil, fmt.Errorf("tree has %d blocks, %d are spare, but %d are in use", len(blocks), len(e.tx.Spare()), len(e.alloc.live))
	}
	return items, nil
}

func cloneItem(it *btree.Item) btree.Item {
	c := *it
	c.Val = append([]byte{}, it.Val...)
	return c
}

// alignedCopy returns a copy of a block that a device can write.
func alignedCopy(b []byte) []byte {
	buf := block.AlignedBuf(format.LargeSize)
	copy(buf, b)
	return buf
}

func writeBlock(d block.Device, buf []byte, blkno format.Blkno) error {
	return block.WriteAt(d, buf, int64(blkno)*format.LargeSize)
}

// key is 16.n.4.0.0.0, as in the vectors of the format.
func key(n int) *format.Key {
	k := format.KeyInode(format.Ino(n))
	return &k
}

// value returns n bytes that depend on the key.
func value(k, n int) []byte {
	v := make([]byte, n)
	for i := range v {
		v[i] = byte(k + i)
	}
	return v
}

func (e *env) must(err error) {
	e.t.Helper()
	if err != nil {
		e.t.Fatal(err)
	}
}

func wantErr(t testing.TB, err error, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error %v, want %v", err, want)
	}
}

func TestErrors(t *testing.T) {
	wantErr(t, btree.ErrNotFound, syscall.ENOENT)
	wantErr(t, btree.ErrExist, syscall.EEXIST)
	wantErr(t, btree.ErrInvalid, syscall.EINVAL)
}
