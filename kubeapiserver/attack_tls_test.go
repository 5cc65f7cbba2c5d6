package kubeapiserver_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"github.com/annex-api/annex/internal/testcerts"
	test "github.com/annex-api/annex/kubeapiserver/kubeapiservertest"
)

// Threat TLS: whoever takes over an extension server's address, without its
// certificate, must not get a request with the user's identity.
func TestAttackExtensionServersWithWrongCertificates(t *testing.T) {
	stranger := testcerts.New("stranger")
	cases := map[string]struct {
		ca      *testcerts.Authority
		subject func(e *test.Extension) testcerts.Subject
		message string
	}{
		"wrong CA": {stranger, func(e *test.Extension) testcerts.Subject {
			return testcerts.Subject{Name: e.Name, Hosts: []string{e.ServerName()}}
		}, "certificate signed by unknown authority"},
		"wrong name": {nil, func(*test.Extension) testcerts.Subject {
			return testcerts.Subject{Name: "other", Hosts: []string{"other.default.svc", "localhost"}}
		}, "certificate is valid for other.default.svc, localhost, not "},
		"name only in CN": {nil, func(e *test.Extension) testcerts.Subject {
			return testcerts.Subject{Name: e.ServerName()}
		}, "certificate relies on legacy Common Name field"},
		"expired": {nil, func(e *test.Extension) testcerts.Subject {
			return testcerts.Subject{Name: e.Name, Hosts: []string{e.ServerName()}, NotAfter: time.Now().Add(-time.Minute)}
		}, "certificate has expired or is not yet valid"},
	}
	for name, c := range cases {
		for way, header := range ways {
			t.Run(name+" "+way, func(t *testing.T) {
				t.Parallel()
				short := strings.ToLower(strings.ReplaceAll(name, " ", "-")) + "-" + way
				v1 := gv(short+".tls.attack", "v1")
				e := server.Register(t, short, v1)
				if e.Active() == 0 {
					t.Fatal("no connection with the right certificate was counted")
				}
				ca := c.ca
				if ca == nil {
					ca = e.CA
				}
				e.SetCertificate(ca, c.subject(e))
				e.CloseConnections()

				conn := server.Dial(t, "http/1.1")
				conn.Send(t, "GET /apis/"+v1.String()+"/things HTTP/1.1", append(slices.Clone(header), "Authorization: Bearer "+test.Admin)...)
				a := conn.Receive(t)
				if a.Code != http.StatusServiceUnavailable {
					t.Errorf("the client got %d %s, want 503", a.Code, a.Body)
				}
				// What is wrong with it the condition tells those who may read that.
				if !strings.Contains(a.Body, "APIService v1."+v1.Group) || strings.Contains(a.Body, c.message) {
					t.Errorf("the client got %s", a.Body)
				}
				test.Eventually(t, func() string {
					got := server.Condition(t, v1)
					if got.Status == apiregistrationv1.ConditionFalse && got.Reason == "FailedDiscoveryCheck" && strings.Contains(got.Message, c.message) {
						return ""
					}
					return fmt.Sprintf("the condition is %s %s %q", got.Status, got.Reason, got.Message)
				})
				if e.FailedHandshakes() == 0 {
					t.Error("nobody tried: no handshake failed")
				}
				if got := e.Active(); got != 0 || len(e.Requests("/")) != 0 {
					t.Errorf("the impostor got %d connections past the handshake and %d requests", got, len(e.Requests("/")))
				}
			})
		}
	}
}

// Threat rotation: a caBundle that was replaced because its key leaked must not
// be trusted any longer, over old connections least of all.
func TestAttackRotatedCABundle(t *testing.T) {
	v1 := gv("bundle.attack", "v1")
	e := server.Register(t, "bundle", v1)
	path := "/apis/" + v1.String() + "/things"
	if a := server.Get(t, test.Admin, path); a.Code != http.StatusOK {
		t.Fatalf("before the rotation: %d %s", a.Code, a.Body)
	}
	next := testcerts.New("next")
	server.UpdateRegistration(t, "v1.bundle.attack", func(a *apiregistrationv1.APIService) { a.Spec.CABundle = next.PEM })
	test.Eventually(t, func() string {
		if c := server.Condition(t, v1); c.Status != apiregistrationv1.ConditionFalse || !strings.Contains(c.Message, "unknown authority") {
			return fmt.Sprintf("the old certificate passes: %v", c)
		}
		return ""
	})
	before := len(e.Requests(path))
	if a := server.Get(t, test.Admin, path); a.Code != http.StatusServiceUnavailable || len(e.Requests(path)) != before {
		t.Errorf("the old certificate is still trusted: %d %s", a.Code, a.Body)
	}
	e.SetCertificate(next, testcerts.Subject{Name: "next", Hosts: []string{e.ServerName()}})
	server.AwaitAvailable(t, v1)
	test.Eventually(t, func() string {
		if a := server.Get(t, test.Admin, path); a.Code != http.StatusOK {
			return fmt.Sprintf("with the new certificate: %d %s", a.Code, a.Body)
		}
		return ""
	})
}

// Threat rotation: after the proxy's client certificate was replaced, requests
// must not go out over connections of the old one.
func TestAttackRotatedProxyCertificate(t *testing.T) {
	v1 := gv("proxycert.attack", "v1")
	e := server.Register(t, "proxycert", v1)
	path := "/apis/" + v1.String() + "/things"
	ask := func() string {
		if a := server.Get(t, test.Admin, path); a.Code != http.StatusOK {
			t.Fatalf("got %d %s", a.Code, a.Body)
		}
		all := e.Requests(path)
		return all[len(all)-1].Client
	}
	if got := ask(); got != "front-proxy-client" {
		t.Fatalf("the proxy came as %q", got)
	}
	t.Cleanup(func() {
		if err := server.SetProxyClient("front-proxy-client"); err != nil {
			t.Error(err)
		}
		test.Eventually(t, func() string {
			if got := ask(); got != "front-proxy-client" {
				return "the proxy comes as " + got
			}
			return ""
		})
	})
	if err := server.SetProxyClient("rotated-client"); err != nil {
		t.Fatal(err)
	}
	test.Eventually(t, func() string {
		if got := ask(); got != "rotated-client" {
			return "the proxy still comes as " + got
		}
		return ""
	})
	for range 5 {
		if got := ask(); got != "rotated-client" {
			t.Errorf("the proxy came as %q again", got)
		}
	}
	c := server.Dial(t, "http/1.1")
	c.Send(t, "GET "+path+" HTTP/1.1", websocket()...)
	c.Receive(t)
	all := e.Requests(path)
	if got := all[len(all)-1]; got.Client != "rotated-client" || got.Header.Get("Upgrade") != "websocket" {
		t.Errorf("the upgrade came as %q", got.Client)
	}
}
