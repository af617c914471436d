// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"testing"
)

// TestMain ends at once where a test has made the mount command start its
// daemon: that is this very binary, and would run all tests again.
func TestMain(m *testing.M) {
	if isDaemon() {
		fmt.Fprintln(os.Stderr, "a test started a daemon")
		os.Exit(1)
	}
	os.Exit(m.Run())
}
