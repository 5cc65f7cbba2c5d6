package registry

import (
	"context"
	"maps"
	"reflect"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/storage/names"

	"github.com/annex-api/annex/extension/internal/kind"
	"github.com/annex-api/annex/extension/internal/versions"
)

// strategy is what the generic store asks about an object around each write through
// the main resource: what the SDK does, with the user's hooks in their places.
type strategy struct {
	runtime.ObjectTyper
	names.NameGenerator
	kind  *kind.Kind
	parts parts
}

// Strategy is what k8s.io/apiserver asks about an object around a write.
type Strategy interface {
	rest.RESTCreateStrategy
	rest.RESTUpdateStrategy
	rest.RESTGracefulDeleteStrategy
}

// StrategyOf is the strategy of a kind that something else keeps than the generic store.
func StrategyOf(k *kind.Kind, typer runtime.ObjectTyper) (Strategy, error) {
	p, err := partsOf(k)
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
	_ rest.ResetFieldsFilterStrategy  = strategy{}
)

func (s strategy) NamespaceScoped() bool                    { return s.kind.Namespaced }
func (s strategy) AllowCreateOnUpdate(context.Context) bool { return s.kind.CreateOnUpdate }
func (strategy) Canonicalize(runtime.Object)                {}

// AllowUnconditionalUpdate lets a PUT overwrite whatever there is.
func (s strategy) AllowUnconditionalUpdate(context.Context) bool {
	return !s.kind.RequireResourceVersion
}

// PrepareForCreate drops what a client may not set, then asks the user's hook.
func (s strategy) PrepareForCreate(ctx context.Context, obj runtime.Object) {
	if s.kind.Status != nil {
		s.parts.clearStatus(obj)
	}
	obj.(metav1.Object).SetGeneration(1)
	keepStash(obj, nil)
	defaultHub(ctx, s.kind, obj)
	if f := s.kind.Hooks.PrepareForCreate; f != nil {
		f(ctx, obj)
	}
}

// PrepareForUpdate keeps the stored status.
func (s strategy) PrepareForUpdate(ctx context.Context, obj, old runtime.Object) {
	keepStash(obj, old)
	defaultHub(ctx, s.kind, obj)
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

// keepStash has an object carry what the stored one carries: it is no client's to write.
// There is something to carry where a newer release stores what this one knows not of.
func keepStash(obj, old runtime.Object) {
	carried := map[string]string{}
	if old != nil {
		for name, value := range old.(metav1.Object).GetAnnotations() {
			if versions.IsStash(name) {
				carried[name] = value
			}
		}
	}
	m := obj.(metav1.Object)
	annotations := maps.Clone(m.GetAnnotations())
	maps.DeleteFunc(annotations, func(name, _ string) bool { return versions.IsStash(name) })
	if len(carried) > 0 && annotations == nil {
		annotations = map[string]string{}
	}
	maps.Copy(annotations, carried)
	m.SetAnnotations(annotations)
}

// defaultHub sets the hub's defaults in what came through another version, which has only
// its own. The user's hook is asked about all that is written: where objects are read its
// panic is only logged, and would have an object without defaults stored.
func defaultHub(ctx context.Context, k *kind.Kind, obj runtime.Object) {
	if set := k.Schemas[k.Hub.Version].Default; set != nil && versionOf(ctx, k) != k.Hub.Version {
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

// validateSchema asks the schema of the request's version first: its errors name the
// fields that the client sent.
func (s strategy) validateSchema(ctx context.Context, obj, old runtime.Object) field.ErrorList {
	hub, version := s.kind.Hub.Version, versionOf(ctx, s.kind)
	if f := s.kind.Schemas[version].Validate; f != nil && version != hub {
		now, err := versions.FromHub(s.kind, version, obj.DeepCopyObject())
		var before runtime.Object
		if err == nil && old != nil {
			before, err = versions.FromHub(s.kind, version, old.DeepCopyObject())
		}
		if err != nil {
			return field.ErrorList{field.InternalError(nil, err)}
		}
		if errs := f(ctx, now, before); len(errs) > 0 {
			return errs
		}
	}
	if f := s.kind.Schemas[hub].Validate; f != nil {
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
