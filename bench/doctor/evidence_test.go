package doctor

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

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

// notMade are faults that are not in the table, and why.
var notMade = []struct {
	code diagnosis.Code
	why  string
}{
	{diagnosis.ServiceAccessError, "API servers find Services in their own memory, and no such look-up fails; the scenarios of package diagnosis have the words"},
	{diagnosis.EndpointsAccessError, "the same of EndpointSlices"},
	{diagnosis.AddressNotAllowed, "the words of a managed control plane (EKS), whose program is not to be had; as above"},
	{diagnosis.CrossNodeTrafficLost, "one machine has no overlay between nodes, and the usual bug is of kernels before 5.7; as above"},
	{diagnosis.ClockSkew, "a test of its own puts a wrong clock into answers; nothing mends it but the clock"},
	{diagnosis.ServerSideApplyFails, "annex doctor applies nothing to a cluster; whoever uses package diagnosis can give it the answer to an apply; as above"},
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
		named := link(f.code)
		for _, also := range f.also {
			codes[also] = true
			named += ", " + link(also)
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", named, f.how,
			byName[name][build.Annex].word(), byName[name][build.Reference].word(), f.cure())
	}
	fmt.Fprintf(&b, "\n%d faults, of %d codes; the first of a line is the root, others are named beside it.\n"+
		"\n## Not made here\n\n| code | why |\n| --- | --- |\n", len(names), len(codes))
	for _, n := range notMade {
		fmt.Fprintf(&b, "| %s | %s |\n", link(n.code), n.why)
	}
	return os.WriteFile(path, []byte(b.String()), 0o644)
}

func link(code diagnosis.Code) string {
	return fmt.Sprintf("[%s](../operate/faults/%s.md)", code, code)
}

// TestEachCodeIsAccountedFor: what is not made is said not to be, and only that.
func TestEachCodeIsAccountedFor(t *testing.T) {
	made, said := map[diagnosis.Code]bool{}, map[diagnosis.Code]bool{}
	for _, f := range append(faultsOfSites(), new(own).all()...) {
		made[f.code] = true
		for _, also := range f.also {
			made[also] = true
		}
	}
	for _, n := range notMade {
		said[n.code] = true
	}
	for _, f := range diagnosis.Faults() {
		if made[f.Code] == said[f.Code] {
			t.Errorf("%s: made is %v, said not to be is %v", f.Code, made[f.Code], said[f.Code])
		}
	}
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
