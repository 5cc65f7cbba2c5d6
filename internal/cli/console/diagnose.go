package console

import (
	"fmt"
	"net/http"

	"github.com/annex-api/annex/console"
	"github.com/annex-api/annex/diagnosis"
	"github.com/annex-api/annex/diagnosis/gather"
	"github.com/annex-api/annex/internal/cli/kubeconfig"
)

// diagnose is doctor with the user's rights, for one APIService.
func diagnose(c *kubeconfig.Connection) func(*http.Request, string) (console.Verdict, error) {
	return func(r *http.Request, name string) (console.Verdict, error) {
		facts, err := gather.Facts(r.Context(), gather.Options{Config: c.Config, Names: []string{name}})
		if err != nil {
			return console.Verdict{}, c.Explain("look at the APIService", err)
		}
		return verdict(diagnosis.Diagnose(&facts, name)), nil
	}
}

// verdict says a report as the page reads it.
func verdict(report diagnosis.Report) console.Verdict {
	v := console.Verdict{Summary: "Nothing is found to be wrong."}
	switch n := len(report.Findings); {
	case report.Local:
		v.Summary = "The API server itself answers for it: there is nothing to check."
	case n == 1:
		v.Summary = "One fault was found."
	case n > 1:
		v.Summary = fmt.Sprintf("%d faults were found, the root of them first.", n)
	}
	for _, f := range report.Findings {
		v.Findings = append(v.Findings, console.Finding{
			Code: string(f.Code), Title: f.Title, Severity: string(f.Severity), Confidence: string(f.Confidence),
			Evidence: f.Evidence, Remedy: actions(f.Remedy), Because: string(f.Because), See: f.See,
		})
	}
	for _, b := range report.Unseen {
		v.Unseen = append(v.Unseen, fmt.Sprintf("%s: %s was not seen: %s", b.Check, b.What, b.Why))
	}
	return v
}

func actions(remedy []diagnosis.Action) []console.Action {
	var all []console.Action
	for _, a := range remedy {
		all = append(all, console.Action{Does: string(a.Does), Remark: a.Remark, Command: a.Command, Warning: a.Warning()})
	}
	return all
}
