package main

import (
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/annex-api/annex/extension/extensiontest/conformance"
)

func check(id string) conformance.Check {
	i := slices.IndexFunc(conformance.Checks(), func(c conformance.Check) bool { return c.ID == id })
	if i < 0 {
		return conformance.Check{}
	}
	return conformance.Checks()[i]
}

// widgets is a run over one resource.
func widgets(results ...conformance.Result) report {
	return report{results: []result{{
		peer: "one", resource: schema.GroupVersionResource{Group: "example.com", Version: "v1", Resource: "widgets"},
		summary: conformance.Summary{Results: results},
	}}}
}

func TestEveryExplanationIsOfACheck(t *testing.T) {
	for _, e := range explanations {
		if check(e.check).ID == "" {
			t.Errorf("no check is called %q", e.check)
		}
		if len(e.resources) == 0 || e.fault == "" || !strings.HasSuffix(e.because, ".") {
			t.Errorf("%s is explained by %+v", e.check, e)
		}
	}
}

func TestFailuresAndExplanationsBelongTogether(t *testing.T) {
	r := widgets(
		conformance.Result{Check: check("watch/order"), Outcome: conformance.Failed, Failures: []conformance.Failure{{Message: "it was late"}}},
		conformance.Result{Check: check("watch/field"), Outcome: conformance.Passed},
	)
	known := func(ids ...string) []explanation {
		var all []explanation
		for _, id := range ids {
			all = append(all, explanation{check: id, resources: []string{"widgets.v1.example.com"}})
		}
		return all
	}
	for _, c := range []struct {
		known []explanation
		want  []string
	}{
		{known("watch/order"), nil},
		{nil, []string{"not explained: FAILED watch/order"}},
		{known("watch/order", "watch/field"), []string{"watch/field is explained and did not fail"}},
	} {
		got := r.compare(c.known)
		if len(got) != len(c.want) || len(got) > 0 && !strings.Contains(got[0], c.want[0]) {
			t.Errorf("%v: got %q, want %q", c.known, got, c.want)
		}
	}
}

func TestChecksThatCouldNotBeMadeAreGrouped(t *testing.T) {
	var all []string
	for _, c := range conformance.Checks() {
		if strings.HasPrefix(c.ID, "apply/") {
			all = append(all, c.ID)
		}
	}
	if got := grouped(append(all, "watch/order", "watch/field")); !slices.Equal(got, []string{"apply/*", "watch/order", "watch/field"}) {
		t.Errorf("got %v", got)
	}
	if got := plain(`discovery lists no verb "create" for widgets`, "example.com/v1", "widgets"); got != `discovery lists no verb "create" for …` {
		t.Errorf("got %q", got)
	}
}
