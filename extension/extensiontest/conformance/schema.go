package conformance

import (
	"context"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

// document is the OpenAPI v3 document of a group version.
type document struct {
	path    string
	schemas map[string]any
}

// unlisted is what is said of a group version that has no document, before its path.
const unlisted = "/openapi/v3 does not list "

const refPrefix = "#/components/schemas/"

// readDocument reads the document of a group version, or says why there is none.
func readDocument(ctx context.Context, c *client, gv schema.GroupVersion) (*document, string) {
	var index struct {
		Paths map[string]struct {
			URL string `json:"serverRelativeURL"`
		} `json:"paths"`
	}
	if err := c.getJSON(ctx, "/openapi/v3", &index); err != nil {
		return nil, err.Error()
	}
	key := strings.TrimPrefix(root(gv), "/")
	if _, ok := index.Paths[key]; !ok {
		return nil, unlisted + key
	}
	d := &document{path: "/openapi/v3/" + key}
	var content struct {
		Components struct {
			Schemas map[string]any `json:"schemas"`
		} `json:"components"`
	}
	if err := c.getJSON(ctx, d.path, &content); err != nil {
		return nil, err.Error()
	}
	d.schemas = content.Components.Schemas
	return d, ""
}

// kinds are those that a schema stands for.
func kinds(node map[string]any) []schema.GroupVersionKind {
	list, _ := node["x-kubernetes-group-version-kind"].([]any)
	var found []schema.GroupVersionKind
	for _, item := range list {
		m, _ := item.(map[string]any)
		text := func(key string) string { s, _ := m[key].(string); return s }
		found = append(found, schema.GroupVersionKind{Group: text("group"), Version: text("version"), Kind: text("kind")})
	}
	return found
}

// kind is the schema of a kind; nil where there is none.
func (d *document) kind(gvk schema.GroupVersionKind) map[string]any {
	for _, name := range slices.Sorted(maps.Keys(d.schemas)) {
		if node, ok := d.schemas[name].(map[string]any); ok && slices.Contains(kinds(node), gvk) {
			return node
		}
	}
	return nil
}

// resolve follows references. What an embedding schema says besides its reference is kept.
func (d *document) resolve(node map[string]any) map[string]any {
	for range 10 { // a chain of references is short; a circle ends here
		name, ok := reference(node)
		if !ok {
			return node
		}
		target, ok := d.schemas[name].(map[string]any)
		if !ok {
			return node
		}
		merged := maps.Clone(target)
		for key, value := range node {
			if key != "$ref" && key != "allOf" && key != "default" {
				merged[key] = value
			}
		}
		node = merged
	}
	return node
}

// reference is the schema that a node refers to.
func reference(node map[string]any) (string, bool) {
	if ref, ok := node["$ref"].(string); ok {
		return strings.CutPrefix(ref, refPrefix)
	}
	if all, ok := node["allOf"].([]any); ok && len(all) == 1 {
		if inner, ok := all[0].(map[string]any); ok {
			return reference(inner)
		}
	}
	return "", false
}

// properties of a node, resolved one by one, and their names in order.
func (d *document) properties(node map[string]any) (map[string]any, []string) {
	p, _ := node["properties"].(map[string]any)
	return p, slices.Sorted(maps.Keys(p))
}

func (d *document) property(node map[string]any, name string) map[string]any {
	p, _ := node["properties"].(map[string]any)
	child, ok := p[name].(map[string]any)
	if !ok {
		return nil
	}
	return d.resolve(child)
}

// required are the names of the fields that must be set.
func required(node map[string]any) []string {
	list, _ := node["required"].([]any)
	var names []string
	for _, item := range list {
		if name, ok := item.(string); ok {
			names = append(names, name)
		}
	}
	return names
}

// dangling are the references of the document that lead nowhere.
func (d *document) dangling() []string {
	missing := map[string]bool{}
	var visit func(v any)
	visit = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if ref, ok := v["$ref"].(string); ok {
				name, local := strings.CutPrefix(ref, refPrefix)
				if _, found := d.schemas[name]; !local || !found {
					missing[ref] = true
				}
			}
			for _, child := range v {
				visit(child)
			}
		case []any:
			for _, child := range v {
				visit(child)
			}
		}
	}
	for _, node := range d.schemas {
		visit(node)
	}
	return slices.Sorted(maps.Keys(missing))
}

// selectable are the paths of the kind's selectable fields, as in spec.color.
func (s *subject) selectable() []string {
	list, _ := s.schema["x-kubernetes-selectable-fields"].([]any)
	var paths []string
	for _, item := range list {
		m, _ := item.(map[string]any)
		if path, ok := m["fieldPath"].(string); ok {
			paths = append(paths, strings.TrimPrefix(path, "."))
		}
	}
	return paths
}

func number(v any) (float64, bool) {
	switch v := v.(type) {
	case float64:
		return v, true
	case int64:
		return float64(v), true
	case int:
		return float64(v), true
	}
	return 0, false
}
