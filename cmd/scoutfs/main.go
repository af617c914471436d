// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

// Command scoutfs makes, mounts, checks and looks into ScoutFS volumes. Each
// subcommand has a file of its own with a newXCommand function, which the list
// in root.go names.
//
// Exit codes: 0 success; 1 failure, with a line that gives the error number,
// or an unknown command; 64 arguments that cannot be understood.
package main

import (
	"io"
	"os"
)

func main() {
	args := os.Args[1:]
	if isMountHelper(os.Args[0]) {
		args = helperArgs(args)
	}
	os.Exit(run(args, os.Stdout, os.Stderr))
}

// run executes a command line without the program's name and returns the exit
// code.
func run(args []string, stdout, stderr io.Writer) int {
	root := newRootCommand()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	c, err := root.ExecuteC()
	return report(stderr, c, err)
}
