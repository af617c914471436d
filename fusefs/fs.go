// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

// Package fusefs turns FUSE requests into calls of a [volume.Volume], and
// serves the status tree of a mount as a small FUSE file system of its own.
//
// It keeps nothing about inodes or open files. A FUSE node id is a fixed
// function of the inode number ([NodeID]), and a file handle is the flags that
// the file was opened with. Requests run to their end on the loop that read
// them; package fuseconn reads others meanwhile.
//
// The kernel checks permissions (default_permissions) and caches names,
// attributes and pages without a time limit: cluster locks cover them, and
// before a lock goes away [Kernel] makes the kernel forget what it covered.
// FUSE_WRITEBACK_CACHE is never negotiated, so every write comes here at once.
package fusefs

import (
	"errors"
	"log/slog"
	"math/bits"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"scoutfs/format"
	"scoutfs/volume"
)

// forever is the time, in seconds, for which the kernel may keep what it was
// told. Cluster locks end it.
const forever = 10 * 365 * 24 * 3600

// Options of [New].
type Options struct {
	Log           *slog.Logger // slog.Default() if nil
	NoACL         bool         // POSIX ACLs are neither checked nor changed
	FormatVersion uint64       // the volume's, 1 or 2
	Kernel        *Kernel      // is told what changes behind the kernel's back; may be nil
}

// FS answers FUSE requests from a volume.
type FS struct {
	fuse.RawFileSystem // answers ENOSYS to what is not here
	vol                *volume.Volume
	opts               Options
	log                *slog.Logger

	mu           sync.Mutex
	complained   string    // last error that was logged; guarded by mu
	complainedAt time.Time // guarded by mu
}

var _ fuse.RawFileSystem = (*FS)(nil)

// New returns a file system that serves v.
func New(v *volume.Volume, o Options) *FS {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	return &FS{RawFileSystem: fuse.NewDefaultRawFileSystem(), vol: v, opts: o, log: o.Log}
}

// String names the file system.
func (f *FS) String() string { return "scoutfs" }

// Init does nothing: notifications go through fuseconn.
func (f *FS) Init(*fuse.Server) {}

// NodeID is the FUSE node id of an inode: its number with the halves swapped,
// so that the first 8 bytes of a file handle are the number as the original
// stores it. The root must have 1; the inode whose swapped number is 1 takes
// the root's place. Source: spec filesystem 9, row "file handles".
func NodeID(ino format.Ino) uint64 {
	if ino == format.RootIno || ino == 1<<32 {
		return uint64(ino)
	}
	return bits.RotateLeft64(uint64(ino), 32)
}

// Ino undoes [NodeID].
func Ino(node uint64) format.Ino {
	if node == 1 || node == 1<<32 {
		return format.Ino(node)
	}
	return format.Ino(bits.RotateLeft64(node, 32))
}

// errno is the one table from errors to what the kernel hands to programs.
// What becomes EIO is logged: users see only the number.
func (f *FS) errno(err error) fuse.Status {
	if err == nil {
		return fuse.OK
	}
	var stale *format.StaleError
	var e syscall.Errno
	switch {
	case errors.As(err, &stale): // readers retry these; one that comes here is damage
	case errors.As(err, &e):
	default:
		for _, known := range []syscall.Errno{
			syscall.ENOENT, syscall.EEXIST, syscall.EINTR, syscall.ENOSPC, syscall.EDQUOT, syscall.EPERM, syscall.EACCES,
			syscall.ENOTEMPTY, syscall.ENODATA, syscall.ERANGE, syscall.EINVAL, syscall.ESTALE, syscall.ENOLINK, syscall.ESHUTDOWN,
		} {
			if errors.Is(err, known) {
				e = known
				break
			}
		}
	}
	switch e {
	case 0, syscall.EIO:
		f.complain(err)
		return fuse.EIO
	case syscall.ENOBUFS: // means "again" inside, users must not see it
		return fuse.Status(syscall.ENOSPC)
	}
	return fuse.Status(e)
}

// complain logs an error, but the same text at most once in ten seconds.
func (f *FS) complain(err error) {
	text := err.Error()
	f.mu.Lock()
	again := f.complained == text && time.Since(f.complainedAt) < 10*time.Second
	f.complained, f.complainedAt = text, time.Now()
	f.mu.Unlock()
	if !again {
		f.log.Error("request failed with EIO", "err", text)
	}
}

// caller describes who asks. The umask is set by the requests that carry one.
func (f *FS) caller(h *fuse.InHeader, cancel <-chan struct{}) volume.Caller {
	return volume.Caller{UID: h.Uid, GID: h.Gid, PID: int32(h.Pid), Cancel: cancel, Dying: f.dying, Capable: capable}
}

func timespec(sec uint64, nsec uint32) format.Timespec { return format.Timespec{Sec: sec, Nsec: nsec} }

// fillAttr converts attributes to what the kernel wants.
func fillAttr(a *volume.Attr, out *fuse.Attr) {
	out.Ino = uint64(a.Ino)
	out.Size = a.Size
	out.Blocks = a.Blocks512()
	out.Atime, out.Atimensec = a.Atime.Sec, a.Atime.Nsec
	out.Mtime, out.Mtimensec = a.Mtime.Sec, a.Mtime.Nsec
	out.Ctime, out.Ctimensec = a.Ctime.Sec, a.Ctime.Nsec
	out.Mode = a.Mode
	out.Nlink = a.Nlink
	out.Uid, out.Gid = a.UID, a.GID
	out.Rdev = encodeDev(a.Rdev)
	out.Blksize = format.SmallSize
}

// encodeDev converts a device number from the items' form, major<<20 | minor,
// to that of the FUSE protocol.
func encodeDev(d uint32) uint32 {
	major, minor := d>>20, d&0xfffff
	return minor&0xff | major<<8 | minor&^0xff<<12
}

func decodeDev(d uint32) uint32 {
	major, minor := d&0xfff00>>8, d&0xff|d>>12&0xfff00
	return major<<20 | minor
}

func fillEntry(a *volume.Attr, out *fuse.EntryOut) {
	out.NodeId = NodeID(a.Ino)
	out.EntryValid = forever
	out.AttrValid = forever
	fillAttr(a, &out.Attr)
}

// entry answers a request that made or found an inode.
func (f *FS) entry(a *volume.Attr, err error, out *fuse.EntryOut) fuse.Status {
	if err != nil {
		return f.errno(err)
	}
	fillEntry(a, out)
	return fuse.OK
}

// name makes a string that may be kept from one that shares memory with the
// request.
func name(s string) string { return strings.Clone(s) }

// Forget drops references of the kernel.
func (f *FS) Forget(node, n uint64) { f.vol.Forget(Ino(node), n) }

// GetAttr is stat.
func (f *FS) GetAttr(cancel <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	c := f.caller(&in.InHeader, cancel)
	a, err := f.vol.Getattr(&c, Ino(in.NodeId))
	if err != nil {
		return f.errno(err)
	}
	out.AttrValid = forever
	fillAttr(&a, &out.Attr)
	return fuse.OK
}

// Statx is statx with the time of birth, which GetAttr can't carry.
func (f *FS) Statx(cancel <-chan struct{}, in *fuse.StatxIn, out *fuse.StatxOut) fuse.Status {
	c := f.caller(&in.InHeader, cancel)
	a, err := f.vol.Getattr(&c, Ino(in.NodeId))
	if err != nil {
		return f.errno(err)
	}
	const basicAndBirth = 0xfff
	out.AttrValid = forever
	s := &out.Statx
	s.Mask = basicAndBirth
	s.Blksize = format.SmallSize
	s.Nlink, s.Uid, s.Gid = a.Nlink, a.UID, a.GID
	s.Mode = uint16(a.Mode)
	s.Ino = uint64(a.Ino)
	s.Size, s.Blocks = a.Size, a.Blocks512()
	s.Atime, s.Mtime = sxTime(a.Atime), sxTime(a.Mtime)
	s.Ctime, s.Btime = sxTime(a.Ctime), sxTime(a.Crtime)
	s.RdevMajor, s.RdevMinor = a.Rdev>>20, a.Rdev&0xfffff
	return fuse.OK
}

func sxTime(t format.Timespec) fuse.SxTime { return fuse.SxTime{Sec: t.Sec, Nsec: t.Nsec} }

// SetAttr is chmod, chown, truncate and utimes.
func (f *FS) SetAttr(cancel <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	c := f.caller(&in.InHeader, cancel)
	s := volume.SetAttr{
		Mode: in.Mode, UID: in.Owner.Uid, GID: in.Owner.Gid, Size: in.Size,
		Atime: timespec(in.Atime, in.Atimensec), Mtime: timespec(in.Mtime, in.Mtimensec), Ctime: timespec(in.Ctime, in.Ctimensec),
	}
	for _, b := range [...]struct{ fuse, volume uint32 }{
		{fuse.FATTR_MODE, volume.SetMode},
		{fuse.FATTR_UID, volume.SetUID},
		{fuse.FATTR_GID, volume.SetGID},
		{fuse.FATTR_SIZE, volume.SetSize},
		{fuse.FATTR_ATIME, volume.SetAtime},
		{fuse.FATTR_MTIME, volume.SetMtime},
		{fuse.FATTR_ATIME_NOW, volume.SetAtimeNow},
		{fuse.FATTR_MTIME_NOW, volume.SetMtimeNow},
		{fuse.FATTR_CTIME, volume.SetCtime},
		{fuse.FATTR_KILL_SUIDGID, volume.SetKillPriv},
	} {
		if in.Valid&b.fuse != 0 {
			s.Valid |= b.volume
		}
	}
	a, err := f.vol.Setattr(&c, Ino(in.NodeId), &s)
	if err != nil {
		return f.errno(err)
	}
	out.AttrValid = forever
	fillAttr(&a, &out.Attr)
	return fuse.OK
}

// StatFs is statfs.
func (f *FS) StatFs(cancel <-chan struct{}, in *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	c := f.caller(in, cancel)
	s, err := f.vol.Statfs(&c)
	if err != nil {
		return f.errno(err)
	}
	out.Blocks, out.Bfree, out.Bavail = s.Blocks, s.Bfree, s.Bavail
	out.Files, out.Ffree = s.Files, s.Ffree
	out.Bsize, out.Frsize, out.NameLen = s.Bsize, s.Frsize, s.Namelen
	return fuse.OK
}
