// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

// Package invariants holds the constant that turns on checks of the program
// itself. They are for builds with -race or -tags invariants; elsewhere the
// compiler removes them.
package invariants

import "fmt"

// Check panics with the message if ok is false and invariants are enabled. Use
// it only for what the program guarantees, never for bytes that were read.
func Check(ok bool, format string, args ...any) {
	if Enabled && !ok {
		panic("invariant: " + fmt.Sprintf(format, args...))
	}
}
