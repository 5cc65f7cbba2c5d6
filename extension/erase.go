package extension

import (
	"context"

	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/annex-api/annex/extension/internal/kind"
)

// The functions of this file take the type out of a hook. Each gives nil for nil.

func single[T any](f func(context.Context, *T)) func(context.Context, runtime.Object) {
	if f == nil {
		return nil
	}
	return func(ctx context.Context, obj runtime.Object) { f(ctx, any(obj).(*T)) }
}

func singleOf[T, R any](f func(context.Context, *T) R) func(context.Context, runtime.Object) R {
	if f == nil {
		return nil
	}
	return func(ctx context.Context, obj runtime.Object) R { return f(ctx, any(obj).(*T)) }
}

func pair[T any](f func(context.Context, *T, *T)) func(context.Context, runtime.Object, runtime.Object) {
	if f == nil {
		return nil
	}
	return func(ctx context.Context, obj, old runtime.Object) { f(ctx, any(obj).(*T), any(old).(*T)) }
}

func pairOf[T, R any](f func(context.Context, *T, *T) R) func(context.Context, runtime.Object, runtime.Object) R {
	if f == nil {
		return nil
	}
	return func(ctx context.Context, obj, old runtime.Object) R { return f(ctx, any(obj).(*T), any(old).(*T)) }
}

func (r Resource[T, L]) hooks() kind.Hooks {
	h := kind.Hooks{
		PrepareForCreate: single(r.PrepareForCreate),
		PrepareForUpdate: pair(r.PrepareForUpdate),
		PrepareForDelete: single(r.PrepareForDelete),
		Validate:         singleOf(r.Validate),
		ValidateUpdate:   pairOf(r.ValidateUpdate),
		ValidateDelete:   singleOf(r.ValidateDelete),
		WarningsOnCreate: singleOf(r.WarningsOnCreate),
		WarningsOnUpdate: pairOf(r.WarningsOnUpdate),
	}
	if r.Default != nil {
		h.Default = func(obj runtime.Object) { r.Default(any(obj).(*T)) }
	}
	return h
}

func (r Resource[T, L]) selectable() func(runtime.Object) fields.Set {
	if r.SelectableFields == nil {
		return nil
	}
	return func(obj runtime.Object) fields.Set { return r.SelectableFields(any(obj).(*T)) }
}
