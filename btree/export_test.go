// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package btree

import "scoutfs/format"

// HashKey is the leaf hash, for tests.
func HashKey(key *format.Key) uint32 { return hashKey(key) }

// Spare returns the blocks that the transaction holds for later.
func (t *Tx) Spare() []format.Blkno { return t.spare }
