package discovery

import (
	"maps"
	"net/http"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	apidiscoveryv2beta1 "k8s.io/api/apidiscovery/v2beta1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/apiserver/pkg/endpoints/discovery/aggregated"
	"k8s.io/apiserver/pkg/endpoints/metrics"
	"k8s.io/apiserver/pkg/endpoints/request"
)

// cachingHandler stands before a handler of aggregated documents. For each request
// it asks the handler, in process, whether the document still has the ETag of the
// cached bytes; only when it has not is it encoded.
type cachingHandler struct {
	handler http.Handler
	codecs  serializer.CodecFactory
	cache   variantCache[string] // by ETag, with its quotes
}

func newCachingHandler(handler http.Handler) *cachingHandler {
	scheme := runtime.NewScheme()
	utilruntime.Must(apidiscoveryv2.AddToScheme(scheme))
	utilruntime.Must(apidiscoveryv2beta1.AddToScheme(scheme)) // under an older emulated version
	return &cachingHandler{
		handler: handler,
		codecs:  codecsFor(scheme),
		cache:   variantCache[string]{limit: maxCached},
	}
}

func (h *cachingHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	v, ok := variantOf(r, h.codecs, aggregated.DiscoveryEndpointRestrictions)
	if !ok {
		h.handler.ServeHTTP(w, r)
		return
	}
	cached, etag := h.cache.get(v)
	recording := recorder{clientETag: r.Header.Get("If-None-Match")}
	asking := r
	if cached != nil && recording.clientETag != etag {
		recording.conditional = true
		asking = ifNoneMatch(r, etag)
	}
	switch recording.run(h.handler, asking) {
	case cacheCurrent:
		served := func(w http.ResponseWriter, r *http.Request) { cached.send(w, r) }
		metrics.InstrumentHandlerFunc(request.MethodGet, "", "", "", "apis", "", metrics.APIServerComponent, false, "", served)(w, r)
	case clientCurrent:
		h.handler.ServeHTTP(w, r) // answers 304
	case answered:
		if tag := recording.reply.header.Get("Etag"); recording.reply.code == http.StatusOK && tag != "" {
			h.cache.put(tag, v, &recording.reply)
		}
		recording.reply.send(w, r)
	}
}

// ifNoneMatch is r asking for what is not etag.
func ifNoneMatch(r *http.Request, etag string) *http.Request {
	out := *r
	out.Header = maps.Clone(r.Header)
	out.Header["If-None-Match"] = []string{etag}
	return &out
}

// outcome is what a recorded handler has said.
type outcome int

const (
	answered      outcome = iota // reply is the answer, and the handler counted it
	cacheCurrent                 // the cached bytes are current; not counted
	clientCurrent                // the client has the document; not counted
)

// recorder records a handler's answer. One that is not what the client will get is
// aborted by a panic, before the handler counts it in the metrics: a handler counts
// when it returns, and has no other way out.
type recorder struct {
	// clientETag is the client's own If-None-Match.
	clientETag string
	// conditional makes 304 mean that the cached bytes are current.
	conditional bool
	reply       reply
}

// abort is what a recorder panics with.
type abort struct{ outcome outcome }

var (
	abortCacheCurrent  = &abort{cacheCurrent}
	abortClientCurrent = &abort{clientCurrent}
)

// run has the handler answer r and says how that ended.
func (c *recorder) run(handler http.Handler, r *http.Request) (end outcome) {
	c.reply.header = make(http.Header, 5)
	defer func() {
		if thrown := recover(); thrown != nil {
			a, own := thrown.(*abort)
			if !own {
				panic(thrown)
			}
			end = a.outcome
		}
	}()
	handler.ServeHTTP(c, r)
	return answered
}

func (c *recorder) Header() http.Header { return c.reply.header }

func (c *recorder) WriteHeader(code int) {
	if c.reply.code != 0 {
		return
	}
	if code == http.StatusNotModified && c.conditional {
		panic(abortCacheCurrent)
	}
	if code == http.StatusOK && c.clientETag != "" && c.reply.header.Get("Etag") == c.clientETag {
		panic(abortClientCurrent)
	}
	c.reply.code = code
}

func (c *recorder) Write(p []byte) (int, error) {
	c.WriteHeader(http.StatusOK)
	if c.reply.body == nil {
		c.reply.body = make([]byte, 0, len(p))
	}
	c.reply.body = append(c.reply.body, p...)
	return len(p), nil
}
