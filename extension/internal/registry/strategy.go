package registry

import (
	"context"
	"maps"
	"reflect"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/storage/names"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"github.com/annex-api/annex/extension/internal/kind"
	"github.com/annex-api/annex/extension/internal/versions"
)

// strategy is what the generic store asks about an object around each write through
// the main resource: what the SDK does, with the user's hooks in their places.
type strategy struct {
	runtime.ObjectTyper
	names.NameGenerator
	kind  *kind.Kind
	parts *parts
}

// Strategy is what k8s.io/apiserver asks about an object around a write.
type Strategy interface {
	rest.RESTCreateStrategy
	rest.RESTUpdateStrategy
	rest.RESTGracefulDeleteStrategy
}

// StrategyOf is the strategy of a kind that something else keeps than the generic store.
func StrategyOf(k *kind.Kind, typer runtime.ObjectTyper) (Strategy, error) {
	p, err := partsOf(k.New())
	if err != nil {
		return nil, err
	}
	return strategy{ObjectTyper: typer, NameGenerator: names.SimpleNameGenerator, kind: k, parts: p}, nil
}

var (
	_ Strategy                        = strategy{}
	_ rest.RESTCreateStrategy         = strategy{}
	_ rest.RESTUpdateStrategy         = strategy{}
	_ rest.RESTGracefulDeleteStrategy = strategy{}
	_ rest.ResetFieldsStrategy        = strategy{}
)

func (s strategy) NamespaceScoped() bool                       { return s.kind.Namespaced }
func (s strategy) AllowCreateOnUpdate(context.Context) bool    { return s.kind.CreateOnUpdate }
func (strategy) AllowUnconditionalUpdate(context.Context) bool { return true }
func (strategy) Canonicalize(runtime.Object)                   {}

// PrepareForCreate drops what a client may not set, then asks the user's hook.
func (s strategy) PrepareForCreate(ctx context.Context, obj runtime.Object) {
	if s.kind.Status != nil {
		s.parts.clearStatus(obj)
	}
	obj.(metav1.Object).SetGeneration(1)
	dropStash(obj)
	defaultHub(ctx, s.kind, obj)
	if f := s.kind.Hooks.PrepareForCreate; f != nil {
		f(ctx, obj)
	}
}

// PrepareForUpdate keeps the stored status, and what the request's version cannot say.
func (s strategy) PrepareForUpdate(ctx context.Context, obj, old runtime.Object) {
	keepHubOnly(ctx, s.kind, obj, old)
	if s.kind.Status != nil {
		s.parts.keepStatus(obj, old)
	}
	if f := s.kind.Hooks.PrepareForUpdate; f != nil {
		f(ctx, obj, old)
	}
	s.countGeneration(obj, old)
}

// countGeneration has the generation grow with all but metadata and status.
func (s strategy) countGeneration(obj, old runtime.Object) {
	generation := old.(metav1.Object).GetGeneration()
	if !s.parts.sameRest(obj, old, s.kind.Status == nil) {
		generation++
	}
	obj.(metav1.Object).SetGeneration(generation)
}

// failure carries an error out of a hook that has none in its signature.
type failure struct{ error }

func keepHubOnly(ctx context.Context, k *kind.Kind, obj, old runtime.Object) {
	dropStash(obj)
	info, ok := request.RequestInfoFrom(ctx)
	if !ok || len(k.Spokes) == 0 || info.APIGroup != k.Hub.Group {
		return
	}
	if err := versions.KeepHubOnly(k, info.APIVersion, obj, old); err != nil {
		panic(failure{err})
	}
	defaultHub(ctx, k, obj)
}

// dropStash takes off what no client may send.
func dropStash(obj runtime.Object) {
	m := obj.(metav1.Object)
	if _, sent := m.GetAnnotations()[versions.Stash]; sent {
		annotations := maps.Clone(m.GetAnnotations())
		delete(annotations, versions.Stash)
		m.SetAnnotations(annotations)
	}
}

// defaultHub sets the hub's defaults in what came through another version, which has only
// its own.
func defaultHub(ctx context.Context, k *kind.Kind, obj runtime.Object) {
	info, ok := request.RequestInfoFrom(ctx)
	if !ok || info.APIGroup != k.Hub.Group || info.APIVersion == k.Hub.Version {
		return
	}
	if set := k.Schemas[k.Hub.Version].Default; set != nil {
		set(obj)
	}
	if k.Hooks.Default != nil {
		k.Hooks.Default(obj)
	}
}

func (s strategy) Validate(ctx context.Context, obj runtime.Object) field.ErrorList {
	errs := s.validateSchema(ctx, obj, nil)
	if f := s.kind.Hooks.Validate; f != nil && len(errs) == 0 {
		errs = f(ctx, obj)
	}
	return errs
}

func (s strategy) ValidateUpdate(ctx context.Context, obj, old runtime.Object) field.ErrorList {
	errs := s.validateSchema(ctx, obj, old)
	if len(errs) > 0 {
		return errs
	}
	switch h := s.kind.Hooks; {
	case h.ValidateUpdate != nil:
		return h.ValidateUpdate(ctx, obj, old)
	case h.Validate != nil: // what may not be created may not be made by an update either
		return h.Validate(ctx, obj)
	}
	return nil
}

func (s strategy) validateSchema(ctx context.Context, obj, old runtime.Object) field.ErrorList {
	if f := s.kind.Schemas[s.kind.Hub.Version].Validate; f != nil {
		return f(ctx, obj, old)
	}
	return nil
}

func (s strategy) WarningsOnCreate(ctx context.Context, obj runtime.Object) []string {
	if f := s.kind.Hooks.WarningsOnCreate; f != nil {
		return f(ctx, obj)
	}
	return nil
}

func (s strategy) WarningsOnUpdate(ctx context.Context, obj, old runtime.Object) []string {
	if f := s.kind.Hooks.WarningsOnUpdate; f != nil {
		return f(ctx, obj, old)
	}
	return nil
}

// CheckGracefulDelete lets the user change an object that its finalizers keep. No
// deletion takes time by itself.
func (s strategy) CheckGracefulDelete(ctx context.Context, obj runtime.Object, _ *metav1.DeleteOptions) bool {
	if f := s.kind.Hooks.PrepareForDelete; f != nil {
		own := obj.DeepCopyObject() // what is deeper in obj belongs to the watch cache
		f(ctx, own)
		reflect.ValueOf(obj).Elem().Set(reflect.ValueOf(own).Elem())
	}
	return false
}

// GetResetFields keeps server-side apply from owning what a write here ignores.
func (s strategy) GetResetFields() map[fieldpath.APIVersion]*fieldpath.Set {
	set := fieldpath.NewSet()
	if s.kind.Status != nil && s.parts.status != nil {
		set.Insert(fieldpath.MakePathOrDie("status"))
	}
	return inEveryVersion(s.kind, set)
}

// inEveryVersion has a set of fields, and what carries the hub's through conversions,
// owned by nobody.
func inEveryVersion(k *kind.Kind, set *fieldpath.Set) map[fieldpath.APIVersion]*fieldpath.Set {
	if len(k.Spokes) > 0 {
		set.Insert(fieldpath.MakePathOrDie("metadata", "annotations", versions.Stash))
	}
	if set.Empty() {
		return nil
	}
	out := map[fieldpath.APIVersion]*fieldpath.Set{}
	for _, v := range k.Served() {
		out[fieldpath.APIVersion(schema.GroupVersion{Group: k.Hub.Group, Version: v}.String())] = set
	}
	return out
}
