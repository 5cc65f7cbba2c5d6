// Package codec says how objects travel: the media types, and what a client gets that
// asks for one that a kind does not have.
package codec

import (
	"mime"
	"net/http"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
)

// cborSequence is how a client asks for a watch in CBOR.
const cborSequence = "application/cbor-seq"

// Acceptable has a request answered in JSON where it asks for protobuf or CBOR and the
// kind has none, and for nothing else that the kind has: RFC 9110, 12.4.1 lets a server
// answer in another representation, and clients read what Content-Type says. Tables and
// metadata stay in protobuf as they were asked for, for their types have it.
func Acceptable(h http.Header, protobuf, cbor bool) {
	accepted := h.Values("Accept")
	var kept, instead []string
	changed := false
	for _, value := range accepted {
		for part := range strings.SplitSeq(value, ",") {
			part = strings.TrimSpace(part)
			media, params, err := mime.ParseMediaType(part)
			switch {
			case part == "":
			case err != nil:
				kept = append(kept, part) // others say what is wrong with it
			case !protobuf && media == runtime.ContentTypeProtobuf && params["as"] == "",
				!cbor && (media == runtime.ContentTypeCBOR || media == cborSequence):
				instead = append(instead, mime.FormatMediaType(runtime.ContentTypeJSON, params))
			case media == cborSequence: // as a watch in CBOR is answered, and is not to be asked for
				kept, changed = append(kept, mime.FormatMediaType(runtime.ContentTypeCBOR, params)), true
			default:
				kept = append(kept, part)
			}
		}
	}
	switch {
	case len(instead) == 0 && !changed:
	case len(kept) > 0:
		h.Set("Accept", strings.Join(kept, ","))
	default:
		h.Set("Accept", strings.Join(instead, ","))
	}
}

// HasProtobuf says whether an object of a Go type can be written as protobuf.
func HasProtobuf(obj runtime.Object) bool {
	_, ok := obj.(interface {
		MarshalTo(data []byte) (int, error)
		Unmarshal(data []byte) error
	})
	return ok
}
