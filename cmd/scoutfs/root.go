// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"io"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"scoutfs/format"
)

// Groups of the list of commands.
const (
	groupCore   = "core"
	groupInfo   = "info"
	groupSearch = "search"
	groupAgent  = "agent"
	groupDebug  = "debug"
)

var groups = []*cobra.Group{
	{ID: groupCore, Title: "Core admin:"},
	{ID: groupInfo, Title: "Additional Information:"},
	{ID: groupSearch, Title: "Search Acceleration:"},
	{ID: groupAgent, Title: "Archival Agent Support:"},
	{ID: groupDebug, Title: "Debugging commands:"},
}

// commands are all subcommands in the order of the list.
var commands = []struct {
	group string
	make  func() *cobra.Command
}{
	{groupCore, newMkfsCommand},
	{groupCore, newMountCommand},
	{groupCore, newUmountCommand},
	{groupCore, newDfCommand},
	{groupCore, newCheckCommand},
	{groupInfo, newStatCommand},
	{groupInfo, newStatfsCommand},
	{groupSearch, newWalkInodesCommand},
	{groupSearch, newInoPathCommand},
	{groupSearch, newReferringCommand},
	{groupDebug, newPrintCommand},
}

func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "scoutfs",
		Version:       version(),
		SilenceErrors: true,
		SilenceUsage:  true,
		// What is no command must not be called an unknown option.
		FParseErrWhitelist: cobra.FParseErrWhitelist{UnknownFlags: true},
		Args:               cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				return &unknownCommandError{args[0]}
			}
			return &unknownCommandError{}
		},
	}
	root.AddGroup(groups...)
	root.SetHelpCommandGroupID(groupDebug)
	root.SetCompletionCommandGroupID(groupDebug)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &usageError{flagMessage(err)} })
	for _, e := range commands {
		c := e.make()
		c.GroupID = e.group
		prepare(c)
		root.AddCommand(c)
	}
	help := root.HelpFunc()
	root.SetHelpFunc(func(c *cobra.Command, args []string) {
		if c == root {
			printUsage(c.OutOrStdout(), root)
			return
		}
		help(c, args)
	})
	return root
}

// prepare gives a subcommand what all have: --help and --usage, abbreviated
// long options, and argument errors that end with exit code 64.
func prepare(c *cobra.Command) {
	f := c.Flags()
	f.BoolP("help", "?", false, "give this help list")
	f.Bool("usage", false, "give a short usage message")
	f.SetNormalizeFunc(abbreviations(f))
	c.DisableFlagsInUseLine = true
	args := c.Args
	c.Args = func(c *cobra.Command, given []string) error {
		if usage, _ := c.Flags().GetBool("usage"); usage {
			fmt.Fprintf(c.OutOrStdout(), "Usage: %s\n", c.UseLine())
			return errUsageShown
		}
		if args == nil {
			return nil
		}
		if err := args(c, given); err != nil {
			return &usageError{err.Error()}
		}
		return nil
	}
}

// abbreviations lets the start of a long option stand for it if no other
// starts so, as GNU programs do.
func abbreviations(f *pflag.FlagSet) func(*pflag.FlagSet, string) pflag.NormalizedName {
	var names []string
	f.VisitAll(func(flag *pflag.Flag) { names = append(names, flag.Name) })
	return func(_ *pflag.FlagSet, given string) pflag.NormalizedName {
		match := ""
		for _, name := range names {
			switch {
			case name == given:
				return pflag.NormalizedName(given)
			case !strings.HasPrefix(name, given):
			case match == "":
				match = name
			default:
				return pflag.NormalizedName(given) // ambiguous
			}
		}
		return pflag.NormalizedName(cmp.Or(match, given))
	}
}

// printUsage prints the list of commands.
func printUsage(w io.Writer, root *cobra.Command) {
	width := 0
	for _, c := range root.Commands() {
		width = max(width, len(c.Name()))
	}
	fmt.Fprintf(w, "usage: scoutfs <command> [<args>]\n")
	for _, g := range groups {
		var list strings.Builder
		for _, e := range ordered(root) {
			if e.GroupID == g.ID {
				_, args, _ := strings.Cut(e.Use, " ")
				fmt.Fprintf(&list, "  %*s  %s\n  %*s  %s\n", width, e.Name(), args, width, "", e.Short)
			}
		}
		if list.Len() > 0 {
			fmt.Fprintf(w, "\n%s\n%s", g.Title, list.String())
		}
	}
	fmt.Fprintf(w, "\nSupported format version: %d-%d\n", format.MinVersion, format.MaxVersion)
}

// ordered is the commands in the order of the table above, then cobra's own.
func ordered(root *cobra.Command) (list []*cobra.Command) {
	own := map[string]bool{}
	for _, e := range commands {
		name := e.make().Name()
		own[name] = true
		for _, c := range root.Commands() {
			if c.Name() == name {
				list = append(list, c)
			}
		}
	}
	for _, c := range root.Commands() {
		if !own[c.Name()] && !c.Hidden {
			list = append(list, c)
		}
	}
	return list
}

// version is what the go command recorded in the program.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}
