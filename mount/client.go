// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package mount

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"syscall"

	"scoutfs/block"
	"scoutfs/btree"
	"scoutfs/format"
	"scoutfs/lock"
	"scoutfs/quorum"
	"scoutfs/rpc"
	"scoutfs/txn"
	"scoutfs/volume"
)

// dial finds the server on the metadata device and connects to it. If nobody
// listens there any more and its mount is proven dead, the quorum member of
// this mount need not wait for it. Source: spec cluster 2.6.
func (m *Mount) dial(ctx context.Context) (net.Conn, error) {
	super, err := readSuper("metadata", m.dev.meta)
	if err != nil {
		return nil, err
	}
	leader, err := quorum.FindServer(m.dev.meta, &super)
	if err != nil {
		return nil, err
	}
	conn, err := rpc.DialTCP(ctx, leader.Addr)
	if err == nil {
		return conn, nil
	}
	if a := m.agent.Load(); a != nil && leader.Rid != m.rid && errors.Is(err, syscall.ECONNREFUSED) && m.provenDead(leader.Rid) {
		a.Hurry()
	}
	return nil, fmt.Errorf("mount: connect to server of slot %d: %w", leader.Slot, err)
}

// startClient makes the connection and the lock client; it connects in the
// background.
func (m *Mount) startClient() {
	m.locks.Store(lock.NewClient(lock.ClientOptions{
		Send:    m.sendLock,
		Respond: m.respondLock,
		Revoker: &m.revoker, IdleCount: m.live.idleLocks, Log: m.log,
	}))
	m.client.Store(rpc.NewClient(rpc.ClientOptions{
		Fsid: m.super.Hdr.Fsid, FmtVers: m.super.FmtVers, Rid: m.rid, Quorum: m.o.QuorumSlot != NoSlot,
		Dial: m.dial, KeepaliveTimeout: milliseconds(m.o.TCPKeepaliveMS), Log: m.log,
		Handle: map[format.NetCmd]rpc.Handler{
			format.CmdSyncLogTrees: m.handleSync,
			format.CmdLock:         m.handleInvalidate,
			format.CmdLockRecover:  m.handleLockRecover,
			format.CmdOpenInoMap:   m.handleOpenMap,
		},
	}))
}

// sendLock asks the server for a lock; the answer is the grant.
func (m *Mount) sendLock(l format.NetLock) {
	m.client.Load().Send(format.CmdLock, format.Bytes(&l), func(resp []byte, err error) {
		grant, ok := format.Load[format.NetLock](resp)
		switch {
		case err != nil:
			m.log.Debug("lock request ended", "err", err) // the mount is ending
		case !ok:
			m.log.Error("lock grant has a wrong length", "len", len(resp))
		default:
			m.locks.Load().HandleGrant(grant)
		}
	})
}

// respondLock answers an invalidation. There is a client then, since
// handleInvalidate takes no request before.
func (m *Mount) respondLock(id uint64, l format.NetLock) {
	if c := m.client.Load(); c != nil {
		c.Respond(id, format.Bytes(&l), nil)
	}
}

// handleInvalidate passes a revocation on. A connection can bring one before
// startClient has stored its client; the server repeats it on the next one.
func (m *Mount) handleInvalidate(id uint64, req []byte, reply func([]byte, error)) {
	l, ok := format.Load[format.NetLock](req)
	locks := m.locks.Load()
	if !ok || locks == nil || m.client.Load() == nil {
		reply(nil, rpc.ErrClose)
		return
	}
	locks.HandleInvalidate(id, l)
}

// handleLockRecover tells a new server which locks are held, from a key on.
func (m *Mount) handleLockRecover(_ uint64, req []byte, reply func([]byte, error)) {
	from, ok := format.Load[format.Key](req)
	locks := m.locks.Load()
	if !ok || locks == nil {
		reply(nil, rpc.ErrClose)
		return
	}
	held := locks.Recover(from)
	held = held[:min(len(held), format.NetLockRecoverMax)]
	hdr := format.NetLockRecover{Nr: uint16(len(held))}
	resp := append([]byte(nil), format.Bytes(&hdr)...)
	for i := range held {
		resp = append(resp, format.Bytes(&held[i])...)
	}
	reply(resp, nil)
}

// handleSync starts a commit of what is open and does not wait for it: the
// server sees its effect in the log trees, and must not wait for a mount whose
// commit waits for the server. Without a transaction there is nothing.
func (m *Mount) handleSync(_ uint64, _ []byte, reply func([]byte, error)) {
	if e := m.engine.Load(); e != nil {
		e.SyncAsync()
	}
	reply(nil, nil)
}

// handleOpenMap answers which inodes of a group this mount has in use.
func (m *Mount) handleOpenMap(_ uint64, req []byte, reply func([]byte, error)) {
	args, ok := format.Load[format.NetOpenInoMapArgs](req)
	if !ok {
		reply(nil, syscall.EINVAL)
		return
	}
	resp := format.NetOpenInoMap{Args: args}
	if v := m.vol.Load(); v != nil {
		resp.Bits = v.OpenMap(args.Group)
	}
	reply(format.Bytes(&resp), nil)
}

// call is a request of the status tree. It fails when the mount ends.
func (m *Mount) call(cmd format.NetCmd, req []byte) ([]byte, error) {
	c := m.client.Load()
	if c == nil {
		return nil, syscall.ENOTCONN
	}
	return c.Call(m.ctx, cmd, req)
}

// service is what the volume asks of the server.
type service struct{ *rpc.Client }

var (
	_ txn.Service    = service{}
	_ volume.Service = service{}
)

// OpenInoMap asks which inodes of a group any mount has in use.
func (s service) OpenInoMap(ctx context.Context, group uint64) (bits [16]uint64, err error) {
	req := format.NetOpenInoMapArgs{Group: group}
	resp, err := s.Call(ctx, format.CmdOpenInoMap, format.Bytes(&req))
	if err != nil {
		return bits, err
	}
	m, ok := format.Load[format.NetOpenInoMap](resp)
	if !ok {
		return bits, fmt.Errorf("mount: open map of group %d: %w", group, syscall.EMSGSIZE)
	}
	return m.Bits, nil
}

// revoker passes revocations to the volume once it is there; before that, only
// the engine can have anything under a lock.
type revoker struct {
	engine *atomic.Pointer[txn.Engine]
	vol    *atomic.Pointer[volume.Volume]
}

// Revoke implements lock.Revoker.
func (r *revoker) Revoke(lk *lock.Lock, old, new format.LockMode, lastDirty uint64) error {
	if v := r.vol.Load(); v != nil {
		return v.Revoke(lk, old, new, lastDirty)
	}
	if e := r.engine.Load(); e != nil {
		return e.Revoke(lk, old, new, lastDirty)
	}
	return nil
}

// inMountedClients looks a rid up in the tree of the committed super. It may
// fail with a stale block while a server commits; callers ask again.
func inMountedClients(cache *block.Cache, dev block.Device, rid format.Rid) (bool, error) {
	super, err := readSuper("metadata", dev)
	if err != nil {
		return false, err
	}
	key := format.KeyMountedClient(rid)
	_, err = btree.Lookup(cache, &super.MountedClients, &key, nil)
	if errors.Is(err, syscall.ENOENT) {
		return false, nil
	}
	return err == nil, err
}
