package schema

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	sigsyaml "sigs.k8s.io/yaml"
)

// Description is a kind as a CustomResourceDefinition would describe it, in parts.
type Description struct {
	Group string
	Names apiextensionsv1.CustomResourceDefinitionNames
	// Namespaced says whether objects are in namespaces.
	Namespaced bool
	// Versions are at least one; the first is that of storage.
	Versions []VersionDescription
}

// VersionDescription is one version of a Description.
type VersionDescription struct {
	Name string
	// OpenAPI is an OpenAPI v3 schema in JSON or YAML.
	OpenAPI          []byte
	Columns          []apiextensionsv1.CustomResourceColumnDefinition
	SelectableFields []string
	Status           bool
	Scale            *Scale
	NotServed        bool
	// Deprecated is the warning of clients; empty where the version is not deprecated.
	Deprecated string
}

// terms are what the paths of a definition are called in a Description.
var terms = strings.NewReplacer(
	"spec.group", "Group", "spec.scope", "Scope", "spec.names.plural", "Names.Plural", "spec.names.singular", "Names.Singular",
	"spec.names.kind", "Names.Kind", "spec.names.listKind", "Names.List", "spec.names.shortNames", "Names.Short", "spec.names.categories", "Names.Categories",
	"spec.versions", "Versions", ".schema.openAPIV3Schema", ".OpenAPI", ".selectableFields", ".SelectableFields",
	".additionalPrinterColumns", ".Columns", ".name", ".Name", ".type", ".Type", ".format", ".Format", ".JSONPath", ".Path", ".jsonPath", ".Path",
	".subresources.status", ".Status", ".subresources.scale", ".Scale", ".specReplicasPath", ".SpecReplicas",
	".statusReplicasPath", ".StatusReplicas", ".labelSelectorPath", ".Selector",
)

// Definition checks a description as Read does a file. An error names the field, and
// within a schema its line.
func (d Description) Definition() (*Definition, error) {
	doc := &document{parts: map[string]*document{}, said: terms.Replace}
	crd := &apiextensionsv1.CustomResourceDefinition{
		TypeMeta:   metav1.TypeMeta{APIVersion: apiextensionsv1.SchemeGroupVersion.String(), Kind: "CustomResourceDefinition"},
		ObjectMeta: metav1.ObjectMeta{Name: d.Names.Plural + "." + d.Group},
		Spec:       apiextensionsv1.CustomResourceDefinitionSpec{Group: d.Group, Names: d.Names, Scope: apiextensionsv1.ClusterScoped},
	}
	if d.Namespaced {
		crd.Spec.Scope = apiextensionsv1.NamespaceScoped
	}
	var errs []error
	schemas := make([]json.RawMessage, len(d.Versions))
	for i, v := range d.Versions {
		crd.Spec.Versions = append(crd.Spec.Versions, v.version(i == 0))
		field := fmt.Sprintf("Versions[%d].OpenAPI", i)
		raw, err := sigsyaml.YAMLToJSONStrict(v.OpenAPI)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", field, err))
			continue
		}
		schemas[i] = raw
		doc.parts[fmt.Sprintf("spec.versions[%d].schema.openAPIV3Schema", i)] = newDocument(field, v.OpenAPI)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	raw, err := withSchemas(crd, schemas)
	if err != nil {
		return nil, err
	}
	return doc.read(raw)
}

// withSchemas is the JSON of a definition whose schemas are as they were given: a field
// that is not known is to be told.
func withSchemas(crd *apiextensionsv1.CustomResourceDefinition, schemas []json.RawMessage) ([]byte, error) {
	data, err := json.Marshal(crd)
	if err != nil {
		return nil, err
	}
	var content map[string]any
	if err := json.Unmarshal(data, &content); err != nil {
		return nil, err
	}
	versions, _ := content["spec"].(map[string]any)["versions"].([]any)
	for i := range versions {
		versions[i].(map[string]any)["schema"] = map[string]any{"openAPIV3Schema": schemas[i]}
	}
	return json.Marshal(content)
}

func (v VersionDescription) version(stored bool) apiextensionsv1.CustomResourceDefinitionVersion {
	out := apiextensionsv1.CustomResourceDefinitionVersion{
		Name: v.Name, Served: !v.NotServed, Storage: stored,
		AdditionalPrinterColumns: v.Columns,
	}
	if v.Deprecated != "" {
		out.Deprecated, out.DeprecationWarning = true, &v.Deprecated
	}
	for _, path := range v.SelectableFields {
		out.SelectableFields = append(out.SelectableFields, apiextensionsv1.SelectableField{JSONPath: path})
	}
	if v.Status || v.Scale != nil {
		out.Subresources = &apiextensionsv1.CustomResourceSubresources{}
	}
	if v.Status {
		out.Subresources.Status = &apiextensionsv1.CustomResourceSubresourceStatus{}
	}
	if s := v.Scale; s != nil {
		out.Subresources.Scale = &apiextensionsv1.CustomResourceSubresourceScale{SpecReplicasPath: s.SpecReplicas, StatusReplicasPath: s.StatusReplicas}
		if s.Selector != "" {
			out.Subresources.Scale.LabelSelectorPath = &s.Selector
		}
	}
	return out
}
