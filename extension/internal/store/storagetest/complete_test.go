package storagetest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const upstreamStorage = "k8s.io/apiserver/pkg/storage/"

// TestEveryFunctionOfUpstreamIsRun reads upstream's tests and those here: a new function of upstream's is run, or says
// here why it is not.
func TestEveryFunctionOfUpstreamIsRun(t *testing.T) {
	all := declared(t, sources(t, "testing"))
	if len(all) < 55 {
		t.Fatalf("only %d functions of upstream's are found", len(all))
	}
	own := values(t, "functions_test.go")
	for _, layer := range []struct {
		name     string
		runs     map[string]bool
		not      map[string]string
		upstream string
	}{
		{"store", union(own["everywhere"], own["overStore"]), notOverStore, "etcd3"},
		{"cache", union(own["everywhere"], own["overCache"]), notOverCache, "cacher"},
	} {
		upstreamRuns := called(t, sources(t, layer.upstream))
		if len(upstreamRuns) < 40 {
			t.Fatalf("only %d calls are found in upstream's tests of its %s", len(upstreamRuns), layer.upstream)
		}
		for name := range all {
			_, not := layer.not[name]
			switch {
			case !layer.runs[name] && !not:
				t.Errorf("%s is not run over the %s, and nothing says why", name, layer.name)
			case layer.runs[name] && not:
				t.Errorf("%s is run over the %s; take it off the list of those that are not", name, layer.name)
			case not && upstreamRuns[name]:
				t.Errorf("upstream runs %s over its %s, and we do not", name, layer.upstream)
			}
		}
		for name := range layer.not {
			if !all[name] {
				t.Errorf("%s is listed as not run over the %s, and upstream has no such function", name, layer.name)
			}
		}
		t.Logf("over the %s of each of %d drivers: %d of upstream's %d functions", layer.name, len(drivers), len(layer.runs), len(all))
	}
	for name := range knownFailures {
		path := strings.SplitN(name, "/", 3)
		functions := map[string][]function{"store": overStore, "cache": overCache}[path[1]]
		if !slices.ContainsFunc(drivers, func(d driver) bool { return d.name == path[0] }) ||
			!slices.ContainsFunc(functions, func(f function) bool { return f.name == path[2] }) {
			t.Errorf("%s is known to fail, and there is no such test", name)
		}
	}
}

// sources are the parsed files of a package of upstream's, tests included.
func sources(t *testing.T, name string) []*ast.File {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-f", "{{.Dir}}", upstreamStorage+name).Output()
	if err != nil {
		t.Fatalf("go list %s: %v", name, err)
	}
	paths, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(out)), "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	var files []*ast.File
	for _, path := range paths {
		files = append(files, parsed(t, path))
	}
	return files
}

func parsed(t *testing.T, path string) *ast.File {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// declared are the functions that run tests, not those that measure.
func declared(t *testing.T, files []*ast.File) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	for _, file := range files {
		for _, d := range file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if ok && f.Recv == nil && strings.HasPrefix(f.Name.Name, "Run") && !strings.HasPrefix(f.Name.Name, "RunBenchmark") {
				found[f.Name.Name] = true
			}
		}
	}
	return found
}

// called are the functions of upstream's storage/testing that something calls or names.
func called(t *testing.T, files []*ast.File) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	for _, file := range files {
		maps.Copy(found, named(file))
	}
	return found
}

func named(node ast.Node) map[string]bool {
	found := map[string]bool{}
	ast.Inspect(node, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok {
			if x, ok := s.X.(*ast.Ident); ok && (x.Name == "upstream" || x.Name == "storagetesting") && strings.HasPrefix(s.Sel.Name, "Run") {
				found[s.Sel.Name] = true
			}
		}
		return true
	})
	return found
}

// values are the functions that each variable of a file here names.
func values(t *testing.T, path string) map[string]map[string]bool {
	t.Helper()
	found := map[string]map[string]bool{}
	for _, d := range parsed(t, path).Decls {
		if g, ok := d.(*ast.GenDecl); ok && g.Tok == token.VAR {
			for _, s := range g.Specs {
				found[s.(*ast.ValueSpec).Names[0].Name] = named(s)
			}
		}
	}
	return found
}

func union(sets ...map[string]bool) map[string]bool {
	all := map[string]bool{}
	for _, s := range sets {
		maps.Copy(all, s)
	}
	return all
}
