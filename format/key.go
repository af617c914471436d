// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package format

import (
	"cmp"
	"fmt"
	"math/bits"
)

// Key is the 32 byte key of a btree item. It sorts by Zone, First, Type,
// Second, Third, Fourth, which is not the order in memory.
// Source: spec format 4.
type Key struct {
	First  uint64
	Second uint64
	Third  uint64
	Fourth uint8
	Zone   uint8
	Type   uint8
	_      [5]byte // zero: hashes cover it
}

// Zones are the most significant part of a key.
const (
	ZoneInodeIndex    = 4
	ZoneOrphan        = 8
	ZoneQuota         = 10
	ZoneTotl          = 12
	ZoneXattrIndex    = 14
	ZoneFS            = 16
	ZoneRename        = 20 // a lock's name; never stored
	ZoneLogTrees      = 24
	ZoneMountedClient = 28
	ZoneSrch          = 32
	ZoneFreeBlkno     = 36
	ZoneFreeOrder     = 40
	ZoneMergeStatus   = 44
	ZoneMergeRange    = 48
	ZoneMergeRequest  = 52
	ZoneMergeComplete = 56
	ZoneMergeFreeing  = 60
)

// Types within a zone.
const (
	TypeMetaSeq  = 4 // ZoneInodeIndex
	TypeDataSeq  = 8
	TypeOrphan   = 4 // ZoneOrphan
	TypeQuota    = 4 // ZoneQuota
	TypeInode    = 4 // ZoneFS, as are those below
	TypeXattr    = 8
	TypeDirent   = 12
	TypeReaddir  = 16
	TypeBackref  = 20
	TypeSymlink  = 24
	TypeExtent   = 28
	TypeRename   = 4 // ZoneRename
	TypeSrchLog  = 4 // ZoneSrch, as are those below
	TypeSrchFile = 8
	TypeSrchPend = 12
	TypeSrchBusy = 16
)

// KeyMax is the greatest key ("ones"): it ends the right spine of every tree.
var KeyMax = Key{First: MaxKeyU64, Second: MaxKeyU64, Third: MaxKeyU64, Fourth: 255, Zone: 255, Type: 255}

// Compare orders keys; it returns -1, 0 or 1.
func (k *Key) Compare(o *Key) int {
	if k.Zone != o.Zone {
		return cmp.Compare(k.Zone, o.Zone)
	}
	if k.First != o.First {
		return cmp.Compare(k.First, o.First)
	}
	if k.Type != o.Type {
		return cmp.Compare(k.Type, o.Type)
	}
	if k.Second != o.Second {
		return cmp.Compare(k.Second, o.Second)
	}
	if k.Third != o.Third {
		return cmp.Compare(k.Third, o.Third)
	}
	return cmp.Compare(k.Fourth, o.Fourth)
}

// Less reports whether k sorts before o.
func (k *Key) Less(o *Key) bool { return k.Compare(o) < 0 }

// Inc returns the key that follows k; KeyMax wraps to the zero key.
func (k Key) Inc() Key {
	if k.Fourth++; k.Fourth != 0 {
		return k
	}
	if k.Third++; k.Third != 0 {
		return k
	}
	if k.Second++; k.Second != 0 {
		return k
	}
	if k.Type++; k.Type != 0 {
		return k
	}
	if k.First++; k.First != 0 {
		return k
	}
	k.Zone++
	return k
}

// Dec returns the key that precedes k; the zero key wraps to KeyMax.
func (k Key) Dec() Key {
	if k.Fourth--; k.Fourth != 255 {
		return k
	}
	if k.Third--; k.Third != MaxKeyU64 {
		return k
	}
	if k.Second--; k.Second != MaxKeyU64 {
		return k
	}
	if k.Type--; k.Type != 255 {
		return k
	}
	if k.First--; k.First != MaxKeyU64 {
		return k
	}
	k.Zone--
	return k
}

// String gives the text form zone.first.type.second.third.fourth.
func (k Key) String() string {
	return fmt.Sprintf("%d.%d.%d.%d.%d.%d", k.Zone, k.First, k.Type, k.Second, k.Third, k.Fourth)
}

// KeyMetaSeq is the index item of ino by meta_seq.
func KeyMetaSeq(seq uint64, ino Ino) Key {
	return Key{Zone: ZoneInodeIndex, Type: TypeMetaSeq, Second: seq, Third: uint64(ino)}
}

// KeyDataSeq is the index item of the regular file ino by data_seq.
func KeyDataSeq(seq uint64, ino Ino) Key {
	return Key{Zone: ZoneInodeIndex, Type: TypeDataSeq, Second: seq, Third: uint64(ino)}
}

// KeyOrphan is the item that says that ino has no link.
func KeyOrphan(ino Ino) Key { return Key{Zone: ZoneOrphan, Type: TypeOrphan, Second: uint64(ino)} }

// KeyTotl is the total named a.b.c.
func KeyTotl(a, b, c uint64) Key { return Key{Zone: ZoneTotl, First: a, Second: b, Third: c} }

// KeyXattrIndex is the index item of an indx tagged xattr: 8 + 64 + 64 + 64
// bits packed most significant first. Source: spec format 9.7.
func KeyXattrIndex(major uint8, minor uint64, ino Ino, id uint64) Key {
	return Key{
		Zone:   ZoneXattrIndex,
		First:  uint64(major)<<56 | minor>>8,
		Second: minor<<56 | uint64(ino)>>8,
		Third:  uint64(ino)<<56 | id>>8,
		Fourth: uint8(id),
	}
}

// XattrIndex undoes [KeyXattrIndex].
func (k *Key) XattrIndex() (major uint8, minor uint64, ino Ino, id uint64) {
	return uint8(k.First >> 56), k.First<<8 | k.Second>>56, Ino(k.Second<<8 | k.Third>>56), k.Third<<8 | uint64(k.Fourth)
}

// KeyInode is the item of an inode.
func KeyInode(ino Ino) Key { return Key{Zone: ZoneFS, First: uint64(ino), Type: TypeInode} }

// KeyXattr is part nr part of the xattr id whose name has the hash.
func KeyXattr(ino Ino, hash uint32, id uint64, part uint8) Key {
	return Key{Zone: ZoneFS, First: uint64(ino), Type: TypeXattr, Second: uint64(hash), Third: id, Fourth: part}
}

// KeyDirent is a directory entry by name hash.
func KeyDirent(dir Ino, hash, pos uint64) Key {
	return Key{Zone: ZoneFS, First: uint64(dir), Type: TypeDirent, Second: hash, Third: pos}
}

// KeyReaddir is a directory entry by position.
func KeyReaddir(dir Ino, pos uint64) Key {
	return Key{Zone: ZoneFS, First: uint64(dir), Type: TypeReaddir, Second: pos}
}

// KeyBackref is the entry of an inode that leads back to a directory.
func KeyBackref(ino, dir Ino, pos uint64) Key {
	return Key{Zone: ZoneFS, First: uint64(ino), Type: TypeBackref, Second: uint64(dir), Third: pos}
}

// KeySymlink is a part of a symlink's target.
func KeySymlink(ino Ino, part uint64) Key {
	return Key{Zone: ZoneFS, First: uint64(ino), Type: TypeSymlink, Second: part}
}

// KeyExtent is the extent of n blocks of a file that ends with the logical
// block last.
func KeyExtent(ino Ino, last, n uint64) Key {
	return Key{Zone: ZoneFS, First: uint64(ino), Type: TypeExtent, Second: last, Third: n}
}

// KeyLogTrees is the nr-th log trees item of a mount.
func KeyLogTrees(rid Rid, nr uint64) Key {
	return Key{Zone: ZoneLogTrees, First: uint64(rid), Second: nr}
}

// KeyMountedClient is the item of a mount that the server knows.
func KeyMountedClient(rid Rid) Key { return Key{Zone: ZoneMountedClient, First: uint64(rid)} }

// KeyFreeBlkno is a free extent by position.
func KeyFreeBlkno(start Blkno, n uint64) Key {
	return Key{Zone: ZoneFreeBlkno, First: uint64(start) + n - 1, Second: n}
}

// KeyFreeOrder is the same free extent by size class.
func KeyFreeOrder(start Blkno, n uint64) Key {
	return Key{Zone: ZoneFreeOrder, First: ^FreeOrder(n), Second: uint64(start) + n - 1, Third: n}
}

// FreeOrder is the size class of a free extent of n blocks: floor(log8(n)).
func FreeOrder(n uint64) uint64 { return uint64(bits.Len64(n|1)-1) / 3 }

// FreeExtent returns the extent that a key of zone 36 or 40 describes.
func (k *Key) FreeExtent() (start Blkno, n uint64) {
	if k.Zone == ZoneFreeBlkno {
		return Blkno(k.First - k.Second + 1), k.Second
	}
	return Blkno(k.Second - k.Third + 1), k.Third
}
