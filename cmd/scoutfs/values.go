// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"syscall"
)

// parseU64 decodes a whole string in C syntax: decimal, 0x or 0 prefix. A
// minus wraps the number, so that -1 is the greatest.
// Source: spec interfaces 2.1.
func parseU64(what, s string) (uint64, error) {
	v, rest, err := cNumber(s)
	if err == nil && rest != "" {
		err = syscall.EINVAL
	}
	if err != nil {
		return 0, fmt.Errorf("%s '%s': %w", what, s, err)
	}
	return v, nil
}

// parseSize decodes a number of bytes: C syntax and at most one of K M G T P
// for powers of 1024.
func parseSize(what, s string) (uint64, error) {
	v, rest, err := cNumber(s)
	if err == nil && rest != "" {
		shift := 10 * (strings.Index("KMGTP", rest) + 1)
		if len(rest) != 1 || shift == 0 || v<<shift>>shift != v {
			err = syscall.ERANGE
		}
		v <<= shift
	}
	if err != nil {
		return 0, fmt.Errorf("%s '%s': %w", what, s, err)
	}
	return v, nil
}

// cNumber decodes a number at the start of s as strtoull with base 0 does.
func cNumber(s string) (v uint64, rest string, err error) {
	digits := strings.TrimLeft(s, " \t\n\v\f\r")
	negative := strings.HasPrefix(digits, "-")
	if negative || strings.HasPrefix(digits, "+") {
		digits = digits[1:]
	}
	base, set := 10, "0123456789"
	switch lower := strings.ToLower(digits); {
	case strings.HasPrefix(lower, "0x") && len(lower) > 2 && strings.ContainsRune("0123456789abcdef", rune(lower[2])):
		base, set, digits = 16, "0123456789abcdefABCDEF", digits[2:]
	case strings.HasPrefix(digits, "0"):
		base, set = 8, "01234567"
	}
	rest = strings.TrimLeft(digits, set)
	digits = digits[:len(digits)-len(rest)]
	v, err = strconv.ParseUint(digits, base, 64)
	switch {
	case errors.Is(err, strconv.ErrRange):
		return 0, "", syscall.ERANGE
	case err != nil:
		return 0, "", syscall.EINVAL
	case negative:
		v = -v
	}
	return v, rest, nil
}

// base is a number of bytes in the greatest fitting unit: the spec's "BASE".
func base(bytes uint64) string {
	units := []string{"B", "KB", "MB", "GB", "TB", "PB", "EB"}
	v := float64(bytes)
	i := 0
	for ; v >= 1024 && i < len(units)-1; i++ {
		v /= 1024
	}
	return fmt.Sprintf("%.2f%s", v, units[i])
}
