// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/spf13/cobra"

	"scoutfs/block"
	"scoutfs/dump"
)

func newPrintCommand() *cobra.Command {
	var o dump.Options
	c := &cobra.Command{
		Use:   "print [-S] META",
		Short: "print metadata structures",
		Long: `Print the metadata on the device META for people. Nothing is verified before it
is printed; damage is named in the text. The volume may be mounted, but then
blocks change while they are read.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			dev, err := block.Open(args[0], block.OpenOptions{ReadOnly: true})
			if err != nil {
				return err
			}
			defer dev.Close()
			return dump.Print(c.OutOrStdout(), dev, o)
		},
	}
	c.Flags().BoolVarP(&o.SkipLarge, "skip-likely-huge", "S", false, "leave out allocators, search files and file system items")
	return c
}
