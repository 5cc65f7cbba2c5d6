package console

import (
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
		return console.VerdictOf(diagnosis.Diagnose(&facts, name)), nil
	}
}
