// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package fuseconn_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"scoutfs/fuseconn"
)

// The kernel reads ahead by whole requests.
func TestReadAhead(t *testing.T) {
	dir, c, served := mount(t, &oneFile{})
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(dir, "f"), &st); err != nil { // waits until requests are served
		t.Fatal(err)
	}
	b, err := os.ReadFile(fmt.Sprintf("/sys/class/bdi/%d:%d/read_ahead_kb", unix.Major(st.Dev), unix.Minor(st.Dev)))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := strings.TrimSpace(string(b)), fmt.Sprint(fuseconn.MaxWrite>>10); got != want {
		t.Errorf("readahead is %s KiB, want %s", got, want)
	}
	if err := c.Unmount(false, false); err != nil {
		t.Fatal(err)
	}
	<-served
}
