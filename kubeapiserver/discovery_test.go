package kubeapiserver_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	test "github.com/annex-api/annex/kubeapiserver/kubeapiservertest"
)

func groupList(t *testing.T, path string) metav1.APIGroupList {
	t.Helper()
	var list metav1.APIGroupList
	a := server.Get(t, test.Admin, path, "Accept", "application/json")
	if err := json.Unmarshal([]byte(a.Body), &list); err != nil || a.Code != http.StatusOK {
		t.Fatalf("%s: %d %v", path, a.Code, err)
	}
	return list
}

func TestGroupListOrder(t *testing.T) {
	v := func(group, version string, groupPriority, versionPriority int32) {
		server.CreateRegistration(t, &apiregistrationv1.APIService{
			ObjectMeta: metav1.ObjectMeta{Name: version + "." + group},
			Spec: apiregistrationv1.APIServiceSpec{
				Group: group, Version: version, GroupPriorityMinimum: groupPriority, VersionPriority: versionPriority,
				Service: &apiregistrationv1.ServiceReference{Namespace: "default", Name: "nobody"}, // never available
			},
		})
	}
	v("first.order", "v1", 20000, 1)
	v("b.order", "v1", 2500, 10)
	v("a.order", "v1", 2500, 10)
	v("versions.order", "v1beta1", 2400, 10)
	v("versions.order", "v2", 2400, 10)
	v("versions.order", "v1", 2400, 20)
	v("versions.order", "v11alpha2", 2400, 10)
	v("last.order", "v1", 1, 1)
	var order []string
	test.Eventually(t, func() string {
		order = nil
		for _, g := range groupList(t, "/apis").Groups {
			order = append(order, g.Name)
		}
		if !slices.Contains(order, "last.order") {
			return "last.order is not listed"
		}
		return ""
	})
	last := []string{"last.order", "aggregation.annex.dev"}
	if order[0] != "apiregistration.k8s.io" || order[1] != "first.order" || !slices.Equal(order[len(order)-2:], last) {
		t.Errorf("the order is %q", order)
	}
	if a, b, c := slices.Index(order, "a.order"), slices.Index(order, "b.order"), slices.Index(order, "versions.order"); a < 0 || b != a+1 || c != b+1 {
		t.Errorf("the order is %q", order)
	}
	if slices.Contains(order, "") {
		t.Error("the legacy group is listed")
	}
	slashed := groupList(t, "/apis/")
	if len(slashed.Groups) != len(order) {
		t.Errorf("/apis/ lists %d groups, /apis %d", len(slashed.Groups), len(order))
	}
	for _, path := range []string{"/apis/versions.order", "/apis/versions.order/"} {
		var group metav1.APIGroup
		if err := json.Unmarshal([]byte(server.Get(t, test.Admin, path).Body), &group); err != nil {
			t.Fatal(err)
		}
		var versions []string
		for _, v := range group.Versions {
			versions = append(versions, v.Version)
		}
		if want := []string{"v1", "v2", "v1beta1", "v11alpha2"}; !slices.Equal(versions, want) || group.PreferredVersion.GroupVersion != "versions.order/v1" {
			t.Errorf("%s lists %q with %v preferred, want %q", path, versions, group.PreferredVersion, want)
		}
	}
}

// A group leaves every list with its last version.
func TestGroupLeavesWithItsLastVersion(t *testing.T) {
	v1, v2 := gv("leaving.test", "v1"), gv("leaving.test", "v2")
	server.Register(t, "leaving", v1, v2)
	awaitDiscovered(t, v1, apidiscoveryv2.DiscoveryFreshnessCurrent, "things")
	awaitDiscovered(t, v2, apidiscoveryv2.DiscoveryFreshnessCurrent, "things")
	listed := func() (in []string) {
		for _, path := range []string{"/", "/apis", "/openapi/v3"} {
			if strings.Contains(server.Get(t, test.Admin, path).Body, "leaving.test") {
				in = append(in, path)
			}
		}
		if server.Get(t, test.Admin, "/apis/leaving.test").Code == http.StatusOK {
			in = append(in, "/apis/leaving.test")
		}
		if discovered(t, v1) != nil || discovered(t, v2) != nil {
			in = append(in, "aggregated discovery")
		}
		return in
	}
	server.Unregister(t, "v1.leaving.test")
	test.Eventually(t, func() string {
		if a := server.Get(t, test.Admin, "/apis/leaving.test/v1/things"); a.Code != http.StatusNotFound {
			return fmt.Sprintf("v1 answers %d", a.Code)
		}
		return ""
	})
	if got := listed(); len(got) < 4 {
		t.Errorf("with one version left the group is listed in %v only", got)
	}
	server.Unregister(t, "v2.leaving.test")
	test.Eventually(t, func() string {
		if got := listed(); len(got) > 0 {
			return fmt.Sprintf("still listed in %v", got)
		}
		return ""
	})
}

// Differs from the reference, which publishes an empty list of resources.
func TestDeadExtensionServerKeepsItsLastDiscoveryMarkedStale(t *testing.T) {
	v1 := gv("dead.test", "v1")
	e := server.Register(t, "dead", v1)
	awaitDiscovered(t, v1, apidiscoveryv2.DiscoveryFreshnessCurrent, "things")
	// Whatever is asked from now on, the connection breaks.
	for _, path := range []string{"/apis", "/apis/" + v1.String(), "/openapi/v2", "/openapi/v3"} {
		e.Handle(path, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	}
	e.Handle("*", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	start := time.Now()
	server.Get(t, test.Admin, "/apis/"+v1.String()+"/things")
	test.Eventually(t, func() string {
		if c := server.Condition(t, v1); c.Status != apiregistrationv1.ConditionFalse {
			return "the condition is still " + string(c.Status)
		}
		return ""
	})
	if took := time.Since(start); took > 15*time.Second { // probes are 30 s apart
		t.Errorf("the condition took %v", took)
	}
	awaitDiscovered(t, v1, apidiscoveryv2.DiscoveryFreshnessStale, "things")
	unavailable(t, v1)
}

// The aggregated document's headers, and the answer to who has it already.
func TestAggregatedDiscoveryIsConditional(t *testing.T) {
	var tag string
	test.Eventually(t, func() string {
		a := server.Get(t, test.Admin, "/apis", "Accept", test.DiscoveryV2)
		tag = a.Header.Get("Etag")
		if a.Header.Get("Vary") != "Accept" || a.Header.Get("Cache-Control") != "public" || tag == "" {
			t.Fatalf("the headers are %v", a.Header)
		}
		if again := server.Get(t, test.Admin, "/apis", "Accept", test.DiscoveryV2, "If-None-Match", tag); again.Code != http.StatusNotModified || again.Body != "" {
			return fmt.Sprintf("the same document again: %d, %d bytes", again.Code, len(again.Body))
		}
		return ""
	})
}

// One group version passes from a custom resource to an extension server and
// back while clients ask for it: each answer is one's or the other's, and all
// documents follow. Differs from the reference, which leaves old ones behind.
func TestSwitchBetweenCustomResourceAndExtensionServer(t *testing.T) {
	v1 := gv("switch.test", "v1")
	path := "/apis/" + v1.String()
	e := server.Register(t, "switch", v1)
	e.Handle("/openapi/v2", func(w http.ResponseWriter, _ *http.Request) {
		test.JSON(w, map[string]any{
			"swagger": "2.0", "info": map[string]any{"title": "x", "version": "1"},
			"paths": map[string]any{path + "/things": map[string]any{"get": map[string]any{
				"operationId": "listRemoteThings", "responses": map[string]any{"200": map[string]any{"description": "OK"}},
			}}},
		})
	})
	// Registered anew, so that its OpenAPI is asked for again.
	server.Unregister(t, "v1.switch.test")
	test.Eventually(t, func() string {
		if a := server.Get(t, test.Admin, path); a.Code != http.StatusNotFound {
			return fmt.Sprintf("%s answers %d", path, a.Code)
		}
		return ""
	})
	server.CreateRegistration(t, test.Registration(v1, e))
	server.AwaitAvailable(t, v1)
	isRemote := func() string {
		return follows(t, path, "things", "gizmos", "listRemoteThings", "listSwitchTestV1NamespacedGizmo")
	}
	isCustom := func() string {
		return follows(t, path, "gizmos", "things", "listSwitchTestV1NamespacedGizmo", "listRemoteThings")
	}
	test.Eventually(t, isRemote)
	defineGizmos(t, v1.Group)
	if missing := isRemote(); missing != "" {
		t.Errorf("a CustomResourceDefinition took the group version from the extension server: %s", missing)
	}

	// A client asks all the time.
	stop, stopped := make(chan struct{}), make(chan []string, 1)
	go func() {
		var wrong []string
		defer func() { stopped <- wrong }()
		for {
			select {
			case <-stop:
				return
			default:
			}
			a, err := server.TryGet(context.Background(), test.Admin, path)
			remote, custom := strings.Contains(a.Body, `"things"`), strings.Contains(a.Body, `"gizmos"`)
			if err != nil || a.Code != http.StatusOK || remote == custom {
				wrong = append(wrong, fmt.Sprintf("%d %.200s %v", a.Code, a.Body, err))
			}
		}
	}()
	for range 2 {
		server.Unregister(t, "v1.switch.test")
		test.Eventually(t, isCustom)
		server.AwaitCondition(t, v1, apiregistrationv1.ConditionTrue, "Local", "Local APIServices are always available")
		server.UpdateRegistration(t, "v1.switch.test", func(a *apiregistrationv1.APIService) {
			a.Labels, a.Spec = nil, test.Registration(v1, e).Spec
		})
		test.Eventually(t, isRemote)
	}
	close(stop)
	if wrong := <-stopped; len(wrong) > 0 {
		t.Errorf("%d answers were of neither, the first: %s", len(wrong), wrong[0])
	}
}

// follows says which of the documents do not show what they should, or show
// what they should not.
func follows(t *testing.T, path, resource, otherResource, operation, otherOperation string) string {
	t.Helper()
	var wrong []string
	check := func(what, body, want, not string) {
		if !strings.Contains(body, want) || strings.Contains(body, not) {
			wrong = append(wrong, what)
		}
	}
	check(path, server.Get(t, test.Admin, path).Body, `"`+resource+`"`, `"`+otherResource+`"`)
	group, version, _ := strings.Cut(strings.TrimPrefix(path, "/apis/"), "/")
	names := ""
	if v := discovered(t, gv(group, version)); v != nil {
		for _, r := range v.Resources {
			names += `"` + r.Resource + `"`
		}
		if v.Freshness != apidiscoveryv2.DiscoveryFreshnessCurrent {
			wrong = append(wrong, "freshness")
		}
	}
	check("aggregated discovery", names, `"`+resource+`"`, `"`+otherResource+`"`)
	check("/openapi/v2", server.Get(t, test.Admin, "/openapi/v2").Body, operation, otherOperation)
	check("/openapi/v3", server.Get(t, test.Admin, "/openapi/v3"+path).Body, operation, otherOperation)
	if len(wrong) > 0 {
		return fmt.Sprintf("want %s in all documents of %s, not so in %v", resource, path, wrong)
	}
	return ""
}
