// Package crd makes Go types with kubebuilder markers of CustomResourceDefinitions.
//
// controller-gen makes the same definitions of these types again. What no marker can say,
// or what a Go type cannot keep, is a warning that names the field; what the API server
// would refuse in a definition is an error.
package crd

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

const (
	// MaxFile bounds a file. An API server takes objects of 3 MiB at most.
	MaxFile = 8 << 20
	// maxDefinitions bounds what a file may hold.
	maxDefinitions = 50
)

// Kind is what a definition says.
type Kind struct {
	Group, Kind, Plural string
	Namespaced          bool
	// Scale says that there is the subresource scale.
	Scale bool
	// Versions are all of them, the stored one first.
	Versions []Version
	// Definition is the definition that was read, as YAML.
	Definition []byte
	// Warnings say what is not carried, each with its field.
	Warnings []string
}

// Version is one version of a kind.
type Version struct {
	Name   string
	Served bool
	// Deprecated versions have a Warning, which may be empty.
	Deprecated bool
	Warning    string
	// Types is a Go file with the types.
	Types []byte
}

// Read makes types of all definitions in a file, and skips other objects. file names it
// in errors.
func Read(file string, data []byte) ([]Kind, error) {
	if len(data) > MaxFile {
		return nil, fmt.Errorf("%s has more than %d MiB: no CustomResourceDefinition is so big", file, MaxFile>>20)
	}
	objects, err := documents(file, data)
	if err != nil {
		return nil, err
	}
	var kinds []Kind
	var errs []error
	for _, object := range objects {
		definition, err := decode(file, object)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		k, err := kindOf(file, definition)
		if err == nil {
			err = validate(file, definition)
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if k.Definition, err = yaml.Marshal(definition); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		kinds = append(kinds, k)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if len(kinds) == 0 {
		return nil, fmt.Errorf("%s has no CustomResourceDefinition: kubectl get crd NAME -o yaml writes one", file)
	}
	return kinds, nil
}

// head is what all objects have.
type head struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Name string `json:"name"`
	} `json:"metadata"`
}

// documents are the definitions of a file, those in lists too.
func documents(file string, data []byte) ([][]byte, error) {
	reader := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(data)))
	var all [][]byte
	for number := 1; ; number++ {
		text, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", file, err)
		}
		found, err := definitions(text)
		if err != nil {
			return nil, fmt.Errorf("%s, document %d: %w", file, number, err)
		}
		if all = append(all, found...); len(all) > maxDefinitions {
			return nil, fmt.Errorf("%s has more than %d definitions: take those of one group", file, maxDefinitions)
		}
	}
}

func definitions(document []byte) ([][]byte, error) {
	var object struct {
		head
		Items []yamlText `json:"items"`
	}
	if err := yaml.Unmarshal(document, &object); err != nil {
		return nil, fmt.Errorf("it is no YAML: %w", err)
	}
	switch {
	case object.Kind == "List" || object.Kind == "CustomResourceDefinitionList":
		var all [][]byte
		for _, item := range object.Items {
			found, err := definitions(item)
			if err != nil {
				return nil, err
			}
			all = append(all, found...)
		}
		return all, nil
	case object.Kind == "CustomResourceDefinition":
		return [][]byte{document}, nil
	}
	return nil, nil
}

// yamlText keeps a part as it is.
type yamlText []byte

func (t *yamlText) UnmarshalJSON(data []byte) error {
	*t = slices.Clone(data)
	return nil
}

// decode reads one definition. A field that there is not is an error.
func decode(file string, object []byte) (*apiextensionsv1.CustomResourceDefinition, error) {
	var h head
	if err := yaml.Unmarshal(object, &h); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if want := apiextensionsv1.SchemeGroupVersion.String(); h.APIVersion != want {
		return nil, fmt.Errorf("%s: %s: apiVersion is %q, and %q would be right: kubectl get crd %s -o yaml writes it so", file, h.Metadata.Name, h.APIVersion, want, h.Metadata.Name)
	}
	definition := &apiextensionsv1.CustomResourceDefinition{}
	asJSON, err := yaml.YAMLToJSONStrict(object)
	if err != nil {
		return nil, fmt.Errorf("%s: %s: %w", file, h.Metadata.Name, err)
	}
	wrong, err := json.UnmarshalStrict(asJSON, definition)
	if err := errors.Join(append(wrong, err)...); err != nil {
		return nil, prefixed(file+": "+h.Metadata.Name+": ", err)
	}
	return definition, nil
}

// kindOf makes the types of one definition.
func kindOf(file string, definition *apiextensionsv1.CustomResourceDefinition) (Kind, error) {
	spec := definition.Spec
	name := definition.Name
	if name == "" {
		name = spec.Names.Plural + "." + spec.Group
	}
	at := file + ": " + name + ": "
	if err := check(&spec); err != nil {
		return Kind{}, prefixed(at, err)
	}
	k := Kind{Group: spec.Group, Kind: spec.Names.Kind, Plural: spec.Names.Plural, Namespaced: spec.Scope == apiextensionsv1.NamespaceScoped}
	warn := func(field, format string, args ...any) {
		k.Warnings = append(k.Warnings, at+field+": "+fmt.Sprintf(format, args...))
	}
	if l := spec.Names.ListKind; l != "" && l != k.Kind+"List" {
		warn("spec.names.listKind", "%q is not carried; %sList takes its place", l, k.Kind)
	}
	if spec.PreserveUnknownFields {
		warn("spec.preserveUnknownFields", "it is not carried: a Go type has the fields that it has")
	}
	if c := spec.Conversion; c != nil && c.Strategy == apiextensionsv1.WebhookConverter {
		warn("spec.conversion", "the webhook is not carried: fields of one name are copied, and what is more is yours to write in %s_VERSION.go", strings.ToLower(k.Kind))
	}
	versions := slices.Clone(spec.Versions)
	slices.SortStableFunc(versions, func(a, b apiextensionsv1.CustomResourceDefinitionVersion) int {
		switch {
		case a.Storage && !b.Storage:
			return -1
		case b.Storage && !a.Storage:
			return 1
		}
		return 0
	})
	var errs []error
	for i := range versions {
		v := &versions[i]
		if v.Storage && !v.Served {
			warn("spec.versions["+v.Name+"].served", "it is the stored version, which is always served")
		}
		if v.Subresources != nil && v.Subresources.Scale != nil {
			k.Scale = true
		}
		g := &generator{kind: k.Kind, version: v.Name, warn: warn}
		source, err := g.file(&spec, v)
		if err != nil {
			errs = append(errs, prefixed(at, err))
			continue
		}
		out := Version{Name: v.Name, Served: v.Served || v.Storage, Deprecated: v.Deprecated, Types: source}
		if v.DeprecationWarning != nil {
			out.Warning = *v.DeprecationWarning
		}
		k.Versions = append(k.Versions, out)
		if i > 0 {
			differences(v.Name, versions[0].Name, "", schemaOf(v), schemaOf(&versions[0]), warn)
		}
	}
	return k, errors.Join(errs...)
}

// check finds what the API server would refuse, as far as types depend on it.
func check(spec *apiextensionsv1.CustomResourceDefinitionSpec) error {
	var errs []error
	add := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for field, value := range map[string]string{"spec.group": spec.Group, "spec.names.kind": spec.Names.Kind, "spec.names.plural": spec.Names.Plural} {
		if value == "" {
			add("%s: it is missing", field)
		}
	}
	if spec.Scope != apiextensionsv1.NamespaceScoped && spec.Scope != apiextensionsv1.ClusterScoped {
		add("spec.scope: %q is none; Namespaced or Cluster would be right", spec.Scope)
	}
	stored := 0
	for i := range spec.Versions {
		v := &spec.Versions[i]
		if v.Storage {
			stored++
		}
		if schemaOf(v) == nil {
			add("spec.versions[%s].schema.openAPIV3Schema: it is missing, and types are made of it", v.Name)
		}
	}
	if stored != 1 {
		add("spec.versions: %d versions have storage: true; one would be right", stored)
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(errs...)
}

func schemaOf(v *apiextensionsv1.CustomResourceDefinitionVersion) *apiextensionsv1.JSONSchemaProps {
	if v.Schema == nil {
		return nil
	}
	return v.Schema.OpenAPIV3Schema
}

// prefixed begins each line of joined errors.
func prefixed(with string, err error) error {
	var joined interface{ Unwrap() []error }
	if err == nil {
		return nil
	}
	if !errors.As(err, &joined) {
		return fmt.Errorf("%s%w", with, err)
	}
	var errs []error
	for _, e := range joined.Unwrap() {
		errs = append(errs, prefixed(with, e))
	}
	return errors.Join(errs...)
}

// differences warns of fields that a version has and the stored one has not, or has with
// another type: a copy by name loses them.
func differences(version, stored, at string, a, b *apiextensionsv1.JSONSchemaProps, warn func(field, format string, args ...any)) {
	if a == nil || b == nil {
		return
	}
	if a.Type != b.Type || a.XIntOrString != b.XIntOrString {
		warn(version+" "+at, "its type is not that of version %s: converting it is yours to write", stored)
		return
	}
	for _, name := range sortedKeys(a.Properties) {
		if at == "" && (name == "apiVersion" || name == "kind" || name == "metadata") {
			continue
		}
		field := strings.TrimPrefix(at+"."+name, ".")
		inA := a.Properties[name]
		inB, ok := b.Properties[name]
		if !ok {
			warn(version+" "+field, "version %s, which is stored, has no such field: converting it is yours to write", stored)
			continue
		}
		if slices.Contains(b.Required, name) && !slices.Contains(a.Required, name) {
			warn(version+" "+field, "version %s, which is stored, requires it: what it is where it is missing is yours to write", stored)
		}
		differences(version, stored, field, &inA, &inB, warn)
	}
	if a.Items != nil && b.Items != nil {
		differences(version, stored, at+"[]", a.Items.Schema, b.Items.Schema, warn)
	}
	if a.AdditionalProperties != nil && b.AdditionalProperties != nil {
		differences(version, stored, at+"[]", a.AdditionalProperties.Schema, b.AdditionalProperties.Schema, warn)
	}
}
