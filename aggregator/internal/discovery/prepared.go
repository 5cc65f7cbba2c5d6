package discovery

import (
	"maps"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	apidiscoveryv2beta1 "k8s.io/api/apidiscovery/v2beta1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	auditinternal "k8s.io/apiserver/pkg/apis/audit"
	"k8s.io/apiserver/pkg/audit"
	"k8s.io/apiserver/pkg/endpoints/discovery/aggregated"
	"k8s.io/apiserver/pkg/endpoints/handlers/negotiation"
	"k8s.io/apiserver/pkg/endpoints/metrics"
	"k8s.io/apiserver/pkg/endpoints/request"
	genericfeatures "k8s.io/apiserver/pkg/features"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
)

// maxPrepared bounds, in bytes, the bodies kept of one handler, all variants
// together. What does not fit is encoded for each request.
const maxPrepared = 32 << 20

// variant is all of a request that a discovery document's bytes depend on.
type variant struct {
	mediaType string
	// version is that of the aggregated document asked for, empty for a plain one.
	version      string
	pretty, gzip bool
}

// variantOf is false when nothing acceptable can be served, or when the whole
// object goes into the audit log, for which it has to be encoded anyway.
func variantOf(r *http.Request, codecs runtime.NegotiatedSerializer, allowed negotiation.EndpointRestrictions) (variant, bool) {
	logged := audit.AuditContextFrom(r.Context())
	if logged != nil && !logged.GetEventLevel().Less(auditinternal.LevelRequestResponse) {
		return variant{}, false
	}
	options, info, err := negotiation.NegotiateOutputMediaType(r, codecs, allowed)
	if err != nil {
		return variant{}, false
	}
	v := variant{
		mediaType: info.MediaType,
		pretty:    info.PrettySerializer != nil && info.Serializer == info.PrettySerializer,
		gzip:      acceptsGzip(r),
	}
	if options.Convert != nil {
		v.version = options.Convert.Version
	}
	return v, true
}

// acceptsGzip is how the encoders of k8s.io/apiserver decide.
func acceptsGzip(r *http.Request) bool {
	accepted := r.Header.Get("Accept-Encoding")
	if accepted == "" || !utilfeature.DefaultFeatureGate.Enabled(genericfeatures.APIResponseCompression) {
		return false
	}
	for coding := range strings.SplitSeq(accepted, ",") {
		if strings.TrimSpace(coding) == "gzip" {
			return true
		}
	}
	return false
}

// reply is what a handler wrote. One that is kept is never changed.
type reply struct {
	code   int
	header http.Header
	body   []byte
}

// send writes the reply. Its headers take the place of those that are there
// already, with copies of its own.
func (a *reply) send(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	for name, values := range a.header {
		header[name] = append([]string(nil), values...)
	}
	request.TrackSerializeResponseObjectLatency(r.Context(), func() {
		if a.code != 0 {
			w.WriteHeader(a.code)
		}
		if len(a.body) > 0 {
			_, _ = w.Write(a.body) // the client may be gone
		}
	})
}

// answers are those to one state of the documents. Once published, a value is
// not changed.
type answers[State comparable] struct {
	state State
	of    map[variant]*reply
	size  int
}

// shelf keeps the answers to the newest state that was asked for.
type shelf[State comparable] struct {
	limit   int // bytes of bodies
	mu      sync.Mutex
	current atomic.Pointer[answers[State]]
}

// get returns nil when there is no answer, and the state that it belongs to.
func (s *shelf[State]) get(v variant) (*reply, State) {
	if now := s.current.Load(); now != nil {
		return now.of[v], now.state
	}
	var none State
	return nil, none
}

func (s *shelf[State]) put(state State, v variant, a *reply) {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := &answers[State]{state: state, of: map[variant]*reply{}}
	if old := s.current.Load(); old != nil && old.state == state {
		maps.Copy(next.of, old.of)
		next.size = old.size
	}
	if _, found := next.of[v]; !found {
		if next.size += len(a.body); next.size <= s.limit {
			next.of[v] = a
		} else {
			next.size -= len(a.body)
		}
	}
	s.current.Store(next)
}

// prepared stands before a handler of aggregated documents. For each request it
// asks the handler, in process, whether the document still has the ETag of the
// bytes at hand; only when it has not is it encoded.
type prepared struct {
	handler http.Handler
	codecs  serializer.CodecFactory
	kept    shelf[string] // by ETag, with its quotes
}

func newPrepared(handler http.Handler) *prepared {
	scheme := runtime.NewScheme()
	utilruntime.Must(apidiscoveryv2.AddToScheme(scheme))
	utilruntime.Must(apidiscoveryv2beta1.AddToScheme(scheme)) // under an older emulated version
	return &prepared{
		handler: handler,
		codecs:  codecsFor(scheme),
		kept:    shelf[string]{limit: maxPrepared},
	}
}

func (p *prepared) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	v, ok := variantOf(r, p.codecs, aggregated.DiscoveryEndpointRestrictions)
	if !ok {
		p.handler.ServeHTTP(w, r)
		return
	}
	known, etag := p.kept.get(v)
	q := question{wanted: r.Header.Get("If-None-Match"), handler: p.handler}
	asking := r
	if known != nil && q.wanted != etag {
		q.stand = true
		asking = conditional(r, etag)
	}
	switch q.ask(asking) {
	case stillKnown:
		served := func(w http.ResponseWriter, r *http.Request) { known.send(w, r) }
		metrics.InstrumentHandlerFunc(request.MethodGet, "", "", "", "apis", "", metrics.APIServerComponent, false, "", served)(w, r)
	case clientKnows:
		p.handler.ServeHTTP(w, r) // answers 304
	case answered:
		if tag := q.got.header.Get("Etag"); q.got.code == http.StatusOK && tag != "" {
			p.kept.put(tag, v, &q.got)
		}
		q.got.send(w, r)
	}
}

// conditional is r asking for what is not etag.
func conditional(r *http.Request, etag string) *http.Request {
	out := *r
	out.Header = maps.Clone(r.Header)
	out.Header["If-None-Match"] = []string{etag}
	return &out
}

// verdict is how a question ended.
type verdict int

const (
	answered    verdict = iota // got is the answer, and the handler counted it
	stillKnown                 // the bytes at hand stand; not counted
	clientKnows                // the client has the document; not counted
)

// question records a handler's answer. An answer that is not what the client
// will get is cut short by a panic, before the handler counts it in the
// metrics: a handler counts when it returns, and has no other way out.
type question struct {
	handler http.Handler
	// wanted is the client's own If-None-Match.
	wanted string
	// stand makes 304 mean that the bytes at hand stand.
	stand bool
	got   reply
}

// cut is what a question panics with.
type cut struct{ verdict verdict }

func (q *question) ask(r *http.Request) (end verdict) {
	q.got.header = make(http.Header, 5)
	defer func() {
		if thrown := recover(); thrown != nil {
			c, own := thrown.(*cut)
			if !own {
				panic(thrown)
			}
			end = c.verdict
		}
	}()
	q.handler.ServeHTTP(q, r)
	return answered
}

var (
	cutStillKnown  = &cut{stillKnown}
	cutClientKnows = &cut{clientKnows}
)

func (q *question) Header() http.Header { return q.got.header }

func (q *question) WriteHeader(code int) {
	if q.got.code != 0 {
		return
	}
	if code == http.StatusNotModified && q.stand {
		panic(cutStillKnown)
	}
	if code == http.StatusOK && q.wanted != "" && q.got.header.Get("Etag") == q.wanted {
		panic(cutClientKnows)
	}
	q.got.code = code
}

func (q *question) Write(p []byte) (int, error) {
	q.WriteHeader(http.StatusOK)
	if q.got.body == nil {
		q.got.body = make([]byte, 0, len(p))
	}
	q.got.body = append(q.got.body, p...)
	return len(p), nil
}
