// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package volume_test

import (
	"encoding/binary"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"scoutfs/format"
	"scoutfs/volume"
)

func TestXattrErrors(t *testing.T) {
	m := one(t)
	v := m.v()
	f := must[volume.Attr](t)(v.Create(root, rootIno, "f", 0o600)).Ino
	user := &volume.Caller{UID: 7}
	long := "user." + strings.Repeat("x", 251)
	for _, tc := range []struct {
		name  string
		attr  string
		val   string
		flags uint32
		c     *volume.Caller
		want  error
	}{
		{"long name", long, "", 0, root, syscall.ERANGE},
		{"long value", "user.x", strings.Repeat("v", 65536), 0, root, syscall.E2BIG},
		{"both flags", "user.x", "", volume.XattrCreate | volume.XattrReplace, root, syscall.EINVAL},
		{"unknown flag", "user.x", "", 8, root, syscall.EINVAL},
		{"replace what is not there", "user.x", "", volume.XattrReplace, root, syscall.ENODATA},
		{"unknown space", "system.x", "", 0, root, syscall.EOPNOTSUPP},
		{"no space", "x", "", 0, root, syscall.EOPNOTSUPP},
		{"no rest", "user.", "", 0, root, syscall.EINVAL},
		{"no tag", "scoutfs.something", "", 0, root, syscall.EINVAL},
		{"two of a kind", "scoutfs.totl.indx.1.2.3", "1", 0, root, syscall.EINVAL},
		{"bad total", "scoutfs.totl.a.1.2.x", "1", 0, root, syscall.EINVAL},
		{"bad number", "scoutfs.totl.a.1.2.3", "1\n", 0, root, syscall.EINVAL},
		{"bad major", "scoutfs.indx.a.256.1", "", 0, root, syscall.EINVAL},
		{"index with a value", "scoutfs.indx.a.1.1", "1", 0, root, syscall.EINVAL},
		{"tag without capability", "scoutfs.hide.abc", "1", 0, user, syscall.EPERM},
		{"bad tags come first", "scoutfs.something", "", 0, user, syscall.EINVAL},
	} {
		wantErr(t, tc.name, v.Setxattr(tc.c, f, tc.attr, []byte(tc.val), tc.flags), tc.want)
	}
	ok(t, v.Setxattr(user, f, "scoutfs.x", []byte("short names are plain"), 0))
	ok(t, v.Setxattr(user, f, "user.empty", nil, 0))
	wantErr(t, "create again", v.Setxattr(root, f, "user.empty", nil, volume.XattrCreate), syscall.EEXIST)
	if n := must[int](t)(v.Getxattr(root, f, "user.empty", nil)); n != 0 {
		t.Errorf("empty value has %d bytes", n)
	}
	_, err := v.Getxattr(root, f, long, nil)
	wantErr(t, "get a long name", err, syscall.ENODATA)
	_, err = v.Getxattr(root, f, "scoutfs.x", make([]byte, 3))
	wantErr(t, "small buffer", err, syscall.ERANGE)
	_, err = v.Listxattr(root, f, make([]byte, 5))
	wantErr(t, "small list", err, syscall.ERANGE)
	wantErr(t, "remove what is not there", v.Removexattr(root, f, "user.none"), syscall.ENODATA)
	names := make([]byte, 100)
	n := must[int](t)(v.Listxattr(root, f, names))
	if size := must[int](t)(v.Listxattr(root, f, nil)); size != n {
		t.Errorf("list needs %d bytes, has %d", size, n)
	}
	if got := splitNames(names[:n]); len(got) != 2 {
		t.Errorf("names %q", got)
	}
}

func TestIndexedXattrAgain(t *testing.T) {
	m := one(t)
	v := m.v()
	f := must[volume.Attr](t)(v.Create(root, rootIno, "f", 0o600)).Ino
	ok(t, v.Setxattr(root, f, "scoutfs.indx.x.1.2", nil, 0))
	a := must[volume.Attr](t)(v.Getattr(root, f))
	ok(t, v.Setxattr(root, f, "scoutfs.indx.x.1.2", nil, 0))
	b := must[volume.Attr](t)(v.Getattr(root, f))
	if a.Ctime != b.Ctime || a.Version != b.Version {
		t.Errorf("setting an index again changed %+v to %+v", a, b)
	}
}

func TestIndexNeedsVersion2(t *testing.T) {
	w := newWorld(t, 1)
	m := w.mount(mountOptions{})
	f := must[volume.Attr](t)(m.v().Create(root, rootIno, "f", 0o600)).Ino
	wantErr(t, "index", m.v().Setxattr(root, f, "scoutfs.indx.x.1.2", nil, 0), syscall.EOPNOTSUPP)
	ok(t, m.v().Setxattr(root, f, "scoutfs.totl.x.1.2.3", []byte("5"), 0))
	m.close()
	w.check()
}

func TestHiddenNamesInPieces(t *testing.T) {
	m := one(t)
	v := m.v()
	f := must[volume.Attr](t)(v.Create(root, rootIno, "f", 0o600)).Ino
	for i := range 100 {
		ok(t, v.Setxattr(root, f, fmt.Sprintf("scoutfs.hide.name%d", i), nil, 0))
		ok(t, v.Setxattr(root, f, fmt.Sprintf("user.name%d", i), nil, 0))
	}
	seen := map[string]bool{}
	var hash uint32
	var id uint64
	buf := make([]byte, 300)
	for {
		n, h, i, err := v.ListHidden(root, f, hash, id, buf)
		ok(t, err)
		if n == 0 {
			break
		}
		for _, name := range splitNames(buf[:n]) {
			if seen[name] || !strings.HasPrefix(name, "scoutfs.hide.") {
				t.Errorf("%q is listed twice or not hidden", name)
			}
			seen[name] = true
		}
		hash, id = h, i
	}
	if len(seen) != 100 {
		t.Errorf("%d hidden names", len(seen))
	}
}

// rawACL encodes ACL entries given as (tag, perm, id).
func rawACL(v ...uint32) []byte {
	b := binary.LittleEndian.AppendUint32(nil, 2)
	for i := 0; i < len(v); i += 3 {
		b = binary.LittleEndian.AppendUint16(b, uint16(v[i]))
		b = binary.LittleEndian.AppendUint16(b, uint16(v[i+1]))
		b = binary.LittleEndian.AppendUint32(b, v[i+2])
	}
	return b
}

const noID = 1<<32 - 1

func TestACLs(t *testing.T) {
	m := one(t)
	v := m.v()
	const access, def = "system.posix_acl_access", "system.posix_acl_default"
	d := must[volume.Attr](t)(v.Mkdir(root, rootIno, "d", 0o755)).Ino
	f := must[volume.Attr](t)(v.Create(root, rootIno, "f", 0o600)).Ino
	full := rawACL(1, 7, noID, 2, 6, 1000, 4, 5, noID, 16, 7, noID, 32, 4, noID)
	mode := func(ino format.Ino) uint32 { return must[volume.Attr](t)(v.Getattr(root, ino)).Mode & 0o7777 }
	get := func(ino format.Ino, name string) string {
		buf := make([]byte, 200)
		n, err := v.Getxattr(root, ino, name, buf)
		if err != nil {
			return err.Error()
		}
		return string(buf[:n])
	}
	ok(t, v.Setxattr(root, f, access, full, 0))
	if mode(f) != 0o774 || get(f, access) != string(full) {
		t.Errorf("mode %o, ACL %x", mode(f), get(f, access))
	}
	must[volume.Attr](t)(v.Setattr(root, f, &volume.SetAttr{Valid: volume.SetMode, Mode: 0o640}))
	if want := rawACL(1, 6, noID, 2, 6, 1000, 4, 5, noID, 16, 4, noID, 32, 0, noID); get(f, access) != string(want) {
		t.Errorf("after chmod: %x", get(f, access))
	}
	ok(t, v.Setxattr(root, f, access, rawACL(1, 6, noID, 4, 6, noID, 32, 6, noID), 0))
	if mode(f) != 0o666 || get(f, access) != syscall.ENODATA.Error() {
		t.Errorf("an ACL that the mode expresses: mode %o, %x", mode(f), get(f, access))
	}
	wantErr(t, "default ACL of a file", v.Setxattr(root, f, def, full, 0), syscall.EINVAL)
	ok(t, v.Removexattr(root, f, def))
	wantErr(t, "bad ACL", v.Setxattr(root, f, access, full[:20], 0), syscall.EINVAL)
	wantErr(t, "bad version", v.Setxattr(root, f, access, []byte{1, 0, 0, 0}, 0), syscall.EOPNOTSUPP)

	ok(t, v.Setxattr(root, d, def, full, 0))
	c := &volume.Caller{Umask: 0o077}
	sub := must[volume.Attr](t)(v.Mkdir(c, d, "sub", 0o750))
	if sub.Mode&0o777 != 0o750 || get(sub.Ino, def) != string(full) {
		t.Errorf("directory inherits mode %o, default ACL %x", sub.Mode, get(sub.Ino, def))
	}
	file := must[volume.Attr](t)(v.Create(c, d, "file", 0o666))
	if want := rawACL(1, 6, noID, 2, 6, 1000, 4, 5, noID, 16, 6, noID, 32, 4, noID); file.Mode&0o777 != 0o664 || get(file.Ino, access) != string(want) {
		t.Errorf("file inherits mode %o, ACL %x", file.Mode, get(file.Ino, access))
	}
	if link := must[volume.Attr](t)(v.Symlink(c, d, "link", "x")); link.Mode&0o777 != 0o777 {
		t.Errorf("symbolic link has mode %o", link.Mode)
	}
	_, err := v.Setattr(root, must[volume.Attr](t)(v.Lookup(root, d, "link")).Ino, &volume.SetAttr{Valid: volume.SetMode})
	wantErr(t, "chmod of a symbolic link", err, syscall.EOPNOTSUPP)
	ok(t, v.Setxattr(root, d, def, []byte{2, 0, 0, 0}, 0)) // no entries: remove
	plain := must[volume.Attr](t)(v.Create(c, d, "plain", 0o666))
	if plain.Mode&0o777 != 0o600 {
		t.Errorf("without a default ACL the umask gives mode %o", plain.Mode)
	}
	ok(t, v.Setxattr(root, sub.Ino, access, full, volume.XattrKillSGID))
}

func TestNoACL(t *testing.T) {
	w := newWorld(t, 2)
	m := w.mount(mountOptions{vol: func(o *volume.Options) { o.NoACL = true }})
	defer m.close()
	f := must[volume.Attr](t)(m.v().Create(&volume.Caller{Umask: 0o022}, rootIno, "f", 0o666))
	if f.Mode&0o777 != 0o644 {
		t.Errorf("mode %o", f.Mode)
	}
	const access = "system.posix_acl_access"
	wantErr(t, "set", m.v().Setxattr(root, f.Ino, access, rawACL(), 0), syscall.EOPNOTSUPP)
	_, err := m.v().Getxattr(root, f.Ino, access, nil)
	wantErr(t, "get", err, syscall.EOPNOTSUPP)
}

func TestRetention(t *testing.T) {
	m := one(t)
	v := m.v()
	f := must[volume.Attr](t)(v.Create(root, rootIno, "f", 0o600)).Ino
	g := must[volume.Attr](t)(v.Create(root, rootIno, "g", 0o600)).Ino
	m.write(t, f, 0, []byte("data"))
	m.edit(t, f, func(in *format.Inode) { in.Flags |= format.InodeRetention })
	_, err := v.Setattr(root, f, &volume.SetAttr{Valid: volume.SetMtimeNow})
	wantErr(t, "setattr", err, syscall.EPERM)
	_, err = v.Setattr(root, f, &volume.SetAttr{Valid: volume.SetSize})
	wantErr(t, "truncate", err, syscall.EPERM)
	_, _, err = v.Write(root, f, 0, []byte("x"), 0)
	wantErr(t, "write", err, syscall.EPERM)
	wantErr(t, "unlink", v.Unlink(root, rootIno, "f"), syscall.EPERM)
	wantErr(t, "rename", v.Rename(root, rootIno, "f", rootIno, "h", 0), syscall.EPERM)
	wantErr(t, "rename over", v.Rename(root, rootIno, "g", rootIno, "f", 0), syscall.EPERM)
	wantErr(t, "user xattr", v.Setxattr(root, f, "user.x", nil, 0), syscall.EPERM)
	ok(t, v.Setxattr(root, f, "trusted.x", nil, 0))
	ok(t, v.Fallocate(root, f, 0, 0, 100000))
	must[volume.Attr](t)(v.Link(root, f, rootIno, "l"))
	if got := m.read(t, f); string(got[:4]) != "data" {
		t.Errorf("read %q", got[:4])
	}
	_ = g
}
