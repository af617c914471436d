// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

// Package tests runs the programs on real mounts: real daemons, the real
// kernel, files or loop devices as devices. Its tests need root, /dev/fuse and
// the build tag "system"; see doc/testing.md.
package tests
