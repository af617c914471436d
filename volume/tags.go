// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package volume

import (
	"syscall"

	"scoutfs/format"
	"scoutfs/lock"
)

// tagged is what the name of an xattr says.
type tagged struct {
	set   format.Tags
	total [3]uint64 // totl: a, b, c
	major uint8     // indx
	minor uint64
}

// parseTagged checks and decodes a name. EINVAL if its tags are wrong.
func parseTagged(name string) (t tagged, err error) {
	var ok bool
	if t.set, ok = format.ParseTags(name); !ok {
		return t, syscall.EINVAL
	}
	if t.set&format.TagTotl != 0 {
		if t.total, ok = format.ParseTotlName(name); !ok {
			return t, syscall.EINVAL
		}
	}
	if t.set&format.TagIndx != 0 {
		if t.major, t.minor, ok = format.ParseIndxName(name); !ok {
			return t, syscall.EINVAL
		}
	}
	return t, nil
}

// checkValue refuses values that the tags do not allow.
func (t *tagged) checkValue(val []byte) error {
	if t.set&format.TagTotl != 0 {
		if _, ok := format.ParseNumber(val); !ok {
			return syscall.EINVAL
		}
	}
	if t.set&format.TagIndx != 0 && len(val) > 0 {
		return syscall.EINVAL
	}
	return nil
}

// totlValue decodes the stored value of a totl xattr, which always is in the
// first part.
func totlValue(val []byte, valLen int) (uint64, error) {
	n, ok := format.ParseNumber(val)
	if !ok || len(val) != valLen {
		return 0, corrupt("value of a totl xattr of %d bytes", valLen)
	}
	return n, nil
}

// tagEffects changes what hangs on an xattr's tags after it was created,
// replaced (existed) or removed. oldTotal is the value that a totl xattr had.
// Source: spec filesystem 5.4 to 5.6.
func (o *op) tagEffects(s *slot, x *xattrChange, id uint64, existed bool, oldTotal uint64) error {
	t, gone := &x.tags, x.val == nil
	if t.set&format.TagSrch != 0 && existed == gone {
		e := format.SrchEntry{Hash: format.Hash64(x.name), Ino: s.ino, ID: id}
		if err := o.tx.AddSrch(e); err != nil {
			return err
		}
	}
	if t.set&format.TagTotl != 0 {
		total, count := -oldTotal, uint64(0)
		if existed {
			count--
		}
		if !gone {
			n, _ := format.ParseNumber(x.val)
			total, count = total+n, count+1
		}
		if total != 0 || count != 0 {
			o.key = format.KeyTotl(t.total[0], t.total[1], t.total[2])
			if err := o.tx.Delta(x.totl, &o.key, total, count); err != nil {
				return err
			}
		}
	}
	if t.set&format.TagIndx != 0 {
		o.key = format.KeyXattrIndex(t.major, t.minor, s.ino, id)
		if gone {
			return o.tx.DeleteForce(x.index, &o.key, s.lk)
		}
		return o.tx.CreateForce(x.index, &o.key, nil, s.lk)
	}
	return nil
}

// deleteXattrs removes all xattrs of an inode that is being deleted, each in a
// transaction of its own with what hangs on its tags.
// Source: spec filesystem 5.7.
func (o *op) deleteXattrs(s *slot) error {
	for {
		o.key = format.KeyXattr(s.ino, 0, 0, 0)
		o.last = o.key
		o.last.Second, o.last.Third, o.last.Fourth = format.MaxKeyU64, format.MaxKeyU64, 255
		n, err := o.v.engine.Next(&o.wait, s.lk, &o.key, &o.last, o.buf[:])
		if notFound(err) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := o.deleteXattr(s, o.key, o.buf[:min(n, len(o.buf))]); err != nil {
			return err
		}
	}
}

// deleteXattr removes the xattr whose first remaining part is given. If that
// is not part 0 the tags have had their effect.
func (o *op) deleteXattr(s *slot, key format.Key, val []byte) error {
	x := xattrChange{}
	var id, oldTotal uint64
	if key.Fourth == 0 {
		h, name, v, ok := format.ParseXattr(val)
		if !ok {
			return corrupt("xattr item %v of %d bytes", key, len(val))
		}
		x.name, id = string(name), key.Third
		if t, err := parseTagged(x.name); err == nil {
			x.tags = t
		}
		if x.tags.set&format.TagTotl != 0 {
			var err error
			if oldTotal, err = totlValue(v, int(h.ValLen)); err != nil {
				return err
			}
		}
	}
	n := o.nlocks
	defer o.releaseFrom(n)
	if err := o.lockTags(&x); err != nil {
		return err
	}
	return o.deleteStep(s, func() error {
		if x.tags.set != 0 {
			if err := o.tagEffects(s, &x, id, true, oldTotal); err != nil {
				return err
			}
		}
		return o.deleteParts(s.lk, key)
	})
}

// deleteParts removes the item of key and those of the parts that follow it.
func (o *op) deleteParts(lk *lock.Lock, key format.Key) error {
	for {
		o.key = key
		if err := o.tx.Delete(lk, &o.key); err != nil {
			return err
		}
		last := key
		last.Fourth = 255
		if key.Fourth == 255 {
			return nil
		}
		key.Fourth++
		o.key, o.last = key, last
		_, err := o.v.engine.Next(&o.wait, lk, &o.key, &o.last, o.buf[:0])
		if notFound(err) {
			return nil
		}
		if err != nil {
			return err
		}
		key = o.key
	}
}
