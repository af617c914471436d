// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package volume_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"syscall"
	"testing"

	"scoutfs/format"
	"scoutfs/lock"
	"scoutfs/txn"
	"scoutfs/volume"
)

// put replaces an item of an inode by whatever bytes; nil deletes it.
func (m *mount) put(t *testing.T, ino format.Ino, key format.Key, val []byte) {
	t.Helper()
	ctx := context.Background()
	lk := must[*lock.Lock](t)(m.locks.Acquire(ctx, lock.InodeGroup(ino), format.LockWrite))
	tx := must[*txn.Tx](t)(m.eng.Begin(ctx, txn.Allocating))
	defer func() { m.locks.Release(lk, format.LockWrite, tx.Seq()) }()
	if err := tx.Delete(lk, &key); err != nil && err != syscall.ENOENT {
		t.Fatal(err)
	}
	if val != nil {
		ok(t, tx.Create(lk, &key, val))
	}
	tx.Done()
}

// logBuffer collects log lines.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer // +checklocks:mu
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// TestCorruptItems reads items that contradict the format: the answer is EIO,
// a line in the log with the identifier of spec filesystem 7.3, and a count.
func TestCorruptItems(t *testing.T) {
	w := newWorld(t, 2)
	log := &logBuffer{}
	m := w.mount(mountOptions{vol: func(o *volume.Options) { o.Log = slog.New(slog.NewTextHandler(log, nil)) }})
	v := m.v()
	var header [32]byte
	mk := func(name, target string) format.Ino {
		return must[volume.Attr](t)(v.Symlink(root, rootIno, name, target)).Ino
	}
	dir := must[volume.Attr](t)(v.Mkdir(root, rootIno, "dir", 0o755)).Ino
	file := must[volume.Attr](t)(v.Create(root, rootIno, "file", 0o600)).Ino
	size, part, term := mk("size", "x"), mk("part", strings.Repeat("x", 2000)), mk("term", "x")
	m.put(t, dir, format.KeyDirent(dir, format.NameHash("bad"), 5), header[:])
	m.put(t, dir, format.KeyReaddir(dir, 5), header[:])
	m.put(t, file, format.KeyBackref(file, 0, 5), header[:])
	m.edit(t, size, func(in *format.Inode) { in.Size = 5000 })
	m.put(t, part, format.KeySymlink(part, 1), nil)
	m.put(t, term, format.KeySymlink(term, 0), []byte("xy"))
	m.write(t, file, 0, pattern(20*4096, 1))
	m.edit(t, file, func(in *format.Inode) { in.OnlineBlocks = 3 })

	link := func(ino format.Ino) func() error {
		return func() error { _, err := v.Readlink(root, ino); return err }
	}
	for _, tc := range []struct {
		id    string
		fn    func() error
		count func(m volume.Metrics) int64
		want  error
	}{
		{"SC_DIRENT_NAME_LEN", func() error { _, err := v.Lookup(root, dir, "bad"); return err },
			func(m volume.Metrics) int64 { return m.CorruptDirentNameLen }, syscall.EIO},
		{"SC_DIRENT_READDIR_NAME_LEN", func() error { return v.ReadDir(root, dir, 0, func(*volume.DirEntry) bool { return true }) },
			func(m volume.Metrics) int64 { return m.CorruptDirentReaddirNameLen }, syscall.EIO},
		{"SC_DIRENT_BACKREF_NAME_LEN", func() error { _, err := v.InoPath(root, file, 0, 0, 4096); return err },
			func(m volume.Metrics) int64 { return m.CorruptDirentBackrefNameLen }, syscall.EIO},
		{"SC_SYMLINK_INODE_SIZE", link(size), func(m volume.Metrics) int64 { return m.CorruptSymlinkInodeSize }, syscall.EIO},
		{"SC_SYMLINK_MISSING_ITEM", link(part), func(m volume.Metrics) int64 { return m.CorruptSymlinkMissingItem }, syscall.EIO},
		{"SC_SYMLINK_NOT_NULL_TERM", link(term), func(m volume.Metrics) int64 { return m.CorruptSymlinkNotNullTerm }, syscall.EIO},
		{"SC_INODE_BLOCK_COUNTS", func() error {
			_, err := v.Setattr(root, file, &volume.SetAttr{Valid: volume.SetSize})
			return err
		}, func(m volume.Metrics) int64 { return m.CorruptInodeBlockCounts }, nil},
	} {
		err := tc.fn()
		if tc.want == nil {
			ok(t, err)
		} else {
			wantErr(t, tc.id, err, tc.want)
		}
		if n := tc.count(v.Metrics()); n != 1 {
			t.Errorf("%s was counted %d times", tc.id, n)
		}
		if !strings.Contains(log.String(), tc.id) {
			t.Errorf("%s is not in the log", tc.id)
		}
	}
	m.put(t, file, format.KeyInode(file), make([]byte, 100))
	_, err := v.Getattr(root, file)
	wantErr(t, "short inode", err, syscall.EIO)
	m.put(t, dir, format.KeyExtent(dir, 1, 5), make([]byte, 16))
	_, err = v.Extents(root, dir, 0, 10)
	wantErr(t, "bad extent", err, syscall.EIO)
	m.close()
}
