// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package mount

import (
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// counterNames are the files of counters/, by prefix. Their names are an
// interface; those that have no meaning here stay 0.
// Source: spec interfaces 4.3.
var counterNames = map[string]string{
	"alloc":       "alloc_data alloc_meta free_data free_meta freed_fill list_avail_lo list_freed_hi move moved_extent stale_list_block",
	"block_cache": "access_update alloc_failure alloc_page_order alloc_virt end_io_error isolate_removed isolate_rotate isolate_skip forget free free_work remove_stale count_objects scan_objects",
	"btree": "compact_values compact_values_enomem delete dirty force join insert leaf_item_hash_search lookup merge merge_alloc_low merge_delete " +
		"merge_delta_combined merge_delta_null merge_dirty_limit merge_drop_old merge_insert merge_update merge_walk next prev split stale_read update walk walk_restart",
	"client": "farewell_error",
	"corrupt": "btree_block_level btree_no_child_ref dirent_backref_name_len dirent_name_len dirent_readdir_name_len inode_block_counts " +
		"symlink_inode_size symlink_missing_item symlink_not_null_term",
	"data":   "fallocate_enobufs_retry write_begin_enobufs_retry",
	"dentry": "revalidate_error revalidate_invalid revalidate_rcu revalidate_root revalidate_valid",
	"dir":    "backref_excessive_retries",
	"ext":    "op_insert op_next op_remove",
	"forest": "bloom_fail bloom_pass bloom_stale read_items roots_next_hint set_bloom_bits",
	"inode":  "deleted",
	"item": "cache_count_objects cache_scan_objects clear_dirty create delete delta delta_written dirty invalidate invalidate_page lookup mark_dirty next " +
		"page_accessed page_alloc page_clear_dirty page_compact page_free page_lru_add page_lru_remove page_mark_dirty page_rbtree_walk page_split " +
		"pcpu_add_replaced pcpu_page_hit pcpu_page_miss pcpu_page_miss_keys read_pages_barrier read_pages_retry read_pages_split shrink_page " +
		"shrink_page_dirty shrink_page_trylock update write_dirty",
	"lock": "alloc free grant_request grant_response invalidate_coverage invalidate_inode invalidate_request invalidate_response invalidate_sync " +
		"invalidate_work lock lock_error nonblock_eagain recover_request shrink_attempted shrink_request_failed unlock wait",
	"log":        "merge_complete merge_no_finalized merge_start merge_wait_timeout",
	"net":        "dropped_response send_bytes send_error send_messages recv_bytes recv_dropped_duplicate recv_error recv_invalid_message recv_messages unknown_request",
	"orphan":     "scan scan_attempts scan_cached scan_empty scan_error scan_item scan_omap_set",
	"quota_info": "count_objects scan_objects",
	"quorum": "candidate_server_stopping elected fence_error fence_leader read_invalid_block recv_error recv_heartbeat recv_invalid recv_resignation recv_vote " +
		"send_heartbeat send_heartbeat_dropped send_resignation send_request send_vote server_shutdown term_follower",
	"reclaimed": "open_logs",
	"server":    "commit_hold commit_queue commit_worker",
	"srch": "add_entry compact_dirty_block compact_entry compact_error compact_flush compact_log_page compact_removed_entry rotate_log search_log " +
		"search_log_block search_retry_empty search_sorted search_sorted_block search_xattrs read_stale",
	"totl":  "read_copied read_item",
	"trans": "commit_data_alloc_low commit_dirty_meta_full commit_fsync commit_meta_alloc_low commit_sync_fs commit_timer commit_written",
	"wkic":  "count_objects scan_objects",
}

// knownCounters are the full names, with the one that has no prefix.
var knownCounters = func() []string {
	names := []string{"statfs"}
	for prefix, rest := range counterNames {
		for _, n := range strings.Fields(rest) {
			names = append(names, prefix+"_"+n)
		}
	}
	return names
}()

// counters collects values by name.
type counters map[string]uint64

// add takes every integer field of a snapshot: field FooBar of prefix x is
// counter x_foo_bar. Embedded structs are flattened.
func (c counters) add(prefix string, snapshot any) {
	v := reflect.ValueOf(snapshot)
	for i := range v.NumField() {
		f, val := v.Type().Field(i), v.Field(i)
		name := prefix + snake(f.Name)
		switch {
		case f.Anonymous && val.Kind() == reflect.Struct:
			c.add(prefix, val.Interface())
		case val.CanUint():
			c[name] += val.Uint()
		case val.CanInt() && val.Int() >= 0:
			c[name] += uint64(val.Int())
		}
	}
}

// snake turns FooBarIO into foo_bar_io and FooIOBar into foo_io_bar.
func snake(s string) string {
	var b strings.Builder
	for i, r := range s {
		if unicode.IsUpper(r) && i > 0 {
			afterLower := unicode.IsLower(rune(s[i-1]))
			beforeLower := i+1 < len(s) && unicode.IsLower(rune(s[i+1]))
			if afterLower || beforeLower {
				b.WriteByte('_')
			}
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// Counters returns all counters of the mount by name, the known ones and what
// the packages count beyond them. Source: spec interfaces 4.3.
func (m *Mount) Counters() map[string]uint64 {
	c := make(counters)
	for _, n := range knownCounters {
		c[n] = 0
	}
	m.collect(c)
	return c
}

// counterNodes makes one file of each counter.
func (m *Mount) counterNodes() []*Node {
	all := m.Counters()
	nodes := make([]*Node, 0, len(all))
	for name := range all {
		nodes = append(nodes, file(name, func() string { return strconv.FormatUint(m.Counters()[name], 10) + "\n" }))
	}
	slices.SortFunc(nodes, func(a, b *Node) int { return strings.Compare(a.Name, b.Name) })
	return nodes
}

// collect adds what the parts of the mount have counted.
func (m *Mount) collect(c counters) {
	bc := m.cache.Metrics()
	c.add("block_cache_", bc)
	c["block_cache_remove_stale"] += bc.Stale
	if a := m.agent.Load(); a != nil {
		c.add("quorum_", a.Metrics())
	}
	if l := m.locks.Load(); l != nil {
		lm := l.Metrics()
		c.add("lock_", lm)
		c["lock_lock_error"] += lm.Error
	}
	if e := m.engine.Load(); e != nil {
		tm := e.Metrics()
		c.add("txn_", tm)
		c["trans_commit_written"] += uint64(tm.Commits)
	}
	if cl := m.client.Load(); cl != nil {
		c.add("net_", cl.Metrics())
	}
	if v := m.vol.Load(); v != nil {
		c.add("", v.Metrics())
	}
	c.add("", m.runner.counts.Snapshot())
	if srv := m.runner.running(); srv != nil {
		c.add("server_", srv.Metrics())
	}
}
