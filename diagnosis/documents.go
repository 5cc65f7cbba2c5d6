package diagnosis

import (
	"slices"
	"strings"
	"time"
)

func checkWatchList(l *look) {
	annex := l.f.Cluster.Annex.Value || l.remote() != nil
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
	if w.Code == 200 && !w.Bookmark && w.Failure == "" && w.Waited > 0 {
		l.foundAs(severity, WatchListMissing, Certain, l.fields, "a watch of %s with sendInitialEvents got %s in %s, and no bookmark that ends the initial events",
			w.Resource, plural(w.Events, "event"), w.Waited.Round(100*time.Millisecond))
	}
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
		for _, d := range []struct {
			name    string
			problem string
			stale   bool
		}{
			{"OpenAPI v2", r.OpenAPIV2.Problem, r.OpenAPIV2.Freshness == "Stale"},
			{"OpenAPI v3", r.OpenAPIV3.Problem, r.OpenAPIV3.Freshness == "Stale"},
		} {
			switch {
			case d.problem == "" && !d.stale:
			case d.stale && unreached(d.problem):
				l.found(OpenAPIStale, Certain, x, "the last download of %s failed: %s", d.name, d.problem)
			case absent(d.problem):
				l.found(OpenAPIMissing, Certain, x, "%s: %s", d.name, d.problem)
			default:
				l.found(OpenAPIQuarantined, Certain, x, "%s is not used: %s", d.name, d.problem)
			}
		}
	}
	if l.failing() {
		return
	}
	if l.a.OpenAPIV3.Value.Code == 404 {
		l.found(OpenAPIMissing, Certain, x, "GET %s is answered 404", l.a.OpenAPIV3.Value.Path)
	}
	for _, e := range l.a.Endpoints.Value {
		for _, a := range []Attempt{e.Forwarded.Value, e.Proxied.Value} {
			if a.OpenAPIV2 != nil && a.OpenAPIV2.Code == 404 {
				l.found(OpenAPIMissing, Certain, x, "endpoint %s answers 404 to GET /openapi/v2", e.Address)
			}
		}
	}
	for _, line := range slices.Backward(l.a.APIServerLog.Value) {
		if strings.Contains(line, "loading OpenAPI spec") && strings.Contains(line, "failed") {
			l.found(OpenAPIMissing, Likely, x, "the API server finds no OpenAPI there%s", quoted(line))
			return
		}
	}
}

// unreached says that a problem is that of a download, not of what was downloaded.
func unreached(problem string) bool {
	_, ok := tell(problem)
	return ok || problem == "" || strings.Contains(problem, "status 5") || strings.Contains(problem, "unavailable")
}

// absent says that there is no such document.
func absent(problem string) bool {
	return strings.Contains(problem, "404") || strings.Contains(strings.ToLower(problem), "not found")
}
