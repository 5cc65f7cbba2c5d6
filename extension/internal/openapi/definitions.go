package openapi

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/kube-openapi/pkg/util"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

const (
	extensionKinds      = "x-kubernetes-group-version-kind"
	extensionSelectable = "x-kubernetes-selectable-fields"
	extensionPreserve   = "x-kubernetes-preserve-unknown-fields"
	extensionEmbedded   = "x-kubernetes-embedded-resource"
)

// Kind is one version of a kind, or another type that routes read or write.
type Kind struct {
	GroupVersion schema.GroupVersion
	Kind         string
	// ListKind is empty for types that have no list.
	ListKind string
	// Plural is named in the list's description.
	Plural string
	// Schema is never changed.
	Schema *structuralschema.Structural
	// Description takes the place of the schema's, if it is not empty.
	Description string
	// SelectableFields are JSON paths such as ".spec.color".
	SelectableFields []string
	// Type and List are what the Creater makes for the two kinds, nil for
	// unstructured.Unstructured.
	Type, List reflect.Type
}

func (k *Kind) String() string { return k.GroupVersion.String() + " " + k.Kind }

// Definitions are the published schemas of a server. They are not changed after New.
type Definitions struct {
	kinds []Kind
	// names are the names to publish by those that kube-openapi finds.
	names map[string]string
	// published are the group, version and kinds of each name.
	published map[string][]schema.GroupVersionKind
}

// New takes the kinds of a server. What is wrong names the kind.
func New(kinds []Kind) (*Definitions, error) {
	d := &Definitions{
		kinds:     slices.Clone(kinds),
		names:     map[string]string{},
		published: map[string][]schema.GroupVersionKind{},
	}
	owners := map[string]string{}
	var errs []error
	for i := range d.kinds {
		k := &d.kinds[i]
		if k.Schema == nil {
			errs = append(errs, fmt.Errorf("%s has no schema to publish as OpenAPI", k))
			continue
		}
		for _, c := range []struct {
			kind string
			typ  reflect.Type
		}{{k.Kind, k.Type}, {k.ListKind, k.List}} {
			if c.kind == "" {
				continue
			}
			gvk := k.GroupVersion.WithKind(c.kind)
			name := nameOf(gvk)
			if _, twice := d.published[name]; twice {
				errs = append(errs, fmt.Errorf("%s stands twice, as kind or as list", k.GroupVersion.String()+" "+c.kind))
				continue
			}
			d.published[name] = []schema.GroupVersionKind{gvk}
			if c.typ == nil || isUnstructured(c.typ) {
				continue
			}
			found := util.GetCanonicalTypeName(reflect.New(c.typ).Elem().Interface())
			if owner, taken := owners[found]; taken {
				errs = append(errs, fmt.Errorf("%s and %s have one Go type, %s, by which their OpenAPI cannot be told apart", owner, k, c.typ))
				continue
			}
			owners[found] = k.String()
			d.names[found] = name
		}
	}
	d.publishShared()
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return d, nil
}

// publishShared names the kinds that every group version has, and those of all
// servers.
func (d *Definitions) publishShared() {
	versions := map[schema.GroupVersion]bool{{Version: "v1"}: true}
	for _, k := range d.kinds {
		versions[k.GroupVersion] = true
	}
	sorted := slices.SortedFunc(maps.Keys(versions), func(a, b schema.GroupVersion) int {
		return cmp.Or(strings.Compare(a.Group, b.Group), strings.Compare(a.Version, b.Version))
	})
	for kind, name := range map[string]string{
		"DeleteOptions": metav1.DeleteOptions{}.OpenAPIModelName(),
		"WatchEvent":    metav1.WatchEvent{}.OpenAPIModelName(),
	} {
		for _, gv := range sorted {
			d.published[name] = append(d.published[name], gv.WithKind(kind))
		}
	}
	core := schema.GroupVersion{Version: "v1"}
	for kind, name := range map[string]string{
		"Status":          metav1.Status{}.OpenAPIModelName(),
		"APIVersions":     metav1.APIVersions{}.OpenAPIModelName(),
		"APIGroupList":    metav1.APIGroupList{}.OpenAPIModelName(),
		"APIGroup":        metav1.APIGroup{}.OpenAPIModelName(),
		"APIResourceList": metav1.APIResourceList{}.OpenAPIModelName(),
	} {
		d.published[name] = []schema.GroupVersionKind{core.WithKind(kind)}
	}
	scale := autoscalingv1.Scale{}.OpenAPIModelName()
	d.published[scale] = []schema.GroupVersionKind{autoscalingv1.SchemeGroupVersion.WithKind("Scale")}
}

// Name gives the name to publish for one that kube-openapi found, with the group,
// version and kinds of the definition. It is Config's GetDefinitionName.
func (d *Definitions) Name(found string) (string, spec.Extensions) {
	if name, ok := d.names[found]; ok {
		found = name
	}
	kinds, ok := d.published[found]
	if !ok {
		return found, nil
	}
	list := make([]any, 0, len(kinds))
	for _, gvk := range kinds {
		list = append(list, map[string]any{"group": gvk.Group, "version": gvk.Version, "kind": gvk.Kind})
	}
	return found, spec.Extensions{extensionKinds: list}
}

// nameOf is a kind's name in OpenAPI: the group reversed, the version and the kind, as
// custom resources have it.
func nameOf(gvk schema.GroupVersionKind) string {
	labels := strings.Split(gvk.Group, ".")
	slices.Reverse(labels)
	return strings.Join(append(labels, gvk.Version, gvk.Kind), ".")
}

func isUnstructured(t reflect.Type) bool {
	return t == reflect.TypeFor[unstructured.Unstructured]() || t == reflect.TypeFor[unstructured.UnstructuredList]()
}
