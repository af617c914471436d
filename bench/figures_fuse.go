// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// withBoth mounts the null file system and a new volume, and runs fn.
func (f *figures) withBoth(ctx context.Context, fn func(null *nullMount, d *daemon) error) (err error) {
	n, err := f.mountNull()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.close()) }()
	d, err := f.newVolume()
	if err != nil {
		return err
	}
	if err := d.mount(ctx, 0); err != nil {
		return err
	}
	return errors.Join(fn(n, d), d.umount(), d.remove())
}

// fuse compares metadata operations with those of the null file system.
func (f *figures) fuse(ctx context.Context) error {
	files := 20000
	if f.Short {
		files = 1000
	}
	return f.withBoth(ctx, func(n *nullMount, d *daemon) error {
		round := map[string]int{}
		// A job's files are in a new directory for each round of create, which
		// the others then use.
		on := func(dir, op string) side {
			return func(ctx context.Context) (sample, error) {
				key := dir + op
				at := filepath.Join(dir, fmt.Sprint("round", round[key]))
				round[key]++
				if err := os.MkdirAll(at, 0o755); err != nil {
					return sample{}, err
				}
				return f.self(nil, "--name="+op, "--ioengine=path", "--op="+op, "--directory="+at, fmt.Sprint("--nrfiles=", files))(ctx)
			}
		}
		for _, op := range []string{"create", "stat", "lookup", "readdir"} {
			s, err := f.interleave(ctx, "FUSE, "+op, 3, on(d.dir, op), on(n.dir, op))
			if err != nil {
				return err
			}
			rates := [2]float64{median(s[0], rateOf), median(s[1], rateOf)}
			f.least("FUSE, "+op+" against null", number(rates[0])+"/s", number(rates[1])+"/s", rates[0]/rates[1], 0.8, "")
		}
		return nil
	})
}

// data compares reads and writes with the sum of the null file system's and the
// device's.
func (f *figures) data(ctx context.Context) error {
	const runtime = "--runtime=1"
	size := int64(1 << 30)
	if f.Short {
		size = 64 << 20
	}
	device := filepath.Join(f.dir, "device")
	if err := layout(&Job{Filename: device, Size: size}); err != nil {
		return err
	}
	return errors.Join(f.withBoth(ctx, func(n *nullMount, d *daemon) error {
		// fio is the client of both mounts: a Go program's scheduler would add to
		// system calls that take long, but not to short ones.
		client := []string{"fio", "--ioengine=psync", "--direct=1", "--thread", "--output-format=json"}
		for _, dir := range []string{n.dir, d.dir} { // lays the files out
			if _, err := f.self(nil, "--name=layout", "--ioengine=path", "--op=read", "--bs=1m", "--runtime=0.1", fmt.Sprint("--size=", size), "--directory="+dir)(ctx); err != nil {
				return err
			}
		}
		for _, c := range []struct{ op, bs string }{{"randread", "4k"}, {"read", "1m"}, {"randwrite", "4k"}, {"write", "1m"}} {
			what := fmt.Sprintf("data, %s %s", c.op, c.bs)
			common := []string{"--name=data", "--rw=" + c.op, "--bs=" + c.bs, fmt.Sprint("--size=", size), runtime, "--time_based"}
			path := func(dir string) side {
				argv := slices.Concat(client, common, []string{"--filename=" + filepath.Join(dir, "data0")})
				return func(ctx context.Context) (sample, error) { return runForJSON(ctx, argv) }
			}
			s, err := f.interleave(ctx, what, 2, path(d.dir), path(n.dir), f.fio(append(common, "--filename="+device)...))
			if err != nil {
				return err
			}
			ours, null, dev := median(s[0], latOf), median(s[1], latOf), median(s[2], latOf)
			f.most(what+", time against null + device", number(ours)+" us", number(null)+" + "+number(dev)+" us", ours/(null+dev), 1.25, "")
		}
		return nil
	}), os.Remove(device))
}

// memory walks many files with small caches.
func (f *figures) memory(ctx context.Context) error {
	const budget = 64 // MiB
	files := 1000000
	if f.Short {
		files = 20000
	}
	d, err := f.newVolume()
	if err != nil {
		return err
	}
	f.Progress(fmt.Sprintf("  memory, make %d files", files))
	if err := populate(ctx, d, files); err != nil {
		return err
	}
	if err := d.mount(ctx, budget); err != nil {
		return err
	}
	return errors.Join(f.walk(ctx, d, files, budget), d.umount(), d.remove())
}

func (f *figures) walk(ctx context.Context, d *daemon, files int, budget float64) error {
	settle(ctx)
	idle, err := resident(d.pid, "VmRSS")
	if err != nil {
		return err
	}
	f.most("memory of an idle daemon", number(idle)+" MiB", "", idle, 80, " MiB")
	for _, op := range []string{"readdir", "lookup"} {
		f.Progress("  memory, " + op)
		if _, err := f.self(nil, "--name="+op, "--ioengine=path", "--op="+op, "--directory="+d.dir, fmt.Sprint("--nrfiles=", files))(ctx); err != nil {
			return err
		}
	}
	most, err := resident(d.pid, "VmHWM")
	if err != nil {
		return err
	}
	f.most(fmt.Sprintf("memory after walking %d files with %g MiB of caches, less idle, against these", files, budget),
		number(most-idle)+" MiB", number(budget)+" MiB", (most-idle)/budget, 1.2, "")
	return nil
}

// populate makes files on a volume that is not mounted, where jobs of the path
// engine look for them.
func populate(ctx context.Context, d *daemon, files int) error {
	j := defaultJob()
	j.Op, j.Files, j.Directory = "create", files, filepath.Dir(d.meta)
	v := &scratchVolume{dir: j.Directory}
	if err := v.mount(ctx, &j, d.meta, d.data); err != nil {
		return err
	}
	w := newVolumeWorker(&j, v.m.Volume(), 0)
	err := w.prepare(0)
	for i := 0; i < files && err == nil; i++ {
		err = w.create(i)
	}
	closing, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return errors.Join(err, v.m.Close(closing))
}
