// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// FigureOptions say where and how figures are taken. Directory, Self and
// Scoutfs are required.
type FigureOptions struct {
	Directory string // for scratch files: a directory on ext4 with some ten GiB free
	Self      string // the program that runs jobs, with fio's command line
	Scoutfs   string // the scoutfs program
	Rounds    int    // of each figure; default 5
	Only      string // comma separated: ring, engine, fuse, data, memory; default all
	Short     bool   // smaller jobs, to see whether it works
	Progress  func(string)
}

// Figures measures what the project promises, as ratios of two sides that are
// measured in turn, and writes a table of medians. It needs root, fio and a
// loop device. It is no test: a figure that falls short is a line of the table,
// not an error.
func Figures(ctx context.Context, w io.Writer, o FigureOptions) (err error) {
	if o.Rounds <= 0 {
		o.Rounds = 5
	}
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	if _, err := exec.LookPath("fio"); err != nil {
		return fmt.Errorf("bench: figures compare with fio: %w", err)
	}
	f := &figures{FigureOptions: o}
	if f.dir, err = os.MkdirTemp(o.Directory, "figures-"); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(f.dir)) }()
	sections := []struct {
		name string
		run  func(context.Context) error
	}{
		{"ring", f.ring}, {"engine", f.engine}, {"fuse", f.fuse}, {"data", f.data}, {"memory", f.memory},
	}
	if _, err := fmt.Fprintf(w, "%s, %s\n\n", time.Now().Format("2006-01-02 15:04"), ThisMachine()); err != nil {
		return err
	}
	for _, s := range sections {
		if o.Only != "" && !slices.Contains(strings.Split(o.Only, ","), s.name) {
			continue
		}
		o.Progress(s.name)
		if err := s.run(ctx); err != nil {
			return fmt.Errorf("bench: figures of %s: %w", s.name, err)
		}
	}
	return f.print(w)
}

// figures is a run that is under way.
type figures struct {
	FigureOptions
	dir  string
	rows []figureRow
}

// figureRow is a line of the table.
type figureRow struct {
	what         string
	ours, theirs string
	value        float64
	limit        float64
	atLeast      bool // limit is the least, otherwise the greatest value
	unit         string
}

func (r *figureRow) good() bool {
	if r.atLeast {
		return r.value >= r.limit
	}
	return r.value <= r.limit
}

func (f *figures) print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, err := fmt.Fprintln(t, "figure\tours\tother\tvalue\tmust be\t")
	for _, r := range f.rows {
		verdict, sign := "", "<="
		if !r.good() {
			verdict = "SHORT"
		}
		if r.atLeast {
			sign = ">="
		}
		_, e := fmt.Fprintf(t, "%s\t%s\t%s\t%s%s\t%s %s%s\t%s\n", r.what, r.ours, r.theirs, number(r.value), r.unit, sign, number(r.limit), r.unit, verdict)
		err = errors.Join(err, e)
	}
	return errors.Join(err, t.Flush())
}

// number prints three digits that matter.
func number(v float64) string {
	switch {
	case v >= 1000:
		return fmt.Sprintf("%.0f", v)
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// least adds a row whose value must not be less than limit.
func (f *figures) least(what, ours, theirs string, value, limit float64, unit string) {
	f.rows = append(f.rows, figureRow{what, ours, theirs, value, limit, true, unit})
}

// most adds a row whose value must not be greater than limit.
func (f *figures) most(what, ours, theirs string, value, limit float64, unit string) {
	f.rows = append(f.rows, figureRow{what, ours, theirs, value, limit, false, unit})
}

// sample is one measurement of one side.
type sample struct {
	rate   float64 // operations a second
	cpu    float64 // microseconds of an operation
	lat    float64 // microseconds of an operation, mean
	p50    float64 // the same, median
	allocs float64 // of an operation
}

// side measures once.
type side func(context.Context) (sample, error)

// interleave measures sides in turn and returns the samples of each, one for
// each round. A sample is the mean of several slices, between which the sides
// take turns too, every other time backwards: what else a machine does comes in
// bursts, and should meet all sides.
func (f *figures) interleave(ctx context.Context, what string, slices int, sides ...side) ([][]sample, error) {
	f.Progress("  " + what)
	all := make([][]sample, len(sides))
	for range f.Rounds {
		sums := make([]sample, len(sides))
		for slice := range slices {
			for i := range sides {
				if slice%2 == 1 {
					i = len(sides) - 1 - i
				}
				s, err := sides[i](ctx)
				if err != nil {
					return nil, fmt.Errorf("%s: %w", what, err)
				}
				sums[i].add(s, float64(slices))
			}
		}
		for i := range sides {
			sums[i].rate = 1 / sums[i].rate
			all[i] = append(all[i], sums[i])
		}
	}
	return all, nil
}

// add adds one n-th of x. Of rates it adds the inverse.
func (s *sample) add(x sample, n float64) {
	s.rate += 1 / x.rate / n
	s.cpu += x.cpu / n
	s.lat += x.lat / n
	s.p50 += x.p50 / n
	s.allocs += x.allocs / n
}

func median(s []sample, of func(sample) float64) float64 {
	v := make([]float64, len(s))
	for i := range s {
		v[i] = of(s[i])
	}
	slices.Sort(v)
	if len(v)%2 == 1 {
		return v[len(v)/2]
	}
	return (v[len(v)/2-1] + v[len(v)/2]) / 2
}

func best(s []sample, of func(sample) float64) float64 {
	m := math.Inf(-1)
	for i := range s {
		m = max(m, of(s[i]))
	}
	return m
}

func rateOf(s sample) float64   { return s.rate }
func cpuOf(s sample) float64    { return s.cpu }
func latOf(s sample) float64    { return s.lat }
func p50Of(s sample) float64    { return s.p50 }
func allocsOf(s sample) float64 { return s.allocs }

// self is a side that runs a job by this program; before says what else runs
// it, such as taskset.
func (f *figures) self(before []string, args ...string) side {
	return func(ctx context.Context) (sample, error) {
		argv := slices.Concat(before, []string{f.Self}, args, []string{"--output-format=json", "--group_reporting"})
		return runForJSON(ctx, argv)
	}
}

// fio is a side that runs a job by fio's io_uring engine.
func (f *figures) fio(args ...string) side {
	return func(ctx context.Context) (sample, error) {
		argv := slices.Concat([]string{"fio", "--ioengine=io_uring", "--fixedbufs=1", "--registerfiles=1", "--direct=1", "--thread", "--group_reporting"}, args, []string{"--output-format=json"})
		return runForJSON(ctx, argv)
	}
}

// ring compares the ring with fio's.
func (f *figures) ring(ctx context.Context) (err error) {
	file := filepath.Join(f.dir, "ring")
	size := int64(1 << 30)
	if f.Short {
		size = 64 << 20
	}
	if err := layout(&Job{Filename: file, Size: size}); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(file)) }()
	if err := f.ringOn(ctx, "ext4 file", file, size); err != nil {
		return err
	}
	loop, detach, err := attachLoop(file)
	if err != nil {
		return err
	}
	return errors.Join(f.ringOn(ctx, "loop device", loop, size), detach())
}

func (f *figures) ringOn(ctx context.Context, where, path string, size int64) error {
	const runtime = "--runtime=1"
	for _, c := range []struct {
		rw, bs string
		depth  int
	}{
		{"randread", "4k", 1}, {"randread", "4k", 8}, {"randread", "4k", 32}, {"randread", "64k", 16}, {"randwrite", "4k", 32}, {"write", "1m", 8},
	} {
		args := []string{
			"--name=ring", "--filename=" + path, fmt.Sprint("--size=", size), "--rw=" + c.rw, "--bs=" + c.bs, fmt.Sprint("--iodepth=", c.depth),
			runtime, "--time_based",
		}
		what := fmt.Sprintf("ring, %s, %s %s depth %d", where, c.rw, c.bs, c.depth)
		s, err := f.interleave(ctx, what, 1, f.self(nil, args...), f.fio(args...))
		if err != nil {
			return err
		}
		rates := [2]float64{median(s[0], rateOf), median(s[1], rateOf)}
		limit := 0.95
		if c.depth == 1 {
			limit = 0.75
		}
		f.least(what+": rate", number(rates[0])+"/s", number(rates[1])+"/s", rates[0]/rates[1], limit, "")
		if c.depth > 1 {
			cpu := [2]float64{median(s[0], cpuOf), median(s[1], cpuOf)}
			f.most(what+": CPU", number(cpu[0])+" us", number(cpu[1])+" us", cpu[0]/cpu[1], 1.25, "")
		}
		f.most(what+": allocations", number(median(s[0], allocsOf)), "", math.Round(median(s[0], allocsOf)*10)/10, 0, "")
	}
	return nil
}

// engine measures the file system without FUSE on one core.
func (f *figures) engine(ctx context.Context) error {
	one := []string{"env", "GOMAXPROCS=1", "taskset", "-c", "0"}
	many, few := 1000000, 100000
	if f.Short {
		many, few = 20000, 5000
	}
	create := func(n int) side {
		return f.self(one, "--name=create", "--ioengine=volume", "--op=create", "--directory="+f.dir, fmt.Sprint("--nrfiles=", n))
	}
	s, err := f.interleave(ctx, "engine, create", 1, create(many), create(few))
	if err != nil {
		return err
	}
	top := best(s[0], rateOf)
	f.least(fmt.Sprintf("engine, create %d files, one core, commits included, best", many), number(top)+"/s", "", top, 100000, "/s")
	used := 1e6 / median(s[0], cpuOf)
	f.least(fmt.Sprintf("engine, create %d files, by CPU time", many), number(used)+"/s", "", used, 100000, "/s")
	rates := [2]float64{median(s[0], rateOf), median(s[1], rateOf)}
	f.least(fmt.Sprintf("engine, rate of %d creates against %d", many, few), number(rates[0])+"/s", number(rates[1])+"/s", rates[0]/rates[1], 0.8, "")
	hit := f.self(one, "--name=hit", "--ioengine=volume", "--op=lookupgetattr", "--directory="+f.dir, "--nrfiles=10000", "--runtime=1", "--time_based")
	if s, err = f.interleave(ctx, "engine, lookup+getattr", 1, hit); err != nil {
		return err
	}
	lat := 1e3 * median(s[0], p50Of)
	f.most("engine, lookup+getattr hit", number(lat)+" ns", "", lat, 1000, " ns")
	f.most("engine, lookup+getattr hit: allocations", number(median(s[0], allocsOf)), "", math.Round(median(s[0], allocsOf)*10)/10, 0, "")
	return nil
}
