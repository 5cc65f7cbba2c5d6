// Package openapi merges and serves the OpenAPI documents of local handlers
// and of extension servers at /openapi/v2 and /openapi/v3.
//
// Documents of extension servers come as bytes in a snapshot; nothing here
// touches the network. All work is done when a request asks for it.
package openapi

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/NYTimes/gziphandler"
	"k8s.io/apiserver/pkg/endpoints/metrics"
	"k8s.io/klog/v2"
	"k8s.io/kube-openapi/pkg/aggregator"
	"k8s.io/kube-openapi/pkg/handler3"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"github.com/annex-api/annex/aggregator/internal/catalog"
	"github.com/annex-api/annex/aggregator/internal/pace"
)

const (
	// localTimeout bounds one in-process request to a local handler.
	localTimeout = time.Minute
	// rootInterval is the least time between two looks at a local handler's
	// list of OpenAPI v3 documents.
	rootInterval = time.Second
)

// Config is what a Service is made from.
type Config struct {
	// Locals serve /openapi/v2, /openapi/v3 and /openapi/v3/<key> in process.
	// Earlier ones win a conflict. One that serves only a part, or nothing, is
	// left out where it answers 404.
	Locals []http.Handler
}

// Service serves the merged documents. Its methods may be called at any time
// from any goroutine.
type Service struct {
	locals   []*local
	requests *requests
	now      func() time.Time
	logf     func(format string, args ...any)
	turns    pace.Turns // of conversions

	// syncing keeps one Sync at a time; readers take current alone.
	syncing sync.Mutex
	current atomic.Pointer[remotes]

	v2      merger
	v3      rootCache
	serveV2 http.Handler
	gzipped *gzipCache

	instrumentedRoot http.HandlerFunc
	instrumentedKey  http.HandlerFunc
}

type local struct {
	// compressing is the handler, with what it does not compress itself compressed.
	compressing http.Handler
	v2          *poll[*spec.Swagger]
	v3          *poll[handler3.OpenAPIV3Discovery]
}

// New makes a Service that knows no extension servers until Sync is called.
func New(c Config) *Service {
	return newService(c, time.Now, klog.Warningf)
}

func newService(c Config, now func() time.Time, logf func(string, ...any)) *Service {
	s := &Service{
		requests: &requests{cancel: map[*flight]context.CancelFunc{}},
		now:      now, logf: logf, gzipped: newGzipCache(maxGzipped), turns: pace.NewTurns(),
	}
	s.current.Store(&remotes{})
	for i, h := range c.Locals {
		s.locals = append(s.locals, &local{
			compressing: gziphandler.GzipHandler(h),
			v2:          newPoll(h, i, "/openapi/v2", 0, s, parseV2),
			v3:          newPoll(h, i, "/openapi/v3", rootInterval, s, parseV3Root),
		})
	}
	s.v2 = merger{
		inputs:   s.v2Inputs,
		merge:    aggregator.MergeSpecsIgnorePathConflictRenamingDefinitionsAndParameters,
		now:      now,
		logf:     logf,
		turns:    s.turns,
		limit:    maxMergedTokens,
		reported: map[string]string{},
	}
	s.serveV2 = gziphandler.GzipHandler(http.HandlerFunc(s.serveMerged))
	s.instrumentedRoot = instrument("openapi/v3", s.serveRoot)
	s.instrumentedKey = instrument("openapi/v3/", s.serveKey)
	return s
}

// instrument counts requests under the labels that dashboards know; v2 is not
// counted there, so it is not here.
func instrument(subresource string, h http.HandlerFunc) http.HandlerFunc {
	return metrics.InstrumentHandlerFunc(http.MethodGet, "", "", "", subresource, "", "", false, "", h)
}

// Close ends the requests to local handlers that are under way, waits for them, and
// makes no more: what is known of local documents stays.
func (s *Service) Close() { s.requests.close() }

// Sync makes snap's documents those that are served from now on. It keeps
// what was worked out from documents whose ETag did not change. A nil snap is
// an empty one.
func (s *Service) Sync(snap *catalog.Snapshot) {
	s.syncing.Lock()
	defer s.syncing.Unlock()
	s.current.Store(s.newRemotes(snap))
}

// ServeV2 answers /openapi/v2: the merged document as JSON or protobuf.
func (s *Service) ServeV2(w http.ResponseWriter, r *http.Request) {
	polls := make([]starter, len(s.locals))
	for i, l := range s.locals {
		polls[i] = l.v2
	}
	if !await(r.Context(), polls) {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	s.gzipped.serve(w, r, s.serveV2)
}

// ServeV3 answers /openapi/v3, the list of documents, and /openapi/v3/<key>.
func (s *Service) ServeV3(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/openapi/v3" {
		s.instrumentedRoot(w, r)
		return
	}
	s.instrumentedKey(w, r)
}
