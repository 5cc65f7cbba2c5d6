package outgoing

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/annex-api/annex/aggregator/internal/backendtest"
)

// base is the path of an API.
const base = "/apis/a.example/v1"

func TestUnambiguousPaths(t *testing.T) {
	for path, want := range map[string]bool{
		"": true, "/": true, "/a": true, "/a/": true, "/a/b": true, "/a/b/": true,
		"/a..": true, "/..a/b": true, "/a/...": true, "/.a": true, "/a b": true, "/ä": true, "/a?b": true, "/a#b": true, "/a:b@c,d=e+f": true,
		"//": false, "//a": false, "/a//b": false, "/a//": false, "/a/b//": false,
		"/.": false, "/./": false, "/a/.": false, "/a/./b": false,
		"/..": false, "/../": false, "/a/..": false, "/a/../b": false, "/a/b/..": false,
		"/a\xff": false, "\xff": false, "/\xc0\xae": false,
		"/a;b": false, "/;": false, "/..;/a": false, "/a/b;v=1/c": false,
		"/a%2Fb": false, "/a%": false, "/%2e%2e/a": false, `/a\b`: false, `/..\a`: false, "/a\x00": false, "/a\nb": false, "/a\x7f": false,
	} {
		if got := unambiguous(path); got != want {
			t.Errorf("%q: %v, want %v", path, got, want)
		}
	}
}

func TestPathsThatClimb(t *testing.T) {
	for _, path := range []string{
		"", "/", "//", "/a", "/a/", "/a//b", "/a%2Fb", "/a%252Fb", "/.", "/a/.", "/./a", "/a/..", "/a/../b", "/a/b/../../c", "/a/..;/b", "/a%2e%2e", "/..a", "/...",
		"/caf%e9/x", "/%ff", "/a;b=c/d", "/%E4%B8%96", "/a%00b", "/a b", "/a/%2e%2e/b", "/%", "/%zz", "/a/%c0%ae%c0%ae", "/https://host:1/x", "/a?b", "/C:\\x\\y",
	} {
		if climbs(path) {
			t.Errorf("%s climbs", path)
		}
	}
	for _, path := range []string{
		"/..", "/../", "/a/../..", "/a//../..", "/a/./../..", "//..", "/./..", "/%2e%2e", "/.%2E", "/%252e%252e", "/%25252e.", "/..%2fa", "/..%252Fa", "/a%2f..", "/a%2F..%2F..",
		"/..;", "/..;a=b/c", "/..%3Ba", "/..%253b", "/;/..", "/.;/..", `/..\a`, `/a\..\..`, "/..%5ca", "/a/..%5c..", "/%c0%ae%c0%ae", "/%c0%ae./a", "/%e0%80%ae%e0%80%ae",
		"/%f0%80%80%ae.", "/%f8%80%80%80%ae.", "/%fc%80%80%80%80%ae.", "/..%c0%af..", "/..%c1%9ca", "/%25c0%25ae%25c0%25ae", "/%c0%2e%c0%2e", "/.%00.", "/..%00", "/..%20", "/.%0a.", "/.%ff.", "/..%ff",
		"/%%32%65%%32%65", "/\xc0\xae\xc0\xae", "/a/..%2f..%2fb", "/a%2fb/../..",
	} {
		if !climbs(path) {
			t.Errorf("%s stays below", path)
		}
	}
}

// What a client could decode for ever is decoded once over.
func TestNestedEscapesAreDecodedAtOnce(t *testing.T) {
	if got := decodeAll("/%" + strings.Repeat("25", 1<<19) + "2e%2525"); got != "/.%" {
		t.Errorf("%.40q", got)
	}
}

func TestForwarded(t *testing.T) {
	const object = base + "/namespaces/a/things/x"
	for in, want := range map[string]string{
		object:                                           object,
		object + "?a=1":                                  object + "?a=1",
		object + "?":                                     object + "?",
		object + "/status/":                              object + "/status/",
		object + "%2Fstatus":                             object + "/status",
		base + "/n%61mespaces/a/things/%78":              object,
		base + "/things/x%20y?a#b":                       base + "/things/x%20y?a%23b=",
		base + "/things/x#y":                             base + "/things/x%23y",
		object + "/proxy":                                object + "/proxy",
		object + "/proxy/":                               object + "/proxy/",
		object + "/proxy/a//b":                           object + "/proxy/a//b",
		object + "/proxy//a/":                            object + "/proxy//a/",
		object + "/proxy//":                              object + "/proxy//",
		object + "/proxy/a%2Fb":                          object + "/proxy/a%2Fb",
		object + "/proxy/%2F":                            object + "/proxy/%2F",
		object + "/proxy/a%2fb%252Fc":                    object + "/proxy/a%2fb%252Fc",
		object + "/proxy/%61%7E~a;b=c":                   object + "/proxy/%61%7E~a;b=c",
		object + "/proxy/a/../b/./c":                     object + "/proxy/a/../b/./c",
		object + "/proxy/a/%2e%2e/b":                     object + "/proxy/a/%2e%2e/b",
		object + "/proxy/%ff%C0/caf%e9":                  object + "/proxy/%ff%C0/caf%e9",
		object + "/proxy/\"<>[]^`{|}'":                   object + "/proxy/\"<>[]^`{|}'",
		object + "/proxy/a#b":                            object + "/proxy/a%23b",
		object + "/proxy/a\xe4":                          object + "/proxy/a\xe4",
		object + "/proxy/a?b;c=%zz&d=\"#e?f&b":           object + "/proxy/a?b;c=%zz&d=\"%23e?f&b",
		object + "/proxy?b;c=%zz&d=\"#e?f&b":             object + "/proxy?b;c=%zz&d=\"%23e?f&b",
		object + "/proxy?q=50%&a=%FF":                    object + "/proxy?q=50%&a=%FF",
		object + "/status?b=1;&a":                        object + "/status?b=1;&a",
		object + "?b=1;&a":                               object + "?a=",
		object + "/proxy/a?":                             object + "/proxy/a?",
		object + "/anything/a//b":                        object + "/anything/a//b",
		base + "/things/%78/%70roxy/a//b":                base + "/things/x/proxy/a//b",
		base + "/proxy/things/x/a//b":                    base + "/proxy/things/x/a//b",
		base + "/proxy/namespaces/a/things/x//b":         base + "/proxy/namespaces/a/things/x//b",
		base + "/watch/things/x/status/a//b":             base + "/watch/things/x/status/a//b",
		base + "/namespaces/a/status/b//c":               base + "/namespaces/a/status/b//c",
		"https://any.example" + object + "/proxy/a//b?c": object + "/proxy/a//b?c",
		base + "/":                                       base + "/",
		// Refused.
		base + "/things//proxy/a":                  "",
		base + "/proxy/things//a":                  "",
		object + "//a":                             "",
		base + "//things/x/proxy/a":                "",
		object + "%2Fproxy/a":                      "",
		object + "/proxy%2Fa":                      "",
		object + "/proxy%2F":                       "",
		base + "/things%2Fx/proxy/a/b":             "",
		object + "%252F/proxy/a":                   "",
		object + ";a/proxy/b":                      "",
		object + "/proxy;a/b":                      "",
		object + "/..;/b":                          "",
		object + "/proxy/..":                       "",
		object + "/proxy/../../y":                  "",
		object + "/proxy/a/../../../y":             "",
		object + "/proxy/..%2f..%2fy":              "",
		object + "/proxy/%2e%2e/y":                 "",
		object + "/proxy/..;/y":                    "",
		object + "/proxy/%c0%ae%c0%ae%c0%afy":      "",
		object + "/pro%c0%aexy/y":                  "",
		base + "//":                                "",
		"/apis/a.example/v1%2Fthings/x/proxy/a//b": "",
	} {
		u, err := url.ParseRequestURI(in)
		if err != nil {
			t.Fatal(err)
		}
		r := backendtest.WithInfo(t, &http.Request{Method: http.MethodGet, URL: u, RequestURI: in})
		to, refusal := forwarded(r)
		if got := to.RequestURI(); refusal == nil && got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		} else if (refusal != nil) != (want == "") {
			t.Errorf("%q: refused %v", in, refusal)
		}
	}
}

// A handler may change the path before the proxy gets the request: that path counts,
// and not what the client wrote.
func TestPathsChangedByHandlers(t *testing.T) {
	const own = base + "/things/x/proxy/a%2Fb"
	u, err := url.Parse(own)
	if err != nil {
		t.Fatal(err)
	}
	r := backendtest.WithInfo(t, &http.Request{Method: http.MethodGet, URL: u, RequestURI: "/prefix" + own})
	if to, refusal := forwarded(r); refusal != nil || to.RequestURI() != own {
		t.Errorf("%q, %v", to.RequestURI(), refusal)
	}
	// What was found out about another path does not count.
	u.Path, u.RawPath = base+"/things/y//b", ""
	if to, refusal := forwarded(r); refusal != unclearPath {
		t.Errorf("%q, %v", to.RequestURI(), refusal)
	}
}
