package handlerchain

import (
	"net/http"
	"strings"

	genericapiserver "k8s.io/apiserver/pkg/server"
)

const (
	api     = "/apis/g.example.com/v1"
	widgets = api + "/namespaces/ns/widgets"
	widget  = widgets + "/w"
)

// calls are sent to both chains in both protocols.
var calls = [][]call{methods, credentials, impersonated, decisions, handlers, deadlines, departures, longRunning, oversized}

// untraced requests carry the client's trace in their header, which the proxy
// passes on, but without a tracer not in their context too.
func untraced(c *genericapiserver.Config, o *observation) {
	if Traced(c.TracerProvider) {
		return
	}
	for i := range o.Seen {
		o.Seen[i].Span = false
	}
}

// methods: what the path, the method and the query make of a request.
var methods = []call{
	{name: "get", target: widget, as: "alice", core: true},
	{name: "get thrice on one connection", target: widget, as: "alice", times: 3, core: true},
	{name: "head", method: "HEAD", target: widget, as: "alice"},
	{name: "list", target: widgets, as: "alice", core: true},
	{name: "list with selectors", target: widgets + "?labelSelector=a%3Db&fieldSelector=metadata.name%3Dw", as: "alice"},
	{name: "list with bad selectors", target: widgets + "?labelSelector=,,=&fieldSelector=!!", as: "alice"},
	{name: "list with a bad query", target: widgets + "?labelSelector=%zz&limit=;x", as: "alice"},
	{name: "post", method: "POST", target: widgets, body: `{"a":1}`, as: "alice", core: true},
	{name: "put", method: "PUT", target: widget, body: `{"a":1}`, as: "alice"},
	{name: "patch", method: "PATCH", target: widget, body: `{}`, as: "alice", header: with("Content-Type", "application/merge-patch+json")},
	{name: "delete", method: "DELETE", target: widget, as: "alice"},
	{name: "deletecollection", method: "DELETE", target: widgets, as: "alice"},
	{name: "options", method: "OPTIONS", target: widgets, as: "alice"},
	{name: "odd method", method: "BREW", target: widget, as: "alice"},
	{name: "subresource", target: widget + "/status", as: "alice"},
	{name: "cluster-scoped", target: api + "/namespaces/ns", as: "alice"},
	{name: "group version", target: api, as: "alice", core: true},
	{name: "group", target: "/apis/g.example.com", as: "alice"},
	{name: "root", target: "/", as: "alice"},
	{name: "old api", target: "/api/v1/namespaces/ns/pods/p", as: "alice"},
	{name: "other path", target: "/elsewhere//x/../y", as: "alice"},
	{name: "escaped path", target: widgets + "/a%2Fb%20c", as: "alice"},
	{name: "deprecated watch path", target: api + "/watch/namespaces/ns/widgets", as: "alice"},
	{name: "protobuf is asked for", target: api + "/namespaces/ns/forbidden/x", as: "alice", header: with("Accept", "application/vnd.kubernetes.protobuf")},
	{name: "something unknown is asked for", target: api + "/namespaces/ns/forbidden/x", as: "alice", header: with("Accept", "image/png")},
	{name: "preflight", method: "OPTIONS", target: widgets, header: with("Origin", "https://ui.example.com", "Access-Control-Request-Method", "GET"), core: true},
	{name: "origin", target: widgets, as: "alice", header: with("Origin", "https://ui.example.com"), core: true},
	{name: "foreign origin", target: widgets, as: "alice", header: with("Origin", "https://evil.example.org")},
	{name: "preflight of a foreign origin", method: "OPTIONS", target: widgets, header: with("Origin", "https://evil.example.org")},
	{name: "audit ID of the client", target: widget, as: "alice", header: with("Audit-ID", "mine-1"), core: true},
	{name: "long audit ID", target: widget, as: "alice", header: with("Audit-ID", strings.Repeat("i", 200))},
	{name: "traced by the client, told only in the header", differs: untraced, target: widget, as: "admin", core: true, header: with(
		"Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "Baggage", "k=v")},
	{name: "traced by a stranger, told only in the header", differs: untraced, target: widget, as: "alice", header: with(
		"Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")},
	{name: "traced, not sampled, told only in the header", differs: untraced, target: widget, as: "admin", header: with(
		"Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00")},
	{name: "health", target: "/healthz/ping", core: true},
	{name: "from an API server", target: widget, as: "alice", header: with("User-Agent", "kube-apiserver/v1.37.2")},
	{name: "no user agent", target: widget, as: "alice", header: with("User-Agent", "")},
}

// credentials: every authenticator, alone and beside others.
var credentials = []call{
	{name: "anonymous", target: widget, core: true},
	{name: "anonymous twice", target: widget, times: 2},
	{name: "anonymous denied", target: api + "/namespaces/ns/gadgets", core: true},
	{name: "admin", target: api + "/namespaces/ns/forbidden/x", as: "admin"},
	{name: "expired certificate", target: widget, as: "expired", core: true},
	{name: "certificate of a stranger", target: widget, as: "stranger"},
	{name: "token", target: widget, header: bearer("token-of-bob"), core: true},
	{name: "token twice", target: widget, header: bearer("token-of-bob"), times: 2},
	{name: "bad token", target: widget, header: bearer("wrong"), core: true},
	{name: "bad token thrice", target: widget, header: bearer("wrong"), times: 3},
	{name: "empty token", target: widget, header: bearer("")},
	{name: "basic", target: widget, header: with("Authorization", "Basic YTpi")},
	{name: "token and certificate", target: widget, as: "alice", header: bearer("token-of-bob")},
	{name: "bad token and certificate", target: widget, as: "alice", header: bearer("wrong"), times: 2},
	{name: "token and expired certificate", target: widget, as: "expired", header: bearer("token-of-bob")},
	{name: "two authorization headers", target: widget, header: http.Header{"Authorization": {"Bearer wrong", "Bearer token-of-bob"}}},
	{name: "token as a websocket protocol", target: widget, header: with(
		"Connection", "Upgrade", "Upgrade", "websocket",
		"Sec-WebSocket-Protocol", "base64url.bearer.authorization.k8s.io.dG9rZW4tb2YtYm9i, v4.channel.k8s.io"), only: "http/1.1"},
	{name: "front proxy", target: widget, as: "proxy", core: true, header: with(
		"X-Remote-User", "dora", "X-Remote-Group", "g1", "X-Remote-Group", "g2", "X-Remote-Uid", "u", "X-Remote-Extra-Color", "blue")},
	{name: "front proxy with other headers", target: widget, as: "proxy", header: with(
		"X-Custom-User", "dora", "X-Custom-Group", "g1", "X-Custom-Extra-Color", "blue")},
	{name: "front proxy without headers", target: widget, as: "proxy"},
	{name: "front proxy first with, then for another", target: widget, as: "proxy", times: 2, header: with("X-Remote-User", "dora")},
	{name: "front proxy of another name", target: widget, as: "not-proxy", header: with("X-Remote-User", "dora")},
	{name: "headers of a proxy without its certificate", target: widget, header: with("X-Remote-User", "admin", "X-Remote-Group", "system:masters")},
	{name: "headers of a proxy beside a client's certificate", target: widget, as: "alice", times: 2, header: with(
		"X-Remote-User", "admin", "X-Remote-Group", "system:masters", "X-Remote-Extra-Color", "red", "X-Custom-User", "x")},
}

// impersonated: users that act as others.
var impersonated = []call{
	{name: "impersonation", target: widget, core: true, header: bearer("token-of-bob", "Impersonate-User", "carol")},
	{name: "impersonation of everything", target: widget, header: bearer("token-of-bob", "Impersonate-User", "carol",
		"Impersonate-Group", "team", "Impersonate-Uid", "uid-carol", "Impersonate-Extra-Color", "blue")},
	{name: "impersonation of a service account", target: widget, header: bearer("token-of-bob", "Impersonate-User", "system:serviceaccount:ns:robot")},
	{name: "impersonation of the anonymous", target: widget, header: bearer("token-of-bob", "Impersonate-User", "system:anonymous")},
	{name: "impersonation denied", target: widget, core: true, header: bearer("token-of-bob", "Impersonate-User", "admin")},
	{name: "impersonation of a group denied", target: widget, header: bearer("token-of-bob", "Impersonate-User", "carol", "Impersonate-Group", "system:masters")},
	{name: "impersonation of an extra denied", target: widget, header: bearer("token-of-bob", "Impersonate-User", "carol", "Impersonate-Extra-Color", "red")},
	{name: "impersonation without a user", target: widget, header: bearer("token-of-bob", "Impersonate-Group", "team")},
	{name: "constrained impersonation", target: widget, as: "alice", times: 2, header: with("Impersonate-User", "carol")},
	{name: "constrained impersonation elsewhere", target: api + "/namespaces/ns/gadgets", as: "alice", header: with("Impersonate-User", "carol")},
	{name: "impersonation by the admin", target: widget, as: "admin", header: with("Impersonate-User", "zoe", "Impersonate-Group", "team", "Impersonate-Extra-A%2fB", "c")},
	{name: "impersonation by the anonymous", target: widget, header: with("Impersonate-User", "carol")},
	{name: "impersonation into what is forbidden", target: api + "/namespaces/ns/forbidden/x", as: "admin", header: with("Impersonate-User", "zoe")},
}

// decisions: what authorizer and audit policy say.
var decisions = []call{
	{name: "denied", target: api + "/namespaces/ns/forbidden/x", as: "alice", core: true},
	{name: "denied list", target: api + "/forbidden", as: "alice"},
	{name: "denied write", method: "POST", target: api + "/namespaces/ns/forbidden", body: "{}", as: "alice"},
	{name: "denied path", target: "/elsewhere"},
	{name: "no opinion", target: api + "/namespaces/ns/unknown/x", as: "alice"},
	{name: "authorizer fails", target: api + "/namespaces/ns/broken/x", as: "alice", core: true},
	{name: "authorizer half fails", target: api + "/namespaces/ns/bothered/x", as: "alice"},
	{name: "audited not at all", target: api + "/namespaces/ns/unaudited/x", as: "alice", core: true},
	{name: "audited not at all, denied", target: api + "/namespaces/ns/unaudited/x"},
	{name: "audited with request", method: "POST", target: api + "/namespaces/ns/secrets", body: `{"a":"b"}`, as: "alice", core: true},
	{name: "audited with request and response", method: "PUT", target: api + "/namespaces/ns/configs/c", body: `{"a":"b"}`, as: "alice", core: true},
	{name: "audited without stages", target: api + "/namespaces/ns/short/x", as: "alice"},
	{name: "watch audited without stages", target: api + "/namespaces/ns/short?watch=1", as: "alice"},
	{name: "bad token, not audited", target: api + "/namespaces/ns/unaudited/x", header: bearer("wrong")},
	{name: "bad token, audited without stages", target: api + "/namespaces/ns/short/x", header: bearer("wrong")},
	{name: "bad timeout, not audited", target: api + "/namespaces/ns/unaudited/x?timeout=x", as: "alice"},
	{name: "bad timeout, audited without stages", target: api + "/namespaces/ns/short/x?timeout=x", as: "alice"},
}

// oversized: bodies and headers beyond the usual.
var oversized = []call{
	{name: "large body", method: "POST", target: widgets, body: strings.Repeat("b", 2<<20), as: "alice"},
	{name: "large body that nobody reads", method: "POST", target: widgets, body: strings.Repeat("b", 100<<10), as: "alice", header: with("X-Do", "status:413 end")},
	{name: "large body, denied", method: "POST", target: api + "/namespaces/ns/forbidden", body: strings.Repeat("b", 100<<10), as: "alice"},
	{name: "large answer", target: widgets, as: "alice", header: with("X-Do", "body:3000000 end"), core: true},
	{name: "large header", target: widget, as: "alice", header: with("X-Large", strings.Repeat("h", 100<<10))},
	{name: "large user agent", target: widget, as: "alice", header: with("User-Agent", strings.Repeat("u", 2000))},
	{name: "large warnings", target: widget, as: "alice", header: with("X-Do", "warnings")},
}
