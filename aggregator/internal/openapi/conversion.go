package openapi

import (
	"context"
	"strings"
	"sync/atomic"

	"github.com/munnerz/goautoneg"

	"github.com/annex-api/annex/aggregator/internal/document"
	"github.com/annex-api/annex/aggregator/internal/pace"
)

// conversion makes the protobuf of a document once, when it is first asked for.
type conversion struct {
	turns  pace.Turns // with all conversions: each may take a few hundred MiB
	logf   func(string, ...any)
	what   string // is encoded
	encode func(context.Context) ([]byte, error)
	result atomic.Pointer[conversionResult]
}

type conversionResult struct {
	data []byte
	err  error
}

// get returns the bytes, or why there are none, which is logged once. Where ctx
// ends before, whoever waits next begins anew.
func (c *conversion) get(ctx context.Context) ([]byte, error) {
	if known := c.result.Load(); known != nil {
		return known.data, known.err
	}
	if err := c.turns.Take(ctx); err != nil {
		return nil, err
	}
	defer c.turns.End()
	if known := c.result.Load(); known != nil {
		return known.data, known.err
	}
	data, err := document.Guarded(func() ([]byte, error) { return c.encode(ctx) })
	if err != nil && ctx.Err() != nil {
		return nil, err
	}
	if err != nil {
		c.logf("%s cannot be encoded as protobuf until it changes: %v", c.what, err)
	}
	c.result.Store(&conversionResult{data, err})
	return data, err
}

// notEncoded is what a client gets where there are none.
const notEncoded = "the document cannot be encoded as protobuf"

const jsonType = "application/json"

// mediaTypes are those of an OpenAPI document, besides JSON.
type mediaTypes struct {
	protobuf string
	// oldProtobuf is what clients ask for; it is no valid media type, so it is
	// not what they are given.
	oldProtobuf string
}

// acceptable chooses the media type to answer with; empty means none is
// accepted.
func acceptable(header string, types mediaTypes) string {
	if header == "" {
		header = "*/*"
	}
	for _, clause := range goautoneg.ParseAccept(header) {
		for _, t := range [...]string{jsonType, types.protobuf, types.oldProtobuf} {
			kind, sub, _ := strings.Cut(t, "/")
			if (clause.Type != kind && clause.Type != "*") || (clause.SubType != sub && clause.SubType != "*") {
				continue
			}
			if t == types.oldProtobuf {
				return types.protobuf
			}
			return t
		}
	}
	return ""
}
