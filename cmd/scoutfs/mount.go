// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"scoutfs/block"
	"scoutfs/fuseconn"
	"scoutfs/fusefs"
	"scoutfs/mount"
)

// mountArgs are what a mount command was given.
type mountArgs struct {
	foreground bool
	verbose    bool
	cacheMiB   uint32 // 0: the default
	options    []string
	runDir     string
	data, dir  string
}

// cacheBudget is the budget of each of the two caches in bytes, 0 for the
// default. A sixteenth of their memory is lost between buffers of different
// sizes.
func (a *mountArgs) cacheBudget() int64 { return int64(a.cacheMiB) << 20 * 15 / 16 / 2 }

func newMountCommand() *cobra.Command {
	var a mountArgs
	c := &cobra.Command{
		Use:   "mount [-f] -o metadev_path=META[,quorum_slot_nr=N][,OPTION...] DATA DIR",
		Short: "mount a volume on a directory",
		Long: `Mount the volume whose data device is DATA on the directory DIR. The command
returns when the volume can be used; a daemon then serves it until it is
unmounted. Devices are block devices or plain files.

Without quorum_slot_nr the mount is a plain client, and waits until a mount
with a slot runs the server. Options:

  metadev_path=META                  the metadata device; required
  quorum_slot_nr=N                   take quorum slot N: may vote and serve
  acl | noacl                        POSIX ACLs, on by default
  data_prealloc_blocks=N             4 KiB blocks to preallocate (2048)
  data_prealloc_contig_only=0|1      only for streaming writes (1)
  ino_alloc_per_lock=1..1024         inode numbers for each lock (1024)
  lock_idle_count=32..100000         idle locks to keep (10000)
  log_merge_wait_timeout_ms=N        100..60000 (500)
  orphan_scan_delay_ms=N             100..60000 (10000)
  quorum_heartbeat_timeout_ms=N      2000..60000 (10000)
  tcp_keepalive_timeout_ms=N         more than 3000 (24000)
  ro, nosuid, nodev, noexec, ...     the generic options of mount(8)

Installed as /sbin/mount.scoutfs it serves mount(8) and /etc/fstab:

  /dev/vg/data  /mnt/archive  scoutfs  metadev_path=/dev/vg/meta,quorum_slot_nr=0,_netdev  0 0`,
		Example: "  scoutfs mount -o metadev_path=/dev/vg/meta,quorum_slot_nr=0 /dev/vg/data /mnt/archive",
		Args:    cobra.ExactArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			a.data, a.dir = args[0], args[1]
			return runMount(&a)
		},
	}
	c.Flags().BoolVarP(&a.foreground, "foreground", "f", false, "serve in the foreground; log to standard error")
	c.Flags().StringArrayVarP(&a.options, "options", "o", nil, "comma separated mount options; may be repeated")
	c.Flags().StringVar(&a.runDir, "run-dir", mount.DefaultRunDir, "directory of the status tree")
	c.Flags().BoolVarP(&a.verbose, "verbose", "v", false, "log more")
	c.Flags().Uint32Var(&a.cacheMiB, "cache-size", 0, "memory for caches in MiB, half for metadata blocks, half for items (default 512)")
	return c
}

// splitOptions separates the options of the generic layer from ours.
func splitOptions(given []string) (generic []string, ours string) {
	var rest []string
	for _, o := range strings.Split(strings.Join(given, ","), ",") {
		switch {
		case o == "":
		case fuseconn.IsMountFlag(o):
			generic = append(generic, o)
		case strings.HasPrefix(o, "x-") || strings.HasPrefix(o, "comment="):
			// for userspace only, as mount(8) defines
		default:
			rest = append(rest, o)
		}
	}
	return generic, strings.Join(rest, ",")
}

func runMount(a *mountArgs) error {
	if !a.foreground && !isDaemon() {
		_, ours := splitOptions(a.options)
		if _, err := mount.ParseOptions(ours); err != nil {
			return err
		}
		return startDaemon(a)
	}
	ready := reporter()
	err := serveMount(a, ready)
	if err != nil {
		ready.failed(err)
	}
	return err
}

// server is the daemon of one mount.
type server struct {
	args   *mountArgs
	opts   mount.MountOptions
	ready  *readiness
	log    *slog.Logger
	kernel *fusefs.Kernel
	status *fusefs.StatusMount // nil if there is none
	m      *mount.Mount
	conn   *fuseconn.Conn
}

// serveMount is the life of a mount's daemon. It returns after the unmount.
func serveMount(a *mountArgs, ready *readiness) error {
	log := daemonLog(a)
	s := &server{args: a, ready: ready, log: log, kernel: fusefs.NewKernel(log)}
	generic, ours := splitOptions(a.options)
	var err error
	if s.opts, err = mount.ParseOptions(ours); err != nil {
		return err
	}
	if err := leaveDirectory(a, &s.opts); err != nil {
		return err
	}
	if err := fuseconn.CheckMountPoint(a.dir); err != nil {
		return err
	}
	if err := checkFuse(); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(ready.ctx(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	defer func() {
		if s.status != nil {
			s.status.Close()
		}
	}()
	s.m, err = mount.Open(ctx, mount.Options{
		Device: a.data, MountOptions: s.opts, RunDir: a.runDir, Kernel: s.kernel, OnStatus: s.showStatus, Log: log,
		CacheBudget: a.cacheBudget(), ItemBudget: a.cacheBudget(),
	})
	if err != nil {
		return err
	}
	s.conn, err = fuseconn.Mount(a.dir, fuseconn.Options{
		Source: a.data, Flags: generic, FuseOptions: fusefs.MountOptions(), Log: log,
		Buffer: block.AlignedBuf, Free: block.FreeBuf,
	})
	if err != nil {
		return errors.Join(err, s.close())
	}
	s.kernel.Attach(s.conn)
	return s.serve(ctx)
}

// showStatus mounts the status tree. A mount works without it.
func (s *server) showStatus(id string, root *mount.Node) {
	status, err := fusefs.MountStatus(s.args.runDir, id, root, s.log)
	if err != nil {
		s.log.Error("no status tree", "err", err)
		return
	}
	s.status = status
}

// serve answers requests until the unmount, then ends the mount.
func (s *server) serve(ctx context.Context) error {
	super := s.m.Super()
	fs := fusefs.New(s.m.Volume(), fusefs.Options{
		Log: s.log, NoACL: !s.opts.ACL, FormatVersion: super.FmtVers, Kernel: s.kernel,
	})
	served := make(chan error, 1)
	go func() { served <- s.conn.Serve(fs.Handler()) }()

	rec, err := addRecord(s.args.runDir, s.args.dir, s.args.data, s.m)
	if err != nil {
		s.log.Warn("scoutfs umount will not find this mount", "err", err)
	}
	defer rec.remove()
	force := make(chan os.Signal, 1)
	signal.Notify(force, syscall.SIGUSR1)
	s.ready.done()
	s.log.Info("mounted", "dir", s.args.dir, "data", s.args.data, "id", s.m.ID())

	select {
	case err = <-served:
	case <-force:
		s.log.Warn("forced unmount: what was not committed is lost", "dir", s.args.dir)
		s.m.Abort()
		return errors.Join(s.conn.Unmount(true, true), <-served)
	case <-ctx.Done():
		s.log.Info("ending by signal", "dir", s.args.dir)
		if s.conn.Unmount(false, false) != nil {
			// In use. What was acknowledged is committed all the same.
			_ = s.conn.Unmount(true, true)
		}
		err = <-served
	}
	return errors.Join(err, s.close())
}

// close ends the mount cleanly. SIGUSR1 gives up waiting for others.
func (s *server) close() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGUSR1)
	defer stop()
	start := time.Now()
	err := s.m.Close(ctx)
	s.log.Info("unmounted", "dir", s.args.dir, "took", time.Since(start).Round(time.Millisecond), "err", err)
	return err
}

// leaveDirectory makes paths absolute and leaves the working directory, which
// may lie on the mount that this daemon will serve.
func leaveDirectory(a *mountArgs, o *mount.MountOptions) error {
	for _, p := range []*string{&a.data, &a.dir, &a.runDir, &o.MetadevPath} {
		abs, err := filepath.Abs(*p)
		if err != nil {
			return err
		}
		*p = abs
	}
	return os.Chdir("/")
}

func checkFuse() error {
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("open /dev/fuse: %w (load the fuse module; this process must be root)", errnoOf(err))
	}
	return f.Close()
}

// errnoOf strips what package os wraps around an errno.
func errnoOf(err error) error {
	var e syscall.Errno
	if errors.As(err, &e) {
		return e
	}
	return err
}

func daemonLog(a *mountArgs) *slog.Logger {
	level := slog.LevelInfo
	if a.verbose {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
}

// isMountHelper reports whether the program was run as mount.scoutfs by
// mount(8), which gives DATA DIR [-sfnv] [-N namespace] [-o options] [-t type].
func isMountHelper(argv0 string) bool { return filepath.Base(argv0) == "mount.scoutfs" }

// helperArgs turns the arguments of mount(8) into those of the mount command.
func helperArgs(args []string) []string {
	out := []string{"mount"}
	var operands []string
	for i := 0; i < len(args); i++ {
		switch arg := args[i]; {
		case arg == "-o" && i+1 < len(args):
			i++
			out = append(out, "-o", args[i])
		case (arg == "-N" || arg == "-t") && i+1 < len(args):
			i++
		case strings.HasPrefix(arg, "-") && arg != "-":
			// -s sloppy, -f fake, -n no mtab, -v verbose: nothing to do
		default:
			operands = append(operands, arg)
		}
	}
	return append(out, operands...)
}
