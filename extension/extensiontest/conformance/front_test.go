package conformance_test

import (
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/annex-api/annex/extension/extensiontest/conformance"
	"github.com/annex-api/annex/extension/extensiontest/internal/broken"
)

// front puts a handler before the server without a fault. It answers what it wants to; next is the
// server.
func front(t *testing.T, alter func(w http.ResponseWriter, r *http.Request, next http.Handler)) conformance.Target {
	t.Helper()
	target := broken.Start(t, broken.None).Target()
	to, err := url.Parse(target.Config.Host)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	next := &httputil.ReverseProxy{Transport: transport, FlushInterval: -1, Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) }}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { alter(w, r, next) }))
	t.Cleanup(func() {
		server.Close()
		transport.CloseIdleConnections()
	})
	target.Config.Host, target.Second.Host = server.URL, server.URL
	return target
}

// ofObjects says whether a request is for the kind's objects.
func ofObjects(r *http.Request) bool { return strings.Contains(r.URL.Path, "/gizmos") }

func without(r *http.Request, parameters ...string) *http.Request {
	r = r.Clone(r.Context())
	q := r.URL.Query()
	for _, p := range parameters {
		q.Del(p)
	}
	r.URL.RawQuery = q.Encode()
	return r
}

// A server may have no pages, and then need not look at a continue token; one that has pages must, or its
// client takes the first page for the next.
func TestContinueTokensAreForServersWithPages(t *testing.T) {
	for _, c := range []struct {
		name    string
		ignored []string
		want    conformance.Outcome
	}{
		{"all is looked at", nil, conformance.Passed},
		{"there are no pages", []string{"limit", "continue"}, conformance.Passed},
		{"there are pages and tokens are not looked at", []string{"continue"}, conformance.Failed},
	} {
		t.Run(c.name, func(t *testing.T) {
			target := front(t, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
				if r.Method == http.MethodGet && ofObjects(r) {
					r = without(r, c.ignored...)
				}
				next.ServeHTTP(w, r)
			})
			target.Only = []string{"list/continue"}
			s := conformance.Run(t.Context(), target, nil)
			if s.Err != nil || len(s.Results) != 1 || s.Results[0].Outcome != c.want {
				t.Errorf("error %v, results %v; want %v", s.Err, s.Results, c.want)
			}
		})
	}
}

// A resource in discovery that no path leads to is found.
func TestResourceNamesWithoutAPathAreFound(t *testing.T) {
	target := front(t, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if r.URL.Path != "/apis/broken.example.com/v1" {
			next.ServeHTTP(w, r)
			return
		}
		answer := httptest.NewRecorder()
		next.ServeHTTP(answer, r)
		var list map[string]any
		if err := json.Unmarshal(answer.Body.Bytes(), &list); err != nil {
			t.Errorf("discovery: %v", err)
		}
		resources, _ := list["resources"].([]any)
		list["resources"] = append(resources, map[string]any{"name": "/metrics", "kind": "Metric", "verbs": []any{"get"}})
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(list); err != nil {
			t.Errorf("discovery: %v", err)
		}
	})
	target.Only = []string{"discovery/legacy"}
	s := conformance.Run(t.Context(), target, nil)
	const want = `"/metrics" is no name of a resource, nor of a subresource: no path leads to it`
	if failed := s.Failed(); len(failed) != 1 || len(failed[0].Failures) != 1 || failed[0].Failures[0].Message != want {
		t.Errorf("error %v, failed %v; want %s", s.Err, failed, want)
	}
}

// A server that deletes a while after it has said so is not asked without a pause.
func TestCleaningIsPatient(t *testing.T) {
	const slow = 700 * time.Millisecond
	var mu sync.Mutex
	first := map[string]time.Time{}
	asked := 0
	target := front(t, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if r.Method == http.MethodDelete && ofObjects(r) {
			mu.Lock()
			if first[r.URL.Path].IsZero() {
				first[r.URL.Path] = time.Now()
			}
			asked++
			early := time.Since(first[r.URL.Path]) < slow
			mu.Unlock()
			if early {
				w.Header().Set("Content-Type", "application/json")
				_, _ = io.WriteString(w, `{"kind":"Status","apiVersion":"v1","status":"Success"}`)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
	target.Only = []string{"ready/writes"} // it makes one object, and so does the trial of the sample
	s := conformance.Run(t.Context(), target, nil)
	if s.Err != nil || len(s.Left) > 0 || s.Count(conformance.Passed) != 1 {
		t.Errorf("error %v, left %v, results %v", s.Err, s.Left, s.Results)
	}
	if most := 2 * 10; asked > most {
		t.Errorf("two objects were deleted by %d requests, want at most %d", asked, most)
	}
}

// passedInSilence are the checks that pass where reads of objects show nothing: those that ask for other
// documents, those about refusals, and those about what must not be shown.
var passedInSilence = []string{
	"discovery/aggregated", "discovery/legacy", "http/etag", "openapi/comments", "openapi/v2", "openapi/v3",
	"authz/anonymous", "ready/endpoint", "ready/writes", "stream/long", "tls/bundle-restored", "tls/registration", "tls/sans",
	// What a write is answered says it.
	"admission/policy", "create/exists", "create/generate-name", "create/namespace-mismatch", "create/server-fields",
	"delete/propagation", "errors/typed", "media/body-unsupported", "requests/huge",
	"apply/conflict", "apply/create", "apply/force", "apply/own", "apply/remove",
	"generation/labels", "generation/spec", "generation/status", "status/isolated",
	"patch/conflict", "patch/json", "patch/merge", "patch/strategic",
}

// A server whose reads are all empty, 200 without an object, is not praised for it: what it passes is
// what has nothing to do with what is read.
func TestEmptyAnswersPassNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("it makes all checks, which takes a while; the long form of the tests makes it")
	}
	target := front(t, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		switch {
		case r.Method != http.MethodGet || !ofObjects(r) || strings.HasSuffix(r.URL.Path, "/log"):
			next.ServeHTTP(w, r)
		case r.URL.Query().Get("watch") == "true":
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusOK) // and it ends
		default:
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"kind":"GizmoList","apiVersion":"broken.example.com/v1","metadata":{"resourceVersion":"1000000"},"items":[]}`)
		}
	})
	target.Slow, target.Recovery = true, time.Second
	var mu sync.Mutex
	var passed []string
	var runs sync.WaitGroup
	slots := make(chan struct{}, atOnce)
	for _, check := range conformance.Checks() {
		if slices.Contains(long, check.ID) || check.ID == "namespace/deletion" || check.ID == "storage/down" {
			continue // they wait long for what does not come
		}
		target := target
		target.Name, target.Only = "annex-"+strings.ReplaceAll(check.ID, "/", "-"), []string{check.ID}
		runs.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			s := conformance.Run(t.Context(), target, nil)
			mu.Lock()
			defer mu.Unlock()
			if s.Err != nil {
				t.Errorf("%s: %v", check.ID, s.Err)
			}
			if s.Count(conformance.Passed) > 0 {
				passed = append(passed, check.ID)
			}
		})
	}
	runs.Wait()
	slices.Sort(passed)
	if want := slices.Sorted(slices.Values(passedInSilence)); !slices.Equal(passed, want) {
		t.Errorf("passed %q,\nwant %q", passed, want)
	}
}

// A selectable field that is not looked at is found, also where the kit may not change it.
func TestEverySelectableFieldIsTried(t *testing.T) {
	for _, c := range []struct {
		name    string
		ignored bool
		want    conformance.Outcome
	}{
		{"it is looked at", false, conformance.Passed},
		{"it is not", true, conformance.Failed},
	} {
		t.Run(c.name, func(t *testing.T) {
			target := front(t, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
				if c.ignored && ofObjects(r) && strings.Contains(r.URL.Query().Get("fieldSelector"), "spec.color") {
					r = without(r, "fieldSelector")
				}
				next.ServeHTTP(w, r)
			})
			target.Only, target.Change = []string{"watch/field"}, []string{"spec", "size"}
			s := conformance.Run(t.Context(), target, nil)
			if s.Err != nil || len(s.Results) != 1 || s.Results[0].Outcome != c.want {
				t.Errorf("error %v, results %v; want %v", s.Err, s.Results, c.want)
			}
		})
	}
}

// A body that stops has no end for its own client over HTTP/1.1: the check does not wait for it.
func TestStalledBodiesNeedHTTP2(t *testing.T) {
	target := front(t, func(w http.ResponseWriter, r *http.Request, next http.Handler) { next.ServeHTTP(w, r) })
	target.Only, target.Slow = []string{"requests/slow-body"}, true
	s := conformance.Run(t.Context(), target, nil)
	if s.Err != nil || len(s.Results) != 1 || s.Results[0].Outcome != conformance.NotApplicable || !strings.Contains(s.Results[0].Reason, "HTTP/1.1") {
		t.Errorf("error %v, results %v; want that it does not apply", s.Err, s.Results)
	}
}
