// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"scoutfs/format"
)

// mountPathEnv names a path in the mount that commands use without -p.
const mountPathEnv = "SCOUTFS_MOUNT_PATH"

// addPathOption adds -p. Use targetPath to get its value.
func addPathOption(c *cobra.Command) {
	c.Flags().StringP("path", "p", "", "any `PATH` in the mounted file system, default $"+mountPathEnv+" or the current directory")
}

// addJSONOption adds --json.
func addJSONOption(c *cobra.Command, what string) {
	c.Flags().Bool("json", false, "print "+what)
}

func wantsJSON(c *cobra.Command) bool {
	yes, _ := c.Flags().GetBool("json")
	return yes
}

// printJSON prints v on one line.
func printJSON(w io.Writer, v any) error { return json.NewEncoder(w).Encode(v) }

func targetPath(c *cobra.Command) string {
	if path, _ := c.Flags().GetString("path"); path != "" {
		return path
	}
	if path := os.Getenv(mountPathEnv); path != "" {
		return path
	}
	return "."
}

// target is an open file or directory of a mount.
type target struct {
	fd   int
	path string
}

func openTarget(path string) (*target, error) {
	// Without O_NONBLOCK a fifo would wait for a writer.
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("failed to open '%s': %w", path, err)
	}
	return &target{fd: fd, path: path}, nil
}

func (t *target) close() { unix.Close(t.fd) }

// ioctl performs an ioctl with the argument in place.
func (t *target) ioctl(nr format.IoctlNr, arg []byte) (int, error) {
	n, err := sysIoctl(t.fd, nr, arg)
	if errors.Is(err, syscall.ENOTTY) {
		return 0, fmt.Errorf("'%s' is not in a mounted ScoutFS file system: %w", t.path, err)
	}
	return n, err
}
