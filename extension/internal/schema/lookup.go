package schema

import (
	"slices"
	"strings"
)

// Field gives the type of what is at a path such as ".spec.replicas", and whether the
// schema lets anything be there. The type is empty where it is open.
func (v *Version) Field(path string) (kind string, known bool) {
	s := v.Schema
	for key := range strings.SplitSeq(strings.TrimPrefix(path, "."), ".") {
		below := fieldSchema(s, key)
		if below == nil {
			open := s.XPreserveUnknownFields || s.AdditionalProperties != nil && s.AdditionalProperties.Bool
			return "", open && key != ""
		}
		s = below
	}
	if s.XIntOrString {
		return "", true
	}
	return s.Type, true
}

// Members are the fields of an object but apiVersion, kind and metadata, in order.
func (v *Version) Members() []string {
	var out []string
	for name := range v.Schema.Properties {
		if !slices.Contains([]string{"apiVersion", "kind", "metadata"}, name) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}
