// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package volume_test

import (
	"bytes"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"scoutfs/block"
	"scoutfs/format"
	"scoutfs/volume"
)

// pageCache behaves like the kernel's cache of one page of one file: the page
// is locked while a read or write of it runs, an invalidation waits for the
// lock, and first writes back what a mapping has stored.
type pageCache struct {
	m   *mount
	ino format.Ino

	page sync.Mutex // the lock of the page

	mu    sync.Mutex
	dirty []byte // stored through a mapping, +checklocks:mu

	names, pages, writes atomic.Int64
}

func (k *pageCache) InvalidateNames() { k.names.Add(1) }

func (k *pageCache) InvalidateInode(ino format.Ino, pages bool) {
	if ino != k.ino || !pages {
		return
	}
	k.pages.Add(1)
	k.mu.Lock()
	dirty := k.dirty
	k.dirty = nil
	k.mu.Unlock()
	k.page.Lock()
	defer k.page.Unlock()
	if dirty != nil {
		k.writes.Add(1)
		if _, _, err := k.m.v().Write(root, ino, 0, dirty, 0); err != nil {
			k.m.w.t.Errorf("write back: %v", err)
		}
	}
}

// read is a page fault.
func (k *pageCache) read() {
	k.page.Lock()
	defer k.page.Unlock()
	buf := block.AlignedBuf(4096)
	defer block.FreeBuf(buf)
	if _, err := k.m.v().Read(root, k.ino, 0, buf); err != nil {
		k.m.w.t.Errorf("read: %v", err)
	}
}

// TestRevocationWithPages takes locks from a mount whose kernel has dirty and
// locked pages. Nothing may deadlock, and no store may be lost.
func TestRevocationWithPages(t *testing.T) {
	w := newWorld(t, 2)
	k := &pageCache{}
	m1 := w.mount(mountOptions{vol: func(o *volume.Options) { o.Kernel = k }})
	m2 := w.mount(mountOptions{})
	f := must[volume.Attr](t)(m1.v().Create(root, rootIno, "f", 0o600)).Ino
	k.m, k.ino = m1, f
	m1.write(t, f, 0, make([]byte, 4096))

	var stop atomic.Bool
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for !stop.Load() {
				k.read()
				time.Sleep(100 * time.Microsecond)
			}
		})
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 40 {
			page := bytes.Repeat([]byte{byte(i + 1)}, 4096)
			// A page is dirtied under W only: then it is still there when the
			// lock goes.
			m1.write(t, f, 4096, []byte("take W"))
			k.mu.Lock()
			k.dirty = page
			k.mu.Unlock()
			got := m2.read(t, f)
			if i%3 == 0 {
				m2.write(t, f, 8192, []byte{1})
				got = m2.read(t, f)
			}
			k.mu.Lock()
			written := k.dirty == nil
			k.mu.Unlock()
			if written && !bytes.Equal(got[:4096], page) {
				t.Errorf("round %d: the store is lost", i)
			}
		}
	}()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatal("deadlock")
	}
	stop.Store(true)
	wg.Wait()
	if k.pages.Load() == 0 || k.names.Load() == 0 || k.writes.Load() < 20 {
		t.Errorf("invalidated pages %d, names %d times, %d writes", k.pages.Load(), k.names.Load(), k.writes.Load())
	}
	m1.close()
	m2.close()
	w.check()
}
