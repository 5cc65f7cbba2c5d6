package extensiontest

import (
	"testing"

	"github.com/annex-api/annex/extension/extensiontest/conformance"
)

// Conform runs the conformance kit over one resource. Each check that fails is an error
// of the test, with what was sent, what came and what was promised. An empty
// target.Config is that of the running server.
func Conform(t *testing.T, r *Running, target conformance.Target) {
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
	t.Logf("%d checks passed, %d not applicable, in %v", summary.Count(conformance.Passed), summary.Count(conformance.NotApplicable), summary.Took)
}
