package openapi

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"

	"k8s.io/kube-openapi/pkg/handler"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"github.com/annex-api/annex/aggregator/internal/catalog"
	"github.com/annex-api/annex/aggregator/internal/document"
)

// kindsKey is the extension by which a definition names its kinds.
const kindsKey = "x-kubernetes-group-version-kind"

// v2Types are the media types of version 2.
var v2Types = mediaTypes{
	protobuf:    "application/com.github.proto-openapi.spec.v2.v1.0+protobuf",
	oldProtobuf: "application/com.github.proto-openapi.spec.v2@v1.0+protobuf",
}

// v2Document is an extension server's document, parsed while it is merged. It
// belongs to whose turn it is, but for blob and serial, which do not change.
type v2Document struct {
	blob   catalog.Blob
	serial uint64
	tokens int // once they are counted
	parsed bool
	spec   *spec.Swagger
	err    error
}

// serveMerged answers with the merged document.
func (s *Service) serveMerged(w http.ResponseWriter, r *http.Request) {
	w.Header().Add("Vary", "Accept")
	accepted := acceptable(r.Header.Get("Accept"), v2Types)
	if accepted == "" {
		w.WriteHeader(http.StatusNotAcceptable)
		return
	}
	d, err := s.v2.get(r.Context())
	if err != nil {
		if r.Context().Err() == nil {
			s.logf("GET %s: %v", r.URL.Path, err)
		}
		http.Error(w, "the document cannot be merged", http.StatusServiceUnavailable)
		return
	}
	data := d.json
	if accepted == v2Types.protobuf {
		if data, err = d.protobuf.get(r.Context()); err != nil {
			http.Error(w, notEncoded, http.StatusServiceUnavailable)
			return
		}
	}
	w.Header().Set("Content-Type", accepted)
	w.Header().Set("Etag", strconv.Quote(d.etag)) // of both encodings, which Vary tells apart
	http.ServeContent(w, r, "", d.modified, bytes.NewReader(data))
}

// load parses the document and confines it to prefix and group. One that
// could not be encoded is refused, because it would take the whole merged
// document's encoding with it.
func (d *v2Document) load(ctx context.Context, prefix, group string) (*spec.Swagger, error) {
	if d.parsed {
		return d.spec, d.err
	}
	s, err := document.Guarded(func() (*spec.Swagger, error) { return parseRemoteV2(ctx, d.blob.Data, prefix, group) })
	if ctx.Err() != nil {
		return nil, context.Cause(ctx) // to be tried again
	}
	d.parsed, d.spec, d.err = true, s, err
	return s, err
}

// size is how much the document counts against maxMergedTokens, known without
// load. That it is not well-formed is load's to say.
func (d *v2Document) size() int {
	if d.tokens == 0 {
		d.tokens, _ = document.Tokens(d.blob.Data, math.MaxInt)
	}
	return d.tokens
}

// unload forgets what load has parsed.
func (d *v2Document) unload() { d.parsed, d.spec, d.err = false, nil, nil }

func parseRemoteV2(ctx context.Context, data []byte, prefix, group string) (*spec.Swagger, error) {
	whole, err := document.ReadV2(data)
	if err != nil {
		return nil, fmt.Errorf("parse: %w", err)
	}
	if data, err = whole.Below(ctx, strings.TrimSuffix(prefix, "/")); err != nil {
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
	if _, err := document.ProtobufV2(ctx, encoded, handler.ToProtoBinary); err != nil {
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
