// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package volume

import (
	"errors"
	"strings"
	"syscall"

	"scoutfs/format"
	"scoutfs/lock"
	"scoutfs/txn"
)

// checkXattrName refuses names outside of the name spaces.
// Source: spec filesystem 5.2.
func checkXattrName(name string) error {
	if isACLName(name) {
		return nil
	}
	for _, prefix := range [...]string{"user.", "trusted.", "security.", "scoutfs."} {
		if strings.HasPrefix(name, prefix) {
			if len(name) == len(prefix) {
				return syscall.EINVAL
			}
			return nil
		}
	}
	return syscall.EOPNOTSUPP
}

// xattr is a stored xattr as its first part tells.
type xattr struct {
	id     uint64
	valLen int
	parts  int
}

// findXattr looks an xattr up. The beginning of its value is returned in memory
// of o.buf. ENODATA if it is not there.
func (o *op) findXattr(lk *lock.Lock, ino format.Ino, name string) (x xattr, val []byte, err error) {
	hash := format.XattrNameHash(name)
	o.key = format.KeyXattr(ino, hash, 0, 0)
	o.last = format.KeyXattr(ino, hash, format.MaxKeyU64, 255)
	for {
		n, err := o.v.engine.Next(&o.wait, lk, &o.key, &o.last, o.buf[:])
		if notFound(err) {
			return x, nil, errNoAttr
		}
		if err != nil {
			return x, nil, err
		}
		if o.key.Fourth == 0 {
			h, got, val, ok := format.ParseXattr(o.buf[:min(n, len(o.buf))])
			if !ok {
				return x, nil, corrupt("xattr item %v of %d bytes", o.key, n)
			}
			if string(got) == name {
				x = xattr{id: o.key.Third, valLen: int(h.ValLen), parts: format.XattrParts(int(h.NameLen), int(h.ValLen))}
				return x, val, nil
			}
		}
		if o.key.Third == format.MaxKeyU64 {
			return x, nil, errNoAttr
		}
		o.key.Third, o.key.Fourth = o.key.Third+1, 0
	}
}

// readXattr copies the value of an xattr to buf, which must have room for it.
// val is what findXattr returned.
func (o *op) readXattr(lk *lock.Lock, ino format.Ino, name string, x xattr, val, buf []byte) error {
	n := copy(buf, val)
	hash := format.XattrNameHash(name)
	for part := 1; part < x.parts; part++ {
		o.key = format.KeyXattr(ino, hash, x.id, uint8(part))
		got, err := o.v.engine.Lookup(&o.wait, lk, &o.key, o.buf[:])
		if err != nil && !notFound(err) {
			return err
		}
		if err != nil || got != min(format.MaxValue, x.valLen-n) {
			return corrupt("xattr item %v is missing or has %d bytes", o.key, got)
		}
		n += copy(buf[n:], o.buf[:got])
	}
	return nil
}

// Getxattr copies the value of an xattr to buf and returns its length; with an
// empty buf only the length. ENODATA, ERANGE, EOPNOTSUPP.
func (v *Volume) Getxattr(c *Caller, ino format.Ino, name string, buf []byte) (int, error) {
	if len(name) > format.MaxNameLen {
		return 0, errNoAttr
	}
	if err := checkXattrName(name); err != nil {
		return 0, err
	}
	if isACLName(name) && !v.acls {
		return 0, syscall.EOPNOTSUPP
	}
	o := v.start(c)
	defer o.end()
	lk, err := o.lockRead(ino)
	if err != nil {
		return 0, err
	}
	st := &v.stripes[stripeOf(ino)]
	st.RLock()
	defer st.RUnlock()
	x, val, err := o.findXattr(lk, ino, name)
	if err != nil {
		return 0, err
	}
	if len(buf) == 0 {
		return x.valLen, nil
	}
	if len(buf) < x.valLen {
		return 0, syscall.ERANGE
	}
	return x.valLen, o.readXattr(lk, ino, name, x, val, buf)
}

// Setxattr sets an xattr. flags is 0, XattrCreate (EEXIST if it is there) or
// XattrReplace (ENODATA if it is not), and XattrKillSGID. ERANGE, E2BIG,
// EINVAL, EOPNOTSUPP, EPERM. Source: spec filesystem 5.2.
func (v *Volume) Setxattr(c *Caller, ino format.Ino, name string, val []byte, flags uint32) error {
	switch {
	case len(name) > format.MaxNameLen:
		return syscall.ERANGE
	case len(val) > format.MaxXattrValue:
		return syscall.E2BIG
	case flags&^(XattrCreate|XattrReplace|XattrKillSGID) != 0 || flags&(XattrCreate|XattrReplace) == XattrCreate|XattrReplace:
		return syscall.EINVAL
	}
	if isACLName(name) {
		return v.setACL(c, ino, name, val, flags)
	}
	if val == nil {
		val = []byte{}
	}
	return v.setXattr(c, ino, &xattrChange{name: name, val: val, flags: flags})
}

// Removexattr removes an xattr. ENODATA if it is not there.
func (v *Volume) Removexattr(c *Caller, ino format.Ino, name string) error {
	if len(name) > format.MaxNameLen {
		return syscall.ERANGE
	}
	if isACLName(name) {
		return v.setACL(c, ino, name, nil, XattrReplace)
	}
	return v.setXattr(c, ino, &xattrChange{name: name, flags: XattrReplace})
}

// xattrChange is what is to become of an xattr.
type xattrChange struct {
	name  string
	val   []byte // nil: remove it
	flags uint32
	tags  tagged

	totl, index *lock.Lock
}

// setXattr sets or removes an xattr that is no ACL.
func (v *Volume) setXattr(c *Caller, ino format.Ino, x *xattrChange) error {
	if err := checkXattrName(x.name); err != nil {
		return err
	}
	var err error
	if x.tags, err = parseTagged(x.name); err != nil {
		return err
	}
	if x.val != nil {
		if err := x.tags.checkValue(x.val); err != nil {
			return err
		}
	}
	if x.tags.set&format.TagIndx != 0 && v.vers < 2 {
		return syscall.EOPNOTSUPP
	}
	if x.tags.set != 0 && !c.Has(CapSysAdmin) {
		return syscall.EPERM
	}
	o := v.start(c)
	defer o.end()
	s, err := o.lockSlot(ino)
	if err != nil {
		return err
	}
	if err := o.lockTags(x); err != nil {
		return err
	}
	return o.change(txn.Allocating, func() error { return o.setXattrIn(s, x) })
}

// lockTags acquires what the tags of a name need.
func (o *op) lockTags(x *xattrChange) (err error) {
	if x.tags.set&format.TagTotl != 0 {
		if x.totl, err = o.acquire(lock.Totl(), format.LockWriteOnly); err != nil {
			return err
		}
	}
	if x.tags.set&format.TagIndx != 0 {
		x.index, err = o.acquire(lock.XattrIndex(), format.LockWriteOnly)
	}
	return err
}

// setXattrIn makes all changes in the open transaction.
func (o *op) setXattrIn(s *slot, x *xattrChange) error {
	if s.in.Flags&format.InodeRetention != 0 && strings.HasPrefix(x.name, "user.") {
		return syscall.EPERM
	}
	noop, err := o.storeXattr(s, x)
	if err != nil {
		return err
	}
	if !noop {
		s.in.Ctime = o.v.timestamp()
		s.in.Version++
	}
	return o.writeInode(s)
}

// storeXattr replaces the items of an xattr and does what its tags say. It
// does not store the inode. noop says that nothing had to change.
func (o *op) storeXattr(s *slot, x *xattrChange) (noop bool, err error) {
	old, val, err := o.findXattr(s.lk, s.ino, x.name)
	exists := err == nil
	switch {
	case err != nil && err != errNoAttr:
		return false, err
	case exists && x.flags&XattrCreate != 0:
		return false, syscall.EEXIST
	case !exists && x.flags&XattrReplace != 0:
		return false, errNoAttr
	case exists && x.val != nil && x.tags.set&format.TagIndx != 0:
		return true, nil
	}
	var oldTotal uint64
	if exists && x.tags.set&format.TagTotl != 0 {
		if oldTotal, err = totlValue(val, old.valLen); err != nil {
			return false, err
		}
	}
	id := old.id
	if !exists {
		id = s.in.NextXattrID
		s.in.NextXattrID++
	}
	if err := o.storeParts(s, x, id, old.parts); err != nil {
		return false, err
	}
	return false, o.tagEffects(s, x, id, exists, oldTotal)
}

// storeParts writes the items of an xattr that has oldParts of them now.
func (o *op) storeParts(s *slot, x *xattrChange, id uint64, oldParts int) error {
	hash := format.XattrNameHash(x.name)
	parts := 0
	if x.val != nil {
		parts = format.XattrParts(len(x.name), len(x.val))
	}
	rest := x.val
	for part := range parts {
		val := o.val[:0]
		if part == 0 {
			h := format.XattrHdr{ValLen: uint16(len(x.val)), NameLen: uint8(len(x.name))}
			val = append(append(val, format.Bytes(&h)...), x.name...)
		}
		n := min(len(rest), format.MaxValue-len(val))
		val = append(val, rest[:n]...)
		rest = rest[n:]
		o.key = format.KeyXattr(s.ino, hash, id, uint8(part))
		var err error
		if part < oldParts {
			err = o.tx.Update(s.lk, &o.key, val)
		} else {
			err = o.tx.Create(s.lk, &o.key, val)
		}
		if err != nil {
			return err
		}
	}
	for part := parts; part < oldParts; part++ {
		o.key = format.KeyXattr(s.ino, hash, id, uint8(part))
		if err := o.tx.Delete(s.lk, &o.key); err != nil {
			return entryError(err)
		}
	}
	return nil
}

// Listxattr copies the names of all xattrs but those with the tag hide to buf,
// each with a NUL, and returns how many bytes they need; with an empty buf only
// that. ERANGE if buf is too small. Source: spec filesystem 5.2.
func (v *Volume) Listxattr(c *Caller, ino format.Ino, buf []byte) (int, error) {
	n := 0
	err := v.walkXattrs(c, ino, 0, 0, func(_ uint32, _ uint64, name []byte) error {
		if len(buf) > 0 {
			if n+len(name)+1 > len(buf) {
				return syscall.ERANGE
			}
			copy(buf[n:], name)
			buf[n+len(name)] = 0
		}
		n += len(name) + 1
		return nil
	}, 0)
	if err != nil {
		return 0, err
	}
	return n, nil
}

// ListHidden copies names of xattrs with the tag hide to buf, each with a NUL,
// from the cursor (hash, id) on, and returns how many bytes it filled and the
// next cursor. It stops at the first name that does not fit.
func (v *Volume) ListHidden(c *Caller, ino format.Ino, hash uint32, id uint64, buf []byte) (n int, nextHash uint32, nextID uint64, err error) {
	nextHash, nextID = hash, id
	err = v.walkXattrs(c, ino, hash, id, func(hash uint32, id uint64, name []byte) error {
		if n+len(name)+1 > len(buf) {
			return errStop
		}
		n += copy(buf[n:], name)
		buf[n] = 0
		n++
		nextHash, nextID = hash, id+1
		return nil
	}, format.TagHide)
	if err == errStop {
		err = nil
	}
	return n, nextHash, nextID, err
}

// errStop ends a walk early.
var errStop = errors.New("volume: stop")

// walkXattrs calls fn for the names whose tag hide is as asked, in order of
// (hash, id) from a position on. fn must not block.
func (v *Volume) walkXattrs(c *Caller, ino format.Ino, hash uint32, id uint64, fn func(hash uint32, id uint64, name []byte) error, hide format.Tags) error {
	o := v.start(c)
	defer o.end()
	lk, err := o.lockRead(ino)
	if err != nil {
		return err
	}
	st := &v.stripes[stripeOf(ino)]
	st.RLock()
	defer st.RUnlock()
	o.key = format.KeyXattr(ino, hash, id, 0)
	for {
		name, err := o.nextXattr(lk, ino)
		if notFound(err) {
			return nil
		}
		if err != nil {
			return err
		}
		at := o.key
		tags, ok := format.ParseTags(string(name))
		if !ok {
			tags = 0
		}
		if tags&format.TagHide == hide {
			if err := fn(uint32(at.Second), at.Third, name); err != nil {
				return err
			}
		}
		if o.key, ok = afterXattr(at); !ok {
			return nil
		}
	}
}

// nextXattr reads the first part of the first xattr at or after o.key, which
// it moves there. The name is in o.buf. ENOENT if there is none.
func (o *op) nextXattr(lk *lock.Lock, ino format.Ino) (name []byte, err error) {
	for {
		o.last = format.KeyXattr(ino, 1<<32-1, format.MaxKeyU64, 255)
		o.last.Second = format.MaxKeyU64
		n, err := o.v.engine.Next(&o.wait, lk, &o.key, &o.last, o.buf[:])
		if err != nil {
			return nil, err
		}
		if o.key.Fourth == 0 {
			_, name, _, ok := format.ParseXattr(o.buf[:min(n, len(o.buf))])
			if !ok {
				return nil, corrupt("xattr item %v of %d bytes", o.key, n)
			}
			return name, nil
		}
		var ok bool
		if o.key, ok = afterXattr(o.key); !ok {
			return nil, syscall.ENOENT
		}
	}
}

// afterXattr is where the first xattr after that of key can begin.
func afterXattr(key format.Key) (format.Key, bool) {
	key.Fourth = 0
	if key.Third++; key.Third == 0 {
		key.Second++
	}
	return key, key.Third != 0 || key.Second != 0
}
