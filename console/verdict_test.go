package console

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/annex-api/annex/diagnosis"
)

func TestReportsAsThePageReadsThem(t *testing.T) {
	found := diagnosis.Finding{
		Code: "ANX101", Title: "no Pod is ready", Severity: diagnosis.Error, Confidence: diagnosis.Certain,
		Evidence: "0 of 2", See: "https://example.com", Because: "ANX102",
		Remedy: []diagnosis.Action{
			{Does: diagnosis.Looks, Remark: "how they are", Command: "kubectl get pods"},
			{Does: diagnosis.Destroys, Command: "kubectl delete pod a", Loses: "the Pod", OnlyIf: "another is made"},
		},
	}
	shown := Finding{
		Code: "ANX101", Title: "no Pod is ready", Severity: "error", Confidence: "Certain",
		Evidence: "0 of 2", See: "https://example.com", Because: "ANX102",
		Remedy: []Action{
			{Does: "looks", Remark: "how they are", Command: "kubectl get pods"},
			{Does: "destroys", Command: "kubectl delete pod a", Warning: "This takes away the Pod. Do it only if another is made."},
		},
	}
	for name, c := range map[string]struct {
		report diagnosis.Report
		want   Verdict
	}{
		"well":  {diagnosis.Report{}, Verdict{Summary: "Nothing is found to be wrong."}},
		"local": {diagnosis.Report{Local: true}, Verdict{Summary: "The API server itself answers for it: there is nothing to check."}},
		"one": {
			diagnosis.Report{Findings: []diagnosis.Finding{found}, Unseen: []diagnosis.Blind{{Check: "Pods are ready", What: "the Pods", Why: "forbidden"}}},
			Verdict{Summary: "One fault was found.", Findings: []Finding{shown}, Unseen: []string{"Pods are ready: the Pods was not seen: forbidden"}},
		},
		"two": {
			diagnosis.Report{Findings: []diagnosis.Finding{found, found}},
			Verdict{Summary: "2 faults were found, the root of them first.", Findings: []Finding{shown, shown}},
		},
	} {
		if d := cmp.Diff(c.want, VerdictOf(c.report)); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
}
