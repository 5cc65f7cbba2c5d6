package aggregator

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints/request"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"github.com/annex-api/annex/aggregator/internal/backendtest"
)

// What is registered or removed after a request was decided does not change who
// answers it.
func TestARequestIsDecidedOnce(t *testing.T) {
	s := backendtest.Start(t, "api", &extension{gv: "a.example/v1", resource: "things"})
	remote := s.APIService("v1.a.example")
	remote.Annotations = map[string]string{"aggregation.annex.dev/request-timeout": "7s"}
	registered := state([]*apiregistrationv1.APIService{remote}, s)
	local := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
	r := run(t, Config{Local: local}, state(nil, s))
	handler := r.Handler(local)

	const path = "/apis/a.example/v1/things"
	enter := func() *http.Request {
		q := httptest.NewRequest(http.MethodGet, path, nil)
		return r.WithRoute(q.WithContext(request.WithUser(q.Context(), &user.DefaultInfo{Name: "alice"})))
	}
	answer := func(q *http.Request) int {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, q)
		return w.Code
	}
	claimed := func(q *http.Request) bool {
		_, remote := r.Claims(q.Context())
		return remote
	}

	early := enter()
	r.source.Set(registered)
	r.await("a path that is claimed and served", func() bool { q := enter(); return claimed(q) && answer(q) == http.StatusOK })
	if claimed(early) || answer(early) != http.StatusTeapot {
		t.Error("a request that was local when it came is not any more")
	}

	late := enter()
	if timeout, _ := r.Claims(late.Context()); timeout != 7*time.Second {
		t.Errorf("the bound of the request is %v, want 7s", timeout)
	}
	r.source.Set(state(nil, s))
	r.await("a path that is free again", func() bool { return !claimed(enter()) })
	if code := answer(late); !claimed(late) || code == http.StatusTeapot {
		t.Errorf("a request that was claimed when it came is answered with %d", code)
	}

	// A handler that sees a request with another path sees another request.
	late.URL.Path = "/elsewhere"
	if code := answer(late); code != http.StatusTeapot {
		t.Errorf("a request that was sent elsewhere is answered with %d", code)
	}
	if again := r.WithRoute(early); again != early {
		t.Error("a request that was decided was decided again")
	}
	r.stop()
}

// A request may pass the layers of two hosts in one process.
func TestALayerGoesByItsOwnDecision(t *testing.T) {
	s := backendtest.Start(t, "api", &extension{gv: "a.example/v1", resource: "things"})
	inner := run(t, Config{Local: http.NotFoundHandler()}, state([]*apiregistrationv1.APIService{s.APIService("v1.a.example")}, s))
	outer := run(t, Config{}, state(nil))
	w := httptest.NewRecorder()
	outer.Handler(inner.handler).ServeHTTP(w, outer.WithRoute(httptest.NewRequest(http.MethodGet, "/apis/a.example/v1/things", nil)))
	if body, err := io.ReadAll(w.Result().Body); err != nil || w.Code != http.StatusOK {
		t.Errorf("answered %d %s, %v", w.Code, body, err)
	}
	outer.stop()
	inner.stop()
}
