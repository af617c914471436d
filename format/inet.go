// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package format

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// InetOf encodes an IPv4 address and port. Anything else becomes an unused
// slot, the zero Inet.
func InetOf(a netip.AddrPort) Inet {
	ip := a.Addr().Unmap()
	if !ip.Is4() {
		return Inet{}
	}
	b := ip.As4()
	return Inet{Family: InetV4, Port: a.Port(), Addr: binary.BigEndian.Uint32(b[:])}
}

// AddrPort decodes i; the result is not valid if i is not IPv4.
func (i *Inet) AddrPort() netip.AddrPort {
	if i.Family != InetV4 {
		return netip.AddrPort{}
	}
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], i.Addr)
	return netip.AddrPortFrom(netip.AddrFrom4(b), i.Port)
}

// String is ADDR:PORT, or "unused".
func (i Inet) String() string {
	if i.Family != InetV4 {
		return "unused"
	}
	return fmt.Sprintf("%d.%d.%d.%d:%d", i.Addr>>24, i.Addr>>16&255, i.Addr>>8&255, i.Addr&255, i.Port)
}

// TimespecOf encodes a time.Time, or what counts like one.
func TimespecOf[T interface {
	Unix() int64
	Nanosecond() int
}](t T) Timespec {
	return Timespec{Sec: uint64(t.Unix()), Nsec: uint32(t.Nanosecond())}
}
