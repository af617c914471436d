// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package mount

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"scoutfs/format"
)

// DefaultRegistryDir is where mounts of this host are registered.
const DefaultRegistryDir = "/var/lib/scoutfs"

// Registry is the directory with one file for each mount of a volume on this
// host that did not end cleanly, or lives: DIR/FSID/RID. It is durable. An
// entry, together with the byte range lock that every mount holds on its
// devices, proves that a mount is dead; see [Registry.ProvenDead].
type Registry struct {
	dir  string // of the volume
	host string
	boot string
}

// Entry is what a mount says about itself.
type Entry struct {
	Host      string // machine id, or host name
	BootID    string
	PID       int
	StartTime uint64 // of the process, in clock ticks since boot
}

// lockTester tells whether a living opener of a device holds a rid's lock.
type lockTester interface {
	TestRid(rid format.Rid) (held bool, err error)
}

// OpenRegistry makes the volume's directory below dir if needed.
func OpenRegistry(dir string, fsid uint64) (*Registry, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return nil, fmt.Errorf("mount: registry: %w", err)
	}
	r := &Registry{dir: filepath.Join(dir, hex16(fsid)), host: hostID(), boot: strings.TrimSpace(string(boot))}
	if err := os.MkdirAll(r.dir, 0o755); err != nil {
		return nil, fmt.Errorf("mount: registry: %w", err)
	}
	return r, nil
}

func hex16(v uint64) string { return fmt.Sprintf("%016x", v) }

// hostID tells hosts apart that share the registry's file system.
func hostID() string {
	if id, err := os.ReadFile("/etc/machine-id"); err == nil && len(strings.TrimSpace(string(id))) > 0 {
		return strings.TrimSpace(string(id))
	}
	name, err := os.Hostname()
	if err != nil {
		return "unknown"
	}
	return name
}

func (r *Registry) path(rid format.Rid) string { return filepath.Join(r.dir, hex16(uint64(rid))) }

// Add registers a mount of this process. It is durable when Add returns. The
// caller holds the rid's lock on its devices already.
func (r *Registry) Add(rid format.Rid) error {
	st, err := processStat(os.Getpid())
	if err != nil {
		return fmt.Errorf("mount: registry: %w", err)
	}
	text := fmt.Sprintf("host %s\nboot_id %s\npid %d\nstart_time %d\n", r.host, r.boot, os.Getpid(), st.start)
	if err := writeDurable(r.path(rid), []byte(text)); err != nil {
		return fmt.Errorf("mount: registry: %w", err)
	}
	return nil
}

// writeDurable makes a file appear whole, or not at all, even after a crash.
func writeDurable(path string, text []byte) (err error) {
	tmp := path + ".tmp"
	f, err := os.Create(tmp)
	if err != nil {
		return err
	}
	_, werr := f.Write(text)
	if err := errors.Join(werr, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Remove takes a mount out of the registry. A missing entry is fine.
func (r *Registry) Remove(rid format.Rid) error {
	if err := os.Remove(r.path(rid)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("mount: registry: %w", err)
	}
	return nil
}

// Get reads an entry. fs.ErrNotExist if there is none.
func (r *Registry) Get(rid format.Rid) (Entry, error) {
	text, err := os.ReadFile(r.path(rid))
	if err != nil {
		return Entry{}, fmt.Errorf("mount: registry: %w", err)
	}
	var e Entry
	for _, line := range strings.Split(string(text), "\n") {
		name, val, _ := strings.Cut(line, " ")
		switch name {
		case "host":
			e.Host = val
		case "boot_id":
			e.BootID = val
		case "pid":
			e.PID, err = strconv.Atoi(val)
		case "start_time":
			e.StartTime, err = strconv.ParseUint(val, 10, 64)
		}
		if err != nil {
			return Entry{}, fmt.Errorf("mount: registry: %s: %w", r.path(rid), err)
		}
	}
	if e.Host == "" || e.BootID == "" || e.PID <= 0 {
		return Entry{}, fmt.Errorf("mount: registry: %s is incomplete", r.path(rid))
	}
	return e, nil
}

// List returns the rids of all entries.
func (r *Registry) List() ([]format.Rid, error) {
	files, err := os.ReadDir(r.dir)
	if err != nil {
		return nil, fmt.Errorf("mount: registry: %w", err)
	}
	var rids []format.Rid
	for _, f := range files {
		if v, err := strconv.ParseUint(f.Name(), 16, 64); err == nil && len(f.Name()) == 16 {
			rids = append(rids, format.Rid(v))
		}
	}
	return rids, nil
}

// Verdict is what the registry knows about a mount.
type Verdict uint8

// Verdicts. Only Dead is a proof.
const (
	Unknown   Verdict = iota // no entry of this host
	Alive                    // its lock is held by a running process
	Suspended                // its lock is held, and its process is stopped
	Dead                     // it cannot write to a device any more
)

// Judge tells whether a mount that was registered on this host can still write.
// It is Dead if its entry is of an earlier boot, or if its lock can be had on
// every device: the lock belongs to the descriptors that do its I/O, and goes
// only after the last of that I/O. A vanished process alone proves nothing. It
// blocks for system calls only.
func (r *Registry) Judge(rid format.Rid, devices ...lockTester) (Verdict, Entry) {
	e, err := r.Get(rid)
	if err != nil || e.Host != r.host {
		return Unknown, e
	}
	if e.BootID != r.boot {
		return Dead, e
	}
	for _, d := range devices {
		held, err := d.TestRid(rid)
		if err != nil {
			return Unknown, e
		}
		if held {
			return e.living(), e
		}
	}
	return Dead, e
}

// living tells a stopped process from a running one.
func (e *Entry) living() Verdict {
	st, err := processStat(e.PID)
	if err == nil && st.start == e.StartTime && st.state == 'T' {
		return Suspended
	}
	return Alive
}

// ProvenDead reports whether Judge says Dead.
func (r *Registry) ProvenDead(rid format.Rid, devices ...lockTester) bool {
	v, _ := r.Judge(rid, devices...)
	return v == Dead
}

// kill ends a stopped process, so that it cannot wake and write. The process
// of the entry is told from a later one with its number by its start time.
func (e *Entry) kill() error {
	if e.PID == os.Getpid() {
		return fmt.Errorf("mount: process %d is this one", e.PID)
	}
	if err := syscall.Kill(e.PID, syscall.SIGKILL); err != nil {
		return fmt.Errorf("mount: kill process %d: %w", e.PID, err)
	}
	return nil
}

// procStat is the part of /proc/PID/stat that matters here.
type procStat struct {
	state byte
	start uint64 // clock ticks since boot
}

func processStat(pid int) (procStat, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return procStat{}, err
	}
	// The name in parentheses may contain anything; fields 3.. follow it.
	end := strings.LastIndexByte(string(text), ')')
	fields := strings.Fields(string(text[end+1:]))
	if end < 0 || len(fields) < 20 {
		return procStat{}, fmt.Errorf("/proc/%d/stat has an unknown form", pid)
	}
	start, err := strconv.ParseUint(fields[19], 10, 64)
	return procStat{state: fields[0][0], start: start}, err
}
