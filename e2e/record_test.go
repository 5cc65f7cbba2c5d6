package e2e

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"

	"k8s.io/client-go/rest"
)

// exchange is one recorded request with its answer.
type exchange struct {
	method, path, query, contentType string // of the request
	code                             int
	answerType                       string
	body                             *output // of the answer, as far as the client has read it
}

// recorder keeps what a client asks and what it is told.
type recorder struct {
	mu   sync.Mutex
	seen []exchange
}

// wrap returns a copy of config whose requests are recorded.
func (r *recorder) wrap(config *rest.Config) *rest.Config {
	config = rest.CopyConfig(config)
	config.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(req *http.Request) (*http.Response, error) {
			resp, err := next.RoundTrip(req)
			if err != nil {
				return nil, err
			}
			e := exchange{
				req.Method, req.URL.Path, req.URL.RawQuery, req.Header.Get("Content-Type"),
				resp.StatusCode, resp.Header.Get("Content-Type"), newOutput(),
			}
			resp.Body = tee{resp.Body, e.body}
			r.mu.Lock()
			defer r.mu.Unlock()
			r.seen = append(r.seen, e)
			return resp, nil
		})
	})
	return config
}

// below returns what was exchanged on paths that contain part.
func (r *recorder) below(part string) []exchange {
	r.mu.Lock()
	defer r.mu.Unlock()
	var found []exchange
	for _, e := range r.seen {
		if strings.Contains(e.path, part) {
			found = append(found, e)
		}
	}
	return slices.Clone(found)
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

type tee struct {
	io.ReadCloser
	copy io.Writer
}

func (t tee) Read(p []byte) (int, error) {
	n, err := t.ReadCloser.Read(p)
	_, _ = t.copy.Write(p[:n]) // memory takes all
	return n, err
}
