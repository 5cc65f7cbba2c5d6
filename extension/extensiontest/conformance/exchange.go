package conformance

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"k8s.io/client-go/rest"
)

const (
	// maxAnswer bounds an answer that is read whole; OpenAPI v2 of a big cluster is some 10 MB.
	maxAnswer = 64 << 20
	// shown is how much of a body a report shows.
	shown = 2 << 10
)

// Exchange is one request and its answer, as a report shows it. Bodies are cut after 2 KB. Credentials
// are not recorded.
type Exchange struct {
	Method        string      `json:"method"`
	URL           string      `json:"url"`
	RequestHeader http.Header `json:"requestHeader,omitempty"`
	RequestBody   string      `json:"requestBody,omitempty"`

	Code   int         `json:"code,omitempty"`
	Header http.Header `json:"header,omitempty"`
	Body   string      `json:"body,omitempty"`
	// Error is why there was no answer, or no whole one.
	Error string        `json:"error,omitempty"`
	Took  time.Duration `json:"took"`
}

// String shows both sides over several lines.
func (e *Exchange) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s\n", e.Method, e.URL)
	writeHeader(&b, e.RequestHeader)
	if e.RequestBody != "" {
		b.WriteString(e.RequestBody + "\n")
	}
	b.WriteString("-> ")
	switch {
	case e.Code == 0:
		fmt.Fprintf(&b, "no answer: %s", e.Error)
	default:
		fmt.Fprintf(&b, "%d %s after %s\n", e.Code, http.StatusText(e.Code), e.Took.Round(time.Millisecond))
		writeHeader(&b, e.Header)
		b.WriteString(e.Body)
		if e.Error != "" {
			fmt.Fprintf(&b, "\n%s", e.Error)
		}
	}
	return strings.TrimRight(b.String(), "\n")
}

// told are the headers that a report shows, in this order.
var told = [...]string{
	"Accept", "Content-Type", "If-None-Match", "Etag", "Retry-After", "Warning", "Allow",
	"X-Kubernetes-Pf-Flowschema-Uid", "Audit-Id",
}

func writeHeader(b *strings.Builder, h http.Header) {
	for _, name := range told {
		for _, value := range h.Values(name) {
			fmt.Fprintf(b, "%s: %s\n", name, value)
		}
	}
}

func cut(body []byte) string {
	printable := strings.ToValidUTF8(string(body[:min(len(body), shown)]), "\uFFFD")
	if more := len(body) - shown; more > 0 {
		printable += fmt.Sprintf("... and %d bytes more", more)
	}
	return printable
}

// request is what is sent.
type request struct {
	method string
	path   string
	query  url.Values
	header http.Header
	body   []byte
	// stream, if set, is sent in place of body.
	stream io.Reader
}

// with returns the request with a header set.
func (r request) with(name, value string) request {
	r.header = r.header.Clone()
	if r.header == nil {
		r.header = http.Header{}
	}
	r.header.Set(name, value)
	return r
}

// answer is what came, whole.
type answer struct {
	*Exchange
	raw []byte
}

// client sends requests as one user, and records them.
type client struct {
	base *url.URL
	http *http.Client
}

func newClient(config *rest.Config) (*client, error) {
	config = rest.CopyConfig(config)
	config.Timeout = 0 // each request has its own deadline
	config.UserAgent = "annex-conformance"
	base, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		return nil, fmt.Errorf("read the server's address %q: %w", config.Host, err)
	}
	h, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("make a client for %s: %w", config.Host, err)
	}
	return &client{base: base, http: h}, nil
}

func (c *client) close() { c.http.CloseIdleConnections() }

// open sends a request and returns with the answer's header. The caller closes the body, if there is one.
func (c *client) open(ctx context.Context, r request) (*http.Response, *Exchange, error) {
	u := *c.base
	u.Path = strings.TrimSuffix(u.Path, "/") + r.path
	u.RawQuery = r.query.Encode()
	e := &Exchange{Method: r.method, URL: u.RequestURI(), RequestHeader: r.header.Clone(), RequestBody: cut(r.body)}
	body := r.stream
	if body == nil && r.body != nil {
		body = bytes.NewReader(r.body)
	}
	req, err := http.NewRequestWithContext(ctx, r.method, u.String(), body)
	if err != nil {
		e.Error = err.Error()
		return nil, e, err
	}
	for name, values := range r.header {
		req.Header[name] = values
	}
	begin := time.Now()
	resp, err := c.http.Do(req)
	e.Took = time.Since(begin)
	if err != nil {
		e.Error = err.Error()
		return nil, e, err
	}
	e.Code, e.Header = resp.StatusCode, resp.Header
	return resp, e, nil
}

// do sends a request and reads the whole answer. An error means that there was none.
func (c *client) do(ctx context.Context, r request) (answer, error) {
	begin := time.Now()
	resp, e, err := c.open(ctx, r)
	if err != nil {
		return answer{Exchange: e}, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	e.Took, e.Body = time.Since(begin), cut(raw)
	if err == nil && len(raw) > maxAnswer {
		err = fmt.Errorf("the answer is longer than %d bytes", maxAnswer)
	}
	if err != nil {
		e.Error = "reading the answer: " + err.Error()
	}
	return answer{Exchange: e, raw: raw}, err
}

// recorder appends to an exchange's body while a stream goes on.
type recorder struct {
	mu   sync.Mutex
	e    *Exchange
	size int
}

func (r *recorder) add(text []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if room := shown - len(r.e.Body); room > 0 {
		r.e.Body += strings.ToValidUTF8(string(text[:min(len(text), room)]), "\uFFFD")
	}
	r.size += len(text)
}

// copy is the exchange as it is now.
func (r *recorder) copy() *Exchange {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := *r.e
	if more := r.size - len(e.Body); more > 0 {
		e.Body += fmt.Sprintf("... and %d bytes more", more)
	}
	return &e
}

func (r *recorder) ended(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.e.Error = "the stream broke: " + err.Error()
	}
}
