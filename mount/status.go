// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package mount

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"strconv"
	"strings"
	"syscall"
	"time"

	"scoutfs/format"
	"scoutfs/server"
)

// Node is a file or directory of the status tree. Its functions may be called
// by many goroutines at once, until the mount has ended and even a little
// later, and must be called anew for each open file or listing.
type Node struct {
	Name string
	Mode fs.FileMode // fs.ModeDir for a directory, and permission bits

	// Read returns the whole content. Nil for directories.
	Read func() ([]byte, error)
	// Write takes what one write call wrote. Nil: the file is read-only.
	// Errors carry the errno of the write.
	Write func([]byte) error
	// Children returns a directory's entries, newly made. Nil for files.
	Children func() []*Node
}

// Child returns the entry of a directory with a name, or nil.
func (n *Node) Child(name string) *Node {
	if n.Children == nil {
		return nil
	}
	for _, c := range n.Children() {
		if c.Name == name {
			return c
		}
	}
	return nil
}

// Find follows a path of names with slashes between them; nil if there is no
// such node.
func (n *Node) Find(path string) *Node {
	for _, name := range strings.Split(path, "/") {
		if n = n.Child(name); n == nil {
			return nil
		}
	}
	return n
}

// StatusID names the directory of a mount in both trees: f.FFFFFF.r.RRRRRR.
func StatusID(fsid uint64, rid format.Rid) string {
	return fmt.Sprintf("f.%s.r.%s", hex16(fsid)[:6], hex16(uint64(rid))[:6])
}

func dir(name string, children ...*Node) *Node {
	return dynamicDir(name, func() []*Node { return children })
}

func dynamicDir(name string, children func() []*Node) *Node {
	return &Node{Name: name, Mode: fs.ModeDir | 0o755, Children: children}
}

// file is a read-only file whose content is made when it is read.
func file(name string, content func() string) *Node {
	return &Node{Name: name, Mode: 0o444, Read: func() ([]byte, error) { return []byte(content()), nil }}
}

func (n *Node) writable(write func([]byte) error) *Node {
	n.Mode, n.Write = n.Mode|0o200, write
	return n
}

// dump is a file of the debug tree, filled by a function that prints.
func dump(name string, print func(io.Writer) error) *Node {
	return &Node{Name: name, Mode: 0o400, Read: func() ([]byte, error) {
		var b bytes.Buffer
		err := print(&b)
		return b.Bytes(), err
	}}
}

// statusRoot has two directories: sysfs and debugfs, whose contents are those of
// the mount's directory in the trees of the original.
// Source: spec interfaces 4.
func (m *Mount) statusRoot() *Node {
	return dir("", dynamicDir("sysfs", m.sysfsChildren), dynamicDir("debugfs", m.debugfsChildren))
}

func (m *Mount) sysfsChildren() []*Node {
	nodes := []*Node{
		file("data_device_maj_min", func() string { return m.dataMajMin + "\n" }),
		file("format_version", func() string { return fmt.Sprintf("%d\n", m.super.FmtVers) }),
		file("fsid", func() string { return hex16(m.super.Hdr.Fsid) + "\n" }),
		file("rid", func() string { return hex16(uint64(m.rid)) + "\n" }),
		dynamicDir("counters", m.counterNodes),
		dir("mount_options", m.optionNodes()...),
		dir("volume_options", m.volumeOptionNode()),
	}
	if m.o.QuorumSlot != NoSlot {
		nodes = append(nodes, dir("quorum",
			file("is_leader", func() string { return strconv.FormatUint(boolNumber(m.isLeader()), 10) }),
			file("status", m.quorumStatus)),
			dynamicDir("fence", m.fenceNodes))
	}
	return nodes
}

func (m *Mount) debugfsChildren() []*Node {
	return []*Node{
		dump("client_locks", m.dumpClientLocks),
		dump("server_locks", m.runner.dump((*server.Server).DumpLocks)),
		dump("server_lock_stats", m.runner.dump((*server.Server).DumpLockStats)),
		dump("connections", m.dumpConnections),
		dump("messages", m.dumpMessages),
	}
}

func (m *Mount) isLeader() bool {
	a := m.agent.Load()
	return a != nil && a.IsLeader()
}

func (m *Mount) quorumStatus() string {
	if a := m.agent.Load(); a != nil {
		return a.StatusText()
	}
	return ""
}

func (m *Mount) dumpClientLocks(w io.Writer) error {
	if c := m.locks.Load(); c != nil {
		return c.Dump(w)
	}
	return nil
}

// dumpConnections prints the connection to the server and, if this mount runs
// it, those of the server to the mounts.
func (m *Mount) dumpConnections(w io.Writer) error {
	if c := m.client.Load(); c != nil {
		if err := c.DumpConnections(w); err != nil {
			return err
		}
	}
	return m.runner.dump((*server.Server).DumpConnections)(w)
}

// dumpMessages prints the messages of the same connections.
func (m *Mount) dumpMessages(w io.Writer) error {
	if c := m.client.Load(); c != nil {
		if err := c.DumpMessages(w); err != nil {
			return err
		}
	}
	return m.runner.dump((*server.Server).DumpMessages)(w)
}

// optionNodes are the files of mount_options. Values have no newline, except
// that of the slot.
func (m *Mount) optionNodes() []*Node {
	nodes := []*Node{
		file("metadev_path", func() string { return m.o.MetadevPath }),
		file("quorum_slot_nr", func() string { return fmt.Sprintf("%d\n", m.o.QuorumSlot) }),
	}
	for i := range numberOptions {
		n := &numberOptions[i]
		if n.name == "quorum_slot_nr" || n.name == "tcp_keepalive_timeout_ms" {
			continue
		}
		nodes = append(nodes, file(n.name, func() string {
			return strconv.FormatUint(n.get(m.live.snapshot()), 10)
		}).writable(func(b []byte) error { return m.setOption(n, b) }))
	}
	return nodes
}

// setOption takes what was written to an option's file. A new delay of the
// orphan scan counts from now, also for a scan that waits already.
func (m *Mount) setOption(n *numberOption, b []byte) error {
	if err := m.live.set(n, string(b)); err != nil {
		return err
	}
	if v := m.vol.Load(); v != nil && n.name == orphanScanDelay {
		v.RescheduleScan()
	}
	return nil
}

// maxOptionWrite is the longest number that an option file takes, in bytes.
const maxOptionWrite = 31

// volumeOptionNode asks the server on each access.
func (m *Mount) volumeOptionNode() *Node {
	return (&Node{Name: "data_alloc_zone_blocks", Mode: 0o444, Read: func() ([]byte, error) {
		opts, err := m.getVolumeOptions()
		if err != nil || opts.SetBits&(1<<format.VolOptDataAllocZoneBlocks) == 0 {
			return nil, err
		}
		return strconv.AppendUint(nil, opts.Values[format.VolOptDataAllocZoneBlocks], 10), nil
	}}).writable(m.writeZoneBlocks)
}

func (m *Mount) getVolumeOptions() (format.VolumeOptions, error) {
	resp, err := m.call(format.CmdGetVolopt, nil)
	if err != nil {
		return format.VolumeOptions{}, err
	}
	opts, ok := format.Load[format.VolumeOptions](resp)
	if !ok {
		return opts, fmt.Errorf("mount: volume options: %w", syscall.EMSGSIZE)
	}
	return opts, nil
}

// writeZoneBlocks sets the option, or clears it if the text starts with a
// newline.
func (m *Mount) writeZoneBlocks(b []byte) error {
	if len(b) > maxOptionWrite {
		return syscall.ERANGE
	}
	opts := format.VolumeOptions{SetBits: 1 << format.VolOptDataAllocZoneBlocks}
	if len(b) == 0 || b[0] == '\n' {
		_, err := m.call(format.CmdClearVolopt, format.Bytes(&opts))
		return err
	}
	v, err := parseCInt(strings.TrimSpace(string(b)))
	if err != nil {
		return syscall.EINVAL
	}
	opts.Values[format.VolOptDataAllocZoneBlocks] = v
	_, err = m.call(format.CmdSetVolopt, format.Bytes(&opts))
	return err
}

// fenceNodes are the directories of the requests of this mount's server.
// Source: spec interfaces 4.2.
func (m *Mount) fenceNodes() []*Node {
	var nodes []*Node
	for _, r := range m.runner.fences.List() {
		nodes = append(nodes, dir(hex16(uint64(r.Rid)),
			file("elapsed_secs", func() string { return strconv.FormatInt(int64(time.Since(r.Created).Seconds()), 10) }),
			file("fenced", func() string { return strconv.FormatUint(boolNumber(r.Fenced), 10) }).
				writable(func([]byte) error { return m.runner.fences.MarkFenced(r.Rid) }),
			file("error", func() string { return strconv.FormatUint(boolNumber(r.Error), 10) }).
				writable(func([]byte) error { return m.runner.fences.MarkError(r.Rid) }),
			file("ipv4_addr", func() string { return dotted(r.Addr) }),
			file("reason", func() string { return r.Reason }),
			file("rid", func() string { return hex16(uint64(r.Rid)) }),
		))
	}
	return nodes
}

// dotted is an address as the fence agent expects it.
func dotted(a netip.Addr) string {
	if !a.IsValid() {
		return "0.0.0.0"
	}
	return a.String()
}
