package kubeapiserver

import (
	"context"
	"net/http"
	"reflect"
	"slices"
	"sync"
	"time"

	"k8s.io/apiserver/pkg/apis/flowcontrol/bootstrap"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/util/flowcontrol"
	fairqueuing "k8s.io/apiserver/pkg/util/flowcontrol/fairqueuing"
	flowcontrolrequest "k8s.io/apiserver/pkg/util/flowcontrol/request"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"

	"github.com/annex-api/annex/aggregator"
	"github.com/annex-api/annex/kubeapiserver/internal/handlerchain"
)

// delegatingFairness gives back the seats of requests that wait for extension
// servers. They are classified, queued and counted like all others, but while
// another server works on them they hold nothing that built-in requests need:
// the layer has limits of its own for each extension server, which go by the
// priority that is found here.
type delegatingFairness struct {
	flowcontrol.Interface
	layer *aggregator.Aggregator
}

// Handle implements flowcontrol.Interface. Watches give back their seats by
// themselves, once they are delegated.
func (f delegatingFairness) Handle(
	ctx context.Context, digest flowcontrol.RequestDigest,
	note func(*flowcontrolv1.FlowSchema, *flowcontrolv1.PriorityLevelConfiguration, string),
	estimate func() flowcontrolrequest.WorkEstimate, queueNote fairqueuing.QueueNoteFn, execute func(),
) {
	_, remote := f.layer.Claims(ctx)
	if !remote {
		f.Interface.Handle(ctx, digest, note, estimate, queueNote, execute)
		return
	}
	noteBoth := func(schema *flowcontrolv1.FlowSchema, level *flowcontrolv1.PriorityLevelConfiguration, flow string) {
		f.layer.SetPriority(ctx, priorityOf(level))
		note(schema, level, flow)
	}
	if digest.RequestInfo.Verb == "watch" {
		f.Interface.Handle(ctx, digest, noteBoth, estimate, queueNote, execute)
		return
	}
	admitted := false
	f.Interface.Handle(ctx, digest, noteBoth, estimate, queueNote, func() { admitted = true })
	if admitted {
		execute()
	}
}

// highLevels are the priority levels that Kubernetes suggests for what keeps a cluster
// going: nodes, leader elections, controllers of kube-system.
var highLevels = []string{
	bootstrap.SuggestedPriorityLevelConfigurationSystem.Name,
	bootstrap.SuggestedPriorityLevelConfigurationNodeHigh.Name,
	bootstrap.SuggestedPriorityLevelConfigurationLeaderElection.Name,
	bootstrap.SuggestedPriorityLevelConfigurationWorkloadHigh.Name,
}

// priorityOf is what a priority level is to the layer. A level that somebody has added
// is an ordinary one: it may as well be for those who are to be slowed down.
func priorityOf(level *flowcontrolv1.PriorityLevelConfiguration) aggregator.Priority {
	switch {
	case level.Spec.Type == flowcontrolv1.PriorityLevelEnablementExempt:
		return aggregator.Exempt
	case slices.Contains(highLevels, level.Name):
		return aggregator.High
	default:
		return aggregator.Ordinary
	}
}

// claimedPaths sends requests for extension servers through a cheaper handler
// chain, one for each request timeout that APIServices set, and all others
// through the usual one. Which of them a request is, is decided here, and what
// comes later goes by it. Without priority and fairness all go through the usual
// one, and those timeouts have no effect.
func claimedPaths(layer *aggregator.Aggregator, usual chainBuilder) chainBuilder {
	claimed := usual
	if isDefaultChain(usual) {
		claimed = handlerchain.Build
	}
	return func(next http.Handler, c *genericapiserver.Config) http.Handler {
		inner := layer.Handler(next)
		local := usual(inner, c)
		if c.FlowControl == nil {
			return local // each chain would count requests in flight by itself
		}
		own := claimed(inner, c)
		var chains sync.Map // time.Duration in whole seconds -> http.Handler
		chain := func(timeout time.Duration) http.Handler {
			timeout = (timeout + time.Second - 1).Truncate(time.Second) // so that there are few
			if h, ok := chains.Load(timeout); ok {
				return h.(http.Handler)
			}
			other := *c
			other.RequestTimeout = timeout
			h, _ := chains.LoadOrStore(timeout, claimed(inner, &other))
			return h.(http.Handler)
		}
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r = layer.WithRoute(r)
			timeout, remote := layer.Claims(r.Context())
			switch {
			case !remote:
				local.ServeHTTP(w, r)
			case timeout == 0:
				own.ServeHTTP(w, r)
			default:
				chain(timeout).ServeHTTP(w, r)
			}
		})
	}
}

// behindFilters puts the layer behind the usual chain, for all paths.
func behindFilters(layer *aggregator.Aggregator, usual chainBuilder) chainBuilder {
	return func(next http.Handler, c *genericapiserver.Config) http.Handler {
		return usual(layer.Handler(next), c)
	}
}

type chainBuilder = func(http.Handler, *genericapiserver.Config) http.Handler

// isDefaultChain says whether the configuration left the handler chain as it
// is: what others build may do anything.
func isDefaultChain(build chainBuilder) bool {
	return reflect.ValueOf(build).Pointer() == reflect.ValueOf(genericapiserver.DefaultBuildHandlerChain).Pointer()
}
