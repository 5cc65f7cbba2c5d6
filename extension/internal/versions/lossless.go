package versions

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"

	"k8s.io/apimachinery/pkg/runtime"

	"github.com/annex-api/annex/extension/internal/kind"
)

// Stash is the annotation by which an object of a spoke carries what only the hub can
// say. No client and no hook sees it. What is stored has it where a kind is stored in a
// spoke: a release that has no hub yet keeps it, as it keeps all annotations.
const Stash = "extension.annex.dev/hub"

// Lossless gives a convertor of a scheme for who converts there and back: server-side
// apply, which looks at an object in each version that was ever applied, and patches. What
// only the hub can say goes there and back in an annotation. Like
// runtime.UnsafeObjectConvertor, it may change what it is given.
func Lossless(scheme *runtime.Scheme, kinds ...*kind.Kind) runtime.ObjectConvertor {
	l := lossless{ObjectConvertor: runtime.UnsafeObjectConvertor(scheme), scheme: scheme, hubs: map[reflect.Type]*kind.Kind{}, spokes: map[reflect.Type]spokeOf{}}
	for _, k := range kinds {
		if len(k.Spokes) == 0 {
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
		return s.keepAside(in, out)
	}
	if s, ok := l.spokes[from]; ok && l.hubs[to] == s.kind {
		return s.putBack(in, out)
	}
	return nil
}

// keepAside has an object of the spoke carry the hub's, where it cannot say all of it.
func (s spokeOf) keepAside(hub, out runtime.Object) error {
	_, carried, lossy, err := seenThrough(s.kind, s.spoke, hub)
	if err != nil || !lossy {
		return err
	}
	metaOf(carried).ManagedFields = nil // they are long, and out has them
	content, err := json.Marshal(carried)
	if err != nil {
		return fmt.Errorf("keep what %s cannot say: %w", s.spoke.Version, err)
	}
	m := metaOf(out)
	annotations := maps.Clone(m.Annotations) // it is shared with the hub's
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[Stash] = string(content)
	m.Annotations = annotations
	return nil
}

// putBack gives an object of the hub what the spoke's carried. What was changed in the
// spoke's meanwhile stays as it was changed.
func (s spokeOf) putBack(in, hub runtime.Object) error {
	content, ok := metaOf(in).Annotations[Stash]
	if !ok {
		return nil
	}
	m := metaOf(hub)
	m.Annotations = maps.Clone(m.Annotations)
	delete(m.Annotations, Stash)
	if len(m.Annotations) == 0 {
		m.Annotations = nil
	}
	stored := s.kind.New()
	if err := json.Unmarshal([]byte(content), stored); err != nil {
		return fmt.Errorf("put back what %s cannot say: %w", s.spoke.Version, err)
	}
	return keep(s.kind, s.spoke, hub, stored)
}
