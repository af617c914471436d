// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package volume

import (
	"context"
	"log/slog"
	"sync/atomic"
	"syscall"
	"time"

	"scoutfs/block"
	"scoutfs/format"
	"scoutfs/lock"
	"scoutfs/txn"
)

// Caller says who asks and how the request is interrupted. *Caller is a
// [context.Context] that is done when Cancel is closed; then calls that wait for
// archived data return EINTR, and those that wait for anything else if the
// caller is dying as well. It is read only during the call and must not be nil. The zero
// value is root, who cannot be interrupted.
type Caller struct {
	UID, GID uint32
	PID      int32
	Umask    uint32          // applied by calls that create, unless a default ACL is there
	Cancel   <-chan struct{} // nil: cannot be interrupted

	// Dying says, after Cancel was closed, whether the caller is being killed and
	// will not see a result. It may be asked again and again, also by another
	// goroutine. nil: that is what Cancel means.
	Dying func(c *Caller) bool

	// Capable says whether the caller has the Linux capability cap (CapXxx).
	// It is asked only where the kernel does not check. nil: UID 0 has all.
	Capable func(c *Caller, cap int) bool
}

// Capabilities that this package asks for.
const (
	CapDacReadSearch = 2
	CapSysAdmin      = 21
)

// Deadline implements [context.Context]: there is none.
func (c *Caller) Deadline() (time.Time, bool) { return time.Time{}, false }

// Done implements [context.Context].
func (c *Caller) Done() <-chan struct{} { return c.Cancel }

// Err implements [context.Context].
func (c *Caller) Err() error {
	select {
	case <-c.Cancel:
		return context.Canceled
	default:
		return nil
	}
}

// Value implements [context.Context]: there are none.
func (c *Caller) Value(any) any { return nil }

// Has reports whether the caller has a capability.
func (c *Caller) Has(capability int) bool {
	if c.Capable != nil {
		return c.Capable(c, capability)
	}
	return c.UID == 0
}

// Attr is an inode and its number.
type Attr struct {
	Ino format.Ino
	format.Inode
}

// Blocks512 is st_blocks: allocated and archived blocks, in 512 byte units.
func (a *Attr) Blocks512() uint64 { return (a.OnlineBlocks + a.OfflineBlocks) * 8 }

// SetAttr says which attributes [Volume.Setattr] sets, and to what.
type SetAttr struct {
	Valid        uint32 // SetMode ...
	Mode         uint32 // permission bits; the file type is ignored
	UID, GID     uint32
	Size         uint64 // bytes
	Atime, Mtime format.Timespec
	Ctime        format.Timespec
}

// Bits of SetAttr.Valid.
const (
	SetMode = 1 << iota
	SetUID
	SetGID
	SetSize
	SetAtime
	SetMtime
	SetCtime // without it ctime becomes now
	SetAtimeNow
	SetMtimeNow
	SetKillPriv // clear set-user-id, and set-group-id of files that the group may execute
)

// Flags of [Volume.Write].
const (
	// WriteAppend writes at the end of the file whatever the offset says.
	WriteAppend = 1 << iota
	// WriteSync commits before it returns.
	WriteSync
)

// Flags of [Volume.Setxattr].
const (
	XattrCreate   = 1
	XattrReplace  = 2
	XattrKillSGID = 1 << 16 // setting an access ACL clears set-group-id
)

// Flags of [Volume.Rename].
const (
	RenameNoreplace = 1
)

// Modes of [Volume.Fallocate].
const (
	FallocKeepSize = 1
)

// Whence of [Volume.Seek].
const (
	SeekData = 3
	SeekHole = 4
)

// DirEntry is one entry of a directory. Name is valid only during the
// callback that gets it.
type DirEntry struct {
	Ino  format.Ino
	Pos  uint64 // "." 0, ".." 1, others from 2; the next offset is Pos+1
	Type uint8  // DT_ value
	Name []byte
}

// Statfs is the answer of [Volume.Statfs]. Source: spec filesystem 6.2.
type Statfs struct {
	Type          uint32 // format.StatfsMagic
	Bsize, Frsize uint32 // 4096
	Namelen       uint32
	Blocks        uint64
	Bfree, Bavail uint64
	Files, Ffree  uint64
	Fsid          [2]uint32
	Inodes        uint64 // in use
}

// StatfsMore is the answer of [Volume.StatfsMore]. Source: spec interfaces 1.11.
type StatfsMore struct {
	Fsid               uint64
	Rid                format.Rid
	CommittedSeq       uint64
	TotalMetaBlocks    uint64 // 64 KiB
	TotalDataBlocks    uint64 // 4 KiB
	ReservedMetaBlocks uint64 // 64 KiB; 0 on mounts that do not run the server
}

// WalkEntry is an entry of an inode index. The minor of the interface is always 0.
type WalkEntry struct {
	Major uint64 // sequence number
	Ino   format.Ino
}

// Indexes of [Volume.WalkInodes].
const (
	IndexMetaSeq = 0
	IndexDataSeq = 1
)

// Path is the answer of [Volume.InoPath].
type Path struct {
	DirIno format.Ino // directory of the last component
	DirPos uint64
	Path   []byte // relative to the root, no leading slash, no NUL
}

// Referring is an entry that leads to an inode.
type Referring struct {
	DirIno format.Ino
	DirPos uint64
	Ino    format.Ino
	Type   uint8 // DT_ value
	Last   bool  // no further entry was there
	Name   string
}

// AllocEntry is one allocator of the volume. Source: spec interfaces 1.13.
type AllocEntry struct {
	ID     uint64
	Blocks uint64 // 64 KiB if Meta, else 4 KiB
	Meta   bool
	Avail  bool
}

// Extent is a run of blocks of a file.
type Extent struct {
	Iblock uint64       // first logical block
	Blocks uint64       // how many
	Blkno  format.Blkno // first block on the data device, 0 if there is none
	Flags  uint8        // format.ExtentOffline, format.ExtentUnwritten
}

// Service is what volume asks of the server. Its calls block, are repeated
// until answered, and give up only when ctx is done or the mount is aborted.
type Service interface {
	AllocInodes(ctx context.Context, count uint64) (format.NetInoRange, error)
	GetRoots(ctx context.Context) (format.NetRoots, error)
	GetLastSeq(ctx context.Context) (uint64, error)
	Statfs(ctx context.Context) (format.NetStatfs, error)
	// OpenInoMap returns which of the 1024 inodes from group*1024 any mount
	// has in use, this one included.
	OpenInoMap(ctx context.Context, group uint64) (bits [16]uint64, err error)
}

// KernelCache drops what the kernel caches of this mount. Its methods are
// called while a lock is revoked; they must not call the Volume.
type KernelCache interface {
	// InvalidateInode drops the attributes of ino, with pages also its pages.
	InvalidateInode(ino format.Ino, pages bool)
	// InvalidateNames drops all names and lets the kernel forget inodes that
	// are not in use.
	InvalidateNames()
}

// Tunables can be changed while the volume is in use. A zero field stands for
// its default.
type Tunables struct {
	DataPreallocBlocks atomic.Uint64 // blocks, default 2048
	RegionPrealloc     atomic.Bool   // true: data_prealloc_contig_only=0
	InoAllocPerLock    atomic.Uint64 // 1..1024, default 1024
	OrphanScanDelay    atomic.Int64  // nanoseconds, default 10 s
}

// Options of [Open]. All fields without a default are required.
type Options struct {
	Engine  *txn.Engine
	Locks   *lock.Client
	Service Service
	Cache   *block.Cache // metadata, for reads of committed trees
	Data    block.Device // file data

	Super    format.Super // as read at mount: fsid, version, uuid, totals
	Rid      format.Rid
	Tunables *Tunables   // default: all defaults
	NoACL    bool        // default: POSIX ACLs are on
	Kernel   KernelCache // default: nothing is cached

	// ServerClients says how many clients are connected if this mount runs the
	// server. Default: it does not.
	ServerClients func() (n int, serving bool)
	// NoOrphanScan turns off the periodic scan, for tests that call ScanOrphans.
	NoOrphanScan bool
	// Now is the clock for timestamps. Default: time.Now.
	Now func() time.Time
	Log *slog.Logger // default: slog.Default()
}

// errNoAttr says that an xattr is not there.
const errNoAttr = syscall.ENODATA
