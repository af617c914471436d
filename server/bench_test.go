// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"fmt"
	"sync"
	"testing"

	"scoutfs/format"
)

// BenchmarkTransactions is what the server adds to the transactions of mounts
// that write nothing: two commits each, shared by mounts, on a disk in memory.
func BenchmarkTransactions(b *testing.B) {
	for _, n := range []int{1, 8} {
		b.Run(fmt.Sprintf("mounts=%d", n), func(b *testing.B) {
			v := newVolumeOf(b, 1, 4*metaBlocks, 16<<20)
			s := v.start()
			var mounts []*mount
			for i := range n {
				mounts = append(mounts, v.mount(s, format.Rid(10+i), 0, nil))
			}
			before := s.Metrics().Commits
			b.ReportAllocs()
			b.ResetTimer()
			var wg sync.WaitGroup
			for _, m := range mounts {
				wg.Go(func() {
					for range b.N {
						lt, err := m.l.GetLogTrees(b.Context())
						if err == nil {
							err = m.l.CommitLogTrees(b.Context(), &lt)
						}
						if err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(s.Metrics().Commits-before)/float64(b.N*n), "commits/op")
		})
	}
}
