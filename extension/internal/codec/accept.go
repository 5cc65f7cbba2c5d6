// Package codec says how objects travel: the media types, and what a client gets that
// asks for one that a kind does not have.
package codec

import (
	"mime"
	"net/http"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
)

// Acceptable has a request answered in JSON where it asks for protobuf of a kind that
// has none, and for nothing else that the kind has: RFC 9110, 12.4.1 lets a server answer in another
// representation, and clients read what Content-Type says. Tables and metadata stay as
// they were asked for, for their types have protobuf.
func Acceptable(h http.Header) {
	accepted := h.Values("Accept")
	if len(accepted) == 0 || !strings.Contains(strings.Join(accepted, ","), runtime.ContentTypeProtobuf) {
		return
	}
	var kept []string
	for _, value := range accepted {
		for part := range strings.SplitSeq(value, ",") {
			part = strings.TrimSpace(part)
			if part != "" && !isObjectProtobuf(part) {
				kept = append(kept, part)
			}
		}
	}
	if len(kept) == 0 {
		kept = []string{runtime.ContentTypeJSON}
	}
	h.Set("Accept", strings.Join(kept, ","))
}

func isObjectProtobuf(part string) bool {
	media, params, err := mime.ParseMediaType(part)
	return err == nil && media == runtime.ContentTypeProtobuf && params["as"] == ""
}

// HasProtobuf says whether an object of a Go type can be written as protobuf.
func HasProtobuf(obj runtime.Object) bool {
	_, ok := obj.(interface {
		MarshalTo(data []byte) (int, error)
		Unmarshal(data []byte) error
	})
	return ok
}
