package schema

import (
	"fmt"
	"maps"
	"reflect"
	"slices"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	kjson "sigs.k8s.io/json"
)

// unknownKeywords gives the paths of keywords in schemas that apiextensions does not
// know. Its types read what stands below `items` and `additionalProperties`
// themselves, and are not strict there: a maximum that is spelled wrong would never
// be checked.
func unknownKeywords(raw []byte) []string {
	var crd struct {
		Spec struct {
			Versions []struct {
				Schema struct {
					OpenAPIV3Schema any `json:"openAPIV3Schema"`
				} `json:"schema"`
			} `json:"versions"`
		} `json:"spec"`
	}
	if err := kjson.UnmarshalCaseSensitivePreserveInts(raw, &crd); err != nil {
		return nil // the same error has been told by who decoded it before
	}
	known := keywords()
	var unknown []string
	for i, v := range crd.Spec.Versions {
		unknown = append(unknown, unknownBelow(v.Schema.OpenAPIV3Schema, fmt.Sprintf("spec.versions[%d].schema.openAPIV3Schema", i), known)...)
	}
	return unknown
}

// keywords are the JSON names of a schema's fields.
func keywords() map[string]bool {
	known := map[string]bool{}
	for _, f := range jsonFields(reflect.TypeFor[apiextensionsv1.JSONSchemaProps]()) {
		known[f.name] = true
	}
	return known
}

func unknownBelow(schema any, at string, known map[string]bool) []string {
	props, ok := schema.(map[string]any)
	if !ok {
		return nil
	}
	var unknown []string
	for _, keyword := range slices.Sorted(maps.Keys(props)) {
		value, here := props[keyword], at+"."+keyword
		if !known[keyword] {
			unknown = append(unknown, here)
			continue
		}
		switch keyword {
		case "items", "additionalProperties", "additionalItems", "not":
			unknown = append(unknown, unknownBelow(value, here, known)...)
		case "properties", "patternProperties", "definitions":
			properties, _ := value.(map[string]any)
			for _, name := range slices.Sorted(maps.Keys(properties)) {
				unknown = append(unknown, unknownBelow(properties[name], here+"."+name, known)...)
			}
		case "allOf", "anyOf", "oneOf":
			list, _ := value.([]any)
			for i, item := range list {
				unknown = append(unknown, unknownBelow(item, fmt.Sprintf("%s[%d]", here, i), known)...)
			}
		}
	}
	return unknown
}
