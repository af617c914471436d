// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"strings"

	"github.com/klauspost/cpuid/v2"
	"golang.org/x/sys/unix"
)

// Machine is what figures depend on.
type Machine struct {
	CPU      string  `json:"cpu"`
	Cores    int     `json:"cores"`   // logical ones that this process may use
	MHz      int64   `json:"mhz"`     // 0: not known
	L3       int     `json:"l3"`      // bytes
	CRC      bool    `json:"crc32c"`  // the CPU computes it
	VM       string  `json:"vm"`      // hypervisor, if there is one
	Memory   int64   `json:"memory"`  // bytes
	Kernel   string  `json:"kernel"`  // release
	Go       string  `json:"go"`      // version
	Load     float64 `json:"loadavg"` // of the last minute
	Governor string  `json:"governor,omitempty"`
}

// ThisMachine describes the machine.
func ThisMachine() Machine {
	c := cpuid.CPU
	m := Machine{
		CPU: c.BrandName, Cores: runtime.GOMAXPROCS(0), MHz: c.Hz / 1e6, L3: max(c.Cache.L3, 0), CRC: c.Supports(cpuid.SSE42) || c.Supports(cpuid.CRC32),
		Go: runtime.Version(),
	}
	if c.VM() {
		m.VM = c.HypervisorVendorString
	}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		m.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	var s unix.Sysinfo_t
	if unix.Sysinfo(&s) == nil {
		m.Memory = int64(s.Totalram) * int64(s.Unit)
		m.Load = float64(s.Loads[0]) / 65536
	}
	if b, err := os.ReadFile("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"); err == nil {
		m.Governor = string(bytes.TrimSpace(b))
	}
	return m
}

// String is one line.
func (m Machine) String() string {
	parts := []string{m.CPU, fmt.Sprint(m.Cores, " cores")}
	if m.VM != "" {
		parts = append(parts, "VM "+m.VM)
	}
	return strings.Join(append(parts,
		fmt.Sprintf("%d MiB L3", m.L3>>20), fmt.Sprintf("CRC-32C in hardware: %v", m.CRC),
		fmt.Sprintf("%d GiB", (m.Memory+1<<29)>>30), "Linux "+m.Kernel, m.Go, fmt.Sprintf("load %.1f", m.Load),
	), ", ")
}
