// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"scoutfs/format"
)

func newDfCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "df [-h] [-p PATH]",
		Short: "show metadata and data block usage",
		Args:  cobra.NoArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return runDf(c) },
	}
	c.Flags().BoolP("human-readable", "h", false, "print amounts of bytes with a unit")
	addPathOption(c)
	addJSONOption(c, "an array of JSON objects")
	return c
}

// usage is one line of df.
type usage struct {
	Type      string `json:"type"`
	BlockSize uint64 `json:"block_size"`
	Total     uint64 `json:"total"`
	Used      uint64 `json:"used"`
	Free      uint64 `json:"free"`
}

func runDf(c *cobra.Command) error {
	t, err := openTarget(targetPath(c))
	if err != nil {
		return err
	}
	defer t.close()
	var s format.IocStatfsMoreResult
	if _, err := t.ioctl(format.IocStatfsMore, format.Bytes(&s)); err != nil {
		return fmt.Errorf("statfs_more ioctl failed: %w", err)
	}
	entries, err := allocDetail(t)
	if err != nil {
		return fmt.Errorf("alloc_detail ioctl failed: %w", err)
	}
	lines := usageOf(&s, entries)
	if wantsJSON(c) {
		return printJSON(c.OutOrStdout(), lines)
	}
	human, _ := c.Flags().GetBool("human-readable")
	return printDf(c.OutOrStdout(), lines, human)
}

// usageOf sums the allocators of a volume. Source: spec interfaces 2.3.
func usageOf(s *format.IocStatfsMoreResult, entries []format.IocAllocDetailEntry) []usage {
	var meta, data uint64
	for i := range entries {
		if entries[i].Bits&format.IocAllocMeta != 0 {
			meta += entries[i].Blocks
		} else {
			data += entries[i].Blocks
		}
	}
	meta -= min(meta, s.ReservedMetaBlocks)
	return []usage{
		{"MetaData", format.LargeSize, s.TotalMetaBlocks, s.TotalMetaBlocks - min(meta, s.TotalMetaBlocks), meta},
		{"Data", format.SmallSize, s.TotalDataBlocks, s.TotalDataBlocks - min(data, s.TotalDataBlocks), data},
	}
}

// allocDetail reads all allocators. It starts with room for 170 and takes a
// quarter more as long as that is too little.
func allocDetail(t *target) ([]format.IocAllocDetailEntry, error) {
	size := format.Size[format.IocAllocDetailEntry]()
	for nr := 170; ; nr += nr / 4 {
		buf := make([]byte, nr*size)
		var pin runtime.Pinner
		args := format.IocAllocDetailArgs{EntriesPtr: address(&pin, buf), EntriesNr: uint64(nr)}
		n, err := t.ioctl(format.IocAllocDetail, format.Bytes(&args))
		pin.Unpin()
		if errors.Is(err, syscall.EOVERFLOW) {
			continue
		}
		if err != nil {
			return nil, err
		}
		return loadAll[format.IocAllocDetailEntry](buf, n), nil
	}
}

// loadAll decodes n values, as many as buf has at most.
func loadAll[T format.Fixed](buf []byte, n int) []T {
	size := format.Size[T]()
	list := make([]T, 0, max(min(n, len(buf)/size), 0))
	for i := range cap(list) {
		v, _ := format.Load[T](buf[i*size:])
		list = append(list, v)
	}
	return list
}

func printDf(w io.Writer, lines []usage, human bool) error {
	rows := [][]string{{"Type", "Size", "Total", "Used", "Free", "Use%"}}
	for _, l := range lines {
		amount := func(blocks uint64) string {
			if human {
				return base(blocks * l.BlockSize)
			}
			return fmt.Sprint(blocks)
		}
		percent := uint64(0)
		if l.Total > 0 {
			percent = l.Used * 100 / l.Total
		}
		rows = append(rows, []string{l.Type, fmt.Sprintf("%dKB", l.BlockSize>>10), amount(l.Total), amount(l.Used), amount(l.Free), fmt.Sprint(percent)})
	}
	var out strings.Builder
	for _, row := range rows {
		for i, cell := range row {
			width := 0
			for _, r := range rows {
				width = max(width, len(r[i]))
			}
			fmt.Fprintf(&out, "%*s  ", width, cell)
		}
		out.WriteByte('\n')
	}
	_, err := io.WriteString(w, out.String())
	return err
}
