package proxy

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"k8s.io/component-base/metrics"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"github.com/annex-api/annex/aggregator/internal/backendtest"
	"github.com/annex-api/annex/aggregator/internal/catalog"
	"github.com/annex-api/annex/aggregator/internal/proxy/traffic"
)

// counted is what a proxy has counted, as lines of labels and values.
func counted(t *testing.T, p *Proxy) map[string]float64 {
	t.Helper()
	m, registry := &traffic.Metrics{}, metrics.NewKubeRegistry()
	registry.CustomMustRegister(m)
	m.Watch(p.Traffic())
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]float64{}
	for _, f := range families {
		for _, s := range f.GetMetric() {
			var labels []string
			for _, l := range s.GetLabel() {
				labels = append(labels, l.GetValue())
			}
			key := strings.TrimPrefix(f.GetName(), "annex_aggregation_") + fmt.Sprint(labels)
			all[key] = s.GetCounter().GetValue()
			if h := s.GetHistogram(); h != nil {
				all[key], all[key+" sum"] = float64(h.GetSampleCount()), h.GetSampleSum()
			}
		}
	}
	return all
}

func TestRequestsAreCountedOnceEach(t *testing.T) {
	s := backendtest.Start(t, "api", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case base + "/redirects":
			http.Redirect(w, r, "https://elsewhere.example/", http.StatusFound)
		case base + "/strange":
			w.WriteHeader(299)
		default:
			_, _ = io.WriteString(w, "0123456789")
		}
	}))
	a := s.Claim(name)
	f := startFront(t, a)
	f.proxy.Sync(s.Snapshot(name))
	for _, c := range []struct{ method, path string }{
		{http.MethodGet, "/things/x"},
		{http.MethodGet, "/things/x"},
		{http.MethodGet, "/things"},
		{http.MethodGet, "/things?watch=true"},
		{http.MethodPut, "/things/x"},
		{http.MethodGet, "/redirects"},
		{http.MethodGet, "/strange"},
		{http.MethodGet, "/things/a%252fb"}, // not forwarded
		{http.MethodGet, ""},
	} {
		response := f.do(t, c.method, base+c.path, nil, nil)
		_, _ = io.Copy(io.Discard, response.Body)
		_ = response.Body.Close()
	}
	upgrade := f.do(t, http.MethodGet, base+"/things/x/exec", nil, http.Header{"Connection": {"Upgrade"}, "Upgrade": {"smoke"}})
	_ = upgrade.Body.Close()

	got := counted(t, f.proxy)
	for key, want := range map[string]float64{
		"requests_total[200 v1.a.example get]":           2,
		"requests_total[400 v1.a.example get]":           1,
		"requests_total[200 v1.a.example list]":          1,
		"requests_total[200 v1.a.example watch]":         1,
		"requests_total[200 v1.a.example write]":         1,
		"requests_total[502 v1.a.example list]":          1,
		"requests_total[2xx v1.a.example list]":          1,
		"requests_total[200 v1.a.example other]":         1,
		"requests_total[400 v1.a.example connect]":       1,
		"request_duration_seconds[v1.a.example get]":     2,
		"request_duration_seconds[v1.a.example list]":    2,
		"response_size_bytes[v1.a.example]":              6,
		"response_size_bytes[v1.a.example] sum":          50,
		"retries_total[v1.a.example]":                    0,
		"hedges_total[v1.a.example]":                     0,
		"request_duration_seconds[v1.a.example watch]":   0,
		"requests_total[302 v1.a.example list]":          0,
		"request_duration_seconds[v1.a.example connect]": 0,
		"request_duration_seconds[v1.a.example other]":   1,
		"request_duration_seconds[v1.a.example write]":   1,
	} {
		if got[key] != want {
			t.Errorf("%s: got %v, want %v", key, got[key], want)
		}
	}
	f.proxy.Sync(catalog.Build(catalog.Facts{}))
	if got := counted(t, f.proxy); len(got) != 0 {
		t.Errorf("of an APIService that is gone there is %v", got)
	}
}

func TestRetriesAreCounted(t *testing.T) {
	dead := backendtest.Dead(t, "api")
	s := backendtest.Start(t, "api", http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	dead.CA = s.CA
	snapshot := catalog.Build(backendtest.Facts([]*apiregistrationv1.APIService{s.APIService(name)}, s, dead))
	f := startFront(t, snapshot.Remotes()[0])
	f.proxy.Sync(snapshot)
	for range 50 { // the choice is by chance
		_ = f.do(t, http.MethodGet, base+"/things", nil, nil).Body.Close()
		if counted(t, f.proxy)["retries_total[v1.a.example]"] > 0 {
			return
		}
	}
	t.Errorf("nothing was counted: %v", counted(t, f.proxy))
}
