// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package quorum

import (
	"fmt"
	"net/netip"
	"syscall"
	"time"

	"scoutfs/block"
	"scoutfs/format"
)

// ErrNoServer says that no slot advertises a running server. It matches
// syscall.ENOENT.
var ErrNoServer = fmt.Errorf("quorum: no slot advertises a running server: %w", syscall.ENOENT)

// ErrSlotStolen says that another mount wrote BEGIN into our slot's block. It
// matches syscall.EIO.
var ErrSlotStolen = fmt.Errorf("quorum: another mount uses our slot: %w", syscall.EIO)

// A block that another opener is just writing can read torn, on some
// filesystems below a plain file: a bad checksum counts after this many reads.
const (
	tornReads = 5
	tornPause = 2 * time.Millisecond
)

// Leader is a slot that advertises a running server.
type Leader struct {
	Slot int
	Term format.Term
	Addr netip.AddrPort // of the slot
	Rid  format.Rid     // of the mount that was elected
}

// Suspect is a mount that was leader in an earlier term and did not record
// that it stopped: it may still be writing.
type Suspect struct {
	Rid  format.Rid
	Slot int
	Term format.Term
	Addr netip.AddrPort
}

// SlotAddr is the address of a slot. ok is false if the slot has none.
func SlotAddr(cfg *format.QuorumConfig, slot int) (addr netip.AddrPort, ok bool) {
	if slot < 0 || slot >= format.QuorumSlots || cfg.Slots[slot].Family != format.InetV4 {
		return netip.AddrPort{}, false
	}
	return cfg.Slots[slot].AddrPort(), true
}

// ReadSlot reads and checks the block of a slot. It blocks for I/O. Wrong bytes
// are a *format.CorruptError, after several reads.
func ReadSlot(dev block.Device, fsid uint64, slot int) (format.QuorumBlock, error) {
	buf := block.AlignedBuf(format.SmallSize)
	defer block.FreeBuf(buf)
	return readSlot(dev, buf, fsid, slot)
}

func readSlot(dev block.Device, buf []byte, fsid uint64, slot int) (qb format.QuorumBlock, err error) {
	blkno := format.QuorumBlkno + format.Blkno(slot)
	for try := range tornReads {
		if try > 0 {
			time.Sleep(tornPause)
		}
		if err = block.ReadAt(dev, buf, int64(blkno)<<format.SmallShift); err != nil {
			return qb, fmt.Errorf("quorum: read block of slot %d: %w", slot, err)
		}
		var p *format.QuorumBlock
		if p, err = format.VerifyQuorumBlock(buf, dev.Name(), fsid, slot); err == nil {
			return *p, nil
		}
	}
	return qb, fmt.Errorf("quorum: read block of slot %d: %w", slot, err)
}

// writeEvent records an event in the own block: read, check that no other mount
// began to use the slot, change, write.
func writeEvent(dev block.Device, fsid uint64, slot, event int, rid format.Rid, term format.Term, ts time.Duration) error {
	buf := block.AlignedBuf(format.SmallSize)
	defer block.FreeBuf(buf)
	qb, err := readSlot(dev, buf, fsid, slot)
	if err != nil {
		return err
	}
	if event != format.QuorumBegin && qb.Events[format.QuorumBegin].Rid != rid {
		return fmt.Errorf("quorum: record %s in slot %d: BEGIN is of rid %016x: %w",
			eventNames[event], slot, uint64(qb.Events[format.QuorumBegin].Rid), ErrSlotStolen)
	}
	qb.WriteNr++
	ev := &qb.Events[event]
	ev.WriteNr, ev.Rid, ev.Term = qb.WriteNr, rid, term
	ev.Ts = format.Timespec{Sec: uint64(ts / time.Second), Nsec: uint32(ts % time.Second)}
	clear(buf)
	copy(buf, format.Bytes(&qb))
	format.SetChecksum(buf)
	off := int64(format.QuorumBlkno+format.Blkno(slot)) << format.SmallShift
	if err := block.WriteAt(dev, buf, off); err != nil {
		return fmt.Errorf("quorum: record %s in slot %d: %w", eventNames[event], slot, err)
	}
	if err := dev.Flush(); err != nil {
		return fmt.Errorf("quorum: record %s in slot %d: flush: %w", eventNames[event], slot, err)
	}
	return nil
}

// Slots reads the blocks of all present slots. It blocks for I/O and fails if
// any block is unreadable.
func Slots(dev block.Device, super *format.Super) (blocks map[int]format.QuorumBlock, err error) {
	blocks = make(map[int]format.QuorumBlock)
	buf := block.AlignedBuf(format.SmallSize)
	defer block.FreeBuf(buf)
	for slot := range format.QuorumSlots {
		if _, ok := SlotAddr(&super.Quorum, slot); !ok {
			continue
		}
		if blocks[slot], err = readSlot(dev, buf, super.Hdr.Fsid, slot); err != nil {
			return nil, err
		}
	}
	return blocks, nil
}

// advertises reports whether a block says that a server may be running.
func advertises(qb *format.QuorumBlock) bool {
	return qb.Events[format.QuorumElect].Term > qb.Events[format.QuorumStop].Term
}

// FindServer returns the slot whose server is to be tried: the greatest term
// that was elected and not stopped. ErrNoServer if there is none. A wrong guess
// only costs a failed connect. It blocks for I/O. Source: spec cluster 2.6.
func FindServer(dev block.Device, super *format.Super) (Leader, error) {
	blocks, err := Slots(dev, super)
	if err != nil {
		return Leader{}, err
	}
	best := Leader{Slot: -1}
	for slot := range format.QuorumSlots {
		qb, ok := blocks[slot]
		elect := qb.Events[format.QuorumElect]
		if !ok || !advertises(&qb) || elect.Term <= best.Term {
			continue
		}
		addr, _ := SlotAddr(&super.Quorum, slot)
		best = Leader{Slot: slot, Term: elect.Term, Addr: addr, Rid: elect.Rid}
	}
	if best.Slot < 0 {
		return Leader{}, ErrNoServer
	}
	return best, nil
}

// Suspects lists the earlier leaders that a new leader must have fenced before
// it touches the super, at most two for each slot. greaterTerm is true if some
// slot already recorded a greater term: the start must then be given up, since
// another member is or will be leader. Any unreadable block is an error. It
// blocks for I/O. Source: spec cluster 2.7.
func Suspects(dev block.Device, super *format.Super, ownTerm format.Term, ownRid format.Rid) (list []Suspect, greaterTerm bool, err error) {
	blocks, err := Slots(dev, super)
	if err != nil {
		return nil, false, err
	}
	var fence format.Term
	for _, qb := range blocks {
		fence = max(fence, qb.Events[format.QuorumFence].Term)
		greaterTerm = greaterTerm || qb.Events[format.QuorumElect].Term > ownTerm || qb.Events[format.QuorumTerm].Term > ownTerm
	}
	for slot := range format.QuorumSlots {
		qb, ok := blocks[slot]
		if !ok {
			continue
		}
		addr, _ := SlotAddr(&super.Quorum, slot)
		for _, ev := range unstopped(&qb) {
			if ev.Term == 0 || ev.Term < fence || ev.Term > ownTerm || ev.Rid == ownRid {
				continue
			}
			list = append(list, Suspect{Rid: ev.Rid, Slot: slot, Term: ev.Term, Addr: addr})
		}
	}
	return list, greaterTerm, nil
}

// unstopped are the events of a block that stand for leaders without STOP: the
// last one elected, and an older one whose ELECT a newer mount of the same slot
// overwrote.
func unstopped(qb *format.QuorumBlock) (evs []format.QuorumEvent) {
	elect, fence, stop := qb.Events[format.QuorumElect], qb.Events[format.QuorumFence], qb.Events[format.QuorumStop]
	if elect.Term > stop.Term {
		evs = append(evs, elect)
	}
	if stop.Term < fence.Term && fence.Term < elect.Term {
		evs = append(evs, fence)
	}
	return evs
}

// Superseded reports whether another slot was elected in a greater term. A
// server asks before each write of the super block: it must stop then. It reads
// the blocks of all other slots as one batch; those that cannot be read or
// verified say nothing. Source: spec cluster 2.8.
func Superseded(dev block.Device, super *format.Super, ownSlot int, ownTerm format.Term) bool {
	var ops []block.Op
	var slots []int
	for slot := range format.QuorumSlots {
		if _, ok := SlotAddr(&super.Quorum, slot); ok && slot != ownSlot {
			off := int64(format.QuorumBlkno+format.Blkno(slot)) << format.SmallShift
			ops = append(ops, block.Op{Off: off, Buf: block.AlignedBuf(format.SmallSize)})
			slots = append(slots, slot)
		}
	}
	if len(ops) == 0 {
		return false
	}
	_ = dev.Do(ops) // in the operations
	greater := false
	for i, slot := range slots {
		if ops[i].Err == nil {
			qb, err := format.VerifyQuorumBlock(ops[i].Buf, dev.Name(), super.Hdr.Fsid, slot)
			greater = greater || err == nil && qb.Events[format.QuorumElect].Term > ownTerm
		}
		block.FreeBuf(ops[i].Buf)
	}
	return greater
}

// startState reads what a starting member must know: the greatest term of any
// event, and whether another slot advertises a server. Unreadable blocks count
// for neither. The own slot's ELECT is of a mount that is gone, since we use
// the slot now; so is one whose rid is proven dead. dead may be nil.
func startState(dev block.Device, super *format.Super, own int, dead func(format.Rid) bool) (term format.Term, seen bool, invalid int) {
	for slot := range format.QuorumSlots {
		if _, ok := SlotAddr(&super.Quorum, slot); !ok {
			continue
		}
		qb, err := ReadSlot(dev, super.Hdr.Fsid, slot)
		if err != nil {
			invalid++
			continue
		}
		for _, ev := range qb.Events {
			if ev.Rid != 0 {
				term = max(term, ev.Term)
			}
		}
		rid := qb.Events[format.QuorumElect].Rid
		if slot != own && advertises(&qb) && (dead == nil || !dead(rid)) {
			seen = true
		}
	}
	return term, seen, invalid
}

// Validate checks the table of slots for a member with the given slot. The
// error matches syscall.EINVAL and says what is wrong in one line.
// Source: spec cluster 2.1.
func Validate(cfg *format.QuorumConfig, slot int) error {
	seen := make(map[netip.AddrPort]int)
	bad := func(f string, args ...any) error {
		return fmt.Errorf("quorum: %s: %w", fmt.Sprintf(f, args...), syscall.EINVAL)
	}
	for nr := range format.QuorumSlots {
		addr, ok := SlotAddr(cfg, nr)
		if !ok {
			continue
		}
		ip := addr.Addr()
		first := ip.As4()[0]
		switch {
		case first == 0, ip.IsMulticast(), ip == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
			return bad("address %s of slot %d is not unicast", ip, nr)
		case addr.Port() == 0 || addr.Port() == 65535:
			return bad("slot %d has invalid port %d", nr, addr.Port())
		}
		if other, dup := seen[addr]; dup {
			return bad("slots %d and %d have the same address %s", other, nr, addr)
		}
		seen[addr] = nr
	}
	if len(seen) == 0 {
		return bad("no slot is configured")
	}
	if _, ok := SlotAddr(cfg, slot); !ok {
		return bad("slot %d is not configured", slot)
	}
	return nil
}
