package schema

import (
	"reflect"

	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
)

// quantityPattern is what controller-gen writes for resource.Quantity, which cannot
// hold anything else.
const quantityPattern = `^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$`

// constrains is true if a schema, or one below it, asks for more than types.
func constrains(s *structuralschema.Structural) bool {
	if constrainsHere(s) || (s.ValueValidation != nil && (len(s.ValueValidation.Required) > 0 || formatConstrains(s))) {
		return true
	}
	return anyBelow(s, constrains)
}

// constrainsHere is true if a schema itself asks for more of a value than its type, its
// format and the presence of fields.
func constrainsHere(s *structuralschema.Structural) bool {
	if len(s.XValidations) > 0 || s.XEmbeddedResource {
		return true
	}
	if s.XListType != nil && *s.XListType != "atomic" {
		return true
	}
	if s.ValueValidation == nil {
		return false
	}
	asked := *s.ValueValidation
	asked.Format, asked.Required = "", nil
	if s.XIntOrString && intOrString(asked.AnyOf) {
		asked.AnyOf = nil
	}
	if len(asked.AllOf) == 0 {
		asked.AllOf = nil
	}
	return !reflect.DeepEqual(asked, structuralschema.ValueValidation{})
}

// intOrString is true for the one form in which types may stand below anyOf.
func intOrString(anyOf []structuralschema.NestedValueValidation) bool {
	return reflect.DeepEqual(anyOf, intOrStringForm())
}

func intOrStringForm() []structuralschema.NestedValueValidation {
	return []structuralschema.NestedValueValidation{
		{ForbiddenGenerics: structuralschema.Generic{Type: "integer"}},
		{ForbiddenGenerics: structuralschema.Generic{Type: "string"}},
	}
}

// formatConstrains is true for formats that not every value of the type has.
func formatConstrains(s *structuralschema.Structural) bool {
	if s.ValueValidation == nil {
		return false
	}
	switch s.ValueValidation.Format {
	case "":
		return false
	case "int64":
		return s.Type != "integer"
	case "double":
		return s.Type != "number"
	}
	return true
}

// hasDefaults is true if a schema has defaults below its root.
func hasDefaults(s *structuralschema.Structural) bool {
	return anyBelow(s, func(below *structuralschema.Structural) bool {
		return below.Default.Object != nil || hasDefaults(below)
	})
}

// anyBelow asks of the schemas one step below.
func anyBelow(s *structuralschema.Structural, ask func(*structuralschema.Structural) bool) bool {
	if s.Items != nil && ask(s.Items) {
		return true
	}
	if s.AdditionalProperties != nil && s.AdditionalProperties.Structural != nil && ask(s.AdditionalProperties.Structural) {
		return true
	}
	for _, prop := range s.Properties {
		if ask(&prop) {
			return true
		}
	}
	return false
}
