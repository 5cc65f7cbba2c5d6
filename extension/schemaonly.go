package extension

import (
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/annex-api/annex/extension/internal/schema"
)

// SchemaOnly is a Resource without a Go type: its schema says all that there is to know of
// it, and hooks get *unstructured.Unstructured. It behaves as a custom resource does:
// defaults, pruning, validation and CEL rules are those of the schema, a strategic merge
// patch is answered 415, protobuf with JSON. [FromCRD] and [FromOpenAPI] make one, whose
// hooks can then be set.
//
// Without them, its Schema holds the kind's CustomResourceDefinition; GroupVersion and
// Names need to be set only where that is not the only one, or another version than the
// stored one is to be the hub. Versions need [Spoke] functions only where their schemas
// differ in more than fields that one of them lacks; every version of the definition is served as it
// says. What such functions, and hooks, leave in an object is made what JSON has.
type SchemaOnly = Resource[unstructured.Unstructured, unstructured.UnstructuredList]

// FromCRD declares the kind of a CustomResourceDefinition, which is YAML or JSON. The hub
// is the version that is stored. What is wrong with the document is said by New, with its line.
func FromCRD(document []byte) SchemaOnly {
	return SchemaOnly{described: func() ([]*schema.Definition, error) {
		return schema.ReadDocuments("CustomResourceDefinition", document)
	}}
}

// Schema describes a kind without a Go type, for [FromOpenAPI].
type Schema struct {
	// Group is the kind's API group.
	Group string
	// Names need a Kind at least.
	Names Names
	// Scope is Namespaced unless it is Cluster.
	Scope Scope
	// Versions are those of the kind. The first is the hub and is stored.
	Versions []SchemaVersion
}

// SchemaVersion is one version of a Schema.
type SchemaVersion struct {
	Name string
	// OpenAPI is the schema of the whole object, as a CustomResourceDefinition has it in
	// openAPIV3Schema, in YAML or JSON. It is structural.
	OpenAPI []byte
	// Columns are those of `kubectl get` between Name and Age. Those of the hub count.
	Columns []PathColumn
	// SelectableFields are paths like ".spec.color". Those of the hub count.
	SelectableFields []string
	// Status makes the field "status" a subresource. That of the hub counts.
	Status bool
	// Scale makes the subresource scale. That of the hub counts.
	Scale *Scale
	// NotServed keeps the version readable in storage without serving it.
	NotServed bool
	// Deprecated is the warning that every answer of the version carries.
	Deprecated string
}

// PathColumn is a column that shows what is at a path.
type PathColumn struct {
	Name        string
	Description string
	// Type is string, integer, number, boolean or date; empty means string. A date is
	// shown as how long ago it was.
	Type string
	// Path is a JSONPath like ".spec.color".
	Path string
	// Wide shows the column with `-o wide` only.
	Wide bool
}

// FromOpenAPI declares a kind by its schema. What is wrong with that is said by New, with
// the field, and the line of OpenAPI.
func FromOpenAPI(s Schema) SchemaOnly {
	return SchemaOnly{described: func() ([]*schema.Definition, error) {
		d, err := s.description().Definition()
		if err != nil {
			return nil, err
		}
		return []*schema.Definition{d}, nil
	}}
}

func (s Schema) description() schema.Description {
	d := schema.Description{Group: s.Group, Namespaced: s.Scope != Cluster, Names: apiextensionsv1.CustomResourceDefinitionNames{
		Kind: s.Names.Kind, ListKind: s.Names.List, Plural: s.Names.Plural, Singular: s.Names.Singular,
		ShortNames: s.Names.Short, Categories: s.Names.Categories,
	}}
	if d.Names.Plural == "" {
		guess, _ := meta.UnsafeGuessKindToResource(metav1.SchemeGroupVersion.WithKind(d.Names.Kind))
		d.Names.Plural = guess.Resource
	}
	for _, v := range s.Versions {
		d.Versions = append(d.Versions, v.description())
	}
	return d
}

func (v SchemaVersion) description() schema.VersionDescription {
	d := schema.VersionDescription{
		Name: v.Name, OpenAPI: v.OpenAPI, SelectableFields: v.SelectableFields,
		Status: v.Status, NotServed: v.NotServed, Deprecated: v.Deprecated,
	}
	if v.Scale != nil {
		d.Scale = &schema.Scale{SpecReplicas: v.Scale.SpecReplicas, StatusReplicas: v.Scale.StatusReplicas, Selector: v.Scale.Selector}
	}
	for _, c := range v.Columns {
		column := apiextensionsv1.CustomResourceColumnDefinition{Name: c.Name, Description: c.Description, Type: c.Type, JSONPath: c.Path}
		if column.Type == "" {
			column.Type = "string"
		}
		if c.Wide {
			column.Priority = 1
		}
		d.Columns = append(d.Columns, column)
	}
	return d
}
