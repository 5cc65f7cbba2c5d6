package openapidocs

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/emicklei/go-restful/v3"
	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	openapinamer "k8s.io/apiserver/pkg/endpoints/openapi"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/server/mux"
	"k8s.io/apiserver/pkg/server/routes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/kube-openapi/pkg/common"
	"k8s.io/kube-openapi/pkg/handler3"
	generatedopenapi "k8s.io/kubernetes/pkg/generated/openapi"
)

// container serves types of two groups, and those that each group has; and a path
// that is of no group.
func container() *restful.Container {
	c := restful.NewContainer()
	add := func(root string, object any) {
		s := new(restful.WebService).Path(root)
		s.Route(s.GET("/things/{name}").Operation("read"+fmt.Sprintf("%T", object)).
			Param(s.PathParameter("name", "its name")).Returns(http.StatusOK, "OK", object).
			To(func(*restful.Request, *restful.Response) {}))
		s.Route(s.DELETE("/things/{name}").Operation("delete"+fmt.Sprintf("%T", object)).
			Param(s.PathParameter("name", "its name")).Reads(metav1.DeleteOptions{}).Returns(http.StatusOK, "OK", metav1.Status{}).
			To(func(*restful.Request, *restful.Response) {}))
		s.Route(s.GET("/watch/things").Operation("watch"+fmt.Sprintf("%T", object)).
			Returns(http.StatusOK, "OK", metav1.WatchEvent{}).
			To(func(*restful.Request, *restful.Response) {}))
		c.Add(s)
	}
	add("/api/v1", corev1.Pod{})
	add("/apis/apps/v1", appsv1.Deployment{})
	add("/version", metav1.APIVersions{})
	return c
}

func configs() (*common.Config, *common.OpenAPIV3Config) {
	namer := openapinamer.NewDefinitionNamer(scheme.Scheme)
	return genericapiserver.DefaultOpenAPIConfig(generatedopenapi.GetOpenAPIDefinitions, namer),
		genericapiserver.DefaultOpenAPIV3Config(generatedopenapi.GetOpenAPIDefinitions, namer)
}

// TestSameAsReference asks k8s.io/apiserver's own handlers and these the same.
func TestSameAsReference(t *testing.T) {
	reference, ours := mux.NewPathRecorderMux("reference"), mux.NewPathRecorderMux("ours")
	config, config3 := configs()
	routes.OpenAPI{Config: config}.InstallV2(container(), reference)
	routes.OpenAPI{V3Config: config3}.InstallV3(container(), reference)
	config, config3 = configs()
	Install(container(), ours, config, config3)
	config3.Definitions = nil // as once the server is prepared

	if want, got := reference.ListedPaths(), ours.ListedPaths(); !slices.Equal(want, got) {
		t.Errorf("paths: %v, want %v", got, want)
	}
	root := ask(reference, http.MethodGet, pathV3, nil)
	var list handler3.OpenAPIV3Discovery
	if err := json.Unmarshal(root.Body.Bytes(), &list); err != nil || len(list.Paths) != 3 {
		t.Fatalf("the reference lists %v, error %v", list.Paths, err)
	}
	paths := []string{pathV2, pathV3, pathV3 + "/apis/apps/v1", pathV3 + "/version", pathV3 + "/api/v1?hash=wrong", pathV3 + "/nothing"}
	for _, group := range list.Paths {
		paths = append(paths, group.ServerRelativeURL)
	}
	for _, path := range paths {
		etag := ask(reference, http.MethodGet, path, nil).Header().Get("Etag")
		for name, header := range map[string]http.Header{
			"plain":    nil,
			"json":     {"Accept": {"application/json"}},
			"protobuf": {"Accept": {"application/com.github.proto-openapi.spec.v2@v1.0+protobuf, application/com.github.proto-openapi.spec.v3@v1.0+protobuf"}},
			"gzip":     {"Accept-Encoding": {"gzip"}},
			"text":     {"Accept": {"text/plain"}},
			"known":    {"If-None-Match": {etag}},
			"part":     {"Range": {"bytes=10-20"}},
		} {
			for _, method := range []string{http.MethodGet, http.MethodHead} {
				want, got := ask(reference, method, path, header), ask(ours, method, path, header)
				if diff := cmp.Diff(summary(want), summary(got)); diff != "" {
					t.Errorf("%s %s, %s (-reference +ours):\n%s", method, path, name, diff)
				}
			}
		}
	}
}

type answer struct {
	Code   int
	Header http.Header
	Body   string
}

func summary(w *httptest.ResponseRecorder) answer {
	h := w.Header().Clone()
	for _, name := range []string{"Last-Modified", "Expires"} { // when it was built or asked for
		if h.Get(name) != "" {
			h.Set(name, "a time")
		}
	}
	return answer{w.Code, h, w.Body.String()}
}

func ask(h http.Handler, method, path string, header http.Header) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, nil)
	for name, values := range header {
		r.Header[name] = values
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// TestBuiltOnce has many ask at a time for what is not built yet.
func TestBuiltOnce(t *testing.T) {
	config, config3 := configs()
	var built atomic.Int32
	definitions := config.GetDefinitions
	count := func(ref common.ReferenceCallback) map[string]common.OpenAPIDefinition {
		built.Add(1)
		return definitions(ref)
	}
	config.GetDefinitions, config3.GetDefinitions, config3.Definitions = count, count, nil
	m := mux.NewPathRecorderMux("once")
	Install(container(), m, config, config3)
	if n := built.Load(); n != 0 {
		t.Errorf("built %d times before anybody asked", n)
	}
	var all sync.WaitGroup
	for i := range 24 {
		path := []string{pathV2, pathV3, pathV3 + "/api/v1"}[i%3]
		all.Go(func() {
			if w := ask(m, http.MethodGet, path, nil); w.Code != http.StatusOK || w.Body.Len() == 0 {
				t.Errorf("%s: %d, %d bytes", path, w.Code, w.Body.Len())
			}
		})
	}
	all.Wait()
	if n := built.Load(); n != 2 {
		t.Errorf("all types were made %d times, want once for each of v2 and v3", n)
	}
}

// mark has the configs make definitions of which one piece, that each copy of the
// schema shares, is watched; what is still held of v2 and v3 held tells.
func mark(config *common.Config, config3 *common.OpenAPIV3Config) (held func() []string) {
	gone := make(chan string, 2)
	marked := func(what string) common.GetOpenAPIDefinitions {
		return func(ref common.ReferenceCallback) map[string]common.OpenAPIDefinition {
			all := generatedopenapi.GetOpenAPIDefinitions(ref)
			pod := all["io.k8s.api.core.v1.Pod"]
			field := pod.Schema.Properties["spec"]
			one := 1.0
			field.Maximum = &one
			runtime.AddCleanup(&one, func(what string) { gone <- what }, what)
			pod.Schema.Properties["spec"] = field
			return all
		}
	}
	config.GetDefinitions, config3.GetDefinitions, config3.Definitions = marked("v2"), marked("v3"), nil
	return func() []string {
		left := map[string]bool{"v2": true, "v3": true}
		for range 20 {
			runtime.GC()
			runtime.Gosched()
			for len(gone) > 0 {
				delete(left, <-gone)
			}
		}
		return slices.Sorted(maps.Keys(left))
	}
}

// TestRelease sees that servers' configs do not keep what was built by them.
func TestRelease(t *testing.T) {
	config, config3 := configs()
	held := mark(config, config3)
	release := Releasing([]*common.Config{config, nil}, []*common.OpenAPIV3Config{config3, nil})
	routes.OpenAPI{Config: config}.InstallV2(container(), mux.NewPathRecorderMux("v2"))
	routes.OpenAPI{V3Config: config3}.InstallV3(container(), mux.NewPathRecorderMux("v3"))
	release()
	if left := held(); len(left) > 0 {
		t.Errorf("still held: %v", left)
	}
	runtime.KeepAlive(config)
	runtime.KeepAlive(config3)
}

// TestStructuresGo sees that what was built is let go, once it is bytes.
func TestStructuresGo(t *testing.T) {
	config, config3 := configs()
	held := mark(config, config3)
	m := mux.NewPathRecorderMux("gone")
	Install(container(), m, config, config3)
	var body [2]string
	for i, path := range []string{pathV2, pathV3 + "/api/v1"} {
		body[i] = ask(m, http.MethodGet, path, nil).Body.String()
	}
	if left := held(); len(left) > 0 {
		t.Errorf("still held: %v", left)
	}
	for i, path := range []string{pathV2, pathV3 + "/api/v1"} {
		if got := ask(m, http.MethodGet, path, nil).Body.String(); got != body[i] || len(got) < 1000 {
			t.Errorf("%s: %d bytes, were %d", path, len(got), len(body[i]))
		}
	}
}

func TestWhatCannotBeBuilt(t *testing.T) {
	config, config3 := configs()
	failing := errors.New("no name for this one")
	config.GetOperationIDAndTagsFromRoute = func(common.Route) (string, []string, error) { return "", nil, failing }
	config3.GetOperationIDAndTagsFromRoute = func(r common.Route) (string, []string, error) {
		if r.Path() == "/version/things/{name}" {
			return "", nil, failing
		}
		return r.OperationName(), nil, nil
	}
	m := mux.NewPathRecorderMux("failing")
	Install(container(), m, config, config3)
	for path, want := range map[string]int{
		pathV2: http.StatusServiceUnavailable, pathV3: http.StatusOK, pathV3 + "/api/v1": http.StatusOK,
	} {
		if got := ask(m, http.MethodGet, path, nil).Code; got != want {
			t.Errorf("%s: %d, want %d", path, got, want)
		}
	}
	var list handler3.OpenAPIV3Discovery
	if err := json.Unmarshal(ask(m, http.MethodGet, pathV3, nil).Body.Bytes(), &list); err != nil {
		t.Fatal(err)
	}
	if _, ok := list.Paths["version"]; ok || len(list.Paths) != 2 {
		t.Errorf("listed: %v", list.Paths)
	}

	none := mux.NewPathRecorderMux("none")
	Install(container(), none, nil, nil)
	if paths := none.ListedPaths(); len(paths) > 0 {
		t.Errorf("without configs: %v", paths)
	}
}
