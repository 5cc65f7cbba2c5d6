package kubeapiserver_test

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/endpoints/request"

	test "github.com/annex-api/annex/kubeapiserver/kubeapiservertest"
)

// readPath is how an extension server reads a request URI.
func readPath(t *testing.T, uri string) *request.RequestInfo {
	t.Helper()
	u, err := url.ParseRequestURI(uri)
	if err != nil {
		t.Fatalf("the backend got the URI %q: %v", uri, err)
	}
	factory := request.RequestInfoFactory{APIPrefixes: sets.NewString("api", "apis"), GrouplessAPIPrefixes: sets.NewString("api")}
	info, err := factory.NewRequestInfo(&http.Request{Method: http.MethodGet, URL: u})
	if err != nil {
		t.Fatalf("reading %q: %v", uri, err)
	}
	return info
}

// Threat path disagreement: the authorizer allows one path and the backend
// serves another.
func TestAttackPathsReadInTwoWays(t *testing.T) {
	const group = "paths.attack"
	e := server.Register(t, "paths", gv(group, "v1"))
	base := "/apis/" + group + "/v1"
	for _, suffix := range []string{
		"/namespaces/a/things", "/namespaces/a/things/x", "/things/x", // these pass
		"/namespaces/a%2Fb/things/x", "/namespaces/a%2fthings", "/namespaces%2Fa%2Fthings", "%2Fnamespaces/a/things",
		"/namespaces/a/things/..%2F..%2Fb%2Fthings", "/namespaces/a/things/%2e%2e/x", "/namespaces/a/things/%2E%2E%2Fx",
		"/namespaces/a/../b/things", "/namespaces/a/./things", "/namespaces/a/things/..", "/namespaces/a/things/.", "/../v1/things",
		"/../../paths.attack/v1/things", "/../../../api/v1/secrets",
		"//things", "/namespaces//things", "/namespaces/a//things", "/namespaces/a/things//x", "//", "/%2F/things", "/namespaces/a/things//",
		"/namespaces/a;b/things", "/namespaces/a/things/..;/x", "/namespaces/a/..;/b/things", "/namespaces/a/things;v=1/x", "/things/x;/y", "/namespaces/a/things/x%3By", "/namespaces/a/things/x;a=..",
		"/namespaces/a/things/x%252Fy", "/namespaces/a/things/x%5C..%5Cy", `/namespaces/a/things/x\..\y`, "/namespaces/a/things/x%00y",
		"/namespaces/a/things/x%3Fwatch=1", "/namespaces/a/things/x%23y", "/namespaces/a/things/%20", "/namespaces/a/things/x%0d%0aX-Remote-User:%20root",
		"/namespaces/a/things/", "/namespaces/%61/things", "/n%61mespaces/a/things", "/namespaces/a/things/x/status", "/namespaces/ä/things",
		"/namespaces/a/things/%C3%A4", "/namespaces/a/things/%ff", "/namespaces/a/%c0%ae%c0%ae/b", "/namespaces/a/things/%252e%252e", "/things/+", "/things/a%2Bb",
	} {
		for way, header := range ways {
			t.Run(way+" "+suffix, func(t *testing.T) {
				asked.take()
				before := len(e.Requests(""))
				c := server.Dial(t, "http/1.1")
				c.Send(t, "GET "+base+suffix+" HTTP/1.1", append(header[:len(header):len(header)], "Authorization: Bearer "+test.Carol)...)
				a := c.Receive(t)
				got := e.Requests("")[before:]
				reviews := asked.take()
				if len(got) == 0 {
					if a.Code < 300 || a.Code == http.StatusServiceUnavailable {
						t.Errorf("the client got %d %s though the backend got nothing", a.Code, a.Body)
					}
					if !strings.ContainsAny(suffix, "%/.;\\") || suffix == "/things/x" {
						t.Errorf("an ordinary path is refused: %d %s", a.Code, a.Body)
					}
					return
				}
				if len(got) != 1 || len(reviews) != 1 {
					t.Fatalf("the backend saw %d requests, the authorizer %d", len(got), len(reviews))
				}
				if e := disagreement(t, got[0].URI, reviews[0]); e != "" {
					t.Error(e)
				}
				if cleaned := path.Clean(got[0].Path); cleaned != strings.TrimSuffix(got[0].Path, "/") {
					t.Errorf("the backend got %q, which servers that clean paths read as %q", got[0].Path, cleaned)
				}
				if !strings.HasPrefix(got[0].Path, base+"/") {
					t.Errorf("the backend got %q, which is not its own", got[0].Path)
				}
			})
		}
	}
}

// disagreement compares what the authorizer was asked with what the backend
// reads from its request.
func disagreement(t *testing.T, uri string, review authorizationv1.SubjectAccessReviewSpec) string {
	t.Helper()
	info := readPath(t, uri)
	if r := review.ResourceAttributes; r != nil {
		authorized := []string{r.Verb, r.Group, r.Version, r.Namespace, r.Resource, r.Subresource, r.Name}
		read := []string{info.Verb, info.APIGroup, info.APIVersion, info.Namespace, info.Resource, info.Subresource, info.Name}
		if !info.IsResourceRequest || fmt.Sprintf("%q", authorized) != fmt.Sprintf("%q", read) {
			return fmt.Sprintf("the authorizer allowed %q, the backend reads %q from %q", authorized, read, uri)
		}
		return ""
	}
	if info.IsResourceRequest || info.Path != review.NonResourceAttributes.Path {
		return fmt.Sprintf("the authorizer allowed the path %q, the backend reads %q from %q", review.NonResourceAttributes.Path, info.Path, uri)
	}
	return ""
}

// Queries that parsers read in two ways carry no second meaning to the backend.
func TestAttackQueriesReadInTwoWays(t *testing.T) {
	const group = "queries.attack"
	e := server.Register(t, "queries", gv(group, "v1"))
	for query, want := range map[string]string{
		"a=1&b=2":                              "a=1&b=2",
		"a=1;b=2&c=3":                          "c=3",
		"limit=5;watch=1":                      "",
		"a=%zz&b=2":                            "b=2",
		"a=%&b=2":                              "b=2",
		"a=1%3Bb&c=%26":                        "a=1%3Bb&c=%26",
		"#&fieldSelector=metadata.name%3Dmine": "%23=&fieldSelector=metadata.name%3Dmine",
		"fieldSelector=metadata.name%3Dmine&fieldSelector=":  "fieldSelector=metadata.name%3Dmine",
		"?fieldSelector=&fieldSelector=metadata.name%3Dmine": "%3FfieldSelector=&fieldSelector=metadata.name%3Dmine",
	} {
		t.Run(query, func(t *testing.T) {
			before := len(e.Requests(""))
			c := server.Dial(t, "http/1.1")
			c.Send(t, "GET /apis/"+group+"/v1/things?"+query+" HTTP/1.1", "Authorization: Bearer "+test.Admin)
			c.Receive(t)
			got := e.Requests("")[before:]
			if len(got) != 1 {
				t.Fatalf("the backend saw %d requests", len(got))
			}
			if _, q, _ := strings.Cut(got[0].URI, "?"); q != want {
				t.Errorf("the backend got the query %q, want %q", q, want)
			}
		})
	}
}

// authentications is how many requests the server has authenticated so far,
// those of anonymous clients included.
func authentications(t *testing.T) int {
	t.Helper()
	total, found := 0.0, false
	for line := range strings.Lines(server.Get(t, test.Admin, "/metrics").Body) {
		if strings.HasPrefix(line, "authentication_attempts{") {
			value, err := strconv.ParseFloat(strings.TrimSpace(line[strings.LastIndex(line, " ")+1:]), 64)
			if err != nil {
				t.Fatalf("reading %q: %v", line, err)
			}
			total, found = total+value, true
		}
	}
	if !found {
		t.Fatal("the metric authentication_attempts is gone")
	}
	return int(total)
}

// Threat CVE-2023-44487: a client without credentials opens and resets streams
// as fast as it can; each costs the server more than the client.
func TestAttackRapidResetByAnonymousClient(t *testing.T) {
	const group = "reset.attack"
	e := server.Register(t, "reset", gv(group, "v1"))
	for _, reset := range []bool{true, false} {
		t.Run(fmt.Sprintf("reset=%v", reset), func(t *testing.T) {
			before := authentications(t)
			c := server.Dial(t, "h2")
			if _, err := io.WriteString(c, http2.ClientPreface); err != nil {
				t.Fatal(err)
			}
			framer := http2.NewFramer(c.Conn, c)
			if err := framer.WriteSettings(); err != nil {
				t.Fatal(err)
			}
			type end struct {
				goAway *http2.GoAwayFrame
				err    error
			}
			closed := make(chan end, 1)
			go func() {
				var e end
				for e.err == nil {
					var frame http2.Frame
					if frame, e.err = framer.ReadFrame(); e.err != nil {
						break
					}
					if f, ok := frame.(*http2.GoAwayFrame); ok {
						e.goAway = f
					}
				}
				closed <- e
			}()
			// As fast as the connection takes it, until it is closed.
			opened := 0
			for ; opened < 1<<30; opened++ {
				var block strings.Builder
				encoder := hpack.NewEncoder(&block)
				for _, f := range [][2]string{
					{":method", "GET"}, {":scheme", "https"}, {":authority", server.Address}, {":path", "/apis/" + group + "/v1/things"},
				} {
					if err := encoder.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}); err != nil {
						t.Fatal(err)
					}
				}
				id := uint32(2*opened + 1)
				if framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: []byte(block.String()), EndStream: true, EndHeaders: true}) != nil {
					break
				}
				if !reset {
					break // one request is enough to be sent away
				}
				if framer.WriteRSTStream(id, http2.ErrCodeCancel) != nil {
					break
				}
			}
			select {
			case got := <-closed:
				if timeout, ok := got.err.(interface{ Timeout() bool }); ok && timeout.Timeout() {
					t.Errorf("the server kept the connection for %d streams: %v", opened, got.err)
				}
				if got.goAway == nil {
					t.Fatalf("the server closed the connection without GOAWAY: %v", got.err)
				}
				// How soon the first answer sends the connection away is up to the
				// scheduler; what comes after that is dropped unread.
				accepted := int(got.goAway.LastStreamID+1) / 2
				if reset && accepted >= opened || !reset && accepted != 1 {
					t.Errorf("of %d streams the server accepted %d", opened, accepted)
				}
				const others = 100 // requests of the server to itself, at most
				if handled := authentications(t) - before; handled < 1 || handled > accepted+others {
					t.Errorf("of %d streams the server accepted %d and handled %d", opened, accepted, handled)
				}
			case <-time.After(test.Deadline):
				t.Errorf("after %d streams the connection is still open", opened)
			}
		})
	}
	if got := e.Requests("/"); len(got) != 0 {
		t.Errorf("the backend saw %d requests", len(got))
	}
	if a := server.Get(t, test.Admin, "/apis/"+group+"/v1/things"); a.Code != http.StatusOK {
		t.Errorf("afterwards: %d %s", a.Code, a.Body)
	}
}
