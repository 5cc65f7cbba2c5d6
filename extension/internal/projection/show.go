package projection

import (
	"encoding/json"
	"fmt"
	"maps"
	"runtime/debug"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/klog/v2"
)

// show gives what is shown of a source, without a resourceVersion; nil if it is not shown.
// A panic of To is an error.
func (s *Source) show(u *unstructured.Unstructured) (object runtime.Object, err error) {
	defer func() {
		if p := recover(); p != nil {
			klog.Background().Error(fmt.Errorf("%v", p), "To panicked", "resource", s.Kind.Resource().String(), "stack", string(debug.Stack()))
			object, err = nil, fmt.Errorf("showing %s %s as %s: panic: %v", s.Resource.Resource, klog.KObj(u), s.Kind.Names.Kind, p)
		}
	}()
	from, err := s.decode(u)
	if err != nil {
		return nil, err
	}
	into := s.Kind.New()
	m, err := meta.Accessor(into)
	if err != nil {
		return nil, err
	}
	m.SetLabels(u.GetLabels())
	m.SetAnnotations(s.shownAnnotations(u.GetAnnotations()))
	m.SetOwnerReferences(u.GetOwnerReferences())
	s.identify(m, u)
	shown, err := s.To(from, into)
	switch {
	case err != nil:
		return nil, fmt.Errorf("showing %s %s as %s: %w", s.Resource.Resource, klog.KObj(u), s.Kind.Names.Kind, err)
	case !shown:
		return nil, nil
	}
	s.identify(m, u)
	into.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{})
	return into, nil
}

// identify sets what To may not change: by it writes find the source, and clients know
// whether it is going. The generation is not part of it: it counts changes that are not shown.
func (s *Source) identify(m metav1.Object, u *unstructured.Unstructured) {
	m.SetName(u.GetName())
	m.SetGenerateName(u.GetGenerateName())
	m.SetNamespace(s.namespaceOf(u))
	m.SetUID(u.GetUID())
	m.SetResourceVersion("")
	m.SetCreationTimestamp(u.GetCreationTimestamp())
	m.SetDeletionTimestamp(u.GetDeletionTimestamp())
	m.SetDeletionGracePeriodSeconds(u.GetDeletionGracePeriodSeconds())
	m.SetFinalizers(u.GetFinalizers())
	m.SetManagedFields(s.managers(u))
}

func (s *Source) decode(u *unstructured.Unstructured) (any, error) {
	from := s.NewSource()
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, from); err != nil {
		return nil, fmt.Errorf("reading %s %s as %T: %w", s.Resource.Resource, klog.KObj(u), from, err)
	}
	return from, nil
}

// lastApplied is where kubectl keeps what it applied. That of the source is not about what
// is shown, and that of what is shown not about the source.
const lastApplied = "kubectl.kubernetes.io/last-applied-configuration"

// managersKey is the annotation of a source with who manages the fields of what is shown:
// the source's own managed fields are about the source's own fields.
func (s *Source) managersKey() string { return s.ownKey("managed-fields") }

// ownKey is an annotation of ours. It is in the group of what is shown, so that one source may be
// shown as several kinds.
func (s *Source) ownKey(name string) string {
	return s.Kind.Hub.Group + "/" + s.Kind.Names.Plural + "." + name
}

// own says whether an annotation is kept here for the source itself. Clients do not write it.
func (s *Source) own(key string) bool {
	return key == s.managersKey() || key == s.ownKey("last-applied")
}

// shownAnnotations are a source's annotations as they are shown.
func (s *Source) shownAnnotations(of map[string]string) map[string]string {
	shown := maps.Clone(of)
	delete(shown, lastApplied)
	if applied, ok := shown[s.ownKey("last-applied")]; ok {
		shown[lastApplied] = applied
	}
	maps.DeleteFunc(shown, func(key, _ string) bool { return s.own(key) })
	if len(shown) == 0 {
		return nil
	}
	return shown
}

// sourceAnnotations are annotations as they are at the source.
func (s *Source) sourceAnnotations(of map[string]string) map[string]string {
	at := maps.Clone(of)
	maps.DeleteFunc(at, func(key, _ string) bool { return s.own(key) })
	if applied, ok := at[lastApplied]; ok {
		at[s.ownKey("last-applied")] = applied
	}
	delete(at, lastApplied)
	return at
}

// managers are who manages the fields of what is shown. What somebody else has made of the
// annotation is no record of it.
func (s *Source) managers(u *unstructured.Unstructured) []metav1.ManagedFieldsEntry {
	text, ok := u.GetAnnotations()[s.managersKey()]
	if !ok {
		return nil
	}
	var entries []metav1.ManagedFieldsEntry
	if json.Unmarshal([]byte(text), &entries) != nil {
		return nil
	}
	return entries
}
