package embed_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	generated "k8s.io/apiextensions-apiserver/pkg/generated/openapi"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	apiopenapi "k8s.io/apiserver/pkg/endpoints/openapi"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/util/compatibility"
	"k8s.io/client-go/rest"

	"github.com/annex-api/annex/apis/aggregation/v1alpha1"
	"github.com/annex-api/annex/extension"
	"github.com/annex-api/annex/extension/embed"
	"github.com/annex-api/annex/extension/storage/etcd"
)

const path = "/apis/aggregation.annex.dev/v1alpha1/remoteapiservices"

func kindOf(list func() []v1alpha1.RemoteAPIService) extension.Computed[v1alpha1.RemoteAPIService] {
	return extension.Computed[v1alpha1.RemoteAPIService]{
		GroupVersion: v1alpha1.GroupVersion, Schema: v1alpha1.CRD,
		List: func(context.Context) ([]v1alpha1.RemoteAPIService, error) { return list(), nil },
	}
}

// serve puts kinds on a server that has nothing else, and answers what is sent to it.
func serve(t *testing.T, kinds *embed.Kinds) http.Handler {
	t.Helper()
	scheme := runtime.NewScheme()
	v1 := schema.GroupVersion{Version: "v1"}
	metav1.AddToGroupVersion(scheme, v1)
	scheme.AddUnversionedTypes(v1, &metav1.Status{}, &metav1.APIVersions{}, &metav1.APIGroupList{}, &metav1.APIGroup{}, &metav1.APIResourceList{})
	config := genericapiserver.NewConfig(serializer.NewCodecFactory(scheme))
	config.EffectiveVersion = compatibility.DefaultBuildEffectiveVersion()
	config.ExternalAddress = "192.0.2.1:443"
	config.LoopbackClientConfig = &rest.Config{Host: "192.0.2.1"}
	namer := apiopenapi.NewDefinitionNamer(scheme)
	config.OpenAPIConfig = genericapiserver.DefaultOpenAPIConfig(generated.GetOpenAPIDefinitions, namer)
	config.OpenAPIV3Config = genericapiserver.DefaultOpenAPIV3Config(generated.GetOpenAPIDefinitions, namer)
	kinds.Describe(config)
	server, err := config.Complete(nil).New("host", genericapiserver.NewEmptyDelegate())
	if err != nil {
		t.Fatal(err)
	}
	run, err := kinds.Install(server, config)
	if err != nil {
		t.Fatal(err)
	}
	server.PrepareRun()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		server.Destroy()
	})
	return server.Handler
}

func ask(t *testing.T, h http.Handler, method, path string, header ...string) (int, string) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, path, nil)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

func TestKindsAreServedAsTheHostsOwn(t *testing.T) {
	one := v1alpha1.RemoteAPIService{ObjectMeta: metav1.ObjectMeta{Name: "v1.example.com"}}
	one.Status.State, one.Status.Service = v1alpha1.Healthy, "ns/server:443"
	kinds, err := embed.New(kindOf(func() []v1alpha1.RemoteAPIService { return []v1alpha1.RemoteAPIService{one} }))
	if err != nil {
		t.Fatal(err)
	}
	if got := kinds.GroupVersions(); !slices.Equal(got, []schema.GroupVersion{v1alpha1.GroupVersion}) {
		t.Errorf("the group versions are %v", got)
	}
	h := serve(t, kinds)
	for _, c := range []struct {
		method, path string
		header       []string
		code         int
		says         []string
	}{
		{"GET", path, nil, 200, []string{`"kind":"RemoteAPIServiceList"`, `"name":"v1.example.com"`, `"service":"ns/server:443"`}},
		{"GET", path + "/v1.example.com", nil, 200, []string{`"kind":"RemoteAPIService"`, `"state":"Healthy"`}},
		{"GET", path + "/v1.other.com", nil, 404, []string{`remoteapiservices.aggregation.annex.dev \"v1.other.com\" not found`}},
		{"GET", path, []string{"Accept", "application/json;as=Table;g=meta.k8s.io;v=v1"}, 200, []string{`"kind":"Table"`, `"name":"Endpoints"`, `"ns/server:443"`}},
		{"GET", path, []string{"Accept", "application/vnd.kubernetes.protobuf"}, 200, []string{`"kind":"RemoteAPIServiceList"`}},
		{"POST", path, nil, 405, nil},
		{"PUT", path + "/v1.example.com", nil, 405, nil},
		{"PATCH", path + "/v1.example.com", nil, 405, nil},
		{"DELETE", path + "/v1.example.com", nil, 405, nil},
		{"DELETE", path, nil, 405, nil},
		{"GET", "/apis", nil, 200, []string{"aggregation.annex.dev/v1alpha1"}},
		{"GET", "/apis", []string{"Accept", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"}, 200, []string{`"shortNames":["ras"]`, `"categories":["annex"]`, `"verbs":["get","list","watch"]`}},
		{"GET", "/apis/aggregation.annex.dev/v1alpha1", nil, 200, []string{`"name":"remoteapiservices"`, `"singularName":"remoteapiservice"`}},
	} {
		code, body := ask(t, h, c.method, c.path, c.header...)
		if code != c.code {
			t.Errorf("%s %s %v: %d %s, want %d", c.method, c.path, c.header, code, body, c.code)
		}
		for _, want := range c.says {
			if !strings.Contains(body, want) {
				t.Errorf("%s %s %v lacks %s: %s", c.method, c.path, c.header, want, body)
			}
		}
	}
}

func TestOpenAPIHasTheKindsBesideTheHosts(t *testing.T) {
	kinds, err := embed.New(kindOf(func() []v1alpha1.RemoteAPIService { return nil }))
	if err != nil {
		t.Fatal(err)
	}
	h := serve(t, kinds)
	type described struct {
		Description string `json:"description"`
		Kinds       []struct{ Group, Version, Kind string }
		Extension   []struct{ Group, Version, Kind string } `json:"x-kubernetes-group-version-kind"`
	}
	var v2 struct {
		Paths       map[string]json.RawMessage `json:"paths"`
		Definitions map[string]described       `json:"definitions"`
	}
	var v3 struct {
		Components struct {
			Schemas map[string]described `json:"schemas"`
		} `json:"components"`
	}
	for document, into := range map[string]any{"/openapi/v2": &v2, "/openapi/v3/apis/aggregation.annex.dev/v1alpha1": &v3} {
		if code, body := ask(t, h, "GET", document, "Accept", "application/json"); code != 200 {
			t.Fatalf("%s: %d %s", document, code, body)
		} else if err := json.Unmarshal([]byte(body), into); err != nil {
			t.Fatal(err)
		}
	}
	for version, definitions := range map[string]map[string]described{"v2": v2.Definitions, "v3": v3.Components.Schemas} {
		const own = "dev.annex.aggregation.v1alpha1.RemoteAPIService"
		if d := definitions[own]; !strings.Contains(d.Description, "leads to an extension server") || len(d.Extension) != 1 || d.Extension[0].Kind != "RemoteAPIService" {
			t.Errorf("%s: %s is %+v", version, own, d)
		}
		if _, ok := definitions[own+"List"]; !ok {
			t.Errorf("%s has no list of the kind", version)
		}
		events := definitions["io.k8s.apimachinery.pkg.apis.meta.v1.WatchEvent"]
		var groups []string
		for _, k := range events.Extension {
			groups = append(groups, k.Group)
		}
		slices.Sort(groups)
		if !slices.Equal(groups, []string{"", v1alpha1.GroupVersion.Group}) {
			t.Errorf("%s: events are of the groups %q", version, groups)
		}
	}
	if v2.Paths[path] == nil || v2.Paths["/version/"] == nil {
		t.Error("a path is missing in v2")
	}
}

func TestWhatCannotBeEmbedded(t *testing.T) {
	stored := extension.Resource[v1alpha1.RemoteAPIService, v1alpha1.RemoteAPIServiceList]{GroupVersion: v1alpha1.GroupVersion, Schema: v1alpha1.CRD}
	active := kindOf(func() []v1alpha1.RemoteAPIService { return nil })
	active.Sub = []extension.Subresource[v1alpha1.RemoteAPIService]{
		extension.Action("poke", func(context.Context, *v1alpha1.RemoteAPIService, *metav1.Status) (*metav1.Status, error) {
			return nil, nil
		}),
	}
	for name, c := range map[string]struct {
		parts []extension.Part
		says  string
	}{
		"nothing":   {nil, "no kind"},
		"stored":    {[]extension.Part{stored}, "it is stored"},
		"an action": {[]extension.Part{active}, "actions and streams"},
		"no List":   {[]extension.Part{extension.Computed[v1alpha1.RemoteAPIService]{GroupVersion: v1alpha1.GroupVersion}}, "List: it is missing"},
		"a driver":  {[]extension.Part{extension.Drivers(etcd.Driver())}, "storage drivers"},
	} {
		if _, err := embed.New(c.parts...); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want an error with %q", name, err, c.says)
		}
	}
}

// A watch sees what changes, and a List that is on demand rests without it.
func TestOnDemand(t *testing.T) {
	calls := make(chan struct{}, 100)
	kind := kindOf(func() []v1alpha1.RemoteAPIService {
		calls <- struct{}{}
		return []v1alpha1.RemoteAPIService{{ObjectMeta: metav1.ObjectMeta{Name: "now"}, Status: v1alpha1.RemoteAPIServiceStatus{Message: time.Now().String()}}}
	})
	kind.OnDemand, kind.Every = true, 10*time.Millisecond
	kinds, err := embed.New(kind)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(serve(t, kinds))
	defer server.Close()
	<-calls
	code, first := ask(t, server.Config.Handler, "GET", path)
	if code != 200 {
		t.Fatal(first)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, "GET", server.URL+path+"?watch=true", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := server.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	events := json.NewDecoder(response.Body)
	for _, want := range []string{"ADDED", "MODIFIED", "MODIFIED", "MODIFIED"} {
		var e struct{ Type string }
		if err := events.Decode(&e); err != nil || e.Type != want {
			t.Fatalf("the event is %+v, %v; want %s", e, err, want)
		}
	}
}
