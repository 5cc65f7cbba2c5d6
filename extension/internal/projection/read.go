package projection

import (
	"context"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/storage"
)

const (
	// patience is how long a write waits for the ring.
	patience = 3 * time.Second
	// readings is how often a source is read that changes meanwhile.
	readings = 5
	// retryAfter is what a client is told that waited in vain, in seconds.
	retryAfter = 1
)

// Stored is an object as it is at the source.
type Stored struct {
	// Object is what is shown of it, with the ring's resourceVersion. Nobody may change it.
	Object runtime.Object
	source *unstructured.Unstructured
}

// Read reads an object at the source, and gives it the resourceVersion that clients know it
// by. It is not found where the source is not selected or not shown.
func (s *Source) Read(ctx context.Context, namespace, name string) (*Stored, error) {
	waiting, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for range readings {
		u, err := s.fetch(ctx, namespace, name)
		if err != nil {
			return nil, err
		}
		if u == nil {
			return nil, apierrors.NewNotFound(s.Kind.Resource(), name)
		}
		object, err := s.show(u)
		switch {
		case err != nil:
			return nil, apierrors.NewInternalError(err)
		case object == nil:
			return nil, apierrors.NewNotFound(s.Kind.Resource(), name)
		}
		version, v := s.seen.wait(waiting, momentOf(u))
		switch v {
		case known:
			return &Stored{Object: s.versioned(object, version), source: u}, nil
		case notYet:
			return nil, s.late(name)
		case passed: // it has changed since
		}
	}
	return nil, s.late(name)
}

// late is the error for who waited for the ring in vain.
func (s *Source) late(name string) error {
	return apierrors.NewTimeoutError(fmt.Sprintf("%s %q: this server has not yet heard what is there now", s.Kind.Resource(), name), retryAfter)
}

// fetch reads one source; nil if there is none that is selected. It is a list, as the API
// server alone can say what a field selector selects.
func (s *Source) fetch(ctx context.Context, namespace, name string) (*unstructured.Unstructured, error) {
	if s.Namespace != "" && s.Kind.Namespaced && namespace != s.Namespace {
		return nil, nil
	}
	o := s.choose(metav1.ListOptions{})
	o.FieldSelector = fields.AndSelectors(s.Fields, fields.OneTermEqualSelector(metav1.ObjectNameField, name)).String()
	list, err := s.client(namespace).List(ctx, o)
	if err != nil {
		return nil, s.failure(name, err)
	}
	for i := range list.Items {
		if u := &list.Items[i]; u.GetName() == name {
			return u, nil
		}
	}
	return nil, nil
}

func momentOf(u *unstructured.Unstructured) moment {
	return moment{u.GetUID(), u.GetResourceVersion()}
}

// versioned sets the ring's resourceVersion.
func (s *Source) versioned(object runtime.Object, version uint64) runtime.Object {
	// An object that was shown has metadata, and that is all that could fail.
	_ = storage.APIObjectVersioner{}.UpdateObject(object, version)
	return object
}

// versionOf is the resourceVersion that clients know an object by.
func versionOf(object runtime.Object) string {
	m, err := meta.Accessor(object)
	if err != nil {
		return ""
	}
	return m.GetResourceVersion()
}
