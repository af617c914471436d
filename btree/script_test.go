// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package btree_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"scoutfs/btree"
	"scoutfs/format"
)

// TestScripts runs testdata/*.txt. Keys are written as n for 16.n.4.0.0.0 or in
// the text form of keys. Commands:
//
//	insert | update | force | dirty | rebalance | delete   each line: key [len] or from..to [len]
//	put         each line: key seq (value=len | total=t,c | delete)
//	lookup | next | prev | leaf   each line: key
//	walk        from to
//	tree        shape of the tree; blocks by number in order of appearance
//	node        the AVL tree and values of the root block
//	commit
func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		s := &script{env: newEnv(t)}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			s.t = t
			out := s.run(d)
			s.check()
			return out
		})
	})
}

type script struct{ *env }

func (s *script) run(d *datadriven.TestData) string {
	var out strings.Builder
	switch d.Cmd {
	case "tree":
		s.dumpTree(&out)
	case "node":
		s.dumpNode(&out)
	case "commit":
		s.commit()
	case "put":
		s.put(&out, d.Input)
	default:
		for line := range strings.Lines(d.Input) {
			s.line(&out, d, strings.Fields(line))
		}
	}
	if out.Len() == 0 {
		return "ok\n"
	}
	return out.String()
}

// line runs a command for one line of its input.
func (s *script) line(out *strings.Builder, d *datadriven.TestData, f []string) {
	if d.Cmd == "walk" {
		from, to := s.key(d, f[0]), s.key(d, f[1])
		s.report(out, btree.Walk(s.cache, &s.root, &from, &to, func(it *btree.Item) error {
			printItem(out, it)
			return nil
		}))
		return
	}
	from, to, isRange := strings.Cut(f[0], "..")
	if !isRange {
		s.one(out, d, s.key(d, f[0]), f)
		return
	}
	a, _ := strconv.Atoi(from)
	b, _ := strconv.Atoi(to)
	for step := 1; ; a += step {
		if s.one(out, d, *key(a), f); a == b {
			return
		}
		if step = 1; a > b {
			step = -1
		}
	}
}

// one runs a command for one key.
func (s *script) one(out *strings.Builder, d *datadriven.TestData, k format.Key, f []string) {
	size := 0
	if len(f) > 1 {
		size, _ = strconv.Atoi(f[1])
	}
	val := make([]byte, size)
	switch d.Cmd {
	case "insert":
		s.report(out, s.tx.Insert(&s.root, &k, val))
	case "update":
		s.report(out, s.tx.Update(&s.root, &k, val))
	case "force":
		s.report(out, s.tx.Force(&s.root, &k, val))
	case "dirty":
		s.report(out, s.tx.Dirty(&s.root, &k))
	case "rebalance":
		s.report(out, s.tx.Rebalance(&s.root, &k))
	case "delete":
		s.report(out, s.tx.Delete(&s.root, &k))
	case "leaf":
		n := 0
		start, end, err := btree.ReadLeaf(s.cache, &s.root, &k, func(*btree.Item) { n++ })
		s.report(out, err)
		fmt.Fprintf(out, "%d items, %v to %v\n", n, start, end)
	default:
		read := map[string]func() (btree.Item, error){
			"lookup": func() (btree.Item, error) { return btree.Lookup(s.cache, &s.root, &k, nil) },
			"next":   func() (btree.Item, error) { return btree.Next(s.cache, &s.root, &k, nil) },
			"prev":   func() (btree.Item, error) { return btree.Prev(s.cache, &s.root, &k, nil) },
		}[d.Cmd]
		if read == nil {
			d.Fatalf(s.t, "unknown command")
		}
		it, err := read()
		if s.report(out, err); err == nil {
			printItem(out, &it)
		}
	}
}

func (s *script) report(out *strings.Builder, err error) {
	if err != nil {
		fmt.Fprintf(out, "%v\n", err)
	}
}

func printItem(out *strings.Builder, it *btree.Item) {
	fmt.Fprintf(out, "%v seq %d", it.Key, it.Seq)
	tot, ok := format.Load[format.Totl](it.Val)
	switch {
	case it.Deletion():
		out.WriteString(" deletion")
	case ok && it.Key.Zone == format.ZoneTotl:
		fmt.Fprintf(out, " total %d count %d", int64(tot.Total), int64(tot.Count))
	default:
		fmt.Fprintf(out, " %d bytes", len(it.Val))
	}
	out.WriteString("\n")
}

// put runs PutItems with all lines of the input.
func (s *script) put(out *strings.Builder, input string) {
	lines := strings.Split(input, "\n")
	maxSeq, err := s.tx.PutItems(&s.root, func() (*btree.Item, bool) {
		if len(lines) == 0 {
			return nil, false
		}
		f := strings.Fields(lines[0])
		lines = lines[1:]
		it := &btree.Item{Key: parseKey(f[0])}
		it.Seq, _ = strconv.ParseUint(f[1], 10, 64)
		name, arg, _ := strings.Cut(f[2], "=")
		switch name {
		case "delete":
			it.Flags = format.ItemFlagDeletion
		case "total":
			t, c, _ := strings.Cut(arg, ",")
			total, _ := strconv.ParseInt(t, 10, 64)
			count, _ := strconv.ParseInt(c, 10, 64)
			it.Val = format.Bytes(&format.Totl{Total: uint64(total), Count: uint64(count)})
		default:
			size, _ := strconv.Atoi(arg)
			it.Val = make([]byte, size)
		}
		return it, true
	})
	s.report(out, err)
	fmt.Fprintf(out, "greatest seq %d\n", maxSeq)
}

func (s *script) key(_ *datadriven.TestData, text string) format.Key { return parseKey(text) }

// parseKey understands n, ones and the text form of keys.
func parseKey(text string) format.Key {
	if text == "ones" {
		return format.KeyMax
	}
	var v [6]uint64
	for i, part := range strings.SplitN(text, ".", 6) {
		v[i], _ = strconv.ParseUint(part, 10, 64)
	}
	if !strings.Contains(text, ".") {
		return *key(int(v[0]))
	}
	return format.Key{Zone: uint8(v[0]), First: v[1], Type: uint8(v[2]), Second: v[3], Third: v[4], Fourth: uint8(v[5])}
}

func shortKey(k format.Key) string {
	if k == format.KeyMax {
		return "ones"
	}
	return k.String()
}

// dumpTree prints each block of the tree, indented by its depth.
func (s *script) dumpTree(out *strings.Builder) {
	fmt.Fprintf(out, "height %d\n", s.root.Height)
	s.must(btree.Blocks(s.cache, &s.root, func(ref format.BlockRef, level int) error {
		b := s.blockBytes(ref)
		st := stateOf(b)
		indent := strings.Repeat("  ", int(s.root.Height)-1-level)
		fmt.Fprintf(out, "%slevel %d: %d items, %d bytes, gap %d", indent, level, st.Nr, st.Total, st.Mid)
		var keys []string
		parentKeys(b, func(k format.Key) { keys = append(keys, shortKey(k)) })
		switch {
		case level > 0:
			fmt.Fprintf(out, ", keys %s", strings.Join(keys, " "))
		case len(keys) > 0:
			fmt.Fprintf(out, ", %s to %s", keys[0], keys[len(keys)-1])
		}
		out.WriteString("\n")
		return nil
	}))
}

// dumpNode prints the slots of the root block.
func (s *script) dumpNode(out *strings.Builder) {
	b := s.blockBytes(s.root.Ref)
	st := parseLeaf(b)
	fmt.Fprintf(out, "root %d, %d items, %d bytes, gap %d\n", st.Root, st.Nr, st.Total, st.Mid)
	for i, row := range st.Slots {
		fmt.Fprintf(out, "slot %d: %v\n", 16+56*i, row)
	}
}
