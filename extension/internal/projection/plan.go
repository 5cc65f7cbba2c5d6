package projection

import (
	"context"
	"fmt"
	"reflect"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Plan is what a write would come to. Nobody may change its objects.
type Plan struct {
	// Shown is what would be shown.
	Shown runtime.Object
	// Asked is Shown with all labels, annotations and owners that the client sent.
	Asked runtime.Object

	name   string
	before *Stored // nil for a creation
	source *unstructured.Unstructured
	// refused is why nothing is written, or nil.
	refused error
}

// Plan writes an object into its source: the one before, or a new one where that is nil.
// It sends nothing.
func (s *Source) Plan(ctx context.Context, before *Stored, object runtime.Object) (*Plan, error) {
	is, err := metaOf(object)
	if err != nil {
		return nil, err
	}
	source := &unstructured.Unstructured{Object: map[string]any{}}
	shown := s.Kind.New()
	if before != nil {
		source, shown = before.source.DeepCopy(), before.Object
	} else if err := s.begin(source, is); err != nil {
		return nil, err
	}
	was, err := metaOf(shown)
	if err != nil {
		return nil, err
	}
	m := &metadata{source: s, was: was, is: is, created: before == nil, hidden: map[string]*field.Path{}}
	if err := m.write(source); err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	identity := source.DeepCopy()
	if err := s.writeFields(ctx, source, object); err != nil {
		return nil, err
	}
	keepIdentity(source, identity)
	p := &Plan{name: is.GetName(), before: before, source: source}
	if !s.selects(source) {
		return nil, s.invalid(p.name, field.Invalid(labelsPath, source.GetLabels(), fmt.Sprintf("the object would not be one of those that are shown, which are selected by %q", s.Labels)))
	}
	if p.Shown, err = s.show(source); err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	if p.Shown == nil {
		return nil, s.invalid(p.name, field.Forbidden(field.NewPath("metadata", "name"), "the object would not be one of those that are shown"))
	}
	if p.Asked, err = m.asked(p.Shown); err != nil {
		return nil, err
	}
	p.refused = m.refusal()
	return p, nil
}

func metaOf(object runtime.Object) (metav1.Object, error) {
	m, err := meta.Accessor(object)
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	return m, nil
}

func (s *Source) invalid(name string, problems ...*field.Error) error {
	return apierrors.NewInvalid(s.Kind.Hub.WithKind(s.Kind.Names.Kind).GroupKind(), name, problems)
}

// begin gives a new source its name, its place, and the labels that select it.
func (s *Source) begin(source *unstructured.Unstructured, m metav1.Object) error {
	namespace := m.GetNamespace()
	if s.Namespace != "" {
		if s.Kind.Namespaced && namespace != s.Namespace {
			return apierrors.NewForbidden(s.Kind.Resource(), m.GetName(), fmt.Errorf("they are in the namespace %s and in no other", s.Namespace))
		}
		namespace = s.Namespace
	}
	source.SetAPIVersion(s.Resource.GroupVersion().String())
	source.SetKind(s.SourceKind)
	source.SetName(m.GetName())
	source.SetNamespace(namespace)
	requirements, _ := s.Labels.Requirements()
	selecting := map[string]string{}
	for _, r := range requirements {
		if r.Operator() == selection.Equals || r.Operator() == selection.DoubleEquals {
			selecting[r.Key()] = r.Values().UnsortedList()[0]
		}
	}
	if len(selecting) > 0 {
		source.SetLabels(selecting)
	}
	return nil
}

// selects says whether labels let a source be shown. What field selectors say the API server alone
// knows.
func (s *Source) selects(source *unstructured.Unstructured) bool {
	return s.Labels.Matches(labels.Set(source.GetLabels()))
}

// writeFields has From write, and takes over what it changed.
func (s *Source) writeFields(ctx context.Context, source *unstructured.Unstructured, object runtime.Object) error {
	into, err := s.decode(source)
	if err != nil {
		return apierrors.NewInternalError(err)
	}
	before, err := runtime.DefaultUnstructuredConverter.ToUnstructured(into)
	if err != nil {
		return apierrors.NewInternalError(err)
	}
	if err := s.From(ctx, object.DeepCopyObject(), into); err != nil {
		return s.refusal(object, err)
	}
	after, err := runtime.DefaultUnstructuredConverter.ToUnstructured(into)
	if err != nil {
		return apierrors.NewInternalError(err)
	}
	takeOver(source.Object, before, after)
	return nil
}

// takeOver makes the changes between two forms of an object in a third, which has more
// fields.
func takeOver(there, before, after map[string]any) {
	for key := range before {
		if _, stays := after[key]; !stays {
			delete(there, key)
		}
	}
	for key, value := range after {
		old, was := before[key]
		if was && reflect.DeepEqual(old, value) {
			continue
		}
		into, deep := there[key].(map[string]any)
		oldMap, wasMap := old.(map[string]any)
		if valueMap, isMap := value.(map[string]any); deep && wasMap && isMap {
			takeOver(into, oldMap, valueMap)
			continue
		}
		there[key] = value
	}
}

// keepIdentity undoes what From may not change: which object it is.
func keepIdentity(source, identity *unstructured.Unstructured) {
	for _, path := range [][]string{
		{"apiVersion"},
		{"kind"},
		{"metadata", "name"},
		{"metadata", "generateName"},
		{"metadata", "namespace"},
		{"metadata", "uid"},
		{"metadata", "resourceVersion"},
		{"metadata", "creationTimestamp"},
		{"metadata", "deletionTimestamp"},
		{"metadata", "deletionGracePeriodSeconds"},
		{"metadata", "generation"},
		{"metadata", "managedFields"},
	} {
		value, found, err := unstructured.NestedFieldCopy(identity.Object, path...)
		if err != nil || !found {
			unstructured.RemoveNestedField(source.Object, path...)
			continue
		}
		_ = unstructured.SetNestedField(source.Object, value, path...) // there was such a field
	}
}
