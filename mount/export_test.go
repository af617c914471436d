// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package mount

// Sweep cleans the registry now.
func (m *Mount) Sweep() { m.sweep() }
