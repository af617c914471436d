// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package volume_test

import (
	"bytes"
	"context"
	"fmt"
	"syscall"
	"testing"
	"time"

	"scoutfs/format"
	"scoutfs/volume"
)

// eventually waits until fn is true. It fails the test after a long time only.
func eventually(t testing.TB, what string, fn func() bool) {
	t.Helper()
	for range 10000 {
		if fn() {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatalf("%s never happened", what)
}

func (m *mount) exists(ino format.Ino) bool {
	_, err := m.v().Getattr(root, ino)
	return err == nil
}

func TestDeletedWithLastReference(t *testing.T) {
	m := one(t)
	v := m.v()
	f := must[volume.Attr](t)(v.Create(root, rootIno, "f", 0o600))
	for i := range int64(30) { // more extents and xattrs than a step removes
		m.write(t, f.Ino, i*8192, pattern(4096, 1))
		ok(t, v.Setxattr(root, f.Ino, fmt.Sprintf("scoutfs.totl.srch.%d.1.2.3", i), []byte("7"), 0))
	}
	ok(t, v.Setxattr(root, f.Ino, "user.big", bytes.Repeat([]byte{1}, 60000), 0))
	ok(t, v.Unlink(root, rootIno, "f"))
	m.write(t, f.Ino, 0, []byte("still here"))
	if got := m.read(t, f.Ino)[:10]; string(got) != "still here" {
		t.Errorf("read %q", got)
	}
	if a := must[volume.Attr](t)(v.Getattr(root, f.Ino)); a.Nlink != 0 {
		t.Errorf("nlink %d", a.Nlink)
	}
	_, err := v.Lookup(root, f.Ino, ".")
	wantErr(t, "open by handle", err, syscall.ESTALE)
	_, err = v.Link(root, f.Ino, rootIno, "back")
	ok(t, err) // the kernel refuses this for what is no O_TMPFILE
	ok(t, v.Unlink(root, rootIno, "back"))
	v.Forget(f.Ino, 1)
	if !m.exists(f.Ino) {
		t.Fatal("deleted with a reference left")
	}
	v.Forget(f.Ino, 1)
	eventually(t, "the deletion", func() bool { return !m.exists(f.Ino) })
	eventually(t, "the count", func() bool { return v.Metrics().InodeDeleted == 1 })
}

func TestTmpfile(t *testing.T) {
	m := one(t)
	v := m.v()
	a := must[volume.Attr](t)(v.Tmpfile(root, rootIno, 0o600))
	b := must[volume.Attr](t)(v.Tmpfile(root, rootIno, 0o600))
	if a.Nlink != 0 || a.Mode != sIFREG|0o600 {
		t.Errorf("nlink %d mode %o", a.Nlink, a.Mode)
	}
	if got := must[volume.Attr](t)(v.Link(root, a.Ino, rootIno, "named")); got.Nlink != 1 {
		t.Errorf("nlink %d after link", got.Nlink)
	}
	v.Forget(a.Ino, 2)
	v.Forget(b.Ino, 1)
	eventually(t, "the deletion", func() bool { return !m.exists(b.Ino) })
	if got := must[volume.Attr](t)(v.Lookup(root, rootIno, "named")); got.Ino != a.Ino {
		t.Errorf("named is %d", got.Ino)
	}
	_, err := v.Link(root, b.Ino, rootIno, "dead")
	wantErr(t, "link what is gone", err, syscall.ESTALE)
}

func TestUnlinkDeletesWhatNobodyUses(t *testing.T) {
	m := one(t)
	v := m.v()
	a := must[volume.Attr](t)(v.Mkdir(root, rootIno, "d", 0o755))
	v.Forget(a.Ino, 1)
	ok(t, v.Rmdir(root, rootIno, "d"))
	eventually(t, "the deletion", func() bool { return !m.exists(a.Ino) })
}

// TestOpenElsewhere unlinks on one mount what another one uses: it must stay
// until that one forgets it, and then a scan must delete it.
func TestOpenElsewhere(t *testing.T) {
	w := newWorld(t, 2)
	m1, m2 := w.mount(mountOptions{}), w.mount(mountOptions{})
	a := must[volume.Attr](t)(m1.v().Create(root, rootIno, "f", 0o600))
	m1.write(t, a.Ino, 0, []byte("contents"))
	b := must[volume.Attr](t)(m2.v().Lookup(root, rootIno, "f"))
	if b.Ino != a.Ino || b.Size != 8 {
		t.Fatalf("other mount sees %+v", b)
	}
	ok(t, m1.v().Unlink(root, rootIno, "f"))
	m1.v().Forget(a.Ino, 1)
	_, err := m2.v().Lookup(root, rootIno, "f")
	wantErr(t, "lookup of the removed name", err, syscall.ENOENT)
	if got := m2.read(t, a.Ino); string(got) != "contents" {
		t.Errorf("other mount reads %q", got)
	}
	m2.v().Forget(a.Ino, 1)
	eventually(t, "the deletion", func() bool { return !m2.exists(a.Ino) })
	m1.close()
	m2.close()
	w.check()
}

// TestOrphansOfADeadMount crashes a mount that has unlinked files open.
func TestOrphansOfADeadMount(t *testing.T) {
	w := newWorld(t, 2)
	m := w.mount(mountOptions{})
	var inos []format.Ino
	for i := range 5 {
		a := must[volume.Attr](t)(m.v().Tmpfile(root, rootIno, 0o600))
		m.write(t, a.Ino, 0, pattern(10000*(i+1), 1))
		inos = append(inos, a.Ino)
	}
	ok(t, m.v().Fsync(root, inos[0]))
	m.kill()
	m2 := w.mount(mountOptions{})
	for _, ino := range inos {
		if !m2.exists(ino) {
			t.Fatalf("inode %d is gone before the scan", ino)
		}
	}
	ok(t, m2.v().ScanOrphans(context.Background()))
	for _, ino := range inos {
		if m2.exists(ino) {
			t.Errorf("inode %d survived the scan", ino)
		}
	}
	if got := m2.v().Metrics(); got.InodeDeleted != 5 || got.OrphanScanItem != 5 {
		t.Errorf("metrics %+v", got)
	}
	ok(t, m2.v().Fsync(root, rootIno))
	ok(t, m2.v().ScanOrphans(context.Background()))
	if got := m2.v().Metrics(); got.OrphanScanEmpty != 1 {
		t.Errorf("metrics %+v", got)
	}
	m2.close()
	w.check()
}

// TestWaitForArchivedData reads, writes and truncates what is not there.
func TestWaitForArchivedData(t *testing.T) {
	m := one(t)
	v := m.v()
	mk := func(name string) format.Ino {
		ino := must[volume.Attr](t)(v.Create(root, rootIno, name, 0o600)).Ino
		m.edit(t, ino, func(in *format.Inode) { in.Size = 10 * 4096 }, volume.Extent{Iblock: 2, Blocks: 8, Flags: format.ExtentOffline})
		return ino
	}
	f := mk("f")
	if n, err := v.Read(root, f, 0, make([]byte, 8192)); n != 8192 || err != nil {
		t.Errorf("read in front of archived data: %d, %v", n, err)
	}
	if a := must[volume.Attr](t)(v.Getattr(root, f)); a.Blocks512() != 64 {
		t.Errorf("%d blocks", a.Blocks512())
	}
	calls := map[string]func(c *volume.Caller, ino format.Ino) error{
		"read": func(c *volume.Caller, ino format.Ino) error {
			_, err := v.Read(c, ino, 8000, make([]byte, 8192))
			return err
		},
		"write": func(c *volume.Caller, ino format.Ino) error {
			_, _, err := v.Write(c, ino, 0, []byte("x"), 0)
			return err
		},
		"truncate": func(c *volume.Caller, ino format.Ino) error {
			_, err := v.Setattr(c, ino, &volume.SetAttr{Valid: volume.SetSize, Size: 9000})
			return err
		},
	}
	for name, call := range calls {
		cancel := make(chan struct{})
		done := make(chan error, 1)
		go func() { done <- call(&volume.Caller{Cancel: cancel}, f) }()
		select {
		case err := <-done:
			t.Errorf("%s of archived data did not wait: %v", name, err)
		case <-time.After(20 * time.Millisecond):
		}
		close(cancel)
		wantErr(t, name+" interrupted", <-done, syscall.EINTR)
	}
	// Data that is no longer there ends the wait.
	for name, call := range calls {
		ino := mk(name)
		done := make(chan error, 1)
		go func() { done <- call(root, ino) }()
		time.Sleep(5 * time.Millisecond)
		must[volume.Attr](t)(v.Setattr(root, ino, &volume.SetAttr{Valid: volume.SetSize, Size: 0}))
		if err := <-done; err != nil {
			t.Errorf("%s after the data was dropped: %v", name, err)
		}
	}
	// So does the end of the mount.
	done := make(chan error, 1)
	ino := mk("last")
	go func() { done <- calls["read"](root, ino) }()
	time.Sleep(5 * time.Millisecond)
	v.Abort()
	wantErr(t, "read on a mount that is forced off", <-done, syscall.ENOLINK)
	wantErr(t, "read after that", calls["read"](root, ino), syscall.ENOLINK)
}
