// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"syscall"

	"github.com/spf13/cobra"

	"scoutfs/format"
)

func newInoPathCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "ino-path [-p PATH] INO",
		Short: "print paths to inode number",
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return forIno(c, args[0], func(t *target, ino format.Ino, out *bufio.Writer) error {
				json := wantsJSON(c)
				return inoPaths(t, ino, func(r *format.IocInoPathResult, path []byte) error {
					if json {
						return printJSON(out, struct {
							DirIno uint64 `json:"dir_ino"`
							DirPos uint64 `json:"dir_pos"`
							Path   string `json:"path"`
						}{uint64(r.DirIno), r.DirPos, string(path)})
					}
					_, err := fmt.Fprintf(out, "%s\n", path)
					return err
				})
			})
		},
	}
	addPathOption(c)
	addJSONOption(c, "a JSON object for each path")
	return c
}

// forIno parses an inode number, opens the mount and calls fn.
func forIno(c *cobra.Command, arg string, fn func(t *target, ino format.Ino, out *bufio.Writer) error) error {
	ino, err := parseU64("inode number", arg)
	if err != nil {
		return err
	}
	if ino == 0 {
		return usagef("must provide an inode number that is not 0")
	}
	t, err := openTarget(targetPath(c))
	if err != nil {
		return err
	}
	defer t.close()
	out := bufio.NewWriter(c.OutOrStdout())
	err = fn(t, format.Ino(ino), out)
	if flushErr := out.Flush(); err == nil {
		err = flushErr
	}
	return err
}

// inoPaths calls fn for every path to an inode, without leading slash.
func inoPaths(t *target, ino format.Ino, fn func(r *format.IocInoPathResult, path []byte) error) error {
	const most = 65535 &^ 7 // bytes of a result
	buf := make([]byte, most)
	var pin runtime.Pinner
	defer pin.Unpin()
	args := format.IocInoPathArgs{Ino: ino, ResultPtr: address(&pin, buf), ResultBytes: most}
	for {
		_, err := t.ioctl(format.IocInoPath, format.Bytes(&args))
		if errors.Is(err, syscall.ENOENT) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("ino_path ioctl failed: %w", err)
		}
		r, _ := format.Load[format.IocInoPathResult](buf)
		path := buf[format.Size[format.IocInoPathResult]():]
		path, _, _ = bytes.Cut(path[:min(int(r.PathBytes), len(path))], []byte{0})
		if err := fn(&r, path); err != nil {
			return err
		}
		var ok bool
		if args.DirIno, args.DirPos, ok = nextEntry(r.DirIno, r.DirPos); !ok {
			return nil
		}
	}
}

// nextEntry is the directory position after another; ok is false at the end.
func nextEntry(dir format.Ino, pos uint64) (_ format.Ino, _ uint64, ok bool) {
	if pos++; pos == 0 {
		dir++
	}
	return dir, pos, dir != 0 || pos != 0
}
