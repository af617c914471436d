// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"scoutfs/block"
	"scoutfs/btree"
	"scoutfs/format"
)

const (
	btreeFile   = 64 << 30 // bytes, sparse
	btreeCommit = 100000   // items between two commits
	btreeValue  = 100      // bytes of each item's value
	fastOps     = 16       // operations of one step where one takes less than a clock's reading
)

// btreeWorker works on one tree in a scratch file. Inserted keys come in no
// order; put writes ascending runs.
type btreeWorker struct {
	j     *Job
	dir   string
	f     *block.File
	cache *block.Cache
	tx    btree.Tx
	root  format.BtreeRoot
	space freeBlocks
	n     int
	val   []byte
	buf   []byte
}

// freeBlocks is the simplest allocator: blocks that a commit freed are used
// after it.
type freeBlocks struct {
	next, limit format.Blkno
	free, freed []format.Blkno
}

func (s *freeBlocks) AllocBlock() (format.Blkno, error) {
	if n := len(s.free); n > 0 {
		b := s.free[n-1]
		s.free = s.free[:n-1]
		return b, nil
	}
	if s.next == s.limit {
		return 0, errors.New("scratch file is full")
	}
	s.next++
	return s.next - 1, nil
}

func (s *freeBlocks) FreeBlock(b format.Blkno) error {
	s.freed = append(s.freed, b)
	return nil
}

func (s *freeBlocks) committed() {
	s.free = append(s.free, s.freed...)
	s.freed = s.freed[:0]
}

func openBtree(_ context.Context, j *Job) (_ *engine, err error) {
	if j.NumJobs != 1 {
		return nil, errors.New("one job at a time changes a tree")
	}
	w := &btreeWorker{j: j, val: make([]byte, btreeValue), buf: make([]byte, format.MaxValue)}
	if w.dir, err = os.MkdirTemp(j.Directory, "btree-"); err != nil {
		return nil, err
	}
	e := &engine{workers: []worker{w}, close: w.close}
	if err := w.open(); err != nil {
		return nil, errors.Join(err, w.close())
	}
	return e, nil
}

func (w *btreeWorker) open() (err error) {
	path := filepath.Join(w.dir, "tree")
	if err := sparse(path, btreeFile); err != nil {
		return err
	}
	if w.f, err = block.Open(path, block.OpenOptions{NoRing: w.j.NoRing}); err != nil {
		return err
	}
	w.cache = block.NewCache(w.f, block.CacheOptions{Fsid: 1, Budget: w.j.Budget})
	w.space = freeBlocks{next: 16, limit: btreeFile >> format.LargeShift}
	w.tx = btree.Tx{Cache: w.cache, Writer: w.cache.NewWriter(), Alloc: &w.space}
	switch w.j.Op {
	case "lookup", "next", "walk":
		if err := w.put(w.j.Files); err != nil {
			return err
		}
		w.n = 0
		return w.commit()
	}
	return nil
}

func (w *btreeWorker) close() error {
	var err error
	if w.f != nil {
		err = w.f.Close()
	}
	return errors.Join(err, os.RemoveAll(w.dir))
}

func sparse(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(size), f.Close())
}

// scatter spreads 0..n-1 over themselves.
func scatter(i, n int) int { return int(uint64(i) * 2654435761 % uint64(n)) }

func (w *btreeWorker) put(n int) error {
	it := btree.Item{Val: w.val}
	last := w.n + n
	_, err := w.tx.PutItems(&w.root, func() (*btree.Item, bool) {
		w.n++
		it.Key = format.KeyInode(format.Ino(w.n))
		return &it, w.n <= last
	})
	w.n = last
	return err
}

func (w *btreeWorker) commit() error {
	if err := w.tx.Writer.Write(); err != nil {
		return err
	}
	w.space.committed()
	return w.f.Flush()
}

func (w *btreeWorker) step() (step, error) {
	if w.n >= w.j.Files {
		if !w.j.TimeBased || w.j.Op == "insert" || w.j.Op == "put" {
			return step{}, io.EOF
		}
		w.n = 0
	}
	start := time.Now()
	s := step{}
	var err error
	switch w.j.Op {
	case "insert":
		s.dir, s.ops = Write, 1
		k := format.KeyInode(format.Ino(scatter(w.n, 1<<31-1)))
		err = w.tx.Force(&w.root, &k, w.val)
		w.n++
		if err == nil && (w.n%btreeCommit == 0 || w.n == w.j.Files) {
			err = w.commit()
		}
	case "put":
		s.dir, s.ops = Write, min(btreeCommit, w.j.Files-w.n)
		if err = w.put(s.ops); err == nil {
			err = w.commit()
		}
	case "walk":
		err = btree.Walk(w.cache, &w.root, &format.Key{}, &format.KeyMax, func(*btree.Item) error {
			s.ops++
			return nil
		})
		w.n = w.j.Files
	default:
		s.ops = min(fastOps, w.j.Files-w.n)
		for range s.ops {
			k := format.KeyInode(format.Ino(scatter(w.n, w.j.Files) + 1))
			w.n++
			read := btree.Lookup
			if w.j.Op == "next" {
				read = btree.Next
			}
			if _, err = read(w.cache, &w.root, &k, w.buf); err != nil {
				break
			}
		}
	}
	s.took = time.Since(start) / time.Duration(max(s.ops, 1))
	if err != nil {
		err = fmt.Errorf("%s: %w", w.j.Op, err)
	}
	return s, err
}
