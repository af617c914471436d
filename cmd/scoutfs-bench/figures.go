// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"scoutfs/bench"
)

func newFiguresCommand() *cobra.Command {
	var o bench.FigureOptions
	c := &cobra.Command{
		Use:   "figures --directory=DIR --scoutfs=PROGRAM",
		Short: "measure the ratios that the project promises, and print a table",
		Long: `Measure, in turn with what they are compared with, the figures that the project
promises: the ring against fio, the file system without FUSE, metadata and data
through FUSE against a file system that answers from memory, and memory.
It takes a quarter of an hour, and needs root, fio, losetup and taskset.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) (err error) {
			if o.Self, err = os.Executable(); err != nil {
				return err
			}
			o.Progress = func(s string) { fmt.Fprintln(c.ErrOrStderr(), s) }
			return bench.Figures(c.Context(), c.OutOrStdout(), o)
		},
	}
	c.Flags().StringVar(&o.Directory, "directory", ".", "for scratch files, on ext4 with 20 GiB free")
	c.Flags().StringVar(&o.Scoutfs, "scoutfs", "bin/scoutfs", "the scoutfs program")
	c.Flags().IntVar(&o.Rounds, "rounds", 5, "of each figure")
	c.Flags().StringVar(&o.Only, "only", "", "comma separated parts: ring, engine, fuse, data, memory")
	c.Flags().BoolVar(&o.Short, "short", false, "small jobs, to see whether everything works")
	return c
}
