// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"scoutfs/format"
)

// field is a name and its value: a uint64, or a string.
type field struct {
	name  string
	value any
}

func newStatCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "stat [-s FIELD] FILE",
		Short: "show ScoutFS inode information",
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			t, err := openTarget(args[0])
			if err != nil {
				return err
			}
			defer t.close()
			var s format.IocStatMoreResult
			if _, err := t.ioctl(format.IocStatMore, format.Bytes(&s)); err != nil {
				return ioctlFailed(err)
			}
			return printFields(c, []field{
				{"meta_seq", s.MetaSeq}, {"data_seq", s.DataSeq}, {"data_version", s.DataVersion},
				{"online_blocks", s.OnlineBlocks}, {"offline_blocks", s.OfflineBlocks},
				{"crtime", fmt.Sprintf("%d.%09d", s.CrtimeSec, s.CrtimeNsec)},
			})
		},
	}
	addFieldOptions(c)
	return c
}

func newStatfsCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "statfs [-s FIELD] [-p PATH]",
		Short: "show ScoutFS file system information",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			t, err := openTarget(targetPath(c))
			if err != nil {
				return err
			}
			defer t.close()
			var s format.IocStatfsMoreResult
			if _, err := t.ioctl(format.IocStatfsMore, format.Bytes(&s)); err != nil {
				return ioctlFailed(err)
			}
			return printFields(c, []field{
				{"fsid", fmt.Sprintf("%016x", s.Fsid)}, {"rid", fmt.Sprintf("%016x", uint64(s.Rid))}, {"committed_seq", s.CommittedSeq},
				{"total_meta_blocks", s.TotalMetaBlocks}, {"total_data_blocks", s.TotalDataBlocks},
			})
		},
	}
	addFieldOptions(c)
	addPathOption(c)
	return c
}

func addFieldOptions(c *cobra.Command) {
	c.Flags().StringP("single-field", "s", "", "print only the value of `FIELD`")
	addJSONOption(c, "a JSON object")
}

// ioctlFailed adds the text that the original prints.
func ioctlFailed(err error) error {
	errno := errnoIn(err)
	return fmt.Errorf("ioctl failed: %s (%d): %w", errnoText(errno), int(errno), err)
}

// printFields prints all fields, or the one that was asked for.
func printFields(c *cobra.Command, fields []field) error {
	w := c.OutOrStdout()
	if c.Flags().Changed("single-field") {
		name, _ := c.Flags().GetString("single-field")
		for _, f := range fields {
			if f.name == name {
				_, err := fmt.Fprintln(w, f.value)
				return err
			}
		}
		return fmt.Errorf("unknown field '%s': %w", name, syscall.EINVAL)
	}
	if wantsJSON(c) {
		object := map[string]any{}
		for _, f := range fields {
			object[f.name] = f.value
		}
		return printJSON(w, object)
	}
	var out strings.Builder
	for _, f := range fields {
		fmt.Fprintf(&out, "%-17s %v\n", f.name, f.value)
	}
	_, err := io.WriteString(w, out.String())
	return err
}
