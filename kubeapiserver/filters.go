package kubeapiserver

import (
	"context"
	"net/http"
	"sync"
	"time"

	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/util/flowcontrol"
	fairqueuing "k8s.io/apiserver/pkg/util/flowcontrol/fairqueuing"
	flowcontrolrequest "k8s.io/apiserver/pkg/util/flowcontrol/request"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"

	"github.com/annex-api/annex/aggregator"
)

// delegatingFairness gives back the seats of requests that wait for extension
// servers. They are classified, queued and counted like all others, but while
// another server works on them they hold nothing that built-in requests need:
// the layer has limits of its own for each extension server.
type delegatingFairness struct {
	flowcontrol.Interface
	isRemote func(path string) bool
}

// Handle implements flowcontrol.Interface. Watches give back their seats by
// themselves, once they are delegated.
func (f delegatingFairness) Handle(
	ctx context.Context, digest flowcontrol.RequestDigest,
	note func(*flowcontrolv1.FlowSchema, *flowcontrolv1.PriorityLevelConfiguration, string),
	estimate func() flowcontrolrequest.WorkEstimate, queueNote fairqueuing.QueueNoteFn, execute func(),
) {
	if digest.RequestInfo.Verb == "watch" || !f.isRemote(digest.RequestInfo.Path) {
		f.Interface.Handle(ctx, digest, note, estimate, queueNote, execute)
		return
	}
	admitted := false
	f.Interface.Handle(ctx, digest, note, estimate, queueNote, func() { admitted = true })
	if admitted {
		execute()
	}
}

// requestTimeouts builds a handler chain for each request timeout that
// APIServices set, beside the one with the server's own.
func requestTimeouts(layer *aggregator.Aggregator, build func(http.Handler, *genericapiserver.Config) http.Handler) func(http.Handler, *genericapiserver.Config) http.Handler {
	return func(next http.Handler, c *genericapiserver.Config) http.Handler {
		inner := layer.Handler(next)
		usual := build(inner, c)
		var chains sync.Map // time.Duration -> http.Handler
		chain := func(timeout time.Duration) http.Handler {
			if h, ok := chains.Load(timeout); ok {
				return h.(http.Handler)
			}
			other := *c
			other.RequestTimeout = timeout
			h, _ := chains.LoadOrStore(timeout, build(inner, &other))
			return h.(http.Handler)
		}
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if timeout := layer.RequestTimeout(r.URL.Path); timeout > 0 && timeout != c.RequestTimeout {
				chain(timeout).ServeHTTP(w, r)
				return
			}
			usual.ServeHTTP(w, r)
		})
	}
}
