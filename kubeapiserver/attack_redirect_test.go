package kubeapiserver_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	test "github.com/annex-api/annex/kubeapiserver/kubeapiservertest"
)

// Threat CVE-2022-3172: an extension server redirects clients, credentials and
// all, to where it likes.
func TestAttackRedirectsToElsewhere(t *testing.T) {
	const group = "redirect.attack"
	e := server.Register(t, "redirect", gv(group, "v1"))
	victim := server.Register(t, "redirect-victim", gv("victim."+group, "v1"))
	connections := victim.Connections()
	for _, location := range []string{
		fmt.Sprintf("https://localhost:%d/apis/stolen", victim.Port),
		fmt.Sprintf("https://localhost:%d/apis/%s/v1/elsewhere", e.Port, group),
		"/apis/" + group + "/v1/elsewhere",
		"//localhost/elsewhere",
	} {
		for _, code := range []int{300, 301, 302, 303, 304, 305, 307, 308} {
			t.Run(fmt.Sprintf("%d %s", code, location), func(t *testing.T) {
				e.Handle("*", func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Location", location)
					w.WriteHeader(code)
				})
				path := fmt.Sprintf("/apis/%s/v1/things", group)
				before := len(e.Requests("/"))
				a := server.Get(t, test.Admin, path)
				if a.Code != http.StatusBadGateway || !strings.Contains(a.Body, "the backend attempted to redirect this request, which is not permitted") {
					t.Errorf("the client got %d %s, want 502", a.Code, a.Body)
				}
				if a.Header.Get("Location") != "" {
					t.Errorf("the client got the Location %s", a.Header.Get("Location"))
				}
				if got := len(e.Requests("/")) - before; got != 1 {
					t.Errorf("the backend saw %d requests, want 1", got)
				}
			})
		}
	}
	if len(victim.Requests("/")) != 0 || victim.Connections() != connections {
		t.Errorf("the target got %d requests and %d connections", len(victim.Requests("/")), victim.Connections()-connections)
	}
	// A Location that is no redirect stays; one at the backend itself names
	// this server's path.
	e.Handle("*", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", fmt.Sprintf("https://localhost:%d/apis/%s/v1/things/new", e.Port, group))
		w.WriteHeader(http.StatusCreated)
	})
	if a := server.Get(t, test.Admin, "/apis/"+group+"/v1/things"); a.Code != http.StatusCreated || a.Header.Get("Location") != "/apis/"+group+"/v1/things/new" {
		t.Errorf("created at %q with %d", a.Header.Get("Location"), a.Code)
	}
}

// Threat CVE-2022-3172: a probe that followed redirects would let any server
// pass for the extension server, and come as system:masters.
func TestAttackRedirectedProbe(t *testing.T) {
	v1 := gv("probe.redirect.attack", "v1")
	victim := server.Register(t, "probe-victim", gv("victim.probe.redirect.attack", "v1"))
	e := test.NewExtension(t, "probe-redirect", v1)
	for _, path := range []string{"/apis", "/apis/" + v1.String(), "/openapi/v2", "/openapi/v3"} {
		e.Handle(path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", fmt.Sprintf("https://localhost:%d/apis/stolen", victim.Port))
			w.WriteHeader(http.StatusTemporaryRedirect)
		})
	}
	server.Expose(t, e.Name, "localhost")
	server.CreateRegistration(t, test.Registration(v1, e))
	url := fmt.Sprintf("https://localhost:%d/apis/%s", e.Port, v1)
	server.AwaitCondition(t, v1, apiregistrationv1.ConditionFalse, "FailedDiscoveryCheck",
		"failing or missing response from "+url+": bad status from "+url+": 307")
	if a := server.Get(t, test.Admin, "/apis/"+v1.String()+"/things"); a.Code != http.StatusServiceUnavailable {
		t.Errorf("got %d %s, want 503", a.Code, a.Body)
	}
	test.Eventually(t, func() string {
		for _, path := range []string{"/apis", "/openapi/v2", "/openapi/v3"} {
			if len(e.OwnRequests(path)) == 0 {
				return path + " was not asked for"
			}
		}
		return ""
	})
	if got := victim.OwnRequests("/apis/stolen"); len(got) != 0 {
		t.Errorf("the target was asked %v", got)
	}
	if got := len(e.Requests("/")); got != 0 {
		t.Errorf("the backend saw %d requests, want none", got)
	}
}
