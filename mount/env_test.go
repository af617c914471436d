// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package mount_test

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"scoutfs/block"
	"scoutfs/mkfs"
	"scoutfs/mount"
	"scoutfs/volume"
)

// waitAll bounds what a test waits for; nothing is judged by it but hanging.
const waitAll = 2 * time.Minute

// vol is a volume in two sparse files.
type vol struct {
	t          *testing.T
	dir        string
	meta, data string
	registry   string
	addrs      []netip.AddrPort
}

// newVol makes a volume with n slots on free ports of the loopback interface.
func newVol(t *testing.T, n int) *vol {
	t.Helper()
	dir := t.TempDir()
	v := &vol{t: t, dir: dir, meta: filepath.Join(dir, "meta"), data: filepath.Join(dir, "data"), registry: filepath.Join(dir, "registry")}
	slots := make(map[int]netip.AddrPort)
	for i := range n {
		v.addrs = append(v.addrs, freePort(t))
		slots[i] = v.addrs[i]
	}
	v.sparse(v.meta, 16<<30)
	v.sparse(v.data, 16<<30)
	v.format(v.meta, v.data, mkfs.Options{Slots: slots, AllowSmall: true})
	return v
}

func (v *vol) sparse(path string, size int64) {
	v.t.Helper()
	f, err := os.Create(path)
	if err != nil {
		v.t.Fatal(err)
	}
	if err := f.Truncate(size); err != nil {
		v.t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		v.t.Fatal(err)
	}
}

func (v *vol) format(meta, data string, o mkfs.Options) {
	v.t.Helper()
	m, err := block.Open(meta, block.OpenOptions{})
	if err != nil {
		v.t.Fatal(err)
	}
	d, err := block.Open(data, block.OpenOptions{})
	if err != nil {
		v.t.Fatal(err)
	}
	if _, err := mkfs.Format(m, d, o); err != nil {
		v.t.Fatal(err)
	}
	if err := m.Close(); err != nil {
		v.t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		v.t.Fatal(err)
	}
}

// freePort is an address whose UDP and TCP ports were free a moment ago.
func freePort(t *testing.T) netip.AddrPort {
	t.Helper()
	for range 100 {
		u, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		ap := u.LocalAddr().(*net.UDPAddr).AddrPort()
		l, err := net.Listen("tcp4", ap.String())
		_ = u.Close()
		if err == nil {
			_ = l.Close()
			return ap
		}
	}
	t.Fatal("no free port")
	return netip.AddrPort{}
}

// options are those of a mount of v; slot may be mount.NoSlot.
func (v *vol) options(slot int) mount.Options {
	o := mount.DefaultOptions()
	o.MetadevPath, o.QuorumSlot = v.meta, slot
	log := slog.New(slog.DiscardHandler)
	if testing.Verbose() {
		log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})).With("slot", slot)
	}
	return mount.Options{Device: v.data, MountOptions: o, RegistryDir: v.registry, Log: log}
}

func (v *vol) tryOpen(o mount.Options) (*mount.Mount, error) {
	ctx, cancel := context.WithTimeout(context.Background(), waitAll)
	defer cancel()
	return mount.Open(ctx, o)
}

func (v *vol) open(o mount.Options) *mount.Mount {
	v.t.Helper()
	m, err := v.tryOpen(o)
	if err != nil {
		v.t.Fatal(err)
	}
	v.t.Cleanup(m.Abort) // a no-op after Close
	return m
}

func (v *vol) close(m *mount.Mount) {
	v.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), waitAll)
	defer cancel()
	if err := m.Close(ctx); err != nil {
		v.t.Error(err)
	}
}

var root volume.Caller

// mkfile creates a file in the root directory.
func mkfile(t *testing.T, m *mount.Mount, name string) {
	t.Helper()
	a, err := m.Volume().Create(&root, 1, name, 0o644)
	if err != nil {
		t.Fatalf("create %s: %v", name, err)
	}
	m.Volume().Forget(a.Ino, 1)
}

// names lists the root directory.
func names(t *testing.T, m *mount.Mount) (list []string) {
	t.Helper()
	err := m.Volume().ReadDir(&root, 1, 2, func(e *volume.DirEntry) bool {
		list = append(list, string(e.Name))
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}
