// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"scoutfs/mount"
)

// record says which daemon serves a directory. It lies in the run directory
// while the daemon lives; one that was killed leaves it behind, so a reader
// compares the start time of the process.
type record struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // of the process, clock ticks since boot
	Dir   string `json:"dir"`
	Data  string `json:"data"`
	ID    string `json:"id"` // of the status tree
	path  string
}

// escapePath makes a file name of a path.
func escapePath(p string) string {
	if abs, err := filepath.Abs(p); err == nil {
		p = abs
	}
	return strings.ReplaceAll(strings.ReplaceAll(strings.TrimPrefix(p, "/"), "_", "__"), "/", "_")
}

func recordPath(runDir, dir string) string {
	return filepath.Join(runDir, "mounts", escapePath(dir)+".json")
}

func addRecord(runDir, dir, data string, m *mount.Mount) (*record, error) {
	start, err := processStart(os.Getpid())
	if err != nil {
		return nil, err
	}
	r := &record{PID: os.Getpid(), Start: start, Dir: dir, Data: data, ID: m.ID(), path: recordPath(runDir, dir)}
	b, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(r.path), 0o755); err != nil {
		return nil, err
	}
	return r, os.WriteFile(r.path, append(b, '\n'), 0o644)
}

// remove takes the record away, unless a later mount has replaced it.
func (r *record) remove() {
	if r == nil {
		return
	}
	b, err := os.ReadFile(r.path)
	var now record
	if err == nil && json.Unmarshal(b, &now) == nil && now.PID == r.PID {
		_ = os.Remove(r.path)
	}
}

// findRecord returns the living daemon that serves dir, with a handle on its
// process. ENOENT if there is none.
func findRecord(runDir, dir string) (*record, int, error) {
	b, err := os.ReadFile(recordPath(runDir, dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, -1, syscall.ENOENT
	}
	if err != nil {
		return nil, -1, err
	}
	var r record
	if err := json.Unmarshal(b, &r); err != nil {
		return nil, -1, fmt.Errorf("%s: %w", recordPath(runDir, dir), err)
	}
	fd, err := unix.PidfdOpen(r.PID, 0)
	if err != nil {
		return nil, -1, syscall.ENOENT
	}
	if start, err := processStart(r.PID); err != nil || start != r.Start {
		unix.Close(fd)
		return nil, -1, syscall.ENOENT
	}
	return &r, fd, nil
}

// processStart is field 22 of /proc/PID/stat.
func processStart(pid int) (start uint64, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	_, rest, ok := strings.Cut(string(b[strings.LastIndexByte(string(b), ')')+1:]), " ")
	f := strings.Fields(rest)
	if !ok || len(f) < 20 {
		return 0, fmt.Errorf("/proc/%d/stat: unexpected contents", pid)
	}
	_, err = fmt.Sscan(f[19], &start)
	return start, err
}
