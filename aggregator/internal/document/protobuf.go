package document

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
)

// maxPieceTokens bounds what is encoded at once, unless a single part is larger.
const maxPieceTokens = 10_000

// ProtobufV2 encodes an OpenAPI v2 document, see encodeInPieces.
func ProtobufV2(ctx context.Context, data []byte, encode func([]byte) ([]byte, error)) ([]byte, error) {
	return encodeInPieces(ctx, data, "swagger", v2Sections, encode)
}

// ProtobufV3 encodes an OpenAPI v3 document, see encodeInPieces.
func ProtobufV3(ctx context.Context, data []byte, encode func([]byte) ([]byte, error)) ([]byte, error) {
	return encodeInPieces(ctx, data, "openapi", v3Sections, encode)
}

// encodeInPieces encodes a JSON document as protobuf. The document was written by
// this process and may have any size. Encode is a library's: it takes a KiB or more
// of memory a token while it works, and cannot be stopped. So it gets a piece of
// the document at a time. The results stand one after another, as protobuf
// allows for a message: readers merge them. It fails when ctx ends.
//
// A part has a piece of its own where it is larger: a definition of a local CRD
// may have any size. Those of extension servers are within maxPartTokens, see
// Below.
func encodeInPieces(
	ctx context.Context, data []byte, version string, sections []string, encode func([]byte) ([]byte, error),
) ([]byte, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(data, &fields); err != nil {
		return nil, err
	}
	d, err := takeApart(fields, sections)
	if err != nil {
		return nil, err
	}
	e := encoding{document: d, encode: encode, piece: map[string]map[string]json.RawMessage{}}
	if e.tokens, err = d.fieldTokens(math.MaxInt); err != nil {
		return nil, err
	}
	for _, section := range slices.Concat([]string{pathItems}, sections) {
		for _, name := range slices.Sorted(maps.Keys(d.parts[section])) {
			if err := e.add(ctx, d.parts[section][name], version); err != nil {
				return nil, err
			}
		}
	}
	if err := e.flush(ctx, version); err != nil {
		return nil, err
	}
	return e.out, nil
}

// encoding is a document that is being encoded.
type encoding struct {
	document *OpenAPI
	encode   func([]byte) ([]byte, error)
	piece    map[string]map[string]json.RawMessage // the next piece
	tokens   int                                   // in the piece
	out      []byte
}

// add puts a part into the next piece, after what would be too much with it.
func (e *encoding) add(ctx context.Context, p *part, version string) error {
	tokens, err := Tokens(p.raw, math.MaxInt)
	if err != nil {
		return fmt.Errorf("%v: %w", p, err)
	}
	tokens++ // its name
	if e.tokens > 0 && e.tokens+tokens > maxPieceTokens {
		if err := e.flush(ctx, version); err != nil {
			return err
		}
	}
	if e.piece[p.section] == nil {
		e.piece[p.section] = map[string]json.RawMessage{}
	}
	e.piece[p.section][p.name] = p.raw
	e.tokens += tokens
	return nil
}

// flush encodes the piece. The first one has the fields that are no parts; the
// others repeat only those that the library asks for, which have one value each.
func (e *encoding) flush(ctx context.Context, version string) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if e.piece[pathItems] == nil {
		e.piece[pathItems] = map[string]json.RawMessage{} // must be there
	}
	data, err := e.document.write(e.piece)
	if err != nil {
		return err
	}
	encoded, err := Guarded(func() ([]byte, error) { return e.encode(data) })
	if err != nil {
		return err
	}
	if e.out == nil {
		fields := map[string]json.RawMessage{version: e.document.fields[version]}
		if fields["info"], err = titleAndVersion(e.document.fields["info"]); err != nil {
			return err
		}
		e.document.fields = fields
	}
	e.out = append(e.out, encoded...)
	e.piece, e.tokens = map[string]map[string]json.RawMessage{}, 0
	return nil
}

// titleAndVersion are the fields of info that must be there.
func titleAndVersion(info json.RawMessage) (json.RawMessage, error) {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(info, &all); err != nil {
		return nil, fmt.Errorf("info: %w", err)
	}
	return json.Marshal(map[string]json.RawMessage{"title": all["title"], "version": all["version"]})
}
