package proxy

import (
	"bufio"
	"crypto/tls"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/request/headerrequest"
	"k8s.io/apiserver/pkg/authentication/user"
	"pgregory.net/rapid"

	"github.com/annex-api/annex/aggregator/internal/backendtest"
	"github.com/annex-api/annex/internal/testcerts"
)

// startHTTP1 runs an extension server that speaks HTTP/1.1 alone.
func startHTTP1(t *testing.T, handler http.Handler) *backendtest.Server {
	t.Helper()
	ca := testcerts.New("api")
	pair := ca.Issue(testcerts.Subject{Hosts: []string{backendtest.ServerName("api")}})
	config := &tls.Config{Certificates: []tls.Certificate{pair.TLS()}, NextProtos: []string{"http/1.1"}}
	return backendtest.StartTLS(t, "api", ca.PEM, config, handler)
}

// identityReader is an extension server that reads identities as API servers do.
func identityReader(t *testing.T, read chan<- user.Info) http.Handler {
	reader, err := headerrequest.New([]string{"X-Remote-User"}, []string{"X-Remote-Uid"}, []string{"X-Remote-Group"}, []string{"X-Remote-Extra-"})
	if err != nil {
		t.Fatal(err)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		response, ok, err := reader.AuthenticateRequest(r)
		if err != nil || !ok {
			response = &authenticator.Response{User: &user.DefaultInfo{Name: "nobody was named"}}
		}
		read <- response.User
		if r.Header.Get("Upgrade") == "" {
			return
		}
		if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
			_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
			_ = conn.Close()
		}
	})
}

var (
	drawRunes = rapid.StringOfN(rapid.OneOf(
		rapid.RuneFrom([]rune("ab Z:,/%=\"\\ü世_-.")),
		rapid.RuneFrom([]rune{' ', '\t', '\r', '\n', 0, 0x7f, 0x85, 0xa0, 0x2028, 0xfeff}),
	), 0, 6, -1)
	drawPart = rapid.OneOf(
		rapid.StringMatching(`[a-zA-Z:.@/ ,=-]{0,12}`),
		rapid.SampledFrom([]string{"system:masters", " system:masters", "system:masters\t", "system:masters\u00a0", "system:\nmasters", "dev\r\nX-Remote-Group: system:masters", "\xa0x", "x\x85", "\xc0\xae"}),
		drawRunes,
	)
	drawUser = rapid.Custom(func(t *rapid.T) *user.DefaultInfo {
		return &user.DefaultInfo{
			Name:   drawPart.Draw(t, "name"),
			UID:    drawPart.Draw(t, "uid"),
			Groups: rapid.SliceOfN(drawPart, 0, 3).Draw(t, "groups"),
			Extra:  rapid.MapOfN(drawPart, rapid.SliceOfN(drawPart, 0, 2), 0, 3).Draw(t, "extra"),
		}
	})
)

// harmless says whether a part of an identity gives nobody a reason to refuse it.
func harmless(s string) bool {
	return strings.TrimSpace(s) == s && !strings.ContainsFunc(s, func(c rune) bool { return c == unicode.ReplacementChar || !unicode.IsPrint(c) })
}

func harmlessUser(u *user.DefaultInfo) bool {
	parts := append([]string{u.Name, u.UID}, u.Groups...)
	for key, values := range u.Extra {
		parts = append(append(parts, key), values...)
	}
	return u.Name != "" && !slices.Contains(u.Groups, "") && !slices.ContainsFunc(parts, func(s string) bool { return !harmless(s) })
}

// Whatever a user is called, the extension server is told exactly that, or nothing:
// over each protocol. The reference has it become another user.
func TestIdentitiesArriveAsTheyAreOrNotAtAll(t *testing.T) {
	read := make(chan user.Info, 1)
	http2, http1 := backendtest.Start(t, "api", identityReader(t, read)), startHTTP1(t, identityReader(t, read))
	for way, server := range map[string]*backendtest.Server{"HTTP/2": http2, "HTTP/1.1": http1, "an upgrade": http2} {
		t.Run(way, func(t *testing.T) {
			f := startFront(t, server.Claim(name))
			send := func() *http.Response { return f.do(t, http.MethodGet, base+"/things", nil, nil) }
			if way == "an upgrade" {
				send = func() *http.Response {
					conn := f.dial(t)
					_, _ = io.WriteString(conn, upgradeRequest("websocket"))
					response, err := http.ReadResponse(bufio.NewReader(conn), nil)
					if err != nil {
						t.Fatal(err)
					}
					return response
				}
			}
			arrived, refused := 0, 0
			rapid.Check(t, func(rt *rapid.T) {
				u := drawUser.Draw(rt, "user")
				f.user.Store(u)
				response := send()
				if response.StatusCode == http.StatusForbidden {
					refused++
					checkRefused(rt, f, u, response, len(read))
					return
				}
				arrived++
				maps := func(extra map[string][]string) map[string][]string {
					kept := map[string][]string{}
					for key, values := range extra {
						if len(values) > 0 {
							kept[key] = values
						}
					}
					return kept
				}
				var got user.Info
				select {
				case got = <-read: // before it was answered
				default:
					rt.Fatalf("the client got %d, and nothing arrived", response.StatusCode)
				}
				want := &user.DefaultInfo{Name: u.Name, UID: u.UID, Groups: u.Groups, Extra: maps(u.Extra)}
				if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
					rt.Errorf("another identity arrived, with %d:\n%s", response.StatusCode, diff)
				}
			})
			// The short form draws too few to have both.
			if !testing.Short() && (arrived == 0 || refused == 0) {
				t.Errorf("%d identities arrived, %d were refused", arrived, refused)
			}
		})
	}
}

// checkRefused checks what a client and the audit log are told of an identity that is
// refused.
func checkRefused(t *rapid.T, f *front, u *user.DefaultInfo, response *http.Response, arrived int) {
	if arrived > 0 {
		t.Error("a refused request was sent")
	}
	if harmlessUser(u) {
		t.Errorf("%+v is refused", u)
	}
	body, err := io.ReadAll(response.Body)
	if err != nil || !strings.Contains(string(body), `"IdentityRefused"`) || len(body) > 2<<10 {
		t.Errorf("%v, %s", err, body)
	}
	note, ok := f.audited.Load().GetEventAnnotation("aggregation.annex.dev/identity-refused")
	if !ok || note == "" || strings.ContainsFunc(note, func(c rune) bool { return c < ' ' || c > '~' }) {
		t.Errorf("the audit annotation is %q", note)
	}
}
