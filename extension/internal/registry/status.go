package registry

import (
	"context"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/registry/rest"
)

// statusStrategy guards the subresource status: it changes nothing else.
type statusStrategy struct{ strategy }

var _ rest.RESTUpdateStrategy = statusStrategy{}

// PrepareForUpdate keeps all but the status as it is stored. Managed fields are the
// exception: they record who wrote the status.
func (s statusStrategy) PrepareForUpdate(ctx context.Context, obj, old runtime.Object) {
	defaultHub(ctx, s.kind, obj)
	s.parts.keepRest(obj, old)
	keepMetadata(obj, old)
	if f := s.kind.Status.PrepareForUpdate; f != nil {
		f(ctx, obj, old)
	}
}

// keepMetadata gives obj the metadata of old, but its managed fields and what tells
// which object it is and which state of it is meant.
func keepMetadata(obj, old runtime.Object) {
	n, o := obj.(metav1.Object), old.DeepCopyObject().(metav1.Object)
	n.SetLabels(o.GetLabels())
	n.SetAnnotations(o.GetAnnotations())
	n.SetFinalizers(o.GetFinalizers())
	n.SetOwnerReferences(o.GetOwnerReferences())
	n.SetGeneration(o.GetGeneration())
	n.SetDeletionTimestamp(o.GetDeletionTimestamp())
	n.SetDeletionGracePeriodSeconds(o.GetDeletionGracePeriodSeconds())
}

func (s statusStrategy) ValidateUpdate(ctx context.Context, obj, old runtime.Object) field.ErrorList {
	errs := s.validateSchema(ctx, obj, old)
	if f := s.kind.Status.ValidateUpdate; f != nil && len(errs) == 0 {
		errs = f(ctx, obj, old)
	}
	return errs
}

// AllowCreateOnUpdate is false: there must be an object to have a status.
func (statusStrategy) AllowCreateOnUpdate(context.Context) bool { return false }

// WarningsOnUpdate gives none: the hook is about the main resource.
func (statusStrategy) WarningsOnUpdate(context.Context, runtime.Object, runtime.Object) []string {
	return nil
}
