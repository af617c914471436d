// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"fmt"
	"runtime"
	"syscall"

	"github.com/spf13/cobra"

	"scoutfs/format"
)

func newReferringCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "get-referring-entries [-p PATH] INO",
		Short: "print directory entries that refer to inode number",
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return forIno(c, args[0], func(t *target, ino format.Ino, out *bufio.Writer) error {
				json := wantsJSON(c)
				return referringEntries(t, ino, func(e *format.ReferringEntry) error {
					if json {
						return printJSON(out, struct {
							DirIno uint64 `json:"dir_ino"`
							DirPos uint64 `json:"dir_pos"`
							Type   uint8  `json:"type"`
							Name   string `json:"name"`
						}{uint64(e.DirIno), e.DirPos, e.DType, string(e.Name)})
					}
					_, err := fmt.Fprintf(out, "dir %d pos %d type %d name %s\n", e.DirIno, e.DirPos, e.DType, e.Name)
					return err
				})
			})
		},
	}
	addPathOption(c)
	addJSONOption(c, "a JSON object for each entry")
	return c
}

// referringEntries calls fn for every entry that refers to an inode.
func referringEntries(t *target, ino format.Ino, fn func(*format.ReferringEntry) error) error {
	buf := make([]byte, 64<<10)
	var pin runtime.Pinner
	defer pin.Unpin()
	args := format.IocGetReferringArgs{Ino: ino, EntriesPtr: address(&pin, buf), EntriesBytes: uint64(len(buf))}
	for {
		n, err := t.ioctl(format.IocGetReferringEntries, format.Bytes(&args))
		if err != nil {
			return fmt.Errorf("get_referring_entries ioctl failed: %w", err)
		}
		if n == 0 {
			return nil
		}
		var e format.ReferringEntry
		for rest := buf; n > 0; n-- {
			var ok bool
			if e, rest, ok = format.ParseReferringEntry(rest); !ok {
				return fmt.Errorf("get_referring_entries ioctl gave an entry that cannot be decoded: %w", syscall.EIO)
			}
			if err := fn(&e); err != nil {
				return err
			}
		}
		var ok bool
		if args.DirIno, args.DirPos, ok = nextEntry(e.DirIno, e.DirPos); !ok || e.Last {
			return nil
		}
	}
}
