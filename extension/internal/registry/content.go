package registry

import (
	"slices"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/annex-api/annex/extension/internal/kind"
)

// contentParts are the parts of an object without a Go type. What has neither metadata
// nor the status is the rest, whether its schema knows it or not.
type contentParts struct{ members []string }

const statusMember = "status"

func (p contentParts) hasStatus() bool { return slices.Contains(p.members, statusMember) }

func (contentParts) clearStatus(obj runtime.Object) { delete(content(obj), statusMember) }

func (contentParts) keepStatus(obj, old runtime.Object) {
	if status, ok := content(old)[statusMember]; ok {
		content(obj)[statusMember] = runtime.DeepCopyJSONValue(status)
	} else {
		delete(content(obj), statusMember)
	}
}

func (contentParts) keepRest(obj, old runtime.Object) {
	to := content(obj)
	for name := range to {
		if isRest(name) {
			delete(to, name)
		}
	}
	for name, value := range content(old) {
		if isRest(name) {
			to[name] = runtime.DeepCopyJSONValue(value)
		}
	}
}

func (contentParts) sameRest(a, b runtime.Object, withStatus bool) bool {
	return equality.Semantic.DeepEqual(restOf(a, withStatus), restOf(b, withStatus))
}

func restOf(obj runtime.Object, withStatus bool) map[string]any {
	out := map[string]any{}
	for name, value := range content(obj) {
		if isRest(name) || withStatus && name == statusMember {
			out[name] = value
		}
	}
	return out
}

func isRest(name string) bool {
	return !slices.Contains([]string{"apiVersion", "kind", "metadata", statusMember}, name)
}

// identify has an object of an untyped kind say what it is. One that is not there yet is
// given by the store as an empty one, which says nothing.
func identify(k *kind.Kind, obj runtime.Object) {
	if u, ok := obj.(*unstructured.Unstructured); ok && k.Untyped != nil && u.GetKind() == "" {
		u.SetGroupVersionKind(k.Hub.WithKind(k.Names.Kind))
	}
}

func content(obj runtime.Object) map[string]any { return obj.(*unstructured.Unstructured).Object }

// fill gives an empty object a content, which is its own from then on.
func fill(obj runtime.Object, content map[string]any) error {
	if u, ok := obj.(*unstructured.Unstructured); ok {
		u.Object = content
		return nil
	}
	return runtime.DefaultUnstructuredConverter.FromUnstructured(content, obj)
}
