// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package mount

import (
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"time"

	"scoutfs/format"
)

// MountOptions are the options of -o. Get them from [ParseOptions] or
// [DefaultOptions]; the zero value is not valid.
// Source: spec interfaces 3.
type MountOptions struct {
	ACL                    bool   // POSIX ACLs are on
	DataPreallocBlocks     uint64 // 4 KiB blocks
	DataPreallocContigOnly bool
	InoAllocPerLock        uint64
	LockIdleCount          uint64
	LogMergeWaitMS         uint64
	MetadevPath            string
	OrphanScanDelayMS      uint64
	QuorumHeartbeatMS      uint64
	QuorumSlot             int // -1: not a member
	TCPKeepaliveMS         uint64
}

// NoSlot is the QuorumSlot of a mount that never votes or serves.
const NoSlot = -1

// DefaultOptions are the options when none is given.
func DefaultOptions() MountOptions {
	return MountOptions{
		ACL: true, DataPreallocBlocks: 2048, DataPreallocContigOnly: true, InoAllocPerLock: 1024, LockIdleCount: 10000,
		LogMergeWaitMS: 500, OrphanScanDelayMS: 10000, QuorumHeartbeatMS: 10000, QuorumSlot: NoSlot, TCPKeepaliveMS: 24000,
	}
}

// orphanScanDelay is the name of an option that has an effect of its own when
// it is changed.
const orphanScanDelay = "orphan_scan_delay_ms"

// numberOption is an option with a number and a range, both ends included.
type numberOption struct {
	name     string
	min, max uint64
	once     bool
	get      func(*MountOptions) uint64
	set      func(*MountOptions, uint64)
}

// maxKeepalive keeps the timeout within what a socket takes.
const maxKeepalive = 1<<31 - 1

var numberOptions = []numberOption{
	{name: "data_prealloc_blocks", min: 1, max: format.MaxIblock,
		get: func(o *MountOptions) uint64 { return o.DataPreallocBlocks },
		set: func(o *MountOptions, v uint64) { o.DataPreallocBlocks = v }},
	{name: "data_prealloc_contig_only", min: 0, max: 1,
		get: func(o *MountOptions) uint64 { return boolNumber(o.DataPreallocContigOnly) },
		set: func(o *MountOptions, v uint64) { o.DataPreallocContigOnly = v == 1 }},
	{name: "ino_alloc_per_lock", min: 1, max: format.LockGroup,
		get: func(o *MountOptions) uint64 { return o.InoAllocPerLock },
		set: func(o *MountOptions, v uint64) { o.InoAllocPerLock = v }},
	{name: "lock_idle_count", min: 32, max: 100000,
		get: func(o *MountOptions) uint64 { return o.LockIdleCount },
		set: func(o *MountOptions, v uint64) { o.LockIdleCount = v }},
	{name: "log_merge_wait_timeout_ms", min: 100, max: 60000,
		get: func(o *MountOptions) uint64 { return o.LogMergeWaitMS },
		set: func(o *MountOptions, v uint64) { o.LogMergeWaitMS = v }},
	{name: orphanScanDelay, min: 100, max: 60000, once: true,
		get: func(o *MountOptions) uint64 { return o.OrphanScanDelayMS },
		set: func(o *MountOptions, v uint64) { o.OrphanScanDelayMS = v }},
	{name: "quorum_heartbeat_timeout_ms", min: 2000, max: 60000,
		get: func(o *MountOptions) uint64 { return o.QuorumHeartbeatMS },
		set: func(o *MountOptions, v uint64) { o.QuorumHeartbeatMS = v }},
	{name: "quorum_slot_nr", min: 0, max: format.QuorumSlots - 1, once: true,
		get: func(o *MountOptions) uint64 { return uint64(o.QuorumSlot) },
		set: func(o *MountOptions, v uint64) { o.QuorumSlot = int(v) }},
	{name: "tcp_keepalive_timeout_ms", min: 3001, max: maxKeepalive,
		get: func(o *MountOptions) uint64 { return o.TCPKeepaliveMS },
		set: func(o *MountOptions, v uint64) { o.TCPKeepaliveMS = v }},
}

func findNumber(name string) *numberOption {
	for i := range numberOptions {
		if numberOptions[i].name == name {
			return &numberOptions[i]
		}
	}
	return nil
}

func boolNumber(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

// OptionError says what is wrong with the mount options, in one line. It
// matches syscall.EINVAL.
type OptionError struct {
	Option string // as it was given; may be empty
	Reason string
}

// Error is one line.
func (e *OptionError) Error() string {
	if e.Option == "" {
		return "mount options: " + e.Reason
	}
	return fmt.Sprintf("mount option %q: %s", e.Option, e.Reason)
}

// Is makes errors.Is(err, syscall.EINVAL) true.
func (e *OptionError) Is(target error) bool { return target == syscall.EINVAL }

// ParseOptions parses the comma separated ScoutFS options of a mount: those of
// the generic layer must have been taken out. Errors are *OptionError.
func ParseOptions(s string) (MountOptions, error) {
	o := DefaultOptions()
	seen := make(map[string]bool)
	for _, tok := range strings.Split(s, ",") {
		if tok == "" {
			continue
		}
		name, val, hasVal := strings.Cut(tok, "=")
		if err := o.parseOne(tok, name, val, hasVal, seen[name]); err != nil {
			return MountOptions{}, err
		}
		seen[name] = true
	}
	if o.MetadevPath == "" {
		return MountOptions{}, &OptionError{Reason: "metadev_path is required"}
	}
	return o, nil
}

// parseOne takes one option; again says that it was given before.
func (o *MountOptions) parseOne(tok, name, val string, hasVal, again bool) error {
	switch {
	case tok == "acl" || tok == "noacl":
		o.ACL = tok == "acl"
		return nil
	case name == "metadev_path":
		if val == "" {
			return &OptionError{Option: tok, Reason: "needs the path of the metadata device"}
		}
		o.MetadevPath = val
		return nil
	}
	n := findNumber(name)
	switch {
	case n == nil:
		return &OptionError{Option: tok, Reason: "unknown option"}
	case !hasVal || val == "":
		return &OptionError{Option: tok, Reason: "needs a number"}
	case again && n.once:
		return &OptionError{Option: tok, Reason: "may be given only once"}
	}
	v, err := n.parse(val)
	if err != nil {
		return &OptionError{Option: tok, Reason: err.Error()}
	}
	n.set(o, v)
	return nil
}

// parse reads a number in C syntax and checks its range.
func (n *numberOption) parse(s string) (uint64, error) {
	v, err := parseCInt(s)
	if err != nil {
		return 0, err
	}
	if v < n.min || v > n.max {
		if n.max == maxKeepalive {
			return 0, fmt.Errorf("must be greater than %d", n.min-1)
		}
		return 0, fmt.Errorf("must be between %d and %d", n.min, n.max)
	}
	return v, nil
}

// parseCInt parses an unsigned number as C does: 0x hexadecimal, 0 octal.
func parseCInt(s string) (uint64, error) {
	base, digits := 10, strings.TrimPrefix(s, "+")
	switch {
	case strings.HasPrefix(digits, "0x"), strings.HasPrefix(digits, "0X"):
		base, digits = 16, digits[2:]
	case len(digits) > 1 && digits[0] == '0':
		base, digits = 8, digits[1:]
	}
	v, err := strconv.ParseUint(digits, base, 64)
	if err != nil || strings.HasPrefix(digits, "+") {
		return 0, fmt.Errorf("%q is not a number", s)
	}
	return v, nil
}

// TableText is what the mount table shows of the options, after the generic
// ones: each is led by a comma.
func (o *MountOptions) TableText() string {
	var b strings.Builder
	if o.ACL {
		b.WriteString(",acl")
	}
	fmt.Fprintf(&b, ",data_prealloc_blocks=%d", o.DataPreallocBlocks)
	fmt.Fprintf(&b, ",data_prealloc_contig_only=%d", boolNumber(o.DataPreallocContigOnly))
	fmt.Fprintf(&b, ",ino_alloc_per_lock=%d", o.InoAllocPerLock)
	fmt.Fprintf(&b, ",metadev_path=%s", o.MetadevPath)
	if !o.ACL {
		b.WriteString(",noacl")
	}
	fmt.Fprintf(&b, ",orphan_scan_delay_ms=%d", o.OrphanScanDelayMS)
	if o.QuorumSlot != NoSlot {
		fmt.Fprintf(&b, ",quorum_slot_nr=%d", o.QuorumSlot)
	}
	fmt.Fprintf(&b, ",tcp_keepalive_timeout_ms=%d", o.TCPKeepaliveMS)
	return b.String()
}

func milliseconds(v uint64) time.Duration { return time.Duration(v) * time.Millisecond }
