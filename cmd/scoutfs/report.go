// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Exit codes.
const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 64
)

// usageError says that the arguments cannot be understood.
type usageError struct{ reason string }

func (e *usageError) Error() string { return e.reason }

func usagef(format string, args ...any) error { return &usageError{fmt.Sprintf(format, args...)} }

// unknownCommandError carries what was given instead of a command, if anything.
type unknownCommandError struct{ name string }

func (e *unknownCommandError) Error() string { return "unrecognized command: '" + e.name + "'" }

// errUsageShown ends a command that was only asked for its usage.
var errUsageShown = errors.New("usage shown")

// report prints the error of command c, if any, and returns the exit code.
func report(w io.Writer, c *cobra.Command, err error) int {
	var unknown *unknownCommandError
	var usage *usageError
	var exit *exitError
	switch {
	case err == nil || errors.Is(err, errUsageShown):
		return exitOK
	case errors.As(err, &exit):
		if exit.err != nil {
			report(w, c, exit.err)
		}
		return exit.code
	case errors.Is(err, errReported):
		return exitFailure
	case errors.As(err, &unknown):
		if unknown.name != "" {
			fmt.Fprintf(w, "scoutfs: %v\n", unknown)
		}
		printUsage(w, c.Root())
		return exitFailure
	case errors.As(err, &usage):
		fmt.Fprintf(w, "%s: %v\nTry `%[1]s --help' or `%[1]s --usage' for more information.\n", c.Name(), usage)
		return exitUsage
	}
	errno := errnoIn(err)
	if _, bare := err.(syscall.Errno); !bare {
		fmt.Fprintln(w, err)
	}
	fmt.Fprintf(w, "scoutfs: %s failed: %s (%d)\n", c.Name(), errnoText(errno), int(errno))
	return exitFailure
}

// errnoIn is the error number of err.
func errnoIn(err error) syscall.Errno {
	var e syscall.Errno
	if errors.As(err, &e) && e != 0 {
		return e
	}
	// Our own errors match numbers without wrapping them.
	for _, e := range []syscall.Errno{syscall.ESTALE, syscall.EIO, syscall.EINVAL, syscall.EBUSY, syscall.ENOSPC, syscall.ENOENT,
		syscall.EEXIST, syscall.EPERM, syscall.EINTR, syscall.ENOLINK} {
		if errors.Is(err, e) {
			return e
		}
	}
	return syscall.EIO
}

// errnoText is the C library's text of an error number.
func errnoText(e syscall.Errno) string {
	if e == syscall.ESTALE {
		return "Stale file handle"
	}
	s := e.Error()
	return strings.ToUpper(s[:1]) + s[1:]
}

// flagMessage words an error of pflag like getopt.
func flagMessage(err error) string {
	var missing *pflag.NotExistError
	var value *pflag.ValueRequiredError
	switch {
	case errors.As(err, &missing) && missing.GetSpecifiedShortnames() != "":
		return fmt.Sprintf("invalid option -- '%s'", missing.GetSpecifiedName())
	case errors.As(err, &missing):
		return fmt.Sprintf("unrecognized option '--%s'", missing.GetSpecifiedName())
	case errors.As(err, &value) && value.GetSpecifiedShortnames() != "":
		return fmt.Sprintf("option requires an argument -- '%s'", value.GetSpecifiedName())
	case errors.As(err, &value):
		return fmt.Sprintf("option '--%s' requires an argument", value.GetSpecifiedName())
	}
	return err.Error()
}
