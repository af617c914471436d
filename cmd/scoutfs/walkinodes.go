// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"fmt"
	"math"
	"runtime"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"scoutfs/format"
)

const (
	walkBatch  = 128 // entries of one call
	walkHeader = 25  // lines between headers
)

func newWalkInodesCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "walk-inodes [-p PATH] {meta_seq|data_seq} FIRST LAST",
		Short: "print range of indexed inodes",
		Long: `Print inodes in the order of the last change of their metadata (meta_seq) or
contents (data_seq). FIRST and LAST are major[.minor[.ino]]; -1 is the greatest
number and needs -- before the arguments, as in

  scoutfs walk-inodes -p /mnt/archive -- meta_seq 0 -1`,
		Args: cobra.ExactArgs(3),
		RunE: func(c *cobra.Command, args []string) error { return runWalkInodes(c, args[0], args[1], args[2]) },
	}
	addPathOption(c)
	addJSONOption(c, "a JSON object for each inode")
	return c
}

func runWalkInodes(c *cobra.Command, index, from, to string) error {
	var args format.IocWalkInodesArgs
	var err error
	if args.Index, err = parseIndex(index); err != nil {
		return err
	}
	if args.First, err = parseWalkEntry("first", from); err != nil {
		return err
	}
	if args.Last, err = parseWalkEntry("last", to); err != nil {
		return err
	}
	t, err := openTarget(targetPath(c))
	if err != nil {
		return err
	}
	defer t.close()
	out := bufio.NewWriter(c.OutOrStdout())
	nr, json := 0, wantsJSON(c)
	err = walkInodes(t, args, func(e *format.IocWalkEntry) error {
		defer func() { nr++ }()
		if json {
			return printJSON(out, struct {
				Major uint64 `json:"major"`
				Minor uint32 `json:"minor"`
				Ino   uint64 `json:"ino"`
			}{e.Major, e.Minor, uint64(e.Ino)})
		}
		if nr%walkHeader == 0 {
			fmt.Fprintf(out, "%-20s %-20s %-10s %-20s\n", "#", "major", "minor", "ino")
		}
		_, err := fmt.Fprintf(out, "%-20d %-20d %-10d %-20d\n", nr, e.Major, e.Minor, e.Ino)
		return err
	})
	if flushErr := out.Flush(); err == nil {
		err = flushErr
	}
	return err
}

// walkInodes calls fn for every entry from args.First to args.Last.
func walkInodes(t *target, args format.IocWalkInodesArgs, fn func(*format.IocWalkEntry) error) error {
	buf := make([]byte, walkBatch*format.Size[format.IocWalkEntry]())
	var pin runtime.Pinner
	defer pin.Unpin()
	args.EntriesPtr, args.NrEntries = address(&pin, buf), walkBatch
	for {
		n, err := t.ioctl(format.IocWalkInodes, format.Bytes(&args))
		if err != nil {
			return fmt.Errorf("walk_inodes ioctl failed: %w", err)
		}
		entries := loadAll[format.IocWalkEntry](buf, n)
		if len(entries) == 0 {
			return nil
		}
		for i := range entries {
			if err := fn(&entries[i]); err != nil {
				return err
			}
		}
		next, ok := nextWalkEntry(entries[len(entries)-1])
		if !ok {
			return nil
		}
		args.First = next
	}
}

// nextWalkEntry is the position after e; ok is false if there is none.
func nextWalkEntry(e format.IocWalkEntry) (_ format.IocWalkEntry, ok bool) {
	if e.Ino++; e.Ino == 0 {
		if e.Minor++; e.Minor == 0 {
			if e.Major++; e.Major == 0 {
				return e, false
			}
		}
	}
	return e, true
}

func parseIndex(s string) (uint8, error) {
	switch strings.ToLower(s) {
	case "meta_seq":
		return 0, nil
	case "data_seq":
		return 1, nil
	}
	return 0, fmt.Errorf("unknown index '%s', there are meta_seq and data_seq: %w", s, syscall.EINVAL)
}

// parseWalkEntry decodes major[.minor[.ino]]; -1 is the greatest of each.
func parseWalkEntry(what, s string) (e format.IocWalkEntry, err error) {
	parts := strings.Split(s, ".")
	if len(parts) > 3 {
		return e, fmt.Errorf("%s entry '%s' has more than three parts: %w", what, s, syscall.EINVAL)
	}
	var v [3]uint64
	for i, part := range parts {
		if v[i], err = parseU64(what+" entry", part); err != nil {
			return e, err
		}
	}
	if v[1] == math.MaxUint64 {
		v[1] = math.MaxUint32
	}
	if v[1] > math.MaxUint32 {
		return e, fmt.Errorf("%s entry '%s': minor is above %d: %w", what, s, uint32(math.MaxUint32), syscall.ERANGE)
	}
	return format.IocWalkEntry{Major: v[0], Minor: uint32(v[1]), Ino: format.Ino(v[2])}, nil
}
