package codec

import (
	"fmt"
	"reflect"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/annex-api/annex/extension/internal/kind"
	"github.com/annex-api/annex/extension/internal/versions"
)

// ConvertToVersion gives an object in another version, as a copy.
func (k *Kinds) ConvertToVersion(in runtime.Object, target runtime.GroupVersioner) (runtime.Object, error) {
	out, err := convertor{Kinds: k, typed: k.scheme}.ConvertToVersion(in, target)
	if _, untyped := in.(runtime.Unstructured); untyped && out == in {
		return in.DeepCopyObject(), err
	}
	return out, err
}

// Convert fills an object with another, in its own version.
func (k *Kinds) Convert(in, out, context any) error {
	return convertor{Kinds: k, typed: k.scheme}.Convert(in, out, context)
}

// ConvertFieldLabel checks a field that a selector names.
func (k *Kinds) ConvertFieldLabel(gvk schema.GroupVersionKind, label, value string) (string, string, error) {
	return k.scheme.ConvertFieldLabel(gvk, label, value)
}

// Lossless gives a convertor for who converts there and back; see versions.Lossless. It
// may give or change what it is given.
func (k *Kinds) Lossless() runtime.ObjectConvertor {
	return convertor{Kinds: k, typed: versions.Lossless(k.scheme, k.typed...), carry: versions.Fields}
}

// unsafe gives a convertor for what is only written out: it may give what it is given, but does
// not change objects without a Go type.
func (k *Kinds) unsafe() convertor {
	return convertor{Kinds: k, typed: runtime.UnsafeObjectConvertor(k.scheme)}
}

// convertor converts untyped kinds itself, and all else by another.
type convertor struct {
	*Kinds
	typed runtime.ObjectConvertor
	// carry has what only the hub can say go along.
	carry versions.Carry
}

func (c convertor) ConvertToVersion(in runtime.Object, target runtime.GroupVersioner) (runtime.Object, error) {
	switch u := in.(type) {
	case *unstructured.Unstructured:
		if one := c.of(u); one != nil {
			return c.object(one, u, target)
		}
	case *unstructured.UnstructuredList:
		if one := c.lists[u.GroupVersionKind().GroupKind()]; one != nil {
			return c.list(one, u, target)
		}
	}
	return c.typed.ConvertToVersion(in, target)
}

func (c convertor) object(k *kind.Kind, u *unstructured.Unstructured, target runtime.GroupVersioner) (runtime.Object, error) {
	version, err := wanted(k, u.GroupVersionKind(), target)
	if err != nil {
		return nil, err
	}
	return versions.Between(k, u, version, c.carry)
}

// wanted is the version that a target asks for.
func wanted(k *kind.Kind, gvk schema.GroupVersionKind, target runtime.GroupVersioner) (string, error) {
	to, ok := target.KindForGroupVersionKinds([]schema.GroupVersionKind{gvk})
	if !ok {
		return "", runtime.NewNotRegisteredGVKErrForTarget("schemas of "+k.Names.Plural, gvk, target)
	}
	return external(k, to.Version), nil
}

// list converts the items. Where nothing is to be done it gives the list itself.
func (c convertor) list(k *kind.Kind, u *unstructured.UnstructuredList, target runtime.GroupVersioner) (runtime.Object, error) {
	gvk := u.GroupVersionKind()
	version, err := wanted(k, gvk, target)
	if err != nil || version == external(k, gvk.Version) {
		return u, err
	}
	out := &unstructured.UnstructuredList{Object: runtime.DeepCopyJSON(u.Object), Items: make([]unstructured.Unstructured, len(u.Items))}
	for i := range u.Items {
		item, err := versions.Between(k, &u.Items[i], version, c.carry)
		if err != nil {
			return nil, err
		}
		out.Items[i] = *item
	}
	gvk.Version = version
	out.SetGroupVersionKind(gvk)
	return out, nil
}

// Convert refuses what is sent as another kind than is wanted. What a mutating webhook or
// policy changed comes here to fill the object of the request, which is often of its own type.
func (c convertor) Convert(in, out, context any) error {
	if fill(out, in) {
		return nil
	}
	to, ok := out.(*unstructured.Unstructured)
	if !ok {
		return c.typed.Convert(in, out, context)
	}
	k := c.of(to)
	if k == nil {
		return c.typed.Convert(in, out, context)
	}
	from, ok := in.(*unstructured.Unstructured)
	if !ok {
		return fmt.Errorf("%T is no %s", in, k.Names.Kind)
	}
	if c.of(from) != k {
		return runtime.NewNotRegisteredErrForKind("schemas of "+k.Names.Plural, from.GroupVersionKind())
	}
	converted, err := versions.Between(k, from, external(k, to.GroupVersionKind().Version), c.carry)
	if err != nil {
		return err
	}
	to.Object = converted.Object
	return nil
}

// fill sets an object to what another of its Go type is. A scheme has no conversion for that:
// upstream's types have an internal version to convert to.
func fill(out, in any) bool {
	if _, untyped := out.(runtime.Unstructured); untyped {
		return false
	}
	to, from := reflect.ValueOf(out), reflect.ValueOf(in)
	if to.Kind() != reflect.Pointer || to.Type() != from.Type() || to.IsNil() || from.IsNil() {
		return false
	}
	to.Elem().Set(from.Elem())
	return true
}
