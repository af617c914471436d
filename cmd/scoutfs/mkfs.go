// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"scoutfs/block"
	"scoutfs/format"
	"scoutfs/mkfs"
)

// firstTestPort is the port of slot 0 of the older form "-Q COUNT".
const firstTestPort = 53000

func newMkfsCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "mkfs -Q NR,ADDR,PORT [-Q ..] [-f] [-A] [-m SIZE] [-d SIZE] [-z BLOCKS] [-V VERS] META DATA",
		Short: "make a new file system",
		Long: `Make a new, empty file system on the metadata device META and the data device
DATA. Devices are block devices or plain files.

Each -Q names one of the up to 15 mounts that can vote and run the server. At
least one is needed. Sizes are bytes or have a suffix of KMGTP. The metadata
device should have about 5 GiB for one mount and 4.3 GiB for each further one.`,
		Example: "  scoutfs mkfs -Q 0,10.0.0.1,12345 -Q 1,10.0.0.2,12345 -Q 2,10.0.0.3,12345 /dev/vg/meta /dev/vg/data",
		Args:    cobra.ExactArgs(2),
		RunE:    func(c *cobra.Command, args []string) error { return runMkfs(c, args[0], args[1]) },
	}
	f := c.Flags()
	f.StringArrayP("quorum-slot", "Q", nil, "address of quorum slot NR 0..14, as `NR,ADDR,PORT`; may be repeated")
	f.BoolP("force", "f", false, "do not check for existing contents")
	f.BoolP("allow-small-size", "A", false, "allow devices below 64 GiB")
	f.StringP("max-meta-size", "m", "", "use at most `SIZE` of the metadata device")
	f.StringP("max-data-size", "d", "", "use at most `SIZE` of the data device")
	f.StringP("data-alloc-zone-blocks", "z", "", "volume option: size of data allocation zones in 4 KiB `BLOCKS`")
	f.StringP("format-version", "V", "", "format `VERSION` 1 or 2, default 2")
	addJSONOption(c, "the new volume as a JSON object")
	return c
}

func runMkfs(c *cobra.Command, metaPath, dataPath string) error {
	o, err := mkfsOptions(c)
	if err != nil {
		return err
	}
	meta, data, release, err := openNew(metaPath, dataPath)
	if err != nil {
		return err
	}
	defer release()
	s, err := mkfs.Format(meta, data, o)
	if err != nil {
		return err
	}
	if wantsJSON(c) {
		return printJSON(c.OutOrStdout(), volumeJSON(metaPath, dataPath, s))
	}
	_, err = fmt.Fprint(c.OutOrStdout(), mkfs.Summary(metaPath, dataPath, s))
	return err
}

func mkfsOptions(c *cobra.Command) (o mkfs.Options, err error) {
	f := c.Flags()
	o.Note = func(s string) { fmt.Fprintln(c.ErrOrStderr(), s) }
	o.Inform = func(s string) { fmt.Fprintln(c.OutOrStdout(), s) }
	if wantsJSON(c) {
		o.Inform = o.Note
	}
	o.Force, _ = f.GetBool("force")
	o.AllowSmall, _ = f.GetBool("allow-small-size")
	given, _ := f.GetStringArray("quorum-slot")
	if o.Slots, err = parseSlots(given, o.Note); err != nil {
		return o, err
	}
	for _, v := range []struct {
		name  string
		parse func(what, s string) (uint64, error)
		to    *uint64
	}{
		{"max-meta-size", parseSize, &o.MaxMetaSize},
		{"max-data-size", parseSize, &o.MaxDataSize},
		{"data-alloc-zone-blocks", parseU64, &o.ZoneBlocks},
		{"format-version", parseU64, &o.Version},
	} {
		s, _ := f.GetString(v.name)
		if !f.Changed(v.name) {
			continue
		}
		if *v.to, err = v.parse("--"+v.name, s); err != nil {
			return o, err
		}
		if *v.to == 0 {
			return o, fmt.Errorf("--%s cannot be 0: %w", v.name, syscall.EINVAL)
		}
	}
	return o, nil
}

// parseSlots decodes the values of -Q: NR,ADDR,PORT each, or, as once, only a
// count of slots on this host.
func parseSlots(given []string, note func(string)) (map[int]netip.AddrPort, error) {
	if len(given) == 0 {
		return nil, usagef("must provide at least one quorum slot with -Q NR,ADDR,PORT")
	}
	slots := map[int]netip.AddrPort{}
	if len(given) == 1 && !strings.Contains(given[0], ",") {
		count, err := parseU64("quorum slot count", given[0])
		if err != nil {
			return nil, err
		}
		if count < 1 || count > format.QuorumSlots {
			return nil, fmt.Errorf("quorum slot count %d is not in 1 to %d: %w", count, format.QuorumSlots, syscall.EINVAL)
		}
		for i := range int(count) {
			slots[i] = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(firstTestPort+i))
		}
		note(fmt.Sprintf("note: -Q COUNT is an older form for tests on one host, using ports %d to %d of 127.0.0.1",
			firstTestPort, firstTestPort+int(count)-1))
		return slots, nil
	}
	for _, s := range given {
		nr, addr, err := parseSlot(s)
		if err != nil {
			return nil, err
		}
		if _, dup := slots[nr]; dup {
			return nil, usagef("quorum slot %d was given twice", nr)
		}
		slots[nr] = addr
	}
	return slots, nil
}

func parseSlot(s string) (nr int, addr netip.AddrPort, err error) {
	bad := func(why string) (int, netip.AddrPort, error) {
		return 0, addr, fmt.Errorf("quorum slot '%s': %s: %w", s, why, syscall.EINVAL)
	}
	parts := strings.Split(s, ",")
	if len(parts) != 3 {
		return bad("the form is NR,ADDR,PORT")
	}
	nr, err = strconv.Atoi(parts[0])
	if err != nil || nr < 0 || nr >= format.QuorumSlots {
		return bad(fmt.Sprintf("NR must be 0 to %d", format.QuorumSlots-1))
	}
	ip, err := netip.ParseAddr(parts[1])
	if err != nil || !ip.Is4() || ip.IsUnspecified() || ip == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		return bad("ADDR must be the dotted IPv4 address of a host")
	}
	port, err := strconv.ParseUint(parts[2], 10, 16)
	if err != nil || port == 0 {
		return bad("PORT must be 1 to 65535")
	}
	return nr, netip.AddrPortFrom(ip, uint16(port)), nil
}

// openNew opens both devices for a new volume; release closes them.
func openNew(metaPath, dataPath string) (meta, data *block.File, release func(), err error) {
	var undo []func() error
	closeAll := func() {
		for i := len(undo) - 1; i >= 0; i-- {
			_ = undo[i]()
		}
	}
	defer func() {
		if err != nil {
			closeAll()
		}
	}()
	if err := differ(metaPath, dataPath); err != nil {
		return nil, nil, nil, err
	}
	devs := [2]*block.File{}
	for i, path := range []string{metaPath, dataPath} {
		free, err := exclusive(path)
		if err != nil {
			return nil, nil, nil, err
		}
		undo = append(undo, free)
		if devs[i], err = block.Open(path, block.OpenOptions{}); err != nil {
			return nil, nil, nil, err
		}
		undo = append(undo, devs[i].Close)
	}
	return devs[0], devs[1], closeAll, nil
}

// differ refuses two names of one device.
func differ(metaPath, dataPath string) error {
	var st [2]unix.Stat_t
	for i, path := range []string{metaPath, dataPath} {
		if err := unix.Stat(path, &st[i]); err != nil {
			return fmt.Errorf("failed to open '%s': %w", path, err)
		}
		switch st[i].Mode & unix.S_IFMT {
		case unix.S_IFBLK, unix.S_IFREG:
		default:
			return fmt.Errorf("'%s' is neither a block device nor a plain file: %w", path, syscall.EINVAL)
		}
	}
	a, b := &st[0], &st[1]
	blk := a.Mode&unix.S_IFMT == unix.S_IFBLK && b.Mode&unix.S_IFMT == unix.S_IFBLK
	if blk && a.Rdev == b.Rdev || !blk && a.Dev == b.Dev && a.Ino == b.Ino {
		return fmt.Errorf("'%s' and '%s' are the same device: %w", metaPath, dataPath, syscall.EINVAL)
	}
	return nil
}

// exclusive holds a block device so that nothing else that asks for exclusive
// use has or gets it: a mounted file system, a volume manager, swap. Plain
// files have no such thing.
func exclusive(path string) (free func() error, err error) {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_EXCL|unix.O_CLOEXEC, 0)
	if errors.Is(err, syscall.EBUSY) {
		return nil, fmt.Errorf("'%s' is in use, mounted for example: %w", path, err)
	}
	if err != nil {
		return nil, fmt.Errorf("failed to open '%s': %w", path, err)
	}
	return os.NewFile(uintptr(fd), path).Close, nil
}

// volumeJSON is the summary of a volume for scripts.
func volumeJSON(metaPath, dataPath string, s *format.Super) any {
	type slot struct {
		Nr   int    `json:"nr"`
		Addr string `json:"addr"`
	}
	slots := []slot{}
	for i := range s.Quorum.Slots {
		if a := s.Quorum.Slots[i].AddrPort(); a.IsValid() {
			slots = append(slots, slot{i, a.String()})
		}
	}
	return struct {
		Meta       string `json:"meta_device_path"`
		Data       string `json:"data_device_path"`
		Fsid       string `json:"fsid"`
		UUID       string `json:"uuid"`
		Version    uint64 `json:"format_version"`
		MetaBlocks uint64 `json:"total_meta_blocks"`
		DataBlocks uint64 `json:"total_data_blocks"`
		Config     uint64 `json:"quorum_config_version"`
		Slots      []slot `json:"quorum_slots"`
		MaxMounts  uint64 `json:"max_mounts"`
	}{metaPath, dataPath, fmt.Sprintf("%x", s.Hdr.Fsid), format.UUIDString(s.UUID), s.FmtVers, s.TotalMetaBlocks,
		s.TotalDataBlocks, s.Quorum.Version, slots, mkfs.MaxMounts(s)}
}
