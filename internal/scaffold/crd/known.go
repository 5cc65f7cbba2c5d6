package crd

import (
	"encoding/json"
	"reflect"
)

// conditionSchema is what metav1.Condition says, without its texts.
const conditionSchema = `{"type":"object","required":["lastTransitionTime","message","reason","status","type"],"properties":{
"lastTransitionTime":{"type":"string","format":"date-time"},
"message":{"type":"string","maxLength":32768},
"observedGeneration":{"type":"integer","format":"int64","minimum":0},
"reason":{"type":"string","maxLength":1024,"minLength":1,"pattern":"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"},
"status":{"type":"string","enum":["True","False","Unknown"]},
"type":{"type":"string","maxLength":316,"pattern":"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$"}}}`

// isCondition says whether a schema is that of metav1.Condition, whatever its texts are.
func isCondition(s *schema) bool {
	if len(s.Properties) < 5 || len(s.Properties) > 6 {
		return false
	}
	var want schema
	if err := json.Unmarshal([]byte(conditionSchema), &want); err != nil {
		panic(err) // it is a constant
	}
	return reflect.DeepEqual(silent(s), silent(&want))
}

// silent is a schema without descriptions, as plain JSON.
func silent(s *schema) any {
	data, err := json.Marshal(s)
	if err != nil {
		return nil
	}
	var plain any
	if err := json.Unmarshal(data, &plain); err != nil {
		return nil
	}
	return withoutDescriptions(plain)
}

// withoutDescriptions removes texts. A property may be called description too.
func withoutDescriptions(value any) any {
	object, ok := value.(map[string]any)
	if !ok {
		return value
	}
	delete(object, "description")
	if properties, ok := object["properties"].(map[string]any); ok {
		for name, p := range properties {
			properties[name] = withoutDescriptions(p)
		}
	}
	for _, key := range []string{"items", "additionalProperties"} {
		if inner, ok := object[key]; ok {
			object[key] = withoutDescriptions(inner)
		}
	}
	return object
}

// quantityPattern is that of resource.Quantity.
const quantityPattern = `^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$`

func isQuantity(s *schema) bool { return s.XIntOrString && s.Pattern == quantityPattern }

func preserves(s *schema) bool {
	return s.XPreserveUnknownFields != nil && *s.XPreserveUnknownFields
}

func isEmpty(s *schema) bool { return reflect.DeepEqual(*s, schema{}) }

// saysZero says whether the zero value of a scalar that may be left out says something
// else than its absence, or is refused. Then the field is a pointer: a zero that is left
// out is neither. Nobody tells an empty text from none where nothing is asked of it.
func saysZero(s *schema) bool {
	free := s.MinLength == nil && s.Pattern == "" && s.Format == "" && len(s.Enum) == 0 && s.Default == nil && len(s.XValidations) == 0
	return s.Type != "string" || !free
}

// hasDefaults says whether something below a schema has a default. Then a field that is
// not there has to be told from one that is empty, in which defaults are set.
func hasDefaults(s *schema) bool {
	for _, p := range s.Properties {
		if p.Default != nil || hasDefaults(&p) {
			return true
		}
	}
	return s.Items != nil && s.Items.Schema != nil && hasDefaults(s.Items.Schema) ||
		s.AdditionalProperties != nil && s.AdditionalProperties.Schema != nil && hasDefaults(s.AdditionalProperties.Schema)
}
