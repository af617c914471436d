// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"scoutfs/fuseconn"
	"scoutfs/mount"
)

// forceWait is how long a forced unmount lets the daemon end by itself.
const forceWait = 10 * time.Second

func newUmountCommand() *cobra.Command {
	var force, lazy bool
	var runDir string
	c := &cobra.Command{
		Use:   "umount [-f] DIR",
		Short: "unmount a volume and wait until its daemon has ended",
		Long: `Unmount the volume on DIR. The command returns when the mount's daemon has
committed everything, said farewell to the server, and ended.

With -f the unmount is forced: nothing is written any more, what was not
committed is lost as in a crash, and the cluster's server fences this mount.
It always ends soon, whatever state the mount is in.`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if force {
				return forceUmount(runDir, args[0])
			}
			return cleanUmount(runDir, args[0], lazy)
		},
	}
	c.Flags().BoolVarP(&force, "force", "f", false, "forced unmount: lose what was not committed")
	c.Flags().BoolVarP(&lazy, "lazy", "l", false, "detach from the tree now, end when nothing is open any more")
	c.Flags().StringVar(&runDir, "run-dir", mount.DefaultRunDir, "directory of the status tree")
	return c
}

func cleanUmount(runDir, dir string, lazy bool) error {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	_, pidfd, err := findRecord(runDir, abs)
	if err != nil && !errors.Is(err, syscall.ENOENT) {
		return err
	}
	if pidfd >= 0 {
		defer unix.Close(pidfd)
	}
	if err := fuseconn.Unmount(abs, false, lazy); err != nil {
		if pidfd < 0 || !errors.Is(err, syscall.EINVAL) {
			return err
		}
		// Unmounted already: only the daemon is still ending.
	}
	if pidfd < 0 || lazy {
		return nil
	}
	_, err = waitProcess(pidfd, -1)
	return err
}

func forceUmount(runDir, dir string) error {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	r, pidfd, err := findRecord(runDir, abs)
	if errors.Is(err, syscall.ENOENT) {
		return fuseconn.Unmount(abs, true, true)
	}
	if err != nil {
		return err
	}
	defer unix.Close(pidfd)
	for _, sig := range []unix.Signal{unix.SIGUSR1, unix.SIGKILL} {
		if err := unix.PidfdSendSignal(pidfd, sig, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("signal daemon %d: %w", r.PID, err)
		}
		ended, err := waitProcess(pidfd, forceWait)
		if err != nil {
			return err
		}
		if ended {
			if fuseconn.IsMounted(abs) {
				return fuseconn.Unmount(abs, true, true)
			}
			return nil
		}
	}
	return fmt.Errorf("daemon %d does not end, not even after SIGKILL: %w", r.PID, syscall.EBUSY)
}

// waitProcess waits until a process has ended; d < 0: for ever.
func waitProcess(pidfd int, d time.Duration) (ended bool, err error) {
	ms := -1
	if d >= 0 {
		ms = int(d / time.Millisecond)
	}
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, ms)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		return n > 0, err
	}
}
