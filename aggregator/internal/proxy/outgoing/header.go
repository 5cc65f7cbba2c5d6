package outgoing

import (
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
)

// hopByHop headers concern one connection only (RFC 9110, section 7.6.1).
var hopByHop = []string{
	"Connection", "Proxy-Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization",
	"Te", "Trailer", "Transfer-Encoding", "Upgrade",
}

// credentials are the client's with this server, not with the extension one.
var credentials = []string{"Authorization", "Cookie"}

// originHeaders of an extension server would speak for all of this server's origin: who
// may read it, which cookies a browser sends it, where else it is, whom to tell of it.
var originHeaders = []string{
	"Access-Control-Allow-Credentials", "Access-Control-Allow-Headers",
	"Access-Control-Allow-Methods", "Access-Control-Allow-Origin",
	"Alt-Svc", "Clear-Site-Data", "Nel", "Report-To", "Reporting-Endpoints",
	"Service-Worker-Allowed", "Set-Cookie", "Set-Cookie2", "Strict-Transport-Security",
}

// Headers that the proxy sets, spelled as HTTP/2 sends them: the transport would spell
// any other way anew for each request. Where HTTP/1.1 is spoken they are written as
// that has it, see backend.Canonical.
const (
	forwardedFor   = "x-forwarded-for"
	forwardedProto = "x-forwarded-proto"
	forwardedURI   = "x-forwarded-uri"
	auditID        = "audit-id"
	remoteUser     = "x-remote-user"
	remoteUID      = "x-remote-uid"
	remoteGroup    = "x-remote-group"
	remoteExtra    = "x-remote-extra-" // and an escaped key
)

// ForwardedHost is the header that names the endpoint. It is set for each attempt.
const ForwardedHost = "x-forwarded-host"

// bearerProtocol carries a token in Sec-WebSocket-Protocol.
const bearerProtocol = "base64url.bearer.authorization.k8s.io."

// stripper knows the headers that a client may not pass to an extension server.
type stripper struct {
	names    map[string]bool
	prefixes []string // lower case
}

func newStripper(names, prefixes []string) stripper {
	s := stripper{names: map[string]bool{}, prefixes: []string{remoteExtra, "impersonate-"}}
	for _, name := range slices.Concat(hopByHop, credentials, []string{"X-Remote-User", "X-Remote-Uid", "X-Remote-Group"}, names) {
		s.names[hyphened(name)] = true
	}
	for _, prefix := range prefixes {
		if prefix != "" {
			s.prefixes = append(s.prefixes, strings.ToLower(hyphened(prefix)))
		}
	}
	return s
}

// hyphened is how servers of the CGI family read a name: they take an underscore for
// a hyphen.
func hyphened(name string) string {
	return textproto.CanonicalMIMEHeaderKey(strings.ReplaceAll(name, "_", "-"))
}

func (s stripper) drops(name string) bool {
	if strings.Contains(name, "_") {
		name = hyphened(name)
	}
	if s.names[name] {
		return true
	}
	for _, prefix := range s.prefixes {
		if len(name) >= len(prefix) && strings.EqualFold(name[:len(prefix)], prefix) {
			return true
		}
	}
	return false
}

// connectionTokens are the headers that a Connection header names.
func connectionTokens(h http.Header) map[string]bool {
	var names map[string]bool
	for _, v := range h["Connection"] {
		for name := range strings.SplitSeq(v, ",") {
			if name = textproto.TrimString(name); name != "" {
				if names == nil {
					names = map[string]bool{}
				}
				names[textproto.CanonicalMIMEHeaderKey(name)] = true
			}
		}
	}
	return names
}

// withoutBearer drops tokens from a list of WebSocket subprotocols.
func withoutBearer(values []string) []string {
	var kept []string
	for _, v := range values {
		for protocol := range strings.SplitSeq(v, ",") {
			if protocol = textproto.TrimString(protocol); protocol != "" && !strings.HasPrefix(strings.ToLower(protocol), bearerProtocol) {
				kept = append(kept, protocol)
			}
		}
	}
	if len(kept) == 0 {
		return nil
	}
	return []string{strings.Join(kept, ", ")}
}

// CleanResponse removes what an extension server may not tell the client.
func CleanResponse(h http.Header) {
	for name := range connectionTokens(h) {
		delete(h, name)
	}
	for _, name := range hopByHop {
		delete(h, name)
	}
	CleanUpgrade(h)
}

// CleanUpgrade removes what an extension server may not tell the client that switches
// protocols with it.
func CleanUpgrade(h http.Header) {
	for _, name := range originHeaders {
		delete(h, name)
	}
}

// CopyHeader adds what dst does not hold already: filters before the proxy set
// some headers that extension servers set too, Audit-Id among them.
func CopyHeader(dst, src http.Header) {
	for name, values := range src {
		have := dst[name]
		if len(have) == 0 {
			dst[name] = values
			continue
		}
		for _, v := range values {
			if !slices.Contains(have, v) {
				dst[name] = append(dst[name], v)
			}
		}
	}
}

// OwnLocation rewrites a Location at the extension server itself to the same
// path here; others are left as they are.
func OwnLocation(location, backendHost string) string {
	u, err := url.Parse(location)
	if err != nil || u.Host != backendHost {
		return location
	}
	u.Scheme, u.Host, u.User = "", "", nil
	return u.String()
}
