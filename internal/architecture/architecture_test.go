package architecture

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

var root = filepath.Join("..", "..")

func TestImports(t *testing.T) {
	g := load(t)
	for name, rule := range rules {
		t.Run(name, func(t *testing.T) {
			for _, broken := range rule(g) {
				t.Error(broken)
			}
		})
	}
}

// TestRulesCanFail breaks each rule on a made-up build, and shows beside it the
// nearest thing that is allowed.
func TestRulesCanFail(t *testing.T) {
	const k8s, old = "k8s.io/kubernetes/pkg/apis/core", "k8s.io/kube-aggregator/pkg/"
	at := func(path string) string { return module + "/" + path }
	for _, c := range []struct {
		rule, from, to string
		broken         bool
	}{
		{"star", at("aggregator/internal/proxy"), at("aggregator/internal/backend"), false},
		{"star", at("aggregator/internal/proxy"), at("aggregator/internal/proxy/spdy"), false},
		{"star", at("aggregator/internal/proxy"), at("aggregator/internal/backend/balance"), false},
		{"star", at("aggregator/internal/catalog"), at("aggregator/internal/backend/balance"), true},
		{"star", at("aggregator/internal/proxy"), at("aggregator/internal/fetch"), true},
		{"star", at("aggregator/internal/probe"), at("aggregator"), true},
		{"star", at("aggregator/internal/probe"), at("extension"), true},
		{"star", at("aggregator/internal/backend"), at("aggregator/internal/catalog"), false},
		{"star", at("aggregator/internal/backend"), at("aggregator/internal/respond"), true},
		{"star", at("aggregator/internal/catalog"), at("aggregator/internal/backend"), true},
		{"star", at("aggregator/internal/fetch"), at("aggregator/internal/document"), false},
		{"star", at("aggregator/internal/document"), at("aggregator/internal/backend"), true},
		{"star", at("aggregator/internal/probe"), at("aggregator/internal/pace"), false},
		{"star", at("aggregator/internal/pace"), at("aggregator/internal/backend/balance"), true},
		{"star", at("aggregator/internal/pace"), at("aggregator/internal/backend"), true},
		{"star", at("aggregator/internal/pace"), at("aggregator/internal/document"), true},
		{"star", at("aggregator/internal/backend"), at("aggregator/internal/pace"), false},
		{"star", at("aggregator/internal/catalog"), at("aggregator/internal/pace"), true},
		{"star", at("aggregator"), at("aggregator/internal/openapi"), false},
		{"star", at("aggregator"), at("kubeapiserver"), true},
		{"star", at("aggregator"), at("apis/aggregation/v1alpha1"), false},
		{"star", at("aggregator/internal/observe"), at("apis/aggregation/v1alpha1"), false},
		{"star", at("aggregator/internal/observe"), at("aggregator/internal/fetch"), true},
		{"star", at("aggregator/internal/proxy"), at("apis/aggregation/v1alpha1"), true},
		{"star", at("aggregator/internal/observe"), at("internal/printable"), false},
		{"star", at("aggregator/internal/observe"), at("internal/docs"), true},
		{"star", at("kubeapiserver"), at("aggregator"), false},
		{"star", at("kubeapiserver"), at("aggregator/internal/catalog"), true},
		{"core", at("aggregator/internal/catalog"), "k8s.io/apimachinery/pkg/version", false},
		{"core", at("aggregator/internal/catalog"), "k8s.io/client-go/rest", true},
		{"core", at("aggregator/internal/catalog"), "k8s.io/apiserver/pkg/server", true},
		{"core", at("aggregator/internal/catalog"), "net", false},
		{"core", at("aggregator/internal/catalog"), "net/http", true},
		{"core", at("aggregator/internal/catalog"), "os", true},
		{"core", at("aggregator/internal/probe"), "os", false},
		{"diagnosis", at("diagnosis"), at("apis/aggregation/v1alpha1"), false},
		{"diagnosis", at("diagnosis"), "k8s.io/api/core/v1", false},
		{"diagnosis", at("diagnosis"), "k8s.io/client-go/rest", true},
		{"diagnosis", at("diagnosis"), at("aggregator"), true},
		{"diagnosis", at("diagnosis"), at("internal/printable"), false},
		{"leaf", at("internal/printable"), "unicode", false},
		{"leaf", at("internal/printable"), "k8s.io/apimachinery/pkg/util/sets", true},
		{"leaf", at("internal/printable"), at("apis/aggregation/v1alpha1"), true},
		{"diagnosis", at("diagnosis"), "net/http", true},
		{"diagnosis", at("diagnosis/gather"), "k8s.io/client-go/rest", false},
		{"library", at("diagnosis/gather"), k8s, true},
		{"library", at("aggregator"), k8s, true},
		{"library", at("extension/extensiontest"), k8s, true},
		{"library", at("console"), k8s, true},
		{"library", at("internal/cli/console"), k8s, true},
		{"library", at("kubeapiserver"), k8s, false},
		{"library", at("internal/cli/status"), k8s, true},
		{"library", at("internal/cli/kubeconfig"), k8s, true},
		{"library", at("internal/cli/up"), k8s, false},
		{"library", at("extension/storage/kine/sqlite"), "github.com/k3s-io/kine/pkg/endpoint", true},
		{"library", at("extension/storage/kine/sqlite"), "github.com/k3s-io/kine/pkg/server", false},
		{"reference", at("kubeapiserver/launch"), k8s, false},
		{"reference", at("bench/reference"), k8s, false},
		{"reference", at("cmd/annex"), k8s, true},
		{"reference", at("internal/cli/serve"), k8s, true},
		{"reference", at("examples/host"), k8s, true},
		{"replaced", at("kubeapiserver"), old + "apiserver/scheme", false},
		{"replaced", at("kubeapiserver"), old + "controllers/autoregister", false},
		{"replaced", at("kubeapiserver"), old + "apiserver", true},
		{"replaced", at("kubeapiserver"), old + "controllers/openapi/aggregator", true},
		{"replaced", at("aggregator"), old + "controllers/openapiv3", true},
		{"replaced", at("bench"), old + "controllers/status/remote", true},
		{"replaced", k8s, old + "apiserver", false},
		{"edges", at("cmd/annex"), at("internal/cli"), false},
		{"edges", at("kubeapiserver"), at("internal/cli/terminal"), true},
		{"edges", at("examples/host"), at("bench/backend"), true},
		{"edges", at("extension"), at("aggregator"), true},
		{"edges", at("extension/storage/embedded"), at("internal/etcd/datadir"), false},
		{"edges", at("extension/storage/embedded"), at("internal/cli"), true},
		{"edges", at("aggregator/internal/fetch"), at("aggregator/internal/backendtest"), true},
		{"edges", at("aggregator/internal/fetch"), at("internal/testcerts"), true},
		{"edges", at("aggregator/internal/backendtest"), at("internal/testcerts"), false},
		{"edges", at("kubeapiserver"), at("internal/testcerts"), true},
		{"edges", at("kubeapiserver/kubeapiservertest"), at("internal/testcerts"), false},
		{"edges", at("bench/internal/pki"), at("internal/testcerts"), false},
		{"star", at("aggregator/internal/backendtest"), at("internal/testcerts"), false},
		{"star", at("aggregator/internal/backendtest"), at("internal/allocated"), true},
	} {
		g := graph{
			c.from: {ImportPath: c.from, Imports: []string{c.to}},
			c.to:   {ImportPath: c.to, Standard: !strings.Contains(c.to, ".")},
		}
		if got := rules[c.rule](g); (len(got) > 0) != c.broken {
			t.Errorf("%s: %s imports %s: got %q, want broken %v", c.rule, c.from, c.to, got, c.broken)
		}
	}
}

func TestLibraryRuleFollowsEveryStep(t *testing.T) {
	g := graph{}
	way := []string{layer, "k8s.io/one", "k8s.io/two", "k8s.io/kubernetes/pkg/features"}
	for i := range way[1:] {
		g[way[i]] = pkg{ImportPath: way[i], Imports: []string{"fmt", way[i+1]}}
	}
	got := library(g)
	if len(got) != 1 || !strings.HasPrefix(got[0], strings.Join(way, " -> ")) {
		t.Errorf("got %q, want the way %q", got, way)
	}
}

func TestSource(t *testing.T) {
	files := 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != root && strings.HasPrefix(d.Name(), "."):
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(path, ".go"):
			return nil
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		files++
		relative, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		for _, broken := range source(filepath.ToSlash(relative), content) {
			t.Error(broken)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 20 {
		t.Errorf("only %d files were read", files)
	}
}

func TestSourceRulesCanFail(t *testing.T) {
	long := strings.Repeat("\n", maxLines+1)
	undoneWork := "// TO" + "DO: later\n"
	for _, c := range []struct {
		path, content string
		broken        int
	}{
		{"a/a.go", "package a\n", 0},
		{"a/a.go", "package a\n" + long, 1},
		{"a/a_test.go", "package a\n" + long, 0},
		{"a/a.go", "package a\nfunc init() {}\n", 1},
		{"a/a.go", "package a\ntype T int\nfunc (T) init() {}\n", 0},
		{"kubeapiserver/version/v.go", "package version\nfunc init() {}\n", 0},
		{"kubeapiserver/v.go", "package kubeapiserver\nfunc init() {}\n", 1},
		{"a/a.go", "package a\n" + undoneWork, 1},
		{"a/a_test.go", "package a\n" + undoneWork, 1},
		{"a/a.go", "package a\n\nconst s = \"TO" + "DO\"\n", 0},
		{"a/a.go", "package helpers\n", 1},
		{"a/a.go", "not Go", 1},
		{"aggregator/internal/catalog/a.go", "package catalog\nimport \"time\"\nvar _ = time.Now()\n", 1},
		{"aggregator/internal/catalog/a.go", "package catalog\nimport \"time\"\nvar _ = 2 * time.Second\n", 0},
		{"diagnosis/a.go", "package diagnosis\nimport \"time\"\nvar _ = time.Since(time.Time{})\n", 1},
		{"diagnosis/a.go", "package diagnosis\nimport \"time\"\nvar _ = time.Time{}\n", 0},
		{"diagnosis/gather/a.go", "package gather\nimport \"time\"\nvar _ = time.Now()\n", 0},
		{"aggregator/internal/probe/a.go", "package probe\nimport \"time\"\nvar _ = time.Now()\n", 0},
	} {
		if got := source(c.path, []byte(c.content)); len(got) != c.broken {
			t.Errorf("%s %q: got %q, want %d", c.path, c.content[:min(40, len(c.content))], got, c.broken)
		}
	}
}

// load asks the go command for every package of the module and all that they
// depend on, tests left out.
func load(t *testing.T) graph {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "-json=ImportPath,Standard,Imports", "./...")
	cmd.Dir = root
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	g := graph{}
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("reading what go list says: %v", err)
		}
		g[p.ImportPath] = p
	}
	for _, must := range []string{layer, shared[0], "fmt"} {
		if g[must].ImportPath == "" {
			t.Fatalf("go list does not know %s", must)
		}
	}
	return g
}
