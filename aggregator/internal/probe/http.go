package probe

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"github.com/annex-api/annex/aggregator/internal/backend"
	"github.com/annex-api/annex/aggregator/internal/backend/balance"
	"github.com/annex-api/annex/aggregator/internal/catalog"
)

// HTTP checks by a GET of the APIService's own discovery path at each
// endpoint; one endpoint that answers 2xx is enough. The others' health is noted
// when they answer.
func HTTP(backends *backend.Pool) Check {
	return func(ctx context.Context, a *catalog.APIService, background *sync.WaitGroup) catalog.Verdict {
		b := backends.Get(a)
		if err := b.Err(); err != nil {
			return failed(err)
		}
		endpoints, err := b.All(a.Target)
		if err != nil {
			return failed(err)
		}
		errs := make([]error, len(endpoints))
		checkOne := func(i int) {
			errs[i] = get(ctx, b, endpoints[i], a.DiscoveryPath())
			if ctx.Err() == nil || errors.Is(ctx.Err(), context.DeadlineExceeded) {
				failure := ""
				if errs[i] != nil {
					failure = message(errs[i])
				}
				// Any answer shows that the endpoint lives. The verdict needs a 2xx.
				b.Probed(endpoints[i].Address, failure == "" || errors.As(errs[i], new(badStatus)), failure)
			}
		}
		answered := make(chan int, len(endpoints))
		if len(endpoints) == 1 { // no goroutine is needed: no other answer could come first
			checkOne(0)
			answered <- 0
		} else {
			for i := range endpoints {
				background.Go(func() {
					checkOne(i)
					answered <- i
				})
			}
		}
		for range endpoints {
			if errs[<-answered] == nil {
				return catalog.Verdict{Status: apiregistrationv1.ConditionTrue, Reason: "Passed", Message: "all checks passed"}
			}
		}
		for i, e := range endpoints {
			if !errors.As(errs[i], new(badStatus)) { // an answer came over a connection that works
				b.CloseIdle(e.Address)
			}
		}
		// The first endpoint speaks for all, whichever failed last: a verdict that
		// has not changed must read the same.
		return failed(errs[0])
	}
}

// Degraded says whether an endpoint of an APIService's extension server is down. The
// Service's own address does not count.
func Degraded(backends *backend.Pool) func(a *catalog.APIService) bool {
	return func(a *catalog.APIService) bool {
		return slices.ContainsFunc(backends.Get(a).Health(), func(h balance.Health) bool { return h.Down && !h.Fallback })
	}
}

// badStatus is an answer other than 2xx.
type badStatus struct {
	url  string
	code int
}

func (e badStatus) Error() string {
	return fmt.Sprintf("failing or missing response from %v: bad status from %v: %d", e.url, e.url, e.code)
}

func failed(err error) catalog.Verdict {
	return catalog.Verdict{Status: apiregistrationv1.ConditionFalse, Reason: "FailedDiscoveryCheck", Message: message(err)}
}

// message leaves out what is different each time: the local port, and the time
// in the complaint about an expired certificate.
func message(err error) string {
	text := backend.ErrorText(err)
	if invalid := (x509.CertificateInvalidError{}); errors.As(err, &invalid) && invalid.Reason == x509.Expired && invalid.Cert != nil {
		plain := invalid
		plain.Detail = fmt.Sprintf("it is valid from %s to %s",
			invalid.Cert.NotBefore.UTC().Format(time.RFC3339), invalid.Cert.NotAfter.UTC().Format(time.RFC3339))
		text = strings.ReplaceAll(text, invalid.Error(), plain.Error())
	}
	if op := (*net.OpError)(nil); errors.As(err, &op) && op.Source != nil {
		text = strings.ReplaceAll(text, op.Source.String()+"->", "")
	}
	return text
}

func get(ctx context.Context, b *backend.Backend, e catalog.Endpoint, path string) error {
	call := backend.Call{As: backend.Aggregator, Path: path}
	reply, err := b.Get(ctx, e.Address, call)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("timed out waiting for %v", call.URL(e.Address))
	case err != nil:
		return fmt.Errorf("failing or missing response from %v: %w", call.URL(e.Address), err)
	case reply.StatusCode < http.StatusOK || reply.StatusCode >= http.StatusMultipleChoices:
		return badStatus{call.URL(e.Address), reply.StatusCode}
	}
	return nil
}
