// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package block

import (
	"sync"

	"scoutfs/iouring"
)

// sharedPool is the process's rings. All devices use them, so that there are few,
// and the arena's slabs are registered once for all.
var sharedPool = sync.OnceValues(func() (*iouring.Pool, error) {
	p, err := iouring.NewPool(iouring.Options{})
	if err != nil {
		return nil, err
	}
	theArena.watch(func(mem []byte) {
		_ = p.AddBuffer(mem) // counted in the pool's metrics; works unregistered
	})
	return p, nil
})

// RingMetrics returns what the process's rings have done; zero if there are
// none.
func RingMetrics() iouring.Metrics {
	p, err := sharedPool()
	if err != nil {
		return iouring.Metrics{}
	}
	return p.Metrics()
}
