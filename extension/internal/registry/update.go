package registry

import (
	"context"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/registry/rest"

	"github.com/annex-api/annex/extension/internal/kind"
)

// updateStrategy guards a subresource that changes some fields: it changes no other.
type updateStrategy struct {
	strategy
	update *kind.Update
}

var _ rest.RESTUpdateStrategy = updateStrategy{}

// PrepareForUpdate takes over the fields that the subresource has, and no others.
func (s updateStrategy) PrepareForUpdate(ctx context.Context, obj, old runtime.Object) {
	defaultHub(ctx, s.kind, obj)
	if err := s.takeFields(obj, old); err != nil {
		panic(failure{err})
	}
	keepStash(obj, old)
	if s.update.Keep != nil {
		s.update.Keep(ctx, obj, old)
	}
	s.countGeneration(obj, old)
}

func (s updateStrategy) takeFields(obj, old runtime.Object) error {
	sent, err := runtime.DefaultUnstructuredConverter.ToUnstructured(obj)
	if err != nil {
		return err
	}
	result, err := runtime.DefaultUnstructuredConverter.ToUnstructured(old.DeepCopyObject())
	if err != nil {
		return err
	}
	for _, path := range s.update.Fields {
		keys := splitPath(path)
		value, found, err := unstructured.NestedFieldNoCopy(sent, keys...)
		if err != nil {
			return err
		}
		if !found {
			unstructured.RemoveNestedField(result, keys...)
		} else if err := unstructured.SetNestedField(result, value, keys...); err != nil {
			return err
		}
	}
	changed := s.kind.New()
	if err := fill(changed, result); err != nil {
		return err
	}
	s.parts.keepRest(obj, changed)
	s.parts.keepStatus(obj, changed)
	keepMetadata(obj, changed)
	return nil
}

func (s updateStrategy) ValidateUpdate(ctx context.Context, obj, old runtime.Object) field.ErrorList {
	errs := s.validateSchema(ctx, obj, old)
	if s.update.Validate != nil && len(errs) == 0 {
		errs = s.update.Validate(ctx, obj, old)
	}
	return errs
}

// AllowCreateOnUpdate is false: there must be an object to change a part of.
func (updateStrategy) AllowCreateOnUpdate(context.Context) bool { return false }

// WarningsOnUpdate gives none: the hook is about the main resource.
func (updateStrategy) WarningsOnUpdate(context.Context, runtime.Object, runtime.Object) []string {
	return nil
}

func splitPath(path string) []string { return strings.Split(strings.TrimPrefix(path, "."), ".") }
