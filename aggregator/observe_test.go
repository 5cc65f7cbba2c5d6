package aggregator

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"github.com/annex-api/annex/aggregator/internal/backendtest"
	"github.com/annex-api/annex/aggregator/internal/catalog"
	"github.com/annex-api/annex/aggregator/internal/observe"
	"github.com/annex-api/annex/apis/aggregation/v1alpha1"
	"github.com/annex-api/annex/internal/testcerts"
)

// observed is what a layer says of an APIService; the zero value where it has none.
func (r *running) observed(name string) v1alpha1.RemoteAPIService {
	all := r.Observe()
	i := slices.IndexFunc(all, func(o v1alpha1.RemoteAPIService) bool { return o.Name == name })
	if i < 0 {
		return v1alpha1.RemoteAPIService{}
	}
	return all[i]
}

// awaitState waits until an APIService is in a state for a reason.
func (r *running) awaitState(name string, state v1alpha1.State, reason string) v1alpha1.RemoteAPIServiceStatus {
	r.t.Helper()
	deadline := time.After(patience)
	for {
		status := r.observed(name).Status
		if status.State == state && status.Reason == reason {
			return status
		}
		select {
		case <-r.Changed():
		case <-deadline:
			r.t.Fatalf("%s is %s (%s: %s), want %s (%s)", name, status.State, status.Reason, status.Message, state, reason)
		}
	}
}

// What an operator is told of an extension server with a replica that is not there, of
// one whose certificate nobody trusts, and of one whose discovery fails.
func TestObserveTellsOfExtensionServers(t *testing.T) {
	things := &extension{gv: "good.example/v1", resource: "things"}
	good := backendtest.Start(t, "good", things)
	dead := backendtest.Dead(t, "good")
	stale := &extension{gv: "stale.example/v1", resource: "things"}
	failing := backendtest.Start(t, "stale", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/apis/stale.example/v1" { // what probes ask for
			w.WriteHeader(http.StatusOK)
			return
		}
		stale.ServeHTTP(w, r)
	}))
	other := testcerts.New("another CA")
	pair := other.Issue(testcerts.Subject{Name: "untrusted", Hosts: []string{backendtest.ServerName("false")}})
	untrusted := backendtest.StartTLS(t, "false", testcerts.New("the CA").PEM, &tls.Config{Certificates: []tls.Certificate{pair.TLS()}}, things)
	front := testcerts.New("front").Issue(testcerts.Subject{Name: "front-proxy-client"})

	objects := []*apiregistrationv1.APIService{
		good.APIService("v1.good.example"), failing.APIService("v1.stale.example"), untrusted.APIService("v1.false.example"),
		{ObjectMeta: metav1.ObjectMeta{Name: "v1.local"}, Spec: apiregistrationv1.APIServiceSpec{Group: "local", Version: "v1"}},
	}
	first := state(objects, good, failing, untrusted)
	slice := first.Services[types.NamespacedName{Namespace: backendtest.Namespace, Name: "good"}].Slices[0]
	slice.Endpoints[0].Zone, slice.Endpoints[0].NodeName = new("zone-a"), new("node-1")
	slice.Endpoints[0].TargetRef = &corev1.ObjectReference{Kind: "Pod", Namespace: backendtest.Namespace, Name: "good-1"}
	r := run(t, Config{
		Self: "host-a:6443", ClientCertificate: func() (cert, key []byte) { return front.Cert, front.Key },
	}, first)
	defer r.stop()

	// All is well.
	began := time.Now()
	well := r.awaitState("v1.good.example", v1alpha1.Healthy, "")
	r.await("the documents", func() bool {
		s := r.observed("v1.good.example").Status
		return s.Discovery.Freshness == v1alpha1.Current && s.OpenAPIV2.Freshness == v1alpha1.Current
	})
	if w := r.get("/apis/good.example/v1/things", ""); w.Code != http.StatusOK {
		t.Fatalf("a request is answered %d", w.Code)
	}
	s := r.observed("v1.good.example").Status
	if s.Since != well.Since || s.Since.After(began.Add(patience)) || s.Server != "host-a:6443" || len(s.Views) != 1 || s.Views[0].Available != metav1.ConditionTrue {
		t.Errorf("since %v by %s: %+v", s.Since, s.Server, s.Views)
	}
	if s.EndpointSummary != "1/1" || s.Latency == nil || s.ErrorRate != "0%" || s.Limits.MaxInFlight == 0 {
		t.Errorf("%s, %+v, %s, %+v", s.EndpointSummary, s.Latency, s.ErrorRate, s.Limits)
	}
	if e := s.Endpoints[0]; e.Zone != "zone-a" || e.Node != "node-1" || e.Pod != "extensions/good-1" || e.Requests != 1 || e.Latency == nil {
		t.Errorf("%+v", e)
	}
	if d := s.Discovery; d.Resources != 1 || d.Bytes == 0 || d.Fetched.IsZero() {
		t.Errorf("discovery: %+v", d)
	}
	c := s.Certificates
	if c.Serving == nil || c.Serving.Names[0] != backendtest.ServerName("good") || len(c.CABundle) != 1 || c.Serving.AuthorityKeyID != c.CABundle[0].KeyID {
		t.Errorf("%+v", c)
	}
	if c.FrontProxy == nil || c.FrontProxy.Subject != "CN=front-proxy-client" {
		t.Errorf("%+v", c.FrontProxy)
	}

	// The certificate that nobody trusts is shown, with the CA that is trusted.
	s = r.awaitState("v1.false.example", v1alpha1.Unavailable, "FailedDiscoveryCheck")
	if c := s.Certificates; c.Serving == nil || c.Serving.Subject != "CN=untrusted" || c.Serving.Issuer != "CN=another CA" || c.CABundle[0].Subject != "CN=the CA" ||
		c.Serving.AuthorityKeyID == c.CABundle[0].KeyID {
		t.Errorf("%+v", c)
	}
	if e := s.Endpoints[0]; e.State != v1alpha1.EndpointUnreachable || e.LastError == nil || !strings.Contains(e.LastError.Message, "unknown authority") {
		t.Errorf("%+v", e)
	}

	// A replica comes that is not there.
	r.source.Set(state(objects, good, dead, failing, untrusted))
	s = r.awaitState("v1.good.example", v1alpha1.Degraded, "EndpointUnreachable")
	i := slices.IndexFunc(s.Endpoints, func(e v1alpha1.Endpoint) bool { return e.Address == dead.Address })
	if e := s.Endpoints[i]; s.EndpointSummary != "1/2" || e.State != v1alpha1.EndpointUnreachable || e.Since.IsZero() || !strings.Contains(e.LastError.Message, "refused") {
		t.Errorf("%s: %+v", s.EndpointSummary, e)
	}
	r.source.Set(state(objects, good, failing, untrusted))
	r.awaitState("v1.good.example", v1alpha1.Healthy, "")

	// Discovery fails where probes pass.
	r.await("discovery", func() bool { return r.observed("v1.stale.example").Status.Discovery.Freshness == v1alpha1.Current })
	stale.down.Store(true)
	second := failing.APIService("v2.stale.example") // has documents downloaded at once
	r.source.Set(state(append(objects, second), good, failing, untrusted))
	s = r.awaitState("v1.stale.example", v1alpha1.Degraded, "DiscoveryStale")
	if d := s.Discovery; d.Freshness != v1alpha1.Stale || !strings.Contains(d.Problem, "503") || d.Fetched.IsZero() || d.Resources != 1 {
		t.Errorf("%+v", d)
	}
	var names []string
	for _, o := range r.Observe() {
		names = append(names, o.Name)
	}
	if want := []string{"v1.false.example", "v1.good.example", "v1.stale.example", "v2.stale.example"}; !slices.Equal(names, want) {
		t.Errorf("observed are %q, want %q", names, want)
	}
}

// An endpoint that breakss is left out, and what happened there is told.
func TestObserveTellsOfAnEjectedEndpoint(t *testing.T) {
	things := &extension{gv: "good.example/v1", resource: "things"}
	broken := make(chan struct{})
	breaks := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-broken:
			if r.Header.Get("X-Remote-User") == "alice" { // probes pass
				panic(http.ErrAbortHandler)
			}
		default:
		}
		things.ServeHTTP(w, r)
	})
	bad, good := backendtest.Start(t, "good", breaks), backendtest.Start(t, "good", things)
	good.CA = bad.CA
	object := bad.APIService("v1.good.example")
	object.Spec.CABundle, object.Spec.InsecureSkipTLSVerify = nil, true
	r := run(t, Config{}, state([]*apiregistrationv1.APIService{object}, bad, good))
	defer r.stop()
	r.awaitState(object.Name, v1alpha1.Healthy, "")
	r.await("discovery", func() bool { return r.observed(object.Name).Status.Discovery.Freshness == v1alpha1.Current })
	close(broken)
	for deadline := time.Now().Add(patience); ; {
		w := httptest.NewRecorder()
		r.handler.ServeHTTP(w, backendtest.WithInfo(t, httptest.NewRequest(http.MethodGet, "/apis/good.example/v1", nil)))
		if w.Code != http.StatusOK {
			t.Fatalf("a request is answered %d: %s", w.Code, w.Body)
		}
		s := r.observed(object.Name).Status
		i := slices.IndexFunc(s.Endpoints, func(e v1alpha1.Endpoint) bool { return e.Address == bad.Address })
		if e := s.Endpoints[i]; e.State == v1alpha1.EndpointEjected {
			if s.State != v1alpha1.Degraded || s.Reason != "EndpointEjected" || s.EndpointSummary != "1/2" || s.ErrorRate == "0%" || s.Latency == nil {
				t.Errorf("%s (%s), %s, %s, %+v", s.State, s.Reason, s.EndpointSummary, s.ErrorRate, s.Latency)
			}
			if e.LastError == nil || e.LastError.Message == "" || e.ErrorRate != "100%" || e.Requests == 0 {
				t.Errorf("%+v", e)
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("it is never ejected: %+v", s.Endpoints)
		}
	}
	// It comes back by itself, and that is told.
	r.awaitState(object.Name, v1alpha1.Healthy, "")
}

// Since when something is so does not depend on who looks, or how often.
func TestObserveSinceWhen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &apiregistrationv1.APIService{ObjectMeta: metav1.ObjectMeta{Name: "v1.a.example"}}
		o.Spec.Group, o.Spec.Version = "a.example", "v1"
		o.Spec.Service = &apiregistrationv1.ServiceReference{Namespace: "ns", Name: "api"}
		key := types.NamespacedName{Namespace: "ns", Name: "api"}
		with := func(services map[types.NamespacedName]ServiceFacts) State {
			return State{APIServices: []*apiregistrationv1.APIService{o}, Services: services}
		}
		service := &corev1.Service{Spec: corev1.ServiceSpec{ClusterIP: corev1.ClusterIPNone, Type: corev1.ServiceTypeClusterIP, Ports: []corev1.ServicePort{{Port: 443}}}}
		source := NewStaticSource(with(map[types.NamespacedName]ServiceFacts{}))
		a, err := New(Config{Source: source})
		if err != nil {
			t.Fatal(err)
		}
		if got := a.Observe(); len(got) != 0 {
			t.Errorf("before Run: %+v", got)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_ = a.Run(ctx)
		}()
		began := time.Now()
		expect := func(reason string, since time.Time) {
			t.Helper()
			s := a.Observe()[0].Status
			if s.State != v1alpha1.Unavailable || s.Reason != reason || !s.Since.Time.Equal(since) || !s.Views[0].Since.Time.Equal(since) {
				t.Errorf("%s (%s) since %v, want %s since %v", s.State, s.Reason, s.Since, reason, since)
			}
		}
		time.Sleep(time.Minute) // nobody looks
		expect("ServiceNotFound", began)
		<-a.Changed()
		source.Set(with(map[types.NamespacedName]ServiceFacts{key: {Service: service}}))
		synctest.Wait()
		time.Sleep(time.Second)
		<-a.Changed()
		time.Sleep(time.Hour)
		expect("EndpointsNotFound", began.Add(time.Minute))
		select {
		case <-a.Changed():
			t.Error("nothing has changed, and a change is told")
		default:
		}
		// A snapshot that is built anew changes nothing.
		source.Set(with(map[types.NamespacedName]ServiceFacts{key: {Service: service}, {Name: "another"}: {}}))
		time.Sleep(time.Minute)
		expect("EndpointsNotFound", began.Add(time.Minute))
		slices := []*discoveryv1.EndpointSlice{{AddressType: discoveryv1.AddressTypeIPv4}}
		source.Set(with(map[types.NamespacedName]ServiceFacts{key: {Service: service, Slices: slices}}))
		time.Sleep(time.Minute)
		expect("MissingEndpoints", began.Add(time.Hour+2*time.Minute+time.Second))
		source.Set(State{Services: map[types.NamespacedName]ServiceFacts{}})
		time.Sleep(time.Second)
		if got := a.Observe(); len(got) != 0 {
			t.Errorf("an APIService that is gone is observed: %+v", got)
		}
		cancel()
		<-ended
	})
}

// A change that somebody sees who observes is no less told to others.
func TestWhatIsSeenByTheWayIsTold(t *testing.T) {
	server := &backendtest.Server{Service: "api", Address: "192.0.2.1:443", CA: testcerts.New("ca").PEM}
	a, err := New(Config{Source: NewStaticSource(State{})})
	if err != nil {
		t.Fatal(err)
	}
	a.facts.setState(state([]*apiregistrationv1.APIService{server.APIService("v1.good.example")}, server))
	snapshot, _ := a.facts.snapshot(nil)
	a.snapshot.Store(snapshot)
	for i, look := range []func(){func() { a.Observe() }, func() { a.views() }} {
		a.observer.standings = map[string]observe.Standing{}
		look()
		if got := len(a.observer.stirred); got != 1 {
			t.Fatalf("%d: a change is told %d times", i, got)
		}
		<-a.observer.stirred
		look()
		if got := len(a.observer.stirred); got != 0 {
			t.Errorf("%d: nothing has changed, and a change is told", i)
		}
	}
}

// A look that took longer than one that began after it does not bring back what was before.
func TestLooksDoNotGoBackInTime(t *testing.T) {
	o, start := newObserver(), time.Now()
	seen := func(state v1alpha1.State) []judged {
		j := judged{assessment: observe.Assessment{State: state, Reason: string(state)}}
		j.APIService = &catalog.APIService{Registration: catalog.Registration{Name: "v1.good.example"}}
		return []judged{j}
	}
	is := func(want v1alpha1.State, since time.Time) {
		t.Helper()
		if got := o.standings["v1.good.example"].State; got.Is != string(want)+"/"+string(want) || !got.Since.Equal(since) {
			t.Errorf("it is %s since %v, want %s since %v", got.Is, got.Since, want, since)
		}
	}
	slow, quick := o.begin(), o.begin()
	if changed, overtaken := o.stand(quick, start.Add(time.Second), seen(v1alpha1.Healthy)); !changed || overtaken {
		t.Errorf("the later one: changed %v, overtaken %v", changed, overtaken)
	}
	if changed, overtaken := o.stand(slow, start, seen(v1alpha1.Unavailable)); changed || !overtaken {
		t.Errorf("the earlier one: changed %v, overtaken %v", changed, overtaken)
	}
	is(v1alpha1.Healthy, start.Add(time.Second))
	if changed, overtaken := o.stand(o.begin(), start.Add(2*time.Second), seen(v1alpha1.Healthy)); changed || overtaken {
		t.Errorf("the same again: changed %v, overtaken %v", changed, overtaken)
	}
	is(v1alpha1.Healthy, start.Add(time.Second))
}

func BenchmarkObserve(b *testing.B) {
	server := &backendtest.Server{Service: "api", Address: "192.0.2.1:443", CA: testcerts.New("ca").PEM}
	var objects []*apiregistrationv1.APIService
	for i := range 500 {
		objects = append(objects, server.APIService(fmt.Sprintf("v1.g%d.example", i)))
	}
	a, err := New(Config{Source: NewStaticSource(State{})})
	if err != nil {
		b.Fatal(err)
	}
	a.facts.setState(state(objects, server))
	snapshot, _ := a.facts.snapshot(nil)
	a.backends.Sync(snapshot)
	a.snapshot.Store(snapshot)
	for b.Loop() {
		if got := len(a.Observe()); got != len(objects) {
			b.Fatalf("%d are observed", got)
		}
	}
}
