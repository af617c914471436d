// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package fusefs

import (
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"scoutfs/format"
	"scoutfs/volume"
)

// Create makes and opens a file.
func (f *FS) Create(cancel <-chan struct{}, in *fuse.CreateIn, n string, out *fuse.CreateOut) fuse.Status {
	c := f.caller(&in.InHeader, cancel)
	c.Umask = in.Umask
	dir := Ino(in.NodeId)
	a, err := f.vol.Create(&c, dir, name(n), in.Mode)
	if err == syscall.EEXIST && in.Flags&syscall.O_EXCL == 0 {
		// Somebody else was faster than this kernel's lookup.
		a, err = f.vol.Lookup(&c, dir, n)
	}
	f.opened(in.Flags, &out.OpenOut)
	return f.entry(&a, err, &out.EntryOut)
}

// Tmpfile makes and opens a file without a name.
func (f *FS) Tmpfile(cancel <-chan struct{}, in *fuse.CreateIn, out *fuse.CreateOut) fuse.Status {
	c := f.caller(&in.InHeader, cancel)
	c.Umask = in.Umask
	a, err := f.vol.Tmpfile(&c, Ino(in.NodeId), in.Mode)
	f.opened(in.Flags, &out.OpenOut)
	return f.entry(&a, err, &out.EntryOut)
}

// Open opens a file. Its pages stay cached: the cluster lock covers them.
func (f *FS) Open(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	f.opened(in.Flags, out)
	return fuse.OK
}

func (f *FS) opened(flags uint32, out *fuse.OpenOut) {
	out.Fh = uint64(flags)
	out.OpenFlags = fuse.FOPEN_KEEP_CACHE
}

// Release closes a file.
func (f *FS) Release(<-chan struct{}, *fuse.ReleaseIn) {}

// Flush has nothing to do, since writes are never kept back. Its answer makes
// the kernel ask no more.
func (f *FS) Flush(<-chan struct{}, *fuse.FlushIn) fuse.Status { return fuse.ENOSYS }

// filled is the result of a read that is in the reply's buffer already.
type filled int

// Size implements fuse.ReadResult.
func (n filled) Size() int { return int(n) }

// Done implements fuse.ReadResult.
func (n filled) Done() {}

// Bytes implements fuse.ReadResult.
func (n filled) Bytes(buf []byte) ([]byte, fuse.Status) { return buf[:n], fuse.OK }

// Readv says that the data is where it has to go.
func (n filled) Readv([][]byte) (int, fuse.Status) { return int(n), fuse.OK }

// Read reads a file's data straight into the reply.
func (f *FS) Read(cancel <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	c := f.caller(&in.InHeader, cancel)
	n, err := f.vol.Read(&c, Ino(in.NodeId), int64(in.Offset), buf)
	if err != nil {
		return nil, f.errno(err)
	}
	return filled(n), fuse.OK
}

// Write writes a file's data.
func (f *FS) Write(cancel <-chan struct{}, in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	c := f.caller(&in.InHeader, cancel)
	var flags uint32
	if in.Flags&syscall.O_APPEND != 0 && in.WriteFlags&fuse.WRITE_CACHE == 0 {
		flags |= volume.WriteAppend
	}
	if in.Flags&syscall.O_DSYNC != 0 {
		flags |= volume.WriteSync
	}
	if in.WriteFlags&fuse.WRITE_KILL_SUIDGID != 0 {
		if err := f.killPriv(&c, Ino(in.NodeId)); err != nil {
			return 0, f.errno(err)
		}
	}
	n, _, err := f.vol.Write(&c, Ino(in.NodeId), int64(in.Offset), data, flags)
	if n > 0 {
		return uint32(n), fuse.OK
	}
	return 0, f.errno(err)
}

// killPriv takes set-user-id and set-group-id off a file that a caller without
// CAP_FSETID writes. The kernel asks for that with every such write, and does
// not know that the mode has changed unless it is told.
func (f *FS) killPriv(c *volume.Caller, ino format.Ino) error {
	a, err := f.vol.Getattr(c, ino)
	if err != nil || a.Mode&(syscall.S_ISUID|syscall.S_ISGID) == 0 {
		return err
	}
	if _, err := f.vol.Setattr(c, ino, &volume.SetAttr{Valid: volume.SetKillPriv}); err != nil {
		return err
	}
	if f.opts.Kernel != nil {
		f.opts.Kernel.InvalidateInode(ino, false)
	}
	return nil
}

// Writev is not used: requests come in one piece.
func (f *FS) Writev(<-chan struct{}, *fuse.WriteIn, [][]byte) (uint32, fuse.Status) {
	return 0, fuse.ENOSYS
}

// Lseek finds data and holes.
func (f *FS) Lseek(cancel <-chan struct{}, in *fuse.LseekIn, out *fuse.LseekOut) fuse.Status {
	c := f.caller(&in.InHeader, cancel)
	off, err := f.vol.Seek(&c, Ino(in.NodeId), int64(in.Offset), int(in.Whence))
	out.Offset = uint64(off)
	return f.errno(err)
}

// Fallocate preallocates space.
func (f *FS) Fallocate(cancel <-chan struct{}, in *fuse.FallocateIn) fuse.Status {
	c := f.caller(&in.InHeader, cancel)
	return f.errno(f.vol.Fallocate(&c, Ino(in.NodeId), in.Mode, int64(in.Offset), int64(in.Length)))
}

// Fsync commits.
func (f *FS) Fsync(cancel <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	c := f.caller(&in.InHeader, cancel)
	return f.errno(f.vol.Fsync(&c, Ino(in.NodeId)))
}
