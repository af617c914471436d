// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

//go:build !(amd64 || arm64 || riscv64 || loong64 || ppc64le || mips64le)

package format

// The format is little endian and its structs are used in place.
var _ = thisFormatNeedsALittleEndian64BitHost
