package conformance

import (
	"encoding/json"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// findChangeable looks for a field to change below spec, then data, then the rest.
func (s *subject) findChangeable(except ...string) changeable {
	_, names := s.document.properties(s.schema)
	order := []string{"spec", "data"}
	for _, name := range names {
		if !slices.Contains(order, name) && !slices.Contains(except, name) {
			order = append(order, name)
		}
	}
	for _, name := range order {
		node := s.document.property(s.schema, name)
		if node == nil {
			continue
		}
		if found, ok := s.document.findField(node, s.sample[name], []string{name}, 0); ok {
			return found
		}
	}
	return changeable{}
}

// findField looks for a field of a free string, else an integer, a choice, a boolean; what the sample
// has goes before what it lacks, and what is near before what is deep.
func (d *document) findField(node map[string]any, sample any, path []string, depth int) (changeable, bool) {
	if own, ok := leaf(node, path); ok {
		return own, true
	}
	if depth > 3 || immutable(node) {
		return changeable{}, false
	}
	if values, ok := node["additionalProperties"].(map[string]any); ok {
		return d.findField(d.resolve(values), nil, append(slices.Clone(path), "sample"), depth+1)
	}
	_, names := d.properties(node)
	values, _ := sample.(map[string]any)
	var best changeable
	rank := 100
	for _, name := range names {
		child := d.property(node, name)
		if child == nil {
			continue
		}
		found, ok := d.findField(child, values[name], append(slices.Clone(path), name), depth+1)
		if !ok {
			continue
		}
		r := found.rank() + 10*(len(found.path)-len(path))
		if _, has := values[name]; !has {
			r += 5
		}
		if r < rank {
			best, rank = found, r
		}
	}
	return best, best.path != nil
}

func (c changeable) rank() int {
	switch {
	case c.kind == "string" && c.values == nil:
		return 0
	case c.kind == "integer":
		return 1
	case c.kind == "string":
		return 2
	}
	return 3
}

// immutable says whether rules compare a node with what it was.
func immutable(node map[string]any) bool {
	rules, ok := node["x-kubernetes-validations"]
	if !ok {
		return false
	}
	text, err := json.Marshal(rules)
	return err != nil || strings.Contains(string(text), "oldSelf")
}

// leaf is a field of one value that we know how to change.
func leaf(node map[string]any, path []string) (changeable, bool) {
	if immutable(node) {
		return changeable{}, false
	}
	kind, _ := node["type"].(string)
	c := changeable{path: path, kind: kind, values: enum(node)}
	switch kind {
	case "string":
		format, _ := node["format"].(string)
		if _, patterned := node["pattern"]; c.values == nil && (patterned || format != "") {
			return changeable{}, false
		}
		if most, ok := number(node["maxLength"]); ok {
			if most < 4 {
				return changeable{}, false
			}
			c.longest = int(most)
		}
		if least, ok := number(node["minLength"]); ok && least > 7 {
			return changeable{}, false
		}
	case "integer":
		c.min, c.max = bounds(node)
	case "boolean":
	default:
		return changeable{}, false
	}
	c.values = slices.DeleteFunc(slices.Clone(c.values), func(v any) bool { return v == "" || v == nil })
	return c, c.count() >= 2
}

// describeField is a field that the user named: by its schema, else by its value in the sample.
func (s *subject) describeField(path []string) changeable {
	if s.schema != nil {
		node := s.schema
		for _, name := range path {
			if child := s.document.property(node, name); child != nil {
				node = child
			} else if values, ok := node["additionalProperties"].(map[string]any); ok {
				node = s.document.resolve(values)
			} else {
				node = nil
				break
			}
		}
		if node != nil {
			if c, ok := leaf(node, path); ok {
				return c
			}
		}
	}
	c := changeable{path: path, kind: "string"}
	value, _, _ := unstructured.NestedFieldNoCopy(s.sample, path...) // no value: a string
	switch value.(type) {
	case bool:
		c.kind = "boolean"
	case int64, float64:
		c.kind, c.min, c.max = "integer", 1, 1000
	}
	return c
}
