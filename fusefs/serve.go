// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package fusefs

import (
	"log"
	"log/slog"

	"github.com/hanwen/go-fuse/v2/fuse"

	"scoutfs/fuseconn"
)

// capabilities are what we ask of the kernel beyond go-fuse's own list:
// programs need them, see spec filesystem 9.
const capabilities = fuse.CAP_DONT_MASK | fuse.CAP_EXPORT_SUPPORT | fuse.CAP_IOCTL_DIR | fuse.CAP_ASYNC_DIO |
	fuse.CAP_HANDLE_KILLPRIV_V2 | fuse.CAP_SETXATTR_EXT | fuse.CAP_CACHE_SYMLINKS

// maxBackground is how many requests the kernel may send without waiting, so
// that page writes of a revocation do not queue behind readahead.
const maxBackground = 512

// Handler answers the requests of one mount: pass it to [fuseconn.Conn.Serve].
func (f *FS) Handler() fuseconn.Handler {
	return fuse.NewProtocolServer(f, &fuse.MountOptions{
		MaxWrite:                 fuseconn.MaxWrite,
		MaxBackground:            maxBackground,
		ExtraCapabilities:        capabilities,
		EnableAcl:                !f.opts.NoACL,
		EnableSymlinkCaching:     true,
		ExplicitDataCacheControl: true,
		PanicHandler: func(r any) fuse.Status {
			panic(r) // the program is wrong: end before it does harm
		},
		Logger: quiet(f.log),
	})
}

// MountOptions are the options that a mount of the volume gives to the
// kernel's FUSE.
func MountOptions() []string { return []string{"default_permissions", "allow_other"} }

// quiet hands go-fuse's own messages to our log.
func quiet(l *slog.Logger) *log.Logger { return slog.NewLogLogger(l.Handler(), slog.LevelDebug) }
