// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package volume

import (
	"errors"
	"syscall"

	"scoutfs/format"
	"scoutfs/internal/invariants"
	"scoutfs/lock"
)

// File types of an inode's mode.
const (
	modeType = 0o170000
	modeFifo = 0o010000
	modeChr  = 0o020000
	modeDir  = 0o040000
	modeBlk  = 0o060000
	modeReg  = 0o100000
	modeLnk  = 0o120000
	modeSock = 0o140000
	modePerm = 0o7777
	modeSUID = 0o4000
	modeSGID = 0o2000
)

func isDir(in *format.Inode) bool { return in.Mode&modeType == modeDir }
func isReg(in *format.Inode) bool { return in.Mode&modeType == modeReg }

// notFound reports whether err says that an item does not exist.
func notFound(err error) bool {
	return err == syscall.ENOENT || (err != nil && errors.Is(err, syscall.ENOENT))
}

// readInode reads the item of ino into in. ESTALE if there is none: numbers
// are not reused, so whoever knows this one knows an inode that is gone.
func (o *op) readInode(lk *lock.Lock, ino format.Ino, in *format.Inode) error {
	o.key = format.KeyInode(ino)
	val := format.Bytes(in)
	n, err := o.v.engine.Lookup(&o.wait, lk, &o.key, val)
	if err != nil {
		if notFound(err) {
			return syscall.ESTALE
		}
		return err
	}
	if n != format.InodeSizeV1 && (n != format.InodeSizeV2 || o.v.vers < 2) {
		return corrupt("inode %d item of %d bytes in version %d", ino, n, o.v.vers)
	}
	clear(val[n:])
	return nil
}

// writeInode stores s.in as the inode of the open transaction, with its index
// items. It sets meta_seq, and data_seq if s.data. Source: spec filesystem 2.3.
func (o *op) writeInode(s *slot) error {
	seq := o.tx.Seq()
	s.in.MetaSeq = seq
	if s.data {
		s.in.DataSeq = seq
	}
	o.key = format.KeyInode(s.ino)
	val := format.Bytes(&s.in)[:format.InodeSize(o.v.vers)]
	var err error
	if s.fresh {
		err = o.tx.Create(s.lk, &o.key, val)
	} else {
		err = o.tx.Update(s.lk, &o.key, val)
	}
	if err != nil {
		return err
	}
	if err := o.moveIndex(s, format.TypeMetaSeq, s.old.MetaSeq, seq); err != nil {
		return err
	}
	if isReg(&s.in) && (s.data || s.fresh) {
		return o.moveIndex(s, format.TypeDataSeq, s.old.DataSeq, s.in.DataSeq)
	}
	return nil
}

// indexKey is the key of an inode's item in an index.
func indexKey(typ uint8, seq uint64, ino format.Ino) format.Key {
	if typ == format.TypeMetaSeq {
		return format.KeyMetaSeq(seq, ino)
	}
	return format.KeyDataSeq(seq, ino)
}

// moveIndex replaces the index item of s at old by one at seq.
func (o *op) moveIndex(s *slot, typ uint8, old, seq uint64) error {
	if !s.fresh && old == seq {
		return nil
	}
	o.key = indexKey(typ, seq, s.ino)
	if err := o.tx.CreateForce(o.indexed(&o.key), &o.key, nil, s.lk); err != nil {
		return err
	}
	if s.fresh {
		return nil
	}
	o.key = indexKey(typ, old, s.ino)
	return o.tx.DeleteForce(o.indexed(&o.key), &o.key, s.lk)
}

// indexed is the index lock for key, which must have been predicted.
func (o *op) indexed(key *format.Key) *lock.Lock {
	lk := o.indexLock(key)
	invariants.Check(lk != nil, "no index lock for %v", *key)
	return lk
}

// addBlocks adds to the block counts of s what w changes.
// A count below zero is corrupt: it is reported and becomes zero.
func (o *op) addBlocks(s *slot, w *window) {
	in := &s.in
	online, offline := w.counts()
	on, off := in.OnlineBlocks+online, in.OfflineBlocks+offline
	if int64(on) < 0 || int64(off) < 0 {
		o.v.m.corruptBlockCounts.Add(1)
		o.v.log.Error("volume: SC_INODE_BLOCK_COUNTS: block counts below zero", "ino", s.ino,
			"online", in.OnlineBlocks, "online_delta", int64(online), "offline", in.OfflineBlocks, "offline_delta", int64(offline))
		on, off = uint64(max(0, int64(on))), uint64(max(0, int64(off)))
	}
	in.OnlineBlocks, in.OfflineBlocks = on, off
}

// attr is what s became.
func (s *slot) attr() Attr { return Attr{Ino: s.ino, Inode: s.in} }

// Getattr returns the attributes of ino, as they are in the whole cluster.
// ESTALE if there is no such inode.
func (v *Volume) Getattr(c *Caller, ino format.Ino) (Attr, error) {
	o := v.start(c)
	defer o.end()
	lk, err := o.lockRead(ino)
	if err != nil {
		return Attr{}, err
	}
	a := Attr{Ino: ino}
	if err := o.readInode(lk, ino, &a.Inode); err != nil {
		return Attr{}, err
	}
	if a.Nlink == 0 {
		v.refs.unlinked(ino)
	}
	return a, nil
}

// Fsync makes durable everything that calls have changed until now, on any
// inode. It fails only if the mount is aborted, with ENOLINK.
func (v *Volume) Fsync(c *Caller, _ format.Ino) error {
	o := v.start(c)
	defer o.end()
	return v.engine.Sync(&o.wait)
}
