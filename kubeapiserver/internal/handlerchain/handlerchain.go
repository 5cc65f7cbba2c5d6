package handlerchain

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
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

// steady is the handler chain in the steady state of a server: all is installed
// and no shutdown has begun. Outside of it, and for what is rare, the usual
// chain takes the request.
type steady struct {
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
// all paths are installed and from the beginning of a shutdown, upgrades, the
// first watch, logging of requests (-v=3), and the gate APIServingWithRoutine.
// Without auditing there are no latency trackers, whose only outcome are its
// annotations for requests that are not answered here, and no annotations, which
// nobody would see.
func Build(handler http.Handler, c *genericapiserver.Config) http.Handler {
	s := &steady{config: c, shutdown: c.ShutdownInitiatedNotify(), hsts: strings.Join(c.HSTSDirectives, "; "), audited: audited(c)}
	usual := genericapiserver.DefaultBuildHandlerChain(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if filters.NoMuxAndDiscoveryIncompleteKey(r.Context()) {
			s.complete.Store(true)
		}
		if signal := request.ServerShutdownSignalFrom(r.Context()); signal != nil {
			s.signal.CompareAndSwap(nil, &signal)
		}
		handler.ServeHTTP(w, r)
	}), c)
	if c.LongRunningFunc == nil || c.FeatureGate.Enabled(genericfeatures.APIServingWithRoutine) {
		return usual
	}
	if c.SecureServing != nil && !c.SecureServing.DisableHTTP2 {
		s.goaway = c.GoawayChance
	}
	s.usual = usual
	s.filters = innerFilters(handler, c)
	var serve http.Handler = http.HandlerFunc(s.serve)
	if s.audited {
		serve = filters.WithLatencyTrackers(serve)
	}
	s.recovering = serverfilters.WithPanicRecovery(serve, c.RequestInfoResolver)
	return s
}

func audited(c *genericapiserver.Config) bool {
	return c.AuditBackend != nil && c.AuditPolicyRuleEvaluator != nil
}

// ServeHTTP implements http.Handler.
func (s *steady) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	received := time.Now()
	if !s.usable() || len(r.Header["Upgrade"]) > 0 {
		s.usual.ServeHTTP(w, r)
		return
	}
	info, err := s.config.RequestInfoResolver.NewRequestInfo(r)
	if err != nil {
		s.usual.ServeHTTP(w, r)
		return
	}
	timeout, ok := s.timeout(r)
	if !ok {
		s.usual.ServeHTTP(w, r)
		return
	}
	sc := &scope{Context: r.Context(), info: info, received: received}
	done, ok := s.enter(r, sc)
	if !ok {
		s.usual.ServeHTTP(w, r)
		return
	}
	defer done()
	if !sc.longRunning {
		growStack()
		ctx, cancel := context.WithDeadline(r.Context(), received.Add(timeout))
		defer cancel()
		sc.Context = ctx
	}
	r = r.WithContext(sc)
	id := r.Header.Get(auditinternal.HeaderAuditID)
	if id == "" {
		id = newAuditID()
	}
	audit.WithAuditID(sc, types.UID(id))
	if !s.audited {
		_ = sc.audit.Init(audit.RequestAuditConfig{Level: auditinternal.LevelNone}, nil) // The first call does not fail.
	}
	s.recovering.ServeHTTP(w, r)
}

// newAuditID returns a random UUID. It is to be unique, not to be a secret: the
// operating system is not asked for each.
func newAuditID() string {
	var id uuid.UUID
	binary.NativeEndian.PutUint64(id[:8], rand.Uint64())
	binary.NativeEndian.PutUint64(id[8:], rand.Uint64())
	id[6] = id[6]&0x0f | 0x40 // version 4
	id[8] = id[8]&0x3f | 0x80 // variant of RFC 9562
	return id.String()
}

// usable says whether this chain knows all that the usual one does now.
func (s *steady) usable() bool {
	if !s.complete.Load() || loggedHere() {
		return false
	}
	select {
	case <-s.shutdown:
		return false
	default:
		return true
	}
}

// timeout of a request: what it asks for, but at most the server's. False means
// that it cannot be read.
func (s *steady) timeout(r *http.Request) (time.Duration, bool) {
	limit := s.config.RequestTimeout
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

// enter counts the request among those that a shutdown waits for; false if a
// shutdown waits already, or a watch could not be told of it.
func (s *steady) enter(r *http.Request, sc *scope) (done func(), ok bool) {
	sc.longRunning = s.config.LongRunningFunc(r, sc.info)
	if !sc.longRunning {
		if s.config.NonLongRunningRequestWaitGroup.Add(1) != nil {
			return nil, false
		}
		return s.config.NonLongRunningRequestWaitGroup.Done, true
	}
	if s.config.ShutdownWatchTerminationGracePeriod <= 0 || sc.info.Verb != "watch" {
		return func() {}, true
	}
	signal := s.signal.Load()
	if signal == nil || s.config.WatchRequestWaitGroup.Add(1) != nil {
		return nil, false
	}
	sc.shutdown = *signal
	return s.config.WatchRequestWaitGroup.Done, true
}

// serve sets the headers of every answer and runs the filters.
func (s *steady) serve(w http.ResponseWriter, r *http.Request) {
	sc := scopeOf(r)
	sc.closing = s.goaway > 0 && r.Proto == "HTTP/2.0" && rand.Float64() < s.goaway
	s.outerHeaders(w.Header(), sc)
	if sc.longRunning {
		sc.warnings.writer = w
		s.filters.ServeHTTP(w, r)
		return
	}
	sc.writer = deadlineWriter{ResponseWriter: w, ctx: r.Context(), reset: func(h http.Header) {
		clear(h)
		s.outerHeaders(h, sc)
	}}
	outer := responsewriter.WrapForHTTP1Or2(&sc.writer)
	sc.warnings.writer = outer
	defer func() {
		if p := sc.writer.finish(r, recover()); p != nil {
			panic(p)
		}
	}()
	s.filters.ServeHTTP(outer, r)
}

// outerHeaders sets what the outer filters set.
func (s *steady) outerHeaders(h http.Header, sc *scope) {
	sc.values = [...]string{string(sc.audit.AuditID()), "no-cache, private", s.hsts, "close"}
	value := func(i int) []string { return sc.values[i : i+1 : i+1] }
	h["Audit-Id"] = value(0)
	h["Cache-Control"] = value(1)
	if s.hsts != "" {
		h["Strict-Transport-Security"] = value(2)
	}
	if sc.closing {
		h["Connection"] = value(3)
	}
}
