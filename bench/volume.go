// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"scoutfs/block"
	"scoutfs/format"
	"scoutfs/mkfs"
	"scoutfs/mount"
	"scoutfs/volume"
)

const (
	scratchMeta = 24 << 30 // bytes, sparse
	scratchData = 64 << 30
	volumeBatch = 1 << 20 // bytes of one write that lays out a file
)

// scratchVolume is a new volume on two sparse files, mounted in this process
// without a kernel.
type scratchVolume struct {
	dir string
	m   *mount.Mount
}

func newScratchVolume(ctx context.Context, j *Job) (v *scratchVolume, err error) {
	v = new(scratchVolume)
	if v.dir, err = os.MkdirTemp(j.Directory, "volume-"); err != nil {
		return nil, err
	}
	if err = v.open(ctx, j); err != nil {
		return nil, errors.Join(err, v.close())
	}
	return v, nil
}

func (v *scratchVolume) open(ctx context.Context, j *Job) error {
	meta, data := filepath.Join(v.dir, "meta"), filepath.Join(v.dir, "data")
	if err := makeVolume(meta, data); err != nil {
		return err
	}
	return v.mount(ctx, j, meta, data)
}

func (v *scratchVolume) mount(ctx context.Context, j *Job, meta, data string) error {
	o := mount.DefaultOptions()
	o.MetadevPath, o.QuorumSlot = meta, 0
	var err error
	v.m, err = mount.Open(ctx, mount.Options{
		Device: data, MountOptions: o, RegistryDir: filepath.Join(v.dir, "registry"), CacheBudget: j.Budget, ItemBudget: j.Budget,
		NoRing: j.NoRing, Log: slog.New(slog.DiscardHandler),
	})
	return err
}

// makeVolume makes an empty volume on two new sparse files. Its quorum slot 0
// has an address that is free now.
func makeVolume(meta, data string) error {
	addr, err := freeAddr()
	if err != nil {
		return err
	}
	if err := errors.Join(sparse(meta, scratchMeta), sparse(data, scratchData)); err != nil {
		return err
	}
	m, err := block.Open(meta, block.OpenOptions{})
	if err != nil {
		return err
	}
	d, err := block.Open(data, block.OpenOptions{})
	if err != nil {
		return errors.Join(err, m.Close())
	}
	_, err = mkfs.Format(m, d, mkfs.Options{Slots: map[int]netip.AddrPort{0: addr}, AllowSmall: true, Force: true})
	return errors.Join(err, m.Close(), d.Close())
}

func freeAddr() (netip.AddrPort, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return netip.AddrPort{}, err
	}
	addr := l.Addr().(*net.TCPAddr).AddrPort()
	return netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port()), l.Close()
}

// close unmounts and removes the volume.
func (v *scratchVolume) close() error {
	var err error
	if v.m != nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		err = v.m.Close(ctx)
	}
	return errors.Join(err, os.RemoveAll(v.dir))
}

// volumeWorker makes calls of one worker, on files in directories of its own.
type volumeWorker struct {
	j     *Job
	v     *volume.Volume
	c     *volume.Caller
	dirs  []format.Ino
	inos  []format.Ino // of the files; data operations: of one file
	names []string
	n     int
	files int
	ended bool
	rng   *rand.Rand
	buf   []byte
	at    int64
}

func openVolume(ctx context.Context, j *Job) (*engine, error) {
	sv, err := newScratchVolume(ctx, j)
	if err != nil {
		return nil, err
	}
	e := &engine{close: sv.close}
	for n := range j.NumJobs {
		w := newVolumeWorker(j, sv.m.Volume(), n)
		err = errors.Join(err, w.prepare(n))
		e.workers = append(e.workers, w)
	}
	if err != nil {
		return nil, errors.Join(err, sv.close())
	}
	return e, nil
}

func newVolumeWorker(j *Job, v *volume.Volume, n int) *volumeWorker {
	return &volumeWorker{
		j: j, v: v, c: &volume.Caller{}, files: j.Files / j.NumJobs, rng: rand.New(rand.NewPCG(j.Seed, uint64(n))),
	}
}

// prepare makes what the operation needs.
func (w *volumeWorker) prepare(n int) error {
	switch w.j.Op {
	case "read", "write", "randread", "randwrite":
		return w.prepareData(n)
	}
	for d := 0; d*w.j.DirFiles < w.files; d++ {
		a, err := w.v.Mkdir(w.c, format.RootIno, fmt.Sprintf("dir%d.%d", n, d), 0o755)
		if err != nil {
			return err
		}
		w.dirs = append(w.dirs, a.Ino)
	}
	w.names = make([]string, w.files)
	w.inos = make([]format.Ino, w.files)
	for i := range w.names {
		w.names[i] = fmt.Sprintf("f%07d", i)
	}
	if w.j.Op == "create" {
		return nil
	}
	for i := range w.files {
		if err := w.create(i); err != nil {
			return err
		}
	}
	return w.v.Fsync(w.c, format.RootIno)
}

func (w *volumeWorker) prepareData(n int) error {
	w.j.Size = max(w.j.Size, int64(w.j.BlockSize))
	w.j.Size -= w.j.Size % int64(w.j.BlockSize)
	a, err := w.v.Create(w.c, format.RootIno, fmt.Sprint("data", n), 0o644)
	if err != nil {
		return err
	}
	w.inos = []format.Ino{a.Ino}
	w.buf = block.AlignedBuf(w.j.BlockSize)
	big := block.AlignedBuf(volumeBatch)
	defer block.FreeBuf(big)
	for at := int64(0); at < w.j.Size; at += volumeBatch {
		if _, _, err := w.v.Write(w.c, a.Ino, at, big[:min(volumeBatch, w.j.Size-at)], 0); err != nil {
			return err
		}
	}
	return w.v.Fsync(w.c, a.Ino)
}

// create makes file i, without a reference of a kernel.
func (w *volumeWorker) create(i int) error {
	a, err := w.v.Create(w.c, w.dirs[i/w.j.DirFiles], w.names[i], 0o644)
	if err == nil {
		w.inos[i] = a.Ino
		w.v.Forget(a.Ino, 1)
	}
	return err
}

func (w *volumeWorker) step() (s step, err error) {
	if len(w.buf) > 0 {
		return w.transfer()
	}
	if w.n >= w.files {
		return w.end()
	}
	if w.j.Op == "readdirplus" || w.j.Op == "walk" {
		return w.list()
	}
	s.ops = min(fastOps, w.files-w.n)
	start := time.Now()
	for range s.ops {
		i := w.n
		switch w.j.Op {
		case "create":
			s.dir = Write
			err = w.create(i)
		case "unlink":
			s.dir = Write
			err = w.v.Unlink(w.c, w.dirs[i/w.j.DirFiles], w.names[i])
		case "getattr":
			_, err = w.v.Getattr(w.c, w.inos[i])
		default:
			var a volume.Attr
			a, err = w.v.Lookup(w.c, w.dirs[i/w.j.DirFiles], w.names[i])
			if err == nil && w.j.Op == "lookupgetattr" {
				_, err = w.v.Getattr(w.c, a.Ino)
			}
		}
		if err != nil {
			return s, fmt.Errorf("%s %s: %w", w.j.Op, w.names[i], err)
		}
		w.n++
	}
	s.took = time.Since(start) / time.Duration(s.ops)
	if w.j.Op == "lookup" || w.j.Op == "lookupgetattr" {
		for _, ino := range w.inos[w.n-s.ops : w.n] {
			w.v.Forget(ino, 1)
		}
	}
	return s, nil
}

// end commits what was changed, which counts, and begins again if there is time.
func (w *volumeWorker) end() (step, error) {
	changes := w.j.Op == "create" || w.j.Op == "unlink"
	if w.ended || !changes && !w.j.TimeBased {
		return step{}, io.EOF
	}
	if changes {
		w.ended = true
		return step{dir: Write}, w.v.Fsync(w.c, format.RootIno)
	}
	w.n = 0
	return step{}, nil
}

// list reads one directory with attributes, in pieces as a kernel asks for them.
func (w *volumeWorker) list() (s step, err error) {
	dir := w.dirs[w.n/w.j.DirFiles]
	w.n += w.j.DirFiles
	start := time.Now()
	const piece = 300
	for pos, more := uint64(0), true; more && err == nil; {
		more = false
		n := 0
		err = w.v.ReadDirPlus(w.c, dir, pos, func(e *volume.DirEntry, a *volume.Attr) bool {
			if n == piece {
				more = true
				return false
			}
			pos = e.Pos + 1
			if a != nil {
				n++
				w.inos[s.ops] = e.Ino
				s.ops++
			}
			return true
		})
	}
	s.took = time.Since(start) / time.Duration(max(s.ops, 1))
	for _, ino := range w.inos[:s.ops] {
		w.v.Forget(ino, 1)
	}
	return s, err
}

// transfer reads or writes one block of the data file.
func (w *volumeWorker) transfer() (step, error) {
	bs := int64(w.j.BlockSize)
	off, err := w.j.nextBlock(&w.at, w.rng)
	if err != nil {
		return step{}, err
	}
	s := step{ops: 1, bytes: int(bs)}
	start := time.Now()
	if w.j.Op == "read" || w.j.Op == "randread" {
		_, err = w.v.Read(w.c, w.inos[0], off, w.buf)
	} else {
		s.dir = Write
		_, _, err = w.v.Write(w.c, w.inos[0], off, w.buf, 0)
	}
	s.took = time.Since(start)
	return s, err
}
