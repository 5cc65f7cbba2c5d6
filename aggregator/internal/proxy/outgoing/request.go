// Package outgoing makes the request that an extension server gets out of a client's,
// and takes out of the answer what such a server may not tell.
//
// A request arrives at an extension server as the one that was authorized, or not at
// all: Check refuses a path or query that could be read in two ways, and a user who
// cannot be named in a header. Request then leaves out what its client may not say, and
// adds the identity that this server vouches for.
package outgoing

import (
	"context"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"k8s.io/apiserver/pkg/audit"
	"k8s.io/apiserver/pkg/authentication/user"

	"github.com/annex-api/annex/aggregator/internal/backend"
	"github.com/annex-api/annex/aggregator/internal/respond"
)

// identityAnnotation of an audit event says which part of its user's identity an
// extension server cannot be told, and why.
const identityAnnotation = "aggregation.annex.dev/identity-refused"

// Config of a Builder.
type Config struct {
	// IdentityHeaders and IdentityPrefixes are names, besides X-Remote-*, that
	// extension servers take an identity from; clients may not send them.
	IdentityHeaders, IdentityPrefixes []string
	// SendUID passes the user's UID on.
	SendUID bool
}

// Builder makes requests for extension servers. It is safe for concurrent use.
type Builder struct {
	strip    stripper
	identity identity
}

// New returns a Builder.
func New(config Config) *Builder {
	return &Builder{
		strip:    newStripper(config.IdentityHeaders, config.IdentityPrefixes),
		identity: identity{sendUID: config.SendUID},
	}
}

// Refusal is why a request is not sent to an extension server.
type Refusal struct {
	Reason  respond.Reason
	Message string // empty for the reason's own
}

// Check returns what of a request's URL goes to an extension server, without a host, or
// why the request must not. A user who cannot be named is noted in the audit event.
func (b *Builder) Check(r *http.Request, u user.Info) (url.URL, *Refusal) {
	if part := b.identity.check(u); part != nil {
		audit.AddAuditAnnotation(r.Context(), identityAnnotation, part.String())
		return url.URL{}, &Refusal{
			respond.IdentityRefused,
			"the identity of this request cannot be passed to an extension server as it is: the " + part.String(),
		}
	}
	return forwarded(r)
}

// Request builds the request for the extension server: the client's, without
// what it may not say, with the identity that this server vouches for.
// protocol is empty but for upgrades. to is where it goes, as Check returned it; the
// host and the context are set for each attempt.
func (b *Builder) Request(ctx context.Context, r *http.Request, to url.URL, u user.Info, protocol string) *http.Request {
	header := make(http.Header, len(r.Header)+8)
	listed := connectionTokens(r.Header)
	for name, values := range r.Header {
		if !b.strip.drops(name) && !listed[name] {
			header[name] = values[:len(values):len(values)]
		}
	}
	if values := header["Sec-Websocket-Protocol"]; len(values) > 0 {
		if kept := withoutBearer(values); len(kept) > 0 {
			header["Sec-Websocket-Protocol"] = kept
		} else {
			delete(header, "Sec-Websocket-Protocol")
		}
	}
	if slices.ContainsFunc(r.Header["Te"], func(v string) bool { return strings.Contains(v, "trailers") }) {
		header.Set("Te", "trailers")
	}
	if _, ok := header["User-Agent"]; !ok {
		header["User-Agent"] = []string{""} // none, instead of Go's own
	}
	values := make([]string, 0, 4) // of the headers below
	set := func(name, value string) {
		values = append(values, value)
		header[name] = values[len(values)-1 : len(values) : len(values)]
	}
	if client, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		if prior := header["X-Forwarded-For"]; len(prior) > 0 {
			client = strings.Join(prior, ", ") + ", " + client
			delete(header, "X-Forwarded-For")
		}
		set(forwardedFor, client)
	}
	for _, name := range []string{"X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Uri"} {
		delete(header, name)
	}
	if protocol != "" {
		header["Connection"] = []string{"Upgrade"}
		header["Upgrade"] = []string{protocol}
	} else {
		set(forwardedProto, "https")
		set(forwardedURI, escapedPath(&to))
	}
	if id, ok := audit.AuditIDFrom(ctx); ok {
		delete(header, "Audit-Id")
		set(auditID, string(id))
	}
	b.identity.set(header, u)
	if protocol != "" { // upgrades are HTTP/1.1
		header = backend.Canonical(header)
	}
	return &http.Request{
		Method:        r.Method,
		URL:           &to,
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
		Header:        header,
		ContentLength: r.ContentLength,
	}
}
