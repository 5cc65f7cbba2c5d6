package gather

import (
	"encoding/json"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/client-go/rest"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
)

// patience bounds what a test waits for.
const patience = 30 * time.Second

// fake is an API server that answers what it is told to, and "not found" otherwise.
type fake struct {
	*httptest.Server

	mu        sync.Mutex
	handlers  map[string]http.HandlerFunc // by path
	otherwise http.HandlerFunc
}

func newFake(t *testing.T) *fake {
	f := &fake{handlers: map[string]http.HandlerFunc{}}
	f.Server = httptest.NewUnstartedServer(f)
	f.Config.ErrorLog = log.New(io.Discard, "", 0) // of connections that clients did not need after all
	f.StartTLS()
	t.Cleanup(f.Close)
	return f
}

func (f *fake) config() *rest.Config {
	return &rest.Config{Host: f.URL, BearerToken: "the caller's", TLSClientConfig: rest.TLSClientConfig{Insecure: true}}
}

func (f *fake) cluster(t *testing.T) *cluster {
	t.Helper()
	c, err := connect(f.config(), patience)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (f *fake) handle(path string, h http.HandlerFunc) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.handlers[path] = h
}

// has answers a path with an object.
func (f *fake) has(path string, object any) {
	f.handle(path, func(w http.ResponseWriter, _ *http.Request) { answerJSON(w, http.StatusOK, object) })
}

// lists answers a path with a list.
func (f *fake) lists(path string, items ...any) {
	f.has(path, map[string]any{"kind": "List", "metadata": map[string]any{}, "items": append([]any{}, items...)})
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	h, otherwise := f.handlers[r.URL.Path], f.otherwise
	f.mu.Unlock()
	switch {
	case h != nil:
		h(w, r)
	case otherwise != nil:
		otherwise(w, r)
	default:
		answerStatus(w, http.StatusNotFound, metav1.StatusReasonNotFound, "there is no "+r.URL.Path)
	}
}

func answerJSON(w http.ResponseWriter, code int, object any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(object) // a client that is gone wants nothing
}

func answerStatus(w http.ResponseWriter, code int, reason metav1.StatusReason, message string) {
	answerJSON(w, code, metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusFailure, Code: int32(code), Reason: reason, Message: message,
	})
}

func forbid(w http.ResponseWriter, r *http.Request) {
	answerStatus(w, http.StatusForbidden, metav1.StatusReasonForbidden, `User "eve" cannot get path "`+r.URL.Path+`"`)
}

const (
	apiServices = "/apis/apiregistration.k8s.io/v1/apiservices"
	things      = "v1.things.example.com"
)

// apiService leads to the Service shop/things.
func apiService() apiregistrationv1.APIService {
	return apiregistrationv1.APIService{
		ObjectMeta: metav1.ObjectMeta{Name: things},
		Spec: apiregistrationv1.APIServiceSpec{
			Group: "things.example.com", Version: "v1", Service: &apiregistrationv1.ServiceReference{Namespace: "shop", Name: "things"},
		},
		Status: apiregistrationv1.APIServiceStatus{Conditions: []apiregistrationv1.APIServiceCondition{
			{Type: apiregistrationv1.Available, Status: apiregistrationv1.ConditionFalse, Reason: "FailedDiscoveryCheck"},
		}},
	}
}

// shop fills the fake with an extension server of two Pods that is well.
func (f *fake) shop() {
	local := apiregistrationv1.APIService{ObjectMeta: metav1.ObjectMeta{Name: "v1.apps"}}
	f.lists(apiServices, apiService(), local)
	f.has("/version", version.Info{GitVersion: "v1.37.2"})
	f.has("/apis", metav1.APIGroupList{Groups: []metav1.APIGroup{{Name: "things.example.com"}}})
	f.has("/api/v1/namespaces/shop", corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}})
	f.has("/api/v1/namespaces/shop/services/things", corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "things"},
		Spec:       corev1.ServiceSpec{Selector: map[string]string{"app": "things"}, Ports: []corev1.ServicePort{{Name: "https", Port: 443}}},
	})
	name, number, ready := "https", int32(8443), true
	f.lists("/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices", discoveryv1.EndpointSlice{
		Ports: []discoveryv1.EndpointPort{{Name: &name, Port: &number}},
		Endpoints: []discoveryv1.Endpoint{
			{Addresses: []string{"10.1.0.7"}, Conditions: discoveryv1.EndpointConditions{Ready: &ready}, TargetRef: &corev1.ObjectReference{Kind: "Pod", Name: "things-0"}},
		},
	})
	f.lists("/api/v1/namespaces/shop/pods", corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "things-0", Labels: map[string]string{"app": "things"}},
		Spec:       corev1.PodSpec{ServiceAccountName: "keeper"},
		Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{
			{Name: "server", RestartCount: 2, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}},
		}},
	})
	f.handle("/api/v1/namespaces/shop/pods/things-0/log", func(w http.ResponseWriter, r *http.Request) {
		text := "2026-11-28T21:00:00.123456789Z it runs\n"
		if r.URL.Query().Get("previous") == "true" {
			text = "panic: no such file\n"
		}
		_, _ = w.Write([]byte(text)) // a client that is gone wants nothing
	})
	f.has("/apis/things.example.com/v1", metav1.APIResourceList{APIResources: []metav1.APIResource{
		{Name: "things/status", Verbs: metav1.Verbs{"get"}}, {Name: "things", Verbs: metav1.Verbs{"get", "list", "watch"}},
	}})
	f.handle("/apis/things.example.com/v1/things", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("watch") == "" {
			answerJSON(w, http.StatusOK, map[string]any{"metadata": map[string]any{"resourceVersion": "7", "remainingItemCount": 2}, "items": []any{1}})
			return
		}
		answerJSON(w, http.StatusOK, map[string]any{"type": "BOOKMARK", "object": map[string]any{
			"metadata": map[string]any{"annotations": map[string]any{metav1.InitialEventsAnnotationKey: "true"}},
		}})
	})
}
