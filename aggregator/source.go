package aggregator

import (
	"context"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
	coreinformers "k8s.io/client-go/informers/core/v1"
	discoveryinformers "k8s.io/client-go/informers/discovery/v1"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	apiregistrationinformers "k8s.io/kube-aggregator/pkg/client/informers/externalversions/apiregistration/v1"

	"github.com/annex-api/annex/aggregator/internal/catalog"
	"github.com/annex-api/annex/aggregator/internal/source"
)

// Source publishes the APIServices of a host.
//
// Run publishes the complete State: first when it is known, and again after each
// change; changes that follow each other closely may be published together.
// publish returns soon, and is called by one goroutine at a time. Run blocks until
// ctx ends and then returns the error of ctx. Any other end is a failure, with or
// without an error: it ends [Aggregator.Run].
type Source interface {
	Run(ctx context.Context, publish func(State)) error
}

// State is all that a host knows of its APIServices at one moment. What it holds
// must not change once it is published.
type State struct {
	// APIServices are all of the host's, in any order. One that cannot be routed,
	// because its name is not version.group for example, is left out of routing
	// and fails nothing else.
	APIServices []*apiregistrationv1.APIService
	// Services holds the Services that APIServices name; one that is missing is
	// taken to be absent. Nil means that the host has no Services: then
	// Config.Resolver finds the extension servers.
	Services map[types.NamespacedName]ServiceFacts
}

// ServiceFacts is what is known of a Service and where it leads.
type ServiceFacts struct {
	// Service is nil when there is none of that name.
	Service *corev1.Service
	// Slices are the Service's.
	Slices []*discoveryv1.EndpointSlice
	// Err is set when the Service cannot be read, SlicesErr when the slices cannot.
	// The condition of its APIServices is Unknown then.
	Err, SlicesErr error
}

// services are those of the state as the layer's parts know them.
func (s State) services() map[types.NamespacedName]catalog.ServiceFacts {
	if s.Services == nil {
		return nil
	}
	services := make(map[types.NamespacedName]catalog.ServiceFacts, len(s.Services))
	for name, facts := range s.Services {
		services[name] = catalog.ServiceFacts(facts)
	}
	return services
}

// StaticSource is a [Source] whose State is set by hand: for programs that have
// their APIServices from elsewhere than a Kubernetes API, and for tests.
type StaticSource struct {
	state   atomic.Pointer[State]
	changed chan struct{} // one slot
}

// NewStaticSource returns a StaticSource that publishes initial first.
func NewStaticSource(initial State) *StaticSource {
	s := &StaticSource{changed: make(chan struct{}, 1)}
	s.state.Store(&initial)
	return s
}

// Set replaces the whole State. It may be called at any time, from any goroutine,
// and does not wait until the State is in use.
func (s *StaticSource) Set(state State) {
	s.state.Store(&state)
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// Run implements [Source]. It must not run twice at a time.
func (s *StaticSource) Run(ctx context.Context, publish func(State)) error {
	for {
		publish(*s.state.Load())
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.changed:
		}
	}
}

// NewInformerSource returns the [Source] of a Kubernetes API server: all its
// APIServices, with the Services that they name and the EndpointSlices of those.
// Changes of other Services cost nothing.
//
// Call it before the informers' factories are started; whoever started them stops
// them. It fails where the informers take no more handlers or indexers.
func NewInformerSource(
	apiServices apiregistrationinformers.APIServiceInformer,
	services coreinformers.ServiceInformer,
	slices discoveryinformers.EndpointSliceInformer,
) (Source, error) {
	informers, err := source.NewInformers(apiServices, services, slices)
	if err != nil {
		return nil, err
	}
	return informerSource{informers}, nil
}

type informerSource struct{ informers *source.Informers }

func (s informerSource) Run(ctx context.Context, publish func(State)) error {
	return s.informers.Run(ctx, func(state source.State) {
		services := make(map[types.NamespacedName]ServiceFacts, len(state.Services))
		for name, facts := range state.Services {
			services[name] = ServiceFacts(facts)
		}
		publish(State{APIServices: state.APIServices, Services: services})
	})
}
