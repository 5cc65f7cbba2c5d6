package schema

import (
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
)

// sometimes is how many of ten optional fields a random object has.
const sometimes = 7

// Random makes the content of an object with fields of the right types, but no
// metadata. It need not be valid.
func (v *Version) Random(seed uint64) map[string]any {
	r := rand.New(rand.NewPCG(seed, 0))
	content := map[string]any{}
	for _, name := range v.Members() {
		if r.IntN(10) < sometimes {
			content[name] = random(r, fieldSchema(v.Schema, name))
		}
	}
	return content
}

func random(r *rand.Rand, s *structuralschema.Structural) any {
	if s.ValueValidation != nil && len(s.ValueValidation.Enum) > 0 {
		return s.ValueValidation.Enum[r.IntN(len(s.ValueValidation.Enum))].Object
	}
	switch s.Type {
	case "object":
		return randomObject(r, s)
	case "array":
		items := make([]any, r.IntN(4))
		for i := range items {
			items[i] = random(r, s.Items)
		}
		return items
	case "integer":
		return r.Int64N(1000)
	case "number":
		return float64(r.IntN(1000)) / 8
	case "boolean":
		return r.IntN(2) == 0
	case "string":
		if s.ValueValidation != nil && s.ValueValidation.Format == "date-time" {
			return time.Unix(r.Int64N(1<<32), 0).UTC().Format(time.RFC3339)
		}
		return word(r)
	}
	return word(r) // anything may be here
}

func randomObject(r *rand.Rand, s *structuralschema.Structural) map[string]any {
	content := map[string]any{}
	for _, name := range sortedNames(s.Properties) {
		required := s.ValueValidation != nil && slices.Contains(s.ValueValidation.Required, name)
		if required || r.IntN(10) < sometimes {
			content[name] = random(r, fieldSchema(s, name))
		}
	}
	if s.AdditionalProperties != nil && s.AdditionalProperties.Structural != nil {
		for range r.IntN(3) {
			content[word(r)] = random(r, s.AdditionalProperties.Structural)
		}
	}
	return content
}

// sortedNames has one seed give one object.
func sortedNames(properties map[string]structuralschema.Structural) []string {
	return slices.Sorted(maps.Keys(properties))
}

func word(r *rand.Rand) string {
	letters := make([]byte, 1+r.IntN(8))
	for i := range letters {
		letters[i] = byte('a' + r.IntN(26))
	}
	return string(letters)
}
