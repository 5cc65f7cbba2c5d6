package handlerchain

import (
	"net/http"
	"strings"
	"unicode/utf8"

	"k8s.io/apiserver/pkg/endpoints/request"
)

// validResolver has a resource and a subresource that are not UTF-8 read as others that
// are. Metrics have them as labels, and a label that is not UTF-8 is a panic. No server
// has such a resource, and the proxy forwards no such path.
type validResolver struct{ request.RequestInfoResolver }

// NewRequestInfo implements request.RequestInfoResolver.
func (v validResolver) NewRequestInfo(r *http.Request) (*request.RequestInfo, error) {
	info, err := v.RequestInfoResolver.NewRequestInfo(r)
	if info != nil && !utf8.ValidString(info.Path) {
		for _, label := range []*string{&info.Verb, &info.APIPrefix, &info.APIGroup, &info.APIVersion, &info.Resource, &info.Subresource} {
			*label = strings.ToValidUTF8(*label, string(utf8.RuneError))
		}
	}
	return info, err
}
