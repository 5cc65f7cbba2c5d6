package document

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// V2FromV3 makes an OpenAPI v2 document from a version 3 document that Below
// has returned: for clients that read version 2 of servers that write version
// 3 only. What version 2 has no word for is left out: alternatives (anyOf,
// oneOf, not), cookies, links, callbacks, headers, security; and defaults, which
// API servers leave out of version 2 too.
//
// The result is as large as the document but for request bodies that many
// operations share, which version 2 has in each. It fails where that exceeds
// the bounds of Copies or of a document, and when ctx ends.
func V2FromV3(ctx context.Context, data []byte) ([]byte, error) {
	if err := WellFormed(data, maxOpenAPITokens); err != nil {
		return nil, err
	}
	var in v3Document
	if err := json.Unmarshal(data, &in); err != nil {
		return nil, err
	}
	c := converter{ctx: ctx, bodies: in.Components.RequestBodies}
	out := map[string]any{
		"swagger":     "2.0",
		"info":        object(in.Info),
		"paths":       c.paths(in.Paths),
		"definitions": each(in.Components.Schemas, func(s any) any { return c.schema(s) }),
	}
	if len(in.Components.Parameters) > 0 {
		out["parameters"] = each(in.Components.Parameters, func(p any) any { return c.parameter(object(p)) })
	}
	if len(in.Components.Responses) > 0 {
		out["responses"] = each(in.Components.Responses, func(r any) any {
			response, _ := c.response(object(r))
			return response
		})
	}
	if c.err != nil {
		return nil, c.err
	}
	made, err := json.Marshal(out)
	if err != nil {
		return nil, err
	}
	return made, WellFormed(made, maxGroupVersionTokens)
}

// v3Document is what is read of a version 3 document.
type v3Document struct {
	Info       any            `json:"info"`
	Paths      map[string]any `json:"paths"`
	Components struct {
		Schemas       map[string]any             `json:"schemas"`
		Parameters    map[string]any             `json:"parameters"`
		Responses     map[string]any             `json:"responses"`
		RequestBodies map[string]json.RawMessage `json:"requestBodies"`
	} `json:"components"`
}

type converter struct {
	ctx    context.Context
	bodies map[string]json.RawMessage // that operations share
	copies Copies                     // of bodies
	err    error
}

// methods are the operations that version 2 knows.
var methods = []string{"get", "put", "post", "delete", "options", "head", "patch"}

func (c *converter) paths(paths map[string]any) any {
	return each(paths, func(p any) any {
		if c.err == nil {
			c.err = c.ctx.Err()
		}
		if c.err != nil {
			return nil
		}
		item, out := object(p), map[string]any{}
		keep(out, item, "$ref")
		if list, found := item["parameters"]; found {
			out["parameters"] = c.parameters(list)
		}
		for _, method := range methods {
			if operation, found := item[method]; found {
				out[method] = c.operation(object(operation))
			}
		}
		return extended(out, item)
	})
}

func (c *converter) operation(in map[string]any) map[string]any {
	out := map[string]any{}
	keep(out, in, "tags", "summary", "description", "operationId", "deprecated")
	parameters := c.parameters(in["parameters"])
	if body, consumes := c.body(object(in["requestBody"])); body != nil {
		parameters = append([]any{body}, parameters...)
		out["consumes"] = consumes
	}
	if len(parameters) > 0 {
		out["parameters"] = parameters
	}
	produces := map[string]bool{}
	responses := map[string]any{}
	for code, r := range object(in["responses"]) {
		if strings.HasPrefix(code, "x-") {
			responses[code] = r
			continue
		}
		if len(code) == 3 && strings.HasSuffix(code, "XX") {
			continue // a range, which version 2 does not know
		}
		response, types := c.response(object(r))
		responses[code] = response
		for _, t := range types {
			produces[t] = true
		}
	}
	out["responses"] = responses
	if len(produces) > 0 {
		out["produces"] = slices.Sorted(maps.Keys(produces))
	}
	return extended(out, in)
}

// body is the parameter that stands for a request body, with the media types
// that it may have; nil where there is none.
func (c *converter) body(in map[string]any) (parameter map[string]any, types []string) {
	if name, found := strings.CutPrefix(text(in["$ref"]), "#/components/requestBodies/"); found {
		in = c.shared(name)
	}
	content := object(in["content"])
	if len(content) == 0 {
		return nil, nil
	}
	types = slices.Sorted(maps.Keys(content))
	parameter = map[string]any{"in": "body", "name": "body", "schema": c.schema(object(content[types[0]])["schema"])}
	keep(parameter, in, "description", "required")
	return parameter, types
}

// shared is a copy of a body that operations share; empty where there is none, and
// after an error.
func (c *converter) shared(name string) map[string]any {
	raw, found := c.bodies[name]
	if !found || c.err != nil {
		return nil
	}
	var body any
	if c.err = c.copies.Add(1, raw); c.err == nil {
		c.err = json.Unmarshal(raw, &body)
	}
	if c.err != nil {
		c.err = fmt.Errorf("the request body %.200q: %w", name, c.err)
	}
	return object(body)
}

func (c *converter) parameters(list any) []any {
	var out []any
	in, _ := list.([]any)
	for _, p := range in {
		if parameter := object(p); parameter["in"] != "cookie" {
			out = append(out, c.parameter(parameter))
		}
	}
	return out
}

// simple are the fields of a schema that a parameter has itself in version 2.
var simple = []string{
	"type", "format", "items", "maximum", "exclusiveMaximum", "minimum", "exclusiveMinimum", "maxLength",
	"minLength", "pattern", "maxItems", "minItems", "uniqueItems", "enum", "multipleOf",
}

func (c *converter) parameter(in map[string]any) map[string]any {
	if ref := text(in["$ref"]); ref != "" {
		return map[string]any{"$ref": v2Reference(ref)}
	}
	out := map[string]any{}
	keep(out, in, "name", "in", "description", "required", "allowEmptyValue")
	schema := object(c.schema(in["schema"]))
	keep(out, schema, simple...)
	if _, found := out["type"]; !found {
		out["type"] = "string" // a parameter of version 2 has a type
	}
	return extended(out, in)
}

// response returns a response with the media types that it may have.
func (c *converter) response(in map[string]any) (out map[string]any, types []string) {
	if ref := text(in["$ref"]); ref != "" {
		return map[string]any{"$ref": v2Reference(ref)}, nil
	}
	out = map[string]any{"description": text(in["description"])}
	content := object(in["content"])
	types = slices.Sorted(maps.Keys(content))
	if len(types) > 0 {
		if schema, found := object(content[types[0]])["schema"]; found {
			out["schema"] = c.schema(schema)
		}
	}
	return extended(out, in), types
}

// plain are the fields of a schema that both versions have and that are no schemas.
var plain = append([]string{
	"title", "description", "required", "maxProperties", "minProperties", "discriminator", "readOnly", "externalDocs", "example",
}, slices.DeleteFunc(slices.Clone(simple), func(field string) bool { return field == "items" })...)

// schema converts a schema; its nesting is bounded by WellFormed.
func (c *converter) schema(v any) any {
	in, ok := v.(map[string]any)
	if !ok {
		return v // true or false of additionalProperties
	}
	out := map[string]any{}
	if ref := text(in["$ref"]); ref != "" {
		keep(out, in, "description")
		out["$ref"] = v2Reference(ref)
		return out
	}
	all, _ := in["allOf"].([]any)
	if len(all) == 1 && text(object(all[0])["$ref"]) != "" {
		// The only way that version 3 has to say more about a reference.
		keep(out, in, "description")
		out["$ref"] = v2Reference(text(object(all[0])["$ref"]))
		return extended(out, in)
	}
	keep(out, in, plain...)
	if in["format"] == "int-or-string" || in["x-kubernetes-int-or-string"] == true {
		out["type"], out["format"] = "string", "int-or-string"
	}
	if in["nullable"] == true {
		delete(out, "type") // version 2 has no type that null belongs to
		return extended(out, in)
	}
	if len(all) > 0 {
		var kept []any
		for _, s := range all {
			kept = append(kept, c.schema(s))
		}
		out["allOf"] = kept
	}
	for _, field := range []string{"items", "additionalProperties"} {
		if s, found := in[field]; found {
			out[field] = c.schema(s)
		}
	}
	if properties, found := in["properties"].(map[string]any); found {
		out["properties"] = each(properties, c.schema)
	}
	return extended(out, in)
}

// v2Reference is a reference to the same part in version 2.
func v2Reference(ref string) string {
	for _, kind := range [][2]string{
		{"#/components/schemas/", "#/definitions/"}, {"#/components/parameters/", "#/parameters/"}, {"#/components/responses/", "#/responses/"},
	} {
		if name, found := strings.CutPrefix(ref, kind[0]); found {
			return kind[1] + name
		}
	}
	return ref
}

func each(in map[string]any, convert func(any) any) map[string]any {
	out := make(map[string]any, len(in))
	for name, v := range in {
		out[name] = convert(v)
	}
	return out
}

// keep copies fields that are there.
func keep(out, in map[string]any, fields ...string) {
	for _, field := range fields {
		if v, found := in[field]; found {
			out[field] = v
		}
	}
}

// extended copies the extensions.
func extended(out, in map[string]any) map[string]any {
	for field, v := range in {
		if strings.HasPrefix(field, "x-") {
			out[field] = v
		}
	}
	return out
}

// object is v if that is an object, and an empty one if it is not.
func object(v any) map[string]any {
	o, _ := v.(map[string]any)
	return o
}

func text(v any) string {
	s, _ := v.(string)
	return s
}
