package conformance

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"
)

func readyChecks() []Check {
	return []Check{
		{
			ID:      "ready/writes",
			Promise: "A write is never answered \"not yet ready to handle request\": what admission needs to know was there before the server was ready.",
			Source:  "https://github.com/kubernetes/kubernetes/issues/94302, and k8s.io/apiserver/pkg/admission/plugin/webhook/generic",
			Faults:  []int{10},
			Needs:   []Need{Writable},
			Run: func(ctx context.Context, t *T) {
				a := t.post(ctx, t.object())
				if strings.Contains(string(a.raw), "not yet ready to handle request") {
					t.fatalf(a.Exchange, "the server is not ready to admit writes; does it have the rights to list and watch webhook configurations, policies and namespaces?")
				}
				t.want(a, http.StatusCreated)
			},
		},
		{
			ID:      "ready/endpoint",
			Promise: "/readyz of the extension server passes.",
			Source:  "https://kubernetes.io/docs/reference/using-api/health-checks/",
			Faults:  []int{10},
			Needs:   []Need{Direct},
			Within:  40 * time.Second,
			Run: func(ctx context.Context, t *T) {
				t.eventually(ctx, 30*time.Second, func() (*Exchange, string) {
					a := t.as(ctx, t.direct, request{method: http.MethodGet, path: "/readyz", query: query("verbose", "")})
					switch a.Code {
					case http.StatusOK:
						return nil, ""
					case http.StatusUnauthorized, http.StatusForbidden:
						t.notApplicable("/readyz is answered %s without credentials", code(a.Code))
					}
					return a.Exchange, fmt.Sprintf("/readyz is answered %s", code(a.Code))
				})
			},
		},
	}
}
