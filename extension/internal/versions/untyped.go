package versions

import (
	"maps"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/annex-api/annex/extension/internal/kind"
)

// Carry says how what only the hub can say goes along in a conversion.
type Carry int

// It does not; in annotations as with Lossless; in one as with StorageCodec.
const (
	Nothing Carry = iota
	Fields
	Stored
)

// Between gives an object of an untyped kind in another version: in itself where it is of
// that version, and otherwise a copy that shares nothing with it. The internal version is
// the hub's. The error for a version that the kind does not have is one of
// runtime.IsNotRegisteredError.
func Between(k *kind.Kind, in *unstructured.Unstructured, to string, carry Carry) (*unstructured.Unstructured, error) {
	if to == runtime.APIVersionInternal {
		to = k.Hub.Version
	}
	gvk := in.GroupVersionKind()
	if gvk.Version == runtime.APIVersionInternal {
		in = &unstructured.Unstructured{Object: maps.Clone(in.Object)}
		gvk.Version = k.Hub.Version
		in.SetGroupVersionKind(gvk)
	}
	if gvk.Version == to {
		return in, nil
	}
	hub := in
	if gvk.Version != k.Hub.Version {
		s, err := spokeFor(k, gvk)
		if err != nil {
			return nil, err
		}
		hub = k.New().(*unstructured.Unstructured)
		if err := convert(k.Names.Kind, s.Version, k.Hub.Version, s.ToHub)(in, hub, nil); err != nil {
			return nil, err
		}
		if carry != Nothing {
			if err := (spokeOf{k, s}).putBack(in, hub, carry == Stored); err != nil {
				return nil, err
			}
		}
	}
	if to == k.Hub.Version {
		return hub, nil
	}
	gvk.Version = to
	s, err := spokeFor(k, gvk)
	if err != nil {
		return nil, err
	}
	out := s.New().(*unstructured.Unstructured)
	if err := convert(k.Names.Kind, k.Hub.Version, s.Version, s.FromHub)(hub, out, nil); err != nil {
		return nil, err
	}
	if carry != Nothing {
		return out, (spokeOf{k, s}).keepAside(hub, out, carry == Stored)
	}
	return out, nil
}

func spokeFor(k *kind.Kind, gvk schema.GroupVersionKind) (kind.Spoke, error) {
	if s, ok := spokeNamed(k, gvk.Version); ok {
		return s, nil
	}
	return kind.Spoke{}, runtime.NewNotRegisteredErrForKind("schemas of "+k.Names.Plural, gvk)
}

// untype takes kind and version from an object that its Go type tells the kind of.
func untype(obj runtime.Object) {
	if _, untyped := obj.(runtime.Unstructured); !untyped {
		obj.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{})
	}
}

// copyMetadata gives an object a copy of another's metadata.
func copyMetadata(from, to runtime.Object) {
	u, untyped := from.(*unstructured.Unstructured)
	if !untyped {
		metaOf(from).DeepCopyInto(metaOf(to))
		return
	}
	out := to.(*unstructured.Unstructured)
	if m, ok := u.Object["metadata"]; ok {
		out.Object["metadata"] = runtime.DeepCopyJSONValue(m)
	} else {
		delete(out.Object, "metadata")
	}
}

// keepMetadata gives an object the metadata of another, but for what conversions note
// things in.
func keepMetadata(from, to runtime.Object) {
	m := to.(metav1.Object)
	labels, annotations := m.GetLabels(), m.GetAnnotations()
	copyMetadata(from, to)
	if len(labels) == 0 {
		labels = nil
	}
	if len(annotations) == 0 {
		annotations = nil
	}
	m.SetLabels(labels)
	m.SetAnnotations(annotations)
}
