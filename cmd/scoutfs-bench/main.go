// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

// Command scoutfs-bench measures the parts of ScoutFS and file systems with
// fio's command line, serves a FUSE file system that answers from memory, and
// measures the ratios that the project promises.
//
// Exit codes: 0 success, 1 failure, 64 arguments that cannot be understood.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime/pprof"
	"syscall"

	"github.com/spf13/cobra"

	"scoutfs/bench"
)

const exitUsage = 64

// usageError is about the arguments.
type usageError struct{ error }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	err := newRootCommand().ExecuteContext(ctx)
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, "scoutfs-bench:", err)
	stop()
	var u usageError
	if errors.As(err, &u) {
		os.Exit(exitUsage)
	}
	os.Exit(1)
}

func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "scoutfs-bench --name=JOB --ioengine=ENGINE [--OPTION=VALUE ...] [--name=JOB ...]",
		Short: "measure with fio's command line",
		Long: `Run jobs and print what they came to. Options are fio's; results have the shape
of fio's too. Engines:

  device   batches on the file or device --filename, through the ring
           --rw=read|write|randread|randwrite|randrw --bs --iodepth --numjobs
           --size --runtime --time_based --fixedbufs=0|1 --rwmixread
           --iodepth_batch=N operations of one caller (default all, or half from depth 16 or 64k on)
           --noring for pread and pwrite
  btree    one tree in a scratch file in --directory
           --op=insert|put|lookup|next|walk --nrfiles=ITEMS --budget=BYTES
  commit   commits of --nrfiles new files each, on a scratch volume in --directory
  volume   calls without a kernel, on a scratch volume in --directory
           --op=create|lookup|getattr|lookupgetattr|readdirplus|unlink|walk
                read|write|randread|randwrite
           --nrfiles --dirfiles=FILES in one directory --budget --bs --size
  path     system calls on the directory --directory of any file system
           --op=create|stat|lookup|readdir|unlink|read|write|randread|randwrite
           --direct=0 to go through the page cache

  --output-format=normal|json, --gobench for lines that benchstat reads
  --group_reporting for one result of all numjobs`,
		Example: `  scoutfs-bench --name=r --filename=/dev/vdb --rw=randread --iodepth=32 --runtime=5 --time_based
  scoutfs-bench --name=c --ioengine=path --op=create --directory=/mnt --nrfiles=100000 --output-format=json`,
		DisableFlagParsing: true,
		SilenceErrors:      true,
		SilenceUsage:       true,
		Args:               cobra.ArbitraryArgs,
		RunE:               func(c *cobra.Command, args []string) error { return runJobs(c, args) },
	}
	root.AddCommand(newNullCommand(), newFiguresCommand())
	return root
}

// runJobs runs the jobs of a command line one after the other.
func runJobs(c *cobra.Command, args []string) error {
	if len(args) == 0 || args[0] == "--help" || args[0] == "-h" {
		return c.Help()
	}
	jobs, out, err := bench.ParseArgs(args)
	if err != nil {
		return usageError{err}
	}
	stop, err := profile()
	if err != nil {
		return err
	}
	defer stop()
	var all []*bench.Result
	for i := range jobs {
		r, err := bench.Run(c.Context(), &jobs[i])
		if err != nil {
			return err
		}
		all = append(all, r...)
	}
	return bench.Report(c.OutOrStdout(), out, all)
}

// profile writes a CPU profile to the file that SCOUTFS_CPUPROFILE names.
func profile() (stop func(), err error) {
	path := os.Getenv("SCOUTFS_CPUPROFILE")
	if path == "" {
		return func() {}, nil
	}
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() {
		pprof.StopCPUProfile()
		_ = f.Close()
	}, nil
}

func newNullCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "null DIR",
		Short: "serve a FUSE file system that answers from memory on DIR, until it is unmounted",
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			log := slog.New(slog.NewTextHandler(os.Stderr, nil))
			stop, err := profile()
			if err != nil {
				return err
			}
			defer stop()
			return bench.ServeNull(args[0], func() { fmt.Fprintln(c.OutOrStdout(), "serving", args[0]) }, log)
		},
	}
}
