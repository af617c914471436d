// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

// Package mount wires one mount of a volume: devices, election, server when
// elected, connection to the server, locks, transactions and the volume.
//
//	Open:  options -> devices, supers, rid -> registry -> status tree -> quorum
//	       -> connection -> locks -> transactions -> volume -> background work
//	Close: the same backwards, with a last commit and a farewell to the server
//	Abort: nothing leaves any more, every waiter gets an error; bounded time
//
// A mount that ends without Close stays in the volume until a server has proof
// that it cannot write any more. On its own host that proof is built in: see
// [Registry]. Durations are Go's; options keep the units of their names.
//
// Lock order: Mount.mu, then serverRunner.mu; neither is held during I/O or
// while another package is called, except for atomic reads.
//
// Source: spec cluster 1, 3; interfaces 3, 4; filesystem 8.
package mount
