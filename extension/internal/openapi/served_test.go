package openapi_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/emicklei/go-restful/v3"
	"github.com/google/go-cmp/cmp"
	kindschema "k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/server/mux"
	"k8s.io/apiserver/pkg/server/routes"
	"k8s.io/kube-openapi/pkg/spec3"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

// TestServersPublishBothVersions installs OpenAPI as a generic API server does when it
// is prepared to run, and fetches it.
func TestServersPublishBothVersions(t *testing.T) {
	d, services := ready(t)
	container := restful.NewContainer()
	for _, service := range services {
		container.Add(service)
	}
	paths := mux.NewPathRecorderMux("test")
	config := d.V2("test")
	config.Info.Version = "v1" // the server's
	install := routes.OpenAPI{Config: config, V3Config: d.V3("test")}
	install.InstallV2(container, paths)
	install.InstallV3(container, paths)

	var swagger spec.Swagger
	fetch(t, paths, "/openapi/v2", &swagger)
	for _, name := range []string{"com.example.v1.Widget", "com.example.v1.SprocketList", "com.example.v1beta1.Widget", "io.k8s.metrics.v1.Gadgets"} {
		if _, ok := swagger.Definitions[name]; !ok {
			t.Errorf("v2 has no %s", name)
		}
	}
	patch := swagger.Paths.Paths["/apis/metrics.k8s.io/v1/gadgets/{name}"].Patch
	if got := patch.Responses.StatusCodeResponses[http.StatusOK].Schema.Ref.String(); got != "#/definitions/io.k8s.metrics.v1.Gadget" {
		t.Errorf("patching a gadget gives %s", got)
	}

	var document spec3.OpenAPI
	fetch(t, paths, "/openapi/v3/apis/metrics.k8s.io/v1", &document)
	var names []string
	for name := range document.Components.Schemas {
		if !strings.HasPrefix(name, "io.k8s.apimachinery.") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	if diff := cmp.Diff([]string{"io.k8s.metrics.v1.Gadget", "io.k8s.metrics.v1.Gadgets"}, names); diff != "" {
		t.Error(diff)
	}
	event := document.Components.Schemas["io.k8s.apimachinery.pkg.apis.meta.v1.WatchEvent"]
	if diff := cmp.Diff([]kindschema.GroupVersionKind{
		{Version: "v1", Kind: "WatchEvent"},
		{Group: "metrics.k8s.io", Version: "v1", Kind: "WatchEvent"},
	}, kindsOf(t, event)); diff != "" {
		t.Error(diff)
	}
}

func fetch(t *testing.T, handler http.Handler, path string, into any) {
	t.Helper()
	request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
	request.Header.Set("Accept", "application/json")
	answer := httptest.NewRecorder()
	handler.ServeHTTP(answer, request)
	if answer.Code != http.StatusOK {
		t.Fatalf("%s: %d %s", path, answer.Code, answer.Body)
	}
	if err := json.Unmarshal(answer.Body.Bytes(), into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}
