// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package bench

import (
	"math"
	"math/bits"
	"time"
)

const (
	subBits    = 6 // linear steps of each power of two
	sub        = 1 << subBits
	histGroups = 64 - subBits
)

// Histogram counts latencies with an error below two percent.
type Histogram struct {
	counts   [histGroups * sub]uint64
	n        uint64
	sum, sq  float64
	min, max uint64
}

// Add counts n operations that took d each.
func (h *Histogram) Add(d time.Duration, n int) {
	v := uint64(max(d, 0))
	if h.n == 0 || v < h.min {
		h.min = v
	}
	h.max = max(h.max, v)
	h.counts[bucket(v)] += uint64(n)
	h.n += uint64(n)
	f := float64(v)
	h.sum += f * float64(n)
	h.sq += f * f * float64(n)
}

func bucket(v uint64) int {
	if v < sub {
		return int(v)
	}
	shift := bits.Len64(v) - subBits - 1
	return (shift+1)*sub + int(v>>shift) - sub
}

// lowest is the smallest value of a bucket.
func lowest(b int) uint64 {
	if b < 2*sub {
		return uint64(b)
	}
	return uint64(b%sub+sub) << (b/sub - 1)
}

// merge adds what x counted.
func (h *Histogram) merge(x *Histogram) {
	if x.n == 0 {
		return
	}
	if h.n == 0 || x.min < h.min {
		h.min = x.min
	}
	h.max = max(h.max, x.max)
	for i, c := range x.counts {
		h.counts[i] += c
	}
	h.n += x.n
	h.sum += x.sum
	h.sq += x.sq
}

// Percentile returns the latency that p percent of operations did not exceed.
func (h *Histogram) Percentile(p float64) time.Duration {
	want := uint64(math.Ceil(float64(h.n) * p / 100))
	seen := uint64(0)
	for i, c := range h.counts {
		if seen += c; seen >= want && c > 0 {
			return time.Duration(min(max(lowest(i), h.min), h.max))
		}
	}
	return time.Duration(h.max)
}

// Mean is the mean latency.
func (h *Histogram) Mean() float64 {
	if h.n == 0 {
		return 0
	}
	return h.sum / float64(h.n)
}

// stddev is the standard deviation.
func (h *Histogram) stddev() float64 {
	if h.n == 0 {
		return 0
	}
	m := h.Mean()
	return math.Sqrt(max(0, h.sq/float64(h.n)-m*m))
}
