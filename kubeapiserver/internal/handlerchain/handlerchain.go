package handlerchain

import (
	"context"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"golang.org/x/net/http/httpguts"
	"k8s.io/apimachinery/pkg/types"
	auditinternal "k8s.io/apiserver/pkg/apis/audit"
	"k8s.io/apiserver/pkg/audit"
	"k8s.io/apiserver/pkg/endpoints/filters"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/endpoints/responsewriter"
	genericfeatures "k8s.io/apiserver/pkg/features"
	genericapiserver "k8s.io/apiserver/pkg/server"
	serverfilters "k8s.io/apiserver/pkg/server/filters"
)

// claimedChain is the handler chain of claimed paths. It takes requests while all is
// installed and no shutdown has begun. Before and after, and for what is rare, the
// usual chain does.
type claimedChain struct {
	config *genericapiserver.Config
	usual  http.Handler // k8s.io/apiserver's own chain with the same handler

	recovering http.Handler // what turns a panic into an answer, then serve
	filters    http.Handler // from CORS to authorization, then the handler

	complete atomic.Bool // all paths are installed
	// signal is what tells watches of the end. The configuration gives it to
	// nobody but the usual chain: the first watch, which that takes, brings it.
	signal   atomic.Pointer[request.ServerShutdownSignal]
	shutdown <-chan struct{}
	hsts     string
	goaway   float64
	audited  bool
}

// Build returns a handler chain with the effects of k8s.io/apiserver's
// DefaultBuildHandlerChain, in the same order, for a handler that ends soon
// after its request's context: it is called on the connection's goroutine, and
// so is nobody left behind that still works for a request that was answered.
//
// It keeps what filters of that chain do, and most of these filters, but has one
// context in place of one for each, and makes what few requests need when they
// need it. Some things are left to the chain itself: requests before
// all paths are installed and from the beginning of a shutdown, the first watch,
// logging of requests (-v=3), and the gate APIServingWithRoutine.
// Without auditing there are no latency trackers, whose only outcome are its
// annotations for requests that are not answered here, and no annotations, which
// nobody would see.
func Build(handler http.Handler, c *genericapiserver.Config) http.Handler {
	if c.RequestInfoResolver != nil {
		valid := *c
		valid.RequestInfoResolver = validResolver{c.RequestInfoResolver}
		c = &valid
	}
	chain := &claimedChain{config: c, shutdown: c.ShutdownInitiatedNotify(), hsts: strings.Join(c.HSTSDirectives, "; "), audited: audited(c)}
	usual := genericapiserver.DefaultBuildHandlerChain(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if filters.NoMuxAndDiscoveryIncompleteKey(r.Context()) {
			chain.complete.Store(true)
		}
		if signal := request.ServerShutdownSignalFrom(r.Context()); signal != nil {
			chain.signal.CompareAndSwap(nil, &signal)
		}
		handler.ServeHTTP(w, r)
	}), chain.withSessions(c))
	if c.LongRunningFunc == nil || c.FeatureGate.Enabled(genericfeatures.APIServingWithRoutine) {
		return usual
	}
	if c.SecureServing != nil && !c.SecureServing.DisableHTTP2 {
		chain.goaway = c.GoawayChance
	}
	chain.usual = usual
	chain.filters = innerFilters(handler, c)
	var serve http.Handler = http.HandlerFunc(chain.serve)
	if chain.audited {
		serve = filters.WithLatencyTrackers(serve)
	}
	chain.recovering = serverfilters.WithPanicRecovery(serve, c.RequestInfoResolver)
	return chain
}

func audited(c *genericapiserver.Config) bool {
	return c.AuditBackend != nil && c.AuditPolicyRuleEvaluator != nil
}

// ServeHTTP implements http.Handler.
func (chain *claimedChain) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	received := time.Now()
	timeout, ok := chain.timeout(r)
	if r.ProtoMajor == 1 && r.ContentLength != 0 && len(r.Header["Upgrade"]) == 0 {
		defer boundRest(w, received.Add(timeout))
	}
	if !ok || !chain.takesRequests() {
		chain.usual.ServeHTTP(w, r)
		return
	}
	info, err := chain.config.RequestInfoResolver.NewRequestInfo(r)
	if err != nil {
		chain.usual.ServeHTTP(w, r)
		return
	}
	rc := &requestContext{Context: r.Context(), info: info, received: received}
	done, ok := chain.countUnderWay(r, rc)
	if !ok {
		chain.usual.ServeHTTP(w, r)
		return
	}
	defer done()
	if !rc.longRunning {
		ctx, cancel := context.WithDeadline(r.Context(), received.Add(timeout))
		defer cancel()
		rc.Context = ctx
	}
	r = r.WithContext(rc)
	id := r.Header.Get(auditinternal.HeaderAuditID)
	if id == "" {
		id = uuid.NewString()
	}
	audit.WithAuditID(rc, types.UID(id))
	if !chain.audited {
		_ = rc.audit.Init(audit.RequestAuditConfig{Level: auditinternal.LevelNone}, nil) // The first call does not fail.
	}
	chain.recovering.ServeHTTP(w, r)
}

// restGrace is how long the rest of a body is read at least. What has arrived is read at
// once; an answer that was given late must not end the reading of its connection before
// the server has got to it, or the connection's next request would be taken for one whose
// client has left.
const restGrace = time.Second

// boundRest has the server read what is left of a body until the deadline of its request,
// and little longer. A server of HTTP/1.x reads it before it writes an answer, and before it
// ends a connection whose answer was given up: a client that stops in its body would hold
// back the refusal of a filter, or of the proxy while the request waits for a place. The
// server takes the deadline back before the next request.
func boundRest(w http.ResponseWriter, deadline time.Time) {
	if least := time.Now().Add(restGrace); deadline.Before(least) {
		deadline = least
	}
	_ = http.NewResponseController(w).SetReadDeadline(deadline)
}

// takesRequests says whether this chain knows all that the usual one does now.
func (chain *claimedChain) takesRequests() bool {
	if !chain.complete.Load() || requestsAreLogged() {
		return false
	}
	select {
	case <-chain.shutdown:
		return false
	default:
		return true
	}
}

// timeout of a request: what it asks for, but at most the server's. False means
// that it cannot be read.
func (chain *claimedChain) timeout(r *http.Request) (time.Duration, bool) {
	limit := chain.config.RequestTimeout
	if q := r.URL.RawQuery; !strings.Contains(q, "timeout") && !strings.Contains(q, "%") {
		return limit, true
	}
	value := r.URL.Query().Get("timeout")
	if value == "" {
		return limit, true
	}
	asked, err := time.ParseDuration(value)
	if err == nil && asked > 0 && asked < limit {
		return asked, true
	}
	return limit, err == nil
}

// countUnderWay counts the request among those that a shutdown waits for; false if a
// shutdown waits already, or a watch could not be told of it.
func (chain *claimedChain) countUnderWay(r *http.Request, rc *requestContext) (done func(), ok bool) {
	rc.longRunning = chain.config.LongRunningFunc(r, rc.info) || asksForSession(r, rc.info)
	if !rc.longRunning {
		if chain.config.NonLongRunningRequestWaitGroup.Add(1) != nil {
			return nil, false
		}
		return chain.config.NonLongRunningRequestWaitGroup.Done, true
	}
	if chain.config.ShutdownWatchTerminationGracePeriod <= 0 || rc.info.Verb != "watch" {
		return func() {}, true
	}
	signal := chain.signal.Load()
	if signal == nil || chain.config.WatchRequestWaitGroup.Add(1) != nil {
		return nil, false
	}
	rc.shutdown = *signal
	return chain.config.WatchRequestWaitGroup.Done, true
}

// withSessions is c with every session among the long-running requests of the usual chain.
// Priority and fairness then knows none of them, as it knows none of exec. A request
// whose timeout cannot be read is none: it is to be refused.
func (chain *claimedChain) withSessions(c *genericapiserver.Config) *genericapiserver.Config {
	known := c.LongRunningFunc
	if known == nil {
		return c
	}
	with := *c
	with.LongRunningFunc = func(r *http.Request, info *request.RequestInfo) bool {
		if known(r, info) {
			return true
		}
		_, ok := chain.timeout(r)
		return ok && asksForSession(r, info)
	}
	return &with
}

// asksForSession says whether a request for a subresource asks for another protocol, by
// what the proxy goes by. Such a request is long-running: an extension server may have
// other subresources than those that the configuration knows (exec, attach, portforward),
// a console for example, and a filter that gave its session up after the request timeout
// would log that as an error, while the session goes on. In the claimed chain priority and
// fairness has it wait for its turn all the same.
func asksForSession(r *http.Request, info *request.RequestInfo) bool {
	if !info.IsResourceRequest || info.Subresource == "" {
		return false
	}
	named := strings.Trim(strings.Join(r.Header["Upgrade"], ","), ", \t") != ""
	return named && r.ProtoAtLeast(1, 1) && httpguts.HeaderValuesContainsToken(r.Header["Connection"], "Upgrade")
}

// serve sets the headers of every answer and runs the filters.
func (chain *claimedChain) serve(w http.ResponseWriter, r *http.Request) {
	rc := contextOf(r)
	rc.closing = chain.goaway > 0 && r.Proto == "HTTP/2.0" && rand.Float64() < chain.goaway
	chain.outerHeaders(w.Header(), rc)
	if rc.longRunning {
		rc.warnings.writer = w
		rc.writer.ResponseWriter = w // for interim answers
		chain.filters.ServeHTTP(w, r)
		return
	}
	rc.writer = deadlineWriter{ResponseWriter: w, ctx: r.Context(), reset: func(h http.Header) {
		clear(h)
		chain.outerHeaders(h, rc)
	}}
	outer := responsewriter.WrapForHTTP1Or2(&rc.writer)
	rc.warnings.writer = outer
	defer func() {
		if p := rc.writer.finish(r, recover()); p != nil {
			panic(p)
		}
	}()
	chain.filters.ServeHTTP(outer, r)
}

// outerHeaders sets what the outer filters set.
func (chain *claimedChain) outerHeaders(h http.Header, rc *requestContext) {
	h["Audit-Id"] = []string{string(rc.audit.AuditID())}
	h["Cache-Control"] = []string{"no-cache, private"}
	if chain.hsts != "" {
		h["Strict-Transport-Security"] = []string{chain.hsts}
	}
	if rc.closing {
		h["Connection"] = []string{"close"}
	}
}
