package codec

import (
	"fmt"
	"runtime/debug"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"

	"github.com/annex-api/annex/extension/internal/kind"
)

// Kinds makes, names, converts and defaults the objects of a server's kinds: those that
// have a Go type as a scheme does, and others by what their schemas say. It is what
// k8s.io/apiserver asks in the place of a scheme.
type Kinds struct {
	scheme *runtime.Scheme
	typed  []*kind.Kind
	// objects and lists are the untyped kinds by the names of their objects and lists.
	objects, lists map[schema.GroupKind]*kind.Kind
}

var (
	_ runtime.ObjectCreater   = &Kinds{}
	_ runtime.ObjectTyper     = &Kinds{}
	_ runtime.ObjectDefaulter = &Kinds{}
	_ runtime.ObjectConvertor = &Kinds{}
)

// NewKinds takes the scheme of kinds, and the kinds.
func NewKinds(scheme *runtime.Scheme, kinds ...*kind.Kind) *Kinds {
	k := &Kinds{scheme: scheme, objects: map[schema.GroupKind]*kind.Kind{}, lists: map[schema.GroupKind]*kind.Kind{}}
	for _, one := range kinds {
		if one.Untyped == nil {
			k.typed = append(k.typed, one)
			continue
		}
		k.objects[schema.GroupKind{Group: one.Hub.Group, Kind: one.Names.Kind}] = one
		k.lists[schema.GroupKind{Group: one.Hub.Group, Kind: one.Names.List}] = one
	}
	return k
}

// New makes an empty object or list.
func (k *Kinds) New(gvk schema.GroupVersionKind) (runtime.Object, error) {
	one, isList := k.objects[gvk.GroupKind()], false
	if one == nil {
		if one, isList = k.lists[gvk.GroupKind()], true; one == nil {
			return k.scheme.New(gvk)
		}
	}
	object, list, ok := one.Version(external(one, gvk.Version))
	switch {
	case !ok:
		return nil, runtime.NewNotRegisteredErrForKind(k.scheme.Name(), gvk)
	case isList:
		return list(), nil
	}
	return object(), nil
}

// external is the version itself, and the hub's for the internal one.
func external(k *kind.Kind, version string) string {
	if version == runtime.APIVersionInternal {
		return k.Hub.Version
	}
	return version
}

// ObjectKinds gives what an object is: an unstructured one says it itself.
func (k *Kinds) ObjectKinds(obj runtime.Object) ([]schema.GroupVersionKind, bool, error) {
	return k.scheme.ObjectKinds(obj)
}

// Recognizes says whether there is such a kind.
func (k *Kinds) Recognizes(gvk schema.GroupVersionKind) bool {
	for _, named := range []map[schema.GroupKind]*kind.Kind{k.objects, k.lists} {
		if one := named[gvk.GroupKind()]; one != nil {
			_, _, ok := one.Version(external(one, gvk.Version))
			return ok
		}
	}
	return k.scheme.Recognizes(gvk)
}

// VersionsForGroupKind gives the versions that objects can be converted to.
func (k *Kinds) VersionsForGroupKind(gk schema.GroupKind) []schema.GroupVersion {
	one := k.objects[gk]
	if one == nil {
		return k.scheme.VersionsForGroupKind(gk)
	}
	all := []schema.GroupVersion{one.Hub}
	for _, s := range one.Spokes {
		all = append(all, schema.GroupVersion{Group: one.Hub.Group, Version: s.Version})
	}
	return all
}

// Default sets the defaults of the object's version.
func (k *Kinds) Default(obj runtime.Object) {
	switch u := obj.(type) {
	case *unstructured.Unstructured:
		if one := k.of(u); one != nil {
			setDefaults(one, u)
			return
		}
	case *unstructured.UnstructuredList:
		for i := range u.Items {
			k.Default(&u.Items[i])
		}
		return
	}
	k.scheme.Default(obj)
}

// setDefaults sets the defaults of the object's version, and the user's where it is the hub.
// Objects are read where a panic would end the process.
func setDefaults(k *kind.Kind, u *unstructured.Unstructured) {
	defer func() {
		if p := recover(); p != nil {
			utilruntime.HandleError(fmt.Errorf("the defaults of %s %s: panic: %v\n%s", k.Resource(), u.GetName(), p, debug.Stack()))
		}
	}()
	version := external(k, u.GroupVersionKind().Version)
	if set := k.Schemas[version].Default; set != nil {
		set(u)
	}
	if version == k.Hub.Version && k.Hooks.Default != nil {
		k.Hooks.Default(u)
	}
}

// of gives the untyped kind of an object; nil where it is of none.
func (k *Kinds) of(u *unstructured.Unstructured) *kind.Kind {
	return k.objects[u.GroupVersionKind().GroupKind()]
}
