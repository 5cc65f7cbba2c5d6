package controllers

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"

	"github.com/annex-api/annex/extension/internal/kind"
)

// A server's own kinds are known before its host knows them; others are asked for.
func TestOwnKindsAreKnownWithoutDiscovery(t *testing.T) {
	asked := 0
	host := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		http.NotFound(w, r)
	}))
	defer host.Close()
	m, err := mapper([]*kind.Kind{
		{
			Hub: schema.GroupVersion{Group: "example.com", Version: "v1"}, Namespaced: true,
			Names:  kind.Names{Kind: "Fish", Plural: "fishes", Singular: "fish"},
			Spokes: []kind.Spoke{{Version: "v1beta1"}, {Version: "v1alpha1", NotServed: true}},
		},
		{Hub: schema.GroupVersion{Group: "example.com", Version: "v1"}, Names: kind.Names{Kind: "Pond", Plural: "ponds", Singular: "pond"}},
	})(&rest.Config{Host: host.URL}, host.Client())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		kind, version, resource string
		scope                   meta.RESTScope
	}{
		{"Fish", "", "v1/fishes", meta.RESTScopeNamespace},
		{"Fish", "v1beta1", "v1beta1/fishes", meta.RESTScopeNamespace},
		{"Pond", "v1", "v1/ponds", meta.RESTScopeRoot},
	} {
		var versions []string
		if c.version != "" {
			versions = append(versions, c.version)
		}
		got, err := m.RESTMapping(schema.GroupKind{Group: "example.com", Kind: c.kind}, versions...)
		if err != nil || got.Resource.Version+"/"+got.Resource.Resource != c.resource || got.Scope != c.scope {
			t.Errorf("%s %s: %+v, %v", c.kind, c.version, got, err)
		}
	}
	if asked != 0 {
		t.Errorf("the host was asked %d times", asked)
	}
	for _, version := range []string{"v1alpha1", "v2"} {
		if got, err := m.RESTMapping(schema.GroupKind{Group: "example.com", Kind: "Fish"}, version); err == nil {
			t.Errorf("what is not served in %s is %+v", version, got)
		}
	}
	if asked == 0 {
		t.Error("the host was not asked for what is not declared")
	}
}
