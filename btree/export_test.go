// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package btree

import (
	"flag"
	"math/rand/v2"
	"testing"
	"time"

	"scoutfs/format"
)

var seedFlag = flag.Uint64("seed", 0, "seed of random tests; 0 takes a new one")

// NewRand returns a generator whose seed is in the test's output.
func NewRand(t testing.TB) *rand.Rand {
	t.Helper()
	seed := *seedFlag
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("repeat with -seed=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// HashKey is the leaf hash.
func HashKey(key *format.Key) uint32 { return hashKey(key) }

// Spare returns the blocks that the transaction holds for later.
func (t *Tx) Spare() []format.Blkno { return t.spare }
