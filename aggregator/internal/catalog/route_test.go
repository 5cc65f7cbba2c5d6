package catalog

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
)

func routed() *Snapshot {
	f := Facts{Registrations: map[string]Registration{}}
	for _, name := range []string{"v1.", "v1.apps", "v1.a.example", "v2.a.example", "v1beta1.b.example"} {
		o := &apiregistrationv1.APIService{ObjectMeta: metav1.ObjectMeta{Name: name}}
		o.Spec.Version, o.Spec.Group, _ = strings.Cut(name, ".")
		if strings.HasSuffix(name, "example") {
			o.Spec.Service = &apiregistrationv1.ServiceReference{Namespace: "ns", Name: "s"}
		}
		f.Registrations[name] = NewRegistration(o)
	}
	return Build(f)
}

var routeSeeds = []string{
	"", "/", "/index.html", "/apis", "/apis/", "/apis//", "/apis///", "/apis/a.example", "/apis/a.example/", "/apis/a.example//",
	"/apis/a.example/v1", "/apis/a.example/v1/", "/apis/a.example/v1/things/x/status", "/apis/a.example/v1//", "/apis/a.example/v3",
	"/apis/apps/v1/deployments", "/api", "/api/", "/api/v1/pods", "/openapi/v2", "/openapi/v3", "/openapi/v3/apis/a.example/v1",
	"/apis/a.example/v1/../../b.example/v1beta1", "/apis/a.example%2Fv1", "/apis/a.example/v1;x", "/apis/\x00/v1", "/apis/é/v1", "//apis/a.example/v1",
}

// FuzzRoute holds what must be true of every path: a remote route belongs to
// the APIService whose path is a prefix of it, segment by segment.
func FuzzRoute(f *testing.F) {
	for _, seed := range routeSeeds {
		f.Add(seed)
	}
	s := routed()
	f.Fuzz(func(t *testing.T, path string) {
		r := s.Route(path)
		switch r.Kind {
		case Remote:
			if own := r.APIService.Path(); path != own && !strings.HasPrefix(path, own+"/") {
				t.Errorf("%q is sent to %s", path, r.APIService.Name)
			}
			if r.APIService.Local || r.APIService.Invalid != "" || r.Group != nil {
				t.Errorf("%q is sent to %+v", path, r)
			}
		case GroupVersions:
			if path != "/apis/"+r.Group.Name && path != "/apis/"+r.Group.Name+"/" {
				t.Errorf("%q lists the versions of %s", path, r.Group.Name)
			}
		default:
			if r.APIService != nil || r.Group != nil {
				t.Errorf("%q: %+v", path, r)
			}
			for _, a := range s.Remotes() {
				if path == a.Path() || strings.HasPrefix(path, a.Path()+"/") {
					t.Errorf("%q is not sent to %s", path, a.Name)
				}
			}
		}
		if again := s.Route(path); again != r {
			t.Errorf("%q: %+v, then %+v", path, r, again)
		}
	})
}

func TestRouteDoesNotAllocate(t *testing.T) {
	s := routed()
	for _, path := range routeSeeds {
		if n := testing.AllocsPerRun(100, func() { s.Route(path) }); n != 0 {
			t.Errorf("%q: %v allocations", path, n)
		}
	}
}

func BenchmarkRoute(b *testing.B) {
	s := routed()
	b.ReportAllocs()
	for b.Loop() {
		s.Route("/apis/a.example/v1/namespaces/default/things/x")
	}
}
