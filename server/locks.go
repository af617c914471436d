// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package server

import (
	"fmt"
	"io"
	"slices"
	"sync"
	"syscall"

	"scoutfs/format"
	"scoutfs/lock"
)

// replyFunc answers a request.
type replyFunc = func(resp []byte, err error)

// lockService moves messages in and out of the lock state machine.
type lockService struct {
	s *Server

	mu      sync.Mutex
	state   *lock.Server            // +checklocks:mu
	replies map[lockReq]replyFunc   // +checklocks:mu; of requests that are not granted yet
	asking  map[format.Rid]struct{} // +checklocks:mu; mounts that were sent LOCK_RECOVER
}

type lockReq struct {
	rid format.Rid
	id  uint64
}

func (k *lockService) init(s *Server) {
	k.s = s
	k.state = lock.NewServer(s.nextSeq)
	k.replies = make(map[lockReq]replyFunc)
	k.asking = make(map[format.Rid]struct{})
}

// request takes a LOCK request. It does not block.
func (k *lockService) request(rid format.Rid, id uint64, l format.NetLock, reply replyFunc) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.replies[lockReq{rid, id}] = reply
	k.dispatchLocked(k.state.Request(rid, id, l))
}

// dispatchLocked queues messages in their order.
func (k *lockService) dispatchLocked(outs []lock.Out) {
	for i := range outs {
		o := &outs[i]
		msg := slices.Clone(format.Bytes(&o.Lock))
		if o.Kind == lock.Grant {
			id := lockReq{o.Rid, o.ReqID}
			reply := k.replies[id]
			delete(k.replies, id)
			if reply != nil {
				reply(msg, nil)
			}
			continue
		}
		rid := o.Rid
		err := k.s.send(rid, format.CmdLock, msg, func(resp []byte, err error) { k.invalidated(rid, resp, err) })
		if err != nil {
			// The mount is gone; it will be removed, which lets the lock go on.
			k.s.o.Log.Debug("invalidation not sent", "rid", ridString(rid), "key", o.Lock.Key, "err", err)
		}
	}
}

// invalidated takes the response to an invalidation.
func (k *lockService) invalidated(rid format.Rid, resp []byte, err error) {
	l, ok := format.Load[format.NetLock](resp)
	if err != nil || !ok || len(resp) != format.Size[format.NetLock]() {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.dispatchLocked(k.state.InvalidateDone(rid, l))
}

// remove forgets what a mount had.
func (k *lockService) remove(rid format.Rid) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for id := range k.replies {
		if id.rid == rid {
			delete(k.replies, id)
		}
	}
	delete(k.asking, rid)
	k.dispatchLocked(k.state.Remove(rid))
}

func (k *lockService) startRecovery(rids []format.Rid) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.state.StartRecovery(rids)
}

func (k *lockService) finishRecovery(rid format.Rid) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.dispatchLocked(k.state.FinishRecovery(rid))
}

// recover asks a mount for its locks from a key on, unless that is going on.
func (k *lockService) recover(rid format.Rid, from format.Key) {
	k.mu.Lock()
	_, busy := k.asking[rid]
	k.asking[rid] = struct{}{}
	k.mu.Unlock()
	if !busy {
		k.ask(rid, from)
	}
}

func (k *lockService) ask(rid format.Rid, from format.Key) {
	err := k.s.send(rid, format.CmdLockRecover, slices.Clone(format.Bytes(&from)), func(resp []byte, err error) {
		if err != nil {
			k.notAsking(rid)
			return
		}
		k.recovered(rid, resp)
	})
	if err != nil {
		k.s.o.Log.Debug("lock recovery not sent", "rid", ridString(rid), "err", err)
		k.notAsking(rid)
	}
}

// notAsking notes that a mount cannot answer: it will be fenced, or asked again.
func (k *lockService) notAsking(rid format.Rid) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.asking, rid)
}

// recovered takes one answer of a mount. A mount that tells nonsense is fenced.
func (k *lockService) recovered(rid format.Rid, resp []byte) {
	locks, err := parseRecover(resp)
	var next format.Key
	var done bool
	if err == nil {
		k.s.raiseSeq(lock.MaxWriteSeq(locks))
		k.mu.Lock()
		var outs []lock.Out
		next, done, outs, err = k.state.Recovered(rid, locks)
		k.dispatchLocked(outs)
		k.mu.Unlock()
	}
	switch {
	case err != nil:
		k.s.o.Log.Error("lock recovery", "rid", ridString(rid), "err", err)
		k.s.fence(Request{Rid: rid, Addr: k.s.recovery.addr(rid), Reason: ReasonRecovery})
	case done:
		k.s.recovery.finish(rid, pendingLocks)
	default:
		k.ask(rid, next)
	}
}

// parseRecover decodes a LOCK_RECOVER response.
func parseRecover(resp []byte) ([]format.NetLock, error) {
	h, ok := format.Load[format.NetLockRecover](resp)
	size, head := format.Size[format.NetLock](), format.Size[format.NetLockRecover]()
	if !ok || h.Nr > format.NetLockRecoverMax || len(resp) != head+int(h.Nr)*size {
		return nil, fmt.Errorf("server: lock recovery answer of %d bytes with %d locks: %w", len(resp), h.Nr, syscall.EINVAL)
	}
	locks := make([]format.NetLock, h.Nr)
	for i := range locks {
		locks[i], _ = format.Load[format.NetLock](resp[head+i*size:])
	}
	return locks, nil
}

// LockStats returns what the lock service has done.
func (s *Server) LockStats() lock.ServerStats {
	s.locks.mu.Lock()
	defer s.locks.mu.Unlock()
	return s.locks.state.Stats()
}

// DumpLocks writes the locks for the status tree.
func (s *Server) DumpLocks(w io.Writer) error {
	s.locks.mu.Lock()
	defer s.locks.mu.Unlock()
	return s.locks.state.DumpLocks(w)
}

// DumpLockStats writes the counts of each lock for the status tree.
func (s *Server) DumpLockStats(w io.Writer) error {
	s.locks.mu.Lock()
	defer s.locks.mu.Unlock()
	return s.locks.state.DumpStats(w)
}
