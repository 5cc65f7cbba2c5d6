package versions

import (
	"fmt"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/json"

	"github.com/annex-api/annex/extension/internal/kind"
)

// KeepHubOnly puts back into obj what the stored object has and the given version
// cannot say. obj came through that version; the client saw the stored one through it.
// What the client changed stays as it wrote it. Both are objects of the hub.
func KeepHubOnly(k *kind.Kind, version string, obj, stored runtime.Object) error {
	for _, s := range k.Spokes {
		if s.Version == version {
			return keep(k, s, obj, stored)
		}
	}
	return nil
}

// seenThrough gives a stored object as a version shows it, and whether that is less than
// all of it. Both results are objects of the hub, without kind and version.
func seenThrough(k *kind.Kind, s kind.Spoke, stored runtime.Object) (base, old runtime.Object, lossy bool, err error) {
	old = stored.DeepCopyObject()
	seen := s.New()
	base = k.New()
	if err := convert(k.Names.Kind, k.Hub.Version, s.Version, s.FromHub)(stored.DeepCopyObject(), seen, nil); err != nil {
		return nil, nil, false, err
	}
	if err := convert(k.Names.Kind, s.Version, k.Hub.Version, s.ToHub)(seen, base, nil); err != nil {
		return nil, nil, false, err
	}
	for _, o := range []runtime.Object{base, old} {
		o.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{})
	}
	return base, old, !equality.Semantic.DeepEqual(base, old), nil
}

func keep(k *kind.Kind, s kind.Spoke, obj, stored runtime.Object) error {
	base, old, lossy, err := seenThrough(k, s, stored)
	if err != nil || !lossy { // the usual case: the version can say all of it
		return err
	}
	var documents [3]map[string]any
	for i, o := range []runtime.Object{obj, base, old} {
		data, err := json.Marshal(o)
		if err != nil {
			return fmt.Errorf("keep what %s cannot say: %w", s.Version, err)
		}
		if err := json.Unmarshal(data, &documents[i]); err != nil {
			return fmt.Errorf("keep what %s cannot say: %w", s.Version, err)
		}
		delete(documents[i], "metadata") // every version can say it
	}
	merged, err := json.Marshal(merge(documents[0], documents[1], documents[2]))
	if err != nil {
		return fmt.Errorf("keep what %s cannot say: %w", s.Version, err)
	}
	result := k.New()
	if err := json.Unmarshal(merged, result); err != nil {
		return fmt.Errorf("keep what %s cannot say: %w", s.Version, err)
	}
	*metaOf(result) = *metaOf(obj)
	result.GetObjectKind().SetGroupVersionKind(obj.GetObjectKind().GroupVersionKind())
	return assign(obj, result)
}

// merge gives now with the difference between base and old put back wherever now is
// still as base.
func merge(now, base, old any) any {
	if equality.Semantic.DeepEqual(now, base) {
		return old
	}
	switch now := now.(type) {
	case map[string]any:
		return mergeMaps(now, base, old)
	case []any:
		return mergeLists(now, base, old)
	}
	return now
}

func mergeMaps(now map[string]any, base, old any) any {
	b, _ := base.(map[string]any)
	o, ok := old.(map[string]any)
	if !ok {
		return now
	}
	for key, value := range o {
		n, inNow := now[key]
		seen, inBase := b[key]
		switch {
		case inNow:
			now[key] = merge(n, seen, value)
		case !inBase: // no client of this version could see it, so none removed it
			now[key] = value
		}
	}
	for key, value := range b {
		if _, inOld := o[key]; !inOld && equality.Semantic.DeepEqual(now[key], value) {
			delete(now, key) // the conversion made it up
		}
	}
	return now
}

// mergeLists finds the items of a list again by what they are, or by their name.
func mergeLists(now []any, base, old any) any {
	b, ok := base.([]any)
	o, isList := old.([]any)
	if !ok || !isList || len(b) != len(o) {
		return now
	}
	used := make([]bool, len(b))
	for i := range now {
		for j := range b {
			if !used[j] && same(now[i], b[j]) {
				now[i], used[j] = merge(now[i], b[j], o[j]), true
				break
			}
		}
	}
	return now
}

func same(a, b any) bool {
	if x, ok := a.(map[string]any); ok {
		if y, ok := b.(map[string]any); ok && x["name"] != nil {
			return x["name"] == y["name"]
		}
	}
	return equality.Semantic.DeepEqual(a, b)
}
