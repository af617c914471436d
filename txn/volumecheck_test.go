// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package txn_test

import "testing"

func checkVolume(t testing.TB, d disks) {}
