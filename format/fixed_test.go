// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

package format_test

import (
	"bytes"
	"encoding/binary"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/google/go-cmp/cmp"

	"scoutfs/format"
)

var rewrite = flag.Bool("rewrite", false, "write testdata/layout.golden anew; review the difference against the spec's tables")

// fixed is one type of format.Fixed and its conversions.
type fixed struct {
	name    string
	typ     reflect.Type
	size    int
	oracle  func(t *testing.T, b []byte)
	allocs  func(b []byte) float64
	tooLong func() bool // Load of a short slice
}

var sink byte

func of[T format.Fixed]() fixed {
	typ := reflect.TypeFor[T]()
	return fixed{name: typ.Name(), typ: typ, size: format.Size[T](), oracle: oracle[T],
		allocs: func(b []byte) float64 {
			var v T
			return testing.AllocsPerRun(10, func() {
				v, _ = format.Load[T](b)
				sink += format.Bytes(&v)[0] + format.Bytes(format.Overlay[T](b))[0]
				sink += format.Bytes(&format.OverlaySlice[T](b, 1)[0])[0]
			})
		},
		tooLong: func() bool { _, ok := format.Load[T](make([]byte, format.Size[T]()-1)); return ok },
	}
}

// allFixed must list the types of format.Fixed in the same order.
var allFixed = []fixed{
	of[format.Timespec](), of[format.BlockHeader](), of[format.BlockRef](), of[format.BtreeRoot](), of[format.BtreeBlock](),
	of[format.AvlNode](), of[format.BtreeItem](), of[format.AllocList](), of[format.AllocListBlock](), of[format.AllocRoot](),
	of[format.BloomBlock](), of[format.Key](), of[format.Inet](), of[format.QuorumConfig](), of[format.VolumeOptions](),
	of[format.Super](), of[format.QuorumEvent](), of[format.QuorumBlock](), of[format.MountedClient](), of[format.SrchEntry](),
	of[format.SrchFile](), of[format.SrchParent](), of[format.SrchBlock](), of[format.SrchInput](), of[format.SrchCompact](),
	of[format.LogTrees](), of[format.MergeStatus](), of[format.MergeRange](), of[format.MergeRequest](),
	of[format.MergeComplete](), of[format.MergeFreeing](), of[format.Totl](), of[format.QuotaRule](), of[format.Extent](),
	of[format.Inode](), of[format.DirentHdr](), of[format.XattrHdr](), of[format.QuorumMsg](), of[format.NetHeader](),
	of[format.NetGreeting](), of[format.NetInoRange](), of[format.NetRoots](), of[format.NetLock](),
	of[format.NetLockRecover](), of[format.NetOpenInoMapArgs](), of[format.NetOpenInoMap](), of[format.NetResize](),
	of[format.NetStatfs](),
	of[format.IocWalkEntry](), of[format.IocWalkInodesArgs](), of[format.IocInoPathArgs](), of[format.IocInoPathResult](),
	of[format.IocStatMoreResult](), of[format.IocListxattrHiddenArgs](), of[format.IocStatfsMoreResult](), of[format.IocAllocDetailArgs](),
	of[format.IocAllocDetailEntry](), of[format.IocGetReferringArgs](), of[format.IocReferringEntry](), of[format.IocAttrX](),
	of[format.IocReleaseArgs](),
	of[format.IocStageArgs](),
	of[format.IocDataWaitingArgs](),
	of[format.IocDataWaitingEntry](),
	of[format.IocSetattrMoreArgs](),
	of[format.IocSearchXattrsArgs](),
	of[format.IocDataWaitErrArgs](),
	of[format.IocMoveBlocksArgs](),
	of[format.IocReadXattrTotalsArgs](),
	of[format.IocXattrTotal](),
	of[format.IocGetAllocatedInosArgs](),
	of[format.IocGetQuotaRulesArgs](),
	of[format.IocReadXattrIndexArgs](),
	of[format.IocXattrIndexEntry](),
	of[format.IocPunchOfflineArgs](),
	of[format.IocInjectTotlDeltaArgs](),
}

// TestFixedIsComplete compares allFixed with the declaration of format.Fixed.
func TestFixedIsComplete(t *testing.T) {
	f, err := parser.ParseFile(token.NewFileSet(), "overlay_unsafe.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	ast.Inspect(f, func(n ast.Node) bool {
		ts, ok := n.(*ast.TypeSpec)
		if !ok || ts.Name.Name != "Fixed" {
			return true
		}
		ast.Inspect(ts.Type, func(n ast.Node) bool {
			if id, ok := n.(*ast.Ident); ok {
				want = append(want, id.Name)
			}
			return true
		})
		return false
	})
	var got []string
	for _, f := range allFixed {
		got = append(got, f.name)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("allFixed differs from format.Fixed (-declared +tested):\n%s", diff)
	}
}

// TestLayout compares every field's offset and size with the file that was
// checked by hand against the tables of spec format 3, 4 and 10, cluster 2.2
// and 4, and interfaces 1.
func TestLayout(t *testing.T) {
	var got strings.Builder
	for _, f := range allFixed {
		fmt.Fprintf(&got, "%s size %d align %d\n", f.name, f.size, f.typ.Align())
		end := uintptr(0)
		for i := range f.typ.NumField() {
			fd := f.typ.Field(i)
			if fd.Offset != end {
				t.Errorf("%s.%s: %d bytes of compiler padding before it", f.name, fd.Name, fd.Offset-end)
			}
			end = fd.Offset + fd.Type.Size()
			fmt.Fprintf(&got, "  %4d %5d %s\n", fd.Offset, fd.Type.Size(), fd.Name)
		}
		if end != f.typ.Size() {
			t.Errorf("%s: %d bytes of compiler padding at its end", f.name, f.typ.Size()-end)
		}
	}
	const path = "testdata/layout.golden"
	if *rewrite {
		if err := os.WriteFile(path, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got.String()); diff != "" {
		t.Errorf("layout changed (-golden +now):\n%s", diff)
	}
}

// oracle compares the conversions of T with encoding/binary on the bytes b.
func oracle[T format.Fixed](t *testing.T, b []byte) {
	t.Helper()
	var want T
	if _, err := binary.Decode(b, binary.LittleEndian, &want); err != nil {
		t.Fatal(err)
	}
	got, ok := format.Load[T](b)
	if !ok {
		t.Fatal("Load refuses a slice of the right size")
	}
	// encoding/binary skips padding; the structs' padding has b's bytes, which
	// == must ignore.
	if got != want {
		t.Errorf("Load is not what binary.Decode gives:\n%s", cmp.Diff(want, got, cmp.Exporter(func(reflect.Type) bool { return true })))
	}
	if over := format.Overlay[T](b); *over != want {
		t.Error("Overlay is not what binary.Decode gives")
	}
	enc, err := binary.Append(nil, binary.LittleEndian, &want)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(enc, format.Bytes(&want)) {
		t.Errorf("Bytes is not what binary.Append gives:\n%s", cmp.Diff(enc, format.Bytes(&want)))
	}
	if !bytes.Equal(format.Bytes(&got), b) {
		t.Error("Load and Bytes do not give the bytes back")
	}
}

// alignedBytes is n bytes at an address that is a multiple of 8.
func alignedBytes(n int) []byte {
	w := make([]uint64, (n+7)/8)
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(w))), n)
}

func TestFixedOracle(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for _, f := range allFixed {
		t.Run(f.name, func(t *testing.T) {
			b := alignedBytes(f.size)
			for range 20 {
				for i := range b {
					b[i] = byte(rng.Uint32())
				}
				f.oracle(t, b)
			}
			clear(b)
			f.oracle(t, b)
		})
	}
}

func TestFixedDoesNotAllocate(t *testing.T) {
	for _, f := range allFixed {
		if n := f.allocs(alignedBytes(f.size)); n != 0 {
			t.Errorf("%s: %v allocations", f.name, n)
		}
	}
}

func TestLoadShort(t *testing.T) {
	for _, f := range allFixed {
		if f.tooLong() {
			t.Errorf("%s: Load accepts a slice that is one byte short", f.name)
		}
	}
}

func TestOverlayPanicsWhenShort(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("Overlay of a short slice does not panic")
		}
	}()
	format.Overlay[format.Key](alignedBytes(31))
}

func TestOverlaySharesMemory(t *testing.T) {
	b := alignedBytes(3 * 56)
	items := format.OverlaySlice[format.BtreeItem](b, 3)
	items[2].Key.Zone = 16
	if b[2*56+8+25] != 16 || format.Overlay[format.BtreeItem](b[112:]).Key.Zone != 16 {
		t.Error("a store through the overlay is not in the slice")
	}
	if !slices.Equal(format.Bytes(&items[2]), b[112:]) {
		t.Error("Bytes does not share memory")
	}
}
