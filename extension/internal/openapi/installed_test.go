package openapi_test

import (
	"context"
	"encoding/json"
	"os"
	"reflect"
	"testing"

	"github.com/emicklei/go-restful/v3"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	kindschema "k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/endpoints"
	"k8s.io/apiserver/pkg/registry/rest"

	"github.com/annex-api/annex/extension/internal/openapi"
	"github.com/annex-api/annex/extension/internal/schema"
)

// widget is the hub of a kind with a Go type: it is registered as internal, too.
type widget struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              map[string]any `json:"spec,omitempty"`
}

func (w *widget) DeepCopyObject() runtime.Object { return copied(w) }

// sprocket has no definition in a file.
type sprocket struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              struct {
		Teeth  *int32             `json:"teeth,omitempty"`
		Since  metav1.Time        `json:"since,omitempty"`
		Parent *sprocket          `json:"parent,omitempty"`
		Params map[string]float64 `json:"params,omitempty"`
	} `json:"spec,omitempty"`
}

func (s *sprocket) DeepCopyObject() runtime.Object { return copied(s) }

// list is the list of any kind with a Go type.
type list[T any] struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []T `json:"items"`
}

func (l *list[T]) DeepCopyObject() runtime.Object { return copied(l) }

func copied[T any](in *T) *T {
	raw, err := json.Marshal(in)
	if err != nil {
		panic(err)
	}
	out := new(T)
	if err := json.Unmarshal(raw, out); err != nil {
		panic(err)
	}
	return out
}

// kinds makes objects of kinds with and without a Go type.
type kinds struct {
	*runtime.Scheme
	// untyped are the kinds without a type, true for lists.
	untyped map[kindschema.GroupVersionKind]bool
}

func (k kinds) New(gvk kindschema.GroupVersionKind) (runtime.Object, error) {
	isList, untyped := k.untyped[gvk]
	switch {
	case !untyped:
		return k.Scheme.New(gvk)
	case isList:
		l := &unstructured.UnstructuredList{}
		l.SetGroupVersionKind(gvk)
		return l, nil
	}
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(gvk)
	return u, nil
}

func (k kinds) ObjectKinds(obj runtime.Object) ([]kindschema.GroupVersionKind, bool, error) {
	if _, ok := obj.(runtime.Unstructured); ok {
		return []kindschema.GroupVersionKind{obj.GetObjectKind().GroupVersionKind()}, false, nil
	}
	return k.Scheme.ObjectKinds(obj)
}

// storage has every verb of a stored kind.
type storage struct {
	object, list runtime.Object
	namespaced   bool
	singular     string
}

var _ interface {
	rest.StandardStorage
	rest.Scoper
	rest.SingularNameProvider
} = (*storage)(nil)

func (s *storage) New() runtime.Object     { return s.object.DeepCopyObject() }
func (s *storage) NewList() runtime.Object { return s.list.DeepCopyObject() }
func (s *storage) Destroy()                {}
func (s *storage) NamespaceScoped() bool   { return s.namespaced }
func (s *storage) GetSingularName() string { return s.singular }

func (s *storage) Get(context.Context, string, *metav1.GetOptions) (runtime.Object, error) {
	return s.New(), nil
}

func (s *storage) List(context.Context, *internalversion.ListOptions) (runtime.Object, error) {
	return s.NewList(), nil
}

func (s *storage) Watch(context.Context, *internalversion.ListOptions) (watch.Interface, error) {
	return watch.NewEmptyWatch(), nil
}

func (s *storage) Create(_ context.Context, obj runtime.Object, _ rest.ValidateObjectFunc, _ *metav1.CreateOptions) (runtime.Object, error) {
	return obj, nil
}

func (s *storage) Update(context.Context, string, rest.UpdatedObjectInfo, rest.ValidateObjectFunc, rest.ValidateObjectUpdateFunc, bool, *metav1.UpdateOptions) (runtime.Object, bool, error) {
	return s.New(), false, nil
}

func (s *storage) Delete(context.Context, string, rest.ValidateObjectFunc, *metav1.DeleteOptions) (runtime.Object, bool, error) {
	return s.New(), true, nil
}

func (s *storage) DeleteCollection(context.Context, rest.ValidateObjectFunc, *metav1.DeleteOptions, *internalversion.ListOptions) (runtime.Object, error) {
	return s.NewList(), nil
}

func (s *storage) ConvertToTable(context.Context, runtime.Object, runtime.Object) (*metav1.Table, error) {
	return &metav1.Table{}, nil
}

// scaled is a /scale.
type scaled struct{ storage }

func (s *scaled) GroupVersionKind(kindschema.GroupVersion) kindschema.GroupVersionKind {
	return autoscalingv1.SchemeGroupVersion.WithKind("Scale")
}

// published are the kinds of the server of these tests: widgets with a Go type and a
// definition, sprockets with a Go type alone, and two kinds of definitions alone.
func published(t *testing.T) []openapi.Kind {
	t.Helper()
	definitions, err := schema.Read(os.DirFS("../schema/testdata/crd"))
	if err != nil {
		t.Fatal(err)
	}
	var out []openapi.Kind
	for _, d := range definitions {
		for _, v := range d.Versions {
			if !v.Served {
				continue
			}
			k := openapi.Kind{
				GroupVersion: kindschema.GroupVersion{Group: d.Group, Version: v.Name},
				Kind:         d.Kind, ListKind: d.ListKind, Plural: d.Plural,
				Schema: v.Schema, SelectableFields: v.SelectableFields,
			}
			if d.Kind == "Widget" && v.Name == "v1" {
				k.Type, k.List = reflect.TypeFor[widget](), reflect.TypeFor[list[widget]]()
			}
			out = append(out, k)
		}
	}
	made, err := schema.FromType(reflect.TypeFor[sprocket]())
	if err != nil {
		t.Fatal(err)
	}
	return append(out, openapi.Kind{
		GroupVersion: kindschema.GroupVersion{Group: "example.com", Version: "v1"},
		Kind:         "Sprocket", ListKind: "SprocketList", Schema: made, Description: "Sprocket turns.",
		Type: reflect.TypeFor[sprocket](), List: reflect.TypeFor[list[sprocket]](),
	})
}

// installed gives the web services that k8s.io/apiserver makes for the kinds.
func installed(t *testing.T, d *openapi.Definitions) []*restful.WebService {
	t.Helper()
	v1 := kindschema.GroupVersion{Group: "example.com", Version: "v1"}
	beta := kindschema.GroupVersion{Group: "example.com", Version: "v1beta1"}
	metrics := kindschema.GroupVersion{Group: "metrics.k8s.io", Version: "v1"}
	scheme := runtime.NewScheme()
	for _, gv := range []kindschema.GroupVersion{v1, {Group: v1.Group, Version: runtime.APIVersionInternal}} {
		scheme.AddKnownTypeWithName(gv.WithKind("Widget"), &widget{})
		scheme.AddKnownTypeWithName(gv.WithKind("WidgetList"), &list[widget]{})
		scheme.AddKnownTypeWithName(gv.WithKind("Sprocket"), &sprocket{})
		scheme.AddKnownTypeWithName(gv.WithKind("SprocketList"), &list[sprocket]{})
	}
	core := kindschema.GroupVersion{Version: "v1"}
	for _, gv := range []kindschema.GroupVersion{core, v1, beta, metrics} {
		metav1.AddToGroupVersion(scheme, gv)
	}
	scheme.AddUnversionedTypes(core, &metav1.Status{})
	if err := autoscalingv1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	k := kinds{scheme, map[kindschema.GroupVersionKind]bool{
		beta.WithKind("Widget"): false, beta.WithKind("WidgetList"): true,
		metrics.WithKind("Gadget"): false, metrics.WithKind("Gadgets"): true,
	}}
	untyped := func(gv kindschema.GroupVersion, kind, listKind string) *storage {
		object, _ := k.New(gv.WithKind(kind))
		list, _ := k.New(gv.WithKind(listKind))
		return &storage{object: object, list: list, namespaced: kind == "Widget", singular: "x"}
	}

	converter, err := d.TypeConverter()
	if err != nil {
		t.Fatal(err)
	}
	container := restful.NewContainer()
	for gv, stored := range map[kindschema.GroupVersion]map[string]rest.Storage{
		v1: {
			"widgets":       &storage{object: &widget{}, list: &list[widget]{}, namespaced: true, singular: "widget"},
			"widgets/scale": &scaled{storage{object: &autoscalingv1.Scale{}, list: &list[widget]{}}},
			"sprockets":     &storage{object: &sprocket{}, list: &list[sprocket]{}, singular: "sprocket"},
		},
		beta:    {"widgets": untyped(beta, "Widget", "WidgetList")},
		metrics: {"gadgets": untyped(metrics, "Gadget", "Gadgets")},
	} {
		group := &endpoints.APIGroupVersion{
			Storage: stored, Root: "/apis", GroupVersion: gv, OptionsExternalVersion: &core,
			Serializer:     serializer.NewCodecFactory(scheme),
			ParameterCodec: runtime.NewParameterCodec(scheme),
			Typer:          k, Creater: k, Convertor: k, ConvertabilityChecker: k, Defaulter: k,
			Namer: runtime.Namer(nil), UnsafeConvertor: runtime.UnsafeObjectConvertor(scheme),
			TypeConverter:              converter,
			EquivalentResourceRegistry: runtime.NewEquivalentResourceRegistry(),
		}
		if _, _, err := group.InstallREST(container); err != nil {
			t.Fatal(err)
		}
	}
	return container.RegisteredWebServices()
}
