package architecture

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// plugin is the program of the tools alone.
const plugin = module + "/cmd/kubectl-annex"

// tools: what looks at clusters from outside is small, and works with any API server: it holds
// none. The version is that of the release.
func tools(g graph) []string {
	var broken []string
	for _, tree := range []string{"k8s.io/kubernetes", "k8s.io/apiserver", "go.etcd.io", module + "/kubeapiserver", module + "/aggregator", module + "/extension"} {
		chain := g.chain(plugin, func(p string) bool { return within(p, tree) && p != module+"/kubeapiserver/version" })
		if chain != nil {
			broken = append(broken, fmt.Sprintf("%s: the tools stand without %s", strings.Join(chain, " -> "), tree))
		}
	}
	return broken
}

func TestToolsHoldNoServer(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "-json=ImportPath,Standard,Imports", "./cmd/kubectl-annex")
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
			t.Fatal(err)
		}
		g[p.ImportPath] = p
	}
	if !slices.Contains(g[plugin].Imports, module+"/internal/cli/tools") {
		t.Errorf("%s imports %q", plugin, g[plugin].Imports)
	}
	for _, broken := range tools(g) {
		t.Error(broken)
	}
}

func TestToolsRuleCanFail(t *testing.T) {
	for to, broken := range map[string]bool{
		"k8s.io/kubernetes/pkg/features":    true,
		"k8s.io/apiserver/pkg/server":       true,
		module + "/kubeapiserver":           true,
		module + "/kubeapiserver/launch":    true,
		module + "/aggregator":              true,
		module + "/kubeapiserver/version":   false,
		module + "/apis/aggregation":        false,
		"k8s.io/client-go/rest":             false,
		"k8s.io/kube-aggregator/pkg/client": false,
	} {
		const between = module + "/internal/cli/tools"
		g := graph{plugin: {Imports: []string{between}}, between: {Imports: []string{to}}}
		if got := tools(g); (len(got) > 0) != broken {
			t.Errorf("%s: got %q, want broken %v", to, got, broken)
		}
	}
}
