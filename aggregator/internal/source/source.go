// Package source delivers the APIServices of a host, with the Services and
// EndpointSlices that they name, as complete states.
package source

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	endpointslices "k8s.io/apiserver/pkg/util/proxy"
	coreinformers "k8s.io/client-go/informers/core/v1"
	discoveryinformers "k8s.io/client-go/informers/discovery/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	apiregistrationinformers "k8s.io/kube-aggregator/pkg/client/informers/externalversions/apiregistration/v1"

	"github.com/annex-api/annex/aggregator/internal/catalog"
	"github.com/annex-api/annex/aggregator/internal/pace"
)

// Between two states there is a pause that grows with what reading one costs: a
// thousand changes in a row do not cost a thousand states, and the first after a
// quiet time never waits.
const (
	minPause = 5 * time.Millisecond
	maxPause = 250 * time.Millisecond
)

// State is all that a host knows at one moment. Its values are read only once
// published.
type State struct {
	APIServices []*apiregistrationv1.APIService
	// Services holds the Services that APIServices name.
	Services map[types.NamespacedName]catalog.ServiceFacts
}

// Informers publishes what a Kubernetes API server knows.
type Informers struct {
	apiServices apiregistrationinformers.APIServiceInformer
	services    corelisters.ServiceLister
	slices      endpointslices.EndpointSliceGetter

	dirty  chan struct{}                                  // one slot
	named  atomic.Pointer[sets.Set[types.NamespacedName]] // Services that APIServices name
	synced []cache.InformerSynced
}

// NewInformers prepares the three informers; their factories are started by
// the caller afterwards.
func NewInformers(
	apiServices apiregistrationinformers.APIServiceInformer,
	services coreinformers.ServiceInformer,
	slices discoveryinformers.EndpointSliceInformer,
) (*Informers, error) {
	getter, err := endpointslices.NewEndpointSliceIndexerGetter(slices)
	if err != nil {
		return nil, fmt.Errorf("indexing EndpointSlices by Service: %w", err)
	}
	i := &Informers{
		apiServices: apiServices,
		services:    services.Lister(),
		slices:      getter,
		dirty:       make(chan struct{}, 1),
	}
	watch := func(informer cache.SharedIndexInformer, relevant func(obj any) bool) error {
		on := func(obj any) {
			if relevant(obj) {
				i.signal()
			}
		}
		registration, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc: on,
			UpdateFunc: func(old, obj any) { // what moves from one Service to another concerns both
				if relevant(old) || relevant(obj) {
					i.signal()
				}
			},
			DeleteFunc: on,
		})
		if err != nil {
			return fmt.Errorf("watching: %w", err)
		}
		i.synced = append(i.synced, registration.HasSynced)
		return nil
	}
	if err := watch(apiServices.Informer(), func(any) bool { return true }); err != nil {
		return nil, err
	}
	if err := watch(services.Informer(), i.namesService); err != nil {
		return nil, err
	}
	if err := watch(slices.Informer(), i.namesSlice); err != nil {
		return nil, err
	}
	return i, nil
}

func (i *Informers) signal() {
	select {
	case i.dirty <- struct{}{}:
	default:
	}
}

func (i *Informers) namesService(obj any) bool {
	s, ok := finalState(obj).(*corev1.Service)
	return ok && i.isNamed(s.Namespace, s.Name)
}

func (i *Informers) namesSlice(obj any) bool {
	s, ok := finalState(obj).(*discoveryv1.EndpointSlice)
	return ok && i.isNamed(s.Namespace, s.Labels[discoveryv1.LabelServiceName])
}

// isNamed is true before the first state as well: an event too many costs a state, one
// too few would lose a change.
func (i *Informers) isNamed(namespace, name string) bool {
	named := i.named.Load()
	return named == nil || named.Has(types.NamespacedName{Namespace: namespace, Name: name})
}

// finalState is the object of an event; of one that is gone, as it was known last.
func finalState(obj any) any {
	if t, ok := obj.(cache.DeletedFinalStateUnknown); ok {
		return t.Obj
	}
	return obj
}

// Run publishes the complete state: first when it is known, and again after changes.
// It blocks until ctx ends or reading fails.
func (i *Informers) Run(ctx context.Context, publish func(State)) error {
	if !cache.WaitForCacheSync(ctx.Done(), i.synced...) {
		return ctx.Err()
	}
	for {
		began := time.Now()
		state, err := i.read()
		if err != nil {
			return err
		}
		publish(state)
		if !pace.Wait(ctx, pace.AfterWork(time.Since(began), minPause, maxPause), nil) {
			return ctx.Err()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-i.dirty:
		}
	}
}

func (i *Informers) read() (State, error) {
	list, err := i.apiServices.Lister().List(labels.Everything())
	if err != nil {
		return State{}, fmt.Errorf("listing APIServices: %w", err)
	}
	// The set of named Services is published before they are read, so that a
	// change in between is not missed.
	named := sets.Set[types.NamespacedName]{}
	for _, a := range list {
		if s := a.Spec.Service; s != nil {
			named.Insert(types.NamespacedName{Namespace: s.Namespace, Name: s.Name})
		}
	}
	i.named.Store(&named)
	services := make(map[types.NamespacedName]catalog.ServiceFacts, len(named))
	for key := range named {
		services[key] = i.service(key)
	}
	return State{APIServices: list, Services: services}, nil
}

func (i *Informers) service(key types.NamespacedName) catalog.ServiceFacts {
	service, err := i.services.Services(key.Namespace).Get(key.Name)
	switch {
	case apierrors.IsNotFound(err):
		return catalog.ServiceFacts{}
	case err != nil:
		return catalog.ServiceFacts{Err: err}
	}
	slices, err := i.slices.GetEndpointSlices(key.Namespace, key.Name)
	return catalog.ServiceFacts{Service: service, Slices: slices, SlicesErr: err}
}
