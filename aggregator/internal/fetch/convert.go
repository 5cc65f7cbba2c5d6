package fetch

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"k8s.io/kube-openapi/pkg/openapiconv"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"github.com/annex-api/annex/aggregator/internal/catalog"
	"github.com/annex-api/annex/aggregator/internal/document"
)

// v2Part is what a version 2 document says of one group version, with the
// version 3 document made from it if one was asked for. Problems are why one of both is
// missing.
type v2Part struct {
	v2, v3   catalog.Blob
	problems []error
}

// readV2 returns one version also where the other cannot be made. A version 2 that may not
// be merged is left out; the version 3 that is made of it is merged with nobody's.
func readV2(ctx context.Context, whole *document.OpenAPI, a *catalog.APIService, alsoV3 bool) (part v2Part, err error) {
	data, err := whole.Below(ctx, a.Path())
	if err != nil {
		return part, err
	}
	own := &spec.Swagger{}
	if err := own.UnmarshalJSON(data); err != nil {
		return part, err
	}
	if alsoV3 {
		part.v3, err = document.Guarded(func() (catalog.Blob, error) { return v3Of(ctx, own, a) })
		if err != nil {
			part.problems = append(part.problems, err)
		}
	}
	if err := document.MakeMergeable(own); err != nil {
		part.problems = append(part.problems, err)
		return part, nil
	}
	part.v2, err = blobOf(own)
	return part, err
}

// v3Of makes the version 3 of a document that Below has returned. It fails where
// that is beyond the bounds of a document.
func v3Of(ctx context.Context, own *spec.Swagger, a *catalog.APIService) (catalog.Blob, error) {
	var c conversion
	if c.document(own); c.err != nil {
		return catalog.Blob{}, fmt.Errorf("making its v3: %w", c.err)
	}
	data, err := json.Marshal(openapiconv.ConvertV2ToV3(own))
	if err != nil {
		return catalog.Blob{}, err
	}
	whole, err := document.ReadV3(data)
	if err != nil {
		return catalog.Blob{}, fmt.Errorf("reading the v3 made of it: %w", err)
	}
	if data, err = whole.Below(ctx, a.Path()); err != nil {
		return catalog.Blob{}, fmt.Errorf("reading the v3 made of it: %w", err)
	}
	return catalog.Blob{ETag: digest(data), Data: data}, nil
}

// maxConversionSteps bounds the schemas that the library goes through while it
// makes a version 3: at each schema it goes through all below it again. All of
// 120,000 objects, arrays, keys and scalars, ten schemas deep, takes 400,000.
const maxConversionSteps = 500_000

// conversion looks at what the library will convert: it goes where that goes. The
// library cannot be stopped, copies the schema of a body and of a response for
// each of their media types, and writes an error to the log for each reference of a
// schema that does not name a definition.
type conversion struct {
	copies document.Copies
	steps  int
	err    error // the first
}

func (c *conversion) document(s *spec.Swagger) {
	for _, d := range s.Definitions {
		c.schema(&d)
	}
	for _, r := range s.Responses {
		c.content(r.Schema, s.Produces)
	}
	if s.Paths == nil {
		return
	}
	for _, item := range s.Paths.Paths {
		for _, p := range item.Parameters {
			c.schema(p.Schema)
		}
		for _, o := range []*spec.Operation{item.Get, item.Put, item.Post, item.Delete, item.Options, item.Head, item.Patch} {
			if o != nil {
				c.operation(o)
			}
		}
	}
}

func (c *conversion) operation(o *spec.Operation) {
	for _, p := range o.Parameters {
		if p.Name == "body" {
			c.content(p.Schema, o.Consumes)
		} else {
			c.schema(p.Schema)
		}
	}
	if o.Responses == nil { // which the library goes into all the same
		c.err = cmp.Or(c.err, errors.New("an operation has no responses"))
		return
	}
	if r := o.Responses.Default; r != nil {
		c.content(r.Schema, o.Produces)
	}
	for _, r := range o.Responses.StatusCodeResponses {
		c.content(r.Schema, o.Produces)
	}
}

// content is a schema that is copied for each media type.
func (c *conversion) content(s *spec.Schema, mediaTypes []string) {
	before := c.steps
	c.schema(s)
	if s == nil || len(mediaTypes) == 0 {
		return
	}
	c.walked((c.steps - before) * (len(mediaTypes) - 1))
	if c.err != nil {
		return
	}
	types, err := json.Marshal(mediaTypes)
	if err != nil {
		c.err = err
		return
	}
	if c.err = c.copies.Add(1, types); c.err != nil {
		return
	}
	schema, err := json.Marshal(s)
	if err != nil {
		c.err = err
		return
	}
	c.err = c.copies.Add(len(mediaTypes), schema)
}

// schema looks at a schema that is converted, and returns how many there are in it.
func (c *conversion) schema(s *spec.Schema) (size int) {
	if s == nil || c.err != nil {
		return 0
	}
	if ref := s.Ref.String(); ref != "" && !strings.Contains(ref, openapiconv.OpenAPIV2DefPrefix) {
		c.err = fmt.Errorf("the reference %.200q of a schema names no definition", ref)
		return 0
	}
	size = 1
	eachConverted(s, func(s *spec.Schema) { size += c.schema(s) })
	eachKept(s, func(s *spec.Schema) { size += schemas(s) })
	c.walked(size)
	return size
}

func (c *conversion) walked(steps int) {
	if c.steps += steps; c.steps > maxConversionSteps && c.err == nil {
		c.err = fmt.Errorf("its schemas are so deep that they take more than %d steps", maxConversionSteps)
	}
}

// schemas is how many schemas there are in one, with itself.
func schemas(s *spec.Schema) (n int) {
	if s == nil {
		return 0
	}
	n = 1
	count := func(s *spec.Schema) { n += schemas(s) }
	eachConverted(s, count)
	eachKept(s, count)
	return n
}

// eachConverted calls f for the schemas in one that the library converts; some
// are nil.
func eachConverted(s *spec.Schema, f func(*spec.Schema)) {
	for _, p := range s.Properties {
		f(&p)
	}
	if s.Items != nil {
		f(s.Items.Schema)
		for i := range s.Items.Schemas {
			f(&s.Items.Schemas[i])
		}
	}
	for _, more := range []*spec.SchemaOrBool{s.AdditionalProperties, s.AdditionalItems} {
		if more != nil {
			f(more.Schema)
		}
	}
}

// eachKept calls f for the schemas in one that the library only goes through;
// some are nil.
func eachKept(s *spec.Schema, f func(*spec.Schema)) {
	for _, named := range []map[string]spec.Schema{s.Definitions, s.PatternProperties} {
		for _, d := range named {
			f(&d)
		}
	}
	for _, list := range [][]spec.Schema{s.AllOf, s.AnyOf, s.OneOf} {
		for i := range list {
			f(&list[i])
		}
	}
	f(s.Not)
}
