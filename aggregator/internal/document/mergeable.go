package document

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"k8s.io/kube-openapi/pkg/validation/spec"
)

// Unmergeable is why an OpenAPI v2 document may not be merged with others: clients would
// refuse the whole for its sake.
type Unmergeable struct{ error }

// Unwrap gives the fault that was found.
func (u Unmergeable) Unwrap() error { return u.error }

// Prefixes of references within an OpenAPI v2 document.
const (
	toDefinition = "#/definitions/"
	toParameter  = "#/parameters/"
	toResponse   = "#/responses/"
	toPath       = "#/paths/"
)

// MakeMergeable makes an OpenAPI v2 document that Below has returned fit to be merged with
// others. A merged document has no responses that operations share, so they are written
// into each operation that names them; that fails beyond the bounds of Copies.
//
// It fails with Unmergeable where a reference names what is not there, and where a
// definition has a form that clients do not read. Clients such as kubectl read all
// definitions before they use one: a single fault in them is the end of the whole document.
func MakeMergeable(s *spec.Swagger) error {
	c := mergeable{document: s, uses: map[string]int{}}
	for _, name := range slices.Sorted(maps.Keys(s.Definitions)) {
		d := s.Definitions[name]
		err := c.model(&d)
		if err == nil {
			err = c.references(&d) // also where models are not read
		}
		if err != nil {
			return Unmergeable{fmt.Errorf("definition %.200q: %w", name, err)}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.Parameters)) {
		p := s.Parameters[name]
		if err := c.parameter(&p); err != nil {
			return Unmergeable{fmt.Errorf("parameter %.200q: %w", name, err)}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.Responses)) {
		r := s.Responses[name]
		if err := c.references(r.Schema); err != nil {
			return Unmergeable{fmt.Errorf("response %.200q: %w", name, err)}
		}
	}
	if s.Paths != nil {
		for _, path := range slices.Sorted(maps.Keys(s.Paths.Paths)) {
			item := s.Paths.Paths[path]
			if err := c.pathItem(&item); err != nil {
				return Unmergeable{fmt.Errorf("path %.200q: %w", path, err)}
			}
		}
	}
	if err := c.countCopies(); err != nil {
		return fmt.Errorf("responses that operations share: %w", err)
	}
	s.Responses = nil
	return nil
}

// mergeable goes through a document once; nesting is bounded by WellFormed.
type mergeable struct {
	document *spec.Swagger
	uses     map[string]int // of responses that operations share
}

func missing(ref string) error {
	return fmt.Errorf("the reference %.200q names nothing in the document", ref)
}

// model says why clients could not read a definition, or a part of one, as kubectl does.
func (c *mergeable) model(s *spec.Schema) error {
	if ref := s.Ref.String(); ref != "" {
		name, found := strings.CutPrefix(ref, toDefinition)
		if _, defined := c.document.Definitions[name]; !found || !defined { // as it is written: clients know no escapes here
			return missing(ref)
		}
		if len(s.Properties) > 0 || len(s.Type) > 0 {
			return fmt.Errorf("beside the reference %.200q there is a type, or properties", ref)
		}
		return nil
	}
	if len(s.Type) > 1 {
		return fmt.Errorf("there are %d types for one value", len(s.Type))
	}
	kind := ""
	if len(s.Type) == 1 {
		kind = s.Type[0]
	}
	switch kind {
	case "", "object":
		for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
			p := s.Properties[name]
			if err := c.model(&p); err != nil {
				return err
			}
		}
		if more := s.AdditionalProperties; kind != "" && len(s.Properties) == 0 && more != nil && more.Schema != nil {
			return c.model(more.Schema)
		}
		return nil
	case "array":
		switch items := s.Items; {
		case items != nil && len(items.Schemas) > 0: // clients take a list of kinds for anything
			return nil
		case items != nil && items.Schema != nil:
			return c.model(items.Schema)
		}
		return errors.New("an array does not say what its items are")
	case "string", "number", "integer", "boolean":
		return nil
	}
	return fmt.Errorf("the type %.200q is unknown", kind)
}

// references says which reference in a schema names nothing; nil is no schema.
func (c *mergeable) references(s *spec.Schema) error {
	if s == nil {
		return nil
	}
	if ref := s.Ref.String(); ref != "" && !named(ref, toDefinition, c.document.Definitions) {
		return missing(ref)
	}
	for _, group := range []map[string]spec.Schema{s.Properties, s.PatternProperties, s.Definitions} {
		for _, name := range slices.Sorted(maps.Keys(group)) {
			inner := group[name]
			if err := c.references(&inner); err != nil {
				return err
			}
		}
	}
	for _, list := range [][]spec.Schema{s.AllOf, s.AnyOf, s.OneOf} {
		for i := range list {
			if err := c.references(&list[i]); err != nil {
				return err
			}
		}
	}
	if err := c.references(s.Not); err != nil {
		return err
	}
	for _, more := range []*spec.SchemaOrBool{s.AdditionalProperties, s.AdditionalItems} {
		if more != nil {
			if err := c.references(more.Schema); err != nil {
				return err
			}
		}
	}
	if s.Items == nil {
		return nil
	}
	for i := range s.Items.Schemas {
		if err := c.references(&s.Items.Schemas[i]); err != nil {
			return err
		}
	}
	return c.references(s.Items.Schema)
}

func (c *mergeable) parameter(p *spec.Parameter) error {
	if ref := p.Ref.String(); ref != "" && !named(ref, toParameter, c.document.Parameters) {
		return missing(ref)
	}
	return c.references(p.Schema)
}

func (c *mergeable) parameters(list []spec.Parameter) error {
	for i := range list {
		if err := c.parameter(&list[i]); err != nil {
			return err
		}
	}
	return nil
}

func (c *mergeable) pathItem(item *spec.PathItem) error {
	if ref := item.Ref.String(); ref != "" && !named(ref, toPath, c.document.Paths.Paths) {
		return missing(ref)
	}
	if err := c.parameters(item.Parameters); err != nil {
		return err
	}
	for _, o := range []*spec.Operation{item.Get, item.Put, item.Post, item.Delete, item.Options, item.Head, item.Patch} {
		if o == nil {
			continue
		}
		if err := c.parameters(o.Parameters); err != nil {
			return err
		}
		if o.Responses == nil {
			continue
		}
		if err := c.response(o.Responses.Default); err != nil {
			return err
		}
		for _, code := range slices.Sorted(maps.Keys(o.Responses.StatusCodeResponses)) {
			r := o.Responses.StatusCodeResponses[code]
			if err := c.response(&r); err != nil {
				return err
			}
			o.Responses.StatusCodeResponses[code] = r
		}
	}
	return nil
}

// response puts the response that r refers to, if it does, in its place.
func (c *mergeable) response(r *spec.Response) error {
	if r == nil {
		return nil
	}
	for range maxChain {
		ref := r.Ref.String()
		if ref == "" {
			return c.references(r.Schema)
		}
		name, found := nameOf(ref, toResponse, c.document.Responses)
		if !found {
			return missing(ref)
		}
		c.uses[name]++
		*r = c.document.Responses[name]
	}
	return errors.New("its references have no end")
}

// countCopies fails where the responses that were written into operations are too much.
func (c *mergeable) countCopies() error {
	var copies Copies
	for name, n := range c.uses {
		r := c.document.Responses[name]
		data, err := json.Marshal(&r)
		if err != nil {
			return err
		}
		if err := copies.Add(n, data); err != nil {
			return err
		}
	}
	return nil
}

func named[T any](ref, prefix string, all map[string]T) bool {
	_, found := nameOf(ref, prefix, all)
	return found
}

// nameOf is which of all a reference leads to, or into: as it is written, or unescaped.
func nameOf[T any](ref, prefix string, all map[string]T) (name string, found bool) {
	for _, pointer := range spellings(ref, url.PathUnescape) {
		rest, ok := strings.CutPrefix(pointer, prefix)
		if !ok {
			continue
		}
		first, _, _ := strings.Cut(rest, "/")
		for _, name := range slices.Concat(spellings(rest, unescapePointer), spellings(first, unescapePointer)) {
			if _, found := all[name]; found {
				return name, true
			}
		}
	}
	return "", false
}
