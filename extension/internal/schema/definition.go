package schema

import (
	"fmt"
	"slices"

	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/version"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
)

// Definition is a kind as its CustomResourceDefinition describes it.
type Definition struct {
	Group, Kind, ListKind string
	Plural, Singular      string
	ShortNames            []string
	Categories            []string
	Namespaced            bool
	// Versions are in the order of the file.
	Versions []*Version
	// Converts is true where a webhook converts between versions; otherwise they differ in
	// what their schemas know.
	Converts bool
	// File is where the definition was read, and Line that of its spec.
	File string
	Line int
}

// Version gives the version with a name, or nil.
func (d *Definition) Version(name string) *Version {
	i := slices.IndexFunc(d.Versions, func(v *Version) bool { return v.Name == name })
	if i < 0 {
		return nil
	}
	return d.Versions[i]
}

// Place is where the definition stands, for errors.
func (d *Definition) Place() string {
	if d.File == "" {
		return "the Schema"
	}
	return fmt.Sprintf("%s:%d", d.File, d.Line)
}

// Stored is the name of the version that is stored.
func (d *Definition) Stored() string {
	for _, v := range d.Versions {
		if v.Storage {
			return v.Name
		}
	}
	return ""
}

// Version is a kind in one version.
type Version struct {
	Name            string
	Served, Storage bool
	// Deprecated is true where clients are to be warned, with Warning.
	Deprecated bool
	Warning    string
	// Description is that of the schema's root.
	Description string
	// Schema is structural. It must not be changed.
	Schema *structuralschema.Structural
	// Columns are those of `kubectl get` beside the name; Age is among them if it was
	// asked for.
	Columns []apiextensionsv1.CustomResourceColumnDefinition
	// SelectableFields are JSON paths such as ".spec.color".
	SelectableFields []string
	// Status makes "status" a subresource.
	Status bool
	// Scale is nil where there is no such subresource.
	Scale *Scale

	apiVersion, kind string
	values           validation.SchemaValidator
	rules            *cel.Validator
	validates        bool
	// where gives the file and the line of a path of the schema; nil without a file.
	where func(schemaPath string) string
}

// Scale says where the replicas of a kind are, as JSON paths such as ".spec.replicas".
// Selector may be empty.
type Scale struct{ SpecReplicas, StatusReplicas, Selector string }

// newDefinition describes a definition that has been checked.
func newDefinition(crd *apiextensionsv1.CustomResourceDefinition, file string, line int) (*Definition, error) {
	names := crd.Spec.Names
	d := &Definition{
		Group: crd.Spec.Group, Kind: names.Kind, ListKind: names.ListKind,
		Plural: names.Plural, Singular: names.Singular,
		ShortNames: names.ShortNames, Categories: names.Categories,
		Namespaced: crd.Spec.Scope == apiextensionsv1.NamespaceScoped,
		Converts:   crd.Spec.Conversion != nil && crd.Spec.Conversion.Strategy != apiextensionsv1.NoneConverter,
		File:       file, Line: line,
	}
	for i := range crd.Spec.Versions {
		v, err := newVersion(crd, &crd.Spec.Versions[i])
		if err != nil {
			return nil, fmt.Errorf("spec.versions[%d].schema.openAPIV3Schema: %w", i, err)
		}
		d.Versions = append(d.Versions, v)
	}
	return d, nil
}

func newVersion(crd *apiextensionsv1.CustomResourceDefinition, in *apiextensionsv1.CustomResourceDefinitionVersion) (*Version, error) {
	var props apiextensions.JSONSchemaProps
	if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(in.Schema.OpenAPIV3Schema, &props, nil); err != nil {
		return nil, err
	}
	structural, err := structuralschema.NewStructural(&props)
	if err != nil {
		return nil, err
	}
	// Defaults are shared with what the schema was made from until they are copied.
	structural = structural.DeepCopy()
	if err := defaulting.PruneDefaults(structural); err != nil {
		return nil, err
	}
	values, _, err := validation.NewSchemaValidator(&props)
	if err != nil {
		return nil, err
	}
	v := &Version{
		Name: in.Name, Served: in.Served, Storage: in.Storage,
		Deprecated:  in.Deprecated,
		Description: structural.Description,
		Schema:      structural,
		Columns:     in.AdditionalPrinterColumns,
		apiVersion:  crd.Spec.Group + "/" + in.Name,
		kind:        crd.Spec.Names.Kind,
		values:      values,
		rules:       cel.NewValidator(structural, true, celconfig.PerCallLimit),
	}
	if in.Deprecated {
		v.Warning = deprecation(crd, in)
	}
	for _, selectable := range in.SelectableFields {
		v.SelectableFields = append(v.SelectableFields, selectable.JSONPath)
	}
	if sub := in.Subresources; sub != nil {
		v.Status = sub.Status != nil
		if sub.Scale != nil {
			v.Scale = &Scale{SpecReplicas: sub.Scale.SpecReplicasPath, StatusReplicas: sub.Scale.StatusReplicasPath}
			if sub.Scale.LabelSelectorPath != nil {
				v.Scale.Selector = *sub.Scale.LabelSelectorPath
			}
		}
	}
	v.validates = v.Scale != nil || constrains(structural)
	return v, nil
}

// deprecation is the warning that clients of a version get: its own, or one that
// names the newest version to use.
func deprecation(crd *apiextensionsv1.CustomResourceDefinition, in *apiextensionsv1.CustomResourceDefinitionVersion) string {
	if in.DeprecationWarning != nil {
		return *in.DeprecationWarning
	}
	newest := in.Name
	for _, v := range crd.Spec.Versions {
		if v.Served && !v.Deprecated && version.CompareKubeAwareVersionStrings(newest, v.Name) < 0 {
			newest = v.Name
		}
	}
	warning := fmt.Sprintf("%s/%s %s is deprecated", crd.Spec.Group, in.Name, crd.Spec.Names.Kind)
	if newest != in.Name {
		warning += fmt.Sprintf("; use %s/%s %s", crd.Spec.Group, newest, crd.Spec.Names.Kind)
	}
	return warning
}
