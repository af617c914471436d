// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

//go:build system

package tests

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// metadata lists everything about files that must survive but their contents.
const metadata = `find . -mindepth 1 \( -type d -printf '%P d %m %n %U %G %T@\n' -o -printf '%P %y %m %n %U %G %s %T@ %l\n' \) | sort`

func TestSourceTreeRoundTrip(t *testing.T) {
	v := newVolume(t).mount()
	src := filepath.Join(runtime.GOROOT(), "src")
	v.sh("cp -a " + src + " tree")
	want, err := command(limit, "bash", "-euc", "cd "+src+"; "+metadata)
	if err != nil {
		t.Fatal(err)
	}
	v.umount()
	v.check()
	v.mount()
	v.sh("diff -r " + src + " tree")
	got := v.sh("cd tree; " + metadata)
	if got != want {
		t.Errorf("metadata differs after unmount and mount:\n%s", firstDifference(want, got))
	}
}

func firstDifference(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range min(len(w), len(g)) {
		if w[i] != g[i] {
			return "want " + w[i] + "\n got " + g[i]
		}
	}
	return "one has more lines"
}

func TestLinksAndSpecialFiles(t *testing.T) {
	v := newVolume(t).mount()
	v.sh(`
		mkdir d; echo hello > d/a; ln d/a d/b; ln -s ../d/a d/l; mkfifo d/p; mknod d/c c 1 3; mknod d/blk b 259 1000
		chmod 4711 d/a; chown 12:34 d/p; touch -d '1965-01-02 03:04:05.123456789 UTC' d/b; touch -h -d '2040-01-01' d/l
		mkdir -p deep/$(printf 'x%.0s' {1..255}); ln -s $(printf 'y%.0s' {1..4095}) long`)
	want := v.sh(metadata)
	v.umount()
	v.mount()
	if got := v.sh(metadata); got != want {
		t.Errorf("after remount:\n%s", firstDifference(want, got))
	}
	v.sh(`[ "$(cat d/l)" = hello ]; [ d/a -ef d/b ]; [ "$(readlink long | wc -c)" = 4096 ]; head -c 0 d/c`)
}

// The same on block devices, with all kinds of changes over several mounts.
func TestLoopDevices(t *testing.T) {
	v := unformatted(t)
	for _, p := range []*string{&v.meta, &v.data} {
		out, err := command(limit, "losetup", "--direct-io=on", "--show", "-f", *p)
		if err != nil {
			t.Fatalf("losetup: %v %s", err, out)
		}
		*p = strings.TrimSpace(out)
		dev := *p
		t.Cleanup(func() { command(limit, "losetup", "-d", dev) })
	}
	t.Cleanup(v.cleanup) // before the devices go
	v.must("mkfs", "-A", "-Q", fmt.Sprintf("0,127.0.0.1,%d", v.port), v.meta, v.data)
	v.mount()
	v.sh("cp -a " + filepath.Join(runtime.GOROOT(), "src/net") + " a; cp -a a b; rm -r a/http; mv b/http a/; find a -name '*_test.go' -delete")
	for range 3 {
		v.umount()
		v.check()
		v.mount()
		v.sh("cp -a a c; diff -r a c; rm -r b; mv c b")
	}
	v.sh("diff -r a/http " + filepath.Join(runtime.GOROOT(), "src/net/http") + " | grep -v '_test.go$' && exit 1; true")
}

func TestPrograms(t *testing.T) {
	v := newVolume(t).mount()
	t.Run("git", func(t *testing.T) {
		repo, err := filepath.Abs("..")
		if err != nil {
			t.Fatal(err)
		}
		v.t = t
		v.sh("git -c safe.directory='*' clone -q file://" + repo + " repo; git -C repo fsck --strict; git -C repo status --porcelain")
	})
	t.Run("go build", func(t *testing.T) {
		v.t = t
		v.sh("cp -a " + filepath.Join(runtime.GOROOT(), "src/go/ast") + " .; mkdir hello; cd hello; printf 'package main\nfunc main() { println(42) }\n' > main.go; go mod init hello; GOCACHE=$PWD/cache go build -o hello .; ./hello 2>&1 | grep -x 42")
	})
	t.Run("sqlite", func(t *testing.T) {
		v.t = t
		v.sh(`sqlite3 db 'pragma journal_mode=wal; create table t(a integer primary key, b text);
			with recursive c(x) as (select 1 union all select x+1 from c where x<20000) insert into t select x, hex(randomblob(20)) from c;'
			sqlite3 db 'update t set b = b || a where a % 3 = 0; delete from t where a % 7 = 0; pragma integrity_check;' | grep -x ok
			sqlite3 db 'select count(*) from t' | grep -x 17143`)
	})
	t.Run("rsync", func(t *testing.T) {
		v.t = t
		v.sh(`mkdir from; cp -a ` + filepath.Join(runtime.GOROOT(), "src/net") + ` from/; ln from/net/ip.go from/hard; setfattr -n user.k -v v from/hard
			setfacl -m u:12:rwx,d:g:34:r from/net; rsync -aHAX from/ to/; diff -r from to; [ to/hard -ef to/net/ip.go ]
			getfattr -n user.k --only-values to/hard | grep -x v; getfacl -p to/net | grep -x user:12:rwx
			[ -z "$(rsync -aHAXni from/ to/)" ]`)
	})
	v.t = t
	v.umount()
	v.check()
	v.mount()
	v.sh("git -C repo fsck; sqlite3 db 'pragma integrity_check' | grep -x ok; hello/hello; diff -r from to")
	if _, err := os.Stat(filepath.Join(v.mnt, "to/hard")); err != nil {
		t.Error(err)
	}
}
