package scaffold

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// hasSampleFields says whether the types of a kind have, or will have, the fields of the
// first day. A user replaces them.
func hasSampleFields(written fs.FS, k Kind) bool {
	if written == nil {
		return true
	}
	if _, err := fs.Stat(written, path.Join("api", k.Versions[0], strings.ToLower(k.Kind)+"_types.go")); err != nil {
		return true // it is new, or moved: what is wrong with it the compiler says
	}
	names, err := fs.Glob(written, path.Join("api", k.Versions[0], "*.go"))
	if err != nil {
		return true
	}
	message, conditions := false, false
	for _, name := range names {
		source, err := fs.ReadFile(written, name)
		if err != nil {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), name, source, parser.SkipObjectResolution)
		if err != nil {
			continue
		}
		message = message || hasField(parsed, k.Kind+"Spec", "Message", "string")
		conditions = conditions || hasField(parsed, k.Kind+"Status", "Conditions", "[]metav1.Condition")
	}
	return message && conditions
}

// hasField says whether a struct has a field of a type.
func hasField(file *ast.File, structName, field, goType string) bool {
	for _, t := range typesOf(file) {
		s, ok := t.Type.(*ast.StructType)
		if !ok || t.Name.Name != structName {
			continue
		}
		for _, f := range s.Fields.List {
			named := slices.ContainsFunc(f.Names, func(n *ast.Ident) bool { return n.Name == field })
			if named && typeText(f.Type) == goType {
				return true
			}
		}
	}
	return false
}

// typeText is the text of the simplest types; empty for others.
func typeText(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return typeText(e.X) + "." + e.Sel.Name
	case *ast.ArrayType:
		if e.Len == nil {
			return "[]" + typeText(e.Elt)
		}
	}
	return ""
}

// typesOf are the types that a file declares.
func typesOf(file *ast.File) []*ast.TypeSpec {
	var all []*ast.TypeSpec
	for _, d := range file.Decls {
		if g, ok := d.(*ast.GenDecl); ok && g.Tok == token.TYPE {
			for _, s := range g.Specs {
				all = append(all, s.(*ast.TypeSpec))
			}
		}
	}
	return all
}

// declaredTwice finds a type of the API that two files would declare: those that are
// written, and those that are to be created.
func declaredTwice(written fs.FS, created []File) error {
	type place struct{ folder, name string }
	sources := map[string][]byte{}
	for _, f := range created {
		if strings.HasPrefix(f.Path, "api/") && strings.HasSuffix(f.Path, ".go") {
			sources[f.Path] = f.Data
		}
	}
	if written != nil {
		names, err := fs.Glob(written, "api/*/*.go")
		if err != nil {
			return err
		}
		for _, name := range names {
			source, err := fs.ReadFile(written, name)
			if err != nil {
				return err
			}
			sources[name] = source
		}
	}
	owners := map[place]string{}
	var names []string
	for name := range sources {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		parsed, err := parser.ParseFile(token.NewFileSet(), name, sources[name], parser.SkipObjectResolution)
		if err != nil {
			continue // the compiler says what is wrong with it
		}
		for _, t := range typesOf(parsed) {
			p := place{path.Dir(name), t.Name.Name}
			if other, ok := owners[p]; ok && other != name {
				return fmt.Errorf("%s and %s would both declare the type %s: rename one of the kinds", other, name, t.Name.Name)
			}
			owners[p] = name
		}
	}
	return nil
}
