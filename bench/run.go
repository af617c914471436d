// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Direction is what fio's report sorts operations by.
type Direction int

const (
	Read  Direction = iota // reads, and what changes nothing
	Write                  // writes, and what changes something
)

// Stats are the operations of one direction.
type Stats struct {
	Ops, Bytes uint64
	Lat        Histogram
}

// Result is what a job came to.
type Result struct {
	Job     *Job
	Dirs    [2]Stats
	Elapsed time.Duration
	User    time.Duration // CPU time of the process
	System  time.Duration
	Allocs  uint64             // heap allocations of the process
	Extra   map[string]float64 // further figures of the engine, by name
}

// Ops is the number of operations of both directions.
func (r *Result) Ops() uint64 { return r.Dirs[Read].Ops + r.Dirs[Write].Ops }

// Rate is operations per second.
func (r *Result) Rate() float64 { return float64(r.Ops()) / r.Elapsed.Seconds() }

// step is what a worker did in one call.
type step struct {
	dir   Direction
	ops   int
	bytes int
	took  time.Duration // of each operation
}

// worker does the operations of a job, on one goroutine. It returns io.EOF when
// the job's work is done; with TimeBased it begins again instead.
type worker interface {
	step() (step, error)
}

// engine makes the workers of a job; close gives back what they used.
type engine struct {
	workers []worker
	close   func() error
	// ownTime: the time that counts is that of the steps, not of the clock.
	ownTime bool
	// extra, if not nil, adds figures after the run.
	extra func(map[string]float64) error
}

// openers open engines by name.
var openers = map[string]func(ctx context.Context, j *Job) (*engine, error){
	"device": openDevice,
	"btree":  openBtree,
	"commit": openCommit,
	"volume": openVolume,
	"path":   openPath,
}

// Run does a job. It blocks until the job has ended or ctx is done. There is
// one result, or with Job.Each as many as NumJobs.
func Run(ctx context.Context, j *Job) ([]*Result, error) {
	e, err := openers[j.Engine](ctx, j)
	if err != nil {
		return nil, fmt.Errorf("bench: %s: %w", j.Name, err)
	}
	results, err := drive(ctx, j, e)
	if e.close != nil {
		err = errors.Join(err, e.close())
	}
	if err != nil {
		return nil, fmt.Errorf("bench: %s: %w", j.Name, err)
	}
	return results, nil
}

// drive runs the workers of an engine to their end.
func drive(ctx context.Context, j *Job, e *engine) ([]*Result, error) {
	if j.Runtime > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, j.Runtime)
		defer cancel()
	}
	parts := make([]*Result, len(e.workers))
	errs := make([]error, len(e.workers))
	runtime.GC()
	before := measureProcess()
	var wg sync.WaitGroup
	for i, w := range e.workers {
		parts[i] = &Result{Job: j}
		wg.Go(func() { errs[i] = loop(ctx, w, parts[i]) })
	}
	wg.Wait()
	used := measureProcess().minus(before)
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if e.ownTime {
		used.at = 0
		for _, p := range parts {
			used.at += int64(p.Dirs[Read].Lat.sum+p.Dirs[Write].Lat.sum) / int64(len(parts))
		}
	}
	results := combine(j, parts, used)
	if e.extra != nil {
		results[0].Extra = make(map[string]float64)
		if err := e.extra(results[0].Extra); err != nil {
			return nil, err
		}
	}
	return results, nil
}

// loop drives one worker.
func loop(ctx context.Context, w worker, r *Result) error {
	done := ctx.Done()
	for {
		select {
		case <-done:
			return nil
		default:
		}
		s, err := w.step()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		d := &r.Dirs[s.dir]
		d.Ops += uint64(s.ops)
		d.Bytes += uint64(s.bytes)
		d.Lat.Add(s.took, s.ops)
	}
}

// combine makes the job's results of those of its workers, and shares out what
// was measured of the process.
func combine(j *Job, parts []*Result, used usage) []*Result {
	n := 1
	if j.Each {
		n = j.NumJobs
	}
	results := make([]*Result, n)
	for i := range results {
		results[i] = &Result{
			Job: j, Elapsed: time.Duration(used.at), User: used.user / time.Duration(n), System: used.system / time.Duration(n),
			Allocs: used.mallocs / uint64(n),
		}
	}
	for i, p := range parts {
		r := results[i*n/len(parts)]
		for d := range p.Dirs {
			r.Dirs[d].Ops += p.Dirs[d].Ops
			r.Dirs[d].Bytes += p.Dirs[d].Bytes
			r.Dirs[d].Lat.merge(&p.Dirs[d].Lat)
		}
	}
	return results
}

// usage is what a process has used.
type usage struct {
	at           int64 // ns
	user, system time.Duration
	mallocs      uint64
}

func (u usage) minus(b usage) usage {
	return usage{u.at - b.at, u.user - b.user, u.system - b.system, u.mallocs - b.mallocs}
}

var epoch = time.Now()

func measureProcess() usage {
	var r unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &r) // cannot fail
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return usage{int64(time.Since(epoch)), time.Duration(r.Utime.Nano()), time.Duration(r.Stime.Nano()), m.Mallocs}
}
