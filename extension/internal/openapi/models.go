package openapi

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	openapiv2 "k8s.io/apiextensions-apiserver/pkg/controller/openapi/v2"
	generated "k8s.io/apiextensions-apiserver/pkg/generated/openapi"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilopenapi "k8s.io/apiserver/pkg/util/openapi"
	"k8s.io/kube-openapi/pkg/common"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

// form is for whom definitions are made.
type form int

const (
	// forV2 has nothing that OpenAPI v2 or old clients of it cannot read.
	forV2 form = iota
	// forV3 has everything.
	forV3
)

// DefinitionsV2 is a GetDefinitions of OpenAPI v2.
func (d *Definitions) DefinitionsV2(ref common.ReferenceCallback) map[string]common.OpenAPIDefinition {
	return d.models(forV2, ref)
}

// DefinitionsV3 is a GetDefinitions of OpenAPI v3.
func (d *Definitions) DefinitionsV3(ref common.ReferenceCallback) map[string]common.OpenAPIDefinition {
	return d.models(forV3, ref)
}

// models makes the definitions anew at each call, as builders write into them.
func (d *Definitions) models(f form, ref common.ReferenceCallback) map[string]common.OpenAPIDefinition {
	all := utilopenapi.GetOpenAPIDefinitionsWithoutDisabledFeatures(generated.GetOpenAPIDefinitions)(ref)
	maps.DeleteFunc(all, func(name string, _ common.OpenAPIDefinition) bool {
		return strings.HasPrefix(name, "io.k8s.apiextensions-apiserver.")
	})
	d.addTo(all, f, ref)
	return all
}

// addTo adds the definitions of the kinds to those of metadata.
func (d *Definitions) addTo(all map[string]common.OpenAPIDefinition, f form, ref common.ReferenceCallback) {
	m := modeler{form: f, ref: ref, typeMeta: all[metav1.TypeMeta{}.OpenAPIModelName()].Schema.Properties}
	for i := range d.kinds {
		k := &d.kinds[i]
		name := nameOf(k.GroupVersion.WithKind(k.Kind))
		all[name] = common.OpenAPIDefinition{
			Schema:       m.object(k),
			Dependencies: []string{metav1.ObjectMeta{}.OpenAPIModelName()},
		}
		if k.ListKind != "" {
			all[nameOf(k.GroupVersion.WithKind(k.ListKind))] = common.OpenAPIDefinition{
				Schema:       m.list(k, name),
				Dependencies: []string{metav1.ListMeta{}.OpenAPIModelName(), name},
			}
		}
	}
	for found, name := range d.names {
		all[found] = all[name]
	}
}

type modeler struct {
	form     form
	ref      common.ReferenceCallback
	typeMeta map[string]spec.Schema
}

// object is the schema of a kind. A kind that keeps unknown fields has no properties in
// v2, as old clients would take them for all that there are.
func (m *modeler) object(k *Kind) spec.Schema {
	structural := k.Schema.DeepCopy().Unfold()
	var s *spec.Schema
	switch {
	case m.form == forV2 && structural.XPreserveUnknownFields:
		s = new(spec.Schema).Typed("object", "").WithDescription(structural.Description)
	case m.form == forV2:
		s = openapiv2.ToStructuralOpenAPIV2(structural).ToKubeOpenAPI()
		m.complete(s)
	default:
		s = structural.ToKubeOpenAPI()
		m.complete(s)
	}
	if k.Description != "" {
		s.Description = k.Description
	}
	m.selectable(s, k)
	return *s
}

// complete adds what every object has, to the root and to objects embedded in it.
func (m *modeler) complete(root *spec.Schema) {
	m.embedded(root)
	m.typed(root)
	root.SetProperty("metadata", m.reference(metav1.ObjectMeta{}.OpenAPIModelName(), metav1.PartialObjectMetadata{}.SwaggerDoc()["metadata"]))
}

func (m *modeler) typed(s *spec.Schema) {
	for _, name := range []string{"apiVersion", "kind"} {
		s.SetProperty(name, m.typeMeta[name])
	}
}

// embedded completes the embedded objects below. In v2 one that keeps unknown fields
// has no properties, see object.
func (m *modeler) embedded(s *spec.Schema) {
	if s == nil {
		return
	}
	for name, prop := range s.Properties {
		m.embedded(&prop)
		s.Properties[name] = prop
	}
	if s.Items != nil {
		m.embedded(s.Items.Schema)
	}
	if s.AdditionalProperties != nil {
		m.embedded(s.AdditionalProperties.Schema)
	}
	if is, _ := s.Extensions.GetBool(extensionEmbedded); !is {
		return
	}
	if keeps, _ := s.Extensions.GetBool(extensionPreserve); keeps && m.form == forV2 {
		return
	}
	m.typed(s)
	s.SetProperty("metadata", m.reference(metav1.ObjectMeta{}.OpenAPIModelName(), metav1.PartialObjectMetadata{}.SwaggerDoc()["metadata"]))
	for _, name := range []string{"apiVersion", "kind"} {
		if !slices.Contains(s.Required, name) {
			s.Required = append(slices.Clone(s.Required), name)
		}
	}
}

func (m *modeler) list(k *Kind, item string) spec.Schema {
	plural := k.Plural
	if plural == "" {
		plural = k.Kind
	}
	s := new(spec.Schema).Typed("object", "").
		WithDescription(fmt.Sprintf("%s is a list of %s.", k.ListKind, k.Kind)).
		WithRequired("items").
		SetProperty("items", *spec.ArrayProperty(&spec.Schema{SchemaProps: spec.SchemaProps{Ref: m.ref(item)}}).
			WithDescription("The " + plural + " of the list.")).
		SetProperty("metadata", m.reference(metav1.ListMeta{}.OpenAPIModelName(), metav1.PartialObjectMetadataList{}.SwaggerDoc()["metadata"]))
	m.typed(s)
	m.selectable(s, k)
	return *s
}

func (m *modeler) reference(name, description string) spec.Schema {
	return spec.Schema{SchemaProps: spec.SchemaProps{Ref: m.ref(name), Description: description}}
}

func (m *modeler) selectable(s *spec.Schema, k *Kind) {
	if len(k.SelectableFields) == 0 {
		return
	}
	list := make([]any, 0, len(k.SelectableFields))
	for _, path := range k.SelectableFields {
		list = append(list, map[string]any{"fieldPath": strings.TrimPrefix(path, ".")})
	}
	s.AddExtension(extensionSelectable, list)
}
