// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package volume

import (
	"encoding/binary"
	"syscall"

	"scoutfs/format"
	"scoutfs/txn"
)

// Names of the xattrs that hold POSIX ACLs.
const (
	accessACL  = "system.posix_acl_access"
	defaultACL = "system.posix_acl_default"
)

func isACLName(name string) bool { return name == accessACL || name == defaultACL }

// Tags of ACL entries, and the layout of the xattr: a 4 byte version, then
// entries of 8 bytes (tag, permissions, id).
const (
	aclUserObj  = 0x01
	aclUser     = 0x02
	aclGroupObj = 0x04
	aclGroup    = 0x08
	aclMask     = 0x10
	aclOther    = 0x20

	aclVersion   = 2
	aclHdrSize   = 4
	aclEntrySize = 8
	aclNoID      = 1<<32 - 1
)

// aclEntry is one entry of an ACL.
type aclEntry struct {
	tag, perm uint16
	id        uint32
}

// acl is a POSIX ACL; nil is none.
type acl []aclEntry

// parseACL decodes the value of an ACL's xattr; a header alone is no ACL. EOPNOTSUPP
// for other versions, EINVAL for other sizes.
func parseACL(b []byte) (acl, error) {
	if len(b) == 0 {
		return nil, nil
	}
	if len(b) < aclHdrSize {
		return nil, syscall.EINVAL
	}
	if binary.LittleEndian.Uint32(b) != aclVersion {
		return nil, syscall.EOPNOTSUPP
	}
	b = b[aclHdrSize:]
	if len(b)%aclEntrySize != 0 {
		return nil, syscall.EINVAL
	}
	var a acl
	for ; len(b) > 0; b = b[aclEntrySize:] {
		a = append(a, aclEntry{
			tag: binary.LittleEndian.Uint16(b), perm: binary.LittleEndian.Uint16(b[2:]), id: binary.LittleEndian.Uint32(b[4:]),
		})
	}
	return a, nil
}

// bytes encodes a.
func (a acl) bytes() []byte {
	b := binary.LittleEndian.AppendUint32(make([]byte, 0, aclHdrSize+len(a)*aclEntrySize), aclVersion)
	for _, e := range a {
		id := e.id
		if e.tag != aclUser && e.tag != aclGroup {
			id = aclNoID
		}
		b = binary.LittleEndian.AppendUint16(b, e.tag)
		b = binary.LittleEndian.AppendUint16(b, e.perm)
		b = binary.LittleEndian.AppendUint32(b, id)
	}
	return b
}

// valid reports whether a has the entries that an ACL needs, in order.
func (a acl) valid() bool {
	next, mask := uint16(aclUserObj), false
	for _, e := range a {
		if e.perm&^7 != 0 {
			return false
		}
		switch {
		case e.tag == aclUserObj && next == aclUserObj:
			next = aclUser
		case e.tag == aclUser && next == aclUser && e.id != aclNoID:
			mask = true
		case e.tag == aclGroupObj && next == aclUser:
			next = aclGroup
		case e.tag == aclGroup && next == aclGroup && e.id != aclNoID:
			mask = true
		case e.tag == aclMask && next == aclGroup:
			next = aclOther
		case e.tag == aclOther && (next == aclOther || (next == aclGroup && !mask)):
			next = 0
		default:
			return false
		}
	}
	return next == 0
}

// mode returns the permission bits that say the same as a, and whether they
// say all of it.
func (a acl) mode() (mode uint32, equivalent bool) {
	equivalent = true
	for _, e := range a {
		p := uint32(e.perm & 7)
		switch e.tag {
		case aclUserObj:
			mode |= p << 6
		case aclGroupObj:
			mode |= p << 3
		case aclOther:
			mode |= p
		case aclMask:
			mode = mode&^0o070 | p<<3
			equivalent = false
		default:
			equivalent = false
		}
	}
	return mode, equivalent
}

// group is the entry that the group bits of a mode stand for.
func (a acl) group() *aclEntry {
	var group *aclEntry
	for i := range a {
		if e := &a[i]; e.tag == aclMask {
			return e
		} else if e.tag == aclGroupObj {
			group = e
		}
	}
	return group
}

// create restricts a, a directory's default ACL, by the mode of a create call
// and the mode by a. equivalent says that the mode says all of a.
func (a acl) create(mode uint32) (newMode uint32, equivalent bool) {
	equivalent = true
	group := a.group()
	for i := range a {
		switch e := &a[i]; e.tag {
		case aclUserObj:
			e.perm &= uint16(mode >> 6)
			mode = mode&^0o700 | uint32(e.perm)<<6
		case aclOther:
			e.perm &= uint16(mode)
			mode = mode&^0o007 | uint32(e.perm)
		case aclUser, aclGroup, aclMask:
			equivalent = false
		}
	}
	if group != nil {
		group.perm &= uint16(mode >> 3)
		mode = mode&^0o070 | uint32(group.perm)<<3
	}
	return mode, equivalent
}

// chmod makes a say what the permission bits say.
func (a acl) chmod(mode uint32) {
	for i := range a {
		switch e := &a[i]; e.tag {
		case aclUserObj:
			e.perm = uint16(mode >> 6 & 7)
		case aclOther:
			e.perm = uint16(mode & 7)
		}
	}
	if e := a.group(); e != nil {
		e.perm = uint16(mode >> 3 & 7)
	}
}

// newACLs are the ACLs that a new inode gets.
type newACLs struct{ access, def acl }

// getACL reads an ACL. The inode's lock and mutex are held.
func (o *op) getACL(s *slot, name string) (acl, error) {
	x, val, err := o.findXattr(s.lk, s.ino, name)
	if err == errNoAttr {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	buf := make([]byte, x.valLen)
	if err := o.readXattr(s.lk, s.ino, name, x, val, buf); err != nil {
		return nil, err
	}
	a, err := parseACL(buf)
	if err != nil || (a != nil && !a.valid()) {
		return nil, corrupt("ACL %s of inode %d", name, s.ino)
	}
	return a, nil
}

// inheritACLs gives the new inode s what the default ACL of dir says, or else
// applies the caller's umask to its mode. Source: spec filesystem 5.8.
func (o *op) inheritACLs(dir, s *slot) (n newACLs, err error) {
	if s.in.Mode&modeType == modeLnk {
		return n, nil
	}
	var def acl
	if o.v.acls {
		if def, err = o.getACL(dir, defaultACL); err != nil {
			return n, err
		}
	}
	if def == nil {
		s.in.Mode &^= o.c.Umask & 0o777
		return n, nil
	}
	if isDir(&s.in) {
		n.def = append(acl(nil), def...)
	}
	mode, equivalent := def.create(s.in.Mode & 0o777)
	s.in.Mode = s.in.Mode&^0o777 | mode&0o777
	if !equivalent {
		n.access = def
	}
	return n, nil
}

// storeACLs creates the xattrs of a new inode's ACLs.
func (o *op) storeACLs(s *slot, n *newACLs) error {
	for _, a := range [...]struct {
		name string
		acl  acl
	}{{accessACL, n.access}, {defaultACL, n.def}} {
		if a.acl == nil {
			continue
		}
		id := s.in.NextXattrID
		s.in.NextXattrID++
		x := xattrChange{name: a.name, val: a.acl.bytes()}
		if err := o.storeParts(s, &x, id, 0); err != nil {
			return err
		}
	}
	return nil
}

// chmodACL makes the access ACL say what s.in.Mode says.
func (o *op) chmodACL(s *slot) error {
	if !o.v.acls {
		return nil
	}
	a, err := o.getACL(s, accessACL)
	if err != nil || a == nil {
		return err
	}
	a.chmod(s.in.Mode)
	_, err = o.storeXattr(s, &xattrChange{name: accessACL, val: a.bytes(), flags: XattrReplace})
	return err
}

// setACL sets an ACL, or removes it if the value has no entries.
func (v *Volume) setACL(c *Caller, ino format.Ino, name string, val []byte, flags uint32) error {
	if !v.acls {
		return syscall.EOPNOTSUPP
	}
	a, err := parseACL(val)
	if err != nil {
		return err
	}
	if a != nil && !a.valid() {
		return syscall.EINVAL
	}
	o := v.start(c)
	defer o.end()
	s, err := o.lockSlot(ino)
	if err != nil {
		return err
	}
	return o.change(txn.Allocating, func() error { return o.setACLIn(s, name, a, flags) })
}

// setACLIn makes all changes of setting an ACL in the open transaction. An
// access ACL changes the mode, and is not stored if the mode says all of it.
func (o *op) setACLIn(s *slot, name string, a acl, flags uint32) error {
	in := &s.in
	if in.Mode&modeType == modeLnk {
		return syscall.EOPNOTSUPP
	}
	if name == defaultACL && !isDir(in) {
		if a != nil {
			return syscall.EINVAL
		}
		return nil
	}
	if name == accessACL && a != nil {
		mode, equivalent := a.mode()
		in.Mode = in.Mode&^0o777 | mode
		if flags&XattrKillSGID != 0 {
			in.Mode &^= modeSGID
		}
		if equivalent {
			a = nil
		}
	}
	x := xattrChange{name: name}
	if a != nil {
		x.val = a.bytes()
	} else {
		x.flags = XattrReplace
	}
	if _, err := o.storeXattr(s, &x); err != nil && !(err == errNoAttr && a == nil) {
		return err
	}
	in.Ctime = o.v.timestamp()
	in.Version++
	return o.writeInode(s)
}
