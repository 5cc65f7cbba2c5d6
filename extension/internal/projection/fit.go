package projection

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
)

const (
	// fitTimeout bounds the wait for an answer of discovery.
	fitTimeout = 5 * time.Second
	// firstFit and lastFit bound the pause between two questions. It doubles in between.
	firstFit, lastFit = time.Second, 30 * time.Second
)

// Resources asks discovery of an API server.
func Resources(config *rest.Config) (func(context.Context, schema.GroupVersion) (*metav1.APIResourceList, error), error) {
	client, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, gv schema.GroupVersion) (*metav1.APIResourceList, error) {
		path := "/apis/" + gv.String()
		if gv.Group == "" {
			path = "/api/" + gv.Version
		}
		list := &metav1.APIResourceList{}
		return list, client.RESTClient().Get().AbsPath(path).Do(ctx).Into(list)
	}, nil
}

// MisfitError says which field of a projection does not fit its source.
type MisfitError struct{ Field, Problem string }

// Error implements error.
func (e *MisfitError) Error() string { return e.Field + ": " + e.Problem }

// Fit asks the API server of the source whether the source's objects have namespaces as the kind's
// need them. What does not fit is a MisfitError; any other error means that it is not known.
func (s *Source) Fit(ctx context.Context) error {
	if s.Resources == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, fitTimeout)
	defer cancel()
	list, err := s.Resources(ctx, s.Resource.GroupVersion())
	if err != nil {
		return fmt.Errorf("ask what %s has: %w", s.Resource.GroupVersion(), err)
	}
	i := slices.IndexFunc(list.APIResources, func(r metav1.APIResource) bool { return r.Name == s.Resource.Resource })
	if i < 0 {
		return fmt.Errorf("%s is not served at its API server", s.Resource.GroupResource())
	}
	if misfit := s.misfit(list.APIResources[i].Namespaced); misfit != nil {
		return misfit
	}
	s.fits.Store(true)
	return nil
}

// misfit is nil where all is well. Objects of several namespaces cannot be shown without one: two may
// have the same name.
func (s *Source) misfit(namespaced bool) error {
	called := s.Resource.GroupResource().String()
	switch {
	case !namespaced && s.Namespace != "":
		return &MisfitError{"Source.Namespace", called + " have no namespace: leave it empty"}
	case !namespaced && s.Kind.Namespaced:
		return &MisfitError{"Scope", called + " have no namespace, so what is shown of them cannot have one: it must be Cluster"}
	case namespaced && !s.Kind.Namespaced && s.Namespace == "":
		return &MisfitError{"Scope", called + " have namespaces, and two may have the same name: it must be Namespaced, or Source.Namespace name one"}
	}
	return nil
}

// awaitFit waits until it is known that the source fits, and is false if ctx ended before. The kind
// answers 503 meanwhile, with the reason. Who may not ask goes on without an answer.
func (f *follower) awaitFit(ctx context.Context) bool {
	for pause := firstFit; !f.source.fits.Load(); pause = min(2*pause, lastFit) {
		err := f.source.Fit(ctx)
		switch {
		case err == nil:
			return true
		case apierrors.IsForbidden(err), apierrors.IsUnauthorized(err):
			f.log.Error(err, "Whether the source fits the kind is not known")
			return true
		case errors.As(err, new(*MisfitError)):
			f.log.Error(err, "The source does not fit the kind")
		}
		f.source.Ring.Unavailable(err)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return false
		}
	}
	return true
}
