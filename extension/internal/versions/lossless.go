package versions

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/json"

	"github.com/annex-api/annex/extension/internal/kind"
)

// Lossless gives a convertor of a scheme for who converts there and back: server-side
// apply, which looks at an object in each version that was ever applied, and patches. What
// only the hub can say goes there and back in annotations, sealed: a client's own are
// dropped. Like runtime.UnsafeObjectConvertor, it may change what it is given.
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
		return s.putBack(in, out, l.forStorage)
	}
	return nil
}

// keepAside has an object of the spoke carry what it cannot say. For storage that is one
// annotation, with a name that any server takes. For server-side apply, which removes
// fields one by one, it is one for each field, and whatever else the object carries is
// dropped: it came from a client.
func (s spokeOf) keepAside(hub, out runtime.Object, forStorage bool) error {
	if !forStorage {
		dropStash(out.(metav1.Object))
	}
	hidden, err := hiddenBy(s.kind, s.spoke, hub)
	if err != nil || len(hidden) == 0 {
		return err
	}
	annotations := maps.Clone(out.(metav1.Object).GetAnnotations())
	if annotations == nil {
		annotations = map[string]string{}
	}
	encode := func(carried []difference) []byte {
		content, failed := json.Marshal(carried)
		if failed != nil {
			err = errors.Join(err, fmt.Errorf("keep what %s cannot say: %w", s.spoke.Version, failed))
		}
		return content
	}
	if forStorage {
		annotations[Stash] = string(encode(hidden))
	} else {
		for _, d := range hidden {
			name := Stash + ":" + d.name()
			annotations[name] = seal(name, encode([]difference{d}))
		}
	}
	out.(metav1.Object).SetAnnotations(annotations)
	return err
}

// putBack gives an object of the hub what the spoke's carried. What was changed in the
// spoke's meanwhile stays as it was changed. From storage that is what was stored, to which
// no client writes; elsewhere it is what keepAside has sealed.
func (s spokeOf) putBack(in, hub runtime.Object, fromStorage bool) error {
	var hidden []difference
	for name, value := range in.(metav1.Object).GetAnnotations() {
		if !IsStash(name) {
			continue
		}
		content, ours := []byte(value), fromStorage && name == Stash
		if !fromStorage {
			content, ours = unseal(name, value)
		}
		if !ours {
			continue
		}
		carried, err := decode(content)
		if err != nil {
			return fmt.Errorf("put back what %s cannot say: %w", s.spoke.Version, err)
		}
		hidden = append(hidden, carried...)
	}
	dropStash(hub.(metav1.Object))
	slices.SortFunc(hidden, inOrder)
	return putBack(s.kind, s.spoke, hub, hidden)
}
