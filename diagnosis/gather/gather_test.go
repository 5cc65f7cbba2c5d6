package gather

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/annex-api/annex/diagnosis"
)

func facts(t *testing.T, f *fake, change func(*Options)) diagnosis.Facts {
	t.Helper()
	o := Options{Config: f.config(), RequestTimeout: patience, WatchList: true}
	if change != nil {
		change(&o)
	}
	got, err := Facts(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestFactsOfAnExtensionServer(t *testing.T) {
	f := newFake(t)
	f.shop()
	got := facts(t, f, nil)
	if len(got.APIServices) != 1 {
		t.Fatalf("%d APIServices are looked at, and one is not well", len(got.APIServices))
	}
	c, a := got.Cluster, got.APIServices[things]
	if c.Version.Value != "v1.37.2" || !c.ClockSkew.Seen || c.ClockSkew.Value != 0 || c.Annex.Value || !c.Annex.Seen {
		t.Errorf("version %v, clock %v, Annex %v", c.Version, c.ClockSkew, c.Annex)
	}
	if a.Service.Value == nil || a.Namespace.Value == nil || a.ServiceAccount != "keeper" {
		t.Errorf("Service %v, Namespace %v, ServiceAccount %q", a.Service, a.Namespace, a.ServiceAccount)
	}
	logs := a.Pods.Value[0].Logs.Value
	if len(logs) != 2 || !logs[0].Previous || logs[0].Lines[0].Text != "panic: no such file" || logs[1].Lines[0].Text != "it runs" || logs[1].Lines[0].At.Year() != 2026 || !logs[0].Lines[0].At.IsZero() {
		t.Errorf("logs %+v", logs)
	}
	e := a.Endpoints.Value
	if len(e) != 1 || e[0].Address != "10.1.0.7:8443" || e[0].Pod != "things-0" || !e[0].Ready {
		t.Errorf("endpoints %+v", e)
	}
	if a.GroupVersion.Value.Code != http.StatusOK || len(a.Resources.Value) != 2 || a.List.Value.Code != http.StatusOK {
		t.Errorf("answers %v %v %v", a.GroupVersion, a.Resources, a.List)
	}
	if w := a.WatchList.Value; !w.Bookmark || w.Resource != "things" {
		t.Errorf("watch %+v", w)
	}
	if counts := a.Counts.Value; len(counts) != countLists || counts[0].Objects != 3 || counts[0].ResourceVersion != "7" {
		t.Errorf("counts %+v", counts)
	}
	if a.OpenAPIV3.Value.Code != http.StatusNotFound || a.OpenAPIV3.Value.Status == nil {
		t.Errorf("OpenAPI v3 %+v", a.OpenAPIV3)
	}
}

func TestWhatIsForbiddenIsSaidAndTheRestGoesOn(t *testing.T) {
	f := newFake(t)
	f.lists(apiServices, apiService())
	f.otherwise = forbid
	got := facts(t, f, nil)
	a := got.APIServices[things]
	for what, err := range map[string]error{
		"version": got.Cluster.Version.Why(), "nodes": got.Cluster.Nodes.Why(), "metrics": a.Outages.Why(),
		"front proxy": got.Cluster.RequestHeader.Why(), "Service": a.Service.Why(), "Pods": a.Pods.Why(), "endpoints": a.EndpointSlices.Why(),
		"log": a.APIServerLog.Why(), "policies": a.NetworkPolicies.Why(), "webhooks": got.Cluster.Webhooks.Why(),
	} {
		if !errors.Is(err, diagnosis.ErrForbidden) || !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), `User "eve"`) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if a.Object.Value == nil || a.GroupVersion.Value.Code != http.StatusForbidden {
		t.Errorf("object %v, answer %v", a.Object, a.GroupVersion)
	}
}

func TestEndpointSlicesAreSeenWithoutTheirService(t *testing.T) {
	f := newFake(t)
	f.shop()
	f.handle("/api/v1/namespaces/shop/services/things", forbid)
	a := facts(t, f, nil).APIServices[things]
	if len(a.EndpointSlices.Value) != 1 || a.Service.Seen || !errors.Is(a.Endpoints.Why(), diagnosis.ErrForbidden) {
		t.Errorf("EndpointSlices %v, Service %v, endpoints %v", a.EndpointSlices, a.Service, a.Endpoints)
	}
}

func TestNamesAreReadOneByOneWhereTheListIsForbidden(t *testing.T) {
	f := newFake(t)
	f.handle(apiServices, forbid)
	f.has(apiServices+"/"+things, apiService())
	got := facts(t, f, func(o *Options) { o.Names = []string{things, "v1.gone"} })
	if a := got.APIServices[things]; a == nil || a.Object.Value == nil {
		t.Errorf("%s: %+v", things, a)
	}
	if a := got.APIServices["v1.gone"]; a == nil || !a.Object.Seen || a.Object.Value != nil {
		t.Errorf("v1.gone: %+v", a)
	}
	if _, err := Facts(t.Context(), Options{Config: f.config()}); !apierrors.IsForbidden(err) {
		t.Errorf("without names: %v", err)
	}
}

func TestNobodyThere(t *testing.T) {
	f := newFake(t)
	f.Close()
	_, err := Facts(t.Context(), Options{Config: f.config()})
	if err == nil || !strings.Contains(err.Error(), "connection refused") || strings.Contains(err.Error(), f.URL) {
		t.Errorf("got %v", err)
	}
}

func TestWhichAreLookedAt(t *testing.T) {
	f := newFake(t)
	f.shop()
	well := apiService()
	well.Name = "v1.well"
	well.Status.Conditions[0].Status = "True"
	degraded := *well.DeepCopy()
	degraded.Name = "v1.degraded"
	f.lists(apiServices, apiService(), well, degraded)
	f.lists("/apis/aggregation.annex.dev/v1alpha1/remoteapiservices",
		map[string]any{"metadata": map[string]any{"name": "v1.degraded"}, "status": map[string]any{"state": "Degraded"}})
	for name, c := range map[string]struct {
		change func(*Options)
		want   string
	}{
		"not well": {nil, "v1.degraded " + things},
		"all":      {func(o *Options) { o.All = true }, "v1.degraded " + things + " v1.well"},
		"few":      {func(o *Options) { o.Most = 1 }, "v1.degraded"},
		"named":    {func(o *Options) { o.Names = []string{"v1.well"} }, "v1.well"},
	} {
		got := facts(t, f, c.change)
		for _, want := range strings.Fields(c.want) {
			if got.APIServices[want] == nil {
				t.Errorf("%s: %s is not looked at", name, want)
			}
		}
		if len(got.APIServices) != len(strings.Fields(c.want)) {
			t.Errorf("%s: %d are looked at", name, len(got.APIServices))
		}
	}
}

func TestAnswersAreBounded(t *testing.T) {
	f := newFake(t)
	f.shop()
	endless := func(w http.ResponseWriter, r *http.Request) {
		block := []byte(strings.Repeat("a", 1<<20))
		for r.Context().Err() == nil {
			if _, err := w.Write(block); err != nil {
				return
			}
		}
	}
	f.handle("/apis/things.example.com/v1", endless)
	f.handle("/api/v1/namespaces/shop/pods/things-0/log", endless)
	got := facts(t, f, nil).APIServices[things]
	if body := got.GroupVersion.Value.Body; len(body) != maxBody {
		t.Errorf("%d bytes of the body are kept", len(body))
	}
	if err := got.Resources.Why(); !errors.Is(err, errTooLarge) {
		t.Errorf("resources: %v", err)
	}
	for _, l := range got.Pods.Value[0].Logs.Value {
		if len(l.Lines) != 1 || len(l.Lines[0].Text) != maxLogLine {
			t.Errorf("%d lines of the log", len(l.Lines))
		}
	}
}

func TestWhatDoesNotAnswerIsSaid(t *testing.T) {
	f := newFake(t)
	f.shop()
	ended, end := context.WithCancel(t.Context())
	t.Cleanup(end)
	hang := func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
		case <-ended.Done():
		}
	}
	f.handle("/apis/things.example.com/v1", hang)
	f.handle("/api/v1/nodes", hang)
	got := facts(t, f, func(o *Options) { o.RequestTimeout = time.Second })
	if err := got.Cluster.Nodes.Why(); !errors.Is(err, diagnosis.ErrTimedOut) {
		t.Errorf("nodes: %v", err)
	}
	if a := got.APIServices[things].GroupVersion.Value; !strings.Contains(a.Failure, "timed out") || a.Code != 0 {
		t.Errorf("answer: %+v", a)
	}
}

// An extension server that redirects must not get the caller's token to wherever it likes.
func TestRedirectsAreNotFollowed(t *testing.T) {
	var reached atomic.Int64
	elsewhere := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }))
	t.Cleanup(elsewhere.Close)
	f := newFake(t)
	f.shop()
	f.handle("/apis/things.example.com/v1", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
	})
	got := facts(t, f, nil)
	if code := got.APIServices[things].GroupVersion.Value.Code; code != http.StatusTemporaryRedirect || reached.Load() > 0 {
		t.Errorf("code %d, %d requests went elsewhere", code, reached.Load())
	}
}

func TestItStopsWithItsContext(t *testing.T) {
	f := newFake(t)
	f.shop()
	ctx, cancel := context.WithCancel(t.Context())
	f.handle("/version", func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	})
	if _, err := Facts(ctx, Options{Config: f.config()}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// Whoever ends the watch learns nothing of the server.
func TestAWatchThatIsStoppedShowsNothing(t *testing.T) {
	f := newFake(t)
	ctx, stop := context.WithCancel(t.Context())
	f.handle("/apis/g/v1/things", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush() // the client reads what there is
		stop()
		<-r.Context().Done()
	})
	g := &gathering{Options: Options{WatchListWait: patience}, cluster: f.cluster(t)}
	if w := g.watchList(ctx, "/apis/g/v1", "things"); w.Bookmark || w.Failure == "" {
		t.Errorf("got %+v", w)
	}
}

func TestWatchesWithoutAnEnd(t *testing.T) {
	for name, c := range map[string]struct {
		answer func(w http.ResponseWriter, r *http.Request)
		code   int
		events int
		says   string
	}{
		"never": {answer: func(w http.ResponseWriter, r *http.Request) {
			answerJSON(w, http.StatusOK, map[string]any{"type": "ADDED", "object": map[string]any{}})
			_ = http.NewResponseController(w).Flush() // the client reads what there is
			<-r.Context().Done()
		}, code: http.StatusOK, events: 1},
		"silent":  {answer: func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, says: "timed out"},
		"refused": {answer: func(w http.ResponseWriter, _ *http.Request) { answerStatus(w, 422, metav1.StatusReasonInvalid, "no") }, code: 422},
		"error": {answer: func(w http.ResponseWriter, _ *http.Request) {
			answerJSON(w, http.StatusOK, map[string]any{"type": "ERROR", "object": map[string]any{"message": "too old"}})
		}, code: http.StatusOK, says: "too old"},
		"cut off": {answer: func(w http.ResponseWriter, _ *http.Request) {
			answerJSON(w, http.StatusOK, map[string]any{"type": "ADDED", "object": map[string]any{}})
		}, code: http.StatusOK, events: 1, says: "was cut off after"},
		"more than is read": {answer: func(w http.ResponseWriter, _ *http.Request) {
			for range maxWatchEvents + 1 {
				fmt.Fprintln(w, `{"type":"ADDED","object":{}}`)
			}
		}, code: http.StatusOK, events: maxWatchEvents, says: "more are not read"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			f.handle("/apis/g/v1/things", c.answer)
			g := &gathering{Options: Options{WatchListWait: time.Second}, cluster: f.cluster(t)}
			w := g.watchList(t.Context(), "/apis/g/v1", "things")
			if w.Bookmark || w.Code != c.code || w.Events != c.events || !strings.Contains(w.Failure, c.says) {
				t.Errorf("got %+v", w)
			}
		})
	}
}
