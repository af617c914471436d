// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package block

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"

	"scoutfs/format"
	"scoutfs/internal/invariants"
)

// Kind describes one kind of block. There is one Kind for each Magic.
type Kind struct {
	Magic format.Magic
	// Verify checks the structure of a whole block whose header is right, once,
	// when it has been read. Its error's text is the reason of the
	// CorruptError. It must be safe for arbitrary bytes. nil verifies nothing.
	Verify func(b []byte) error
}

// DefaultBudget is the budget of a cache that is given none, in bytes.
const DefaultBudget = 256 << 20

const cacheShards = 32

// CacheOptions say how a cache works.
type CacheOptions struct {
	Fsid   uint64        // of the volume; blocks with another one are stale
	Budget int64         // bytes of frames, clean and dirty; default DefaultBudget, at least one block
	Log    *slog.Logger  // default: discard
	Seq    func() uint64 // where the seq of new blocks comes from; default: unpredictable. Only simulations set it.
}

func (o CacheOptions) withDefaults() CacheOptions {
	if o.Budget <= 0 {
		o.Budget = DefaultBudget
	}
	o.Budget = max(o.Budget, format.LargeSize)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Seq == nil {
		o.Seq = rand.Uint64
	}
	return o
}

// Metrics is what a cache has done and what it holds now.
type Metrics struct {
	Hits     uint64 // reads answered from memory
	Misses   uint64 // reads that asked the device, or waited for one that did
	Stale    uint64 // reads that ended in a StaleError
	Corrupt  uint64 // reads that ended in a CorruptError
	Evicted  uint64 // clean blocks dropped for the budget
	Written  uint64 // blocks that reached the device
	Blocks   int64  // blocks in the index, clean and dirty
	Dirty    int64  // of these, dirty
	Bytes    int64  // memory of all frames, with those that are only pinned
	MaxBytes int64  // most that Bytes ever was
	Budget   int64  // what Bytes stays below unless more is dirty or pinned
}

// Cache holds verified 64 KiB metadata blocks of one device. All methods may be
// called by many goroutines.
type Cache struct {
	dev    Device
	o      CacheOptions
	shards [cacheShards]shard
	clock  clock
	frames *frames
	stats  struct{ hits, misses, stale, corrupt, evicted, written, blocks, dirty atomic.Int64 }
}

// shard is a part of the index.
type shard struct {
	mu     sync.Mutex
	blocks map[format.BlockRef]*Block // guarded by mu; each holds one reference
	_      [40]byte                   // shards of their own cache line
}

// clock is the eviction order of the blocks in the index.
type clock struct {
	mu   sync.Mutex
	ring []*Block // guarded by mu
	hand int      // guarded by mu
}

// frames is the memory of a cache. It is an object of its own so that it can
// be given back after the garbage collector has taken the cache.
type frames struct {
	mu   sync.Mutex
	bufs map[uintptr][]byte // guarded by mu
	peak int                // most that bufs ever held; guarded by mu

	// reserved is the bytes of bufs and of those that are about to be added,
	// after room was made for them.
	reserved atomic.Int64
}

// NewCache returns an empty cache over dev, which stays the caller's. Its
// memory goes back to the arena when nothing refers to the cache or its blocks
// any more.
func NewCache(dev Device, o CacheOptions) *Cache {
	c := &Cache{dev: dev, o: o.withDefaults(), frames: &frames{bufs: make(map[uintptr][]byte)}}
	for i := range c.shards {
		c.shards[i].blocks = make(map[format.BlockRef]*Block)
	}
	runtime.AddCleanup(c, (*frames).freeAll, c.frames)
	return c
}

// Device is what the cache reads from and writes to.
func (c *Cache) Device() Device { return c.dev }

// Fsid is the volume's.
func (c *Cache) Fsid() uint64 { return c.o.Fsid }

// Metrics returns a snapshot.
func (c *Cache) Metrics() Metrics {
	s := &c.stats
	frames, peak := c.frames.count()
	return Metrics{
		Hits: uint64(s.hits.Load()), Misses: uint64(s.misses.Load()), Stale: uint64(s.stale.Load()),
		Corrupt: uint64(s.corrupt.Load()), Evicted: uint64(s.evicted.Load()), Written: uint64(s.written.Load()),
		Blocks: s.blocks.Load(), Dirty: s.dirty.Load(),
		Bytes: frames, MaxBytes: peak, Budget: c.o.Budget,
	}
}

// Read returns the block that ref names, of kind k, pinned until its Release.
// It reads the device if the block is not in memory; callers that want the same block
// at the same time share one read.
//
// If the device has another version, or a block whose checksum or header is wrong, it is
// read once more and then the error is a *format.StaleError: ref is old, or the
// block is corrupt. A *format.CorruptError says that k's Verify failed, that
// the block is of another kind, or that ref is outside of the device. Device
// errors are returned as they are. Nothing of a failed read stays in memory.
func (c *Cache) Read(ref format.BlockRef, k *Kind) (*Block, error) {
	b, own, err := c.lookup(ref, k)
	if err != nil {
		return nil, c.countError(err)
	}
	if own {
		c.load(b)
	}
	return c.settle(b, k)
}

// ReadBatch is Read for many references, with one batch for all that must be
// read from the device. out[i] becomes the block of refs[i]; the same reference
// may occur more than once and is then pinned as often. On an error, the
// first one, no block is pinned and all of out is nil.
func (c *Cache) ReadBatch(refs []format.BlockRef, k *Kind, out []*Block) error {
	out = out[:len(refs)]
	clear(out)
	var misses []*Block
	var first error
	for i, ref := range refs {
		b, own, err := c.lookup(ref, k)
		if err != nil {
			first = c.countError(err)
			break
		}
		out[i] = b
		if own {
			misses = append(misses, b)
		}
	}
	c.load(misses...)
	for i, b := range out {
		if b == nil {
			continue
		}
		var err error
		if out[i], err = c.settle(b, k); err != nil && first == nil {
			first = err
		}
	}
	if first != nil {
		releaseAll(out)
	}
	return first
}

func releaseAll(blocks []*Block) {
	for i, b := range blocks {
		if b != nil {
			b.Release()
			blocks[i] = nil
		}
	}
}

// lookup returns the block of ref with a reference for the caller. If own, the
// block was not there and the caller must load it.
func (c *Cache) lookup(ref format.BlockRef, k *Kind) (b *Block, own bool, err error) {
	s := c.shardOf(ref)
	s.mu.Lock()
	b = s.blocks[ref]
	if b != nil {
		b.refs.Add(1)
		s.mu.Unlock()
		c.hit(b)
		return b, false, nil
	}
	s.mu.Unlock()
	if err := c.checkRange(ref); err != nil {
		return nil, false, err
	}
	fresh := newLoading(c, ref, k)
	s.mu.Lock()
	if b = s.blocks[ref]; b != nil { // another was faster
		b.refs.Add(1)
		s.mu.Unlock()
		fresh.free()
		c.hit(b)
		return b, false, nil
	}
	s.blocks[ref] = fresh
	s.mu.Unlock()
	c.stats.misses.Add(1)
	c.stats.blocks.Add(1)
	c.clock.add(fresh)
	return fresh, true, nil
}

// hit notes that b was found in the index.
func (c *Cache) hit(b *Block) {
	if !b.used.Load() { // no write to a shared cache line if it is known
		b.used.Store(true)
	}
	if b.ready.Load() {
		c.stats.hits.Add(1)
	} else {
		c.stats.misses.Add(1)
	}
}

// checkRange refuses what cannot be a block of the device.
func (c *Cache) checkRange(ref format.BlockRef) error {
	if ref.Blkno < format.FirstMetaBlkno {
		return c.corrupt(ref, "reference to a block below the first that can be allocated")
	}
	const limit = format.Blkno(1<<63-1) >> format.LargeShift
	if ref.Blkno >= limit || !Reaches(c.dev, int64(ref.Blkno+1)<<format.LargeShift) {
		return c.corrupt(ref, fmt.Sprintf("reference to a block beyond the device's %d blocks", c.dev.Size()>>format.LargeShift))
	}
	return nil
}

// settle waits until b, to which the caller has a reference, is loaded. On an
// error it gives up the reference.
func (c *Cache) settle(b *Block, k *Kind) (*Block, error) {
	if !b.ready.Load() {
		<-b.loaded
	}
	err := b.err
	if err == nil && b.kind.Magic != k.Magic {
		err = c.corrupt(b.ref, fmt.Sprintf("%v block where a %v block belongs", b.kind.Magic, k.Magic))
	}
	if err != nil {
		b.Release()
		return nil, c.countError(err)
	}
	return b, nil
}

func (c *Cache) corrupt(ref format.BlockRef, reason string) error {
	return &format.CorruptError{Device: c.dev.Name(), Blkno: ref.Blkno, Reason: reason}
}

// countError counts a read that ends with err.
func (c *Cache) countError(err error) error {
	switch err.(type) {
	case *format.StaleError:
		c.stats.stale.Add(1)
	case *format.CorruptError:
		c.stats.corrupt.Add(1)
	}
	return err
}

func (c *Cache) shardOf(ref format.BlockRef) *shard {
	return &c.shards[(uint64(ref.Blkno)^ref.Seq)%cacheShards]
}

// insert adds a block that is new to the index.
func (c *Cache) insert(b *Block) {
	s := c.shardOf(b.ref)
	s.mu.Lock()
	invariants.Check(s.blocks[b.ref] == nil, "two blocks with reference %v", b.ref)
	s.blocks[b.ref] = b
	s.mu.Unlock()
	c.stats.blocks.Add(1)
	c.clock.add(b)
}

// remove takes b out of the index and drops the index's reference, if it is
// still there.
func (c *Cache) remove(b *Block) {
	s := c.shardOf(b.ref)
	s.mu.Lock()
	there := s.blocks[b.ref] == b
	if there {
		delete(s.blocks, b.ref)
	}
	s.mu.Unlock()
	if there {
		c.stats.blocks.Add(-1)
		c.clock.remove(b)
		b.Release()
	}
}

// alloc returns a frame, after having made room for it.
func (c *Cache) alloc() []byte {
	f := c.frames
	f.reserved.Add(format.LargeSize)
	c.shrink()
	buf := AlignedBuf(format.LargeSize)
	f.mu.Lock()
	f.bufs[address(buf)] = buf
	f.peak = max(f.peak, len(f.bufs))
	f.mu.Unlock()
	return buf
}

// overBudget reports whether there are more frames than there should be.
func (c *Cache) overBudget() bool { return c.frames.reserved.Load() > c.o.Budget }

// shrink evicts until the budget is kept, or nothing is left that can go.
func (c *Cache) shrink() {
	for c.overBudget() {
		if !c.evictOne() {
			return
		}
	}
}

// evictOne drops one clean block that nobody uses.
func (c *Cache) evictOne() bool {
	if c.stats.dirty.Load() >= c.stats.blocks.Load() {
		return false // a long transaction; do not look for nothing
	}
	c.clock.mu.Lock()
	victim := c.clock.findLocked(c)
	c.clock.mu.Unlock()
	if victim == nil {
		return false
	}
	c.stats.evicted.Add(1)
	c.stats.blocks.Add(-1)
	victim.Release()
	return true
}

// findLocked takes the next block that may go out of the clock and the index.
// One that was found in the index since the hand passed gets another chance;
// one that was only read once does not, so that a scan leaves the others alone.
func (k *clock) findLocked(c *Cache) *Block {
	for range 2 * len(k.ring) {
		if k.hand >= len(k.ring) {
			k.hand = 0
		}
		b := k.ring[k.hand]
		if !b.used.Swap(false) && c.unindex(b) {
			k.dropLocked(b)
			k.hand++ // past the newest block, which took the place
			return b
		}
		k.hand++
	}
	return nil
}

// unindex removes b from the index if only the index refers to it and it is
// clean. The index's reference becomes the caller's.
func (c *Cache) unindex(b *Block) bool {
	if b.refs.Load() != 1 || b.owner.Load() != nil {
		return false
	}
	s := c.shardOf(b.ref)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.blocks[b.ref] != b || b.refs.Load() != 1 || b.owner.Load() != nil {
		return false
	}
	delete(s.blocks, b.ref)
	return true
}

func (k *clock) add(b *Block) {
	k.mu.Lock()
	defer k.mu.Unlock()
	b.slot = len(k.ring)
	k.ring = append(k.ring, b)
}

func (k *clock) remove(b *Block) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.dropLocked(b)
}

// dropLocked takes b out of the ring and puts the last one in its place.
func (k *clock) dropLocked(b *Block) {
	last := len(k.ring) - 1
	moved := k.ring[last]
	k.ring[b.slot] = moved
	moved.slot = b.slot
	k.ring[last] = nil
	k.ring = k.ring[:last]
	b.slot = -1
}

// put gives one frame back.
func (f *frames) put(buf []byte) {
	f.mu.Lock()
	delete(f.bufs, address(buf))
	f.mu.Unlock()
	FreeBuf(buf)
	f.reserved.Add(-format.LargeSize)
}

// count is the bytes of all frames, now and at the most.
func (f *frames) count() (now, peak int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return int64(len(f.bufs)) << format.LargeShift, int64(f.peak) << format.LargeShift
}

// freeAll gives all frames back.
func (f *frames) freeAll() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, buf := range f.bufs {
		FreeBuf(buf)
	}
	clear(f.bufs)
}
