package handlerchain

import (
	"context"
	"errors"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/apis/audit"
	"k8s.io/apiserver/pkg/audit/policy"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/authenticatorfactory"
	"k8s.io/apiserver/pkg/authentication/group"
	"k8s.io/apiserver/pkg/authentication/request/anonymous"
	"k8s.io/apiserver/pkg/authentication/request/bearertoken"
	"k8s.io/apiserver/pkg/authentication/request/headerrequest"
	"k8s.io/apiserver/pkg/authentication/request/union"
	"k8s.io/apiserver/pkg/authentication/request/websocket"
	"k8s.io/apiserver/pkg/authentication/request/x509"
	tokencache "k8s.io/apiserver/pkg/authentication/token/cache"
	"k8s.io/apiserver/pkg/authentication/token/tokenfile"
	"k8s.io/apiserver/pkg/authentication/user"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"
	genericfilters "k8s.io/apiserver/pkg/server/filters"
	"k8s.io/apiserver/pkg/util/compatibility"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/client-go/rest"
	aggregatorscheme "k8s.io/kube-aggregator/pkg/apiserver/scheme"
)

// chain builds a handler chain around the innermost handler.
type chain func(http.Handler, *genericapiserver.Config) http.Handler

// world is one chain, served over TLS, with all that it has effects on.
type world struct {
	config *genericapiserver.Config
	inner  *inner
	sink   *sink
	waits  *waits
	spans  *tracetest.InMemoryExporter
	ids    *identities
	// broken makes parts refuse that a setting breaks.
	broken atomic.Bool

	server  *genericapiserver.GenericAPIServer
	address string
	active  atomic.Int64
	// installed, if not nil, tells the server that all paths are there.
	installed chan struct{}
	stop      context.CancelFunc
	ended     chan struct{}
}

// newWorld serves the chain that build makes with settings that change alters.
func newWorld(t *testing.T, ids *identities, build chain, change func(*testing.T, *world)) *world {
	t.Helper()
	w := &world{inner: newInner(), sink: &sink{full: new(atomic.Bool)}, waits: &waits{}, spans: tracetest.NewInMemoryExporter(), ids: ids}
	w.config = genericapiserver.NewConfig(aggregatorscheme.Codecs)
	c := w.config
	c.FeatureGate = utilfeature.DefaultFeatureGate
	c.RequestInfoResolver = genericapiserver.NewRequestInfoResolver(c)
	c.LongRunningFunc = genericfilters.BasicLongRunningRequestCheck(
		sets.NewString("watch", "proxy"), sets.NewString("attach", "exec", "proxy", "log", "portforward"))
	c.SecureServing = &genericapiserver.SecureServingInfo{}
	c.Authorization.Authorizer = rules
	c.AuditBackend = w.sink
	c.AuditPolicyRuleEvaluator = policy.NewPolicyRuleEvaluator(auditPolicy())
	w.authenticate(t, true)
	if change != nil {
		change(t, w)
	}
	c.BuildHandlerChainFunc = func(_ http.Handler, c *genericapiserver.Config) http.Handler {
		handler := build(w.inner, c)
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			w.active.Add(1)
			defer w.active.Add(-1)
			handler.ServeHTTP(rw, r)
		})
	}
	w.serve(t)
	return w
}

// serve runs a real API server around the chain, until the test ends.
func (w *world) serve(t *testing.T) {
	t.Helper()
	c := w.config
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("listening: %v", err)
	}
	w.address = listener.Addr().String()
	c.SecureServing.Listener, c.SecureServing.Cert = listener, w.ids.serving
	c.ExternalAddress = w.address
	c.EffectiveVersion = compatibility.DefaultBuildEffectiveVersion()
	c.LoopbackClientConfig = &rest.Config{}
	w.server, err = c.Complete(nil).New("test", genericapiserver.NewEmptyDelegate())
	if err != nil {
		t.Fatalf("making the server: %v", err)
	}
	if w.installed != nil {
		if err := w.server.RegisterMuxAndDiscoveryCompleteSignal("test", w.installed); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	w.stop, w.ended = cancel, make(chan struct{})
	go func() {
		defer close(w.ended)
		if err := w.server.PrepareRun().RunWithContext(ctx); err != nil {
			t.Errorf("serving: %v", err)
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-w.ended
	})
}

// warm sends requests until the server knows that all its paths are installed.
func (w *world) warm(t *testing.T) {
	t.Helper()
	installed := until(t.Context(), func() bool {
		w.inner.reset()
		conn := dial(t, w.address, "http/1.1", w.ids.shown["admin"])
		defer conn.close()
		conn.exchange(call{target: widget}.request(t.Context(), t))
		all := w.inner.all()
		return len(all) == 1 && all[0].MuxComplete
	})
	if !installed {
		t.Fatal("the server does not say that all is installed")
	}
}

// authenticate sets the authenticators in kube-apiserver's order.
func (w *world) authenticate(t testing.TB, anyone bool) {
	t.Helper()
	clients, err := dynamiccertificates.NewStaticCAContent("clients", w.ids.clients.PEM)
	if err != nil {
		t.Fatal(err)
	}
	proxies, err := dynamiccertificates.NewStaticCAContent("proxies", w.ids.proxies.PEM)
	if err != nil {
		t.Fatal(err)
	}
	headers := &authenticatorfactory.RequestHeaderConfig{
		UsernameHeaders:     headerrequest.StaticStringSlice{"X-Remote-User", "X-Custom-User"},
		UIDHeaders:          headerrequest.StaticStringSlice{"X-Remote-Uid"},
		GroupHeaders:        headerrequest.StaticStringSlice{"X-Remote-Group", "X-Custom-Group"},
		ExtraHeaderPrefixes: headerrequest.StaticStringSlice{"X-Remote-Extra-", "X-Custom-Extra-"},
		CAContentProvider:   proxies,
		AllowedClientNames:  headerrequest.StaticStringSlice{"front-proxy"},
	}
	a := &w.config.Authentication
	a.RequestHeaderConfig = headers
	tokens := tokencache.New(authenticator.WrapAudienceAgnosticToken(a.APIAudiences, tokenfile.New(map[string]*user.DefaultInfo{
		"token-of-bob":  {Name: "bob", UID: "uid-bob", Groups: []string{"operators"}, Extra: map[string][]string{"k": {"v", "w"}}},
		"token-of-root": {Name: "root", Groups: []string{user.SystemPrivilegedGroup}},
	})), true, 10*time.Second, 0)
	proven := union.New(
		authenticator.WrapAudienceAgnosticRequest(a.APIAudiences, headerrequest.NewDynamicVerifyOptionsSecure(
			proxies.VerifyOptions, headers.AllowedClientNames, headers.UsernameHeaders, headers.UIDHeaders,
			headers.GroupHeaders, headers.ExtraHeaderPrefixes)),
		x509.NewDynamic(clients.VerifyOptions, x509.CommonNameUserConversion),
		bearertoken.New(tokens), websocket.NewProtocolAuthenticator(tokens))
	a.Authenticator = group.NewAuthenticatedGroupAdder(proven)
	if anyone {
		a.Authenticator = union.NewFailOnError(a.Authenticator, anonymous.NewAuthenticator([]apiserver.AnonymousAuthCondition{}))
	}
	w.config.SecureServing.ClientCA = clients
}

// trace records spans with the sampler.
func (w *world) trace(sampler sdktrace.Sampler) {
	w.config.TracerProvider = sdktrace.NewTracerProvider(sdktrace.WithSyncer(w.spans), sdktrace.WithSampler(sampler))
}

// idle waits until all handlers of the world have returned, those that the
// client no longer waits for too.
func (w *world) idle(t *testing.T) {
	t.Helper()
	if !until(t.Context(), func() bool { return w.active.Load() == 0 && w.inner.active.Load() == 0 }) {
		t.Fatal("a handler does not return")
	}
}

func auditPolicy() *audit.Policy {
	resources := func(level audit.Level, names ...string) audit.PolicyRule {
		return audit.PolicyRule{Level: level, Resources: []audit.GroupResources{{Group: "g.example.com", Resources: names}}}
	}
	received := resources(audit.LevelMetadata, "short")
	received.OmitStages = []audit.Stage{audit.StageRequestReceived, audit.StageResponseStarted}
	return &audit.Policy{Rules: []audit.PolicyRule{
		{Level: audit.LevelNone, NonResourceURLs: []string{"/healthz*"}},
		resources(audit.LevelNone, "unaudited"),
		resources(audit.LevelRequest, "secrets"),
		resources(audit.LevelRequestResponse, "configs"),
		received,
		{Level: audit.LevelMetadata},
	}}
}

// sink is an audit backend that keeps copies of the events.
type sink struct {
	mu     sync.Mutex
	events []*audit.Event
	// full makes it refuse all events.
	full *atomic.Bool
}

func (s *sink) ProcessEvents(events ...*audit.Event) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range events {
		s.events = append(s.events, e.DeepCopy())
	}
	return !s.full.Load()
}

func (s *sink) Run(<-chan struct{}) error { return nil }
func (s *sink) Shutdown()                 {}
func (s *sink) String() string            { return "sink" }

func (s *sink) reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = nil
}

func (s *sink) all() []*audit.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.events)
}

// refusing is an authenticator whose answer is an error once it is broken.
type refusing struct {
	next   authenticator.Request
	broken *atomic.Bool
}

// AuthenticateRequest implements authenticator.Request.
func (a refusing) AuthenticateRequest(r *http.Request) (*authenticator.Response, bool, error) {
	if a.broken.Load() {
		return nil, false, errors.New("no authenticator answers")
	}
	return a.next.AuthenticateRequest(r)
}
