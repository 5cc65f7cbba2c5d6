package handlerchain

import (
	"net/http"
	"time"

	"k8s.io/apiserver/pkg/endpoints/filters"
	"k8s.io/apiserver/pkg/endpoints/filters/impersonation"
	"k8s.io/apiserver/pkg/endpoints/metrics"
	"k8s.io/apiserver/pkg/endpoints/request"
	genericfeatures "k8s.io/apiserver/pkg/features"
	genericapiserver "k8s.io/apiserver/pkg/server"
	serverfilters "k8s.io/apiserver/pkg/server/filters"
	flowcontrolrequest "k8s.io/apiserver/pkg/util/flowcontrol/request"
)

// innerFilters are those from CORS to authorization, in the order of
// DefaultBuildHandlerChain. Each is k8s.io/apiserver's own.
func innerFilters(handler http.Handler, c *genericapiserver.Config) http.Handler {
	t := newTracer(c)
	h := filterEnded(handler)
	h = filters.WithAuthorization(h, c.Authorization.Authorizer, c.Serializer)
	h = t.timed("authorization", h)
	if c.FlowControl != nil {
		estimate := flowcontrolrequest.NewWorkEstimator(c.StorageObjectCountTracker.Get,
			c.FlowControl.GetInterestedWatchCount, flowcontrolrequest.DefaultWorkEstimatorConfig(), c.FlowControl.GetMaxSeats)
		h = serverfilters.WithPriorityAndFairness(h, c.LongRunningFunc, c.FlowControl, estimate, c.RequestTimeout/4)
		h = t.timed("priorityandfairness", h)
	} else {
		h = filterEnded(serverfilters.WithMaxInFlightLimit(h, c.MaxRequestsInFlight, c.MaxMutatingRequestsInFlight, c.LongRunningFunc))
	}
	if c.FeatureGate.Enabled(genericfeatures.ConstrainedImpersonation) {
		h = t.timed("constrainedimpersonation", impersonation.WithConstrainedImpersonation(h, c.Authorization.Authorizer, c.Serializer))
	} else {
		h = t.timed("impersonation", impersonation.WithImpersonation(h, c.Authorization.Authorizer, c.Serializer))
	}
	h = t.timed("audit", filters.WithAudit(h, c.AuditBackend, c.AuditPolicyRuleEvaluator, isLongRunning))
	failed := filters.WithFailedAuthenticationAudit(filters.Unauthorized(c.Serializer), c.AuditBackend, c.AuditPolicyRuleEvaluator)
	h = t.requests(h)
	h = filters.WithAuthentication(h, c.Authentication.Authenticator, filterEnded(failed), c.Authentication.APIAudiences, c.Authentication.RequestHeaderConfig)
	h = t.timed("authentication", h)
	return serverfilters.WithCORS(h, c.CorsAllowedOriginList, nil, nil, nil, "true")
}

// isLongRunning says what was found when the request came in.
func isLongRunning(r *http.Request, _ *request.RequestInfo) bool { return contextOf(r).longRunning }

// filterEnded notes that the filter before it is over.
func filterEnded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		contextOf(r).recordFilter(r)
		next.ServeHTTP(w, r)
	})
}

// recordFilter counts the latency of the filter that has just ended.
func (rc *requestContext) recordFilter(r *http.Request) (now time.Time) {
	now = time.Now()
	if rc.filter != "" {
		metrics.RecordFilterLatency(r.Context(), rc.filter, now.Sub(rc.started))
		rc.filter = ""
	}
	return now
}
