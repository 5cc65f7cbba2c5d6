package diagnosis

import (
	"errors"
	"slices"
	"time"

	"github.com/annex-api/annex/apis/aggregation/v1alpha1"
)

func checkWatchList(l *look) {
	annex := l.f.Cluster.Annex.Value || l.remote() != nil
	if l.refusesWatchLists() {
		return
	}
	severity := Error
	if annex { // which refuses such watches, so that clients list
		severity = Warning
	}
	if r := l.remote(); r != nil && r.WatchList == "Missing" {
		l.foundAs(severity, WatchListMissing, Certain, l.fields, "the API server's own watch with sendInitialEvents got no bookmark that ends the initial events; it refuses such watches, and clients list")
		return
	}
	w, ok := l.a.WatchList.Get()
	if !ok {
		if l.remote() == nil && !l.failing() {
			need(l, "a watch with sendInitialEvents", l.a.WatchList)
		}
		return
	}
	if w.Failure != "" && !w.Bookmark {
		l.blind("a watch with sendInitialEvents", errors.New(w.Failure))
		return
	}
	if w.Code == 200 && !w.Bookmark && w.Waited > 0 {
		l.foundAs(severity, WatchListMissing, Certain, l.fields, "a watch of %s with sendInitialEvents got %s in %s, and no bookmark that ends the initial events",
			w.Resource, plural(w.Events, "event"), w.Waited.Round(100*time.Millisecond))
	}
}

// refusesWatchLists says that somebody has told Annex to refuse such watches: what the server lacks is
// known, and hurts nobody.
func (l *look) refusesWatchLists() bool {
	annex := l.f.Cluster.Annex.Value || l.remote() != nil
	return annex && l.object != nil && l.object.Annotations["aggregation.annex.dev/watch-list"] == "refuse"
}

func checkOpenAPI(l *look) {
	x := l.fields
	if l.object == nil {
		return
	}
	for _, d := range l.f.Cluster.OpenAPIV2.Value.Dangling {
		if slices.Contains(d.Groups, l.object.Spec.Group) {
			l.found(OpenAPIBroken, Certain, x, "definition %s of group %s in /openapi/v2 refers to %s, which is not there", d.From, l.object.Spec.Group, d.To)
			break
		}
	}
	r := l.remote()
	if r != nil {
		problem := r.OpenAPIV2.Problem
		if i := slices.IndexFunc(r.Faults, func(f v1alpha1.Fault) bool { return f.Reason == "OpenAPIBroken" }); i >= 0 {
			problem = "" // this is it
			if !l.has(OpenAPIBroken) {
				l.foundAs(Warning, OpenAPIBroken, Certain, x, "Annex says: %s", r.Faults[i].Message)
			}
		}
		for _, d := range []struct {
			name    string
			problem string
			stale   bool
		}{
			{"OpenAPI v2", problem, r.OpenAPIV2.Freshness == v1alpha1.Stale},
			{"OpenAPI v3", r.OpenAPIV3.Problem, r.OpenAPIV3.Freshness == v1alpha1.Stale},
		} {
			switch {
			case d.problem == "":
			case d.stale:
				l.found(OpenAPIStale, Certain, x, "%s is that of an earlier download: %s", d.name, d.problem)
			default:
				l.found(OpenAPIFailed, Certain, x, "there is no %s: %s", d.name, d.problem)
			}
		}
	}
	if l.failing() {
		return
	}
	// Where the server has a document the API server is about to fetch it.
	has := slices.ContainsFunc(l.a.Endpoints.Value, func(e Endpoint) bool {
		return slices.ContainsFunc([]Attempt{e.Forwarded.Value, e.Direct.Value}, func(a Attempt) bool { return a.OpenAPIV2 != nil && a.OpenAPIV2.Code == 200 })
	})
	if l.a.OpenAPIV3.Value.Code == 404 && !has {
		l.found(OpenAPIMissing, Certain, x, "GET %s is answered 404", l.a.OpenAPIV3.Value.Path)
	}
	for _, e := range l.a.Endpoints.Value {
		for _, a := range []Attempt{e.Forwarded.Value, e.Proxied.Value} {
			if a.OpenAPIV2 != nil && a.OpenAPIV2.Code == 404 {
				l.found(OpenAPIMissing, Certain, x, "endpoint %s answers 404 to GET /openapi/v2", e.Address)
			}
		}
	}
	// It asks again every minute or so, and says so each time.
	if h := l.loggedByServer("loading openapi spec", "failed"); h.text != "" {
		l.foundInLog(h, OpenAPIMissing, Likely, x, "the API server finds no OpenAPI there%s", quoted(h.text))
	}
}
