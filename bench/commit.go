// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"scoutfs/format"
	"scoutfs/volume"
)

// commitRounds is how many commits a job without a runtime does.
const commitRounds = 20

// commitWorker makes files without timing it, and times the commit.
type commitWorker struct {
	j      *Job
	v      *volume.Volume
	c      *volume.Caller
	rounds int
}

func openCommit(ctx context.Context, j *Job) (*engine, error) {
	if j.NumJobs != 1 {
		return nil, errors.New("a mount has one open transaction")
	}
	sv, err := newScratchVolume(ctx, j)
	if err != nil {
		return nil, err
	}
	w := &commitWorker{j: j, v: sv.m.Volume(), c: &volume.Caller{}}
	return &engine{workers: []worker{w}, close: sv.close, ownTime: true, extra: func(m map[string]float64) error {
		m["files/commit"] = float64(j.Files)
		return nil
	}}, nil
}

func (w *commitWorker) step() (step, error) {
	if w.rounds++; w.rounds > commitRounds && !w.j.TimeBased {
		return step{}, io.EOF
	}
	dir, err := w.v.Mkdir(w.c, format.RootIno, fmt.Sprint("round", w.rounds), 0o755)
	if err != nil {
		return step{}, err
	}
	for i := range w.j.Files {
		a, err := w.v.Create(w.c, dir.Ino, fmt.Sprint("f", i), 0o644)
		if err != nil {
			return step{}, err
		}
		w.v.Forget(a.Ino, 1)
	}
	start := time.Now()
	err = w.v.Fsync(w.c, format.RootIno)
	return step{dir: Write, ops: 1, took: time.Since(start)}, err
}
