package projection

import (
	"encoding/json"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

var (
	labelsPath      = field.NewPath("metadata", "labels")
	annotationsPath = field.NewPath("metadata", "annotations")
	ownersPath      = field.NewPath("metadata", "ownerReferences")
)

// metadata is what a client made of an object's labels, annotations and owners. What the
// source has and is not shown the client does not know, and may not write.
type metadata struct {
	source *Source
	// was is what was shown, is what the client sent. was is empty for a creation.
	was, is metav1.Object
	created bool

	// hidden are the paths of what is not the client's to write, by their names.
	hidden map[string]*field.Path
}

func (m *metadata) hide(path *field.Path) { m.hidden[path.String()] = path }

// write writes what differs between what was shown and what the client sent.
func (m *metadata) write(source *unstructured.Unstructured) error {
	if all, changed := m.merged(labelsPath, source.GetLabels(), m.was.GetLabels(), m.is.GetLabels()); changed {
		source.SetLabels(all)
	}
	s := m.source
	managed := map[string]string{}
	if entries := m.is.GetManagedFields(); len(entries) > 0 {
		text, err := json.Marshal(entries)
		if err != nil {
			return err
		}
		managed[s.managersKey()] = string(text)
	}
	// Ours are shown, in another form.
	old := s.sourceAnnotations(m.was.GetAnnotations())
	if old == nil {
		old = map[string]string{}
	}
	if text, ok := source.GetAnnotations()[s.managersKey()]; ok {
		old[s.managersKey()] = text
	}
	maps.Copy(managed, s.sourceAnnotations(m.is.GetAnnotations()))
	if all, changed := m.merged(annotationsPath, source.GetAnnotations(), old, managed); changed {
		source.SetAnnotations(all)
	}
	if !equality.Semantic.DeepEqual(m.was.GetFinalizers(), m.is.GetFinalizers()) {
		source.SetFinalizers(m.is.GetFinalizers())
	}
	if !equality.Semantic.DeepEqual(m.was.GetOwnerReferences(), m.is.GetOwnerReferences()) {
		source.SetOwnerReferences(m.owners(source.GetOwnerReferences()))
	}
	return nil
}

// merged gives there with what leads from was to is.
func (m *metadata) merged(path *field.Path, there, was, is map[string]string) (out map[string]string, changed bool) {
	out = maps.Clone(there)
	if out == nil {
		out = map[string]string{}
	}
	for key := range was {
		if _, stays := is[key]; !stays {
			delete(out, key)
		}
	}
	for key, value := range is {
		old, shown := was[key]
		if _, hidden := there[key]; hidden && !shown && !m.created {
			m.hide(path.Key(key))
		} else if !shown || old != value {
			out[key] = value
		}
	}
	return out, !maps.Equal(out, there)
}

// owners gives those that are there with what leads from was to is. An owner is its uid.
func (m *metadata) owners(there []metav1.OwnerReference) []metav1.OwnerReference {
	was, is := byUID(m.was.GetOwnerReferences()), byUID(m.is.GetOwnerReferences())
	var out []metav1.OwnerReference
	controlled := false
	for _, owner := range there {
		_, shown := was[owner.UID]
		sent, stays := is[owner.UID]
		switch {
		case !shown:
			out = append(out, owner)
			controlled = controlled || owner.Controller != nil && *owner.Controller
			if stays {
				m.hide(ownersPath)
			}
		case stays:
			out = append(out, sent)
		}
	}
	known := byUID(there)
	for _, owner := range m.is.GetOwnerReferences() {
		if _, ok := known[owner.UID]; ok || equality.Semantic.DeepEqual(was[owner.UID], owner) {
			continue
		}
		out = append(out, owner)
		if controlled && owner.Controller != nil && *owner.Controller { // there is one, which the host's answer would name
			m.hide(ownersPath)
		}
	}
	return out
}

func byUID(owners []metav1.OwnerReference) map[types.UID]metav1.OwnerReference {
	out := make(map[types.UID]metav1.OwnerReference, len(owners))
	for _, owner := range owners {
		out[owner.UID] = owner
	}
	return out
}

// asked gives what would be shown with all that the client sent, so that nothing is written
// which Allowed has not seen. What To would not show is found to be hidden.
func (m *metadata) asked(shown runtime.Object) (runtime.Object, error) {
	asked := shown.DeepCopyObject()
	a, err := metaOf(asked)
	if err != nil {
		return nil, err
	}
	a.SetLabels(m.overlaid(labelsPath, a.GetLabels(), m.was.GetLabels(), m.is.GetLabels()))
	sent := maps.Clone(m.is.GetAnnotations())
	maps.DeleteFunc(sent, func(key, _ string) bool { return m.source.own(key) })
	a.SetAnnotations(m.overlaid(annotationsPath, a.GetAnnotations(), m.was.GetAnnotations(), sent))
	was := byUID(m.was.GetOwnerReferences())
	owners := slices.Clone(a.GetOwnerReferences())
	for _, owner := range m.is.GetOwnerReferences() {
		if equality.Semantic.DeepEqual(was[owner.UID], owner) {
			continue
		}
		i := slices.IndexFunc(owners, func(o metav1.OwnerReference) bool { return o.UID == owner.UID })
		if i < 0 {
			m.hide(ownersPath)
			owners = append(owners, owner)
		} else {
			owners[i] = owner
		}
	}
	a.SetOwnerReferences(owners)
	return asked, nil
}

func (m *metadata) overlaid(path *field.Path, shown, was, is map[string]string) map[string]string {
	out := maps.Clone(shown)
	for key, value := range is {
		if old, ok := was[key]; ok && old == value {
			continue
		}
		if _, ok := shown[key]; !ok {
			m.hide(path.Key(key))
		}
		if out == nil {
			out = map[string]string{}
		}
		out[key] = value
	}
	return out
}

// refusal is the error for a client that sent what is not its to write, or nil.
func (m *metadata) refusal() error {
	if len(m.hidden) == 0 {
		return nil
	}
	var problems []*field.Error
	for _, name := range sets.List(sets.KeySet(m.hidden)) {
		problems = append(problems, field.Forbidden(m.hidden[name], "it is not among what is shown of the object, and cannot be written"))
	}
	return m.source.invalid(m.is.GetName(), problems...)
}
