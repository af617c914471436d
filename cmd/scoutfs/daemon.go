// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// A mount's daemon is this program again with the same arguments, in a session
// of its own. It tells the command that started it how the mount went over a
// pipe: a line "ok", or a line with errno and text of the error. When the starter dies first,
// the pipe's reader is gone, and the daemon gives up.

// readyEnv names the descriptor of the pipe in the daemon's environment.
const readyEnv = "SCOUTFS_READY_FD"

func isDaemon() bool { return os.Getenv(readyEnv) != "" }

// errReported is an error that was printed already.
var errReported = errors.New("reported")

// startDaemon starts the daemon and waits until it serves or has failed.
func startDaemon(a *mountArgs) error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	log, err := daemonOutput(a)
	if err != nil {
		return err
	}
	defer log.Close()
	args := []string{"mount"}
	for _, o := range a.options {
		args = append(args, "-o", o)
	}
	if a.verbose {
		args = append(args, "-v")
	}
	args = append(args, fmt.Sprint("--cache-size=", a.cacheMiB), "--run-dir="+a.runDir, a.data, a.dir)
	cmd := exec.Command(exe, args...)
	cmd.Env = append(os.Environ(), readyEnv+"=3")
	cmd.ExtraFiles = []*os.File{w}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the daemon: %w", err)
	}
	w.Close()
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		for range stop {
			_ = cmd.Process.Signal(syscall.SIGTERM)
		}
	}()
	line, err := bufio.NewReader(r).ReadString('\n')
	switch {
	case line == "ok\n":
		return nil
	case line != "":
		_ = cmd.Wait()
		return parseFailure(strings.TrimSuffix(line, "\n"))
	}
	if errors.Is(err, io.EOF) {
		err = cmd.Wait()
	}
	return fmt.Errorf("the daemon ended before the mount was usable (%v); its log is %s", err, log.Name())
}

// daemonError is an error of the daemon as it came through the pipe.
type daemonError struct {
	text  string
	errno syscall.Errno
}

func (e *daemonError) Error() string { return e.text }
func (e *daemonError) Unwrap() error { return e.errno }

func parseFailure(line string) error {
	nr, text, ok := strings.Cut(line, " ")
	n, err := strconv.Atoi(nr)
	if !ok || err != nil {
		return errors.New(line)
	}
	return &daemonError{text: text, errno: syscall.Errno(n)}
}

// daemonOutput opens the file that takes what the daemon logs.
func daemonOutput(a *mountArgs) (*os.File, error) {
	dir := filepath.Join(a.runDir, "log")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	return os.OpenFile(filepath.Join(dir, escapePath(a.dir)+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
}

// readiness reports to the starter. In the foreground there is none.
type readiness struct {
	pipe     *os.File
	reported atomic.Bool
	c        context.Context
}

func reporter() *readiness {
	r := &readiness{c: context.Background()}
	if isDaemon() {
		var cancel context.CancelFunc
		r.c, cancel = context.WithCancel(r.c)
		r.pipe = os.NewFile(3, "ready")
		syscall.CloseOnExec(3)
		os.Unsetenv(readyEnv)
		go r.watch(cancel)
	}
	return r
}

// ctx ends when the starter has died before the mount was usable.
func (r *readiness) ctx() context.Context { return r.c }

// watch cancels when the pipe has no reader any more before the report.
func (r *readiness) watch(cancel context.CancelFunc) {
	fds := []unix.PollFd{{Fd: 3}}
	for !r.reported.Load() {
		if n, err := unix.Poll(fds, 200); n > 0 && err == nil && !r.reported.Load() {
			cancel()
			return
		}
	}
}

func (r *readiness) done() { r.report("ok") }

func (r *readiness) failed(err error) {
	errno := syscall.EIO
	errors.As(err, &errno)
	r.report(fmt.Sprintf("%d %s", int(errno), strings.ReplaceAll(err.Error(), "\n", "; ")))
}

func (r *readiness) report(line string) {
	// The mark comes first: the starter may be gone as soon as it has the line.
	if !r.reported.Swap(true) && r.pipe != nil {
		_, _ = r.pipe.WriteString(line + "\n")
		r.pipe.Close()
	}
}
