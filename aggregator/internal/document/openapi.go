package document

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
)

// maxOpenAPITokens bounds what an OpenAPI document holds, see WellFormed. All of
// kube-apiserver's own version 2 has 96,000.
const maxOpenAPITokens = 400_000

// maxGroupVersionTokens bounds what it says of one group version. That is what
// libraries decode at once. The largest of kube-apiserver's own, that of v1, has
// 51,000.
const maxGroupVersionTokens = 120_000

// maxPartTokens bounds one schema, path or other part of an extension server: what
// a library encodes at once at least, see ProtobufV2. The largest of
// kube-apiserver's own have 2,000.
const maxPartTokens = 20_000

// OpenAPI is an OpenAPI document taken apart into what references may name.
// It is used by one goroutine at a time.
type OpenAPI struct {
	version int                         // 2 or 3
	fields  map[string]json.RawMessage  // those of the top level that hold no parts
	parts   map[string]map[string]*part // by section and name
}

// part is what a reference may name.
type part struct {
	section, name string
	raw           json.RawMessage
	scanned       bool
	values        int      // how many values it holds
	refs          []string // what it refers to, as written
}

func (p *part) String() string { return fmt.Sprintf("%.200q in %s", p.name, p.section) }

// The sections that references may name. Readers go into a schema once however
// often it is named, and into all others each time.
const (
	pathItems  = "paths"
	v2Schemas  = "definitions"
	v3Schemas  = "components/schemas"
	components = "components"
)

var (
	v2Sections = []string{v2Schemas, "parameters", "responses"}
	v3Sections = []string{
		v3Schemas, "components/parameters", "components/responses", "components/requestBodies",
		"components/headers", "components/examples", "components/links", "components/callbacks",
		"components/pathItems", "components/securitySchemes",
	}
	// v3Fields are the fields of a version 3 document that are published, beside
	// its parts. Others would be read as these by clients that ignore case.
	v3Fields = []string{"openapi", "info", "servers", "security", "tags", "externalDocs"}
)

// ReadV2 takes an OpenAPI v2 document apart.
func ReadV2(data []byte) (*OpenAPI, error) {
	fields, err := topLevel(data)
	if err != nil {
		return nil, err
	}
	if fields["swagger"] == nil && fields[pathItems] == nil {
		return nil, errors.New("the fields swagger and paths are missing")
	}
	return takeApart(fields, v2Sections)
}

// ReadV3 takes an OpenAPI v3 document apart.
func ReadV3(data []byte) (*OpenAPI, error) {
	fields, err := topLevel(data)
	if err != nil {
		return nil, err
	}
	if fields["openapi"] == nil {
		return nil, errors.New("the field openapi is missing")
	}
	d, err := takeApart(fields, v3Sections)
	if err != nil {
		return nil, err
	}
	d.version = 3
	maps.DeleteFunc(fields, func(field string, _ json.RawMessage) bool {
		return !slices.Contains(v3Fields, field) && !strings.HasPrefix(field, "x-")
	})
	return d, nil
}

func topLevel(data []byte) (map[string]json.RawMessage, error) {
	if err := WellFormed(data, maxOpenAPITokens); err != nil {
		return nil, err
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(data, &fields); err != nil {
		return nil, err
	}
	return fields, nil
}

// takeApart takes a document with these sections, and paths, apart. What it takes
// as parts is no field any more.
func takeApart(fields map[string]json.RawMessage, sections []string) (*OpenAPI, error) {
	var nested map[string]json.RawMessage
	if raw := fields[components]; raw != nil && slices.Contains(sections, v3Schemas) {
		if err := json.Unmarshal(raw, &nested); err != nil {
			return nil, fmt.Errorf("%s: %w", components, err)
		}
		delete(fields, components)
	}
	d := &OpenAPI{version: 2, fields: fields, parts: map[string]map[string]*part{}}
	for _, section := range slices.Concat(sections, []string{pathItems}) {
		raw := fields[section]
		delete(fields, section)
		if field, found := strings.CutPrefix(section, components+"/"); found {
			raw = nested[field]
		}
		if err := d.take(section, raw); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// take splits a section into its parts.
func (d *OpenAPI) take(section string, raw json.RawMessage) error {
	if raw == nil {
		return nil
	}
	var entries map[string]json.RawMessage
	if err := json.Unmarshal(raw, &entries); err != nil {
		return fmt.Errorf("%s: %w", section, err)
	}
	parts := make(map[string]*part, len(entries))
	for name, raw := range entries {
		parts[name] = &part{section: section, name: name, raw: raw}
	}
	d.parts[section] = parts
	return nil
}

// Below returns, as JSON, the document with those paths alone that are prefix
// or lie below it. Of version 2 it keeps only the definitions, parameters and
// responses that these paths need: the rest would be published under the names
// of others' types. It fails where following the references would have no end
// or go beyond the bounds, where there is too much of it, and when ctx ends.
//
// All is written anew: a field that stands twice is read differently by
// different readers.
func (d *OpenAPI) Below(ctx context.Context, prefix string) ([]byte, error) {
	w := walk{document: d, costs: map[*part]int{}, reached: map[*part]bool{}}
	for name, p := range d.parts[pathItems] {
		if below(name, prefix) {
			w.reach(p, 0)
		}
	}
	if d.version == 3 {
		for _, section := range v3Sections {
			for _, p := range d.parts[section] {
				w.reach(p, 0)
			}
		}
	}
	if err := w.run(ctx); err != nil {
		return nil, err
	}
	kept := map[string]map[string]json.RawMessage{pathItems: {}}
	for p := range w.reached {
		if p.section == pathItems && !below(p.name, prefix) {
			continue
		}
		if _, err := Tokens(p.raw, maxPartTokens); err != nil {
			return nil, fmt.Errorf("%v: %w", p, err)
		}
		if kept[p.section] == nil {
			kept[p.section] = map[string]json.RawMessage{}
		}
		kept[p.section][p.name] = p.raw
	}
	if _, err := d.fieldTokens(maxPartTokens); err != nil {
		return nil, err
	}
	out, err := d.write(kept)
	if err != nil {
		return nil, err
	}
	return out, WellFormed(out, maxGroupVersionTokens)
}

// fieldTokens counts what stands beside the parts, limit at most.
func (d *OpenAPI) fieldTokens(limit int) (tokens int, err error) {
	for _, field := range slices.Sorted(maps.Keys(d.fields)) {
		n, err := Tokens(d.fields[field], limit-tokens)
		if err != nil {
			return 0, fmt.Errorf("%.200q: %w", field, err)
		}
		tokens += n
	}
	return tokens, nil
}

// write writes the document with those parts.
func (d *OpenAPI) write(kept map[string]map[string]json.RawMessage) ([]byte, error) {
	out := map[string]any{}
	for field, raw := range d.fields {
		out[field] = raw
	}
	nested := map[string]any{}
	for section, parts := range kept {
		if _, field, found := strings.Cut(section, "/"); found {
			nested[field] = parts
		} else {
			out[section] = parts
		}
	}
	if len(nested) > 0 {
		out[components] = nested
	}
	return json.Marshal(out)
}

// below says whether a path of an OpenAPI document is prefix or lies below it.
// One that leaves it by dot segments does not.
func below(p, prefix string) bool {
	clean := path.Clean(p)
	return clean == strings.TrimSuffix(p, "/") && (clean == prefix || strings.HasPrefix(clean, prefix+"/"))
}
