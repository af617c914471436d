// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0

// Package archtest enforces the floors of the project and the habits that no
// linter knows: see doc/architecture.md.
package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// floors are the packages, lowest first. A package may import only packages of
// lower floors.
var floors = [][]string{
	{"format", "iouring", "internal/invariants", "internal/cleanup"},
	{"block", "fuseconn"},
	{"btree"},
	{"alloc", "quorum", "rpc", "lock"},
	{"srch", "mkfs"},
	{"txn"},
	{"server", "volume"},
	{"mount", "check", "dump"},
	{"fusefs", "bench"},
	{"cmd/scoutfs", "cmd/scoutfs-bench"},
}

// testOnly packages may import anything and only tests may import them.
var testOnly = []string{"internal/simdisk", "internal/simnet", "internal/sim", "internal/archtest", "block/blocktest", "check/checktest", "tests"}

// pure packages have no clock, socket or file of their own.
var pure = map[string][]string{
	"format": {"os", "net", "golang.org/x/sys/unix"},
	"btree":  {"os", "net", "time", "golang.org/x/sys/unix"},
	"alloc":  {"os", "net", "time", "golang.org/x/sys/unix"},
}

// overlayUsers may look at verified blocks in place.
var overlayUsers = []string{"format", "block", "btree", "alloc", "srch"}

const root = "../.."

type file struct {
	dir, name string
	ast       *ast.File
	lines     int
	fset      *token.FileSet
}

func (f *file) path() string { return filepath.Join(f.dir, f.name) }
func (f *file) test() bool   { return strings.HasSuffix(f.name, "_test.go") }

func (f *file) imports() (paths []string) {
	for _, im := range f.ast.Imports {
		paths = append(paths, strings.Trim(im.Path.Value, `"`))
	}
	return paths
}

func files(t *testing.T) (all []*file) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") && path != root || d.Name() == "tools" || d.Name() == "testdata" || d.Name() == "scratch") {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(path, ".go") {
			return nil
		}
		src, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		fset := token.NewFileSet()
		a, err := parser.ParseFile(fset, path, src, parser.ParseComments)
		if err != nil {
			return err
		}
		dir, _ := filepath.Rel(root, filepath.Dir(path))
		all = append(all, &file{dir: dir, name: d.Name(), ast: a, lines: strings.Count(string(src), "\n"), fset: fset})
		if !strings.HasPrefix(string(src), "// Copyright 2026 The ScoutFS in Go authors. SPDX-License-Identifier: Apache-2.0\n") {
			t.Errorf("%s: the licence line is missing", path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func floorOf(dir string) int {
	return slices.IndexFunc(floors, func(f []string) bool { return slices.Contains(f, dir) })
}

func TestFloors(t *testing.T) {
	for _, f := range files(t) {
		if slices.Contains(testOnly, f.dir) || f.test() {
			continue
		}
		own := floorOf(f.dir)
		if own < 0 {
			t.Errorf("%s: package %s has no floor: add it to the table in this test and to doc/architecture.md, if it is deep enough", f.path(), f.dir)
			continue
		}
		for _, im := range f.imports() {
			dir, ours := strings.CutPrefix(im, "scoutfs/")
			if !ours {
				continue
			}
			if slices.Contains(testOnly, dir) {
				t.Errorf("%s imports %s, which is for tests only", f.path(), im)
			} else if floorOf(dir) >= own {
				t.Errorf("%s imports %s: floor %d must not import floor %d; declare what you need as an interface below", f.path(), im, own, floorOf(dir))
			}
		}
		for _, im := range f.imports() {
			if slices.Contains(pure[f.dir], im) {
				t.Errorf("%s imports %s: package %s has no clock, socket or file; they are passed in", f.path(), im, f.dir)
			}
		}
	}
}

func TestUnsafe(t *testing.T) {
	for _, f := range files(t) {
		if f.test() || strings.HasSuffix(f.name, "_unsafe.go") {
			continue
		}
		if slices.Contains(f.imports(), "unsafe") {
			t.Errorf("%s imports unsafe: only files named *_unsafe.go may", f.path())
		}
	}
}

func TestOverlayUsers(t *testing.T) {
	for _, f := range files(t) {
		if f.test() || slices.Contains(overlayUsers, f.dir) || slices.Contains(testOnly, f.dir) {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok && strings.HasPrefix(s.Sel.Name, "Overlay") {
				if x, ok := s.X.(*ast.Ident); ok && x.Name == "format" {
					t.Errorf("%s uses format.%s: only %v may; use format.Load", f.path(), s.Sel.Name, overlayUsers)
				}
			}
			return true
		})
	}
}

func TestLengths(t *testing.T) {
	for _, f := range files(t) {
		if f.test() {
			continue
		}
		if f.lines > 800 {
			t.Errorf("%s has %d lines; 800 is the limit: which noun wants a file of its own?", f.path(), f.lines)
		}
		for _, d := range f.ast.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Body == nil {
				continue
			}
			n := f.fset.Position(fn.End()).Line - f.fset.Position(fn.Pos()).Line + 1
			if n > 80 {
				t.Errorf("%s: %s has %d lines; 80 is the limit", f.path(), fn.Name.Name, n)
			}
		}
	}
}

func TestPackageComments(t *testing.T) {
	commented := map[string]bool{}
	seen := map[string]bool{}
	for _, f := range files(t) {
		if f.test() {
			continue
		}
		seen[f.dir] = true
		if f.ast.Doc != nil {
			commented[f.dir] = true
		}
	}
	for dir := range seen {
		if !commented[dir] {
			t.Errorf("package %s has no comment that says what it is", dir)
		}
	}
}

func TestExportedNamesAreDocumented(t *testing.T) {
	for _, f := range files(t) {
		if f.test() {
			continue
		}
		for _, d := range f.ast.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Name.IsExported() && d.Doc == nil && exportedReceiver(d) {
					t.Errorf("%s: %s has no comment", f.path(), d.Name.Name)
				}
			case *ast.GenDecl:
				for _, s := range d.Specs {
					if ts, ok := s.(*ast.TypeSpec); ok && ts.Name.IsExported() && d.Doc == nil && ts.Doc == nil {
						t.Errorf("%s: type %s has no comment", f.path(), ts.Name.Name)
					}
				}
			}
		}
	}
}

func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	typ := d.Recv.List[0].Type
	if s, ok := typ.(*ast.StarExpr); ok {
		typ = s.X
	}
	if g, ok := typ.(*ast.IndexExpr); ok {
		typ = g.X
	}
	id, ok := typ.(*ast.Ident)
	return ok && id.IsExported()
}

// Packages other than commands never print; they log through their Options.
func TestNoPrinting(t *testing.T) {
	for _, f := range files(t) {
		if f.test() || strings.HasPrefix(f.dir, "cmd/") || slices.Contains(testOnly, f.dir) {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			s, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			x, ok := s.X.(*ast.Ident)
			if !ok {
				return true
			}
			if x.Name == "log" && slices.Contains(f.imports(), "log") && s.Sel.Name != "Logger" || x.Name == "fmt" && (s.Sel.Name == "Print" || s.Sel.Name == "Println" || s.Sel.Name == "Printf") {
				t.Errorf("%s: %s.%s: log through the *slog.Logger of the Options", f.path(), x.Name, s.Sel.Name)
			}
			return true
		})
	}
}
