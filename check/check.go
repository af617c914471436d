// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

// Package check reads a whole volume that nobody has mounted and tells what in
// it breaks the rules of the format: the 40 rules of spec format 12, whose
// numbers findings carry.
//
// It is a reader of its own. It shares package format with the rest, but walks
// blocks with its own code, so that a mistake in the btree or the allocators
// does not hide itself. It reads every metadata block that something refers to
// once, no file data, and writes nothing. It goes on after each finding. What
// damage makes unreadable is left out, and conclusions that would need it are
// counted as doubtful instead of reported.
//
// A volume whose mounts died is checked like any other: log trees of dead
// mounts and their open transactions are normal after a crash.
//
//	supers -> allocators, log trees, merge, clients, srch files --+
//	                                                              +-> who owns each block
//	fs_root, item_root of each log tree -> merged current items --+
//	                                         |
//	                                         +-> inodes, entries, xattrs, extents, indexes, totals
//
// Units: metadata blocks are 64 KiB, data blocks 4 KiB. Memory is bounded by a
// few words for each inode, each directory, each entry of which one side was
// not seen yet, each data extent and each live srch entry, plus two bytes for
// each metadata block in use. No lock is held over I/O; checker.mu guards
// findings and ownership and is a leaf.
package check

import (
	"context"
	"fmt"
	"log/slog"

	"scoutfs/block"
	"scoutfs/format"
)

// Severity says how bad a finding is.
type Severity uint8

// Severities, from bad to harmless.
const (
	Error   Severity = iota // the volume is damaged
	Warning                 // unusual or repairable; readers cope
	Leak                    // space that nothing owns
	Oddity                  // known peculiarity of volumes that the original writes
)

// String is the word that starts a finding's line.
func (s Severity) String() string {
	switch s {
	case Error:
		return "error"
	case Warning:
		return "warning"
	case Leak:
		return "leak"
	case Oddity:
		return "oddity"
	}
	return fmt.Sprintf("severity %d", uint8(s))
}

// MarshalText makes severities words in JSON.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Finding is one thing that breaks a rule.
type Finding struct {
	Rule      int          `json:"rule"` // number of the rule in spec format 12, 1 to 40
	Severity  Severity     `json:"severity"`
	Structure string       `json:"structure"`       // what it is part of, such as "fs_root" or "inode 12"
	Block     format.Blkno `json:"block,omitempty"` // metadata block, or super's or quorum's small block; 0 if none
	Key       string       `json:"key,omitempty"`   // of the item, in the text form; "" if none
	Message   string       `json:"message"`
}

// String is the finding in one line.
func (f Finding) String() string {
	s := fmt.Sprintf("%v: rule %d: %s", f.Severity, f.Rule, f.Structure)
	if f.Block != 0 {
		s += fmt.Sprintf(": block %d", f.Block)
	}
	if f.Key != "" {
		s += ": key " + f.Key
	}
	return s + ": " + f.Message
}

// Rules is how many rules there are; they are numbered from 1.
const Rules = 40

// Options say how to check. The zero value is the default.
type Options struct {
	// Progress is called now and then, never concurrently, with the metadata blocks read
	// and an estimate of how many there are. total is 0 while it is unknown.
	Progress func(done, total uint64)
	// Log gets a line for each phase. Default: nothing.
	Log *slog.Logger
	// MaxFindings is how many findings of each rule the report holds; further
	// ones are only counted. Default 100.
	MaxFindings int
}

func (o Options) withDefaults() Options {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.MaxFindings <= 0 {
		o.MaxFindings = 100
	}
	return o
}

// Exit codes of the command, see [Report.ExitCode].
const (
	ExitClean    = 0  // nothing, or only oddities
	ExitWarnings = 2  // warnings or leaks, no error
	ExitErrors   = 4  // errors
	ExitFailure  = 8  // the check could not be made
	ExitUsage    = 16 // wrong arguments
)

// Counts are numbers of findings by severity.
type Counts struct {
	Errors   int `json:"errors"`
	Warnings int `json:"warnings"`
	Leaks    int `json:"leaks"`
	Oddities int `json:"oddities"`
}

// Report is the result of a check.
type Report struct {
	Findings []Finding `json:"findings"` // sorted by severity, rule, structure, block and key
	Counts   Counts    `json:"counts"`   // all findings, also those that Findings has no room for
	// ByRule are the findings of each rule, oddities left out. Index 0 is unused.
	ByRule [Rules + 1]int `json:"by_rule"`
	// Doubtful findings could follow from damage that other findings tell, and
	// were dropped.
	Doubtful int `json:"doubtful"`

	Fsid        uint64 `json:"fsid"`
	FmtVers     uint64 `json:"format_version"`
	Inodes      uint64 `json:"inodes"`
	Items       uint64 `json:"items"` // current ones of the filesystem
	LogTrees    uint64 `json:"log_trees"`
	MetaBlocks  uint64 `json:"meta_blocks"` // 64 KiB
	MetaUsed    uint64 `json:"meta_used"`
	MetaFree    uint64 `json:"meta_free"`
	DataBlocks  uint64 `json:"data_blocks"` // 4 KiB
	DataUsed    uint64 `json:"data_used"`
	DataFree    uint64 `json:"data_free"`
	BlocksRead  uint64 `json:"blocks_read"`
	SrchEntries uint64 `json:"srch_entries"`
}

// Clean reports that nothing was found but known oddities.
func (r *Report) Clean() bool {
	return r.Counts.Errors == 0 && r.Counts.Warnings == 0 && r.Counts.Leaks == 0
}

// ExitCode is the command's: ExitClean, ExitWarnings or ExitErrors.
func (r *Report) ExitCode() int {
	switch {
	case r.Counts.Errors > 0:
		return ExitErrors
	case !r.Clean():
		return ExitWarnings
	}
	return ExitClean
}

// Run checks the volume on a metadata and a data device, which nobody may
// change meanwhile. It blocks until everything was read, or ctx is done. The error
// says that the check could not be made, and no more: damage is a finding, even
// of a super block. The devices stay the caller's.
func Run(ctx context.Context, meta, data block.Device, o Options) (*Report, error) {
	c := newChecker(ctx, meta, data, o.withDefaults())
	defer c.cancel()
	if err := c.run(); err != nil {
		return nil, fmt.Errorf("check: %w", err)
	}
	if err := context.Cause(ctx); err != nil {
		return nil, fmt.Errorf("check: %w", err)
	}
	return c.finish(), nil
}
