package source

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	kubefake "k8s.io/client-go/kubernetes/fake"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	aggregatorfake "k8s.io/kube-aggregator/pkg/client/clientset_generated/clientset/fake"
	aggregatorinformers "k8s.io/kube-aggregator/pkg/client/informers/externalversions"
)

const patience = time.Minute

// published collects states; each arrives on next as well.
type published struct {
	mu    sync.Mutex
	count int
	last  State
	next  chan struct{}
}

func (p *published) publish(s State) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.count, p.last = p.count+1, s
	select {
	case p.next <- struct{}{}:
	default:
	}
}

func (p *published) state() (State, int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.last, p.count
}

func (p *published) await(t *testing.T, what string, wanted func(State) bool) {
	t.Helper()
	deadline := time.After(patience)
	for {
		if s, n := p.state(); n > 0 && wanted(s) {
			return
		}
		select {
		case <-p.next:
		case <-deadline:
			s, n := p.state()
			t.Fatalf("waited in vain for %s; %d states, the last %+v", what, n, s)
		}
	}
}

type host struct {
	*published
	kube       *kubefake.Clientset
	aggregator *aggregatorfake.Clientset
	services   informers.SharedInformerFactory
}

func startHost(t *testing.T) host {
	t.Helper()
	h := host{
		published: &published{next: make(chan struct{}, 1)},
		kube:      kubefake.NewClientset(), aggregator: aggregatorfake.NewClientset(),
	}
	h.services = informers.NewSharedInformerFactory(h.kube, 0)
	apiServices := aggregatorinformers.NewSharedInformerFactory(h.aggregator, 0)
	source, err := NewInformers(apiServices.Apiregistration().V1().APIServices(),
		h.services.Core().V1().Services(), h.services.Discovery().V1().EndpointSlices())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	h.services.Start(ctx.Done())
	apiServices.Start(ctx.Done())
	go func() { ended <- source.Run(ctx, h.publish) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Run returned %v", err)
		}
		h.services.Shutdown()
		apiServices.Shutdown()
	})
	h.await(t, "a first state", func(State) bool { return true })
	return h
}

func apiService(name, service string) *apiregistrationv1.APIService {
	o := &apiregistrationv1.APIService{ObjectMeta: metav1.ObjectMeta{Name: name}}
	o.Spec.Service = &apiregistrationv1.ServiceReference{Namespace: "ns", Name: service}
	return o
}

func service(name string) *corev1.Service {
	return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}}
}

func slice(name, of string) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "ns", Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: of}},
		AddressType: discoveryv1.AddressTypeIPv4,
	}
}

func key(name string) types.NamespacedName { return types.NamespacedName{Namespace: "ns", Name: name} }

func TestInformersPublishWhatAPIServicesName(t *testing.T) {
	h, ctx, create := startHost(t), t.Context(), metav1.CreateOptions{}
	if s, _ := h.state(); len(s.APIServices) != 0 || s.Services == nil {
		t.Errorf("the first state of an empty host: %+v", s)
	}
	if _, err := h.aggregator.ApiregistrationV1().APIServices().Create(ctx, apiService("v1.a.example", "api"), create); err != nil {
		t.Fatal(err)
	}
	h.await(t, "the APIService with a Service that is absent", func(s State) bool {
		facts, named := s.Services[key("api")]
		return len(s.APIServices) == 1 && named && facts.Service == nil && facts.Err == nil
	})
	if _, err := h.kube.CoreV1().Services("ns").Create(ctx, service("api"), create); err != nil {
		t.Fatal(err)
	}
	h.await(t, "the Service", func(s State) bool { return s.Services[key("api")].Service != nil })
	if _, err := h.kube.DiscoveryV1().EndpointSlices("ns").Create(ctx, slice("api-1", "api"), create); err != nil {
		t.Fatal(err)
	}
	h.await(t, "its EndpointSlice", func(s State) bool { return len(s.Services[key("api")].Slices) == 1 })
	if err := h.kube.DiscoveryV1().EndpointSlices("ns").Delete(ctx, "api-1", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	h.await(t, "its EndpointSlice to go", func(s State) bool { return len(s.Services[key("api")].Slices) == 0 })
	if err := h.kube.CoreV1().Services("ns").Delete(ctx, "api", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	h.await(t, "the Service to go", func(s State) bool { return s.Services[key("api")].Service == nil })
	if err := h.aggregator.ApiregistrationV1().APIServices().Delete(ctx, "v1.a.example", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	h.await(t, "the APIService to go", func(s State) bool { return len(s.APIServices) == 0 && len(s.Services) == 0 })
}

// A slice that moves from a named Service to one that nobody names leaves it.
func TestSliceMovesAway(t *testing.T) {
	h, ctx, create := startHost(t), t.Context(), metav1.CreateOptions{}
	if _, err := h.aggregator.ApiregistrationV1().APIServices().Create(ctx, apiService("v1.a.example", "api"), create); err != nil {
		t.Fatal(err)
	}
	if _, err := h.kube.CoreV1().Services("ns").Create(ctx, service("api"), create); err != nil {
		t.Fatal(err)
	}
	if _, err := h.kube.DiscoveryV1().EndpointSlices("ns").Create(ctx, slice("api-1", "api"), create); err != nil {
		t.Fatal(err)
	}
	h.await(t, "its EndpointSlice", func(s State) bool { return len(s.Services[key("api")].Slices) == 1 })
	if _, err := h.kube.DiscoveryV1().EndpointSlices("ns").Update(ctx, slice("api-1", "other"), metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	h.await(t, "its EndpointSlice to move away", func(s State) bool { return len(s.Services[key("api")].Slices) == 0 })
}

// A Service that was there before an APIService named it is found.
func TestServiceBeforeItsAPIService(t *testing.T) {
	h, ctx, create := startHost(t), t.Context(), metav1.CreateOptions{}
	if _, err := h.kube.CoreV1().Services("ns").Create(ctx, service("early"), create); err != nil {
		t.Fatal(err)
	}
	awaitCached(t, h, "early")
	if _, err := h.aggregator.ApiregistrationV1().APIServices().Create(ctx, apiService("v1.a.example", "early"), create); err != nil {
		t.Fatal(err)
	}
	h.await(t, "both", func(s State) bool { return s.Services[key("early")].Service != nil })
}

// Services that no APIService names come and go without a state.
func TestUnnamedServicesPublishNothing(t *testing.T) {
	h, ctx, create := startHost(t), t.Context(), metav1.CreateOptions{}
	if _, err := h.aggregator.ApiregistrationV1().APIServices().Create(ctx, apiService("v1.a.example", "api"), create); err != nil {
		t.Fatal(err)
	}
	h.await(t, "the APIService", func(s State) bool { return len(s.APIServices) == 1 })
	_, before := h.state()
	for _, name := range []string{"one", "two", "three"} {
		if _, err := h.kube.CoreV1().Services("ns").Create(ctx, service(name), create); err != nil {
			t.Fatal(err)
		}
		if _, err := h.kube.DiscoveryV1().EndpointSlices("ns").Create(ctx, slice(name+"-1", name), create); err != nil {
			t.Fatal(err)
		}
	}
	awaitCached(t, h, "one", "two", "three")
	// The named one comes after them: when it is here, they were handled.
	if _, err := h.kube.CoreV1().Services("ns").Create(ctx, service("api"), create); err != nil {
		t.Fatal(err)
	}
	h.await(t, "the named Service", func(s State) bool { return s.Services[key("api")].Service != nil })
	if _, after := h.state(); after != before+1 {
		t.Errorf("%d states for one named Service", after-before)
	}
}

// awaitCached waits until the informer knows the Services.
func awaitCached(t *testing.T, h host, names ...string) {
	t.Helper()
	lister := h.services.Core().V1().Services().Lister().Services("ns")
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for _, name := range names {
		for {
			if _, err := lister.Get(name); err == nil {
				break
			}
			select {
			case <-tick.C:
			case <-deadline:
				t.Fatalf("the informer never knew %s", name)
			}
		}
	}
}

// States are spaced: a burst of changes does not cost a state each, and the
// last change is in the last state.
func TestBurstsCostFewStates(t *testing.T) {
	h := startHost(t)
	_, before := h.state()
	began := time.Now()
	const changes = 300
	for n := range changes {
		o := apiService(fmt.Sprintf("v1.g%d.example", n), fmt.Sprintf("s%d", n))
		if _, err := h.aggregator.ApiregistrationV1().APIServices().Create(t.Context(), o, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	h.await(t, "all changes", func(s State) bool { return len(s.APIServices) == changes })
	_, after := h.state()
	if bound := int(time.Since(began)/minPause) + 2; after-before > min(bound, changes) {
		t.Errorf("%d states in %v, want at most %d", after-before, time.Since(began), bound)
	}
}
