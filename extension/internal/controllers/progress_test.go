package controllers

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/annex-api/annex/extension/internal/kind"
)

// watchFish sets up a controller that watches fish.
func watchFish(m manager.Manager) error {
	c, err := controller.New("fish", m, controller.Options{Reconciler: reconcile.Func(func(context.Context, reconcile.Request) (reconcile.Result, error) {
		return reconcile.Result{}, nil
	})})
	if err != nil {
		return err
	}
	fish := &unstructured.Unstructured{}
	fish.SetGroupVersionKind(schema.GroupVersionKind{Group: "example.com", Version: "v1", Kind: "Fish"})
	return c.Watch(source.Kind[*unstructured.Unstructured](m.GetCache(), fish, &handler.TypedEnqueueRequestForObject[*unstructured.Unstructured]{}))
}

// awaitHealth waits for a health that has a text; empty: for a good one.
func awaitHealth(t *testing.T, h *Health, text string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; {
		err := h.Err()
		if text == "" && err == nil || text != "" && err != nil && strings.Contains(err.Error(), text) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("their health is %v, and does not come to %q", err, text)
		}
		<-time.After(10 * time.Millisecond)
	}
}

// Controllers are not well as long as they may not list what they watch.
func TestControllersWithoutARightAreNotWell(t *testing.T) {
	if testing.Short() {
		t.Skip("a right that is given later is found after some seconds")
	}
	var may atomic.Bool
	host := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch {
		case !may.Load():
			w.WriteHeader(http.StatusForbidden)
		case r.URL.Query().Get("watch") == "":
			_, _ = io.WriteString(w, `{"apiVersion":"example.com/v1","kind":"FishList","metadata":{"resourceVersion":"1"},"items":[]}`)
		default:
			_, _ = io.WriteString(w, `{"type":"BOOKMARK","object":{"apiVersion":"example.com/v1","kind":"Fish","metadata":{"resourceVersion":"1","annotations":{"k8s.io/initial-events-end":"true"}}}}`)
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}
	}))
	defer host.Close()
	health := &Health{}
	c, err := New(Options{
		Config: &rest.Config{Host: host.URL}, Scheme: runtime.NewScheme(), Health: health, Log: logr.Discard(),
		Kinds: []*kind.Kind{{Hub: schema.GroupVersion{Group: "example.com", Version: "v1"}, Names: kind.Names{Kind: "Fish", Plural: "fishes", Singular: "fish"}}},
	}, Setup{Name: "fish", Add: watchFish})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	awaitHealth(t, health, "cannot be listed yet, for want of a right perhaps: Fish.example.com")
	may.Store(true)
	awaitHealth(t, health, "")
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// Controllers that can neither lead nor know who does are not well.
func TestControllersWithoutALeaseAreNotWell(t *testing.T) {
	host := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Forbidden","code":403,"message":"no leases for you"}`)
	}))
	defer host.Close()
	health := &Health{}
	c, err := New(Options{
		Config: &rest.Config{Host: host.URL}, Scheme: runtime.NewScheme(), Health: health, Log: logr.Discard(),
		Lease: types.NamespacedName{Namespace: "team", Name: "fish"},
	}, Setup{Name: "fish", Add: watchFish})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	awaitHealth(t, health, "run controllers: lead: no leases for you")
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// fakeLock is a lease with what a host answers.
type fakeLock struct {
	resourcelock.Interface
	holder string
	get    error
	write  error
}

func (f *fakeLock) Identity() string { return "me" }

func (f *fakeLock) Get(context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	if f.get != nil {
		return nil, nil, f.get
	}
	return &resourcelock.LeaderElectionRecord{HolderIdentity: f.holder}, []byte(f.holder), nil
}

func (f *fakeLock) Create(context.Context, resourcelock.LeaderElectionRecord) error { return f.write }

func (f *fakeLock) Update(context.Context, resourcelock.LeaderElectionRecord) error { return f.write }

// A replica that waits is well while it sees that another one leads.
func TestAReplicaThatWaitsIsWell(t *testing.T) {
	reported := errNotStarted
	p := &progress{filling: map[string]bool{}, report: func(err error) { reported = err }}
	f := &fakeLock{holder: "other"}
	l := &leaseLock{Interface: f, progress: p}
	get := func() { _, _, _ = l.Get(t.Context()) }
	write := func() { _ = l.Update(t.Context(), resourcelock.LeaderElectionRecord{}) }
	resource := schema.GroupResource{Resource: "leases"}
	forbidden := apierrors.NewForbidden(resource, "fish", nil)
	for i, step := range []struct {
		what string
		do   func()
		want error
	}{
		{"it is not there", func() { f.get = apierrors.NewNotFound(resource, "fish"); get() }, errNotStarted},
		{"it may not be read", func() { f.get = forbidden; get() }, forbidden},
		{"another one leads", func() { f.get = nil; get() }, nil},
		{"another one was first", func() { f.write = apierrors.NewConflict(resource, "fish", nil); write() }, nil},
		{"it may not be written", func() { f.write = forbidden; write() }, forbidden},
		{"it is as it was", get, forbidden},
		{"another one renews it", func() { f.holder = "third"; get() }, nil},
		{"it may not be written again", write, forbidden},
		{"it is this one's, which has yet to begin", func() { f.write, f.holder = nil, "me"; write() }, forbidden},
		{"it begins", func() { p.tell(func() { p.elected = true }) }, nil},
		{"a kind is asked for", func() { p.tell(func() { p.filling["Fish"] = true }) }, errors.New("Fish")},
		{"it is there", func() { p.tell(func() { delete(p.filling, "Fish") }) }, nil},
	} {
		step.do()
		if (step.want == nil) != (reported == nil) || step.want != nil && !strings.Contains(reported.Error(), step.want.Error()) {
			t.Errorf("%d, %s: %v, want %v", i, step.what, reported, step.want)
		}
	}
}
