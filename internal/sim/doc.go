// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

// Package sim has tests that run a whole node on simulated disks from one
// seed: a server, a lock client, transactions and a volume, under a generated
// workload, which a model in memory follows. They cut the power at every write
// and flush, fail every read, write and flush once, and damage metadata. The
// package itself is empty.
//
// Units: bytes, unless a name says blocks. Events of a tape are counted from 1;
// "cut n" is the power failing after n of them.
//
//	workload -> node -> tap -> disk          a model keeps the state after each operation
//	                     |
//	                    tape: writes, flushes --cut--> image -> new node -> compare, check
//
// Every failure prints the seed and the cut, or the seed and the number of the I/O, that
// repeat it: SEED= and CUT= (or IO=) in the environment run only that; RUNS= is the
// number of seeds, STEPS= that of operations, ROUNDS= that of damaged volumes. The flag
// -campaign runs the long forms. Nothing here locks anything but
// tape.mu, which is held over the disk's own operations.
package sim
