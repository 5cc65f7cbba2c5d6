package architecture

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const sdk = "../../extension"

// What users of the SDK import has no type of k8s.io/apiserver in what it exports: these
// change with every version of Kubernetes. Package embed is for those who have a server of
// that library, and so its version.
func TestTheSDKExportsNothingOfApiserver(t *testing.T) {
	for _, name := range publicPackages(t) {
		if filepath.Base(name) == "embed" && filepath.Base(filepath.Dir(name)) == "extension" {
			continue
		}
		files := parse(t, name, 0)
		for _, f := range files {
			imported := apiserverImports(f)
			for _, d := range f.Decls {
				for _, exported := range exportedParts(d) {
					ast.Inspect(exported, func(n ast.Node) bool {
						if s, ok := n.(*ast.SelectorExpr); ok {
							if x, ok := s.X.(*ast.Ident); ok && imported[x.Name] {
								t.Errorf("%s exports %s.%s of k8s.io/apiserver", name, x.Name, s.Sel.Name)
							}
						}
						return true
					})
				}
			}
		}
	}
}

// Nothing below the SDK, its tests included, imports k8s.io/kubernetes: whoever tests all
// that his module depends on would have to download it.
func TestTestsOfTheSDKImportNoKubernetes(t *testing.T) {
	err := filepath.WalkDir(sdk, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, i := range f.Imports {
			if to, err := strconv.Unquote(i.Path.Value); err != nil || within(to, "k8s.io/kubernetes", module+"/kubeapiserver", module+"/aggregator") {
				t.Errorf("%s imports %s", path, i.Path.Value)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Several servers run in one process: no package below the SDK keeps state of its own.
func TestTheSDKHasNoGlobals(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-f", "{{.Dir}}", sdk+"/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	for dir := range strings.Lines(string(out)) {
		for _, f := range parse(t, strings.TrimSpace(dir), parser.SkipObjectResolution) {
			variables := packageVariables(f)
			ast.Inspect(f, func(n ast.Node) bool {
				a, ok := n.(*ast.AssignStmt)
				if !ok || a.Tok == token.DEFINE {
					return true
				}
				for _, to := range a.Lhs {
					if id, ok := to.(*ast.Ident); ok && id.Name != "_" && variables[id.Name] {
						t.Errorf("%s: the package variable %s is written", dir, id.Name)
					}
				}
				return true
			})
		}
	}
}

// publicPackages are the folders that users import.
func publicPackages(t *testing.T) []string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-f", "{{.Dir}}", sdk+"/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	var dirs []string
	for line := range bytes.Lines(out) {
		if dir := strings.TrimSpace(string(line)); !strings.Contains(dir, "/internal/") {
			dirs = append(dirs, dir)
		}
	}
	if len(dirs) < 3 {
		t.Fatalf("these are all packages of the SDK: %q", dirs)
	}
	return dirs
}

func parse(t *testing.T, dir string, mode parser.Mode) []*ast.File {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	var files []*ast.File
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, mode)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	return files
}

// apiserverImports are the names under which a file has packages of k8s.io/apiserver.
func apiserverImports(f *ast.File) map[string]bool {
	names := map[string]bool{}
	for _, i := range f.Imports {
		path, err := strconv.Unquote(i.Path.Value)
		if err != nil || !within(path, "k8s.io/apiserver") {
			continue
		}
		if i.Name != nil {
			names[i.Name.Name] = true
		} else {
			names[path[strings.LastIndex(path, "/")+1:]] = true
		}
	}
	return names
}

// exportedParts are what a declaration shows to other packages: of functions their
// types, of structs their exported fields.
func exportedParts(d ast.Decl) []ast.Node {
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Name.IsExported() && (d.Recv == nil || receiverExported(d.Recv)) {
			return []ast.Node{d.Type}
		}
	case *ast.GenDecl:
		var parts []ast.Node
		for _, s := range d.Specs {
			switch s := s.(type) {
			case *ast.TypeSpec:
				if s.Name.IsExported() {
					parts = append(parts, typeParts(s.Type)...)
				}
			case *ast.ValueSpec:
				if s.Type != nil && s.Names[0].IsExported() {
					parts = append(parts, s.Type)
				}
			}
		}
		return parts
	}
	return nil
}

func receiverExported(r *ast.FieldList) bool {
	exported := false
	ast.Inspect(r, func(n ast.Node) bool {
		if id, ok := n.(*ast.Ident); ok && id.IsExported() {
			exported = true
		}
		return true
	})
	return exported
}

func typeParts(e ast.Expr) []ast.Node {
	s, ok := e.(*ast.StructType)
	if !ok {
		return []ast.Node{e}
	}
	var parts []ast.Node
	for _, f := range s.Fields.List {
		if len(f.Names) == 0 || f.Names[0].IsExported() {
			parts = append(parts, f.Type)
		}
	}
	return parts
}

func packageVariables(f *ast.File) map[string]bool {
	names := map[string]bool{}
	for _, d := range f.Decls {
		if g, ok := d.(*ast.GenDecl); ok && g.Tok == token.VAR {
			for _, s := range g.Specs {
				for _, n := range s.(*ast.ValueSpec).Names {
					names[n.Name] = true
				}
			}
		}
	}
	return names
}
