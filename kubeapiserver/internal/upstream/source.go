// Package upstream reads the source of the modules that this project is built on,
// so that tests can tell when something moves there that the project relies on and
// no compiler checks.
//
// Its tests hold the list of those assumptions, one check each. A check that fails
// names the file to read again, and what rests on it here. The list is also the
// table in docs/develop/upgrading-kubernetes.md, which tells what to do then.
package upstream

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"go/ast"
	"go/parser"
	"go/printer"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Tree says where the source of a module lies.
type Tree func(module string) (dir string, err error)

// Modules is the Tree of what go.mod requires. It asks the go command.
func Modules(module string) (string, error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	if err != nil {
		return "", fmt.Errorf("finding the source of %s: %w", module, err)
	}
	return strings.TrimSpace(string(out)), nil
}

// File names a file of a module.
type File struct{ Module, Path string }

func (f File) String() string { return f.Module + "/" + f.Path }

// Source is a parsed file.
type Source struct {
	File
	syntax *ast.File
	set    *token.FileSet
}

// Parse reads a file of the tree.
func (t Tree) Parse(f File) (*Source, error) {
	dir, err := t(f.Module)
	if err != nil {
		return nil, err
	}
	content, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(f.Path)))
	if err != nil {
		return nil, fmt.Errorf("%s is not where it was: %w", f, err)
	}
	s := &Source{File: f, set: token.NewFileSet()}
	// Comments are not parsed, and so are in no text.
	if s.syntax, err = parser.ParseFile(s.set, f.Path, content, parser.SkipObjectResolution); err != nil {
		return nil, fmt.Errorf("reading %s: %w", f, err)
	}
	return s, nil
}

// Func finds a function by name, or a method by "Type.name".
func (s *Source) Func(name string) (*ast.FuncDecl, error) {
	for _, d := range s.syntax.Decls {
		if f, ok := d.(*ast.FuncDecl); ok && f.Body != nil && funcName(f) == name {
			return f, nil
		}
	}
	return nil, fmt.Errorf("%s: there is no func %s", s, name)
}

func funcName(f *ast.FuncDecl) string {
	if f.Recv == nil {
		return f.Name.Name
	}
	t := f.Recv.List[0].Type
	if p, ok := t.(*ast.StarExpr); ok {
		t = p.X
	}
	if g, ok := t.(*ast.IndexExpr); ok {
		t = g.X
	}
	return fmt.Sprintf("%s.%s", t, f.Name.Name)
}

// Value finds the value of a package's constant or variable; nil where it has none.
func (s *Source) Value(name string) (ast.Expr, error) {
	for _, d := range s.syntax.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok {
			continue
		}
		for _, spec := range g.Specs {
			v, ok := spec.(*ast.ValueSpec)
			if !ok {
				continue
			}
			for i, n := range v.Names {
				if n.Name != name {
					continue
				}
				if i < len(v.Values) {
					return v.Values[i], nil
				}
				return nil, nil
			}
		}
	}
	return nil, fmt.Errorf("%s: there is no %s", s, name)
}

// BlankImports are the paths that a file imports for their effect only.
func (s *Source) BlankImports() []string {
	var paths []string
	for _, i := range s.syntax.Imports {
		if i.Name != nil && i.Name.Name == "_" {
			paths = append(paths, strings.Trim(i.Path.Value, `"`))
		}
	}
	return paths
}

// Text is a node in one line, without comments.
func (s *Source) Text(n ast.Node) string {
	var b strings.Builder
	if err := printer.Fprint(&b, s.set, n); err != nil {
		return fmt.Sprintf("(%v)", err)
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

// Digest is a short hash of a function, a method, or, where the name is empty, of
// all declarations of the file but its imports. Comments and spaces do not count.
func (s *Source) Digest(name string) (string, error) {
	hash := sha256.New()
	if name != "" {
		f, err := s.Func(name)
		if err != nil {
			return "", err
		}
		fmt.Fprintln(hash, s.Text(f))
		return hex.EncodeToString(hash.Sum(nil)[:8]), nil
	}
	for _, d := range s.syntax.Decls {
		if g, ok := d.(*ast.GenDecl); ok && g.Tok == token.IMPORT {
			continue
		}
		fmt.Fprintln(hash, s.Text(d))
	}
	return hex.EncodeToString(hash.Sum(nil)[:8]), nil
}

func (s *Source) offset(p token.Pos) int { return s.set.Position(p).Offset }
