package kubeapiserver_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	clientfeatures "k8s.io/client-go/features"
	clientfeaturestesting "k8s.io/client-go/features/testing"
	"k8s.io/client-go/tools/cache"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	test "github.com/annex-api/annex/kubeapiserver/kubeapiservertest"
)

// withoutBookmark serves one object as servers do that know nothing of
// sendInitialEvents: a watch begins with what there is, and goes on in silence.
func withoutBookmark(e *test.Extension, gv schema.GroupVersion) {
	document := test.AggregatedDiscovery(gv)
	document.Items[0].Versions[0].Resources[0].Verbs = []string{"list", "watch"}
	document.Items[0].Versions[0].Resources[0].Scope = apidiscoveryv2.ScopeCluster
	e.Handle("/apis", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", test.DiscoveryV2)
		_ = json.NewEncoder(w).Encode(document)
	})
	object := map[string]any{
		"apiVersion": gv.String(), "kind": "Thing",
		"metadata": map[string]any{"name": "one", "uid": "1", "resourceVersion": "7"},
	}
	e.Handle("/apis/"+gv.String()+"/things", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("watch") != "true" {
			test.JSON(w, map[string]any{
				"apiVersion": gv.String(), "kind": "ThingList", "metadata": map[string]any{"resourceVersion": "7"}, "items": []any{object},
			})
			return
		}
		w.Header().Set("Content-Type", "application/json")
		if r.URL.Query().Get("labelSelector") == "" {
			_ = json.NewEncoder(w).Encode(map[string]any{"type": "ADDED", "object": object})
		}
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
}

// startReflector runs client-go's own reflector, and says whether it came to know the object.
func startReflector(ctx context.Context, t *testing.T, gv schema.GroupVersion) (known func() bool) {
	t.Helper()
	client, err := dynamic.NewForConfig(server.Config(test.Admin))
	if err != nil {
		t.Fatal(err)
	}
	things := client.Resource(gv.WithResource("things"))
	store := cache.NewStore(cache.MetaNamespaceKeyFunc)
	reflector := cache.NewReflectorWithOptions(&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return things.List(ctx, o) },
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			return things.Watch(ctx, o)
		},
	}, &unstructured.Unstructured{}, store, cache.ReflectorOptions{Name: gv.Group})
	var running sync.WaitGroup
	running.Go(func() { reflector.RunWithContext(ctx) })
	t.Cleanup(running.Wait)
	return func() bool { return len(store.List()) == 1 }
}

// client-go waits for ever for the bookmark of a server that knows nothing of it, and
// is told to list instead: whether it comes before that is known or after.
func TestInformersOfServersWithoutTheBookmark(t *testing.T) {
	clientfeaturestesting.SetFeatureDuringTest(t, clientfeatures.WatchListClient, true)
	v1 := gv("bookmarks.test", "v1")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	e := test.NewExtension(t, "bookmarks", v1)
	withoutBookmark(e, v1)
	server.Expose(t, e.Name, "localhost")
	server.CreateRegistration(t, test.Registration(v1, e))
	early := startReflector(ctx, t, v1)
	server.AwaitCondition(t, v1, apiregistrationv1.ConditionTrue, "Passed",
		"all checks passed; watches with sendInitialEvents are refused: the extension server does not end their initial events")
	late := startReflector(ctx, t, v1)
	for what, known := range map[string]func() bool{"begun before that is known": early, "begun afterwards": late} {
		test.Eventually(t, func() string {
			if !known() {
				return "the informer " + what + " is not synchronized"
			}
			return ""
		})
	}
	var tried []test.Request
	for _, r := range e.OwnRequests("/apis/" + v1.String() + "/things") {
		if strings.Contains(r.URI, "sendInitialEvents=true") {
			tried = append(tried, r)
		}
	}
	if len(tried) != 1 || tried[0].Header.Get("X-Remote-User") != "system:kube-aggregator" || tried[0].Header.Get("X-Remote-Group") != "system:masters" {
		t.Errorf("tried by %d watches: %+v", len(tried), tried)
	}
	const metric = `annex_aggregation_watch_list{name="v1.bookmarks.test",support="Missing"} 1`
	if a := server.Get(t, test.Admin, "/metrics"); !strings.Contains(a.Body, metric) {
		t.Errorf("/metrics has no %s", metric)
	}
}

// Whoever knows better has such watches passed on.
func TestWatchListIsPassedOnWhereThatIsAsked(t *testing.T) {
	v1 := gv("pass.bookmarks.test", "v1")
	e := test.NewExtension(t, "bookmarks-pass", v1)
	withoutBookmark(e, v1)
	server.Expose(t, e.Name, "localhost")
	registration := test.Registration(v1, e)
	registration.Annotations = map[string]string{"aggregation.annex.dev/watch-list": "refuse"}
	server.CreateRegistration(t, registration)
	server.AwaitAvailable(t, v1)
	path := "/apis/" + v1.String() + "/things?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
	if a := server.Get(t, test.Admin, path); a.Code != http.StatusUnprocessableEntity || !strings.Contains(a.Body, "unless the WatchList feature gate is enabled") {
		t.Errorf("refuse: %+v", a)
	}
	server.UpdateRegistration(t, registration.Name, func(a *apiregistrationv1.APIService) {
		a.Annotations["aggregation.annex.dev/watch-list"] = "pass"
	})
	client := server.Client(test.Admin)
	client.Timeout = 0
	defer client.CloseIdleConnections()
	test.Eventually(t, func() string {
		ctx, cancel := context.WithTimeout(t.Context(), test.Deadline)
		defer cancel()
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := client.Do(r)
		if err != nil {
			return err.Error()
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return fmt.Sprintf("pass: %s", response.Status)
		}
		return ""
	})
	for _, r := range e.OwnRequests("/apis/" + v1.String() + "/things") {
		t.Errorf("tried though its owner had decided: %s", r.URI)
	}
}

// A list that names another version of its group is served, and said.
func TestAListOfAnotherVersionIsServedWithAWarning(t *testing.T) {
	v1 := gv("versions-of.test", "v1")
	e := test.NewExtension(t, "versions-of", v1)
	e.Handle("/apis", http.NotFound)
	e.Handle("/apis/"+v1.String(), func(w http.ResponseWriter, _ *http.Request) {
		test.JSON(w, metav1.APIResourceList{GroupVersion: "versions-of.test/v1alpha3", APIResources: []metav1.APIResource{
			{Name: "things", SingularName: "thing", Kind: "Thing", Verbs: metav1.Verbs{"get"}},
		}})
	})
	server.Expose(t, e.Name, "localhost")
	server.CreateRegistration(t, test.Registration(v1, e))
	server.AwaitCondition(t, v1, apiregistrationv1.ConditionTrue, "Passed", "all checks passed; the resource list of /apis/versions-of.test/v1 "+
		"names the version v1alpha3, and the resource list of /apis/versions-of.test/v1 names no kind")
	test.Eventually(t, func() string {
		a := server.Get(t, test.Admin, "/apis", "Accept", test.DiscoveryV2)
		if !strings.Contains(a.Body, `"name":"versions-of.test"`) || strings.Contains(a.Body, "v1alpha3") {
			return "the aggregated document lacks the group, or names the other version"
		}
		return ""
	})
}
