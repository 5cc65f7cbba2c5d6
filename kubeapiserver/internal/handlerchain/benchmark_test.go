package handlerchain

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"k8s.io/apimachinery/pkg/util/sets"
	genericfilters "k8s.io/apiserver/pkg/endpoints/filters"
	genericapiserver "k8s.io/apiserver/pkg/server"
	serverfilters "k8s.io/apiserver/pkg/server/filters"
	"k8s.io/apiserver/pkg/util/compatibility"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/apiserver/pkg/util/flowcontrol"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/rest"
	aggregatorscheme "k8s.io/kube-aggregator/pkg/apiserver/scheme"
)

// chains are the reference's chain and ours with the settings of one server that
// is ready, and a handler at their end that costs next to nothing.
type chains struct{ reference, ours http.Handler }

// newChains makes both chains, with priority and fairness and without auditing.
// The server, without which they would wait for it to be ready, runs until the
// test ends.
func newChains(tb testing.TB, ids *identities, change ...func(*genericapiserver.Config)) chains {
	tb.Helper()
	c := genericapiserver.NewConfig(aggregatorscheme.Codecs)
	c.FeatureGate = utilfeature.DefaultFeatureGate
	c.EffectiveVersion = compatibility.DefaultBuildEffectiveVersion()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatalf("listening: %v", err)
	}
	c.SecureServing = &genericapiserver.SecureServingInfo{Listener: listener, Cert: ids.serving}
	c.ExternalAddress = listener.Addr().String()
	c.LoopbackClientConfig = &rest.Config{}
	c.RequestInfoResolver = genericapiserver.NewRequestInfoResolver(c)
	c.LongRunningFunc = serverfilters.BasicLongRunningRequestCheck(sets.NewString("watch", "proxy"), sets.NewString())
	c.Authorization.Authorizer = rules
	client := fake.NewClientset()
	c.FlowControl = flowcontrol.New(informers.NewSharedInformerFactory(client, 0), client.FlowcontrolV1(), 1)
	(&world{ids: ids, config: c}).authenticate(tb, false)

	for _, set := range change {
		set(c)
	}

	var installed, claimed atomic.Bool
	trivial := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header["X-Do"] != nil {
			installed.Store(genericfilters.NoMuxAndDiscoveryIncompleteKey(r.Context()))
			claimed.Store(calledBy(ourChain))
		}
		_, _ = w.Write(answered)
	})
	var made chains
	c.BuildHandlerChainFunc = func(_ http.Handler, c *genericapiserver.Config) http.Handler {
		made.reference = reference(trivial, c)
		own := *c
		made.ours = ours(trivial, &own)
		return made.ours
	}
	server, err := c.Complete(nil).New("test", genericapiserver.NewEmptyDelegate())
	if err != nil {
		tb.Fatalf("making the server: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.PrepareRun().RunWithContext(ctx) }()
	tb.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			tb.Errorf("running the server: %v", err)
		}
	})
	r := newRequest(ctx, tb, ids)
	r.Header.Set("X-Do", "tell")
	ready := func(h http.Handler) bool {
		h.ServeHTTP(&discard{header: http.Header{}}, r)
		return installed.Load()
	}
	if !until(ctx, func() bool { return ready(made.ours) }) || !ready(made.ours) || !claimed.Load() {
		tb.Fatal("requests do not go through the claimed chain")
	}
	if !ready(made.reference) || claimed.Load() {
		tb.Fatal("requests do not go through the reference's chain")
	}
	return made
}

// unsampled sets up tracing as a server does whose operator samples few requests.
func unsampled(c *genericapiserver.Config) {
	c.TracerProvider = sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(1e-9))))
}

var answered = []byte(`{"kind":"Widget","apiVersion":"g.example.com/v1"}`)

// newRequest is alice's GET of one object over HTTP/2; the connection is hers.
func newRequest(ctx context.Context, tb testing.TB, ids *identities) *http.Request {
	tb.Helper()
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, "https://server"+widget, nil)
	r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/2.0", 2, 0
	r.Header.Set("User-Agent", "client/1")
	r.Header.Set("Accept", "application/json")
	r.TLS = &tls.ConnectionState{
		HandshakeComplete: true, Version: tls.VersionTLS13,
		PeerCertificates: []*x509.Certificate{ids.shown["alice"].Leaf},
	}
	return r
}

// discard is a writer like that of a connection of HTTP/2, which costs nothing.
type discard struct {
	header http.Header
	status int
	bytes  int
}

func (w *discard) Header() http.Header         { return w.header }
func (w *discard) WriteHeader(status int)      { w.status = status }
func (w *discard) Flush()                      {}
func (w *discard) CloseNotify() <-chan bool    { return nil }
func (w *discard) Write(p []byte) (int, error) { w.bytes += len(p); return len(p), nil }

// work returns what sends the request through a chain once, with a writer that
// is used again.
func work(tb testing.TB, chain http.Handler, r *http.Request) func() {
	w := &discard{header: http.Header{}}
	return func() {
		clear(w.header)
		w.status, w.bytes = 0, 0
		chain.ServeHTTP(w, r)
		if (w.status != 0 && w.status != http.StatusOK) || w.bytes != len(answered) {
			tb.Fatalf("status %d and %d bytes", w.status, w.bytes)
		}
	}
}

func BenchmarkGet(b *testing.B) {
	ids := newIdentities(b)
	c, traced := newChains(b, ids), newChains(b, ids, unsampled)
	for name, chain := range map[string]http.Handler{
		"reference": c.reference, "ours": c.ours,
		"reference, traces that are not sampled": traced.reference, "ours, traces that are not sampled": traced.ours,
	} {
		b.Run(name, func(b *testing.B) {
			do := work(b, chain, newRequest(b.Context(), b, ids))
			b.ReportAllocs()
			for b.Loop() {
				do()
			}
		})
	}
}
