// Package schemaonly serves a kind that has no Go type: a CustomResourceDefinition says
// what it is, and functions over unstructured objects say the rest.
package schemaonly

import (
	"context"
	_ "embed"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/annex-api/annex/extension"
)

//go:embed gadget.yaml
var gadget []byte

// Gadgets are what gadget.yaml defines.
func Gadgets() extension.SchemaOnly {
	g := extension.FromCRD(gadget)
	g.Versions = extension.Versions(extension.Spoke("v1beta1", toV1, fromV1))
	g.PrepareForCreate = func(_ context.Context, obj *unstructured.Unstructured) {
		spec := specOf(obj)
		if size, ok := spec["size"].(string); ok {
			spec["size"] = strings.TrimSpace(size)
		}
	}
	g.ValidateUpdate = func(_ context.Context, obj, old *unstructured.Unstructured) field.ErrorList {
		if was := specOf(old)["size"]; was != nil && specOf(obj)["size"] == nil {
			return field.ErrorList{field.Required(field.NewPath("spec", "size"), "a gadget that has a size keeps one")}
		}
		return nil
	}
	return g
}

// The older version spells color otherwise, and knows of no parts. Those are kept by the
// server while a gadget is written through it.
func toV1(from, to *unstructured.Unstructured) error { return renamed(from, to, "colour", "color") }

func fromV1(from, to *unstructured.Unstructured) error { return renamed(from, to, "color", "colour") }

func renamed(from, to *unstructured.Unstructured, is, becomes string) error {
	if status, ok := from.Object["status"]; ok {
		to.Object["status"] = status
	}
	spec := specOf(from)
	if value, ok := spec[is]; ok {
		spec[becomes] = value
		delete(spec, is)
	}
	if spec != nil {
		to.Object["spec"] = spec
	}
	return nil
}

func specOf(obj *unstructured.Unstructured) map[string]any {
	spec, _ := obj.Object["spec"].(map[string]any)
	return spec
}
