// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"scoutfs/fuseconn"
)

// runForJSON runs a command that prints a report of fio's shape, and adds up
// its jobs.
func runForJSON(ctx context.Context, argv []string) (s sample, err error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return s, fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, stderr.String())
	}
	type dir struct {
		Runtime float64 `json:"runtime"` // ms
		Total   float64 `json:"total_ios"`
		IOPS    float64 `json:"iops"`
		Lat     struct {
			Mean       float64            `json:"mean"`
			Percentile map[string]float64 `json:"percentile"`
		} `json:"lat_ns"`
	}
	var rep struct {
		Jobs []struct {
			User   float64 `json:"usr_cpu"`
			System float64 `json:"sys_cpu"`
			Allocs float64 `json:"allocs_per_op"`
			Read   dir     `json:"read"`
			Write  dir     `json:"write"`
		} `json:"jobs"`
	}
	if at := bytes.IndexByte(out, '{'); at > 0 {
		out = out[at:] // fio may say something before
	}
	if err := json.Unmarshal(out, &rep); err != nil || len(rep.Jobs) == 0 {
		return s, fmt.Errorf("%s: no report: %w", strings.Join(argv, " "), err)
	}
	j := &rep.Jobs[0]
	ops := j.Read.Total + j.Write.Total
	took := max(j.Read.Runtime, j.Write.Runtime) / 1e3
	if ops == 0 || took == 0 {
		return s, fmt.Errorf("%s: nothing was done", strings.Join(argv, " "))
	}
	return sample{
		rate: j.Read.IOPS + j.Write.IOPS, cpu: (j.User + j.System) / 100 * took * 1e6 / ops, allocs: j.Allocs,
		p50: max(j.Read.Lat.Percentile["50.000000"], j.Write.Lat.Percentile["50.000000"]) / 1e3,
		lat: (j.Read.Lat.Mean*j.Read.Total + j.Write.Lat.Mean*j.Write.Total) / ops / 1e3,
	}, nil
}

// attachLoop makes a loop device of a file, with direct I/O.
func attachLoop(file string) (dev string, detach func() error, err error) {
	out, err := exec.Command("losetup", "--find", "--show", "--direct-io=on", file).CombinedOutput()
	if err != nil {
		return "", nil, fmt.Errorf("losetup: %w: %s", err, out)
	}
	dev = strings.TrimSpace(string(out))
	return dev, func() error { return exec.Command("losetup", "--detach", dev).Run() }, nil
}

// nullMount is the null file system in a process of its own.
type nullMount struct {
	dir string
	cmd *exec.Cmd
}

func (f *figures) mountNull() (*nullMount, error) {
	n := &nullMount{dir: filepath.Join(f.dir, "null")}
	if err := os.MkdirAll(n.dir, 0o755); err != nil {
		return nil, err
	}
	n.cmd = exec.Command(f.Self, "null", n.dir)
	n.cmd.Stderr = os.Stderr
	out, err := n.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := n.cmd.Start(); err != nil {
		return nil, err
	}
	if _, err := out.Read(make([]byte, 64)); err != nil {
		return nil, errors.Join(fmt.Errorf("the null file system did not start: %w", err), n.cmd.Wait())
	}
	return n, nil
}

func (n *nullMount) close() error {
	return errors.Join(fuseconn.Unmount(n.dir, false, true), n.cmd.Wait())
}

// daemon is a volume with a mount of its own.
type daemon struct {
	f          *figures
	meta, data string
	dir        string
	pid        int
}

// newVolume makes a volume without mounting it.
func (f *figures) newVolume() (*daemon, error) {
	dir, err := os.MkdirTemp(f.dir, "volume-")
	if err != nil {
		return nil, err
	}
	d := &daemon{f: f, meta: filepath.Join(dir, "meta"), data: filepath.Join(dir, "data"), dir: filepath.Join(dir, "mnt")}
	return d, errors.Join(os.Mkdir(d.dir, 0o755), makeVolume(d.meta, d.data))
}

// mount starts the daemon, with caches of the given size in MiB, 0 for the
// default.
func (d *daemon) mount(ctx context.Context, cache int) error {
	out, err := exec.CommandContext(ctx, d.f.Scoutfs, "mount", fmt.Sprint("--cache-size=", cache), "-o", "metadev_path="+d.meta+",quorum_slot_nr=0", d.data, d.dir).CombinedOutput()
	if err != nil {
		return fmt.Errorf("mount: %w: %s", err, out)
	}
	d.pid, err = pidOf(d.dir)
	return err
}

// pidOf finds the daemon by the argument that is its mount point.
func pidOf(dir string) (int, error) {
	procs, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return 0, err
	}
	for _, p := range procs {
		b, err := os.ReadFile(p)
		if err != nil || !bytes.HasSuffix(b, []byte("\x00"+dir+"\x00")) || !bytes.Contains(b, []byte("\x00mount\x00")) {
			continue
		}
		return strconv.Atoi(filepath.Base(filepath.Dir(p)))
	}
	return 0, fmt.Errorf("no process serves %s", dir)
}

func (d *daemon) umount() error {
	out, err := exec.Command(d.f.Scoutfs, "umount", d.dir).CombinedOutput()
	if err != nil {
		return fmt.Errorf("umount: %w: %s", err, out)
	}
	return nil
}

// remove deletes the volume, which is not mounted.
func (d *daemon) remove() error { return os.RemoveAll(filepath.Dir(d.meta)) }

// resident is the resident size of a process in MiB: now, or the most it was.
func resident(pid int, key string) (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, key+":"); ok {
			kb, err := strconv.ParseFloat(strings.Fields(v)[0], 64)
			return kb / 1024, err
		}
	}
	return 0, fmt.Errorf("process %d has no %s", pid, key)
}

// settle waits until a daemon that was just started does nothing.
func settle(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(3 * time.Second):
	}
}
