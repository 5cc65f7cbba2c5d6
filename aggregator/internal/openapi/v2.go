package openapi

import (
	"context"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"sync"

	"k8s.io/kube-openapi/pkg/aggregator"
	"k8s.io/kube-openapi/pkg/handler"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"github.com/annex-api/annex/aggregator/internal/catalog"
	"github.com/annex-api/annex/aggregator/internal/document"
)

// kindsKey is the extension by which a definition names its kinds.
const kindsKey = "x-kubernetes-group-version-kind"

// v2Document is an extension server's document, parsed when first merged. The
// merger's lock guards all but blob.
type v2Document struct {
	blob   catalog.Blob
	serial uint64
	parsed bool
	spec   *spec.Swagger
	err    error
}

// v2Input is one document that takes part in a merge.
type v2Input struct {
	name string
	id   string
	load func() (*spec.Swagger, error)
}

// merger merges documents, and merges again only when their ids changed. It
// is the cached.Value that the library's handler serves from.
type merger struct {
	// inputs gives an id of all documents, and lists them, the most important first.
	inputs func() (id string, list func() []v2Input)
	merge  func(dest, source *spec.Swagger) error
	logf   func(string, ...any)

	mu     sync.Mutex // those of polls are taken under it, and it under none
	id     string
	result *spec.Swagger
	// reported holds, by input, the id whose failure was reported.
	reported map[string]string
	// merges counts the merges that were done.
	merges int
}

// v2Inputs are the local documents in order, without what extension servers
// own, then the extension servers' by priority.
func (s *Service) v2Inputs() (string, func() []v2Input) {
	rs := s.current.Load()
	id := []byte(rs.v2ID)
	locals := make([]answer[*spec.Swagger], len(s.locals))
	for i, l := range s.locals {
		if locals[i] = l.v2.last(); locals[i].value != nil {
			id = append(strconv.AppendInt(append(id, ' '), int64(i), 10), ' ')
			id = strconv.AppendQuote(id, locals[i].id)
		}
	}
	return string(id), func() []v2Input {
		var list []v2Input
		for i, got := range locals {
			if got.value == nil {
				continue
			}
			list = append(list, v2Input{
				name: s.locals[i].v2.what, id: got.id,
				load: func() (*spec.Swagger, error) { return without(got.value, rs.owns), nil },
			})
		}
		for _, r := range rs.ordered {
			if r.v2 == nil {
				continue
			}
			list = append(list, v2Input{
				name: "APIService " + r.name, id: strconv.FormatUint(r.v2.serial, 10),
				load: func() (*spec.Swagger, error) { return r.v2.load(r.prefix, r.group) },
			})
		}
		return list
	}
}

// Get returns the merged document. It never fails: what cannot be merged is
// left out.
func (m *merger) Get() (*spec.Swagger, string, error) {
	result, id, problems := m.get()
	for _, problem := range problems {
		m.logf("OpenAPI v2 of %s is left out until it changes: %v", problem.input, problem.err)
	}
	return result, id, nil
}

// v2Problem is why an input was left out.
type v2Problem struct {
	input string
	err   error
}

// get merges where that is due; problems are those that were not there before.
func (m *merger) get() (result *spec.Swagger, id string, problems []v2Problem) {
	m.mu.Lock()
	defer m.mu.Unlock()
	id, list := m.inputs()
	if m.result == nil || m.id != id {
		m.merges++
		m.result, problems = m.build(list())
		m.id = id
	}
	return m.result, m.id, problems
}

// build merges what can be merged. A merge that fails leaves its destination
// half changed, so it is begun anew without the document that failed.
func (m *merger) build(list []v2Input) (merged *spec.Swagger, problems []v2Problem) {
	reported := map[string]string{}
	bad := func(in v2Input, err error) {
		reported[in.name] = in.id
		if m.reported[in.name] != in.id {
			problems = append(problems, v2Problem{in.name, err})
		}
	}
	defer func() { m.reported = reported }()

	var inputs []v2Input
	var specs []*spec.Swagger
	for _, in := range list {
		s, err := document.Guarded(in.load)
		if err != nil {
			bad(in, err)
			continue
		}
		inputs, specs = append(inputs, in), append(specs, s)
	}
	for {
		merged, failed, err := m.mergeAll(specs)
		if err == nil {
			return merged, problems
		}
		bad(inputs[failed], err)
		inputs = append(inputs[:failed:failed], inputs[failed+1:]...)
		specs = append(specs[:failed:failed], specs[failed+1:]...)
	}
}

// mergeAll merges specs without changing them. The first gives what is not a
// path, definition or parameter. On failure it says which one is at fault.
func (m *merger) mergeAll(specs []*spec.Swagger) (merged *spec.Swagger, failed int, err error) {
	merged = emptySpec()
	if len(specs) > 0 {
		*merged = *specs[0]
		merged.Paths, merged.Definitions, merged.Parameters = &spec.Paths{}, nil, nil
	}
	for i, s := range specs {
		_, err := document.Guarded(func() (struct{}, error) { return struct{}{}, m.mergeOne(merged, s) })
		if err != nil {
			return nil, i, fmt.Errorf("merge: %w", err)
		}
	}
	return merged, 0, nil
}

// mergeOne leaves out the paths that merged has. The library's own removal goes
// by prefixes of paths, and then fails on a conflict below a path that it keeps.
func (m *merger) mergeOne(merged, s *spec.Swagger) error {
	s = without(s, func(path string) bool { _, found := merged.Paths.Paths[path]; return found })
	if s.Paths == nil || len(s.Paths.Paths) == 0 {
		return nil
	}
	return m.merge(merged, mergeable(s))
}

// mergeable copies what a merge writes to in definitions that it took over:
// the extensions, which must not be nil.
func mergeable(s *spec.Swagger) *spec.Swagger {
	out := *s
	out.Definitions = make(spec.Definitions, len(s.Definitions))
	for name, d := range s.Definitions {
		extensions := make(spec.Extensions, len(d.Extensions))
		maps.Copy(extensions, d.Extensions)
		d.Extensions = extensions
		out.Definitions[name] = d
	}
	return &out
}

// without leaves out the paths that drop names, with the definitions that only
// they used. It does not change s.
func without(s *spec.Swagger, drop func(path string) bool) *spec.Swagger {
	if s.Paths == nil {
		return s
	}
	// The library keeps paths by prefix, so each says by its first letter
	// whether it is to be kept.
	marked := make(map[string]spec.PathItem, len(s.Paths.Paths))
	dropped := false
	for path, item := range s.Paths.Paths {
		if drop(path) {
			dropped = true
			marked["-"+path] = item
		} else {
			marked["+"+path] = item
		}
	}
	if !dropped {
		return s
	}
	in := *s
	in.Paths = &spec.Paths{VendorExtensible: s.Paths.VendorExtensible, Paths: marked}
	out := aggregator.FilterSpecByPathsWithoutSideEffects(&in, []string{"+"})
	kept := make(map[string]spec.PathItem, len(out.Paths.Paths))
	for path, item := range out.Paths.Paths {
		kept[path[1:]] = item
	}
	out.Paths.Paths = kept
	return out
}

// load parses the document and confines it to prefix and group. One that
// could not be encoded is refused, because it would take the whole merged
// document's encoding with it.
func (d *v2Document) load(prefix, group string) (*spec.Swagger, error) {
	if !d.parsed {
		d.parsed = true
		d.spec, d.err = document.Guarded(func() (*spec.Swagger, error) { return parseRemoteV2(d.blob.Data, prefix, group) })
	}
	return d.spec, d.err
}

func parseRemoteV2(data []byte, prefix, group string) (*spec.Swagger, error) {
	whole, err := document.ReadV2(data)
	if err != nil {
		return nil, fmt.Errorf("parse: %w", err)
	}
	if data, err = whole.Below(context.Background(), strings.TrimSuffix(prefix, "/")); err != nil {
		return nil, fmt.Errorf("parse: %w", err)
	}
	s, err := parseV2(data)
	if err != nil {
		return nil, fmt.Errorf("parse: %w", err)
	}
	// Only these are merged; the rest would only take memory.
	out := emptySpec()
	out.Paths, out.Definitions, out.Parameters = s.Paths, s.Definitions, s.Parameters
	for name, d := range out.Definitions {
		if err := confineKinds(d.Extensions, group); err != nil {
			return nil, fmt.Errorf("definition %q: %w", name, err)
		}
	}
	encoded, err := out.MarshalJSON()
	if err != nil {
		return nil, fmt.Errorf("encode as JSON: %w", err)
	}
	if _, err := handler.ToProtoBinary(encoded); err != nil {
		return nil, fmt.Errorf("encode as protobuf: %w", err)
	}
	return out, nil
}

// confineKinds keeps, of the kinds that a definition claims to be, those of
// its own group: it may not define those of others.
func confineKinds(e spec.Extensions, group string) error {
	claimed, found := e[kindsKey]
	if !found {
		return nil
	}
	list, ok := claimed.([]any)
	if !ok {
		return fmt.Errorf("%s is not a list", kindsKey)
	}
	var own []any
	for _, v := range list {
		kind, ok := v.(map[string]any)
		if !ok {
			return fmt.Errorf("%s holds what is not an object", kindsKey)
		}
		if g, ok := kind["group"].(string); ok && g == group {
			own = append(own, v)
		}
	}
	if own == nil {
		delete(e, kindsKey)
		return nil
	}
	e[kindsKey] = own
	return nil
}

func emptySpec() *spec.Swagger {
	return &spec.Swagger{SwaggerProps: spec.SwaggerProps{
		Swagger: "2.0",
		Info:    &spec.Info{InfoProps: spec.InfoProps{Title: "Kubernetes", Version: "unversioned"}},
		Paths:   &spec.Paths{},
	}}
}
