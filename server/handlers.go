// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"syscall"

	"scoutfs/format"
	"scoutfs/lock"
	"scoutfs/rpc"
)

// table maps each command to its handler. Source: spec cluster 6.
func (s *Server) table() map[format.NetCmd]rpc.ServerHandler {
	t := map[format.NetCmd]rpc.ServerHandler{
		format.CmdAllocInodes:       s.handleAllocInodes,
		format.CmdGetLogTrees:       s.handleGetLogTrees,
		format.CmdCommitLogTrees:    s.handleCommitLogTrees,
		format.CmdGetRoots:          s.handleGetRoots,
		format.CmdGetLastSeq:        s.handleGetLastSeq,
		format.CmdLock:              s.handleLock,
		format.CmdSrchGetCompact:    s.handleSrchGetCompact,
		format.CmdSrchCommitCompact: s.handleSrchCommitCompact,
		format.CmdGetLogMerge:       s.handleGetLogMerge,
		format.CmdCommitLogMerge:    s.handleCommitLogMerge,
		format.CmdOpenInoMap:        s.handleOpenInoMap,
		format.CmdGetVolopt:         s.handleGetVolopt,
		format.CmdSetVolopt:         s.handleSetVolopt,
		format.CmdClearVolopt:       s.handleClearVolopt,
		format.CmdResizeDevices:     s.handleResize,
		format.CmdStatfs:            s.handleStatfs,
		format.CmdFarewell:          s.handleFarewell,
	}
	for cmd, h := range t {
		t[cmd] = s.unlessStopping(h)
	}
	return t
}

// unlessStopping keeps back errors while the server stops: they are about the
// server and not about the request, which the mount repeats at the next one.
func (s *Server) unlessStopping(h rpc.ServerHandler) rpc.ServerHandler {
	return func(ctx context.Context, rid format.Rid, id uint64, req []byte, reply func([]byte, error)) {
		h(ctx, rid, id, req, func(resp []byte, err error) {
			if err == nil || s.ctx.Err() == nil && s.Err() == nil {
				reply(resp, err)
			}
		})
	}
}

// errLength is the answer to a payload of the wrong length.
func errLength(cmd format.NetCmd, n int) error {
	return fmt.Errorf("server: %s with %d bytes: %w", cmd, n, syscall.EINVAL)
}

// parse decodes a payload that must be exactly a T.
func parse[T format.Fixed](cmd format.NetCmd, req []byte) (v T, err error) {
	if len(req) != format.Size[T]() {
		return v, errLength(cmd, len(req))
	}
	v, _ = format.Load[T](req)
	return v, nil
}

// answer encodes a result.
func answer[T format.Fixed](reply replyFunc, v T, err error) {
	if err != nil {
		reply(nil, err)
		return
	}
	reply(format.Bytes(&v), nil)
}

func u64(v uint64) []byte { return binary.LittleEndian.AppendUint64(nil, v) }

func (s *Server) handleAllocInodes(ctx context.Context, _ format.Rid, _ uint64, req []byte, reply func([]byte, error)) {
	if len(req) != 8 {
		reply(nil, errLength(format.CmdAllocInodes, len(req)))
		return
	}
	r, err := s.allocInodes(ctx, binary.LittleEndian.Uint64(req))
	answer(reply, r, err)
}

func (s *Server) handleGetLogTrees(ctx context.Context, rid format.Rid, _ uint64, req []byte, reply func([]byte, error)) {
	if len(req) != 0 {
		reply(nil, errLength(format.CmdGetLogTrees, len(req)))
		return
	}
	lt, err := s.getLogTrees(ctx, rid)
	answer(reply, lt, err)
}

func (s *Server) handleCommitLogTrees(ctx context.Context, rid format.Rid, _ uint64, req []byte, reply func([]byte, error)) {
	lt, err := parse[format.LogTrees](format.CmdCommitLogTrees, req)
	if err == nil {
		err = s.commitLogTrees(ctx, rid, lt)
	}
	reply(nil, err)
}

func (s *Server) handleGetRoots(_ context.Context, _ format.Rid, _ uint64, req []byte, reply func([]byte, error)) {
	if len(req) != 0 {
		reply(nil, errLength(format.CmdGetRoots, len(req)))
		return
	}
	answer(reply, s.getRoots(), nil)
}

func (s *Server) handleGetLastSeq(_ context.Context, _ format.Rid, _ uint64, req []byte, reply func([]byte, error)) {
	if len(req) != 0 {
		reply(nil, errLength(format.CmdGetLastSeq, len(req)))
		return
	}
	last, err := s.getLastSeq()
	if err != nil {
		reply(nil, err)
		return
	}
	reply(u64(last), nil)
}

func (s *Server) handleLock(_ context.Context, rid format.Rid, id uint64, req []byte, reply func([]byte, error)) {
	l, err := parse[format.NetLock](format.CmdLock, req)
	if err == nil {
		err = lock.CheckRequest(l)
	}
	if err != nil {
		s.o.Log.Error("bad lock request", "rid", ridString(rid), "err", err)
		reply(nil, rpc.ErrClose)
		return
	}
	s.locks.request(rid, id, l, reply)
}

func (s *Server) handleSrchGetCompact(_ context.Context, _ format.Rid, _ uint64, req []byte, reply func([]byte, error)) {
	if len(req) != 0 {
		reply(nil, errLength(format.CmdSrchGetCompact, len(req)))
		return
	}
	answer(reply, format.SrchCompact{}, nil) // no work
}

func (s *Server) handleSrchCommitCompact(_ context.Context, _ format.Rid, _ uint64, req []byte, reply func([]byte, error)) {
	_, err := parse[format.SrchCompact](format.CmdSrchCommitCompact, req)
	if err == nil {
		err = syscall.ENOENT
	}
	reply(nil, err)
}

func (s *Server) handleGetLogMerge(_ context.Context, _ format.Rid, _ uint64, req []byte, reply func([]byte, error)) {
	if len(req) != 0 {
		reply(nil, rpc.ErrClose)
		return
	}
	reply(nil, syscall.ENOENT)
}

func (s *Server) handleCommitLogMerge(_ context.Context, _ format.Rid, _ uint64, req []byte, reply func([]byte, error)) {
	if _, err := parse[format.MergeComplete](format.CmdCommitLogMerge, req); err != nil {
		reply(nil, rpc.ErrClose)
		return
	}
	reply(nil, syscall.ENOENT)
}

func (s *Server) handleOpenInoMap(_ context.Context, rid format.Rid, _ uint64, req []byte, reply func([]byte, error)) {
	args, err := parse[format.NetOpenInoMapArgs](format.CmdOpenInoMap, req)
	if err != nil {
		reply(nil, err)
		return
	}
	s.opens.request(rid, args, reply)
}

func (s *Server) handleGetVolopt(_ context.Context, _ format.Rid, _ uint64, req []byte, reply func([]byte, error)) {
	if len(req) != 0 {
		reply(nil, errLength(format.CmdGetVolopt, len(req)))
		return
	}
	answer(reply, s.getVolopt(), nil)
}

func (s *Server) handleSetVolopt(ctx context.Context, _ format.Rid, _ uint64, req []byte, reply func([]byte, error)) {
	o, err := parse[format.VolumeOptions](format.CmdSetVolopt, req)
	if err == nil {
		err = s.setVolopt(ctx, &o)
	}
	reply(nil, err)
}

func (s *Server) handleClearVolopt(ctx context.Context, _ format.Rid, _ uint64, req []byte, reply func([]byte, error)) {
	o, err := parse[format.VolumeOptions](format.CmdClearVolopt, req)
	if err == nil {
		err = s.clearVolopt(ctx, &o)
	}
	reply(nil, err)
}

func (s *Server) handleResize(ctx context.Context, _ format.Rid, _ uint64, req []byte, reply func([]byte, error)) {
	r, err := parse[format.NetResize](format.CmdResizeDevices, req)
	if err == nil {
		err = s.resize(ctx, &r)
	}
	reply(nil, err)
}

func (s *Server) handleStatfs(ctx context.Context, _ format.Rid, _ uint64, req []byte, reply func([]byte, error)) {
	if len(req) != 0 {
		reply(nil, errLength(format.CmdStatfs, len(req)))
		return
	}
	st, err := s.statfs(ctx)
	answer(reply, st, err)
}

func (s *Server) handleFarewell(_ context.Context, rid format.Rid, _ uint64, req []byte, reply func([]byte, error)) {
	if len(req) != 0 {
		reply(nil, rpc.ErrClose)
		return
	}
	s.farewell.add(leaver{rid: rid, reply: reply})
}

// inline says which requests must be handled in the order of their arrival.
func inline(cmd format.NetCmd) bool {
	return slices.Contains([]format.NetCmd{format.CmdLock, format.CmdOpenInoMap, format.CmdFarewell}, cmd)
}
