package aggregator

import (
	"context"
	"net/http"
	"time"

	"github.com/annex-api/annex/aggregator/internal/catalog"
)

// decision says who answers a request of this path, by the snapshot of the moment
// in which it was made.
type decision struct {
	path     string
	snapshot *catalog.Snapshot
	route    catalog.Route
	// priority is what the host has told, if it has.
	priority    Priority
	prioritized bool
}

// decisionKey is where a layer keeps its decision in a request's context: a
// request may pass several layers.
type decisionKey struct{ layer *Aggregator }

// WithRoute decides who answers a request, and returns the request with the
// decision in its context. Claims and Handler go by it, whatever is registered or
// removed meanwhile: a request is not treated as one for an extension server here
// and as a local one there. A request that has a decision for its path is returned
// as it is.
//
// Call it where requests enter the host, if anything before Handler has to know.
func (a *Aggregator) WithRoute(r *http.Request) *http.Request {
	if a.decided(r.Context(), r.URL.Path) != nil {
		return r
	}
	return r.WithContext(context.WithValue(r.Context(), decisionKey{a}, a.decide(r.URL.Path)))
}

// Claims says whether an extension server answers the request of a context that
// WithRoute made, and the bound that its APIService sets for requests, zero where
// it sets none. Of any other context it says no. What changes a request's path after
// WithRoute changes its route too: the Handler then decides anew, Claims does not.
func (a *Aggregator) Claims(ctx context.Context) (timeout time.Duration, remote bool) {
	d, ok := ctx.Value(decisionKey{a}).(*decision)
	if !ok || d.route.Kind != catalog.Remote {
		return 0, false
	}
	return d.route.APIService.Settings.RequestTimeout, true
}

// Handler routes requests in front of local, the host's own handler, which
// gets every request that neither the layer nor an extension server answers.
// A nil local answers those with 404.
func (a *Aggregator) Handler(local http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d := a.decided(r.Context(), r.URL.Path)
		if d == nil {
			d = a.decide(r.URL.Path)
		}
		switch route := d.route; {
		case route.Kind == catalog.Remote:
			a.proxy.Serve(w, r, route.APIService, d.priorityOf(r.Context()))
		case route.Kind == catalog.GroupList:
			a.discovery.ServeGroupList(w, r, d.snapshot)
		case route.Kind == catalog.GroupVersions:
			a.discovery.ServeGroup(w, r, route.Group)
		case route.Kind == catalog.OpenAPIV2:
			a.openapi.ServeV2(w, r)
		case route.Kind == catalog.OpenAPIV3:
			a.openapi.ServeV3(w, r)
		case route.Kind == catalog.Index && a.config.LocalPaths != nil:
			a.serveIndex(w, d.snapshot)
		case local == nil:
			http.NotFound(w, r)
		default:
			local.ServeHTTP(w, r)
		}
	})
}

// decide loads the snapshot: the only place where a request does.
func (a *Aggregator) decide(path string) *decision {
	snapshot := a.snapshot.Load()
	return &decision{path: path, snapshot: snapshot, route: snapshot.Route(path)}
}

// decided is the decision for this path; nil where there is none, or where the
// path has become another one since.
func (a *Aggregator) decided(ctx context.Context, path string) *decision {
	if d, ok := ctx.Value(decisionKey{a}).(*decision); ok && d.path == path {
		return d
	}
	return nil
}
