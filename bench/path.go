// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// pathJob is a job on a mounted directory. Its files are D/dir<d>/f<n>, d and n
// by worker, so that workers do not meet; its data files are D/data<worker>.
type pathJob struct {
	j    *Job
	dirs []int // descriptors, of all workers
}

// pathWorker does the system calls of one worker on a thread of its own.
type pathWorker struct {
	*pathJob
	once  sync.Once
	dirs  []int
	files int // of this worker
	n     int
	fd    int // data file, -1 if there is none
	rng   *rand.Rand
	buf   []byte
	at    int64
	names []string
}

// pathExclusive is what pages of the directory's kernel caches must not answer.
const pathDropNames, pathDropPages = "2\n", "1\n"

func openPath(_ context.Context, j *Job) (*engine, error) {
	p := &pathJob{j: j}
	e := &engine{close: p.close}
	var err error
	for n := range j.NumJobs {
		w := &pathWorker{
			pathJob: p, files: j.Files / j.NumJobs, fd: -1, rng: rand.New(rand.NewPCG(j.Seed, uint64(n))),
			buf: page(max(j.BlockSize, 64<<10)),
		}
		if p.data() {
			err = errors.Join(err, w.openData(n))
		} else {
			err = errors.Join(err, w.openDirs(n))
		}
		e.workers = append(e.workers, w)
	}
	if err == nil && (j.Op == "lookup" || j.Op == "readdir") {
		err = dropCaches(pathDropNames)
	}
	if err == nil && p.data() {
		err = dropCaches(pathDropPages)
	}
	if err != nil {
		return nil, errors.Join(err, p.close())
	}
	return e, nil
}

// data reports whether the operation is about data.
func (p *pathJob) data() bool {
	switch p.j.Op {
	case "read", "write", "randread", "randwrite":
		return true
	}
	return false
}

// dropCaches makes the kernel forget what it can; everything, also of others.
func dropCaches(what string) error {
	unix.Sync()
	if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte(what), 0); err != nil {
		return fmt.Errorf("only root can measure what is not cached: %w", err)
	}
	return nil
}

func (p *pathJob) close() (err error) {
	for _, fd := range p.dirs {
		err = errors.Join(err, unix.Close(fd))
	}
	return err
}

// openDirs makes and opens the worker's directories.
func (w *pathWorker) openDirs(n int) error {
	for d := 0; d*w.j.DirFiles < w.files; d++ {
		path := fmt.Sprintf("%s/dir%d.%d", w.j.Directory, n, d)
		if err := os.Mkdir(path, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return &os.PathError{Op: "open", Path: path, Err: err}
		}
		w.dirs = append(w.dirs, fd)
		w.pathJob.dirs = append(w.pathJob.dirs, fd)
	}
	w.names = make([]string, w.files)
	for i := range w.names {
		w.names[i] = fmt.Sprintf("f%07d", i)
	}
	return nil
}

// openData opens the worker's data file, and lays it out if it is too short.
func (w *pathWorker) openData(n int) error {
	w.j.Size = max(w.j.Size, int64(w.j.BlockSize))
	w.j.Size -= w.j.Size % int64(w.j.BlockSize)
	path := fmt.Sprintf("%s/data%d", w.j.Directory, n)
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err == nil && st.Size < w.j.Size {
		buf := page(deviceLayout)
		for at := int64(0); at < w.j.Size && err == nil; at += int64(len(buf)) {
			_, err = unix.Pwrite(fd, buf[:min(int64(len(buf)), w.j.Size-at)], at)
		}
	}
	err = errors.Join(err, unix.Fsync(fd), unix.Close(fd))
	if err != nil {
		return &os.PathError{Op: "lay out", Path: path, Err: err}
	}
	flags := unix.O_RDWR | unix.O_CLOEXEC
	if !w.j.Buffered {
		flags |= unix.O_DIRECT
	}
	if w.fd, err = unix.Open(path, flags, 0); err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	w.pathJob.dirs = append(w.pathJob.dirs, w.fd)
	return nil
}

func (w *pathWorker) step() (step, error) {
	w.once.Do(runtime.LockOSThread)
	if w.fd >= 0 {
		return w.transfer()
	}
	if w.j.Op == "readdir" {
		return w.readdir()
	}
	if w.n >= w.files {
		if !w.j.TimeBased || w.j.Op == "create" || w.j.Op == "unlink" {
			return step{}, io.EOF
		}
		w.n = 0
	}
	dir, name := w.dirs[w.n/w.j.DirFiles], w.names[w.n]
	w.n++
	s := step{ops: 1}
	var err error
	start := time.Now()
	switch w.j.Op {
	case "create":
		s.dir = Write
		var fd int
		if fd, err = unix.Openat(dir, name, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_CLOEXEC, 0o644); err == nil {
			err = unix.Close(fd)
		}
	case "unlink":
		s.dir = Write
		err = unix.Unlinkat(dir, name, 0)
	case "stat":
		var st unix.Statx_t
		err = unix.Statx(dir, name, unix.AT_STATX_FORCE_SYNC, unix.STATX_BASIC_STATS, &st)
	case "lookup":
		var st unix.Stat_t
		err = unix.Fstatat(dir, name, &st, 0)
	}
	s.took = time.Since(start)
	if err != nil {
		err = &os.PathError{Op: w.j.Op, Path: name, Err: err}
	}
	return s, err
}

// readdir lists one directory; each entry is an operation.
func (w *pathWorker) readdir() (step, error) {
	if w.n >= len(w.dirs) {
		if !w.j.TimeBased {
			return step{}, io.EOF
		}
		w.n = 0
	}
	fd := w.dirs[w.n]
	w.n++
	start := time.Now()
	if _, err := unix.Seek(fd, 0, unix.SEEK_SET); err != nil {
		return step{}, err
	}
	entries := 0
	for {
		n, err := unix.Getdents(fd, w.buf)
		if err != nil {
			return step{}, &os.PathError{Op: "list", Path: w.j.Directory, Err: err}
		}
		if n == 0 {
			break
		}
		for b := w.buf[:n]; len(b) > 0; b = b[int(b[16])|int(b[17])<<8:] {
			entries++
		}
	}
	return step{ops: entries, took: time.Since(start) / time.Duration(max(entries, 1))}, nil
}

// transfer reads or writes one block.
func (w *pathWorker) transfer() (step, error) {
	bs := int64(w.j.BlockSize)
	off, err := w.j.nextBlock(&w.at, w.rng)
	if err != nil {
		return step{}, err
	}
	s := step{ops: 1, bytes: int(bs)}
	var n int
	start := time.Now()
	if w.j.Op == "read" || w.j.Op == "randread" {
		n, err = unix.Pread(w.fd, w.buf[:bs], off)
	} else {
		s.dir = Write
		n, err = unix.Pwrite(w.fd, w.buf[:bs], off)
	}
	s.took = time.Since(start)
	if err == nil && n != int(bs) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		err = fmt.Errorf("%s at %d: %w", w.j.Op, off, err)
	}
	return s, err
}
