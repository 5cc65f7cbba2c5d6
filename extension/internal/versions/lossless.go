package versions

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/json"

	"github.com/annex-api/annex/extension/internal/kind"
)

// Stash is what annotations begin with by which an object of a spoke carries what only the
// hub can say. No client and no hook sees it. What is stored has it where a kind is stored in a
// spoke: a release that has no hub yet keeps it, as it keeps all annotations.
const Stash = "extension.annex.dev/hub"

// Lossless gives a convertor of a scheme for who converts there and back: server-side
// apply, which looks at an object in each version that was ever applied, and patches. What
// only the hub can say goes there and back in annotations. Like
// runtime.UnsafeObjectConvertor, it may change what it is given.
func Lossless(scheme *runtime.Scheme, kinds ...*kind.Kind) runtime.ObjectConvertor {
	return newLossless(scheme, kinds...)
}

func newLossless(scheme *runtime.Scheme, kinds ...*kind.Kind) lossless {
	l := lossless{ObjectConvertor: runtime.UnsafeObjectConvertor(scheme), scheme: scheme, hubs: map[reflect.Type]*kind.Kind{}, spokes: map[reflect.Type]spokeOf{}}
	for _, k := range kinds {
		if len(k.Spokes) == 0 || k.Untyped != nil { // see Between
			continue
		}
		l.hubs[reflect.TypeOf(k.New())] = k
		for _, s := range k.Spokes {
			l.spokes[reflect.TypeOf(s.New())] = spokeOf{k, s}
		}
	}
	return l
}

type spokeOf struct {
	kind  *kind.Kind
	spoke kind.Spoke
}

type lossless struct {
	runtime.ObjectConvertor
	scheme *runtime.Scheme
	hubs   map[reflect.Type]*kind.Kind
	spokes map[reflect.Type]spokeOf
	// forStorage has what is carried fit what servers check.
	forStorage bool
}

func (l lossless) ConvertToVersion(in runtime.Object, target runtime.GroupVersioner) (runtime.Object, error) {
	if u, ok := in.(runtime.Unstructured); ok { // first what it is in its own version
		typed, err := l.scheme.ConvertToVersion(u, u.GetObjectKind().GroupVersionKind().GroupVersion())
		if err != nil {
			return nil, err
		}
		in = typed
	}
	out, err := l.ObjectConvertor.ConvertToVersion(in, target)
	if err != nil {
		return nil, err
	}
	return out, l.carry(in, out)
}

// Convert is ConvertToVersion into an object that there is.
func (l lossless) Convert(in, out, context any) error {
	if err := l.ObjectConvertor.Convert(in, out, context); err != nil {
		return err
	}
	from, ok := in.(runtime.Object)
	to, isObject := out.(runtime.Object)
	if !ok || !isObject {
		return nil
	}
	return l.carry(from, to)
}

// carry takes what only the hub can say from one object to the other.
func (l lossless) carry(in, out runtime.Object) error {
	from, to := reflect.TypeOf(in), reflect.TypeOf(out)
	if s, ok := l.spokes[to]; ok && l.hubs[from] == s.kind {
		return s.keepAside(in, out, l.forStorage)
	}
	if s, ok := l.spokes[from]; ok && l.hubs[to] == s.kind {
		return s.putBack(in, out)
	}
	return nil
}

// keepAside has an object of the spoke carry what it cannot say. For storage that is one
// annotation, with a name that any server takes. For server-side apply, which removes
// fields one by one, it is one for each field.
func (s spokeOf) keepAside(hub, out runtime.Object, forStorage bool) error {
	hidden, err := hiddenBy(s.kind, s.spoke, hub)
	if err != nil || len(hidden) == 0 {
		return err
	}
	annotations := maps.Clone(out.(metav1.Object).GetAnnotations())
	if annotations == nil {
		annotations = map[string]string{}
	}
	carry := func(name string, value any) error {
		content, err := json.Marshal(value)
		if err != nil {
			return fmt.Errorf("keep what %s cannot say: %w", s.spoke.Version, err)
		}
		annotations[name] = string(content)
		return nil
	}
	if forStorage {
		err = carry(Stash, hidden)
	} else {
		for _, d := range hidden {
			err = errors.Join(err, carry(Stash+":"+d.name(), []difference{d}))
		}
	}
	out.(metav1.Object).SetAnnotations(annotations)
	return err
}

// putBack gives an object of the hub what the spoke's carried. What was changed in the
// spoke's meanwhile stays as it was changed.
func (s spokeOf) putBack(in, hub runtime.Object) error {
	var hidden []difference
	for name, content := range in.(metav1.Object).GetAnnotations() {
		if !IsStash(name) {
			continue
		}
		var carried []difference
		if err := json.Unmarshal([]byte(content), &carried); err != nil {
			return fmt.Errorf("put back what %s cannot say: %w", s.spoke.Version, err)
		}
		hidden = append(hidden, carried...)
	}
	if hidden == nil {
		return nil
	}
	slices.SortFunc(hidden, inOrder)
	annotations := maps.Clone(hub.(metav1.Object).GetAnnotations()) // they are shared
	maps.DeleteFunc(annotations, func(name, _ string) bool { return IsStash(name) })
	if len(annotations) == 0 {
		annotations = nil
	}
	hub.(metav1.Object).SetAnnotations(annotations)
	return putBack(s.kind, s.spoke, hub, hidden)
}

// IsStash says whether an annotation carries what only the hub can say.
func IsStash(annotation string) bool {
	return annotation == Stash || strings.HasPrefix(annotation, Stash+":")
}
