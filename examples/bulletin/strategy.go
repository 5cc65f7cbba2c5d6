package bulletin

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/storage/names"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	demov1 "github.com/annex-api/annex/examples/bulletin/v1"
)

// strategy is what the generic store asks about a notice around each write.
type strategy struct {
	runtime.ObjectTyper
	names.NameGenerator
	now func() time.Time
}

var (
	_ rest.RESTCreateStrategy  = strategy{}
	_ rest.RESTUpdateStrategy  = strategy{}
	_ rest.RESTDeleteStrategy  = strategy{}
	_ rest.ResetFieldsStrategy = strategy{}
)

func newStrategy(typer runtime.ObjectTyper, now func() time.Time) strategy {
	return strategy{ObjectTyper: typer, NameGenerator: names.SimpleNameGenerator, now: now}
}

func (strategy) NamespaceScoped() bool                         { return true }
func (strategy) AllowCreateOnUpdate(context.Context) bool      { return false }
func (strategy) AllowUnconditionalUpdate(context.Context) bool { return true }
func (strategy) Canonicalize(runtime.Object)                   {}

// PrepareForCreate drops the status that a client sent.
func (s strategy) PrepareForCreate(_ context.Context, obj runtime.Object) {
	n := obj.(*demov1.Notice)
	n.Generation = 1
	n.Status = demov1.NoticeStatus{Phase: n.Spec.PhaseAt(s.now())}
}

// PrepareForUpdate keeps the stored status, but for a changed spec.expires,
// which starts the notice's life anew.
func (s strategy) PrepareForUpdate(_ context.Context, obj, old runtime.Object) {
	n, o := obj.(*demov1.Notice), old.(*demov1.Notice)
	n.Status = o.Status
	if !n.Spec.Expires.Equal(o.Spec.Expires) {
		n.Status.Phase = n.Spec.PhaseAt(s.now())
	}
	if !equality.Semantic.DeepEqual(n.Spec, o.Spec) {
		n.Generation = o.Generation + 1
	}
}

func (strategy) Validate(_ context.Context, obj runtime.Object) field.ErrorList {
	return demov1.Validate(obj.(*demov1.Notice))
}

func (strategy) ValidateUpdate(_ context.Context, obj, old runtime.Object) field.ErrorList {
	return demov1.ValidateUpdate(obj.(*demov1.Notice), old.(*demov1.Notice))
}

func (s strategy) WarningsOnCreate(_ context.Context, obj runtime.Object) []string {
	n := obj.(*demov1.Notice)
	if n.Spec.PhaseAt(s.now()) == demov1.PhaseExpired {
		return []string{"spec.expires: lies in the past, the notice is created expired"}
	}
	return nil
}

func (strategy) WarningsOnUpdate(context.Context, runtime.Object, runtime.Object) []string {
	return nil
}

// GetResetFields keeps server-side apply from owning what a write through the
// main resource ignores.
func (strategy) GetResetFields() map[fieldpath.APIVersion]*fieldpath.Set {
	return resetFields("status")
}

// statusStrategy guards the status subresource: it changes nothing else.
type statusStrategy struct {
	strategy
}

// PrepareForUpdate keeps everything but the status as it is stored. Managed
// fields are the exception: they record who wrote the status.
func (statusStrategy) PrepareForUpdate(_ context.Context, obj, old runtime.Object) {
	n, o := obj.(*demov1.Notice), old.(*demov1.Notice)
	n.Spec = o.Spec
	n.Labels, n.Annotations = o.Labels, o.Annotations
	n.Finalizers, n.OwnerReferences = o.Finalizers, o.OwnerReferences
}

func (statusStrategy) ValidateUpdate(_ context.Context, obj, old runtime.Object) field.ErrorList {
	return demov1.ValidateStatusUpdate(obj.(*demov1.Notice), old.(*demov1.Notice))
}

func (statusStrategy) GetResetFields() map[fieldpath.APIVersion]*fieldpath.Set {
	return resetFields("spec")
}

func resetFields(field string) map[fieldpath.APIVersion]*fieldpath.Set {
	return map[fieldpath.APIVersion]*fieldpath.Set{
		fieldpath.APIVersion(demov1.SchemeGroupVersion.String()): fieldpath.NewSet(fieldpath.MakePathOrDie(field)),
	}
}
