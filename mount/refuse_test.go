// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package mount_test

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"scoutfs/format"
	"scoutfs/mkfs"
	"scoutfs/mount"
)

// patchSuper changes a device's super block and its checksum.
func (v *vol) patchSuper(path string, change func(s *format.Super)) {
	v.t.Helper()
	v.patch(path, func(b []byte) {
		s, _ := format.Load[format.Super](b)
		change(&s)
		copy(b, format.Bytes(&s))
		format.SetChecksum(b)
	})
}

// patch changes the raw super block.
func (v *vol) patch(path string, change func(b []byte)) {
	v.t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		v.t.Fatal(err)
	}
	b := make([]byte, format.SmallSize)
	off := int64(format.SuperBlkno) << format.SmallShift
	if _, err := f.ReadAt(b, off); err != nil {
		v.t.Fatal(err)
	}
	change(b)
	if _, err := f.WriteAt(b, off); err != nil {
		v.t.Fatal(err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		v.t.Fatal(err)
	}
}

// TestRefused mounts what cannot be mounted: one line each, and nothing stays.
func TestRefused(t *testing.T) {
	tests := []struct {
		name  string
		set   func(v *vol, o *mount.Options)
		want  string // with META and DATA for the paths, * for anything
		errno syscall.Errno
	}{
		{"missing metadata device", func(v *vol, o *mount.Options) { o.MetadevPath += "x" }, "metadata device METAx does not exist", syscall.ENOENT},
		{"missing data device", func(v *vol, o *mount.Options) { o.Device += "x" }, "data device DATAx does not exist", syscall.ENOENT},
		{"directory", func(v *vol, o *mount.Options) { o.Device = v.dir }, "data device DIR is neither a block device nor a plain file", syscall.ENOTBLK},
		{"character device", func(v *vol, o *mount.Options) { o.MetadevPath = "/dev/null" },
			"metadata device /dev/null is neither a block device nor a plain file", syscall.ENOTBLK},
		{"same device twice", func(v *vol, o *mount.Options) { o.Device = v.meta },
			"metadata device META and data device META are the same device", syscall.EINVAL},
		{"same device by two names", func(v *vol, o *mount.Options) {
			o.Device = v.meta + "2"
			must(v.t, os.Link(v.meta, o.Device))
		}, "metadata device META and data device META2 are the same device", syscall.EINVAL},
		{"swapped", func(v *vol, o *mount.Options) { o.MetadevPath, o.Device = v.data, v.meta },
			"devices are swapped: DATA is the data device and META the metadata device of a volume", syscall.EINVAL},
		{"two metadata devices", func(v *vol, o *mount.Options) {
			v.patchSuper(v.data, func(s *format.Super) { s.Flags |= format.SuperFlagMeta })
		}, "DATA is the metadata device of a volume, not a data device", syscall.EINVAL},
		{"two data devices", func(v *vol, o *mount.Options) {
			v.patchSuper(v.meta, func(s *format.Super) { s.Flags = 0 })
		}, "META is the data device of a volume, not a metadata device", syscall.EINVAL},
		{"empty metadata device", func(v *vol, o *mount.Options) { v.patch(v.meta, func(b []byte) { clear(b) }) },
			"metadata device META is not a ScoutFS device", syscall.EINVAL},
		{"empty data device", func(v *vol, o *mount.Options) { v.patch(v.data, func(b []byte) { clear(b) }) },
			"data device DATA is not a ScoutFS device", syscall.EINVAL},
		{"tiny device", func(v *vol, o *mount.Options) { must(v.t, os.Truncate(v.data, 4096)) },
			"data device DATA is too small to be a ScoutFS device", syscall.EINVAL},
		{"flipped bit", func(v *vol, o *mount.Options) { v.patch(v.meta, func(b []byte) { b[2000] ^= 1 }) },
			"super block of metadata device META is corrupt: crc * in the header, * computed", syscall.EIO},
		{"block of another place", func(v *vol, o *mount.Options) {
			v.patchSuper(v.meta, func(s *format.Super) { s.Hdr.Blkno = 17 })
		}, "super block of metadata device META is corrupt: blkno 17 in the header", syscall.EIO},
		{"root outside", func(v *vol, o *mount.Options) {
			v.patchSuper(v.meta, func(s *format.Super) { s.FSRoot.Ref.Blkno = 1 << 40 })
		}, "super block of metadata device META is corrupt: fs_root: *", syscall.EIO},
		{"version", func(v *vol, o *mount.Options) {
			v.patchSuper(v.meta, func(s *format.Super) { s.FmtVers = 9 })
		}, "metadata device META has format version 9, this program knows 1 to 2", syscall.EINVAL},
		{"versions differ", func(v *vol, o *mount.Options) {
			v.patchSuper(v.data, func(s *format.Super) { s.FmtVers = 1 })
		}, "metadata device META has format version 2, data device DATA has 1", syscall.EINVAL},
		{"other volume's data", func(v *vol, o *mount.Options) {
			m2 := filepath.Join(v.dir, "m2")
			v.sparse(m2, 16<<30)
			v.format(m2, v.data, mkfs.Options{Slots: map[int]netip.AddrPort{0: v.addrs[0]}, AllowSmall: true, Force: true})
		}, "metadata device META (fsid *) and data device DATA (fsid *) belong to different volumes", syscall.EINVAL},
		{"short metadata device", func(v *vol, o *mount.Options) { must(v.t, os.Truncate(v.meta, 8<<30)) },
			"metadata device META has 131072 blocks of 64 KiB, its super block says 262144: it was truncated or is not the whole device", syscall.EINVAL},
		{"short data device", func(v *vol, o *mount.Options) { must(v.t, os.Truncate(v.data, 8<<30)) },
			"data device DATA has 2097152 blocks of 4 KiB, its super block says 4194304: it was truncated or is not the whole device", syscall.EINVAL},
		{"slot not configured", func(v *vol, o *mount.Options) { o.QuorumSlot = 7 },
			"META: quorum: slot 7 is not configured: invalid argument", syscall.EINVAL},
		{"slot address not unicast", func(v *vol, o *mount.Options) {
			v.patchSuper(v.meta, func(s *format.Super) {
				s.Quorum.Slots[3] = format.Inet{Family: format.InetV4, Port: 1, Addr: 0xe0000001}
			})
		}, "META: quorum: address 224.0.0.1 of slot 3 is not unicast: invalid argument", syscall.EINVAL},
		{"port taken", func(v *vol, o *mount.Options) {
			c, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(v.addrs[0]))
			must(v.t, err)
			v.t.Cleanup(func() { _ = c.Close() })
		}, "address 127.0.0.1:* of quorum slot 0 cannot be used on this host: *address already in use", syscall.EADDRINUSE},
		{"foreign address", func(v *vol, o *mount.Options) {
			v.patchSuper(v.meta, func(s *format.Super) { s.Quorum.Slots[0].Addr = 0x08080808 })
		}, "address 8.8.8.8:* of quorum slot 0 cannot be used on this host: *cannot assign requested address", syscall.EADDRNOTAVAIL},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v := newVol(t, 1)
			o := v.options(0)
			tt.set(v, &o)
			m, err := v.tryOpen(o)
			if err == nil {
				m.Abort()
				t.Fatal("mounted")
			}
			got := strings.NewReplacer(v.meta, "META", v.data, "DATA", v.dir, "DIR").Replace(err.Error())
			if !glob(tt.want, got) || strings.Contains(got, "\n") {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			if !errors.Is(err, tt.errno) {
				t.Errorf("%v is not %v", err, tt.errno)
			}
			checkRegistryEmpty(t, v)
		})
	}
}

func checkRegistryEmpty(t *testing.T, v *vol) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(v.registry, "*", "*"))
	must(t, err)
	if len(files) > 0 {
		t.Errorf("the registry still has %v", files)
	}
}

// glob matches * with anything.
func glob(pattern, s string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == s
	}
	if !strings.HasPrefix(s, parts[0]) || !strings.HasSuffix(s, parts[len(parts)-1]) {
		return false
	}
	for _, p := range parts {
		i := strings.Index(s, p)
		if i < 0 {
			return false
		}
		s = s[i+len(p):]
	}
	return true
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestRegistryFormat guards the words of an entry, which live over upgrades.
func TestRegistryFormat(t *testing.T) {
	r, err := mount.OpenRegistry(t.TempDir(), 5)
	must(t, err)
	must(t, r.Add(9))
	e, err := r.Get(9)
	must(t, err)
	if e.PID != os.Getpid() || e.StartTime == 0 || len(e.BootID) != 36 || e.Host == "" {
		t.Errorf("entry %+v", e)
	}
	rids, err := r.List()
	must(t, err)
	if len(rids) != 1 || rids[0] != 9 {
		t.Errorf("List = %v", rids)
	}
	must(t, r.Remove(9))
	must(t, r.Remove(9))
	if v, _ := r.Judge(9); v != mount.Unknown {
		t.Errorf("verdict %v without an entry", v)
	}
}

type heldLock bool

func (h heldLock) TestRid(format.Rid) (bool, error) { return bool(h), nil }

func TestJudge(t *testing.T) {
	dir := t.TempDir()
	r, err := mount.OpenRegistry(dir, 5)
	must(t, err)
	must(t, r.Add(9))
	path := filepath.Join(dir, "0000000000000005", "0000000000000009")
	text, err := os.ReadFile(path)
	must(t, err)
	e, err := r.Get(9)
	must(t, err)
	edit := func(old, new string) []byte { return []byte(strings.Replace(string(text), old, new, 1)) }
	tests := []struct {
		name string
		text []byte
		held heldLock
		want mount.Verdict
	}{
		{"lives", text, true, mount.Alive},
		{"lock can be had", text, false, mount.Dead},
		{"earlier boot", edit(e.BootID, "00000000-0000-0000-0000-000000000000"), true, mount.Dead},
		{"other host", edit("host ", "host x"), false, mount.Unknown},
		{"torn entry", text[:20], false, mount.Unknown},
		{"nonsense", []byte("pid x\n"), false, mount.Unknown},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			must(t, os.WriteFile(path, tt.text, 0o644))
			if got, _ := r.Judge(9, heldLock(false), tt.held); got != tt.want {
				t.Errorf("verdict %v, want %v", got, tt.want)
			}
		})
	}
}

func TestNumberSyntax(t *testing.T) {
	for in, want := range map[string]int{"+7": 7, "0": 0, "00": 0, "07": 7, "0XA": 10} {
		o, err := mount.ParseOptions("metadev_path=/m,quorum_slot_nr=" + in)
		if err != nil || o.QuorumSlot != want {
			t.Errorf("%s: %d, %v", in, o.QuorumSlot, err)
		}
	}
	for _, in := range []string{"0x", "+", "++7", "08", "7u", "0x+7", "0-1"} {
		if _, err := mount.ParseOptions("metadev_path=/m,quorum_slot_nr=" + in); err == nil {
			t.Errorf("%s was taken", in)
		}
	}
}
