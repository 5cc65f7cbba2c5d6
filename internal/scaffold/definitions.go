package scaffold

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/annex-api/annex/internal/scaffold/crd"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"
)

// FromCRDs are kinds of definitions, with their types. They are of one group.
func FromCRDs(definitions []crd.Kind, controller bool) (group string, kinds []Kind, own []File, err error) {
	var errs []error
	for _, d := range definitions {
		if group == "" {
			group = d.Group
		}
		if d.Group != group {
			errs = append(errs, fmt.Errorf("%s.%s is of another group than %s: a project has kinds of one group", d.Plural, d.Group, group))
			continue
		}
		k := Kind{Kind: d.Kind, Plural: d.Plural, Namespaced: d.Namespaced, Controller: controller, FromCRD: true, Scale: d.Scale}
		for _, v := range d.Versions {
			k.Versions = append(k.Versions, v.Name)
			if !v.Served {
				k.NotServed = append(k.NotServed, v.Name)
			}
			if v.Deprecated {
				if k.Deprecated == nil {
					k.Deprecated = map[string]string{}
				}
				k.Deprecated[v.Name] = v.Warning
			}
			own = append(own, File{Path: path.Join("api", v.Name, strings.ToLower(d.Kind)+"_types.go"), Data: v.Types})
		}
		own = append(own, File{Path: path.Join("crd", d.Group+"_"+d.Plural+".yaml"), Data: d.Definition, Generated: true})
		kinds = append(kinds, k)
	}
	return group, kinds, own, errors.Join(errs...)
}

// RenderNew gives the files of a project that is not there yet. own are the types of kinds
// that are not made from templates.
func RenderNew(p Project, own []File) ([]File, error) {
	set, err := Templates(p.Scaffold)
	if err != nil {
		return nil, err
	}
	files, err := Render(p, set, nil)
	if err != nil {
		return nil, err
	}
	files = append(files, own...)
	return files, declaredTwice(nil, files)
}

// ToCRDs are the definitions of a project's kinds, as `go generate` wrote them, in one
// YAML stream. The warnings say what of the kinds they do not have.
func ToCRDs(folder fs.FS) (stream []byte, warnings []string, err error) {
	p, err := Read(folder)
	if err != nil {
		return nil, nil, err
	}
	var out bytes.Buffer
	for _, k := range p.Kinds {
		name := path.Join("crd", p.Group+"_"+k.Plural+".yaml")
		data, err := fs.ReadFile(folder, name)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil, fmt.Errorf("there is no %s, which go generate makes of the types of %s: is its marker +kubebuilder:resource:path=%s?", name, k.Kind, k.Plural)
		}
		if err != nil {
			return nil, nil, err
		}
		var definition apiextensionsv1.CustomResourceDefinition
		if err := yaml.UnmarshalStrict(data, &definition); err != nil {
			return nil, nil, fmt.Errorf("%s: %w", name, err)
		}
		out.WriteString("---\n")
		out.Write(bytes.TrimPrefix(bytes.TrimSpace(data), []byte("---\n")))
		out.WriteString("\n")
		for _, a := range k.Actions {
			warnings = append(warnings, fmt.Sprintf("%s: the action %s is none of a custom resource", k.Kind, a))
		}
		if len(definition.Spec.Versions) > 1 {
			warnings = append(warnings, fmt.Sprintf("%s: an API server copies fields of one name between versions; conversions of the project need a webhook", k.Kind))
		}
	}
	return out.Bytes(), warnings, nil
}
