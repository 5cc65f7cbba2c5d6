package respond

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"k8s.io/apimachinery/pkg/util/sets"
	endpointmetrics "k8s.io/apiserver/pkg/endpoints/metrics"
	"k8s.io/apiserver/pkg/endpoints/request"
)

// Whatever a path names, its failure is answered and counted: metrics take labels that
// are UTF-8 only.
func TestFailuresOfAnyPathAreCounted(t *testing.T) {
	endpointmetrics.Register()
	resolver := &request.RequestInfoFactory{APIPrefixes: sets.NewString("api", "apis"), GrouplessAPIPrefixes: sets.NewString("api")}
	for _, path := range []string{
		"/apis/a.example/v1/things", "/apis/a.example/v1/\xc0\xae", "/apis/a.example/v1/things/x/\xff", "/apis/a.example/\xff", "/apis/a.example/v1/\xff/\xff/\xff",
	} {
		r := &http.Request{Method: http.MethodGet, URL: &url.URL{Path: path}}
		info, err := resolver.NewRequestInfo(r)
		if err != nil {
			t.Fatal(err)
		}
		w := httptest.NewRecorder()
		Write(w, r.WithContext(request.WithRequestInfo(t.Context(), info)), Fail{Reason: PathRefused, APIService: "v1.a.example"})
		if w.Code != http.StatusBadRequest {
			t.Errorf("%q: %d", path, w.Code)
		}
		if info.Path != path {
			t.Errorf("%q became %q", path, info.Path)
		}
	}
}
