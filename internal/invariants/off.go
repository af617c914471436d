// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

//go:build !race && !invariants

package invariants

// Enabled is true in builds that check invariants.
const Enabled = false
