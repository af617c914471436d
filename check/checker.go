// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package check

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"scoutfs/block"
	"scoutfs/format"
)

// checker is one Run.
type checker struct {
	ctx    context.Context
	cancel context.CancelFunc
	meta   block.Device
	data   block.Device
	o      Options
	super  *format.Super
	total  uint64 // metadata blocks, not more than the device has

	reads    atomic.Uint64
	estimate atomic.Uint64
	progress sync.Mutex // held while Options.Progress is called

	lost     atomic.Bool // a structure could not be read completely: blocks without owner mean nothing
	fsLost   atomic.Bool // the same of an item tree: absent items mean nothing
	srchLost atomic.Bool // the same of a srch file: absent entries mean nothing

	mu       sync.Mutex
	findings map[int]map[Finding]struct{} // +checklocks:mu
	report   Report                       // +checklocks:mu, counts
	owners   ownerMap                     // +checklocks:mu

	dataExtents []dataExtent
	logs        []*logTree
	merge       mergeState
	srch        entrySet // entries that are in the files an odd number of times
}

func newChecker(ctx context.Context, meta, data block.Device, o Options) *checker {
	c := &checker{meta: meta, data: data, o: o, findings: map[int]map[Finding]struct{}{}}
	c.ctx, c.cancel = context.WithCancel(ctx)
	return c
}

// place says where a finding was made.
type place struct {
	structure string
	block     format.Blkno
	key       *format.Key
}

// add records a finding.
func (c *checker) add(sev Severity, rule int, p place, msg string, args ...any) {
	f := Finding{Rule: rule, Severity: sev, Structure: p.structure, Block: p.block, Message: fmt.Sprintf(msg, args...)}
	if p.key != nil {
		f.Key = p.key.String()
	}
	c.store(f)
}

// store counts a finding and keeps it if there is room.
func (c *checker) store(f Finding) {
	c.mu.Lock()
	defer c.mu.Unlock()
	set := c.findings[f.Rule]
	if set == nil {
		set = map[Finding]struct{}{}
		c.findings[f.Rule] = set
	}
	if _, known := set[f]; known {
		return // shared blocks are read twice
	}
	if len(set) < c.o.MaxFindings || f.Severity == Error && c.makeRoom(set) {
		set[f] = struct{}{}
	}
	c.count(f.Severity, f.Rule)
}

// makeRoom drops a finding that is no error for one that is.
//
// +checklocks:c.mu
func (c *checker) makeRoom(set map[Finding]struct{}) bool {
	for f := range set {
		if f.Severity != Error {
			delete(set, f)
			return true
		}
	}
	return false
}

// +checklocks:c.mu
func (c *checker) count(sev Severity, rule int) {
	switch sev {
	case Error:
		c.report.Counts.Errors++
	case Warning:
		c.report.Counts.Warnings++
	case Leak:
		c.report.Counts.Leaks++
	case Oddity:
		c.report.Counts.Oddities++
		return
	}
	c.report.ByRule[rule]++
}

// err records a finding of severity Error.
func (c *checker) err(rule int, p place, msg string, args ...any) {
	c.add(Error, rule, p, msg, args...)
}

// warn records a finding of severity Warning.
func (c *checker) warn(rule int, p place, msg string, args ...any) {
	c.add(Warning, rule, p, msg, args...)
}

// odd records a known oddity.
func (c *checker) odd(rule int, p place, msg string, args ...any) {
	c.add(Oddity, rule, p, msg, args...)
}

// doubt counts a conclusion that damage elsewhere makes worthless.
func (c *checker) doubt() {
	c.mu.Lock()
	c.report.Doubtful++
	c.mu.Unlock()
}

// run makes the check. Its error is a failure of the check, not of the volume.
func (c *checker) run() error {
	ok, err := c.checkSupers()
	if err != nil || !ok {
		return err
	}
	c.phase("quorum blocks")
	c.checkQuorum()
	c.phase("server structures")
	s := c.super
	logs := c.readLogTrees()
	merge := c.readMergeItems()
	files := c.readSrchItems()
	clients := c.readClients()
	c.checkServerAllocs()
	c.checkLogTrees(logs, clients, s)
	c.phase("log merge")
	c.checkMerge(merge)
	c.phase("srch files")
	c.checkSrch(files)
	c.setEstimate()
	c.phase("filesystem items")
	c.checkForest()
	if c.ctx.Err() != nil {
		return nil
	}
	c.phase("ownership of blocks")
	c.checkMetaOwners()
	c.checkDataOwners()
	return nil
}

func (c *checker) phase(what string) { c.o.Log.Info("check: " + what) }

// finish makes the report of what was found.
func (c *checker) finish() *Report {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.report
	r.BlocksRead = c.reads.Load()
	r.Findings = []Finding{}
	for _, set := range c.findings {
		for f := range set {
			r.Findings = append(r.Findings, f)
		}
	}
	slices.SortFunc(r.Findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Severity, b.Severity), cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Structure, b.Structure),
			cmp.Compare(a.Block, b.Block), cmp.Compare(a.Key, b.Key), cmp.Compare(a.Message, b.Message))
	})
	return &r
}
