package kubeapiserver_test

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	test "github.com/annex-api/annex/kubeapiserver/kubeapiservertest"
)

// ways are a plain request and an upgrade, as header lines.
var ways = map[string][]string{
	"plain":   nil,
	"upgrade": {"Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="},
	"spdy":    {"Connection: Upgrade", "Upgrade: SPDY/3.1"},
}

// one returns the only request below a path; it fails where there are others.
func one(t *testing.T, e *test.Extension, path string) test.Request {
	t.Helper()
	got := e.Requests(path)
	if len(got) != 1 {
		t.Fatalf("the backend saw %d requests for %s, want 1: %v", len(got), path, got)
	}
	return got[0]
}

// Threat header spoofing: the client names the identity that the extension
// server is to believe in.
func TestAttackSpoofedIdentityHeaders(t *testing.T) {
	const group = "spoofing.attack"
	e := server.Register(t, "spoofing", gv(group, "v1"))
	server.Allow(t, "alice", group)
	spoofed := []string{
		"X-Remote-User: system:admin", "x-remote-user: root", "X-REMOTE-USER: root", "x-rEmOtE-uSeR: root", "X_Remote_User: root",
		"X-Remote-Uid: 0", "x-REMOTE-uid: 0", "X_REMOTE_UID: 0",
		"X-Remote-Group: system:masters", "x-remote-GROUP: system:masters", "X-Remote_Group: system:masters",
		"X-Remote-Extra-Scopes: all", "x-remote-EXTRA-scopes%2Fadmin: all", "X-Remote-Extra-: all", "X_Remote_Extra_Scopes: all",
		"X-Corp-User: root", "x-CORP-user: root", "X_Corp_User: root", "X-Corp-Uid: 0", "X-Corp-Group: system:masters", "x-corp-group: system:masters",
		"X-Corp-Extra-Scopes: all", "x-corp-EXTRA-scopes: all", "X_Corp_Extra_Scopes: all",
	}
	for way, header := range ways {
		t.Run(way, func(t *testing.T) {
			path := "/apis/" + group + "/v1/" + way
			c := server.Dial(t, "http/1.1")
			c.Send(t, "GET "+path+" HTTP/1.1", slices.Concat(header, spoofed, []string{"Authorization: Bearer " + test.Alice})...)
			c.Receive(t)
			r := one(t, e, path)
			want := map[string][]string{
				"X-Remote-User":  {"alice"},
				"X-Remote-Uid":   {"uid-alice"},
				"X-Remote-Group": {"developers", "team-a", "system:authenticated"},
			}
			for name, values := range r.Header {
				folded := strings.ReplaceAll(strings.ToLower(name), "_", "-")
				if !strings.HasPrefix(folded, "x-remote-") && !strings.HasPrefix(folded, "x-corp-") {
					continue
				}
				if !slices.Equal(values, want[name]) {
					t.Errorf("the backend got %s: %q, want %q", name, values, want[name])
				}
				delete(want, name)
			}
			if len(want) > 0 {
				t.Errorf("the backend did not get %v", want)
			}
			if r.Client != "front-proxy-client" {
				t.Errorf("the proxy's certificate is that of %q", r.Client)
			}
		})
	}
	// A Connection header that names the identity must not remove it.
	for way, header := range ways {
		t.Run("hop by hop, "+way, func(t *testing.T) {
			path := "/apis/" + group + "/v1/hop-" + way
			lines := slices.Concat(header, []string{
				"Connection: X-Remote-User, X-Remote-Group, X-Remote-Uid, X-Forwarded-For, Audit-ID", "Authorization: Bearer " + test.Alice,
			})
			c := server.Dial(t, "http/1.1")
			c.Send(t, "GET "+path+" HTTP/1.1", lines...)
			c.Receive(t)
			r := one(t, e, path)
			for _, name := range []string{"X-Remote-User", "X-Remote-Group", "X-Remote-Uid", "X-Forwarded-For", "Audit-Id"} {
				if r.Header.Get(name) == "" {
					t.Errorf("the client's Connection header removed %s", name)
				}
			}
		})
	}
}

// Threat header spoofing, by trailers: servers that join them with the headers
// would believe them.
func TestAttackSpoofedIdentityTrailers(t *testing.T) {
	const group = "trailers.attack"
	e := server.Register(t, "trailers", gv(group, "v1"))
	trailers := make(chan http.Header, 1)
	e.Handle("*", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		trailers <- r.Trailer
	})
	c := server.Dial(t, "http/1.1")
	c.Send(t, "POST /apis/"+group+"/v1/things HTTP/1.1", "Authorization: Bearer "+test.Admin,
		"Transfer-Encoding: chunked", "Trailer: X-Remote-User, X-Remote-Group, Authorization, X-Checksum")
	if _, err := io.WriteString(c, "2\r\n{}\r\n0\r\nX-Remote-User: root\r\nX-Remote-Group: system:masters\r\nAuthorization: Bearer x\r\nX-Checksum: 1\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if a := c.Receive(t); a.Code != http.StatusOK {
		t.Fatalf("got %d %s", a.Code, a.Body)
	}
	got := <-trailers
	for _, name := range []string{"X-Remote-User", "X-Remote-Group", "Authorization"} {
		if values := got[name]; len(values) > 0 {
			t.Errorf("the backend got the trailer %s: %q", name, values)
		}
	}
}

// Threat credential leak: an extension server that gets hold of the client's
// credentials acts as the client.
func TestAttackCredentialsReachNoBackend(t *testing.T) {
	const group = "credentials.attack"
	e := server.Register(t, "credentials", gv(group, "v1"))
	protocol := "base64url.bearer.authorization.k8s.io." + base64.RawURLEncoding.EncodeToString([]byte(test.Admin))
	impersonate := []string{
		"Impersonate-User: alice", "Impersonate-Group: lent", "Impersonate-Group: given", "Impersonate-Uid: uid-lent",
		"Impersonate-Extra-Scopes: view", "Impersonate-Extra-Acme.com%2Fproject: p",
	}
	server.Allow(t, "alice", group)
	common := []string{"Cookie: session=secret", "Cookie: other=secret", "Proxy-Authorization: Basic c2VjcmV0"}
	for way, header := range ways {
		for _, credential := range []string{"header", "subprotocol"} {
			if credential == "subprotocol" && way != "upgrade" {
				continue
			}
			t.Run(way+" "+credential, func(t *testing.T) {
				path := "/apis/" + group + "/v1/" + way + "-" + credential
				lines := slices.Concat(header, impersonate, common)
				if credential == "header" {
					lines = append(lines, "aUtHoRiZaTiOn: Bearer "+test.Admin)
				} else {
					lines = append(lines, "Sec-WebSocket-Protocol: v4.channel.k8s.io, "+protocol, "Sec-WebSocket-Protocol: v5.channel.k8s.io")
				}
				c := server.Dial(t, "http/1.1")
				c.Send(t, "GET "+path+" HTTP/1.1", lines...)
				c.Receive(t)
				r := one(t, e, path)
				for name, values := range r.Header {
					all := strings.ToLower(name + ": " + strings.Join(values, ", "))
					for _, secret := range []string{"authorization", "cookie", "impersonate", "bearer", "secret", strings.ToLower(test.Admin), strings.ToLower(protocol)} {
						if strings.Contains(all, secret) {
							t.Errorf("the backend got %s", all)
						}
					}
				}
				if credential == "subprotocol" {
					if got := strings.Join(r.Header["Sec-Websocket-Protocol"], ", "); got != "v4.channel.k8s.io, v5.channel.k8s.io" {
						t.Errorf("the backend got the subprotocols %q", got)
					}
				}
				want := http.Header{
					"X-Remote-User":                     {"alice"},
					"X-Remote-Uid":                      {"uid-lent"},
					"X-Remote-Group":                    {"lent", "given", "system:authenticated"},
					"X-Remote-Extra-Scopes":             {"view"},
					"X-Remote-Extra-Acme.com%2fproject": {"p"},
				}
				for name, values := range want {
					if !slices.Equal(r.Header[http.CanonicalHeaderKey(name)], values) && !slices.Equal(r.Header[name], values) {
						t.Errorf("the backend got %s: %q, want %q in %v", name, r.Header[name], values, r.Header)
					}
				}
			})
		}
	}
}

// Threat authorization first: who may not ask must not reach the backend.
func TestAttackDeniedUsersReachNoBackend(t *testing.T) {
	const group = "denied.attack"
	e := server.Register(t, "denied", gv(group, "v1"))
	for user, token := range map[string]string{"bob": test.Bob, "nobody": test.Nobody} {
		for way, header := range ways {
			t.Run(user+" "+way, func(t *testing.T) {
				path := "/apis/" + group + "/v1/namespaces/default/things"
				lines := slices.Clone(header)
				if token != "" {
					lines = append(lines, "Authorization: Bearer "+token)
				}
				c := server.Dial(t, "http/1.1")
				c.Send(t, "GET "+path+" HTTP/1.1", lines...)
				a := c.Receive(t)
				var status metav1.Status
				if a.Code != http.StatusForbidden || json.Unmarshal([]byte(a.Body), &status) != nil || status.Reason != metav1.StatusReasonForbidden {
					t.Errorf("%s got %d %s, want 403", user, a.Code, a.Body)
				}
				if got := e.Requests(""); len(got) != 0 {
					t.Errorf("the backend saw %v", got)
				}
			})
		}
	}
	wrong := server.Get(t, "no-such-token", "/apis/"+group+"/v1/namespaces/default/things")
	if wrong.Code != http.StatusUnauthorized || len(e.Requests("")) != 0 {
		t.Errorf("a wrong token got %d, and the backend saw %v", wrong.Code, e.Requests(""))
	}

	// The backend's own refusal passes through as it is.
	const own = `{"kind":"Status","apiVersion":"v1","status":"Failure","message":"not on a Sunday","reason":"Forbidden","code":403}`
	e.Handle("*", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusForbidden)
		_, _ = w.Write([]byte(own))
	})
	for way, header := range ways {
		t.Run("the backend refuses "+way, func(t *testing.T) {
			c := server.Dial(t, "http/1.1")
			c.Send(t, "GET /apis/"+group+"/v1/"+way+" HTTP/1.1", append(slices.Clone(header), "Authorization: Bearer "+test.Admin)...)
			if a := c.Receive(t); a.Code != http.StatusForbidden || a.Body != own {
				t.Errorf("the client got %d %s, want the backend's own 403", a.Code, a.Body)
			}
			one(t, e, "/apis/"+group+"/v1/"+way)
		})
	}
}
