// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package block

import (
	"unsafe"

	"scoutfs/format"
)

// address is where b starts. It is only compared and used in arithmetic.
func address(b []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(b))) }

// aligned reports whether b starts on a multiple of 4096.
func aligned(b []byte) bool { return address(b)%format.SmallSize == 0 }
