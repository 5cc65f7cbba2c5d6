package gather

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"github.com/annex-api/annex/diagnosis"
	"github.com/annex-api/annex/internal/testcerts"
)

// Of many that are well, each is asked for what it alone can say, and what they share is asked once.
func TestManyThatAreWellAreAskedLittle(t *testing.T) {
	const many = 300
	f := newFake(t)
	f.shop()
	items := []any{}
	for i := range many {
		a := apiService()
		a.Name, a.Spec.Group = fmt.Sprintf("v1.g%d.example.com", i), fmt.Sprintf("g%d.example.com", i)
		a.Status.Conditions[0].Status = apiregistrationv1.ConditionTrue
		items = append(items, a)
	}
	f.lists(apiServices, items...)
	f.lists("/api/v1/namespaces/shop/pods", corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "things-0", Labels: map[string]string{"app": "things"}},
		Status:     corev1.PodStatus{Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}},
	})
	f.has("/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication",
		corev1.ConfigMap{Data: map[string]string{"requestheader-client-ca-file": string(testcerts.New("front-proxy-ca").PEM)}})
	f.mu.Lock()
	group, list := f.handlers["/apis/things.example.com/v1"], f.handlers["/apis/things.example.com/v1/things"]
	f.mu.Unlock()
	var mu sync.Mutex
	asked := map[string]int{}
	var own atomic.Int64
	for path, h := range f.handlers {
		f.handle(path, func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			asked[path]++
			mu.Unlock()
			h(w, r)
		})
	}
	f.otherwise = func(w http.ResponseWriter, r *http.Request) {
		switch path := r.URL.Path; {
		case strings.HasPrefix(path, "/apis/g") && strings.HasSuffix(path, ".example.com/v1"):
			own.Add(1)
			group(w, r)
		case strings.HasPrefix(path, "/apis/g") && strings.HasSuffix(path, "/things"):
			own.Add(1)
			list(w, r)
		case strings.HasPrefix(path, "/openapi/v3/apis/g"):
			own.Add(1)
			answerJSON(w, http.StatusOK, map[string]any{})
		default:
			mu.Lock()
			asked[path]++
			mu.Unlock()
			http.NotFound(w, r)
		}
	}
	var looked atomic.Int64
	got := facts(t, f, func(o *Options) {
		o.All = true
		o.Progress = func(n, all int) { looked.Store(int64(n)) }
	})
	if len(got.APIServices) != many || looked.Load() != many {
		t.Errorf("%d are looked at, and %d were told of", len(got.APIServices), looked.Load())
	}
	// Its resources, OpenAPI, a list in two forms, three to count, and a watch.
	if n := own.Load(); n > 8*many {
		t.Errorf("%d requests for %d APIServices", n, many)
	}
	total := 0
	for path, n := range asked {
		total += n
		if n > 5 { // pages, and a request by each protocol of port-forward
			t.Errorf("%s was asked %d times", path, n)
		}
	}
	if total > 100 {
		t.Errorf("%d requests beside these", total)
	}
	for name, a := range got.APIServices {
		if e := a.Endpoints.Value; a.Service.Value == nil || len(a.Pods.Value) != 1 || a.List.Value.Code != http.StatusOK || !a.WatchList.Value.Bookmark || len(e) != 1 {
			t.Fatalf("%s: %+v", name, a)
		}
		for _, finding := range diagnosis.Diagnose(&got, name).Findings {
			if finding.Severity == diagnosis.Error {
				t.Fatalf("%s: %+v", name, finding)
			}
		}
	}
}

// An API server that has no room is asked again when it says so; an extension server's 429 is what is
// to be seen.
func TestNoRoomIsWaitedFor(t *testing.T) {
	f := newFake(t)
	var own, theirs atomic.Int64
	f.handle("/version", func(w http.ResponseWriter, _ *http.Request) {
		if own.Add(1) == 1 {
			w.Header().Set("Retry-After", "1")
			http.Error(w, "Too many requests, please try again later.", http.StatusTooManyRequests)
			return
		}
		answerJSON(w, http.StatusOK, map[string]any{})
	})
	f.handle("/apis/g/v1/things", func(w http.ResponseWriter, _ *http.Request) {
		theirs.Add(1)
		w.Header().Add("X-Kubernetes-PF-PriorityLevel-UID", "the API server's")
		w.Header().Add("X-Kubernetes-PF-PriorityLevel-UID", "its own")
		answerStatus(w, http.StatusTooManyRequests, metav1.StatusReasonTooManyRequests, "too many things")
	})
	g := &gathering{cluster: f.cluster(t)}
	if a := g.answer(t.Context(), request{path: "/version"}).Value; a.Code != http.StatusOK || own.Load() != 2 {
		t.Errorf("%d after %d requests", a.Code, own.Load())
	}
	if a := g.answer(t.Context(), request{path: "/apis/g/v1/things"}).Value; a.Code != http.StatusTooManyRequests || theirs.Load() != 1 || len(a.PriorityLevels) != 2 {
		t.Errorf("%+v after %d requests", a, theirs.Load())
	}
}

// Deployments are many and large: a table of their images is read, page by page, and only those that
// serve metrics are read whole.
func TestAdaptersAreFoundInATable(t *testing.T) {
	f := newFake(t)
	row := func(namespace, name, image string) map[string]any {
		return map[string]any{"cells": []any{name, "1/1", image}, "object": map[string]any{"metadata": map[string]any{"namespace": namespace, "name": name}}}
	}
	f.handle("/apis/apps/v1/deployments", func(w http.ResponseWriter, r *http.Request) {
		if !strings.Contains(r.Header.Get("Accept"), "as=Table") || r.URL.Query().Get("limit") == "" {
			t.Errorf("asked with %q for %q", r.Header.Get("Accept"), r.URL.RawQuery)
		}
		table := map[string]any{
			"kind": "Table", "metadata": map[string]any{"continue": "next"}, "rows": []any{row("shop", "web", "example.com/web:v1")},
			"columnDefinitions": []any{map[string]any{"name": "Name"}, map[string]any{"name": "Ready"}, map[string]any{"name": "Images"}},
		}
		if r.URL.Query().Get("continue") == "next" {
			table["metadata"], table["rows"] = map[string]any{}, []any{row("keda", "adapter", "ghcr.io/kedacore/keda-metrics-apiserver:2.14")}
		}
		answerJSON(w, http.StatusOK, table)
	})
	labels := map[string]string{"app": "adapter"}
	f.has("/apis/apps/v1/namespaces/keda/deployments/adapter", appsv1.Deployment{Spec: appsv1.DeploymentSpec{Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}}}})
	f.lists("/api/v1/namespaces/keda/services", corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "adapter"}, Spec: corev1.ServiceSpec{Selector: labels}})
	g := &gathering{cluster: f.cluster(t)}
	g.facts.Cluster.APIServices = diagnosis.Saw([]apiregistrationv1.APIService{{Spec: apiregistrationv1.APIServiceSpec{Group: "external.metrics.k8s.io"}}})
	got := g.adapters(t.Context())
	text, err := json.Marshal(got.Value)
	if err != nil || len(got.Value) != 1 || got.Value[0].Product != "KEDA" || len(got.Value[0].Services) != 1 {
		t.Errorf("got %s, %v, %v", text, got.Why(), err)
	}
}
