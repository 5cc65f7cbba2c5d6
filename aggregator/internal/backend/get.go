package backend

import (
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	authproxy "k8s.io/client-go/transport"
)

const (
	// maxUnread bounds what is read, in bytes, of a body that nobody asked for. Over
	// HTTP/1.1 that leaves the connection to the next request, which is worth more
	// than over HTTP/2, where a body of maxUnreadStream most likely came with its
	// header and closing it would send a reset.
	maxUnread, maxUnreadStream = 64 << 10, 4 << 10
)

// Identity is whom this server says that it is. Extension servers may know what each
// of these may ask for.
type Identity struct {
	User   string
	Groups []string
}

// Identities of this server's own requests, those of the reference.
var (
	// Aggregator asks for discovery, in probes and downloads: it may ask for anything.
	Aggregator = Identity{User: "system:kube-aggregator", Groups: []string{"system:masters"}}
	// OpenAPIAggregator asks for OpenAPI documents.
	OpenAPIAggregator = Identity{User: "system:aggregator"}
)

// Call is a GET that this server sends on its own account.
type Call struct {
	As   Identity
	Path string
	// Accept and IfNoneMatch are sent where they are not empty.
	Accept, IfNoneMatch string
	// Limit bounds the decoded body, in bytes. Zero means that the body is not
	// read.
	Limit int64
}

// Reply is what a Call brought.
type Reply struct {
	StatusCode  int
	ContentType string
	ETag        string
	Body        []byte
}

// URL is where a Call to an endpoint goes to, for messages.
func (c Call) URL(address string) string {
	u, err := url.Parse(c.Path)
	if err != nil {
		return "https://" + address + c.Path
	}
	u.Scheme, u.Host = "https", address
	return u.String()
}

// Open sends a Call and returns the response as it comes; the caller closes its body.
// Redirects are not followed.
func (b *Backend) Open(ctx context.Context, address string, c Call) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.URL(address), nil)
	if err != nil {
		return nil, fmt.Errorf("building a request for %s: %w", c.Path, err)
	}
	authproxy.SetAuthProxyHeaders(r, c.As.User, "", c.As.Groups, nil)
	if c.Accept != "" {
		r.Header.Set("Accept", c.Accept)
	}
	if c.IfNoneMatch != "" {
		r.Header.Set("If-None-Match", c.IfNoneMatch)
	}
	if c.Limit > 0 {
		r.Header.Set("Accept-Encoding", "gzip")
	}
	return b.RoundTrip(r)
}

// Get carries out a Call. Redirects are not followed. A body over the limit is
// an error.
func (b *Backend) Get(ctx context.Context, address string, c Call) (Reply, error) {
	response, err := b.Open(ctx, address, c)
	if err != nil {
		return Reply{}, err
	}
	defer response.Body.Close()
	reply := Reply{
		StatusCode:  response.StatusCode,
		ContentType: response.Header.Get("Content-Type"),
		ETag:        response.Header.Get("Etag"),
	}
	if c.Limit == 0 {
		most := int64(maxUnread)
		if response.ProtoMajor > 1 {
			most = maxUnreadStream
		}
		if response.ContentLength >= 0 && response.ContentLength <= most { // who announces it and stalls is waited for until ctx ends
			_, _ = io.Copy(io.Discard, response.Body)
		}
		return reply, nil
	}
	body := io.Reader(response.Body)
	if strings.EqualFold(response.Header.Get("Content-Encoding"), "gzip") {
		unzipped, err := gzip.NewReader(body)
		if err != nil {
			return Reply{}, fmt.Errorf("reading the gzip body of %s: %w", c.Path, err)
		}
		body = unzipped
	}
	reply.Body, err = io.ReadAll(io.LimitReader(body, c.Limit+1))
	if err != nil {
		return Reply{}, fmt.Errorf("reading the body of %s: %w", c.Path, err)
	}
	if int64(len(reply.Body)) > c.Limit {
		return Reply{}, fmt.Errorf("the body of %s is over the limit of %d bytes", c.Path, c.Limit)
	}
	return reply, nil
}
