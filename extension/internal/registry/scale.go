package registry

import (
	"context"
	"fmt"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/registry/generic/registry"
	"k8s.io/apiserver/pkg/registry/rest"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"github.com/annex-api/annex/extension/internal/kind"
)

// scale shows the replicas of an object as autoscaling/v1 Scale.
type scale struct {
	store *registry.Store
	kind  *kind.Kind
}

var (
	_ rest.Patcher                  = &scale{}
	_ rest.GroupVersionKindProvider = &scale{}
)

func (*scale) GroupVersionKind(schema.GroupVersion) schema.GroupVersionKind {
	return autoscalingv1.SchemeGroupVersion.WithKind("Scale")
}

func (*scale) New() runtime.Object { return &autoscalingv1.Scale{} }
func (*scale) Destroy()            {}

func (s *scale) Get(ctx context.Context, name string, o *metav1.GetOptions) (_ runtime.Object, err error) {
	defer recovered(ctx, s.kind, "scale", &err)
	obj, err := s.store.Get(ctx, name, o)
	if err != nil {
		return nil, err
	}
	return s.of(obj)
}

func (s *scale) ConvertToTable(ctx context.Context, obj, options runtime.Object) (*metav1.Table, error) {
	return rest.NewDefaultTableConvertor(autoscalingv1.Resource("scales")).ConvertToTable(ctx, obj, options)
}

// of reads the scale of an object.
func (s *scale) of(obj runtime.Object) (*autoscalingv1.Scale, error) {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(obj)
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	m := obj.(metav1.Object)
	out := &autoscalingv1.Scale{
		TypeMeta: metav1.TypeMeta{APIVersion: "autoscaling/v1", Kind: "Scale"},
		ObjectMeta: metav1.ObjectMeta{
			Name: m.GetName(), Namespace: m.GetNamespace(), UID: m.GetUID(),
			ResourceVersion: m.GetResourceVersion(), CreationTimestamp: m.GetCreationTimestamp(),
		},
	}
	for to, path := range map[*int32]string{&out.Spec.Replicas: s.kind.Scale.SpecReplicas, &out.Status.Replicas: s.kind.Scale.StatusReplicas} {
		n, _, err := unstructured.NestedInt64(content, splitPath(path)...)
		if err != nil {
			return nil, apierrors.NewInternalError(fmt.Errorf("read the scale of %s %s: %w", s.kind.Resource(), m.GetName(), err))
		}
		if int64(int32(n)) != n {
			return nil, apierrors.NewInternalError(fmt.Errorf("read the scale of %s %s: %d at %s is more than a scale can say", s.kind.Resource(), m.GetName(), n, path))
		}
		*to = int32(n)
	}
	if path := s.kind.Scale.Selector; path != "" {
		if out.Status.Selector, _, err = unstructured.NestedString(content, splitPath(path)...); err != nil {
			return nil, apierrors.NewInternalError(fmt.Errorf("read the scale of %s %s: %w", s.kind.Resource(), m.GetName(), err))
		}
	}
	return out, nil
}

// Update changes the replicas, and nothing else of the object.
func (s *scale) Update(ctx context.Context, name string, info rest.UpdatedObjectInfo, create rest.ValidateObjectFunc,
	update rest.ValidateObjectUpdateFunc, _ bool, o *metav1.UpdateOptions,
) (_ runtime.Object, _ bool, err error) {
	defer recovered(ctx, s.kind, "scale", &err)
	asScale := func(ctx context.Context, obj, old runtime.Object) error {
		now, err := s.of(obj)
		if err != nil {
			return err
		}
		before, err := s.of(old)
		if err != nil {
			return err
		}
		if update == nil {
			return nil
		}
		return update(ctx, now, before)
	}
	obj, _, err := s.store.Update(ctx, name, untyped{scaled{scale: s, info: info}}, create, asScale, false, o)
	if err != nil {
		return nil, false, err
	}
	out, err := s.of(obj)
	return out, false, err
}

// scaled is an object with the replicas of the scale that a client sent.
type scaled struct {
	scale *scale
	info  rest.UpdatedObjectInfo
}

func (u scaled) Preconditions() *metav1.Preconditions { return u.info.Preconditions() }

func (u scaled) UpdatedObject(ctx context.Context, old runtime.Object) (runtime.Object, error) {
	k := u.scale.kind
	before, err := u.scale.of(old)
	if err != nil {
		return nil, err
	}
	owners := managedfields.NewScaleHandler(old.(metav1.Object).GetManagedFields(), k.Hub, replicasIn(k))
	if before.ManagedFields, err = owners.ToSubresource(); err != nil {
		return nil, err
	}
	sent, err := u.info.UpdatedObject(ctx, before)
	if err != nil {
		return nil, err
	}
	now, ok := sent.(*autoscalingv1.Scale)
	if !ok {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("a Scale is wanted, not %T", sent))
	}
	if errs := validateScale(now); len(errs) > 0 {
		return nil, apierrors.NewInvalid(autoscalingv1.SchemeGroupVersion.WithKind("Scale").GroupKind(), now.Name, errs)
	}
	obj := old.DeepCopyObject()
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(obj)
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	if err := unstructured.SetNestedField(content, int64(now.Spec.Replicas), splitPath(k.Scale.SpecReplicas)...); err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	obj = k.New()
	if err := fill(obj, content); err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	m := obj.(metav1.Object)
	m.SetResourceVersion(now.ResourceVersion)
	if now.UID != "" {
		m.SetUID(now.UID)
	}
	updated, err := owners.ToParent(now.ManagedFields)
	if err != nil {
		return nil, err
	}
	m.SetManagedFields(updated)
	return obj, nil
}

// replicasIn says where each version has the replicas. One that has them nowhere is there,
// too: those who own something in it would be forgotten otherwise.
func replicasIn(k *kind.Kind) managedfields.ResourcePathMappings {
	at := func(path string) (out fieldpath.Path) {
		if path == "" {
			return nil
		}
		for _, key := range splitPath(path) {
			out = append(out, fieldpath.PathElement{FieldName: &key})
		}
		return out
	}
	paths := managedfields.ResourcePathMappings{string(apiVersion(k, k.Hub.Version)): at(k.Scale.SpecReplicas)}
	for _, s := range k.Spokes {
		paths[string(apiVersion(k, s.Version))] = at(s.Replicas)
	}
	return paths
}

func validateScale(s *autoscalingv1.Scale) field.ErrorList {
	if s.Spec.Replicas < 0 {
		return field.ErrorList{field.Invalid(field.NewPath("spec", "replicas"), s.Spec.Replicas, "must be greater than or equal to 0")}
	}
	return nil
}
