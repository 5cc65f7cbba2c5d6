package proxy

import (
	"net/http"
	"strings"

	"golang.org/x/net/http/httpguts"
	"k8s.io/apiserver/pkg/endpoints/request"

	"github.com/annex-api/annex/aggregator/internal/catalog"
	"github.com/annex-api/annex/aggregator/internal/proxy/traffic"
)

// kind is what it depends on how a request is sent, sent again and answered.
type kind struct {
	// upgrade is true where the client asks for another protocol. protocol is that
	// one, if it is one of the two that are supported, and empty otherwise.
	upgrade  bool
	protocol string
	// longRunning requests last as long as their client wants.
	longRunning bool
	// watch is true for long-running requests whose answer is a list of events each
	// of which is whole, and that the client continues elsewhere.
	watch bool
	// discovery requests are for /apis/<group>/<version> and the like.
	discovery bool
	// plainRead requests are known to read and to do nothing else: they may be sent
	// twice. A GET is none by itself, see catalog.Document.Reads.
	plainRead bool
	// verb is what the request is counted as.
	verb traffic.Verb
}

// classify says what kind of request r is, by what is known of the APIService.
func classify(r *http.Request, a *catalog.APIService) kind {
	var k kind
	reads := r.Method == http.MethodGet || r.Method == http.MethodHead
	if r.ProtoAtLeast(1, 1) { // HTTP/1.0 has no upgrades (RFC 9110, section 7.8)
		k.protocol, k.upgrade = upgradeProtocol(r.Header)
	}
	if info, ok := request.RequestInfoFrom(r.Context()); ok {
		if info.IsResourceRequest {
			k.watch = info.Verb == "watch"
			k.longRunning = k.watch || info.Verb == "proxy" || streams(info.Subresource)
			k.plainRead = reads && len(info.Parts) <= 3 && a.Document.Reads(info.Resource, info.Subresource, info.Verb)
			k.verb = k.counted(traffic.VerbOf(info.Verb))
			return k
		}
		k.discovery = strings.Count(strings.Trim(info.Path, "/"), "/") == 2
		k.plainRead = reads && strings.TrimSuffix(info.Path, "/") == a.DiscoveryPath()
	}
	watch := r.URL.Query().Get("watch")
	k.watch = r.Method == http.MethodGet && (watch == "true" || watch == "1")
	k.longRunning = k.watch
	k.verb = k.counted(traffic.Other)
	return k
}

// counted is the class that a request is counted in. Whatever its verb, one that lasts as
// long as its client wants is none of those whose time is counted.
func (k kind) counted(verb traffic.Verb) traffic.Verb {
	switch {
	case k.upgrade, k.longRunning && !k.watch:
		return traffic.Connect
	case k.watch:
		return traffic.Watch
	}
	return verb
}

// streams says whether a subresource is one that is read or written for as long as
// the client wants.
func streams(subresource string) bool {
	switch subresource {
	case "attach", "exec", "proxy", "log", "portforward":
		return true
	}
	return false
}

// upgradeProtocol says whether a request asks for another protocol, and which
// of the two that are supported it is; empty for any other. One that names no
// protocol asks for none: some proxies always send Connection: upgrade.
func upgradeProtocol(h http.Header) (protocol string, upgrade bool) {
	if !httpguts.HeaderValuesContainsToken(h["Connection"], "Upgrade") {
		return "", false
	}
	switch v := strings.Join(h["Upgrade"], ","); {
	case strings.Trim(v, ", \t") == "":
		return "", false
	case strings.EqualFold(v, "websocket"):
		return "websocket", true
	case strings.EqualFold(v, "SPDY/3.1"):
		return "SPDY/3.1", true
	}
	return "", true
}
