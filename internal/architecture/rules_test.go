package architecture

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

const module = "github.com/annex-api/annex"

// pkg is one package of the build: what it is called and what it imports.
type pkg struct {
	ImportPath string
	Standard   bool
	Imports    []string
}

// graph is a whole build by import path, with all that it depends on.
type graph map[string]pkg

// rule looks at the graph and returns one sentence for each breach.
type rule func(graph) []string

var rules = map[string]rule{
	"star":      star,
	"core":      core,
	"diagnosis": diagnosis,
	"library":   library,
	"reference": reference,
	"replaced":  replaced,
	"leaf":      leaf,
	"edges":     edges,
}

const (
	layer     = module + "/aggregator"
	parts     = layer + "/internal"
	extension = module + "/extension"
	// named are the faults, and the checks that name them.
	named = module + "/diagnosis"
	// observed is the API in whose shape the layer says what it sees.
	observed = module + "/apis/aggregation/v1alpha1"
	// shown makes text of others fit to be shown, for whoever shows some.
	shown = module + "/internal/printable"
	// certificates makes those of tests.
	certificates = module + "/internal/testcerts"
	// embedded runs etcd for a kube-apiserver and for extension servers.
	embedded = module + "/internal/etcd"
)

// clusterCommands are those that a program for any cluster has, with what they are made of.
var clusterCommands = []string{
	module + "/internal/cli/status", module + "/internal/cli/kubeconfig", module + "/internal/cli/completion",
	module + "/internal/cli/terminal", module + "/internal/cli/console",
}

// shared are the parts that other parts may import. Test servers are for tests
// only, which the graph does not hold.
var shared = []string{parts + "/catalog", parts + "/respond", parts + "/backend", parts + "/document", parts + "/pace"}

// star: the parts of the layer know catalog, respond, backend (with the
// vocabulary below it), document and pace, and nothing else of the project;
// those know catalog and pace at most, which know none; only the layer itself knows
// all parts, and nobody outside it knows any. The API that the layer is observed by is
// known to the layer and to the part that makes its objects; what makes text printable, which
// knows nothing itself, to whoever shows text.
func star(g graph) []string {
	const backend, pace = parts + "/backend", parts + "/pace"
	return each(g, func(from, to string) string {
		switch {
		case to == certificates: // see edges
			return ""
		case to == shown:
			return ""
		case to == observed && (from == layer || within(from, parts+"/observe")):
			return ""
		case within(to, parts) && !within(from, layer):
			return "the parts of the layer are its own"
		case !within(from, parts) && within(from, layer) && within(to, module) && !within(to, layer):
			return "the layer imports nothing of the rest of the project"
		case !within(from, parts) || !within(to, module) || part(to) == part(from):
			return ""
		case !slices.Contains(shared, to) && !within(to, backend):
			return "a part imports of the project only catalog, respond, backend, document and pace"
		case within(from, shared[0], pace), within(from, shared...) && to != shared[0] && to != pace:
			return "catalog and pace import no part, the other shared ones only these two"
		}
		return ""
	})
}

// core: catalog is pure. It imports apimachinery, the API types and those parts
// of the standard library that do no I/O and know no clock; of package time it
// may have durations, see clock.
func core(g graph) []string {
	pure := []string{shared[0], "k8s.io/apimachinery", "k8s.io/api", "k8s.io/kube-aggregator/pkg/apis"}
	impure := []string{"os", "net/http", "io/ioutil", "syscall", "log", "math/rand", "sync"}
	return each(g, func(from, to string) string {
		switch {
		case !within(from, shared[0]):
			return ""
		case g[to].Standard && within(to, impure...):
			return "catalog has no I/O, no clock, no goroutines and no chance"
		case !g[to].Standard && !within(to, pure...):
			return "catalog imports only apimachinery, the API types and the standard library"
		}
		return ""
	})
}

// diagnosis: what names faults is as pure as catalog. What gathers its facts, below it, is not.
func diagnosis(g graph) []string {
	pure := []string{"k8s.io/apimachinery", "k8s.io/api", "k8s.io/kube-aggregator/pkg/apis", module + "/apis", shown}
	impure := []string{"os", "net/http", "io/ioutil", "syscall", "log", "math/rand", "context"}
	return each(g, func(from, to string) string {
		switch {
		case from != named:
			return ""
		case g[to].Standard && within(to, impure...):
			return "diagnosis has no I/O and no chance"
		case !g[to].Standard && !within(to, pure...):
			return "diagnosis imports only apimachinery, API types and the standard library"
		}
		return ""
	})
}

// library: what embedders import never reaches k8s.io/kubernetes, over however
// many packages, nor the part of kine that brings every database and a server. So
// it is with commands that are for any cluster.
func library(g graph) []string {
	refused := []string{"k8s.io/kubernetes", "github.com/k3s-io/kine/pkg/endpoint"}
	var broken []string
	for _, path := range slices.Sorted(maps.Keys(g)) {
		if !within(path, layer, extension, named, module+"/apis", module+"/console") && !within(path, clusterCommands...) {
			continue
		}
		for _, tree := range refused {
			if chain := g.chain(path, func(p string) bool { return within(p, tree) }); chain != nil {
				broken = append(broken, strings.Join(chain, " -> ")+": the library stands without "+tree)
			}
		}
	}
	return broken
}

// reference: of the project only kubeapiserver, and bench, which measures the
// reference beside it, import k8s.io/kubernetes. conformance is a module of its
// own.
func reference(g graph) []string {
	return each(g, func(from, to string) string {
		if within(to, "k8s.io/kubernetes") && within(from, module) && !within(from, module+"/kubeapiserver", module+"/bench") {
			return "only kubeapiserver and bench import k8s.io/kubernetes"
		}
		return ""
	})
}

// replaced: no package of the project imports what the layer is there to
// replace. The scheme below pkg/apiserver is types only.
func replaced(g graph) []string {
	const old = "k8s.io/kube-aggregator/pkg/"
	return each(g, func(from, to string) string {
		rest, ok := strings.CutPrefix(to, old)
		switch {
		case !ok || !within(from, module) || to == old+"apiserver/scheme":
			return ""
		case within(rest, "apiserver", "controllers/status") || strings.HasPrefix(rest, "controllers/openapi"):
			return "the layer replaces this package"
		}
		return ""
	})
}

// leaf: what everybody may import imports the standard library alone.
func leaf(g graph) []string {
	return each(g, func(from, to string) string {
		if from == shown && !g[to].Standard {
			return "it imports the standard library alone"
		}
		return ""
	})
}

// edges: what stands outside is not imported by what stands inside.
func edges(g graph) []string {
	return each(g, func(from, to string) string {
		switch {
		case !within(from, module):
			return ""
		case within(to, module+"/internal/cli") && !within(from, module+"/internal/cli", module+"/cmd"):
			return "only commands import the command line"
		case within(to, module+"/bench") && !within(from, module+"/bench"):
			return "nothing that ships imports its measurements"
		case within(from, extension) && within(to, layer, module+"/kubeapiserver", module+"/internal") && !within(to, embedded):
			return "the SDK imports nothing of the layer, and of the rest embedded etcd alone"
		case strings.HasPrefix(to, parts+"/") && strings.HasSuffix(to, "test"):
			return "test servers are for tests"
		case to == certificates && !strings.HasSuffix(from, "test") && !within(from, module+"/bench"):
			return "certificates of tests are for tests, what serves them, and benches"
		}
		return ""
	})
}

// each asks a question of every import of the project's packages.
func each(g graph, why func(from, to string) string) []string {
	var broken []string
	for _, from := range slices.Sorted(maps.Keys(g)) {
		for _, to := range g[from].Imports {
			if sentence := why(from, to); sentence != "" {
				broken = append(broken, fmt.Sprintf("%s imports %s: %s", from, to, sentence))
			}
		}
	}
	return broken
}

// chain is the shortest way of imports from a package to one that is wanted;
// nil when there is none.
func (g graph) chain(from string, wanted func(string) bool) []string {
	previous := map[string]string{from: ""}
	for queue := []string{from}; len(queue) > 0; queue = queue[1:] {
		at := queue[0]
		if wanted(at) {
			var way []string
			for p := at; p != ""; p = previous[p] {
				way = append(way, p)
			}
			slices.Reverse(way)
			return way
		}
		for _, to := range g[at].Imports {
			if _, seen := previous[to]; !seen {
				previous[to] = at
				queue = append(queue, to)
			}
		}
	}
	return nil
}

// within says whether a path is one of the trees or lies below one.
func within(path string, trees ...string) bool {
	return slices.ContainsFunc(trees, func(tree string) bool {
		return path == tree || strings.HasPrefix(path, tree+"/")
	})
}

// part is the folder of the layer's part that a package belongs to.
func part(path string) string {
	name, _, _ := strings.Cut(strings.TrimPrefix(path, parts+"/"), "/")
	return parts + "/" + name
}
