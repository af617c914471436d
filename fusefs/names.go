// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package fusefs

import (
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"scoutfs/format"
	"scoutfs/volume"
)

// Lookup finds a name. A name that is not there is told to the kernel as an
// entry without inode, so that it is cached as well.
func (f *FS) Lookup(cancel <-chan struct{}, h *fuse.InHeader, n string, out *fuse.EntryOut) fuse.Status {
	c := f.caller(h, cancel)
	a, err := f.vol.Lookup(&c, Ino(h.NodeId), n)
	if err == syscall.ENOENT {
		out.EntryValid = forever
		return fuse.OK
	}
	return f.entry(&a, err, out)
}

// Mknod makes files of any type but directories.
func (f *FS) Mknod(cancel <-chan struct{}, in *fuse.MknodIn, n string, out *fuse.EntryOut) fuse.Status {
	c := f.caller(&in.InHeader, cancel)
	c.Umask = in.Umask
	a, err := f.vol.Mknod(&c, Ino(in.NodeId), name(n), in.Mode, decodeDev(in.Rdev))
	return f.entry(&a, err, out)
}

// Mkdir makes a directory.
func (f *FS) Mkdir(cancel <-chan struct{}, in *fuse.MkdirIn, n string, out *fuse.EntryOut) fuse.Status {
	c := f.caller(&in.InHeader, cancel)
	c.Umask = in.Umask
	a, err := f.vol.Mkdir(&c, Ino(in.NodeId), name(n), in.Mode)
	return f.entry(&a, err, out)
}

// Symlink makes a symbolic link.
func (f *FS) Symlink(cancel <-chan struct{}, h *fuse.InHeader, target, n string, out *fuse.EntryOut) fuse.Status {
	c := f.caller(h, cancel)
	a, err := f.vol.Symlink(&c, Ino(h.NodeId), name(n), name(target))
	return f.entry(&a, err, out)
}

// Readlink reads a symbolic link.
func (f *FS) Readlink(cancel <-chan struct{}, h *fuse.InHeader) ([]byte, fuse.Status) {
	c := f.caller(h, cancel)
	s, err := f.vol.Readlink(&c, Ino(h.NodeId))
	return []byte(s), f.errno(err)
}

// Link gives an inode another name.
func (f *FS) Link(cancel <-chan struct{}, in *fuse.LinkIn, n string, out *fuse.EntryOut) fuse.Status {
	c := f.caller(&in.InHeader, cancel)
	a, err := f.vol.Link(&c, Ino(in.Oldnodeid), Ino(in.NodeId), name(n))
	return f.entry(&a, err, out)
}

// Unlink removes a name that is not a directory's.
func (f *FS) Unlink(cancel <-chan struct{}, h *fuse.InHeader, n string) fuse.Status {
	c := f.caller(h, cancel)
	return f.errno(f.vol.Unlink(&c, Ino(h.NodeId), n))
}

// Rmdir removes an empty directory.
func (f *FS) Rmdir(cancel <-chan struct{}, h *fuse.InHeader, n string) fuse.Status {
	c := f.caller(h, cancel)
	return f.errno(f.vol.Rmdir(&c, Ino(h.NodeId), n))
}

// Rename moves a name.
func (f *FS) Rename(cancel <-chan struct{}, in *fuse.RenameIn, from, to string) fuse.Status {
	c := f.caller(&in.InHeader, cancel)
	return f.errno(f.vol.Rename(&c, Ino(in.NodeId), from, Ino(in.Newdir), name(to), in.Flags))
}

// OpenDir opens a directory.
func (f *FS) OpenDir(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	out.Fh = uint64(in.Flags)
	return fuse.OK
}

// ReleaseDir closes a directory.
func (f *FS) ReleaseDir(*fuse.ReleaseIn) {}

// ReadDir lists names.
func (f *FS) ReadDir(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	c := f.caller(&in.InHeader, cancel)
	n := 0
	err := f.vol.ReadDir(&c, Ino(in.NodeId), in.Offset, func(e *volume.DirEntry) bool {
		n++
		return out.AddDirEntry(dirEntry(e))
	})
	return f.listed(err, n)
}

// ReadDirPlus lists names with attributes. Each entry but "." and ".." counts
// as a lookup.
func (f *FS) ReadDirPlus(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	c := f.caller(&in.InHeader, cancel)
	n := 0
	err := f.vol.ReadDirPlus(&c, Ino(in.NodeId), in.Offset, func(e *volume.DirEntry, a *volume.Attr) bool {
		n++
		eo := out.AddDirLookupEntry(dirEntry(e))
		if eo == nil {
			return false
		}
		if e.Pos >= format.FirstReaddirPos && a != nil {
			fillEntry(a, eo)
		}
		return true
	})
	return f.listed(err, n)
}

// listed drops an error that comes after entries were given: the next call
// meets it again.
func (f *FS) listed(err error, n int) fuse.Status {
	if n > 0 {
		return fuse.OK
	}
	return f.errno(err)
}

// dirEntry describes e for the reply, into which the name is copied at once.
func dirEntry(e *volume.DirEntry) fuse.DirEntry {
	return fuse.DirEntry{Ino: uint64(e.Ino), Off: e.Pos + 1, Mode: uint32(e.Type) << 12, Name: shared(e.Name)}
}

// FsyncDir commits.
func (f *FS) FsyncDir(cancel <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	c := f.caller(&in.InHeader, cancel)
	return f.errno(f.vol.Fsync(&c, Ino(in.NodeId)))
}
