// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"scoutfs/block"
	"scoutfs/check"
	"scoutfs/format"
)

// exitError ends a command with an exit code of its own. err is printed, if any.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return fmt.Sprintf("exit code %d: %v", e.code, e.err) }

func newCheckCommand() *cobra.Command {
	var quiet, verbose, noProgress bool
	c := &cobra.Command{
		Use:   "check [--json] [-q] [-v] [--no-progress] META DATA",
		Short: "check an unmounted volume",
		Long: `Read all metadata of the volume on META and DATA and print what breaks the rules
of the format, one line for each finding. Nothing is written. The volume must not
be mounted, by no host: mounts of other hosts cannot be seen and would look like
damage.

A line names the severity, the number of the rule in the format's description, the
structure, its block and the item's key. Known oddities, which volumes of the
original implementation have, are listed only with -v. The last line sums up.

Exit codes:
   0  clean, or only known oddities
   2  warnings or leaked space, but no damage
   4  damage
   8  the check could not be made, because a device cannot be read or is in use
  16  wrong arguments`,
		Args: cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) != 2 {
				return &exitError{check.ExitUsage, usagef("accepts 2 arg(s), received %d", len(args))}
			}
			o := check.Options{}
			bar := &checkBar{w: c.ErrOrStderr()}
			if !quiet && !noProgress && !wantsJSON(c) && isTerminal(bar.w) {
				o.Progress = bar.show
			}
			r, err := runCheck(c.Context(), args[0], args[1], o)
			bar.end()
			if err != nil {
				return &exitError{check.ExitFailure, err}
			}
			return printReport(c, args[0], r, quiet, verbose)
		},
	}
	c.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		return &exitError{check.ExitUsage, &usageError{flagMessage(err)}}
	})
	c.Flags().BoolVarP(&quiet, "quiet", "q", false, "print findings only, no progress and no summary")
	c.Flags().BoolVarP(&verbose, "verbose", "v", false, "print known oddities too")
	c.Flags().BoolVar(&noProgress, "no-progress", false, "show no progress, not even on a terminal")
	addJSONOption(c, "the report as a JSON object")
	return c
}

// runCheck checks a volume that it holds against mounts of this host.
func runCheck(ctx context.Context, metaPath, dataPath string, o check.Options) (*check.Report, error) {
	if ctx == nil {
		ctx = context.Background()
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := differ(metaPath, dataPath); err != nil {
		return nil, err
	}
	var devs [2]*block.File
	for i, path := range []string{metaPath, dataPath} {
		dev, err := openUnused(path)
		if err != nil {
			return nil, err
		}
		defer dev.Close()
		devs[i] = dev
	}
	return check.Run(ctx, devs[0], devs[1], o)
}

// openUnused opens a device that no mount of this host uses. It is opened for
// writing because only then locks keep mounts from starting meanwhile; what can
// only be read cannot be mounted either, but is looked at for mounts of others.
func openUnused(path string) (*block.File, error) {
	dev, err := block.Open(path, block.OpenOptions{})
	switch {
	case err == nil:
		err = dev.LockWhole()
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EROFS), errors.Is(err, syscall.EPERM):
		if dev, err = block.Open(path, block.OpenOptions{ReadOnly: true}); err == nil {
			err = testSlots(dev)
		}
	}
	if errors.Is(err, block.ErrBusy) {
		err = fmt.Errorf("'%s' is in use: unmount the volume first: %w", path, syscall.EBUSY)
	}
	if err != nil {
		if dev != nil {
			_ = dev.Close()
		}
		return nil, err
	}
	return dev, nil
}

func testSlots(dev *block.File) error {
	for slot := range format.QuorumSlots {
		if held, err := dev.TestSlot(slot); err != nil || held {
			return errors.Join(err, block.ErrBusy)
		}
	}
	return nil
}

// printReport prints the findings and the summary, and makes the exit code.
func printReport(c *cobra.Command, name string, r *check.Report, quiet, verbose bool) error {
	w := c.OutOrStdout()
	if wantsJSON(c) {
		if err := printJSON(w, r); err != nil {
			return &exitError{check.ExitFailure, err}
		}
	} else {
		for _, f := range r.Findings {
			if verbose || f.Severity != check.Oddity {
				fmt.Fprintln(w, f)
			}
		}
		if !quiet {
			fmt.Fprintf(w, "%s: %s\n", name, summary(r))
		}
	}
	if code := r.ExitCode(); code != check.ExitClean {
		return &exitError{code: code}
	}
	return nil
}

func summary(r *check.Report) string {
	s := "clean"
	if !r.Clean() {
		s = counted(r.Counts.Errors, "error", "errors") + ", " + counted(r.Counts.Warnings, "warning", "warnings") + ", " +
			counted(r.Counts.Leaks, "leak", "leaks")
	}
	if r.Counts.Oddities > 0 {
		s += ", " + counted(r.Counts.Oddities, "known oddity", "known oddities")
	}
	if r.Doubtful > 0 {
		s += ", " + counted(r.Doubtful, "doubtful conclusion", "doubtful conclusions") + " left out"
	}
	return s + fmt.Sprintf(", %d inodes, %d of %d metadata blocks used, %d of %d data blocks used",
		r.Inodes, r.MetaUsed, r.MetaBlocks, r.DataUsed, r.DataBlocks)
}

func counted(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// checkBar shows progress on a terminal.
type checkBar struct {
	w   io.Writer
	mu  sync.Mutex
	bar *progressbar.ProgressBar // +checklocks:mu
}

// show is check.Options.Progress.
func (b *checkBar) show(done, total uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.bar == nil {
		b.bar = progressbar.NewOptions64(-1, progressbar.OptionSetWriter(b.w), progressbar.OptionSetDescription("checking"),
			progressbar.OptionShowCount(), progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish())
	}
	if total > 0 {
		b.bar.ChangeMax64(int64(max(total, done)))
	}
	_ = b.bar.Set64(int64(done))
}

func (b *checkBar) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.bar != nil {
		_ = b.bar.Clear()
	}
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
