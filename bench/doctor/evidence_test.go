package doctor

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/annex-api/annex/bench/internal/build"
	"github.com/annex-api/annex/diagnosis"
	"github.com/annex-api/annex/kubeapiserver/version"
)

// row is what became of a fault on one server.
type row struct {
	fault
	server        string
	named, mended bool
	// left says why it was not made.
	left string
}

// evidence is what was seen.
type evidence struct {
	mu   sync.Mutex
	rows []row
}

func (e *evidence) note(r row) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.rows = append(e.rows, r)
}

// notMade are faults that this machine cannot have, and why.
var notMade = []struct {
	code diagnosis.Code
	why  string
}{
	{"ANX305", "the words of a managed control plane, which no server here says; a scenario of package diagnosis has them"},
	{"ANX307", "konnectivity has a server and agents of its own; a scenario of package diagnosis has its words"},
	{"ANX309", "a bug of kernels before 5.7"},
	{"ANX312", "with --enable-aggregator-routing, which needs no kube-proxy, kube-apiserver resolves no names, and Annex does not either"},
	{"ANX502", "the certificate of the API server itself, which all faults here share; a scenario of package diagnosis has it"},
	{"ANX804", "API servers share nothing here; the tests of the layer have several"},
	{"ANX504", "an API server of its own, without the flags; a scenario of package diagnosis has it"},
	{"ANX608", "the limit is a minute"},
	{"ANX610", "doctor applies nothing to a cluster unasked"},
}

func (e *evidence) write(path string) error {
	var b strings.Builder
	b.WriteString("# Faults that doctor names\n\n" +
		"Made by `go test ./bench/doctor -update`. Each fault is made for real, on Annex and on kube-apiserver " + version.Kubernetes + "; `annex doctor` has to name it first,\n" +
		"before what follows from it; the remedy that it prints is executed, and then doctor has to find nothing: that is \"mended\". There is no kubelet and there are no\n" +
		"controllers: what those would do after a remedy (new Pods, new endpoints) the test does.\n\n" +
		"| code | how it is made | Annex | kube-apiserver | what mends it |\n| --- | --- | --- | --- | --- |\n")
	byName := map[string]map[string]row{}
	var names []string
	for _, r := range e.rows {
		if byName[r.name] == nil {
			byName[r.name] = map[string]row{}
			names = append(names, r.name)
		}
		byName[r.name][r.server] = r
	}
	slices.SortFunc(names, func(a, c string) int {
		x, y := byName[a][build.Annex], byName[c][build.Annex]
		return cmp.Or(cmp.Compare(x.code, y.code), cmp.Compare(a, c))
	})
	codes := map[diagnosis.Code]bool{}
	for _, name := range names {
		f := byName[name][build.Annex].fault
		codes[f.code] = true
		fmt.Fprintf(&b, "| [%s](../operate/faults/%s.md) | %s | %s | %s | %s |\n", f.code, f.code, f.how,
			byName[name][build.Annex].word(), byName[name][build.Reference].word(), f.cure())
	}
	b.WriteString("\nANX408, a wrong clock, and healthy set-ups that are odd have tests of their own there.\n")
	fmt.Fprintf(&b, "\n%d faults, of %d codes.\n\n## Not made here\n\n| code | why |\n| --- | --- |\n", len(names), len(codes))
	for _, n := range notMade {
		fmt.Fprintf(&b, "| [%s](../operate/faults/%s.md) | %s |\n", n.code, n.code, n.why)
	}
	return os.WriteFile(path, []byte(b.String()), 0o644)
}

func (r row) word() string {
	switch {
	case r.left != "":
		return r.left
	case r.mended:
		return "mended"
	case r.named:
		return "named"
	}
	return "missed"
}

// cure is what mends it.
func (f fault) cure() string {
	var parts []string
	for _, part := range f.run {
		parts = append(parts, "`"+strings.TrimSpace(part)+"`")
	}
	if f.by != "" {
		parts = append(parts, f.by)
	}
	return strings.Join(parts, "; ")
}
