// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package format

import "strings"

// Tags is the set of tags of an xattr's name.
type Tags uint8

// The tags. Source: spec filesystem 5.3.
const (
	TagHide Tags = 1 << iota // not listed by listxattr
	TagIndx                  // places the inode in the volume's xattr index (version 2)
	TagSrch                  // recorded in srch files
	TagTotl                  // contributes its value to a total
)

const (
	tagPrefix = "scoutfs."
	tagLen    = 5
	minTagged = 14 // shorter names with the prefix are plain xattrs
)

// ParseTags returns the tags of an xattr's whole name. ok is false if the name
// is not allowed; other checks of names, their prefix and length, are the
// caller's. Names without tags are fine unless they start with "scoutfs." and
// have at least 14 bytes. A repeated tag is accepted, totl with indx is not.
func ParseTags(name string) (t Tags, ok bool) {
	if len(name) < minTagged || !strings.HasPrefix(name, tagPrefix) {
		return 0, true
	}
	rest := name[len(tagPrefix):]
	for len(rest) >= tagLen {
		tag := tagOf(rest[:tagLen])
		if tag == 0 {
			break
		}
		t |= tag
		rest = rest[tagLen:]
	}
	if t == 0 || rest == "" || t&(TagTotl|TagIndx) == TagTotl|TagIndx {
		return 0, false
	}
	return t, true
}

func tagOf(s string) Tags {
	switch s {
	case "hide.":
		return TagHide
	case "indx.":
		return TagIndx
	case "srch.":
		return TagSrch
	case "totl.":
		return TagTotl
	}
	return 0
}

// maxNumberLen is the most characters of a number in a name or totl value.
const maxNumberLen = 23

// ParseNumber decodes a number as names of totl and indx xattrs and values of
// totl xattrs hold it: 1 to 23 characters, 0x hexadecimal, 0 octal, else
// decimal, no sign, at most 64 bits. Source: spec filesystem 5.4.
func ParseNumber[T string | []byte](s T) (v uint64, ok bool) {
	if len(s) == 0 || len(s) > maxNumberLen {
		return 0, false
	}
	base, i := uint64(10), 0
	if s[0] == '0' && len(s) > 1 {
		base, i = 8, 1
		if s[1] == 'x' || s[1] == 'X' {
			base, i = 16, 2
		}
	}
	if i == len(s) {
		return 0, false
	}
	for ; i < len(s); i++ {
		d := digit(s[i])
		if d >= base || v > (MaxKeyU64-d)/base {
			return 0, false
		}
		v = v*base + d
	}
	return v, true
}

func digit(c byte) uint64 {
	switch {
	case c >= '0' && c <= '9':
		return uint64(c - '0')
	case c >= 'a' && c <= 'f':
		return uint64(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return uint64(c-'A') + 10
	}
	return MaxKeyU64
}

// ParseTotlName returns the total a.b.c that a totl tagged name ends with.
// Source: spec filesystem 5.4.
func ParseTotlName(name string) (abc [3]uint64, ok bool) {
	for i := 2; i >= 0; i-- {
		dot := strings.LastIndexByte(name, '.')
		if dot < 0 {
			return abc, false
		}
		if abc[i], ok = ParseNumber(name[dot+1:]); !ok {
			return abc, false
		}
		name = name[:dot]
	}
	return abc, true
}

// ParseIndxName returns the position major.minor that an indx tagged name ends
// with. Source: spec filesystem 5.5.
func ParseIndxName(name string) (major uint8, minor uint64, ok bool) {
	dot := strings.LastIndexByte(name, '.')
	if dot < 0 {
		return 0, 0, false
	}
	if minor, ok = ParseNumber(name[dot+1:]); !ok {
		return 0, 0, false
	}
	name = name[:dot]
	dot = strings.LastIndexByte(name, '.')
	if dot < 0 {
		return 0, 0, false
	}
	m, ok := ParseNumber(name[dot+1:])
	if !ok || m > 255 {
		return 0, 0, false
	}
	return uint8(m), minor, true
}
