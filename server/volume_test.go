// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"scoutfs/block"
	"scoutfs/format"
	"scoutfs/internal/simdisk"
	"scoutfs/mkfs"
	"scoutfs/server"
)

func call(t *testing.T, l *server.Local, cmd format.NetCmd, req []byte) error {
	t.Helper()
	_, err := l.Call(t.Context(), cmd, req)
	return err
}

func TestAllocInodes(t *testing.T) {
	v := newVolume(t, 1)
	s := v.start()
	m := v.mount(s, 7, 0, nil)
	for _, want := range []format.NetInoRange{{Ino: 1024, Nr: 10240}, {Ino: 11264, Nr: 10240}} {
		got, err := m.l.AllocInodes(t.Context(), 10240)
		must(t, err)
		if got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
	s.Stop()
	s = v.start(allDead)
	m = v.mount(s, 8, 0, nil)
	got, err := m.l.AllocInodes(t.Context(), ^uint64(0))
	must(t, err)
	if want := (format.NetInoRange{Ino: 21504, Nr: ^uint64(0) - 21504}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got, err = m.l.AllocInodes(t.Context(), 1); err != nil || got.Nr != 0 {
		t.Errorf("after the last number: %+v, %v", got, err)
	}
}

func TestStatfs(t *testing.T) {
	v := newVolume(t, 1)
	s := v.start()
	m := v.mount(s, 7, 0, nil)
	st, err := m.l.Statfs(t.Context())
	must(t, err)
	if st.TotalMeta != metaBlocks || st.TotalData != dataBlocks || st.FreeData != dataBlocks-64 || st.InodeCount != 1 || st.UUID != v.super.UUID {
		t.Errorf("statfs %+v", st)
	}
	must(t, m.open(t.Context()))
	must(t, m.write(10, 0))
	m.lt.InodeCountDelta = 5
	used := uint64(0)
	for _, x := range m.files {
		used += x.n
	}
	must(t, m.commit(t.Context(), 1))
	after, err := m.l.Statfs(t.Context())
	must(t, err)
	if after.FreeData != st.FreeData-used || after.InodeCount != 6 || after.FreeMeta >= st.FreeMeta {
		t.Errorf("before %+v, used %d, after %+v", st, used, after)
	}
}

func TestVolumeOptions(t *testing.T) {
	v := newVolume(t, 1)
	s := v.start()
	m := v.mount(s, 7, 0, nil)
	get := func() format.VolumeOptions {
		resp, err := m.l.Call(t.Context(), format.CmdGetVolopt, nil)
		must(t, err)
		o, _ := format.Load[format.VolumeOptions](resp)
		return o
	}
	o := format.VolumeOptions{SetBits: 1}
	for _, z := range []uint64{0, 1, 1048575, dataBlocks + 1} {
		o.Values[0] = z
		if err := call(t, m.l, format.CmdSetVolopt, format.Bytes(&o)); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("zones of %d blocks: %v", z, err)
		}
	}
	bad := format.VolumeOptions{SetBits: 3}
	for _, cmd := range []format.NetCmd{format.CmdSetVolopt, format.CmdClearVolopt} {
		if err := call(t, m.l, cmd, format.Bytes(&bad)); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("unknown option: %v", err)
		}
	}
	o.Values[0] = 1048576
	must(t, call(t, m.l, format.CmdSetVolopt, format.Bytes(&o)))
	if get() != o || v.readSuper().VolOpt != o {
		t.Errorf("options %+v", get())
	}
	// Each mount now gets space from a zone of its own.
	other := v.mount(s, 8, 0, nil)
	must(t, m.open(t.Context()))
	must(t, other.open(t.Context()))
	if m.lt.DataAllocZoneBlocks != 1048576 || m.lt.DataAllocZones == other.lt.DataAllocZones {
		t.Errorf("zones %b and %b", m.lt.DataAllocZones[0], other.lt.DataAllocZones[0])
	}
	o.Values[0] = 0
	must(t, call(t, m.l, format.CmdClearVolopt, format.Bytes(&o)))
	if get() != (format.VolumeOptions{}) {
		t.Errorf("options %+v", get())
	}
	v.audit()
}

func TestResize(t *testing.T) {
	v := newVolumeOf(t, 1, metaBlocks, dataBlocks)
	bigger := newVolumeOf(t, 1, metaBlocks+1000, dataBlocks+5000)
	s := v.start(func(o *server.Options) { o.Data = bigger.data })
	m := v.mount(s, 7, 0, nil)
	for _, r := range []format.NetResize{
		{MetaBlocks: metaBlocks - 1}, {DataBlocks: dataBlocks - 1}, {MetaBlocks: metaBlocks + 1}, {DataBlocks: dataBlocks + 5001},
	} {
		if err := call(t, m.l, format.CmdResizeDevices, format.Bytes(&r)); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("%+v: %v", r, err)
		}
	}
	for range 2 {
		must(t, call(t, m.l, format.CmdResizeDevices, format.Bytes(&format.NetResize{MetaBlocks: metaBlocks, DataBlocks: dataBlocks + 5000})))
		if sup, _ := v.audit(); sup.TotalDataBlocks != dataBlocks+5000 {
			t.Errorf("%d data blocks", sup.TotalDataBlocks)
		}
	}
	must(t, call(t, m.l, format.CmdResizeDevices, format.Bytes(&format.NetResize{})))
}

// growing is a device that grows when it is looked at.
type growing struct {
	block.Device
	size int64
}

func (d *growing) Resize() (int64, error) { d.size = d.Device.Size(); return d.size, nil }
func (d *growing) Size() int64            { return d.size }

// TestResizeGrownDevices uses what devices have gained while they are in use.
func TestResizeGrownDevices(t *testing.T) {
	meta := &growing{simdisk.New((metaBlocks+1000)<<format.LargeShift, simdisk.Options{Name: "meta"}), metaBlocks << format.LargeShift}
	data := &growing{simdisk.New((dataBlocks+5000)<<format.SmallShift, simdisk.Options{Name: "data"}), dataBlocks << format.SmallShift}
	sup, err := mkfs.Format(meta, data, mkfs.Options{
		Slots: map[int]netip.AddrPort{0: netip.MustParseAddrPort("127.0.0.1:7000")}, AllowSmall: true})
	must(t, err)
	v := &volume{t: t, meta: meta.Device.(*simdisk.Disk), data: data.Device.(*simdisk.Disk), super: sup}
	s := v.start(func(o *server.Options) { o.Meta, o.Data = meta, data })
	m := v.mount(s, 7, 0, nil)
	r := format.NetResize{MetaBlocks: metaBlocks + 1000, DataBlocks: dataBlocks + 5000}
	must(t, call(t, m.l, format.CmdResizeDevices, format.Bytes(&r)))
	if sup, _ := v.audit(); sup.TotalMetaBlocks != r.MetaBlocks || sup.TotalDataBlocks != r.DataBlocks {
		t.Errorf("totals %d and %d", sup.TotalMetaBlocks, sup.TotalDataBlocks)
	}
}

// TestVolumeOptionsTogether lets several mounts set the option while commits
// fail: none of the values that failed stays.
func TestVolumeOptionsTogether(t *testing.T) {
	v := newVolume(t, 1)
	s := v.start()
	m := v.mount(s, 7, 0, nil)
	v.meta.SetFault(func(op simdisk.FaultOp) error {
		if op.Flush {
			return simdisk.ErrInjected
		}
		return nil
	})
	for range 20 {
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				o := format.VolumeOptions{SetBits: 1}
				o.Values[0] = 1048576 + uint64(i)
				if err := call(t, m.l, format.CmdSetVolopt, format.Bytes(&o)); !errors.Is(err, syscall.EIO) {
					t.Errorf("set: %v", err)
				}
			})
		}
		wg.Wait()
	}
	v.meta.SetFault(nil)
	_, err := m.l.AllocInodes(t.Context(), 1) // any commit
	must(t, err)
	if o := v.readSuper().VolOpt; o != (format.VolumeOptions{}) {
		t.Errorf("options %+v", o)
	}
}

// TestErrorsWhileStopping lets a server fail while it works: mounts see that it
// ended, and never an error that looks like an answer to them.
func TestErrorsWhileStopping(t *testing.T) {
	for range 10 {
		v := newVolume(t, 1)
		var over atomic.Bool
		s := v.start(func(o *server.Options) {
			o.Check = func() error {
				if over.Load() {
					return syscall.EIO
				}
				return nil
			}
		})
		var wg sync.WaitGroup
		for rid := format.Rid(1); rid <= 4; rid++ {
			m := v.mount(s, rid, 0, nil)
			wg.Go(func() {
				for {
					if _, err := m.l.AllocInodes(t.Context(), 1); err != nil {
						if !errors.Is(err, syscall.ECONNABORTED) {
							t.Error(err)
						}
						return
					}
				}
			})
		}
		waitFor(t, func() bool { return s.Metrics().Commits > 8 })
		over.Store(true)
		wg.Wait()
		<-s.Done()
		if !errors.Is(s.Err(), syscall.EIO) {
			t.Errorf("server ended with %v", s.Err())
		}
	}
}

// TestPayloads sends payloads of a wrong length to every command.
func TestPayloads(t *testing.T) {
	v := newVolume(t, 1)
	m := v.mount(v.start(), 7, 0, nil)
	for cmd := format.CmdAllocInodes; cmd <= format.CmdNr; cmd++ {
		if err := call(t, m.l, cmd, make([]byte, 3)); err == nil {
			t.Errorf("%s with 3 bytes succeeds", cmd)
		}
	}
}

// TestNoWork checks the answers of what has nothing to do yet.
func TestNoWork(t *testing.T) {
	v := newVolume(t, 1)
	m := v.mount(v.start(), 7, 0, nil)
	resp, err := m.l.Call(t.Context(), format.CmdSrchGetCompact, nil)
	must(t, err)
	if c, ok := format.Load[format.SrchCompact](resp); !ok || c != (format.SrchCompact{}) {
		t.Errorf("compaction %+v", c)
	}
	for cmd, n := range map[format.NetCmd]int{format.CmdSrchCommitCompact: 584, format.CmdGetLogMerge: 0, format.CmdCommitLogMerge: 208} {
		if err := call(t, m.l, cmd, make([]byte, n)); !errors.Is(err, syscall.ENOENT) {
			t.Errorf("%s: %v", cmd, err)
		}
	}
}

// TestMetadataFull fills the metadata device: commits go on, mounts are told
// that it is low, and what is freed can be used again.
func TestMetadataFull(t *testing.T) {
	v := newVolumeOf(t, 1, 20000, 1<<20)
	s := v.start()
	m := v.mount(s, 7, 0, nil)
	full := false
	var taken []format.Blkno
	for range 20 {
		if err := m.open(t.Context()); err != nil {
			if !errors.Is(err, syscall.ENOSPC) {
				t.Fatal(err)
			}
			full = true
			break
		}
		if m.lt.MetaAvail.Flags&format.AllocFlagLow == 0 {
			t.Error("not low")
		}
		for {
			if avail, _ := m.pair.Room(); avail < 40 {
				break
			}
			b, err := m.pair.AllocBlock()
			must(t, err)
			taken = append(taken, b)
		}
		if len(taken) == 0 {
			full = true
			break
		}
		must(t, m.write(1, 0))
		must(t, m.commit(t.Context(), 1))
		if avail := m.lt.MetaAvail; avail.FirstNr > 40 {
			t.Fatalf("avail %+v", avail)
		}
	}
	if !full {
		t.Fatalf("took %d blocks and there is still more", len(taken))
	}
	t.Logf("took %d blocks", len(taken))
	if s.Err() != nil {
		t.Fatal(s.Err())
	}
}
