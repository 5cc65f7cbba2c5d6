package handlerchain

import (
	"net/http"
	"time"

	"k8s.io/apiserver/pkg/endpoints/filters"
	"k8s.io/apiserver/pkg/endpoints/filters/impersonation"
	"k8s.io/apiserver/pkg/endpoints/metrics"
	genericfeatures "k8s.io/apiserver/pkg/features"
	genericapiserver "k8s.io/apiserver/pkg/server"
	serverfilters "k8s.io/apiserver/pkg/server/filters"
	flowcontrolrequest "k8s.io/apiserver/pkg/util/flowcontrol/request"
)

// innerFilters are those from CORS to authorization, in the order of
// DefaultBuildHandlerChain. Each is k8s.io/apiserver's own.
func innerFilters(handler http.Handler, c *genericapiserver.Config) http.Handler {
	t := newTracer(c)
	h := after(handler)
	h = filters.WithAuthorization(h, c.Authorization.Authorizer, c.Serializer)
	h = t.measured("authorization", h)
	if c.FlowControl != nil {
		estimate := flowcontrolrequest.NewWorkEstimator(c.StorageObjectCountTracker.Get,
			c.FlowControl.GetInterestedWatchCount, flowcontrolrequest.DefaultWorkEstimatorConfig(), c.FlowControl.GetMaxSeats)
		h = serverfilters.WithPriorityAndFairness(h, c.LongRunningFunc, c.FlowControl, estimate, c.RequestTimeout/4)
		h = t.measured("priorityandfairness", h)
	} else {
		h = after(serverfilters.WithMaxInFlightLimit(h, c.MaxRequestsInFlight, c.MaxMutatingRequestsInFlight, c.LongRunningFunc))
	}
	if c.FeatureGate.Enabled(genericfeatures.ConstrainedImpersonation) {
		h = t.measured("constrainedimpersonation", impersonation.WithConstrainedImpersonation(h, c.Authorization.Authorizer, c.Serializer))
	} else {
		h = t.measured("impersonation", impersonation.WithImpersonation(h, c.Authorization.Authorizer, c.Serializer))
	}
	h = t.measured("audit", filters.WithAudit(h, c.AuditBackend, c.AuditPolicyRuleEvaluator, c.LongRunningFunc))
	failed := filters.WithFailedAuthenticationAudit(filters.Unauthorized(c.Serializer), c.AuditBackend, c.AuditPolicyRuleEvaluator)
	h = t.requests(h)
	h = filters.WithAuthentication(h, c.Authentication.Authenticator, after(failed), c.Authentication.APIAudiences, c.Authentication.RequestHeaderConfig)
	h = t.measured("authentication", h)
	return serverfilters.WithCORS(h, c.CorsAllowedOriginList, nil, nil, nil, "true")
}

// after notes that the filter before it is over.
func after(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		scopeOf(r).record(r)
		next.ServeHTTP(w, r)
	})
}

// record counts the latency of the filter that has just ended.
func (s *scope) record(r *http.Request) (now time.Time) {
	now = time.Now()
	if s.filter != "" {
		metrics.RecordFilterLatency(r.Context(), s.filter, now.Sub(s.started))
		s.filter = ""
	}
	return now
}
