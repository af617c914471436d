// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package rpc

import (
	"context"
	"fmt"
	"syscall"

	"scoutfs/format"
)

// callFixed makes a call whose response has exactly the size of T; EMSGSIZE if it
// has not.
func callFixed[T format.Fixed](ctx context.Context, c *Client, cmd format.NetCmd, req []byte) (T, error) {
	resp, err := c.Call(ctx, cmd, req)
	if err != nil {
		var v T
		return v, err
	}
	v, ok := format.Load[T](resp)
	if !ok || len(resp) != format.Size[T]() {
		return v, sizeError(cmd, resp)
	}
	return v, nil
}

// callEmpty makes a call whose response has no data.
func (c *Client) callEmpty(ctx context.Context, cmd format.NetCmd, req []byte) error {
	resp, err := c.Call(ctx, cmd, req)
	if err == nil && len(resp) != 0 {
		err = sizeError(cmd, resp)
	}
	return err
}

func sizeError(cmd format.NetCmd, resp []byte) error {
	return fmt.Errorf("rpc: %s: response of %d bytes: %w", cmd, len(resp), syscall.EMSGSIZE)
}

// AllocInodes gets up to count new inode numbers. Nr 0 means that none are left.
func (c *Client) AllocInodes(ctx context.Context, count uint64) (format.NetInoRange, error) {
	return callFixed[format.NetInoRange](ctx, c, format.CmdAllocInodes, EncodeU64(count))
}

// GetLogTrees opens the mount's next transaction, or returns the open one.
func (c *Client) GetLogTrees(ctx context.Context) (format.LogTrees, error) {
	return callFixed[format.LogTrees](ctx, c, format.CmdGetLogTrees, nil)
}

// CommitLogTrees makes the transaction durable and visible. lt is copied.
func (c *Client) CommitLogTrees(ctx context.Context, lt *format.LogTrees) error {
	return c.callEmpty(ctx, format.CmdCommitLogTrees, format.Bytes(lt))
}

// GetRoots gets the roots of the last stable super block.
func (c *Client) GetRoots(ctx context.Context) (format.NetRoots, error) {
	return callFixed[format.NetRoots](ctx, c, format.CmdGetRoots, nil)
}

// GetLastSeq gets the greatest transaction seq up to which the inode indexes
// are final.
func (c *Client) GetLastSeq(ctx context.Context) (uint64, error) {
	resp, err := c.Call(ctx, format.CmdGetLastSeq, nil)
	if err != nil {
		return 0, err
	}
	v, err := DecodeU64(resp)
	if err != nil {
		return 0, sizeError(format.CmdGetLastSeq, resp)
	}
	return v, nil
}

// Statfs gets the volume's space and inode counts as of the last server commit.
func (c *Client) Statfs(ctx context.Context) (format.NetStatfs, error) {
	return callFixed[format.NetStatfs](ctx, c, format.CmdStatfs, nil)
}
