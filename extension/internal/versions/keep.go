package versions

import (
	"fmt"
	"reflect"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/json"

	"github.com/annex-api/annex/extension/internal/kind"
)

// Seen gives a stored object as the clients of a version see it, as an object of the hub.
// It is the stored one itself where the version can say all of it.
func Seen(k *kind.Kind, version string, stored runtime.Object) (runtime.Object, error) {
	s, ok := spokeNamed(k, version)
	if !ok {
		return stored, nil
	}
	seen, _, lossy, err := seenThrough(k, s, stored)
	if err != nil || !lossy {
		return stored, err
	}
	return seen, nil
}

// KeepHubOnly puts back into obj what the stored object has and the given version
// cannot say. obj came through that version; the client saw the stored one through it.
// What the client changed stays as it wrote it. Both are objects of the hub.
func KeepHubOnly(k *kind.Kind, version string, obj, stored runtime.Object) error {
	s, ok := spokeNamed(k, version)
	if !ok {
		return nil
	}
	return keep(k, s, obj, stored)
}

// FromHub gives an object of the hub in another version. The two may share what is
// deeper in them.
func FromHub(k *kind.Kind, version string, obj runtime.Object) (runtime.Object, error) {
	s, ok := spokeNamed(k, version)
	if !ok {
		return nil, fmt.Errorf("%s has no version %s", k.Names.Kind, version)
	}
	out := s.New()
	return out, convert(k.Names.Kind, k.Hub.Version, s.Version, s.FromHub)(obj, out, nil)
}

// ToHub is FromHub the other way.
func ToHub(k *kind.Kind, version string, obj runtime.Object) (runtime.Object, error) {
	s, ok := spokeNamed(k, version)
	if !ok {
		return nil, fmt.Errorf("%s has no version %s", k.Names.Kind, version)
	}
	out := k.New()
	return out, convert(k.Names.Kind, s.Version, k.Hub.Version, s.ToHub)(obj, out, nil)
}

func spokeNamed(k *kind.Kind, version string) (kind.Spoke, bool) {
	for _, s := range k.Spokes {
		if s.Version == version {
			return s, true
		}
	}
	return kind.Spoke{}, false
}

// SpokeOf gives the version of an object; false for the hub's, and for other kinds.
func SpokeOf(k *kind.Kind, obj runtime.Object) (version string, ok bool) {
	if _, untyped := obj.(runtime.Unstructured); untyped { // as policies make them of typed ones too
		gvk := obj.GetObjectKind().GroupVersionKind()
		_, ok = spokeNamed(k, gvk.Version)
		return gvk.Version, ok && gvk.GroupKind() == schema.GroupKind{Group: k.Hub.Group, Kind: k.Names.Kind}
	}
	for _, s := range k.Spokes {
		if reflect.TypeOf(s.New()) == reflect.TypeOf(obj) {
			return s.Version, true
		}
	}
	return "", false
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
		untype(o)
	}
	return base, old, !equality.Semantic.DeepEqual(base, old), nil
}

func keep(k *kind.Kind, s kind.Spoke, obj, stored runtime.Object) error {
	hidden, err := hiddenBy(k, s, stored)
	if err != nil {
		return err
	}
	return putBack(k, s, obj, hidden)
}

// hiddenBy gives what a version does not say of a stored object.
func hiddenBy(k *kind.Kind, s kind.Spoke, stored runtime.Object) ([]difference, error) {
	base, old, lossy, err := seenThrough(k, s, stored)
	if err != nil || !lossy { // the usual case: the version can say all of it
		return nil, err
	}
	seen, err := document(base)
	if err != nil {
		return nil, fmt.Errorf("keep what %s cannot say: %w", s.Version, err)
	}
	has, err := document(old)
	if err != nil {
		return nil, fmt.Errorf("keep what %s cannot say: %w", s.Version, err)
	}
	return differences(seen, has, k.Lists), nil
}

// putBack gives an object of the hub what a version hid.
func putBack(k *kind.Kind, s kind.Spoke, obj runtime.Object, hidden []difference) error {
	if len(hidden) == 0 {
		return nil
	}
	now, err := document(obj)
	if err != nil {
		return fmt.Errorf("put back what %s cannot say: %w", s.Version, err)
	}
	for _, d := range hidden {
		if whole, ok := restore(now, d).(map[string]any); ok {
			now = whole
		}
	}
	merged, err := json.Marshal(now)
	if err != nil {
		return fmt.Errorf("put back what %s cannot say: %w", s.Version, err)
	}
	result := k.New()
	if err := json.Unmarshal(merged, result); err != nil {
		return fmt.Errorf("put back what %s cannot say: %w", s.Version, err)
	}
	keepMetadata(obj, result)
	result.GetObjectKind().SetGroupVersionKind(obj.GetObjectKind().GroupVersionKind())
	return assign(obj, result)
}

// document is an object as JSON has it. Of its metadata it has what conversions note
// things in; all else every version can say.
func document(obj runtime.Object) (map[string]any, error) {
	data, err := json.Marshal(obj)
	if err != nil {
		return nil, err
	}
	var out map[string]any
	if err := json.Unmarshal(data, &out); err != nil {
		return nil, err
	}
	metadata, _ := out["metadata"].(map[string]any)
	kept := map[string]any{}
	for _, name := range []string{"labels", "annotations"} {
		if kept[name] = metadata[name]; kept[name] == nil { // none are no less than one
			kept[name] = map[string]any{}
		}
	}
	out["metadata"] = kept
	return out, nil
}
