package openapi

import (
	"context"
	"fmt"
	"maps"
	"strconv"
	"sync/atomic"
	"time"

	"k8s.io/kube-openapi/pkg/aggregator"
	"k8s.io/kube-openapi/pkg/handler"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"github.com/annex-api/annex/aggregator/internal/document"
	"github.com/annex-api/annex/aggregator/internal/pace"
)

// maxMergedTokens bounds what extension servers' documents add to the merged one,
// all together. Those of the lowest priority are left out beyond it.
const maxMergedTokens = 400_000

// v2Input is one document that takes part in a merge.
type v2Input struct {
	name string
	id   string
	load func(context.Context) (*spec.Swagger, error)
	// tokens is what counts against the bound.
	tokens func() int
	// unload frees what load keeps; nil for local documents, which count nothing.
	unload func()
}

// merger merges documents, and merges again only when their ids changed.
type merger struct {
	// inputs gives an id of all documents, and lists them, the most important first.
	inputs func() (id string, list func() []v2Input)
	merge  func(dest, source *spec.Swagger) error
	now    func() time.Time
	logf   func(string, ...any)
	turns  pace.Turns
	// limit bounds what remote documents hold together, see maxMergedTokens.
	limit int

	newest atomic.Pointer[merged]
	// reported holds, by input, the id whose failure was reported. It belongs to
	// whose turn it is.
	reported map[string]string
	// merges counts the merges that were done.
	merges atomic.Int64
}

// merged is the merged document of inputs with an id.
type merged struct {
	id       string
	json     []byte
	etag     string
	modified time.Time
	protobuf *conversion
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
				load: func(context.Context) (*spec.Swagger, error) {
					return document.Guarded(func() (*spec.Swagger, error) { return without(got.value, rs.owns), nil })
				},
				tokens: func() int { return 0 },
			})
		}
		for _, r := range rs.ordered {
			if r.v2 == nil {
				continue
			}
			list = append(list, v2Input{
				name: "APIService " + r.name, id: strconv.FormatUint(r.v2.serial, 10),
				load:   func(ctx context.Context) (*spec.Swagger, error) { return r.v2.load(ctx, r.prefix, r.group) },
				tokens: r.v2.size,
				unload: r.v2.unload,
			})
		}
		return list
	}
}

// get returns the merged document, and merges where that is due. What cannot be
// merged is left out. It fails when ctx ends, or when the whole cannot be encoded.
func (m *merger) get(ctx context.Context) (*merged, error) {
	id, _ := m.inputs()
	if known := m.newest.Load(); known != nil && known.id == id {
		return known, nil
	}
	if err := m.turns.Take(ctx); err != nil {
		return nil, err
	}
	defer m.turns.End()
	id, list := m.inputs()
	if known := m.newest.Load(); known != nil && known.id == id {
		return known, nil
	}
	m.merges.Add(1)
	whole, err := m.build(ctx, list())
	if err != nil {
		return nil, err
	}
	data, err := document.Guarded(whole.MarshalJSON)
	if err != nil {
		return nil, fmt.Errorf("encode the merged OpenAPI v2: %w", err)
	}
	out := &merged{id: id, json: data, etag: hash(data), modified: m.now()}
	out.protobuf = &conversion{turns: m.turns, logf: m.logf, what: "the merged OpenAPI v2", encode: func(ctx context.Context) ([]byte, error) {
		return document.ProtobufV2(ctx, data, handler.ToProtoBinary)
	}}
	m.newest.Store(out)
	return out, nil
}

// build merges what can be merged, and reports what it leaves out once. A merge
// that fails leaves its destination half changed, so it is begun anew without the
// document that failed. It fails when ctx ends.
func (m *merger) build(ctx context.Context, list []v2Input) (*spec.Swagger, error) {
	reported := map[string]string{}
	leaveOut := func(in v2Input, err error) {
		reported[in.name] = in.id
		if m.reported[in.name] != in.id {
			m.logf("OpenAPI v2 of %s is left out until it changes: %v", in.name, err)
		}
	}
	var inputs []v2Input
	var specs []*spec.Swagger
	tokens := 0
	for _, in := range list {
		if tokens+in.tokens() > m.limit {
			in.unload()
			leaveOut(in, fmt.Errorf("more than %d objects, arrays, keys and scalars with those of higher priority", m.limit))
			continue
		}
		s, err := in.load(ctx)
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if err != nil {
			leaveOut(in, err)
			continue
		}
		tokens += in.tokens()
		inputs, specs = append(inputs, in), append(specs, s)
	}
	for {
		merged, failed, err := m.mergeAll(specs)
		if err == nil {
			m.reported = reported
			return merged, nil
		}
		leaveOut(inputs[failed], err)
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

func emptySpec() *spec.Swagger {
	return &spec.Swagger{SwaggerProps: spec.SwaggerProps{
		Swagger: "2.0",
		Info:    &spec.Info{InfoProps: spec.InfoProps{Title: "Kubernetes", Version: "unversioned"}},
		Paths:   &spec.Paths{},
	}}
}
