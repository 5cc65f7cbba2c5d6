package controllers

import (
	"fmt"
	"net/http"
	"strings"

	"k8s.io/client-go/rest"
)

// impersonation begins the headers by which a request is somebody else's.
const impersonation = "Impersonate-"

// Both reaches the groups of own through one configuration and everything else through
// another: a controller in the process of its server needs no way around by the host.
// Own requests are own's user's, whomever those to the host are made as.
func Both(host, own *rest.Config, groups []string) (*rest.Config, error) {
	inside, err := rest.TransportFor(own)
	if err != nil {
		return nil, fmt.Errorf("reach the server in process: %w", err)
	}
	base, _, err := rest.DefaultServerUrlFor(host)
	if err != nil {
		return nil, fmt.Errorf("reach the host %s: %w", host.Host, err)
	}
	prefix := strings.TrimSuffix(base.Path, "/")
	out := rest.CopyConfig(host)
	if out.QPS == 0 {
		out.QPS = -1 // priority and fairness is the limit, here and at the host
	}
	out.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			path, ok := strings.CutPrefix(r.URL.Path, prefix)
			if !ok || !ofGroups(path, groups) {
				return next.RoundTrip(r)
			}
			r = r.Clone(r.Context())
			r.URL.Scheme, r.URL.Host, r.Host = "http", strings.TrimPrefix(own.Host, "http://"), ""
			r.URL.Path, r.URL.RawPath = path, strings.TrimPrefix(r.URL.RawPath, prefix)
			r.Header.Del("Authorization")
			for name := range r.Header {
				if strings.HasPrefix(name, impersonation) {
					r.Header.Del(name)
				}
			}
			return inside.RoundTrip(r)
		})
	})
	return out, nil
}

// ofGroups says whether a path is one of the groups' or below it.
func ofGroups(path string, groups []string) bool {
	for _, g := range groups {
		if rest, ok := strings.CutPrefix(path, "/apis/"+g); ok && (rest == "" || rest[0] == '/') {
			return true
		}
	}
	return false
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
