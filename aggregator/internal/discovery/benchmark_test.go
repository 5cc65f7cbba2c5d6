package discovery

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"k8s.io/apiserver/pkg/endpoints/discovery/aggregated"
	"k8s.io/apiserver/pkg/endpoints/metrics"
	"k8s.io/client-go/discovery"

	"github.com/annex-api/annex/aggregator/internal/catalog"
)

func BenchmarkGroupList(b *testing.B) {
	metrics.Register()
	for _, c := range []struct{ name, accept, encoding string }{
		{"v2", discovery.AcceptV2, ""},
		{"v2 gzip", discovery.AcceptV2, "gzip"},
		{"v2 kubectl", discovery.AcceptV2 + "," + acceptV2Beta1 + ",application/json", "gzip"},
		{"v2 protobuf", protobufV2, ""},
	} {
		p := newPair(false)
		fill(p.manager, 200, 20)
		r := httptest.NewRequestWithContext(b.Context(), http.MethodGet, "/apis", nil)
		r.Header.Set("Accept", c.accept)
		if c.encoding != "" {
			r.Header.Set("Accept-Encoding", c.encoding)
		}
		for name, h := range map[string]http.Handler{"encoded": p.plain, "cached": p.ours} {
			b.Run(c.name+"/"+name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					h.ServeHTTP(&discard{header: http.Header{}}, r)
				}
			})
		}
	}
}

func BenchmarkPlainGroupList(b *testing.B) {
	s, f := New(Config{Manager: aggregated.NewResourceManager("apis")}), newFacts()
	for i := range 200 {
		f.register(fmt.Sprintf("v1.group%03d.example", i), 100, 10, false)
	}
	snapshot := catalog.Build(f.Facts)
	r := httptest.NewRequestWithContext(b.Context(), http.MethodGet, "/apis", nil)
	r.Header.Set("Accept", "application/json")
	group := httptest.NewRequestWithContext(b.Context(), http.MethodGet, "/apis/group001.example", nil)
	for name, do := range map[string]func(http.ResponseWriter){
		"encoded": func(w http.ResponseWriter) { s.encodeGroupList(w, r, snapshot) },
		"cached":  func(w http.ResponseWriter) { s.writeGroupList(w, r, snapshot) },
		"group":   func(w http.ResponseWriter) { s.ServeGroup(w, group, snapshot.Route("/apis/group001.example").Group) },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				do(&discard{header: http.Header{}})
			}
		})
	}
}
