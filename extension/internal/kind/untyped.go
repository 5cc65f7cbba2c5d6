package kind

import (
	"fmt"
	"math"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/json"
)

// Untyped is what a kind without a Go type has beside what every kind has. Its objects
// are *unstructured.Unstructured, its lists *unstructured.UnstructuredList. Both always
// name their kind and version, as nothing else tells what they are; objects of the hub
// name the hub's.
type Untyped struct {
	// Members are the fields of each version but apiVersion, kind and metadata.
	Members map[string][]string
	// Has says whether a version has a field, by a path such as ".spec.replicas".
	Has func(version, path string) bool
}

// Empty makes an object without a Go type that has its kind and version, and nothing else.
func Empty(gvk schema.GroupVersionKind) *unstructured.Unstructured {
	u := &unstructured.Unstructured{Object: map[string]any{}}
	u.SetGroupVersionKind(gvk)
	return u
}

// EmptyList makes a list of objects without a Go type.
func EmptyList(gvk schema.GroupVersionKind) *unstructured.UnstructuredList {
	u := &unstructured.UnstructuredList{Object: map[string]any{}}
	u.SetGroupVersionKind(gvk)
	return u
}

// Normal gives a value in the types that JSON is decoded into. A user's function may have
// left others, such as int, which a deep copy does not bear. Maps and lists of the right
// type are changed in place.
func Normal(value any) (any, error) {
	switch v := value.(type) {
	case nil, string, bool, int64:
		return v, nil
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return nil, fmt.Errorf("%v is no number of JSON", v)
		}
		return v, nil
	case map[string]any:
		for key, below := range v {
			normal, err := Normal(below)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", key, err)
			}
			v[key] = normal
		}
		return v, nil
	case []any:
		for i, below := range v {
			normal, err := Normal(below)
			if err != nil {
				return nil, fmt.Errorf("[%d]: %w", i, err)
			}
			v[i] = normal
		}
		return v, nil
	}
	data, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	var out any
	if err := json.Unmarshal(data, &out); err != nil {
		return nil, err
	}
	return out, nil
}
