// Package versions converts between the versions of a kind without loss.
//
// The hub is a versioned type that is also registered as the internal version, so that
// there are no internal types. Spokes convert to it and from it by the user's functions.
package versions

import (
	"errors"
	"fmt"
	"reflect"
	"runtime/debug"
	"slices"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/conversion"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/klog/v2"

	"github.com/annex-api/annex/extension/internal/kind"
)

// Scheme makes a scheme of kinds: every version, the lists, the defaults, the
// conversions, and the fields that selectors may name.
func Scheme(kinds ...*kind.Kind) (*runtime.Scheme, error) {
	s := runtime.NewScheme()
	core := schema.GroupVersion{Version: "v1"}
	metav1.AddToGroupVersion(s, core)
	s.AddUnversionedTypes(core, &metav1.Status{}, &metav1.APIVersions{}, &metav1.APIGroupList{}, &metav1.APIGroup{}, &metav1.APIResourceList{})
	// The subresource scale shows a kind of another group, which is its own hub, too.
	s.AddKnownTypes(autoscalingv1.SchemeGroupVersion, &autoscalingv1.Scale{})
	s.AddKnownTypes(schema.GroupVersion{Group: autoscalingv1.GroupName, Version: runtime.APIVersionInternal}, &autoscalingv1.Scale{})
	groups := map[string][]string{}
	var errs []error
	for _, k := range kinds {
		errs = append(errs, add(s, k))
		for _, v := range append([]string{k.Hub.Version}, spokes(k)...) {
			if !slices.Contains(groups[k.Hub.Group], v) {
				groups[k.Hub.Group] = append(groups[k.Hub.Group], v)
				metav1.AddToGroupVersion(s, schema.GroupVersion{Group: k.Hub.Group, Version: v})
			}
		}
	}
	for group, names := range groups {
		slices.SortFunc(names, func(a, b string) int { return version.CompareKubeAwareVersionStrings(b, a) })
		var order []schema.GroupVersion
		for _, v := range names {
			order = append(order, schema.GroupVersion{Group: group, Version: v})
		}
		errs = append(errs, s.SetVersionPriority(order...))
	}
	return s, errors.Join(errs...)
}

func spokes(k *kind.Kind) []string {
	var names []string
	for _, s := range k.Spokes {
		names = append(names, s.Version)
	}
	return names
}

func add(s *runtime.Scheme, k *kind.Kind) error {
	if k.Untyped != nil { // a scheme tells objects by their types; see codec.Kinds
		var errs []error
		for _, v := range append([]string{k.Hub.Version}, spokes(k)...) {
			errs = append(errs, addFields(s, k, v))
		}
		return errors.Join(errs...)
	}
	internal := schema.GroupVersion{Group: k.Hub.Group, Version: runtime.APIVersionInternal}
	// The hub's own version comes first: it is what an object of the type is taken for.
	register(s, k.Hub, k.Names, k.New, k.NewList)
	register(s, internal, k.Names, k.New, k.NewList)
	addDefaults(s, k, k.Hub.Version, k.New, k.NewList)
	errs := []error{addFields(s, k, k.Hub.Version)}
	for _, spoke := range k.Spokes {
		gv := schema.GroupVersion{Group: k.Hub.Group, Version: spoke.Version}
		register(s, gv, k.Names, spoke.New, spoke.NewList)
		addDefaults(s, k, spoke.Version, spoke.New, spoke.NewList)
		errs = append(errs, addFields(s, k, spoke.Version), addConversions(s, k, spoke))
	}
	return errors.Join(errs...)
}

func register(s *runtime.Scheme, gv schema.GroupVersion, names kind.Names, object, list func() runtime.Object) {
	s.AddKnownTypeWithName(gv.WithKind(names.Kind), object())
	s.AddKnownTypeWithName(gv.WithKind(names.List), list())
}

func addDefaults(s *runtime.Scheme, k *kind.Kind, v string, object, list func() runtime.Object) {
	set := k.Schemas[v].Default
	own := k.Hooks.Default
	if v != k.Hub.Version {
		own = nil // it knows the hub alone, which the object is converted to
	}
	if set == nil && own == nil {
		return
	}
	defaults := func(obj runtime.Object) {
		defer func() {
			if p := recover(); p != nil { // objects are read where it would end the process
				utilruntime.HandleError(fmt.Errorf("the defaults of %s %s: panic: %v\n%s", k.Resource(), metaOf(obj).Name, p, debug.Stack()))
			}
		}()
		if set != nil {
			set(obj)
		}
		if own != nil {
			own(obj)
		}
	}
	s.AddTypeDefaultingFunc(object(), func(obj any) { defaults(obj.(runtime.Object)) })
	s.AddTypeDefaultingFunc(list(), func(obj any) {
		items := itemsOf(obj.(runtime.Object))
		for i := range items.Len() {
			defaults(items.Index(i).Addr().Interface().(runtime.Object))
		}
	})
}

func addFields(s *runtime.Scheme, k *kind.Kind, v string) error {
	known := append([]string{"metadata.name", "metadata.namespace"}, k.FieldNames...)
	if !k.Namespaced {
		known = slices.Delete(known, 1, 2)
	}
	gvk := schema.GroupVersionKind{Group: k.Hub.Group, Version: v, Kind: k.Names.Kind}
	return s.AddFieldLabelConversionFunc(gvk, func(label, value string) (string, string, error) {
		if slices.Contains(known, label) {
			return label, value, nil
		}
		return "", "", fmt.Errorf("%q is not a field that %s can be selected by; these are: %q", label, k.Names.Plural, known)
	})
}

func addConversions(s *runtime.Scheme, k *kind.Kind, spoke kind.Spoke) error {
	toHub, fromHub := convert(k.Names.Kind, spoke.Version, k.Hub.Version, spoke.ToHub), convert(k.Names.Kind, k.Hub.Version, spoke.Version, spoke.FromHub)
	return errors.Join(
		s.AddConversionFunc(spoke.New(), k.New(), toHub),
		s.AddConversionFunc(k.New(), spoke.New(), fromHub),
		s.AddConversionFunc(spoke.NewList(), k.NewList(), convertList(toHub)),
		s.AddConversionFunc(k.NewList(), spoke.NewList(), convertList(fromHub)),
	)
}

// PanicError is that a conversion panicked.
type PanicError struct{ Kind, From, To string }

// Error implements error.
func (e *PanicError) Error() string {
	return fmt.Sprintf("the conversion of %s from %s to %s panicked", e.Kind, e.From, e.To)
}

// convert makes a conversion of a user's function. Metadata is copied beforehand. A
// panic is logged, and is a PanicError: conversions run where it would end the process.
func convert(kindName, from, to string, f func(from, to runtime.Object) error) conversion.ConversionFunc {
	return func(a, b any, _ conversion.Scope) (err error) {
		defer func() {
			if p := recover(); p != nil {
				klog.Background().Error(fmt.Errorf("panic: %v", p), "A hook panicked", "kind", kindName, "from", from, "to", to, "stack", string(debug.Stack()))
				err = &PanicError{kindName, from, to}
			}
		}()
		in, out := a.(runtime.Object), b.(runtime.Object)
		copyMetadata(in, out) // the one that is read may be the watch cache's
		if err := f(in, out); err != nil {
			return fmt.Errorf("convert %s from %s to %s: %w", kindName, from, to, err)
		}
		return nil
	}
}

func convertList(item conversion.ConversionFunc) conversion.ConversionFunc {
	return func(a, b any, scope conversion.Scope) error {
		in, out := itemsOf(a.(runtime.Object)), itemsOf(b.(runtime.Object))
		reflect.ValueOf(b).Elem().FieldByName("ListMeta").Set(reflect.ValueOf(a).Elem().FieldByName("ListMeta"))
		out.Set(reflect.MakeSlice(out.Type(), in.Len(), in.Len()))
		for i := range in.Len() {
			if err := item(in.Index(i).Addr().Interface(), out.Index(i).Addr().Interface(), scope); err != nil {
				return err
			}
		}
		return nil
	}
}

func itemsOf(list runtime.Object) reflect.Value {
	return reflect.ValueOf(list).Elem().FieldByName("Items")
}

func metaOf(obj runtime.Object) *metav1.ObjectMeta {
	return obj.(metav1.ObjectMetaAccessor).GetObjectMeta().(*metav1.ObjectMeta)
}

// assign copies all of one object into another of its type.
func assign(to, from runtime.Object) error {
	t, f := reflect.ValueOf(to), reflect.ValueOf(from)
	if t.Type() != f.Type() {
		return fmt.Errorf("%T is no %T", from, to)
	}
	t.Elem().Set(f.Elem())
	return nil
}
