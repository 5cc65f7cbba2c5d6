package kubeapiserver_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	test "github.com/annex-api/annex/kubeapiserver/kubeapiservertest"
)

// overHTTP2 sends a request with that path and query, as they are written.
func overHTTP2(t *testing.T, token, uri string, header http.Header) test.Answer {
	t.Helper()
	path, query, _ := strings.Cut(uri, "?")
	r := (&http.Request{
		Method: http.MethodGet, Header: header, Host: server.Address,
		URL: &url.URL{Scheme: "https", Host: server.Address, Opaque: path, RawQuery: query},
	}).WithContext(t.Context())
	client := server.Client(token)
	defer client.CloseIdleConnections()
	response, err := client.Do(r)
	if err != nil {
		t.Fatalf("%s: %v", uri, err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.ProtoMajor != 2 {
		t.Fatalf("%s: %s, %v", uri, response.Proto, err)
	}
	return test.Answer{Code: response.StatusCode, Header: response.Header, Body: string(body)}
}

// Threat path disagreement, where the authorizer reads a part only: what is below a
// subresource passes all filters as it was sent, and does not lead out of it.
func TestAttackPathsBelowASubresource(t *testing.T) {
	const group = "below.attack"
	e := server.Register(t, "below", gv(group, "v1"))
	e.Handle("*", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
	const object = "/apis/" + group + "/v1/namespaces/a/things/x"
	for sent, passes := range map[string]bool{
		"/proxy": true, "/proxy/": true, "/proxy/a": true, "/proxy/a//b": true, "/proxy//a//": true, "/proxy/a%2Fb": true, "/proxy/a%2fb%252F": true,
		"/proxy/%61;b=c": true, "/proxy/a/../b": true, "/proxy/a/%2e%2e/./b": true, "/proxy/caf%e9": true, "/proxy/a|b": true, "/proxy/a\\b": true,
		"/proxy/a?b;c=%zz&d?e": true, "/connect/a//b": true, "/status/a//b": true,

		"/proxy/..": false, "/proxy/../../y": false, "/proxy/a/../../../y/secret": false, "/proxy/%2e%2e/%2e%2e/y": false, "/proxy/..%2f..%2fy": false,
		"/proxy/%252e%252e/y": false, "/proxy/..;/..;/y": false, "/proxy/%c0%ae%c0%ae/y": false, `/proxy/..\..\y`: false, "/proxy/..%5cy": false,
		"%2Fproxy/a": false, "/proxy%2Fa": false, "//proxy/a": false, "/proxy;v=1/a": false, "/../x/proxy/a": false, "%2F../proxy/a": false, "%252Fproxy/a": false,
	} {
		check := func(t *testing.T, send func() test.Answer) {
			asked.take()
			before := len(e.Requests(""))
			a := send()
			got, reviews := e.Requests("")[before:], asked.take()
			if !passes {
				if a.Code != http.StatusBadRequest || len(got) != 0 {
					t.Errorf("the client got %d %s, the backend %v", a.Code, a.Body, got)
				}
				return
			}
			if len(got) != 1 || len(reviews) != 1 {
				t.Fatalf("the backend saw %d requests, the authorizer %d; the client got %d %s", len(got), len(reviews), a.Code, a.Body)
			}
			if got[0].URI != object+sent {
				t.Errorf("the backend got %s", got[0].URI)
			}
			if problem := disagreement(t, got[0].URI, reviews[0]); problem != "" {
				t.Error(problem)
			}
		}
		for way, header := range ways {
			t.Run(way+" "+sent, func(t *testing.T) {
				check(t, func() test.Answer {
					c := server.Dial(t, "http/1.1")
					c.Send(t, "GET "+object+sent+" HTTP/1.1", append(header[:len(header):len(header)], "Authorization: Bearer "+test.Carol)...)
					return c.Receive(t)
				})
			})
		}
		t.Run("HTTP/2 "+sent, func(t *testing.T) {
			check(t, func() test.Answer { return overHTTP2(t, test.Carol, object+sent, http.Header{}) })
		})
	}
}

// A header of HTTP/2 may say what one of HTTP/1.1 cannot: that user is told to no
// extension server.
func TestAttackIdentitiesThatHeadersDoNotCarry(t *testing.T) {
	const group = "uncarried.attack"
	e := server.Register(t, "uncarried", gv(group, "v1"))
	server.Allow(t, "alice", group)
	const uri = "/apis/" + group + "/v1/namespaces/default/things"
	for what, header := range map[string]http.Header{
		"a group": {"Impersonate-User": {"alice"}, "Impersonate-Group": {" system:masters"}},
		"a UID":   {"Impersonate-User": {"alice"}, "Impersonate-Uid": {"uid\t"}},
		"a value": {"Impersonate-User": {"alice"}, "Impersonate-Extra-Scopes": {"all "}},
		"a key":   {"Impersonate-User": {"alice"}, "Impersonate-Extra-A%ff": {"all"}},
	} {
		t.Run(what, func(t *testing.T) {
			a := overHTTP2(t, test.Admin, uri, header)
			var status metav1.Status
			if err := json.Unmarshal([]byte(a.Body), &status); err != nil || a.Code != http.StatusForbidden || status.Details == nil ||
				len(status.Details.Causes) != 1 || status.Details.Causes[0].Type != "IdentityRefused" {
				t.Errorf("%d %s", a.Code, a.Body)
			}
			if got := e.Requests(""); len(got) != 0 {
				t.Errorf("the backend saw %v", got)
			}
		})
	}
	if a := overHTTP2(t, test.Admin, uri, http.Header{"Impersonate-User": {"alice"}, "Impersonate-Group": {"system: masters"}}); a.Code != http.StatusOK {
		t.Errorf("another identity: %d %s", a.Code, a.Body)
	}
}
