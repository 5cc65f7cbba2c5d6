package handlerchain

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	"k8s.io/apiserver/pkg/apis/audit"
	"k8s.io/apiserver/pkg/audit/policy"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/util/flowcontrol"
	fairqueuing "k8s.io/apiserver/pkg/util/flowcontrol/fairqueuing"
	flowcontrolrequest "k8s.io/apiserver/pkg/util/flowcontrol/request"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
)

// setting is how a server may be set up.
type setting struct {
	name   string
	change func(*testing.T, *world)
	gates  map[string]bool
	// both protocols are spoken, not only HTTP/2.
	both bool
	// only is the protocol for which the setting makes sense, if not for both.
	only string
	// slow settings are those that are left to the reference's chain.
	slow bool
	// level is that of the log.
	level string
	// all settings get all calls, others the core ones.
	all bool
	// narrow settings let one request be served at a time.
	narrow bool
}

var settings = []setting{
	{name: "as it comes", all: true, both: true},
	{name: "everything on", all: true, narrow: true, change: everything},
	{name: "everything on, traced", change: func(t *testing.T, w *world) {
		everything(t, w)
		w.trace(sdktrace.AlwaysSample())
	}},
	{name: "logged", slow: true, level: "3"},
	{name: "one at a time", both: true, narrow: true, change: func(_ *testing.T, w *world) {
		w.config.MaxRequestsInFlight, w.config.MaxMutatingRequestsInFlight = 1, 1
	}},
	{name: "no limits", change: func(_ *testing.T, w *world) {
		w.config.MaxRequestsInFlight, w.config.MaxMutatingRequestsInFlight = 0, 0
	}},
	{name: "fairness refuses all", change: func(t *testing.T, w *world) {
		fairness(t, w)
		w.config.FlowControl = refusal{w.config.FlowControl, &w.broken}
	}},
	{name: "no audit", change: func(_ *testing.T, w *world) { w.config.AuditBackend = nil }},
	{name: "no audit policy", change: func(_ *testing.T, w *world) { w.config.AuditPolicyRuleEvaluator = nil }},
	{name: "audit of nothing", change: level(audit.LevelNone)},
	{name: "audit of requests", change: level(audit.LevelRequest)},
	{name: "audit of requests and responses", change: level(audit.LevelRequestResponse)},
	{name: "audit without the first stage", change: level(audit.LevelMetadata, audit.StageRequestReceived)},
	{name: "audit without the last stages", change: level(audit.LevelMetadata, audit.StageResponseStarted, audit.StageResponseComplete, audit.StagePanic)},
	{name: "audit backend refuses", change: func(_ *testing.T, w *world) { w.sink.full = &w.broken }},
	{name: "traces of all", all: true, change: func(t *testing.T, w *world) { w.trace(sdktrace.AlwaysSample()) }},
	{name: "traces of what the client samples", all: true, change: func(t *testing.T, w *world) { w.trace(sdktrace.ParentBased(sdktrace.NeverSample())) }},
	{name: "constrained impersonation off", gates: map[string]bool{"ConstrainedImpersonation": false}},
	{name: "routines on", slow: true, gates: map[string]bool{"APIServingWithRoutine": true}},
	{name: "anonymous connections are kept", gates: map[string]bool{"UnauthenticatedHTTP2DOSMitigation": false}},
	{name: "always goodbye", both: true, change: func(_ *testing.T, w *world) { w.config.GoawayChance = 1 }},
	{name: "never goodbye without HTTP/2", only: "http/1.1", change: func(_ *testing.T, w *world) {
		w.config.GoawayChance, w.config.SecureServing.DisableHTTP2 = 1, true
	}},
	{name: "failing authentication", change: func(_ *testing.T, w *world) {
		w.config.Authentication.Authenticator = refusing{w.config.Authentication.Authenticator, &w.broken}
	}},
	{name: "failing request info", change: func(_ *testing.T, w *world) {
		w.config.RequestInfoResolver = unresolving{w.config.RequestInfoResolver, &w.broken}
	}},
	{name: "audiences", change: func(t *testing.T, w *world) {
		w.config.Authentication.APIAudiences = []string{"api", "other"}
		w.authenticate(t, true)
	}},
	{name: "nobody anonymous", change: func(t *testing.T, w *world) { w.authenticate(t, false) }},
	{name: "no front proxy headers", change: func(_ *testing.T, w *world) { w.config.Authentication.RequestHeaderConfig = nil }},
	{name: "strict transport and origins", change: func(_ *testing.T, w *world) {
		w.config.HSTSDirectives = []string{"max-age=31536000", "includeSubDomains"}
		w.config.CorsAllowedOriginList = []string{`^https://ui\.example\.com$`}
	}},
	{name: "little time", change: func(_ *testing.T, w *world) { w.config.RequestTimeout = 5 * time.Second }},
	{name: "watches end with the server", change: func(_ *testing.T, w *world) {
		w.config.ShutdownWatchTerminationGracePeriod, w.config.ShutdownSendRetryAfter = time.Second, true
	}},
}

func everything(t *testing.T, w *world) {
	fairness(t, w)
	c := w.config
	c.HSTSDirectives = []string{"max-age=31536000"}
	c.CorsAllowedOriginList = []string{`//ui\.example\.com`}
	c.ShutdownWatchTerminationGracePeriod, c.ShutdownSendRetryAfter = time.Second, true
	c.GoawayChance = 0.0000001
	c.Authentication.APIAudiences = []string{"api"}
	w.authenticate(t, true)
}

// fairness sets up real priority and fairness, whose mandatory objects let one
// request at a time run for all but the admin.
func fairness(t *testing.T, w *world) {
	t.Helper()
	client := fake.NewClientset()
	real := flowcontrol.New(informers.NewSharedInformerFactory(client, 0), client.FlowcontrolV1(), 1)
	w.config.FlowControl = timing{real, w.waits}
}

// waits are how long requests may be queued, in the order in which they came.
type waits struct {
	mu   sync.Mutex
	seen []string
}

func (w *waits) reset() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen = nil
}

func (w *waits) all() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.seen)
}

// timing notes how long each request may be queued, counted from when it was
// received.
type timing struct {
	flowcontrol.Interface
	waits *waits
}

// Handle implements flowcontrol.Interface.
func (f timing) Handle(
	ctx context.Context, digest flowcontrol.RequestDigest,
	note func(*flowcontrolv1.FlowSchema, *flowcontrolv1.PriorityLevelConfiguration, string),
	estimate func() flowcontrolrequest.WorkEstimate, queueNote fairqueuing.QueueNoteFn, execute func(),
) {
	wait := "for ever"
	if deadline, ok := ctx.Deadline(); ok {
		received, _ := request.ReceivedTimestampFrom(ctx)
		wait = deadline.Sub(received).String()
	}
	f.waits.mu.Lock()
	f.waits.seen = append(f.waits.seen, wait)
	f.waits.mu.Unlock()
	f.Interface.Handle(ctx, digest, note, estimate, queueNote, execute)
}

// refusal classifies requests, and runs none once it is broken.
type refusal struct {
	flowcontrol.Interface
	broken *atomic.Bool
}

// Handle implements flowcontrol.Interface.
func (f refusal) Handle(
	ctx context.Context, digest flowcontrol.RequestDigest,
	note func(*flowcontrolv1.FlowSchema, *flowcontrolv1.PriorityLevelConfiguration, string),
	estimate func() flowcontrolrequest.WorkEstimate, queueNote fairqueuing.QueueNoteFn, execute func(),
) {
	f.Interface.Handle(ctx, digest, note, estimate, queueNote, func() {
		if !f.broken.Load() {
			execute()
		}
	})
}

// unresolving knows of no request what it asks for, once it is broken.
type unresolving struct {
	request.RequestInfoResolver
	broken *atomic.Bool
}

// NewRequestInfo implements request.RequestInfoResolver.
func (u unresolving) NewRequestInfo(r *http.Request) (*request.RequestInfo, error) {
	info, err := u.RequestInfoResolver.NewRequestInfo(r)
	if u.broken.Load() {
		err = errors.New("nobody knows what this asks for")
	}
	return info, err
}

func level(l audit.Level, omitted ...audit.Stage) func(*testing.T, *world) {
	return func(_ *testing.T, w *world) {
		w.config.AuditPolicyRuleEvaluator = policy.NewFakePolicyRuleEvaluator(l, omitted)
	}
}
