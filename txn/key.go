// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package txn

import "scoutfs/format"

// pkey is a key packed most significant part first, so that four comparisons
// of words order it: 8 bits of zone, 64 of first, 8 of type, 64 of second, 64
// of third, 8 of fourth, and 40 zero bits.
type pkey struct{ a, b, c, d uint64 }

// pkeyOne is what the least significant bit of a key counts in word d.
const pkeyOne = 1 << 40

var (
	pkeyMin = pkey{}
	pkeyMax = pkey{^uint64(0), ^uint64(0), ^uint64(0), ^uint64(pkeyOne - 1)}
)

func packKey(k *format.Key) pkey {
	return pkey{
		a: uint64(k.Zone)<<56 | k.First>>8,
		b: k.First<<56 | uint64(k.Type)<<48 | k.Second>>16,
		c: k.Second<<48 | k.Third>>16,
		d: k.Third<<48 | uint64(k.Fourth)<<40,
	}
}

func (k *pkey) unpack() format.Key {
	return format.Key{
		Zone:   uint8(k.a >> 56),
		First:  k.a<<8 | k.b>>56,
		Type:   uint8(k.b >> 48),
		Second: k.b<<16 | k.c>>48,
		Third:  k.c<<16 | k.d>>48,
		Fourth: uint8(k.d >> 40),
	}
}

func (k *pkey) less(o *pkey) bool {
	switch {
	case k.a != o.a:
		return k.a < o.a
	case k.b != o.b:
		return k.b < o.b
	case k.c != o.c:
		return k.c < o.c
	}
	return k.d < o.d
}

func (k *pkey) compare(o *pkey) int {
	switch {
	case k.less(o):
		return -1
	case *k == *o:
		return 0
	}
	return 1
}

// inc is the next key; pkeyMax wraps to pkeyMin.
func (k pkey) inc() pkey {
	if k.d += pkeyOne; k.d != 0 {
		return k
	}
	if k.c++; k.c != 0 {
		return k
	}
	if k.b++; k.b != 0 {
		return k
	}
	k.a++
	return k
}

// dec is the key before; pkeyMin wraps to pkeyMax.
func (k pkey) dec() pkey {
	if k.d -= pkeyOne; k.d != pkeyMax.d {
		return k
	}
	if k.c--; k.c != ^uint64(0) {
		return k
	}
	if k.b--; k.b != ^uint64(0) {
		return k
	}
	k.a--
	return k
}

func minKey(x, y pkey) pkey {
	if y.less(&x) {
		return y
	}
	return x
}

func maxKey(x, y pkey) pkey {
	if x.less(&y) {
		return y
	}
	return x
}
