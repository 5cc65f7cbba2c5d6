package extensiontest

import (
	"fmt"
	"path"
	"slices"
	"testing"

	"github.com/annex-api/annex/extension/extensiontest/conformance"
)

// Conform runs the conformance kit over one resource. Each check that fails is an error
// of the test, with what was sent, what came and what was promised. An empty
// target.Config is that of the running server.
//
// A check that does not apply is an error where the resource should let it: every resource of
// an extension server is read, listed, watched and has a schema. notApplicable are patterns of
// path.Match for checks that need not apply, "scale/*", or needs of checks, as in
// string(conformance.Writable). Where there are any, each other check must apply, unless it needs
// what the target or the host does not give: a second user, namespaces. So a resource that loses
// its status or a version fails its test.
func Conform(t *testing.T, r *Running, target conformance.Target, notApplicable ...string) {
	t.Helper()
	if target.Config == nil {
		target.Config = r.Config
	}
	summary := conformance.Run(t.Context(), target, conformance.Table(t.Output()))
	if summary.Err != nil || len(summary.Left) > 0 || summary.Count(conformance.Failed) > 0 {
		t.Errorf("%d checks failed (%v, left behind: %v)", summary.Count(conformance.Failed), summary.Err, summary.Left)
	}
	if summary.Count(conformance.Passed) == 0 {
		t.Errorf("nothing was checked")
	}
	for _, problem := range unchecked(summary.Results, notApplicable) {
		t.Error(problem)
	}
	t.Logf("%d checks passed, %d not applicable, in %v", summary.Count(conformance.Passed), summary.Count(conformance.NotApplicable), summary.Took)
}

// given are the needs that the target and the host meet, and no resource.
func given() []conformance.Need {
	return []conformance.Need{
		conformance.SecondUser, conformance.Direct, conformance.StreamPath, conformance.StorageSwitch,
		conformance.IntrusiveAllowed, conformance.Namespaces, conformance.APIService,
	}
}

// everywhere are the needs that every resource of an extension server meets.
func everywhere() []conformance.Need {
	return []conformance.Need{conformance.Schema, conformance.Watchable, conformance.Verb("get"), conformance.Verb("list")}
}

// unchecked has a sentence for each check that does not apply and should.
func unchecked(results []conformance.Result, notApplicable []string) []string {
	var problems []string
	matches := func(pattern string, c conformance.Check, needs ...conformance.Need) bool {
		ok, err := path.Match(pattern, c.ID)
		return ok && err == nil || slices.Contains(needs, conformance.Need(pattern))
	}
	for _, pattern := range notApplicable {
		if !slices.ContainsFunc(conformance.Checks(), func(c conformance.Check) bool { return matches(pattern, c, c.Needs...) }) {
			problems = append(problems, fmt.Sprintf("no check is called %q, and none needs it", pattern))
		}
	}
	for _, r := range results {
		switch {
		case r.Outcome != conformance.NotApplicable || r.Check.Slow && r.Unmet == "":
		case slices.ContainsFunc(notApplicable, func(pattern string) bool { return matches(pattern, r.Check, r.Unmet) }):
		case len(notApplicable) > 0 && !slices.Contains(given(), r.Unmet), slices.Contains(everywhere(), r.Unmet):
			problems = append(problems, fmt.Sprintf("%s should apply: %s", r.Check.ID, r.Reason))
		}
	}
	return problems
}
