package discovery

import (
	"maps"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"

	"k8s.io/apimachinery/pkg/runtime"
	auditinternal "k8s.io/apiserver/pkg/apis/audit"
	"k8s.io/apiserver/pkg/audit"
	"k8s.io/apiserver/pkg/endpoints/handlers/negotiation"
	"k8s.io/apiserver/pkg/endpoints/request"
	genericfeatures "k8s.io/apiserver/pkg/features"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
)

// maxCached bounds, in bytes, the bodies kept of one handler, all variants
// together. What does not fit is encoded for each request.
const maxCached = 32 << 20

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

// acceptsGzip decides as the encoders of k8s.io/apiserver do.
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

// send writes the reply. Copies of its headers replace those of the same name.
func (p *reply) send(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	for name, values := range p.header {
		header[name] = append([]string(nil), values...)
	}
	request.TrackSerializeResponseObjectLatency(r.Context(), func() {
		if p.code != 0 {
			w.WriteHeader(p.code)
		}
		if len(p.body) > 0 {
			_, _ = w.Write(p.body) // the client may be gone
		}
	})
}

// variants are the replies to one state of the documents. Once published, a value
// is not changed.
type variants[State comparable] struct {
	state State
	of    map[variant]*reply
	size  int
}

// variantCache keeps the replies to the newest state that was asked for.
type variantCache[State comparable] struct {
	limit   int // bytes of bodies
	mu      sync.Mutex
	current atomic.Pointer[variants[State]]
}

// get returns nil when there is no reply, and the state that it belongs to.
func (c *variantCache[State]) get(v variant) (*reply, State) {
	if now := c.current.Load(); now != nil {
		return now.of[v], now.state
	}
	var none State
	return nil, none
}

func (c *variantCache[State]) put(state State, v variant, r *reply) {
	c.mu.Lock()
	defer c.mu.Unlock()
	next := &variants[State]{state: state, of: map[variant]*reply{}}
	if old := c.current.Load(); old != nil && old.state == state {
		maps.Copy(next.of, old.of)
		next.size = old.size
	}
	if _, found := next.of[v]; !found {
		if next.size += len(r.body); next.size <= c.limit {
			next.of[v] = r
		} else {
			next.size -= len(r.body)
		}
	}
	c.current.Store(next)
}
