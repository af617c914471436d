// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package mount_test

import (
	"errors"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"scoutfs/mount"
)

func TestParseOptions(t *testing.T) {
	with := func(change func(*mount.MountOptions)) mount.MountOptions {
		o := mount.DefaultOptions()
		o.MetadevPath = "/dev/m"
		change(&o)
		return o
	}
	tests := []struct {
		in   string
		want mount.MountOptions
	}{
		{"metadev_path=/dev/m", with(func(*mount.MountOptions) {})},
		{"noacl,,metadev_path=/dev/m,", with(func(o *mount.MountOptions) { o.ACL = false })},
		{"noacl,acl,metadev_path=/dev/x,metadev_path=/dev/m", with(func(*mount.MountOptions) {})},
		{"metadev_path=/dev/m,quorum_slot_nr=0x0e", with(func(o *mount.MountOptions) { o.QuorumSlot = 14 })},
		{"metadev_path=/dev/m,quorum_slot_nr=010", with(func(o *mount.MountOptions) { o.QuorumSlot = 8 })},
		{"metadev_path=/dev/m,data_prealloc_blocks=4503599627370495,data_prealloc_contig_only=0", with(func(o *mount.MountOptions) {
			o.DataPreallocBlocks, o.DataPreallocContigOnly = 1<<52-1, false
		})},
		{"metadev_path=/dev/m,ino_alloc_per_lock=1,lock_idle_count=32,log_merge_wait_timeout_ms=100,orphan_scan_delay_ms=60000", with(func(o *mount.MountOptions) {
			o.InoAllocPerLock, o.LockIdleCount, o.LogMergeWaitMS, o.OrphanScanDelayMS = 1, 32, 100, 60000
		})},
		{"metadev_path=/dev/m,quorum_heartbeat_timeout_ms=2000,tcp_keepalive_timeout_ms=3001", with(func(o *mount.MountOptions) {
			o.QuorumHeartbeatMS, o.TCPKeepaliveMS = 2000, 3001
		})},
	}
	for _, tt := range tests {
		got, err := mount.ParseOptions(tt.in)
		if err != nil {
			t.Errorf("%s: %v", tt.in, err)
			continue
		}
		if d := cmp.Diff(tt.want, got); d != "" {
			t.Errorf("%s: %s", tt.in, d)
		}
	}
}

func TestParseOptionsErrors(t *testing.T) {
	tests := []struct{ in, want string }{
		{"", "mount options: metadev_path is required"},
		{"noacl", "mount options: metadev_path is required"},
		{"metadev_path=", `mount option "metadev_path=": needs the path of the metadata device`},
		{"metadev_path", `mount option "metadev_path": needs the path of the metadata device`},
		{"bogus", `mount option "bogus": unknown option`},
		{"acl=1", `mount option "acl=1": unknown option`},
		{"quorum_slot_nr", `mount option "quorum_slot_nr": needs a number`},
		{"quorum_slot_nr=", `mount option "quorum_slot_nr=": needs a number`},
		{"quorum_slot_nr=15", `mount option "quorum_slot_nr=15": must be between 0 and 14`},
		{"quorum_slot_nr=-1", `mount option "quorum_slot_nr=-1": "-1" is not a number`},
		{"quorum_slot_nr=1,quorum_slot_nr=1", `mount option "quorum_slot_nr=1": may be given only once`},
		{"orphan_scan_delay_ms=100,orphan_scan_delay_ms=100", `mount option "orphan_scan_delay_ms=100": may be given only once`},
		{"orphan_scan_delay_ms=99", `mount option "orphan_scan_delay_ms=99": must be between 100 and 60000`},
		{"data_prealloc_blocks=0", `mount option "data_prealloc_blocks=0": must be between 1 and 4503599627370495`},
		{"data_prealloc_contig_only=2", `mount option "data_prealloc_contig_only=2": must be between 0 and 1`},
		{"ino_alloc_per_lock=1025", `mount option "ino_alloc_per_lock=1025": must be between 1 and 1024`},
		{"lock_idle_count=31", `mount option "lock_idle_count=31": must be between 32 and 100000`},
		{"log_merge_wait_timeout_ms=60001", `mount option "log_merge_wait_timeout_ms=60001": must be between 100 and 60000`},
		{"quorum_heartbeat_timeout_ms=1_0000", `mount option "quorum_heartbeat_timeout_ms=1_0000": "1_0000" is not a number`},
		{"quorum_heartbeat_timeout_ms=0b11", `mount option "quorum_heartbeat_timeout_ms=0b11": "0b11" is not a number`},
		{"tcp_keepalive_timeout_ms=3000", `mount option "tcp_keepalive_timeout_ms=3000": must be greater than 3000`},
		{"lock_idle_count=5 ", `mount option "lock_idle_count=5 ": "5 " is not a number`},
	}
	for _, tt := range tests {
		_, err := mount.ParseOptions(tt.in)
		if err == nil || err.Error() != tt.want || !errors.Is(err, syscall.EINVAL) {
			t.Errorf("%s: %v, want %s", tt.in, err, tt.want)
		}
	}
}

func TestTableText(t *testing.T) {
	o, err := mount.ParseOptions("metadev_path=/dev/m,quorum_slot_nr=2,noacl")
	if err != nil {
		t.Fatal(err)
	}
	want := ",data_prealloc_blocks=2048,data_prealloc_contig_only=1,ino_alloc_per_lock=1024,metadev_path=/dev/m,noacl," +
		"orphan_scan_delay_ms=10000,quorum_slot_nr=2,tcp_keepalive_timeout_ms=24000"
	if got := o.TableText(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
