package schema

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	crdvalidation "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/client-go/util/jsonpath"
	kjson "sigs.k8s.io/json"
)

// longest is how much of an error's value is shown; whole schemas are longer.
const longest = 400

// Read gives the kinds that the CustomResourceDefinitions in a file system
// describe: in files that end in .yaml, .yml or .json, at any depth, with any
// number of documents in each. Documents of other kinds are passed over. Files are
// taken in the order of their names.
//
// A definition that an API server would refuse is an error here, and so is a field
// that it would pass over. An error names the file, the line where it is known, and
// the path; all that is wrong is in the one error.
func Read(files fs.FS) ([]*Definition, error) {
	var definitions []*Definition
	var errs []error
	walked := fs.WalkDir(files, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() || !slices.Contains([]string{".yaml", ".yml", ".json"}, path.Ext(name)) {
			return nil
		}
		content, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		found, err := readAll(name, content)
		definitions = append(definitions, found...)
		errs = append(errs, err)
		return nil
	})
	if walked != nil {
		errs = append(errs, fmt.Errorf("reading CustomResourceDefinitions: %w", walked))
	}
	errs = append(errs, duplicates(definitions)...)
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return definitions, nil
}

// ReadDocuments gives the kinds that the CustomResourceDefinitions of one file describe,
// as Read does. The name is for errors.
func ReadDocuments(name string, content []byte) ([]*Definition, error) {
	definitions, err := readAll(name, content)
	if err := errors.Join(append(duplicates(definitions), err)...); err != nil {
		return nil, err
	}
	return definitions, nil
}

func readAll(name string, content []byte) (definitions []*Definition, err error) {
	var errs []error
	for _, doc := range documents(name, content) {
		definition, err := doc.definition()
		if err != nil {
			errs = append(errs, err)
		} else if definition != nil {
			definitions = append(definitions, definition)
		}
	}
	return definitions, errors.Join(errs...)
}

// duplicates finds kinds and plurals that are defined twice in a group.
func duplicates(definitions []*Definition) []error {
	var errs []error
	kinds, plurals := map[string]*Definition{}, map[string]*Definition{}
	for _, d := range definitions {
		for _, c := range []struct {
			seen       map[string]*Definition
			path, name string
		}{{kinds, "spec.names.kind", d.Kind}, {plurals, "spec.names.plural", d.Plural}} {
			if first, twice := c.seen[c.name+"."+d.Group]; twice {
				errs = append(errs, fmt.Errorf("%s:%d: %s: %s of group %s is defined already, in %s:%d", d.File, d.Line, c.path, c.name, d.Group, first.File, first.Line))
				continue
			}
			c.seen[c.name+"."+d.Group] = d
		}
	}
	return errs
}

// definition reads the document; nil, if it is of another kind.
func (d *document) definition() (*Definition, error) {
	raw, err := d.json()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", d.file, err)
	}
	return d.read(raw)
}

// read reads the document's JSON.
func (d *document) read(raw []byte) (*Definition, error) {
	var what struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
	}
	if err := kjson.UnmarshalCaseSensitivePreserveInts(raw, &what); err != nil || what.Kind != "CustomResourceDefinition" {
		return nil, nil
	}
	if group, _, _ := strings.Cut(what.APIVersion, "/"); group != apiextensionsv1.GroupName {
		return nil, nil
	}
	if what.APIVersion != apiextensionsv1.SchemeGroupVersion.String() {
		return nil, d.fault("apiVersion", fmt.Sprintf("%s is not read; write %s", what.APIVersion, apiextensionsv1.SchemeGroupVersion))
	}

	crd, errs := d.decode(raw)
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	if errs := d.check(crd); len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	definition, err := newDefinition(crd, d.file, d.line("spec"))
	if err != nil {
		return nil, d.fault("spec.versions", err.Error())
	}
	for i, v := range definition.Versions {
		if d.root != nil {
			v.where = d.lineBelow(fmt.Sprintf("spec.versions[%d].schema.openAPIV3Schema", i))
		}
	}
	return definition, nil
}

// decode reads a definition, and is strict about every field.
func (d *document) decode(raw []byte) (*apiextensionsv1.CustomResourceDefinition, []error) {
	crd := &apiextensionsv1.CustomResourceDefinition{}
	strict, err := kjson.UnmarshalStrict(raw, crd)
	if err != nil {
		return nil, []error{d.fault("", err.Error())}
	}
	var errs []error
	told := map[string]bool{}
	for _, err := range strict {
		at := ""
		if f, ok := err.(kjson.FieldError); ok {
			at = f.FieldPath()
		}
		told[at] = true
		errs = append(errs, d.fault(at, err.Error()))
	}
	for _, at := range unknownKeywords(raw) {
		if !told[at] {
			errs = append(errs, d.fault(at, fmt.Sprintf("unknown field %q", at)))
		}
	}
	return crd, errs
}

// check asks upstream's own validation what an API server would refuse.
func (d *document) check(crd *apiextensionsv1.CustomResourceDefinition) []error {
	apiextensionsv1.SetDefaults_CustomResourceDefinition(crd)
	checked := crd.DeepCopy()
	// A group below k8s.io needs no approval to be served by an extension server.
	if checked.Annotations == nil {
		checked.Annotations = map[string]string{}
	}
	checked.Annotations[apiextensionsv1.KubeAPIApprovedAnnotation] = "unapproved, served by an extension server"
	internal := &apiextensions.CustomResourceDefinition{}
	if err := apiextensionsv1.Convert_v1_CustomResourceDefinition_To_apiextensions_CustomResourceDefinition(checked, internal, nil); err != nil {
		return []error{d.fault("spec", err.Error())}
	}
	if s := &internal.Spec; s.Validation == nil { // what all versions can be selected by stands above schemas that differ
		for i := range s.Versions {
			s.Versions[i].SelectableFields = append(s.Versions[i].SelectableFields, s.SelectableFields...)
		}
		s.SelectableFields = nil
	}
	dropUnreadable(&internal.Spec)
	var errs []error
	for _, err := range crdvalidation.ValidateCustomResourceDefinition(context.Background(), internal) {
		errs = append(errs, d.fault(written(err.Field), body(err)))
	}
	return append(errs, d.columns(crd)...)
}

// columns finds paths that could not be read: an API server takes them, and shows empty cells.
func (d *document) columns(crd *apiextensionsv1.CustomResourceDefinition) []error {
	var errs []error
	for i, v := range crd.Spec.Versions {
		for j, column := range v.AdditionalPrinterColumns {
			if err := jsonpath.New(column.Name).Parse("{" + column.JSONPath + "}"); err != nil {
				at := fmt.Sprintf("spec.versions[%d].additionalPrinterColumns[%d].jsonPath", i, j)
				errs = append(errs, d.fault(at, fmt.Sprintf("%q is no JSONPath: %v", column.JSONPath, err)))
			}
		}
	}
	return errs
}

// dropUnreadable takes away selectable fields whose schema is not structural: upstream's
// validation reports the schema, and then panics over the fields.
func dropUnreadable(s *apiextensions.CustomResourceDefinitionSpec) {
	structural := func(v *apiextensions.CustomResourceValidation) bool {
		if v == nil || v.OpenAPIV3Schema == nil {
			return false
		}
		_, err := structuralschema.NewStructural(v.OpenAPIV3Schema)
		return err == nil
	}
	if s.Validation != nil && !structural(s.Validation) {
		s.SelectableFields = nil
	}
	for i := range s.Versions {
		if v := &s.Versions[i]; v.Schema != nil && !structural(v.Schema) {
			v.SelectableFields = nil
		}
	}
}

// written gives the path of v1 for one of the internal version, which keeps what all
// versions have in common one level higher.
func written(at string) string {
	for internal, v1 := range map[string]string{
		"spec.validation":               "spec.versions[0].schema",
		"spec.subresources":             "spec.versions[0].subresources",
		"spec.additionalPrinterColumns": "spec.versions[0].additionalPrinterColumns",
		"spec.selectableFields":         "spec.versions[0].selectableFields",
	} {
		if rest, ok := strings.CutPrefix(at, internal); ok && (rest == "" || rest[0] == '.' || rest[0] == '[') {
			return v1 + rest
		}
	}
	return at
}

// body is what is wrong without the path, and without values that nobody reads.
func body(err *field.Error) string {
	if said := err.ErrorBody(); len(said) <= longest {
		return said
	}
	return err.Type.String() + ": " + err.Detail
}
