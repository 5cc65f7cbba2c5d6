package crd

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
)

const validationMarker = "+kubebuilder:validation:"

// kindMarkers say what is not schema.
func kindMarkers(spec *apiextensionsv1.CustomResourceDefinitionSpec, v *apiextensionsv1.CustomResourceDefinitionVersion) []string {
	out := []string{"+kubebuilder:object:root=true"}
	if v.Storage {
		out = append(out, "+kubebuilder:storageversion")
	}
	if !v.Served && !v.Storage {
		out = append(out, "+kubebuilder:unservedversion")
	}
	if v.Deprecated {
		line := "+kubebuilder:deprecatedversion"
		if v.DeprecationWarning != nil {
			line += ":warning=" + quoted(*v.DeprecationWarning)
		}
		out = append(out, line)
	}
	names := spec.Names
	resource := "+kubebuilder:resource:path=" + names.Plural
	if names.Singular != "" && names.Singular != strings.ToLower(names.Kind) {
		resource += ",singular=" + names.Singular
	}
	if spec.Scope == apiextensionsv1.ClusterScoped {
		resource += ",scope=Cluster"
	}
	if len(names.ShortNames) > 0 {
		resource += ",shortName=" + list(names.ShortNames)
	}
	if len(names.Categories) > 0 {
		resource += ",categories=" + list(names.Categories)
	}
	out = append(out, resource)
	if sub := v.Subresources; sub != nil {
		if sub.Status != nil {
			out = append(out, "+kubebuilder:subresource:status")
		}
		if sub.Scale != nil {
			line := fmt.Sprintf("+kubebuilder:subresource:scale:specpath=%s,statuspath=%s", sub.Scale.SpecReplicasPath, sub.Scale.StatusReplicasPath)
			if sub.Scale.LabelSelectorPath != nil {
				line += ",selectorpath=" + *sub.Scale.LabelSelectorPath
			}
			out = append(out, line)
		}
	}
	for _, c := range v.AdditionalPrinterColumns {
		line := fmt.Sprintf("+kubebuilder:printcolumn:name=%s,type=%s,JSONPath=%s", quoted(c.Name), c.Type, quoted(c.JSONPath))
		if c.Format != "" {
			line += ",format=" + c.Format
		}
		if c.Description != "" {
			line += ",description=" + quoted(c.Description)
		}
		if c.Priority != 0 {
			line += fmt.Sprintf(",priority=%d", c.Priority)
		}
		out = append(out, line)
	}
	for _, f := range v.SelectableFields {
		out = append(out, "+kubebuilder:selectablefield:JSONPath="+quoted(f.JSONPath))
	}
	return out
}

func list(words []string) string {
	quotedWords := make([]string, len(words))
	for i, w := range words {
		quotedWords[i] = strconv.Quote(w)
	}
	return "{" + strings.Join(quotedWords, ",") + "}"
}

// structMarkers are those of a struct's type.
func (g *generator) structMarkers(at string, s *schema) []string {
	var out []string
	out = append(out, count("MinProperties", s.MinProperties)...)
	out = append(out, count("MaxProperties", s.MaxProperties)...)
	if s.XMapType != nil {
		out = append(out, "+structType="+*s.XMapType)
	}
	if preserves(s) {
		out = append(out, "+kubebuilder:pruning:PreserveUnknownFields")
	}
	if s.XEmbeddedResource {
		out = append(out, validationMarker+"XEmbeddedResource")
		g.lose(at, "a resource inside another has apiVersion, kind and metadata, and the Go type has only the fields that are described")
	}
	if len(s.Enum) > 0 {
		g.lose(at, "enum is not carried: no marker says it of an object; write it in Validate")
	}
	return append(out, rules(s)...)
}

// valueMarkers say what is asked of a value that is no struct.
func (g *generator) valueMarkers(at string, s *schema, t goType) []string {
	var out []string
	if (s.Maximum != nil || s.Minimum != nil || s.MultipleOf != nil) && s.XIntOrString {
		g.lose(at, "minimum, maximum and multipleOf are not carried for integers or strings: write them in Validate")
	} else {
		out = append(out, number("Minimum", s.Minimum)...)
		out = append(out, number("Maximum", s.Maximum)...)
		out = append(out, number("MultipleOf", s.MultipleOf)...)
		if s.ExclusiveMinimum {
			out = append(out, validationMarker+"ExclusiveMinimum=true")
		}
		if s.ExclusiveMaximum {
			out = append(out, validationMarker+"ExclusiveMaximum=true")
		}
	}
	out = append(out, count("MinLength", s.MinLength)...)
	out = append(out, count("MaxLength", s.MaxLength)...)
	if s.Pattern != "" && t.expr != "resource.Quantity" {
		out = append(out, validationMarker+"Pattern="+quoted(s.Pattern))
	}
	out = append(out, count("MinItems", s.MinItems)...)
	out = append(out, count("MaxItems", s.MaxItems)...)
	out = append(out, count("MinProperties", s.MinProperties)...)
	out = append(out, count("MaxProperties", s.MaxProperties)...)
	if s.XListType != nil {
		out = append(out, "+listType="+*s.XListType)
	}
	for _, key := range s.XListMapKeys {
		out = append(out, "+listMapKey="+key)
	}
	if s.XMapType != nil {
		kind := "+mapType="
		if t.expr == "runtime.RawExtension" {
			kind = "+structType="
		}
		out = append(out, kind+*s.XMapType)
	}
	if s.XEmbeddedResource {
		out = append(out, validationMarker+"XEmbeddedResource")
	}
	if preserves(s) {
		switch t.expr {
		case "runtime.RawExtension", "apiextensionsv1.JSON": // they say so
		default:
			out = append(out, "+kubebuilder:pruning:PreserveUnknownFields")
		}
	} else if t.expr == "runtime.RawExtension" {
		g.lose(at, "unknown fields of the resource inside are kept")
	}
	if len(s.Enum) > 0 {
		if values, ok := enum(s.Enum); ok {
			out = append(out, validationMarker+"Enum="+values)
		} else {
			g.lose(at, "enum is not carried: no marker has values that are no strings, numbers of 64 bits or booleans; write it in Validate")
		}
	}
	return append(out, rules(s)...)
}

// fieldMarkers are those that only a field has.
func (g *generator) fieldMarkers(at string, s *schema) []string {
	var out []string
	if s.Nullable {
		out = append(out, "+nullable")
	}
	if s.Default != nil {
		if marker, ok := defaulted(s.Default.Raw); ok {
			out = append(out, marker)
		} else {
			g.lose(at, "the default %s is not carried", s.Default.Raw)
		}
	}
	if s.Title != "" {
		out = append(out, "+kubebuilder:title="+quoted(s.Title))
	}
	if s.ExternalDocs != nil {
		line := "+kubebuilder:externalDocs:url=" + quoted(s.ExternalDocs.URL)
		if d := s.ExternalDocs.Description; d != "" {
			line += ",description=" + quoted(d)
		}
		out = append(out, line)
	}
	if s.Example != nil {
		if value, ok := scalar(s.Example.Raw); ok {
			out = append(out, "+kubebuilder:example="+value)
		} else {
			g.lose(at, "the example is not carried: no marker has objects, lists or integers of more than 64 bits")
		}
	}
	return out
}

// loseOfItems warns of what items and values of maps cannot have.
func (g *generator) loseOfItems(at string, s *schema) {
	if s.Default != nil {
		g.lose(at, "the default of items is not carried: no marker says it")
	}
	if s.Nullable {
		g.lose(at, "nullable of items is not carried: no marker says it")
	}
	if s.Example != nil || s.ExternalDocs != nil {
		g.lose(at, "example and externalDocs of items are not carried: no marker says them")
	}
}

// refuseForbidden finds keywords that definitions may not have, and those that no marker has.
func (g *generator) refuseForbidden(at string, s *schema) {
	for keyword, there := range map[string]bool{
		"$ref": s.Ref != nil, "definitions": len(s.Definitions) > 0, "dependencies": len(s.Dependencies) > 0,
		"patternProperties": len(s.PatternProperties) > 0, "additionalItems": s.AdditionalItems != nil,
	} {
		if there {
			g.refuse(at+"."+keyword, "a CustomResourceDefinition may not have it: write the schema out")
		}
	}
	if s.UniqueItems {
		g.refuse(at+".uniqueItems", "a CustomResourceDefinition may not have it; x-kubernetes-list-type: set would be right")
	}
	for _, logic := range []struct {
		name  string
		there bool
	}{
		{"allOf", len(s.AllOf) > 0}, {"anyOf", len(s.AnyOf) > 0 && !s.XIntOrString}, {"oneOf", len(s.OneOf) > 0}, {"not", s.Not != nil},
	} {
		if logic.there {
			g.lose(at, "%s is not carried: no marker says it; write a rule as +kubebuilder:validation:XValidation, or in Validate", logic.name)
		}
	}
	if s.ID != "" || s.Schema != "" {
		g.lose(at, "id and $schema are not carried")
	}
}

// rules are those in CEL.
func rules(s *schema) []string {
	var out []string
	for _, r := range s.XValidations {
		line := validationMarker + "XValidation:rule=" + quoted(r.Rule)
		if r.Message != "" {
			line += ",message=" + quoted(r.Message)
		}
		if r.MessageExpression != "" {
			line += ",messageExpression=" + quoted(r.MessageExpression)
		}
		if r.Reason != nil {
			line += ",reason=" + quoted(string(*r.Reason))
		}
		if r.FieldPath != "" {
			line += ",fieldPath=" + quoted(r.FieldPath)
		}
		if r.OptionalOldSelf != nil {
			line += fmt.Sprintf(",optionalOldSelf=%t", *r.OptionalOldSelf)
		}
		out = append(out, line)
	}
	return out
}

func count(name string, value *int64) []string {
	if value == nil {
		return nil
	}
	return []string{fmt.Sprintf("%s%s=%d", validationMarker, name, *value)}
}

func number(name string, value *float64) []string {
	if value == nil {
		return nil
	}
	return []string{validationMarker + name + "=" + strconv.FormatFloat(*value, 'f', -1, 64)}
}

// enum is a list of scalars as markers have it.
func enum(values []apiextensionsv1.JSON) (string, bool) {
	all := make([]string, len(values))
	for i, v := range values {
		text, ok := scalar(v.Raw)
		if !ok {
			return "", false
		}
		all[i] = text
	}
	return strings.Join(all, ";"), true
}

// scalar is a JSON string, number or boolean as markers have it. An integer keeps all its
// digits; one of more than 64 bits is none that markers have.
func scalar(raw []byte) (string, bool) {
	value, err := parse(raw)
	if err != nil {
		return "", false
	}
	switch v := value.(type) {
	case string:
		return strconv.Quote(v), true
	case bool:
		return strconv.FormatBool(v), true
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return strconv.FormatInt(n, 10), true
		}
		f, err := v.Float64()
		if err != nil || !strings.ContainsAny(v.String(), ".eE") {
			return "", false
		}
		return strconv.FormatFloat(f, 'f', -1, 64), true
	}
	return "", false
}

// parse reads JSON, and numbers as they are written.
func parse(raw []byte) (value any, err error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	err = d.Decode(&value)
	return value, err
}

// defaulted is the marker of a default.
func defaulted(raw []byte) (string, bool) {
	value, err := parse(raw)
	if err != nil || value == nil {
		return "", false
	}
	if exact(value) {
		text, err := json.Marshal(value)
		return "+default=" + string(text), err == nil
	}
	// The marker above reads all numbers as floats, this one does not.
	if _, ok := value.(json.Number); !ok {
		return "", false
	}
	text, ok := scalar(raw)
	return "+kubebuilder:default=" + text, ok
}

// exact says whether all integers in a value stay what they are where they are read as
// floats.
func exact(value any) bool {
	switch v := value.(type) {
	case json.Number:
		if strings.ContainsAny(v.String(), ".eE") {
			return true
		}
		n, err := v.Int64()
		return err == nil && n >= -1<<53 && n <= 1<<53
	case []any:
		return !slices.ContainsFunc(v, func(item any) bool { return !exact(item) })
	case map[string]any:
		for _, item := range v {
			if !exact(item) {
				return false
			}
		}
	}
	return true
}

// quoted is a string as markers have it; raw where that is easier to read.
func quoted(text string) string {
	if strings.ContainsAny(text, "\"\\") && !strings.ContainsAny(text, "`\n\r\t") {
		return "`" + text + "`"
	}
	return strconv.Quote(text)
}
