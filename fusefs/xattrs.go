// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package fusefs

import (
	"strings"

	"github.com/hanwen/go-fuse/v2/fuse"

	"scoutfs/volume"
)

// GetXAttr reads an xattr; an empty dest asks for its size.
func (f *FS) GetXAttr(cancel <-chan struct{}, h *fuse.InHeader, attr string, dest []byte) (uint32, fuse.Status) {
	if f.aclOff(attr) {
		return 0, fuse.ENOTSUP
	}
	c := f.caller(h, cancel)
	n, err := f.vol.Getxattr(&c, Ino(h.NodeId), attr, dest)
	return uint32(n), f.errno(err)
}

// ListXAttr lists names; an empty dest asks for their size.
func (f *FS) ListXAttr(cancel <-chan struct{}, h *fuse.InHeader, dest []byte) (uint32, fuse.Status) {
	c := f.caller(h, cancel)
	n, err := f.vol.Listxattr(&c, Ino(h.NodeId), dest)
	return uint32(n), f.errno(err)
}

// SetXAttr creates or replaces an xattr.
func (f *FS) SetXAttr(cancel <-chan struct{}, in *fuse.SetXAttrIn, attr string, data []byte) fuse.Status {
	if f.aclOff(attr) {
		return fuse.ENOTSUP
	}
	c := f.caller(&in.InHeader, cancel)
	flags := in.Flags
	if in.SetXAttrFlags&fuse.SETXATTR_ACL_KILL_SGID != 0 {
		flags |= volume.XattrKillSGID
	}
	return f.errno(f.vol.Setxattr(&c, Ino(in.NodeId), name(attr), data, flags))
}

// RemoveXAttr removes an xattr.
func (f *FS) RemoveXAttr(cancel <-chan struct{}, h *fuse.InHeader, attr string) fuse.Status {
	if f.aclOff(attr) {
		return fuse.ENOTSUP
	}
	c := f.caller(h, cancel)
	return f.errno(f.vol.Removexattr(&c, Ino(h.NodeId), attr))
}

func (f *FS) aclOff(attr string) bool {
	return f.opts.NoACL && strings.HasPrefix(attr, "system.posix_acl_")
}
