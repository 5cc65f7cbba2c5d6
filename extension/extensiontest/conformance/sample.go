package conformance

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
)

// changeable is a field that may be changed, and how.
type changeable struct {
	path     []string
	kind     string // string, integer or boolean
	values   []any  // all there are; nil where there are many
	min, max float64
	longest  int
}

// many is how many values a field without an enum has for us.
const many = 1 << 20

// count is how many different values there are.
func (c changeable) count() int {
	switch {
	case len(c.values) > 0:
		return len(c.values)
	case c.kind == "boolean":
		return 2
	case c.kind == "integer":
		return int(min(c.max-c.min+1, many))
	}
	return many
}

// value is the one of a number; values of numbers below count differ.
func (c changeable) value(i int) any {
	switch {
	case len(c.values) > 0:
		return c.values[i%len(c.values)]
	case c.kind == "boolean":
		return i%2 == 1
	case c.kind == "integer":
		return int64(c.min) + int64(i%c.count())
	}
	text := fmt.Sprintf("value-%d", i)
	if c.longest > 0 && len(text) > c.longest {
		text = text[len(text)-c.longest:]
	}
	return text
}

func (c changeable) String() string { return strings.Join(c.path, ".") }

// set writes a value into an object, which is made deep enough.
func (c changeable) set(o *unstructured.Unstructured, i int) error {
	return unstructured.SetNestedField(o.Object, c.value(i), c.path...)
}

// get reads the value; nil where there is none.
func (c changeable) get(o *unstructured.Unstructured) any {
	value, _, _ := unstructured.NestedFieldNoCopy(o.Object, c.path...) // a wrong type is no value
	return value
}

// plainKinds are built-in kinds whose sample needs no schema.
var plainKinds = map[string]map[string]any{
	"/ConfigMap": {"data": map[string]any{"sample": "value-0"}},
	"/Secret":    {"stringData": map[string]any{}, "data": map[string]any{"sample": "dmFsdWU="}},
}

// chooseSample sets the sample and the fields to change.
func (s *subject) chooseSample(target Target) {
	switch plain := plainKinds[s.Group+"/"+s.kind]; {
	case target.Sample != nil:
		s.sample = runtime.DeepCopyJSON(target.Sample.Object)
		delete(s.sample, "status")
	case plain != nil:
		s.sample = runtime.DeepCopyJSON(plain)
	default:
		s.sample = s.make()
	}
	s.sample["apiVersion"], s.sample["kind"] = s.GroupVersion().String(), s.kind
	metadata := map[string]any{}
	if given, ok := s.sample["metadata"].(map[string]any); ok {
		for _, field := range []string{"labels", "annotations"} {
			if value, ok := given[field]; ok {
				metadata[field] = value
			}
		}
	}
	s.sample["metadata"] = metadata
	switch {
	case len(target.Change) > 0:
		s.change = s.describeField(target.Change)
	case s.kind == "ConfigMap" && s.Group == "":
		s.change = changeable{path: []string{"data", "sample"}, kind: "string"}
	case s.schema != nil:
		s.change = s.findChangeable("status", "metadata", "apiVersion", "kind")
	}
	if s.schema != nil {
		if status := s.document.property(s.schema, "status"); status != nil {
			s.statusField, _ = s.document.findField(status, nil, []string{"status"}, 0)
		}
	}
	if s.change.path != nil {
		o := &unstructured.Unstructured{Object: s.sample}
		if s.change.get(o) == nil {
			_ = s.change.set(o, 0) // where the way is blocked, a check that changes it says so
		}
	}
}

// make makes a sample of the schema: what is required, and spec.
func (s *subject) make() map[string]any {
	o := map[string]any{}
	if s.schema == nil {
		return o
	}
	wanted := append(required(s.schema), "spec")
	_, names := s.document.properties(s.schema)
	for _, name := range names {
		if name != "status" && name != "metadata" && slices.Contains(wanted, name) {
			o[name] = s.document.example(s.document.property(s.schema, name), 0)
		}
	}
	return o
}

// maxDepth bounds samples of schemas that contain themselves.
const maxDepth = 8

// example is a value that a schema allows, as small as can be.
func (d *document) example(node map[string]any, depth int) any {
	if value := node["default"]; value != nil {
		if m, ok := value.(map[string]any); !ok || len(m) > 0 {
			return value
		}
	}
	if value := node["example"]; value != nil {
		return value
	}
	for _, value := range enum(node) {
		if value != "" {
			return value
		}
	}
	if node["x-kubernetes-int-or-string"] == true {
		return int64(1)
	}
	for _, key := range []string{"oneOf", "anyOf"} {
		if list, ok := node[key].([]any); ok && node["type"] == nil && len(list) > 0 {
			if first, ok := list[0].(map[string]any); ok {
				return d.example(d.resolve(first), depth+1)
			}
		}
	}
	switch node["type"] {
	case "string":
		return exampleString(node)
	case "integer":
		low, _ := bounds(node)
		return int64(low)
	case "number":
		low, _ := bounds(node)
		return low
	case "boolean":
		return false
	case "array":
		list := []any{}
		least, _ := number(node["minItems"])
		items, ok := node["items"].(map[string]any)
		for i := 0; ok && i < int(least) && depth < maxDepth; i++ {
			list = append(list, d.example(d.resolve(items), depth+1))
		}
		return list
	}
	o := map[string]any{}
	if depth >= maxDepth {
		return o
	}
	for _, name := range required(node) {
		if child := d.property(node, name); child != nil {
			o[name] = d.example(child, depth+1)
		}
	}
	least, _ := number(node["minProperties"])
	if values, ok := node["additionalProperties"].(map[string]any); ok {
		for i := 0; i < int(least); i++ {
			o[fmt.Sprintf("sample-%d", i)] = d.example(d.resolve(values), depth+1)
		}
	}
	return o
}

func enum(node map[string]any) []any {
	list, _ := node["enum"].([]any)
	return list
}

// bounds are the least and the greatest integer, from 1 and to 1,000 where nothing is said.
func bounds(node map[string]any) (low, high float64) {
	low, high = 1, 1000
	least, hasLeast := number(node["minimum"])
	most, hasMost := number(node["maximum"])
	if hasLeast {
		low = math.Ceil(least)
		if node["exclusiveMinimum"] == true {
			low++
		}
		high = max(high, low+1000)
	}
	if hasMost {
		high = math.Floor(most)
		if node["exclusiveMaximum"] == true {
			high--
		}
		if !hasLeast {
			low = min(low, high)
		}
	}
	return low, high
}

// formats are examples of the formats that strings may have.
var formats = map[string]string{
	"date-time": "2026-01-02T03:04:05Z", "date": "2026-01-02", "byte": "c2FtcGxl", "duration": "1m0s",
	"uuid": "0d6c7a4e-5a0f-4a5c-9d1b-2f1e7c3b9a10", "ipv4": "192.0.2.1", "ipv6": "2001:db8::1", "ip": "192.0.2.1",
	"cidr": "192.0.2.0/24", "uri": "https://example.com/", "email": "someone@example.com", "hostname": "example.com",
	"mac": "00:00:5e:00:53:01", "password": "sample", "quantity": "1",
}

// candidates are tried on a pattern.
var candidates = []string{"sample", "a", "A", "1", "sample-1", "example.com", "v1", "1m0s", "10Mi", "1.0.0", "192.0.2.1", "https://example.com", "AAAA", "aaaa", "0000", "/sample", "sample/sample"}

func exampleString(node map[string]any) string {
	if format, ok := node["format"].(string); ok && formats[format] != "" {
		return formats[format]
	}
	least, _ := number(node["minLength"])
	text := "sample"
	if pattern, ok := node["pattern"].(string); ok {
		if re, err := regexp.Compile(pattern); err == nil {
			for _, candidate := range candidates {
				if re.MatchString(candidate) && len(candidate) >= int(least) {
					return candidate
				}
			}
		}
	}
	if more := int(least) - len(text); more > 0 && more < 10_000 {
		text += strings.Repeat("x", more)
	}
	if most, ok := number(node["maxLength"]); ok && len(text) > int(most) {
		text = text[:int(most)]
	}
	return text
}
